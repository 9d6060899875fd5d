//! Batches: taken apart for clients of 2025-03-26, refused for everybody else.

use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::{Value, json};

use super::support::{Events, Session, World, stdio};

async fn session(world: &World) -> Session {
    Session::open(world.client().await, "/mcp", "2025-03-26").await
}

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const RESULT: &str = r#"{"jsonrpc":"2.0","id":9,"result":{}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn each_request_of_a_batch_is_answered_in_one_array() {
    let world = World::start([stdio("one", &[])]).await;
    let mut session = session(&world).await;
    let echo = r#"{"jsonrpc":"2.0","id":2.5,"method":"tools/call","params":{"name":"one__echo","arguments":{"text":"x"}}}"#;
    let nope = r#"{"jsonrpc":"2.0","id":3,"method":"no/such"}"#;
    let broken = r#"{"jsonrpc":"1.0","id":4,"method":"ping"}"#;
    let opening = r#"{"jsonrpc":"2.0","id":5,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{}}}"#;
    let batch =
        format!(" [ {LIST}, {NOTE}, {echo},\n{nope},{RESULT},{broken}, {opening}, {PING}, 7 ]");
    let reply = session.post(batch).await;
    assert_eq!(reply.status, 200);
    let answers = reply.json();
    let answers = answers.as_array().unwrap();
    let ids: Vec<&Value> = answers.iter().map(|answer| &answer["id"]).collect();
    assert_eq!(
        ids,
        [
            &json!(1),
            &json!(2.5),
            &json!(3),
            &json!(4),
            &json!(5),
            &json!("p"),
            &Value::Null
        ]
    );
    assert!(answers[0]["result"]["tools"].is_array());
    assert_eq!(answers[1]["result"]["content"][0]["text"], "x");
    let codes: Vec<i64> = [2, 3, 4, 6]
        .map(|at: usize| answers[at]["error"]["code"].as_i64().unwrap())
        .into();
    assert_eq!(codes, [-32601, -32600, -32600, -32600]);
    assert_eq!(answers[5]["result"], json!({}));
    assert_eq!(world.gateway.session_count(), 1, "nothing was opened");
    // Nothing to answer.
    let reply = session.post(format!("[{NOTE},{RESULT}]")).await;
    assert_eq!((reply.status.as_u16(), reply.body.as_str()), (202, ""));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_30_what_is_no_batch_or_too_large_a_one_is_refused() {
    let world = World::start_with([], |settings| settings.batch_messages_max = 3).await;
    let mut batching = session(&world).await;
    let four = format!("[{PING},{PING},{PING},{PING}]");
    for wrong in ["[]", "[1,2", &four] {
        let reply = batching.post(wrong.to_owned()).await;
        let code = if wrong == "[1,2" { -32700 } else { -32600 };
        assert_eq!(reply.error(), (400, code, Value::Null), "{wrong}");
    }
    let three = format!("[{PING},{PING},{PING}]");
    assert_eq!(
        batching
            .post(three.clone())
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        3
    );
    for revision in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let mut other = Session::open(world.client().await, "/mcp", revision).await;
        let reply = other.post(three.clone()).await;
        assert_eq!(reply.error(), (400, -32600, Value::Null), "{revision}");
    }
    let mut nobody = world.client().await;
    let reply = nobody.post("/mcp", &[], three.clone()).await;
    assert_eq!(reply.error(), (400, -32600, Value::Null));
    let headers = [("mcp-session-id", "no-such")];
    let reply = nobody.post("/mcp", &headers, three).await;
    assert_eq!(reply.error(), (404, -32600, Value::Null));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_in_which_something_is_said_before_an_answer_is_one_stream() {
    let server = HttpServer::start(Script::legacy()).await.unwrap();
    let world = World::start_with(
        [ServerConfig::http("fake", server.url()), stdio("one", &[])],
        |settings| settings.keep_alive_ms = 50,
    )
    .await;
    for server in ["fake", "one"] {
        world
            .until(server, |status| status.state == "connected")
            .await;
    }
    let mut session = session(&world).await;
    let slow = r#"{"jsonrpc":"2.0","id":"s","method":"tools/call","params":{"name":"fake__slow","arguments":{}}}"#;
    let steps = r#"{"jsonrpc":"2.0","id":"q","method":"tools/call","params":{"name":"one__progress","arguments":{"steps":2},"_meta":{"progressToken":"t"}}}"#;
    let batch = format!("[{slow},{PING},{steps}]");
    let mut events = Events::of(session.open_post(batch).await);
    let mut answered = Vec::new();
    let mut progress = 0;
    while answered.len() < 3 {
        let event = events.json().await;
        match event.get("id") {
            Some(id) => answered.push(id.clone()),
            None => progress += 1,
        }
        if answered.len() == 2 {
            server.release();
        }
    }
    assert_eq!(progress, 2);
    assert_eq!(answered[2], "s", "each answer as soon as it is there");
    assert_eq!(events.next().await, None);
    world.end().await;
}
