//! Records of calls as the admin API shows them, and the journal over a real kill.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use mainstay::journal::{self, Kind, Query};
use serde_json::{Value, json};

use super::admin::{Door, open};
use super::support::{
    Client, Events, PATIENCE, World, misbehave, modern, modern_headers, stdio, wait_until,
};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_recorded_with_its_client_its_door_and_its_trace() {
    let world = World::start([stdio("one", &[])]).await;
    let door = Door::open(&world);
    // A legacy client on the aggregate, with the trace in its message.
    let mut session = world.session("/mcp").await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "one__echo", "arguments": {"text": "x"}, "_meta": {"traceparent": PARENT}}});
    assert_eq!(session.post(call.to_string()).await.status, StatusCode::OK);
    // A modern one at the server's own endpoint, with the trace in its headers.
    let mut client = world.client().await;
    let call = modern("2", "tools/call", "\"name\":\"nope\",");
    let headers = modern_headers(&call);
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let traced = [headers.clone(), vec![("traceparent", PARENT)]].concat();
    client.post("/servers/one/mcp", &traced, call.clone()).await;
    // Two of them are none.
    let twice = [
        headers,
        vec![("traceparent", PARENT), ("traceparent", PARENT)],
    ]
    .concat();
    client.post("/servers/one/mcp", &twice, call).await;
    let body = r#"{"tool":"echo","arguments":{"text":"admin"}}"#;
    door.ask(Method::POST, "/api/v1/servers/one/call", body)
        .await;
    let (_, told) = door.ask(Method::GET, "/api/v1/calls", "").await;
    let calls = told["calls"].as_array().unwrap();
    let member = |name: &str| {
        calls
            .iter()
            .map(|call| call[name].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        member("tool"),
        [json!("echo"), json!("nope"), json!("nope"), json!("echo")]
    );
    assert_eq!(
        member("exposed"),
        [json!("one__echo"), Value::Null, Value::Null, Value::Null]
    );
    assert_eq!(
        member("client"),
        [json!("t/1"), Value::Null, Value::Null, Value::Null]
    );
    assert_eq!(
        member("endpoint"),
        ["/mcp", "/servers/one/mcp", "/servers/one/mcp", "admin"].map(Value::from)
    );
    assert_eq!(
        member("traceId"),
        [json!(TRACE), json!(TRACE), Value::Null, Value::Null]
    );
    assert_eq!(
        member("outcome"),
        ["answered", "serverError", "serverError", "answered"].map(Value::from)
    );
    assert!(calls.iter().all(|call| call.get("arguments").is_none()));
    // Filters, on what was and on what comes.
    let (_, told) = door
        .ask(Method::GET, "/api/v1/calls?tool=one__echo", "")
        .await;
    assert_eq!(told["calls"].as_array().unwrap().len(), 1);
    let (_, told) = door
        .ask(
            Method::GET,
            "/api/v1/calls?outcome=serverError,refused&recent=1",
            "",
        )
        .await;
    assert_eq!(told["calls"].as_array().unwrap().len(), 1);
    let path = "/api/v1/calls?follow=1&tool=echo&recent=1";
    let mut follow = Events::of(open(&door.path(), Method::GET, path, "").await);
    assert_eq!(follow.json().await["endpoint"], "admin");
    door.ask(
        Method::POST,
        "/api/v1/servers/one/call",
        r#"{"tool":"nope"}"#,
    )
    .await;
    door.ask(Method::POST, "/api/v1/servers/one/call", body)
        .await;
    let next = follow.json().await;
    assert_eq!(
        (&next["tool"], &next["outcome"]),
        (&json!("echo"), &json!("answered"))
    );
    drop(follow);
    // One server in full, and the journal behind it all.
    let (_, one) = door.ask(Method::GET, "/api/v1/servers/one", "").await;
    assert_eq!(one["calls"].as_array().unwrap().len(), 6);
    assert!(
        one["timeline"]
            .as_array()
            .unwrap()
            .iter()
            .any(|step| step["to"] == "connected")
    );
    let mut records = json!([]);
    let mut answer = Value::Null;
    for _ in 0..1_000 {
        answer = door
            .ask(Method::GET, "/api/v1/journal?kind=calls", "")
            .await
            .1;
        records = answer["records"].clone();
        if records.as_array().unwrap().len() == 6 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(records.as_array().unwrap().len(), 6, "{answer}");
    assert_eq!(records[0]["traceId"], TRACE);
    let (_, events) = door
        .ask(
            Method::GET,
            "/api/v1/journal?kind=events&server=one&limit=1",
            "",
        )
        .await;
    assert_eq!(events["truncated"], true, "{events}");
    let (_, status) = door.ask(Method::GET, "/api/v1/status", "").await;
    assert_eq!(status["journal"]["lost"], 0, "{status}");
    door.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn past_events_are_filtered_by_server_and_time() {
    let world = World::start([stdio("one", &[]), stdio("two", &[])]).await;
    let door = Door::open(&world);
    let path = "/api/v1/events?server=two&since=0";
    let mut events = Events::of(open(&door.path(), Method::GET, path, "").await);
    for _ in 0..2 {
        assert_eq!(events.json().await["server"], "two");
    }
    let now = world.manager.recent_events().last().unwrap().at_unix_ms + 1_000_000;
    let path = format!("/api/v1/events?since={now}&recent=100");
    let mut none = Events::of(open(&door.path(), Method::GET, &path, "").await);
    // Nothing of the past; what happens now is before that moment too, so that silence is all there is.
    let later = tokio::time::timeout(std::time::Duration::from_millis(50), none.next());
    world
        .manager
        .server("one")
        .unwrap()
        .restart()
        .await
        .unwrap();
    assert!(later.await.is_err());
    drop((events, none));
    door.close().await;
    world.end().await;
}

/// `mainstay serve`, killed when dropped.
struct Serving {
    child: Child,
    address: std::net::SocketAddr,
}

impl Serving {
    fn start(home: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mainstay"))
            .args(["serve", "--listen", "127.0.0.1:0", "--config", "mcp.json"])
            .args(["--state-dir", "state", "--socket", "s"])
            .current_dir(home)
            .env("HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut ready).unwrap();
        let address = ready
            .split("http://")
            .nth(1)
            .and_then(|rest| rest.split('/').next());
        Self {
            child,
            address: address
                .unwrap_or_else(|| panic!("{ready}"))
                .parse()
                .unwrap(),
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_survives_a_kill_in_the_middle_of_traffic() {
    let home = tempfile::tempdir().unwrap();
    let config = json!({"mcpServers": {"one": {"command": misbehave()}}});
    std::fs::write(home.path().join("mcp.json"), config.to_string()).unwrap();
    let dir = home.path().join("state/journal");
    let calls = Query {
        kind: Some(Kind::Calls),
        ..Query::default()
    };
    let kept = || journal::read(&dir, &calls).unwrap().records.len();
    let mut before = 0;
    for round in 1..=3 {
        let mut serving = Serving::start(home.path());
        let address = serving.address;
        let traffic = tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let call = modern("1", "tools/call", "\"name\":\"one__echo\",");
            loop {
                client.modern("/mcp", &call).await;
            }
        });
        wait_until("records on the disk", || kept() > before + 50).await;
        let seen = kept();
        serving.kill();
        traffic.abort();
        let _ = traffic.await;
        let page = journal::read(&dir, &Query::default()).unwrap();
        assert!(
            page.records.len() > seen,
            "what was there stays, and the beginnings"
        );
        let started = page
            .records
            .iter()
            .filter(|line| line.get().contains("\"started\""));
        assert_eq!(started.count(), round);
        before = kept();
        assert!(before >= seen);
    }
    // The next one shows what those before it have seen.
    let serving = Serving::start(home.path());
    let response = open(
        &home.path().join("s"),
        Method::GET,
        "/api/v1/journal?kind=calls&limit=10",
        "",
    )
    .await;
    let body = tokio::time::timeout(PATIENCE, response.into_body().collect());
    let body = body.await.unwrap().unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let tools = body["records"].as_array().unwrap().iter();
    assert_eq!(
        tools
            .filter(|record| record["exposed"] == "one__echo")
            .count(),
        10
    );
    assert_eq!(body["truncated"], true);
    drop(serving);
}
