//! What clients are told without asking: changed listings.

use http::{Method, StatusCode};
use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::json;

use super::support::{BOTH, Client, Events, World, modern, modern_headers, stdio};

const CHANGE: &str = r#"{"jsonrpc":"2.0","id":"s","method":"tools/call","params":{"name":"NAME","arguments":{"names":["echo","set_tools","new"]}}}"#;

pub(crate) async fn listen(client: &mut Client, path: &str, id: &str, filter: &str) -> Events {
    let body = modern(
        id,
        "subscriptions/listen",
        &format!("\"notifications\":{filter},"),
    );
    let headers = modern_headers(&body);
    let mut all = vec![("content-type", "application/json"), ("accept", BOTH)];
    all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
    Events::of(client.open(Method::POST, path, &all, body).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn law_21_a_legacy_session_is_told_once_on_its_newest_stream() {
    let world = World::start([stdio("one", &[])]).await;
    for (path, tool) in [
        ("/mcp", "one__set_tools"),
        ("/servers/one/mcp", "set_tools"),
    ] {
        let mut session = world.session(path).await;
        let mut caller = session.twin().await;
        let mut silent = Vec::new();
        for _ in 0..3 {
            let mut stale = session.twin().await;
            let events = Events::of(stale.get().await);
            silent.push((stale, events));
        }
        let mut events = Events::of(session.get().await);
        let names = if path == "/mcp" {
            r#"["echo","set_tools"]"#
        } else {
            r#"["echo","set_tools","new"]"#
        };
        let change = CHANGE
            .replace("NAME", tool)
            .replace(r#"["echo","set_tools","new"]"#, names);
        assert_eq!(caller.post(change).await.status, StatusCode::OK);
        assert_eq!(
            events.json().await,
            json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        );
        let listed = caller
            .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
            .await
            .json();
        let expected = names.matches("\",\"").count() + 1;
        assert_eq!(
            listed["result"]["tools"].as_array().unwrap().len(),
            expected,
            "what is told is there"
        );
        let id = session.id.clone();
        caller
            .client
            .send(Method::DELETE, path, &[("mcp-session-id", &id)], "")
            .await;
        assert_eq!(
            events.next().await,
            None,
            "one change, one notice; the stream ends with the session"
        );
        for (_stale, mut silent) in silent {
            assert_eq!(silent.next().await, None, "older streams say nothing");
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_21_a_change_without_a_stream_is_told_when_one_opens() {
    let world = World::start([stdio("one", &[])]).await;
    let mut session = world.session("/mcp").await;
    let before = world.manager.publication().version;
    session.post(CHANGE.replace("NAME", "one__set_tools")).await;
    let mut version = world.manager.published();
    tokio::time::timeout(
        super::support::PATIENCE,
        version.wait_for(|version| *version > before),
    )
    .await
    .unwrap()
    .unwrap();
    let mut listener = session.twin().await;
    let mut events = Events::of(listener.get().await);
    assert_eq!(
        events.json().await["method"],
        "notifications/tools/list_changed"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_is_acknowledged_first_tagged_and_ended_with_a_result() {
    let mut world = World::start([stdio("one", &[])]).await;
    let (mut first, mut second, mut caller) = (
        world.client().await,
        world.client().await,
        world.client().await,
    );
    let everything = r#"{"toolsListChanged":true,"promptsListChanged":false,"resourcesListChanged":true,"resourceSubscriptions":["x:y"]}"#;
    let mut number = listen(&mut first, "/mcp", "7", everything).await;
    let mut string = listen(
        &mut second,
        "/mcp",
        "\"7\"",
        r#"{"promptsListChanged":true}"#,
    )
    .await;
    assert_eq!(
        number.json().await,
        json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {
            "_meta": {"io.modelcontextprotocol/subscriptionId": 7},
            "notifications": {"toolsListChanged": true, "resourcesListChanged": true}}})
    );
    assert_eq!(
        string.json().await["params"],
        json!({
        "_meta": {"io.modelcontextprotocol/subscriptionId": "7"}, "notifications": {"promptsListChanged": true}})
    );
    let change = modern(
        "1",
        "tools/call",
        r#""name":"one__set_tools","arguments":{"names":["echo"]},"#,
    );
    assert_eq!(caller.modern("/mcp", &change).await.status, StatusCode::OK);
    assert_eq!(
        number.json().await,
        json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": 7}}})
    );
    world.close().await;
    assert_eq!(
        number.json().await,
        json!({"jsonrpc": "2.0", "id": 7, "result": {"resultType": "complete", "_meta": {"io.modelcontextprotocol/subscriptionId": 7}}})
    );
    assert_eq!(number.next().await, None);
    assert_eq!(
        string.json().await["id"],
        "7",
        "nothing unasked came before the end"
    );
    world.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_can_happen_is_acknowledged() {
    let world = World::start([stdio("one", &[])]).await;
    let mut client = world.client().await;
    let mut events = listen(
        &mut client,
        "/servers/one/mcp",
        "1",
        r#"{"toolsListChanged":true,"promptsListChanged":true}"#,
    )
    .await;
    assert_eq!(
        events.json().await["params"]["notifications"],
        json!({"toolsListChanged": true}),
        "it declares no prompts"
    );
    let mut client = world.client().await;
    let bad = client
        .modern(
            "/mcp",
            &modern("1", "subscriptions/listen", "\"notifications\":7,"),
        )
        .await;
    assert_eq!(bad.error(), (400, -32602, json!(1)));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_streams_give_signs_of_life_and_are_limited() {
    let server = HttpServer::start(Script::legacy()).await.unwrap();
    let world = World::start_with([ServerConfig::http("fake", server.url())], |settings| {
        settings.keep_alive_ms = 20;
        settings.push_streams_max = 2;
    })
    .await;
    let mut session = world.session("/mcp").await;
    let mut get = Events::of(session.get().await);
    get.comment().await;
    let mut client = world.client().await;
    let mut listening = listen(&mut client, "/mcp", "1", "{}").await;
    assert_eq!(listening.json().await["params"]["notifications"], json!({}));
    listening.comment().await;
    let mut third = world.client().await;
    let reply = third
        .modern(
            "/mcp",
            &modern("1", "subscriptions/listen", "\"notifications\":{},"),
        )
        .await;
    assert_eq!(reply.error(), (200, -31_005, json!(1)));
    assert_eq!(
        session.twin().await.get().await.status(),
        StatusCode::CONFLICT
    );
    world.end().await;
}
