//! What is hidden is not listed, not found, not callable, and told like what does not exist.

use http::Method;
use serde_json::{Value, json};

use super::office::{Office, request};
use super::support::Events;

/// `ci` sees one tool of `one`; `dev` sees all of `one`; `two` is for nobody but this machine's user.
fn rules() -> Value {
    json!({ "profiles": { "desk": {}, "attic": {} }, "policy": { "default": "deny", "rules": [
        { "name": "no-attic", "profiles": ["attic"], "action": "deny" },
        { "name": "local", "who": "local" },
        { "name": "dev", "who": { "groups": ["dev"] }, "servers": ["one"] },
        { "name": "ci", "who": { "tokens": ["ci"] }, "tools": ["one__echo"] },
    ] } })
}

/// An answer with a name taken out of it, so that answers about different names can be compared.
fn without(text: &str, name: &str) -> String {
    text.replace(name, "NAME")
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_what_one_may_not_see_is_not_there_on_any_endpoint_in_any_era() {
    let office = Office::open(&rules()).await;
    let mut ci = office.person("ci", &[]).await;
    assert_eq!(ci.names("/mcp", "tools").await, ["one__echo"]);
    assert_eq!(ci.names("/mcp", "prompts").await, Vec::<String>::new());
    assert_eq!(ci.names("/mcp", "resources").await, Vec::<String>::new());
    assert!(ci.call("/mcp", "one__echo").await["result"].is_object());
    // Hidden and absent are the same, on the aggregate and by the server's own endpoint.
    for (hidden, absent) in [
        ("one__slow", "one__xlow"),
        ("two__echo", "two__xcho"),
        ("two__echo", "xxx__echo"),
    ] {
        let (hidden_said, absent_said) =
            (ci.call("/mcp", hidden).await, ci.call("/mcp", absent).await);
        assert_eq!(hidden_said["error"]["code"], -32602, "{hidden_said}");
        assert_eq!(
            without(&hidden_said.to_string(), hidden),
            without(&absent_said.to_string(), absent)
        );
        let mut said = Vec::new();
        for name in [hidden, absent] {
            let params = json!({ "name": name, "arguments": {} });
            let reply = ci.modern("/mcp", "tools/call", params, json!({})).await;
            said.push((reply.status, without(&reply.body, name)));
        }
        assert_eq!(said[0], said[1]);
    }
    let prompt = ci
        .ask("/mcp", "prompts/get", &json!({ "name": "one__greet" }))
        .await;
    let absent = ci
        .ask("/mcp", "prompts/get", &json!({ "name": "one__xreet" }))
        .await;
    assert_eq!(
        without(&prompt.to_string(), "one__greet"),
        without(&absent.to_string(), "one__xreet")
    );
    let read = ci
        .ask("/mcp", "resources/read", &json!({ "uri": "file:///fixed" }))
        .await;
    assert_eq!(read["error"]["code"], -32002, "{read}");
    let complete = json!({ "ref": { "type": "ref/prompt", "name": "one__greet" }, "argument": { "name": "a", "value": "b" } });
    let completed = ci.ask("/mcp", "completion/complete", &complete).await;
    assert_eq!(completed["error"]["code"], -32602, "{completed}");
    for uri in [
        "file:///fixed",
        "mainstay://two/file:///fixed",
        "mainstay://one/file:///fixed",
    ] {
        let subscribed = ci
            .ask("/mcp", "resources/subscribe", &json!({ "uri": uri }))
            .await;
        assert!(subscribed["error"].is_object(), "{uri}: {subscribed}");
        let read = ci
            .ask("/mcp", "resources/read", &json!({ "uri": uri }))
            .await;
        assert!(read["error"].is_object(), "{uri}: {read}");
    }
    // The server's own endpoint shows the same part of it.
    ci.session = None;
    assert_eq!(ci.names("/servers/one/mcp", "tools").await, ["echo"]);
    let hidden = ci.call("/servers/one/mcp", "slow").await;
    assert_eq!(hidden["error"]["message"], "Unknown tool: slow");
    assert_eq!(office.calls("slow"), 0, "nothing of it was sent");
    // A server that one may not see is answered like one that was never there, in its list of names too.
    let mut words = Vec::new();
    for name in ["two", "xxx"] {
        let reply = ci.post(&format!("/servers/{name}/mcp"), "{}").await;
        words.push((
            reply.status.as_u16(),
            without(&reply.body, &format!("`{name}`")),
        ));
    }
    assert_eq!(words[0], words[1]);
    assert!(
        words[0].0 == 404 && !words[0].1.contains("two"),
        "{words:?}"
    );
    let attic = ci.post("/profiles/attic/mcp", "{}").await;
    assert!(
        attic.status == 404 && !attic.body.contains("are: attic"),
        "{attic:?}"
    );
    // Others see what they may.
    let mut dev = office.person("ann", &["dev"]).await;
    let seen = dev.names("/mcp", "tools").await;
    assert!(
        seen.len() > 3 && seen.iter().all(|name| name.starts_with("one__")),
        "{seen:?}"
    );
    assert_eq!(dev.names("/mcp", "prompts").await, ["one__greet"]);
    let mut local = office.local().await;
    assert!(
        local
            .names("/mcp", "tools")
            .await
            .contains(&"two__echo".to_owned())
    );
    assert!(local.call("/mcp", "two__echo").await["result"].is_object());
    let mut nobody = office.person("nobody", &[]).await;
    assert_eq!(nobody.names("/mcp", "tools").await, Vec::<String>::new());
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_and_a_batch_pass_the_same_check() {
    let mut rules = rules();
    rules["discovery"] = json!("search");
    let office = Office::open(&rules).await;
    let mut ci = office.person("ci", &[]).await;
    let found = ci
        .ask(
            "/mcp",
            "tools/call",
            &json!({ "name": "search_tools", "arguments": { "query": "", "limit": 50 } }),
        )
        .await;
    let text = found.to_string();
    assert!(
        text.contains("one__echo") && !text.contains("two__") && !text.contains("one__slow"),
        "{text}"
    );
    let mut said = Vec::new();
    for name in ["two__slow", "two__xlow"] {
        let described = json!({ "name": "describe_tool", "arguments": { "name": name } });
        let described = ci.ask("/mcp", "tools/call", &described).await;
        let called = json!({ "name": "call_tool", "arguments": { "name": name, "arguments": {} } });
        let called = ci.ask("/mcp", "tools/call", &called).await;
        said.push(without(&format!("{described} {called}"), name));
    }
    assert_eq!(said[0], said[1]);
    let called =
        json!({ "name": "call_tool", "arguments": { "name": "one__echo", "arguments": {} } });
    assert!(ci.ask("/mcp", "tools/call", &called).await["result"].is_object());
    // Arrays are taken apart for the one revision that has them.
    let params = json!({ "protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    ci.session = None;
    let greeted = ci.post("/mcp", &request("initialize", &params)).await;
    ci.session = greeted.header("mcp-session-id").map(str::to_owned);
    let one = |id: u64, name: &str| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": name, "arguments": {} } });
    let batch = json!([one(1, "two__echo"), one(2, "one__echo")]).to_string();
    let answers = ci.post("/mcp", &batch).await;
    assert!(
        answers.body.contains("Unknown tool: two__echo"),
        "{answers:?}"
    );
    let counts = office.two.ledger().counts();
    assert_eq!(counts.calls.get("echo"), None, "nothing of it was sent");
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_28_a_policy_that_changes_is_told_to_whom_it_concerns() {
    let office = Office::open(&rules()).await;
    let mut ci = office.person("ci", &[]).await;
    assert_eq!(ci.names("/mcp", "tools").await.len(), 1);
    let mut push = ci.again(&office).await;
    let headers: Vec<(String, String)> = [
        ("accept", "text/event-stream"),
        ("mcp-session-id", push.session.as_deref().unwrap()),
        ("authorization", push.bearer.as_deref().unwrap()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut stream = Events::of(push.client.open(Method::GET, "/mcp", &headers, "").await);
    // A stream on a server's own endpoint, which is about to vanish.
    let mut other = ci.again(&office).await;
    other.greet("/servers/one/mcp", &json!({})).await;
    let mut after = rules();
    after["policy"]["rules"][3]["tools"] = json!(["two__*"]);
    office.reload(&after).await;
    let told = stream.next().await.unwrap();
    assert!(told.contains("notifications/tools/list_changed"), "{told}");
    let seen = ci.names("/mcp", "tools").await;
    assert!(
        seen.len() > 1 && seen.iter().all(|name| name.starts_with("two__")),
        "{seen:?}"
    );
    assert_eq!(ci.call("/mcp", "one__echo").await["error"]["code"], -32602);
    let gone = other
        .post("/servers/one/mcp", &request("tools/list", &json!({})))
        .await;
    assert_eq!(gone.status, 404, "{gone:?}");
    // Without a policy everything is there again.
    office.reload(&json!({})).await;
    assert!(stream.next().await.unwrap().contains("list_changed"));
    assert!(
        ci.names("/mcp", "tools")
            .await
            .contains(&"one__slow".to_owned())
    );
    office.close().await;
}
