//! Read-only mode, and limits: what is refused is never sent, and says why.

use serde_json::{Value, json};

use super::office::Office;

fn reason(answer: &Value) -> (i64, String) {
    let error = &answer["error"];
    let reason = error["data"]["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert_eq!(error["data"]["outcome"], "refused", "{answer}");
    (error["code"].as_i64().unwrap(), reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn law_17_where_only_may_be_read_only_what_is_known_to_read_is_called() {
    let policy = json!({
        "profiles": { "look": { "readOnly": true } },
        "policy": { "rules": [ { "who": { "tokens": ["guest"] }, "readOnly": true } ] },
    });
    let office = Office::open(&policy).await;
    let mut guest = office.person("guest", &[]).await;
    // Listed all the same, and refused with the reason.
    assert!(
        guest
            .names("/mcp", "tools")
            .await
            .contains(&"one__slow".to_owned())
    );
    assert!(guest.call("/mcp", "one__echo").await["result"].is_object());
    for (path, tool) in [
        ("/mcp", "one__slow"),
        ("/mcp", "two__echo"),
        ("/mcp", "one__nope_"),
    ] {
        let said = guest.call(path, tool).await;
        if tool.ends_with("nope_") {
            assert_eq!(
                said["error"]["code"], -32602,
                "what is not there is not refused: {said}"
            );
        } else {
            // The annotations of `two` are not trusted.
            assert_eq!(reason(&said), (-31_001, "readOnly".to_owned()), "{tool}");
        }
    }
    guest.session = None;
    let said = guest.call("/servers/one/mcp", "slow").await;
    assert_eq!(reason(&said).1, "readOnly");
    let odd = guest.ask("/servers/one/mcp", "vendor/do", &json!({})).await;
    assert_eq!(reason(&odd).1, "readOnly");
    guest.session = None;
    // The profile is so for everybody.
    let mut local = office.local().await;
    let said = local.call("/profiles/look/mcp", "one__slow").await;
    assert_eq!(reason(&said).1, "readOnly");
    assert!(local.call("/profiles/look/mcp", "one__echo").await["result"].is_object());
    assert_eq!((office.calls("slow"), office.calls("echo")), (0, 2));
    local.session = None;
    let prompt = local
        .ask(
            "/profiles/look/mcp",
            "prompts/get",
            &json!({ "name": "one__greet" }),
        )
        .await;
    assert!(
        prompt
            .get("error")
            .is_none_or(|error| error["data"]["reason"].is_null()),
        "{prompt}"
    );
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_for_each_principal_and_say_when_to_come_again() {
    let policy = json!({ "policy": { "rules": [
        { "name": "slowly", "tools": ["one__echo"], "limits": { "perMinute": 1, "burst": 2 } },
        { "name": "one-by-one", "tools": ["one__slow"], "limits": { "concurrent": 1 } },
    ] } });
    let office = Office::open(&policy).await;
    let (mut ann, mut bob) = (
        office.person("ann", &[]).await,
        office.person("bob", &[]).await,
    );
    for _ in 0..2 {
        assert!(ann.call("/mcp", "one__echo").await["result"].is_object());
    }
    for _ in 0..5 {
        let said = ann.call("/mcp", "one__echo").await;
        assert_eq!(reason(&said), (-31_001, "rateLimited".to_owned()));
        let wait = said["error"]["data"]["retryAfterMs"].as_u64().unwrap();
        assert!((1..=60_000).contains(&wait), "{said}");
        assert_eq!(said["error"]["data"]["rule"], "slowly");
    }
    assert!(
        bob.call("/mcp", "one__echo").await["result"].is_object(),
        "nobody else pays for it"
    );
    // By whatever endpoint and era it comes, it is the same count.
    ann.session = None;
    let said = ann.call("/servers/one/mcp", "echo").await;
    assert_eq!(reason(&said).1, "rateLimited");
    let said = ann
        .modern(
            "/mcp",
            "tools/call",
            json!({ "name": "one__echo", "arguments": {} }),
            json!({}),
        )
        .await;
    assert_eq!(reason(&said.json()).1, "rateLimited");
    assert_eq!(
        office.calls("echo"),
        3,
        "law 16: what is refused was never sent"
    );
    // One that runs, and one that is refused meanwhile.
    ann.session = None;
    ann.greet("/mcp", &json!({})).await;
    let mut first = ann.again(&office).await;
    let running = tokio::spawn(async move {
        let params = json!({ "name": "one__slow", "arguments": { "ms": 600_000 } });
        // Never answered: it ends with its connection.
        first.ask("/mcp", "tools/call", &params).await
    });
    super::support::wait_until("the first one runs", || office.calls("slow") == 1).await;
    let said = ann.call("/mcp", "one__slow").await;
    assert_eq!(reason(&said).1, "tooManyRunning");
    bob.session = None;
    let params = json!({ "name": "one__slow", "arguments": { "ms": 1 } });
    assert!(bob.ask("/mcp", "tools/call", &params).await["result"].is_object());
    running.abort();
    // A disconnect does not end a call of a session; the cancel notice does, and then there is room again.
    ann.post(
        "/mcp",
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    )
    .await;
    let deadline = tokio::time::Instant::now() + super::support::PATIENCE;
    loop {
        let said = ann.ask("/mcp", "tools/call", &params).await;
        if said["result"].is_object() {
            break;
        }
        assert_eq!(reason(&said).1, "tooManyRunning");
        assert!(
            tokio::time::Instant::now() < deadline,
            "the place was not given back"
        );
    }
    office.close().await;
}
