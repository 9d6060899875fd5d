//! Legacy clients: asked on the response stream of their own call.

use mainstay_testkit::http_server::Script;
use serde_json::{Value, json};

use super::*;
use crate::support::wait_until;

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_servers_requests_reach_the_client_and_its_answers_the_server_byte_for_byte() {
    let server = http(Script::legacy()).await;
    let world = World::start([at("http", &server), asking("pipe", &[])]).await;
    for (path, tool) in [
        ("/servers/http/mcp", "inquire"),
        ("/servers/pipe/mcp", "inquire"),
        ("/mcp", "http__inquire"),
        ("/mcp", "pipe__inquire"),
    ] {
        let mut session = session(&world, path, ALL).await;
        let mut other = session.twin().await;
        let arguments = rounds(&[three(), elicit("again")]);
        let open = session
            .open_post(legacy_call("\"c\"", tool, &arguments))
            .await;
        let (answered, asked) = converse(&mut Events::of(open), &mut other).await;
        assert_eq!(answered["id"], "c");
        let expected: Vec<Value> = asked
            .iter()
            .map(|request| answer_to(request["method"].as_str().unwrap()))
            .collect();
        assert_eq!(expected.len(), 4);
        assert_eq!(got(&answered["result"]), json!(expected), "{path} {tool}");
        assert_eq!(asked[0]["params"], form("name"), "as it came");
        assert!(asked[2].get("params").is_none(), "absent stays absent");
        let mut ids: Vec<String> = asked
            .iter()
            .map(|request| request["id"].to_string())
            .collect();
        ids.dedup();
        assert_eq!(ids.len(), 4, "ids of ours, each used once");
    }
    // The answer's own bytes reached the server, under its own id.
    let seen = server.ledger().seen_of("");
    assert!(
        seen[0].body.contains("\"id\":\"inquire-") || seen[1].body.contains("\"id\":\"inquire-")
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_never_bothered_with_what_it_did_not_declare() {
    let server = http(Script::legacy()).await;
    let world = World::start([at("http", &server), asking("pipe", &[])]).await;
    for path in ["/servers/http/mcp", "/servers/pipe/mcp"] {
        let mut session = session(&world, path, r#"{"sampling":{}}"#).await;
        let mut other = session.twin().await;
        let open = session
            .open_post(legacy_call("1", "inquire", &rounds(&[three()])))
            .await;
        let (answered, asked) = converse(&mut Events::of(open), &mut other).await;
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0]["method"], "sampling/createMessage");
        let got = got(&answered["result"]);
        assert_eq!(got[0]["error"]["code"], -32601, "{got}");
        assert_eq!(got[1], answer_to("sampling/createMessage"));
        assert_eq!(got[2]["error"]["code"], -32601, "{got}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f114_a_question_ends_with_the_session_of_its_client() {
    let world = World::start([asking("pipe", &[])]).await;
    let path = "/servers/pipe/mcp";
    let mut gone = session(&world, path, ALL).await;
    let open = gone
        .open_post(legacy_call("1", "inquire", &rounds(&[elicit("a")])))
        .await;
    let mut events = Events::of(open);
    let request = events.json().await;
    let mut other = gone.twin().await;
    let headers = [("mcp-session-id", other.id.as_str())];
    let deleted = other
        .client
        .send(http::Method::DELETE, path, &headers, "")
        .await;
    assert_eq!(deleted.status, 200);
    // A late answer finds no session, and the server is free for others.
    let late = json!({"jsonrpc": "2.0", "id": request["id"], "result": {}});
    assert_eq!(other.post(late.to_string()).await.status, 404);
    let mut next = session(&world, path, ALL).await;
    let mut twin = next.twin().await;
    let open = next
        .open_post(legacy_call("1", "inquire", &rounds(&[elicit("b")])))
        .await;
    let (answered, asked) = converse(&mut Events::of(open), &mut twin).await;
    assert_eq!(asked[0]["params"]["message"], "b");
    assert_eq!(got(&answered["result"])[0], answer_to("elicitation/create"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f114_a_question_ends_with_the_connection_that_it_came_on() {
    let mut server = http(Script::legacy()).await;
    let world = World::start([at("http", &server)]).await;
    let mut session = session(&world, "/servers/http/mcp", ALL).await;
    let open = session
        .open_post(legacy_call("1", "inquire", &rounds(&[elicit("a")])))
        .await;
    let mut events = Events::of(open);
    let request = events.json().await;
    server.stop().await;
    let told = events.json().await;
    assert_eq!(told["method"], "notifications/cancelled", "{told}");
    assert_eq!(told["params"]["requestId"], request["id"]);
    let answered = events.json().await;
    assert_eq!(answered["error"]["code"], -31_003, "the outcome is unknown");
    // The late answer reaches nobody.
    let mut other = session.twin().await;
    answer(&mut other, &request, &json!({})).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_18_a_client_that_cancels_its_call_is_asked_no_more() {
    let server = http(Script::legacy()).await;
    let world = World::start([at("http", &server)]).await;
    let mut session = session(&world, "/servers/http/mcp", ALL).await;
    let open = session
        .open_post(legacy_call("7", "inquire", &rounds(&[elicit("a")])))
        .await;
    let mut events = Events::of(open);
    events.json().await;
    let mut other = session.twin().await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
    other.post(cancel).await;
    wait_until("the server is told", || {
        server.ledger().counts().cancels == 1
    })
    .await;
    assert_eq!(events.next().await, None, "no answer to a cancelled call");
    world.end().await;
}
