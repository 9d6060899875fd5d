//! Clients of the legacy era: sessions and what is asked inside them.

use http::{Method, StatusCode};
use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{Fault, HttpServer, Script};
use serde_json::{Value, json};

use super::support::{BOTH, Client, Events, Session, World, stdio, wait_until};

fn call(id: &str, tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    )
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect()
}

/// A fake server's answer to the next call: these bytes, with `$ID` for the id.
pub(crate) fn answer_with(server: &HttpServer, method: &str, body: &str) {
    let fault = Fault::Status {
        status: 200,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.to_owned(),
    };
    server.change(|script| script.then(method, fault));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lists_and_calls_on_both_endpoints() {
    let world = World::start([stdio("one", &[]), stdio("two", &["--era", "modern"])]).await;
    let mut all = world.session("/mcp").await;
    assert_eq!(all.opened["protocolVersion"], "2025-11-25");
    assert_eq!(all.opened["serverInfo"]["name"], "mainstay");
    assert_eq!(
        all.opened["capabilities"]["tools"],
        json!({"listChanged": true})
    );
    assert!(
        all.opened["capabilities"]["resources"]
            .get("subscribe")
            .is_none()
    );
    let listed = all
        .post(r#"{"jsonrpc":"2.0","id":"l","method":"tools/list"}"#)
        .await;
    assert_eq!(listed.status, StatusCode::OK);
    let listed = listed.json();
    assert_eq!(listed["id"], "l");
    assert_eq!(
        listed["result"].as_object().unwrap().len(),
        1,
        "nothing modern in a legacy result"
    );
    let tools = names(&listed["result"]["tools"]);
    assert!(
        tools.contains(&"one__echo") && tools.contains(&"two__echo"),
        "{tools:?}"
    );
    for server in ["one", "two"] {
        let reply = all
            .post(call(
                "7",
                &format!("{server}__echo"),
                &format!("{{\"text\":\"{server}\"}}"),
            ))
            .await;
        let reply = reply.json();
        assert_eq!(
            (&reply["id"], &reply["result"]["content"][0]["text"]),
            (&json!(7), &json!(server))
        );
        assert!(reply["result"].get("resultType").is_none(), "{reply}");
    }
    let mut one = world.session("/servers/one/mcp").await;
    let listed = one
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#)
        .await
        .json();
    assert!(names(&listed["result"]["tools"]).contains(&"echo"));
    let reply = one.post(call("2", "echo", "{\"text\":\"x\"}")).await.json();
    assert_eq!(reply["result"]["content"][0]["text"], "x");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_negotiated() {
    let world = World::start([]).await;
    for (offered, answered) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let session = Session::open(world.client().await, "/mcp", offered);
        if offered.starts_with("1999") || offered.starts_with("2026") {
            // Its later requests would carry that version in the header; only the handshake is of interest here.
            drop(session);
            let mut client = world.client().await;
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{offered}","capabilities":{{}}}}}}"#
            );
            let reply = client.post("/mcp", &[], body).await;
            assert_eq!(reply.json()["result"]["protocolVersion"], answered);
        } else {
            assert_eq!(session.await.opened["protocolVersion"], answered);
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_come_back_byte_for_byte() {
    let world = World::start([stdio("one", &[])]).await;
    let mut session = world.session("/mcp").await;
    for id in [
        "0",
        "7",
        "-3",
        "1.0",
        "12345678901234567890123",
        "\"7\"",
        "\"\"",
        "\"\\u00e4\\n\\\"\"",
        "\"ä\"",
    ] {
        for body in [
            call(id, "one__echo", "{}"),
            format!(r#"{{"jsonrpc":"2.0","method":"ping","id":{id}}}"#),
        ] {
            let reply = session.post(body).await;
            assert_eq!(reply.status, StatusCode::OK);
            assert!(
                reply.body.contains(&format!("\"id\":{id},")),
                "{id}: {}",
                reply.body
            );
        }
    }
    let reply = session
        .post(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#)
        .await;
    assert_eq!(reply.error(), (400, -32600, Value::Null));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_through_stays_as_it_is() {
    let server = HttpServer::start(Script::legacy()).await.unwrap();
    let world = World::start([ServerConfig::http("fake", server.url())]).await;
    let mut session = world.session("/mcp").await;
    let result = r#"{"vendor":{"b":1.10,"a":12345678901234567890123},"content":[ {"type":"text","text":"\u00e4\/"} ],"isError":false}"#;
    answer_with(
        &server,
        "tools/call",
        &format!(r#"{{"jsonrpc":"2.0","result":{result},"extra":1e2,"id":$ID}}"#),
    );
    let sent = r#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"vendor":1.10,"name":"fake__echo","arguments":{"n":12345678901234567890123,"text":"\u00e4"},"_meta":{"traceparent":"00-1"}}}"#;
    let reply = session.post(sent).await;
    assert_eq!(
        reply.body,
        format!(r#"{{"jsonrpc":"2.0","result":{result},"extra":1e2,"id":"x"}}"#)
    );
    let seen = server.ledger().seen_of("tools/call").remove(0).body;
    // Nothing but a progress token of ours comes with it.
    let params = r#""params":{"vendor":1.10,"name":"echo","arguments":{"n":12345678901234567890123,"text":"\u00e4"},"_meta":{"traceparent":"00-1","progressToken":"#;
    assert!(seen.contains(params), "{seen}");
    // Absent arguments stay absent.
    session
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"fake__echo"}}"#)
        .await;
    let seen = server.ledger().seen_of("tools/call").remove(1).body;
    assert!(
        seen.contains(r#""params":{"name":"echo","_meta":{"progressToken":"#),
        "{seen}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_several_lines_reaches_a_server_of_lines() {
    let world = World::start([stdio("one", &[])]).await;
    let mut session = world.session("/mcp").await;
    let body = "{\n  \"jsonrpc\": \"2.0\",\r\n  \"id\": 1,\n  \"method\": \"tools/call\",\n  \"params\": {\n    \"name\": \"one__echo\",\n    \"arguments\": {\"text\": \"ok\"}\n  }\n}\n";
    let reply = session.post(body).await.json();
    assert_eq!(reply["result"]["content"][0]["text"], "ok");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_inside_a_session_are_http_200() {
    let world = World::start([stdio("one", &[])]).await;
    let mut session = world.session("/mcp").await;
    for (body, code) in [
        (call("1", "one__nope", "{}"), -32602),
        (call("1", "nope", "{}"), -32602),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#.to_owned(),
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#.to_owned(),
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"no/such"}"#.to_owned(),
            -32601,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"x:y"}}"#
                .to_owned(),
            -32601,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"2"}}"#.to_owned(),
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"nope"}}"#
                .to_owned(),
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"x:y"}}"#
                .to_owned(),
            -32002,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"loud"}}"#
                .to_owned(),
            -32602,
        ),
    ] {
        let reply = session.post(body.clone()).await;
        assert_eq!(
            reply.error(),
            (200, code, json!(1)),
            "{body}: {}",
            reply.body
        );
    }
    let level = session
        .post(r#"{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"debug"}}"#)
        .await;
    assert_eq!(level.body, r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_servers_endpoint_passes_unknown_methods_on() {
    let server = HttpServer::start(Script::legacy()).await.unwrap();
    let world = World::start([ServerConfig::http("fake", server.url())]).await;
    let mut session = world.session("/servers/fake/mcp").await;
    answer_with(
        &server,
        "vendor/method",
        r#"{"jsonrpc":"2.0","id":$ID,"result":{"yes":1.10}}"#,
    );
    let reply = session
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"vendor/method","params":{"a":1.10}}"#)
        .await;
    assert_eq!(
        reply.body,
        r#"{"jsonrpc":"2.0","id":1,"result":{"yes":1.10}}"#
    );
    assert!(
        server.ledger().seen_of("vendor/method")[0]
            .body
            .contains("\"a\":1.10")
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_needed_bound_to_their_endpoint_and_end() {
    let world = World::start([stdio("one", &[])]).await;
    let mut client = world.client().await;
    let ping = r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#;
    assert_eq!(
        client.post("/mcp", &[], ping).await.error(),
        (400, -32600, json!(5))
    );
    for unknown in ["0123456789abcdef0123456789abcdef", "x"] {
        let reply = client
            .post("/mcp", &[("mcp-session-id", unknown)], ping)
            .await;
        assert_eq!(reply.error(), (404, -32600, json!(5)));
    }
    let mut session = world.session("/servers/one/mcp").await;
    assert_eq!(
        session.post(ping).await.body,
        r#"{"jsonrpc":"2.0","id":5,"result":{}}"#
    );
    let id = session.id.clone();
    let elsewhere = client.post("/mcp", &[("mcp-session-id", &id)], ping).await;
    assert_eq!(
        elsewhere.status,
        StatusCode::NOT_FOUND,
        "a session belongs to its endpoint"
    );
    let response = session
        .post(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)
        .await;
    assert_eq!(
        (response.status.as_u16(), response.body.as_str()),
        (202, "")
    );
    let gone = session
        .client
        .send(
            Method::DELETE,
            "/servers/one/mcp",
            &[("mcp-session-id", &id)],
            "",
        )
        .await;
    assert_eq!(gone.status, StatusCode::OK);
    assert_eq!(session.post(ping).await.status, StatusCode::NOT_FOUND);
    let again = session
        .client
        .send(
            Method::DELETE,
            "/servers/one/mcp",
            &[("mcp-session-id", &id)],
            "",
        )
        .await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    let without = session.client.send(Method::DELETE, "/mcp", &[], "").await;
    assert_eq!(
        (without.status.as_u16(), without.header("allow")),
        (405, Some("POST"))
    );
    assert_eq!(world.gateway.session_count(), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_sessions_are_refused_in_words() {
    let world = World::start_with([], |settings| settings.sessions_max = 1).await;
    let _one = world.session("/mcp").await;
    let mut client = world.client().await;
    let body = r#"{"jsonrpc":"2.0","id":3,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
    let reply = client.post("/mcp", &[], body).await;
    assert_eq!(reply.error(), (200, -31_005, json!(3)));
    assert!(reply.header("mcp-session-id").is_none());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_comes_under_the_clients_own_token_before_the_answer() {
    let world = World::start([stdio("one", &[])]).await;
    let mut session = world.session("/mcp").await;
    for token in ["\"pt\"", "7", "\"7\""] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":"p","method":"tools/call","params":{{"name":"one__progress","arguments":{{"steps":3}},"_meta":{{"progressToken":{token}}}}}}}"#
        );
        let mut events = Events::of(session.open_post(body).await);
        for step in 1..=3 {
            let event = events.next().await.unwrap();
            assert!(
                event.contains(&format!("\"progressToken\":{token}")),
                "{event}"
            );
            let event: Value = serde_json::from_str(&event).unwrap();
            assert_eq!(
                (&event["method"], &event["params"]["progress"]),
                (&json!("notifications/progress"), &json!(step))
            );
        }
        let last = events.json().await;
        assert_eq!(
            (&last["id"], &last["result"]["content"][0]["text"]),
            (&json!("p"), &json!("3 steps"))
        );
        assert_eq!(events.next().await, None, "the answer is the last event");
    }
    // No progress, no stream: the answer is plain JSON although a token was given.
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__echo","_meta":{"progressToken":1}}}"#;
    assert_eq!(session.post(body).await.json()["id"], 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_silence_turns_the_answer_into_a_stream_with_signs_of_life() {
    let server = HttpServer::start(Script::legacy()).await.unwrap();
    let world = World::start_with([ServerConfig::http("fake", server.url())], |settings| {
        settings.keep_alive_ms = 20
    })
    .await;
    world
        .until("fake", |status| status.state == "connected")
        .await;
    let mut session = world.session("/mcp").await;
    let mut events = Events::of(session.open_post(call("1", "fake__slow", "{}")).await);
    events.comment().await;
    server.release();
    assert_eq!(events.json().await["result"]["content"][0]["text"], "done");
    assert_eq!(events.next().await, None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_18_a_cancel_notice_reaches_the_server_and_no_answer_follows() {
    let server = HttpServer::start(Script::legacy()).await.unwrap();
    let world = World::start([ServerConfig::http("fake", server.url())]).await;
    let mut session = world.session("/mcp").await;
    let mut other = session.twin().await;
    let mut stranger = world.session("/mcp").await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"c","reason":"enough"}}"#;
    let slow = tokio::spawn(async move { session.post(call("\"c\"", "fake__slow", "{}")).await });
    wait_until("the call is at the server", || {
        server.ledger().counts().calls.contains_key("slow")
    })
    .await;
    // Another session's notice with the same id is none of its business.
    assert_eq!(stranger.post(cancel).await.status, StatusCode::ACCEPTED);
    assert_eq!(
        stranger.post(call("1", "fake__echo", "{}")).await.status,
        StatusCode::OK
    );
    assert_eq!(server.ledger().counts().cancels, 0);
    assert_eq!(other.post(cancel).await.status, StatusCode::ACCEPTED);
    let reply = slow.await.unwrap();
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (StatusCode::OK, ""),
        "an event stream without an answer"
    );
    wait_until("the server is told", || {
        let counts = server.ledger().counts();
        counts.cancels + counts.disconnects > 0
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_is_no_cancellation() {
    let server = HttpServer::start(Script::legacy()).await.unwrap();
    let world = World::start([ServerConfig::http("fake", server.url())]).await;
    let mut session = world.session("/mcp").await;
    let (address, id) = (world.address, session.id.clone());
    let leaving = tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        let headers = [
            ("content-type", "application/json"),
            ("accept", BOTH),
            ("mcp-session-id", id.as_str()),
        ];
        client
            .send(
                Method::POST,
                "/mcp",
                &headers,
                call("1", "fake__slow", "{}"),
            )
            .await
    });
    wait_until("the call is at the server", || {
        server.ledger().counts().calls.contains_key("slow")
    })
    .await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    // A later call of the same session shows that the gateway has gone on, and the server heard of no cancellation.
    session.post(call("2", "fake__echo", "{}")).await;
    let status = world.manager.server("fake").unwrap().status();
    assert_eq!(status.in_flight, 1, "the call goes on");
    server.release();
    world.until("fake", |_| true).await;
    let fake = world.manager.server("fake").unwrap();
    wait_until("the call is answered", || {
        fake.status().counts.answered >= 2 && fake.status().in_flight == 0
    })
    .await;
    let counts = server.ledger().counts();
    assert_eq!((counts.cancels, counts.disconnects), (0, 0));
    world.end().await;
}
