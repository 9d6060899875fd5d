//! Calls that somebody has to approve: by the client's user in both eras, by the operator, and by nobody else.

use http::Method;
use mainstay_testkit::http_server::Script;
use serde_json::{Value, json};

use super::office::{Office, Person, request};
use super::support::{Events, wait_until};

const FORM: &str = r#"{"elicitation":{"form":{}}}"#;

fn policy(by: &str) -> Value {
    json!({ "policy": { "rules": [
        { "name": "careful", "servers": ["one"], "action": "approve", "approval": { "by": by, "waitMs": 60000 } },
    ] } })
}

fn form() -> Value {
    serde_json::from_str(FORM).unwrap()
}

fn call(tool: &str, arguments: &Value) -> String {
    request(
        "tools/call",
        &json!({ "name": tool, "arguments": arguments }),
    )
}

fn reason(answer: &Value) -> &str {
    assert_eq!(answer["error"]["data"]["outcome"], "refused", "{answer}");
    answer["error"]["data"]["reason"]
        .as_str()
        .unwrap_or_default()
}

/// Asks for a call in a session and gives the word that its client is asked for.
async fn with_word(person: &mut Person, office: &Office, word: &Value) -> (Value, Value) {
    let mut stream: Events = person
        .open("/mcp", &call("one__slow", &json!({ "ms": 1 })))
        .await;
    let asked = stream.json().await;
    assert_eq!(asked["method"], "elicitation/create", "{asked}");
    let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": word }).to_string();
    let mut twin = person.again(office).await;
    assert_eq!(twin.post("/mcp", &answer).await.status, 202);
    (asked, stream.json().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_user_is_asked_on_the_stream_of_the_call() {
    let office = Office::open(&policy("either")).await;
    let mut ann = office.person("ann", &[]).await;
    ann.greet("/mcp", &form()).await;
    // What is known to read waits for nobody.
    assert!(ann.call("/mcp", "one__echo").await["result"].is_object());
    let yes = json!({ "action": "accept", "content": { "approve": true } });
    let (asked, answer) = with_word(&mut ann, &office, &yes).await;
    assert!(answer["result"].is_object(), "{answer}");
    let params = &asked["params"];
    let message = params["message"].as_str().unwrap();
    assert!(
        message.contains("slow") && message.contains("`one`") && message.contains("\"ms\":1"),
        "{message}"
    );
    assert_eq!(
        params["requestedSchema"]["properties"]["approve"]["type"],
        "boolean"
    );
    assert_eq!(office.calls("slow"), 1);
    for no in [
        json!({ "action": "decline" }),
        json!({ "action": "cancel" }),
        json!({ "action": "accept", "content": {} }),
        json!({ "action": "accept", "content": { "approve": false } }),
    ] {
        let (_, answer) = with_word(&mut ann, &office, &no).await;
        assert_eq!(reason(&answer), "approvalDenied");
        assert_eq!(answer["error"]["code"], -31_001);
    }
    assert_eq!(
        office.calls("slow"),
        1,
        "law 16: what is not approved was never sent"
    );
    assert_eq!(office.world.gateway.parked_count(), 0);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_clients_user_is_asked_by_an_answer_that_holds_for_this_request_alone() {
    for script in [Script::legacy(), Script::modern()] {
        let office = Office::with(&policy("client"), script, None).await;
        let (mut ann, mut bob) = (
            office.person("ann", &[]).await,
            office.person("bob", &[]).await,
        );
        let params = |ms: u64| json!({ "name": "one__slow", "arguments": { "ms": ms } });
        let asked = ann
            .modern("/mcp", "tools/call", params(1), form())
            .await
            .json();
        assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
        let requests = asked["result"]["inputRequests"].as_object().unwrap();
        let (key, entry) = requests.iter().next().unwrap();
        assert_eq!(
            (requests.len(), &entry["method"]),
            (1, &json!("elicitation/create"))
        );
        let answered = |ms: u64, approve: bool| {
            let mut params = params(ms);
            params["requestState"] = asked["result"]["requestState"].clone();
            params["inputResponses"] =
                json!({ key: { "action": "accept", "content": { "approve": approve } } });
            params
        };
        // Other arguments, another principal, and an answer before the question: none of them is approved.
        for (who, params) in [(&mut ann, answered(2, true)), (&mut bob, answered(1, true))] {
            let said = who
                .modern("/mcp", "tools/call", params, form())
                .await
                .json();
            assert_eq!(said["error"]["code"], -32602, "{said}");
        }
        let mut early = answered(1, true);
        early.as_object_mut().unwrap().remove("requestState");
        let said = bob.modern("/mcp", "tools/call", early, form()).await.json();
        assert_eq!(said["result"]["resultType"], "input_required", "{said}");
        let mut forged = answered(1, true);
        forged["requestState"] = json!("forged");
        let said = bob
            .modern("/mcp", "tools/call", forged, form())
            .await
            .json();
        assert_ne!(said["result"]["resultType"], "complete", "{said}");
        // A session knows no such state: with it or without, its user is asked.
        let mut session = ann.again(&office).await;
        session.greet("/mcp", &json!({})).await;
        let said = session.ask("/mcp", "tools/call", &answered(1, true)).await;
        assert_eq!(reason(&said), "approvalUnavailable");
        assert_eq!(office.calls("slow"), 0);
        let said = ann
            .modern("/mcp", "tools/call", answered(1, true), form())
            .await
            .json();
        assert_eq!(said["result"]["resultType"], "complete", "{said}");
        // Used up.
        let said = ann
            .modern("/mcp", "tools/call", answered(1, true), form())
            .await
            .json();
        assert!(said["error"].is_object(), "{said}");
        assert_eq!(office.calls("slow"), 1);
        let said = ann
            .modern("/mcp", "tools/call", params(1), json!({}))
            .await
            .json();
        assert_eq!(
            reason(&said),
            "approvalUnavailable",
            "a client that cannot ask"
        );
        office.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_decides_where_the_config_says_so_whatever_the_client_can() {
    let office = Office::open(&policy("operator")).await;
    let mut ann = office.person("ann", &[]).await;
    ann.greet("/mcp", &form()).await;
    let list = async || {
        office
            .admin(Method::GET, "/api/v1/approvals", "")
            .await
            .json()["approvals"]
            .clone()
    };
    for (allow, tool) in [(true, "one__slow"), (false, "one__slow")] {
        let mut caller = ann.again(&office).await;
        let waiting = tokio::spawn(async move {
            caller
                .post("/mcp", &call(tool, &json!({ "ms": 1, "secret": "arg" })))
                .await
                .json()
        });
        let mut pending = json!([]);
        while pending.as_array().unwrap().is_empty() {
            pending = list().await;
        }
        let pending = &pending[0];
        assert_eq!(
            (&pending["principal"], &pending["tool"], &pending["rule"]),
            (&json!("token:ann"), &json!("slow"), &json!("careful"))
        );
        assert!(pending["arguments"].as_str().unwrap().contains("secret"));
        let id = pending["id"].as_str().unwrap();
        let wrong = office
            .admin(
                Method::POST,
                "/api/v1/approvals/0000-0",
                r#"{"allow":true}"#,
            )
            .await;
        assert_eq!(wrong.status, 404);
        let path = format!("/api/v1/approvals/{id}");
        assert_eq!(
            office
                .admin(Method::POST, &path, r#"{"allow":"yes"}"#)
                .await
                .status,
            400
        );
        let decided = office
            .admin(Method::POST, &path, &json!({ "allow": allow }).to_string())
            .await;
        assert_eq!(decided.status, 200, "{decided:?}");
        let answer = waiting.await.unwrap();
        if allow {
            assert!(answer["result"].is_object(), "{answer}");
        } else {
            assert_eq!(reason(&answer), "approvalDenied");
        }
        assert_eq!(
            office
                .admin(Method::POST, &path, r#"{"allow":true}"#)
                .await
                .status,
            404,
            "said once"
        );
    }
    assert_eq!(office.calls("slow"), 1);
    // A call that goes away takes its question along: a modern client by leaving, a legacy one by saying so.
    let mut leaving = ann.again(&office).await;
    let gone = tokio::spawn(async move {
        leaving
            .modern(
                "/mcp",
                "tools/call",
                json!({ "name": "one__slow", "arguments": {} }),
                json!({}),
            )
            .await
    });
    let approvals = || office.world.gateway.approvals_count();
    wait_until("it waits", || approvals() == 1).await;
    gone.abort();
    wait_until("it is withdrawn", || approvals() == 0).await;
    let mut caller = ann.again(&office).await;
    let cancelled =
        tokio::spawn(async move { caller.open("/mcp", &call("one__slow", &json!({}))).await });
    wait_until("it waits", || approvals() == 1).await;
    ann.post(
        "/mcp",
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    )
    .await;
    wait_until("it is withdrawn", || approvals() == 0).await;
    drop(cancelled.await);
    assert_eq!(office.calls("slow"), 1);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_does_not_come_is_a_refusal_and_one_principal_cannot_take_all_places() {
    let mut policy = policy("operator");
    policy["policy"]["rules"][0]["approval"]["waitMs"] = json!(50);
    let office = Office::open(&policy).await;
    let mut ann = office.person("ann", &[]).await;
    let said = ann.call("/mcp", "one__slow").await;
    assert_eq!(reason(&said), "approvalExpired");
    policy["policy"]["rules"][0]["approval"]["waitMs"] = json!(60_000);
    office.reload(&policy).await;
    let mut waiting = Vec::new();
    for _ in 0..32 {
        let mut caller = ann.again(&office).await;
        waiting.push(tokio::spawn(async move {
            caller
                .modern(
                    "/mcp",
                    "tools/call",
                    json!({ "name": "one__slow", "arguments": {} }),
                    json!({}),
                )
                .await
        }));
    }
    wait_until("all places of one are taken", || {
        office.world.gateway.approvals_count() == 32
    })
    .await;
    let said = ann.call("/mcp", "one__slow").await;
    assert_eq!(said["error"]["data"]["reason"], "tooManyWaiting", "{said}");
    let mut bob = office.person("bob", &[]).await;
    let other = tokio::spawn(async move {
        bob.modern(
            "/mcp",
            "tools/call",
            json!({ "name": "one__slow", "arguments": {} }),
            json!({}),
        )
        .await
    });
    wait_until("somebody else's place is free", || {
        office.world.gateway.approvals_count() == 33
    })
    .await;
    for task in waiting.into_iter().chain([other]) {
        task.abort();
    }
    wait_until("nothing is left behind", || {
        office.world.gateway.approvals_count() == 0
    })
    .await;
    assert_eq!(office.calls("slow"), 0);
    office.close().await;
}
