//! Servers that are away, broken or switched off, as clients see it.

use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{Fault, HttpServer, Script};
use serde_json::json;

use super::support::{World, modern, stdio};

fn call(tool: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn law_11_a_parked_server_refuses_with_cause_and_hint() {
    let world = World::start_with(
        [ServerConfig::stdio("gone", "/no/such/program")],
        |settings| {
            settings.edge_patience_ms = 200;
        },
    )
    .await;
    world.until("gone", |status| status.state == "parked").await;
    let mut session = world.session("/servers/gone/mcp").await;
    assert_eq!(
        session.opened["capabilities"]["tools"],
        json!({"listChanged": true}),
        "it may come to have some"
    );
    let reply = session.post(call("anything")).await;
    assert_eq!(reply.error(), (200, -31_001, json!("c")), "{}", reply.body);
    let data = &reply.json()["error"]["data"];
    assert_eq!(
        (&data["outcome"], &data["server"], &data["state"]),
        (&json!("refused"), &json!("gone"), &json!("parked"))
    );
    assert!(
        data["cause"]["detail"]
            .as_str()
            .unwrap()
            .contains("/no/such/program"),
        "{data}"
    );
    assert!(
        data["hint"].is_string() && data["sinceMs"].is_u64(),
        "{data}"
    );
    // Law 22: an error is not an empty list.
    let listed = session
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await;
    assert_eq!(listed.error(), (200, -31_001, json!(1)), "{}", listed.body);
    let modern_reply = world
        .client()
        .await
        .modern("/servers/gone/mcp", &modern("1", "tools/list", ""))
        .await;
    assert_eq!(modern_reply.error(), (200, -31_001, json!(1)));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_16_a_call_whose_server_dies_has_an_unknown_outcome_and_the_session_lives() {
    let world = World::start([stdio("one", &[])]).await;
    let mut session = world.session("/mcp").await;
    let reply = session.post(call("one__crash")).await;
    assert_eq!(reply.error(), (200, -31_003, json!("c")), "{}", reply.body);
    let error = &reply.json()["error"];
    assert_eq!(
        (&error["data"]["outcome"], &error["data"]["server"]),
        (&json!("unknown"), &json!("one"))
    );
    // The next call by the same name waits for the new process.
    let reply = session.post(call("one__echo")).await;
    assert!(
        reply.json()["result"]["content"].is_array(),
        "{}",
        reply.body
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_22_listings_are_served_while_the_server_is_away() {
    let world = World::start([stdio(
        "one",
        &["--exit-after-calls", "1", "--slow-start", "300"],
    )])
    .await;
    let mut session = world.session("/servers/one/mcp").await;
    session.post(call("echo")).await;
    world
        .until("one", |status| status.state != "connected")
        .await;
    let listed = session
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await
        .json();
    assert!(!listed["result"]["tools"].as_array().unwrap().is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_5_a_disabled_server_lists_nothing_and_says_so() {
    let world = World::start([stdio("one", &[]), stdio("two", &[])]).await;
    let mut session = world.session("/mcp").await;
    let mut alone = world.session("/servers/one/mcp").await;
    world
        .manager
        .server("one")
        .unwrap()
        .disable()
        .await
        .unwrap();
    let listed = session
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await;
    assert!(!listed.body.contains("one__") && listed.body.contains("two__echo"));
    assert_eq!(
        session.post(call("one__echo")).await.error(),
        (200, -32602, json!("c"))
    );
    let listed = alone
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await;
    assert_eq!(listed.error(), (200, -31_001, json!(1)));
    assert!(listed.body.contains("disabled"), "{}", listed.body);
    let called = alone.post(call("echo")).await;
    assert_eq!(called.error(), (200, -31_001, json!("c")));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_upstream_is_never_an_http_error_in_a_session() {
    let server = HttpServer::start(Script::legacy()).await.unwrap();
    let world = World::start([ServerConfig::http("fake", server.url())]).await;
    let mut session = world.session("/mcp").await;
    for fault in [
        Fault::Drop,
        Fault::BreakBeforeAnswer,
        Fault::Html,
        Fault::BrokenJson,
    ] {
        server.change(|script| script.then("tools/call", fault.clone()));
        let reply = session.post(call("fake__add_marker")).await;
        let (status, code, id) = reply.error();
        assert_eq!((status, id), (200, json!("c")), "{fault:?}");
        assert!(
            (-31_003..=-31_001).contains(&code),
            "{fault:?}: {}",
            reply.body
        );
        world
            .until("fake", |status| status.state == "connected")
            .await;
    }
    // The server forgets its sessions: the client's session does not notice.
    server.forget_sessions();
    let reply = session.post(call("fake__echo")).await;
    assert!(reply.json()["result"].is_object(), "{}", reply.body);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_on_demand_is_started_by_a_client() {
    let mut lazy = stdio("lazy", &[]);
    lazy.startup = mainstay::config::Startup::Lazy;
    let world = World::start_with([lazy], |_| {}).await;
    let mut session = world.session("/servers/lazy/mcp").await;
    let listed = session
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await
        .json();
    assert!(
        !listed["result"]["tools"].as_array().unwrap().is_empty(),
        "{listed}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_f17_who_comes_while_servers_start_for_the_first_time_gets_their_tools() {
    let slow = || stdio("slow", &["--slow-start", "400"]);
    let world = World::start([slow()]).await;
    let mut session = world.session("/mcp").await;
    let listed = session
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await;
    let tools = listed.json()["result"]["tools"].as_array().unwrap().len();
    assert!(tools > 0, "{}", listed.body);
    world.end().await;

    // Without a listing first, and without any grace: the call itself waits.
    let world = World::start_with([slow()], |settings| settings.startup_grace_ms = 0).await;
    let mut session = world.session("/mcp").await;
    let reply = session.post(call("slow__echo")).await;
    assert!(reply.json()["result"].is_object(), "{}", reply.body);
    let unknown = session.post(call("slow__nothing")).await;
    assert_eq!(unknown.json()["error"]["code"], -32_602, "{}", unknown.body);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f21_readiness_names_every_required_server_that_is_missing_and_waits_for_no_sleeper() {
    let required = |mut config: ServerConfig| {
        config.required = true;
        config
    };
    let mut sleeper = stdio("sleeper", &[]);
    sleeper.startup = mainstay::config::Startup::Lazy;
    let world = World::start_with(
        [
            required(sleeper),
            required(ServerConfig::stdio("gone", "/no/such/program")),
            required(stdio("silent", &["--never-answer", "initialize"])),
            stdio("other", &["--exit-at", "start"]),
        ],
        |_| {},
    )
    .await;
    world.until("gone", |status| status.state == "parked").await;
    world
        .until("sleeper", |status| status.state == "idle")
        .await;
    let ready = world
        .client()
        .await
        .send(http::Method::GET, "/readyz", &[], "")
        .await;
    assert_eq!(ready.status.as_u16(), 503);
    let ready = ready.json();
    let missing: Vec<_> = ready["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|server| server["name"].as_str().unwrap())
        .collect();
    assert_eq!(missing, ["gone", "silent"], "{ready}");
    assert_eq!(ready["missing"][0]["cause"]["kind"], "spawn-not-found");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_f17_who_listens_is_told_once_when_a_slow_server_arrives() {
    let world = World::start_with(
        [stdio("one", &[]), stdio("late", &["--slow-start", "700"])],
        |settings| settings.startup_grace_ms = 0,
    )
    .await;
    world
        .until("one", |status| status.state == "connected")
        .await;
    let mut session = world.session("/mcp").await;
    let listed = session
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await;
    assert!(listed.body.contains("one__echo"), "{}", listed.body);
    let before = world.manager.publication().version;
    world
        .until("late", |status| status.state == "connected")
        .await;
    let listed = session
        .post(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#)
        .await;
    assert!(listed.body.contains("late__echo"), "{}", listed.body);
    assert_eq!(world.manager.publication().version, before + 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f152_f195_exceeded_limits_are_told_to_the_call_with_the_setting() {
    let mut small = stdio("small", &[]);
    small.result_bytes = 4_096;
    let world = World::start([small]).await;
    let mut session = world.session("/mcp").await;
    let reply = session
        .post(r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"small__big","arguments":{"bytes":9000}}}"#)
        .await;
    assert_eq!(reply.error(), (200, -31_003, json!("c")), "{}", reply.body);
    assert!(reply.body.contains("resultBytes"), "{}", reply.body);
    let reply = session.post(call("small__echo")).await;
    assert!(reply.json()["result"].is_object(), "{}", reply.body);
    world.end().await;
}
