//! The admin API over a local socket.

use std::path::Path;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use mainstay::config::ServerConfig;
use mainstay_gateway::admin;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::support::{Events, PATIENCE, World, stdio};

pub(crate) struct Door {
    dir: tempfile::TempDir,
    ending: CancellationToken,
    served: JoinHandle<()>,
}

impl Door {
    pub(crate) fn open(world: &World) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let ending = CancellationToken::new();
        let served = tokio::spawn(admin::serve_unix(
            listener,
            admin::router(world.gateway.clone()),
            ending.clone(),
        ));
        Self {
            dir,
            ending,
            served,
        }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("s")
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
        let response = open(&self.path(), method, path, body).await;
        let status = response.status();
        let body = tokio::time::timeout(PATIENCE, response.into_body().collect())
            .await
            .unwrap()
            .unwrap()
            .to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub(crate) async fn close(self) {
        self.ending.cancel();
        tokio::time::timeout(PATIENCE, self.served)
            .await
            .expect("the socket did not end")
            .unwrap();
    }
}

pub(crate) async fn open(
    socket: &Path,
    method: Method,
    path: &str,
    body: &str,
) -> http::Response<Incoming> {
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost");
    let request = request
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    tokio::time::timeout(PATIENCE, sender.send_request(request))
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_around() {
    let world = World::start([stdio("one", &[]), stdio("two", &["--era", "modern"])]).await;
    let door = Door::open(&world);
    let _session = world.session("/mcp").await;
    let (status, overview) = door.ask(Method::GET, "/api/v1/status", "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&overview["sessions"], &overview["servers"][0]["name"]),
        (&json!(1), &json!("one"))
    );
    assert_eq!(
        (
            &overview["servers"][1]["state"],
            &overview["servers"][1]["protocol"]
        ),
        (&json!("connected"), &json!("2026-07-28"))
    );
    let (_, one) = door.ask(Method::GET, "/api/v1/servers/one", "").await;
    assert!(
        one["catalog"]["tools"]
            .as_array()
            .unwrap()
            .contains(&json!("echo")),
        "{one}"
    );
    assert!(
        one["events"]
            .as_array()
            .unwrap()
            .iter()
            .all(|event| event["server"] == "one"),
        "{one}"
    );
    let (_, tools) = door.ask(Method::GET, "/api/v1/tools", "").await;
    let echo = tools["tools"]
        .as_array()
        .unwrap()
        .iter()
        .find(|tool| tool["exposed"] == "two__echo")
        .unwrap();
    assert_eq!(
        (&echo["server"], &echo["name"], &echo["tool"]["name"]),
        (&json!("two"), &json!("echo"), &json!("two__echo"))
    );
    for path in ["/api/v1/servers/nope", "/api/v1/nope", "/"] {
        let (status, refused) = door.ask(Method::GET, path, "").await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(refused["error"]["message"].is_string(), "{refused}");
    }
    let (_, refused) = door.ask(Method::GET, "/api/v1/servers/nope", "").await;
    assert_eq!(refused["error"]["hint"], "configured are: one, two");
    door.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_5_orders() {
    let world = World::start([stdio("one", &[])]).await;
    let door = Door::open(&world);
    let (status, disabled) = door
        .ask(Method::POST, "/api/v1/servers/one/disable", "")
        .await;
    assert_eq!((status, &disabled["name"]), (StatusCode::OK, &json!("one")));
    assert!(
        world.manager.publication().servers.is_empty(),
        "unpublished when it returns"
    );
    door.ask(Method::POST, "/api/v1/servers/one/enable", "")
        .await;
    let first = world
        .until("one", |status| status.state == "connected")
        .await;
    door.ask(Method::POST, "/api/v1/servers/one/restart", "")
        .await;
    world
        .until("one", |status| {
            status.state == "connected" && status.generation > first.generation
        })
        .await;
    let (status, _) = door
        .ask(Method::POST, "/api/v1/servers/one/explode", "")
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    door.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_16_calls_and_their_outcomes() {
    let world = World::start([stdio("one", &[])]).await;
    let door = Door::open(&world);
    let path = "/api/v1/servers/one/call";
    let (status, answered) = door
        .ask(
            Method::POST,
            path,
            r#"{"tool":"echo","arguments":{"text":"hi"}}"#,
        )
        .await;
    assert_eq!(
        (
            status,
            &answered["outcome"],
            &answered["result"]["content"][0]["text"]
        ),
        (StatusCode::OK, &json!("answered"), &json!("hi"))
    );
    assert_eq!(answered["attempts"], 1);
    let (status, answered) = door.ask(Method::POST, path, r#"{"tool":"nope"}"#).await;
    assert_eq!(
        (status, &answered["outcome"], &answered["error"]["code"]),
        (StatusCode::OK, &json!("answered"), &json!(-32602))
    );
    let (status, unknown) = door
        .ask(
            Method::POST,
            path,
            r#"{"tool":"slow","arguments":{"ms":60000},"timeoutMs":50}"#,
        )
        .await;
    assert_eq!(
        (status, &unknown["outcome"]),
        (StatusCode::GATEWAY_TIMEOUT, &json!("unknown")),
        "{unknown}"
    );
    let (status, bad) = door.ask(Method::POST, path, r#"{"tol":"echo"}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        bad["error"]["message"].as_str().unwrap().contains("tol"),
        "{bad}"
    );
    world
        .manager
        .server("one")
        .unwrap()
        .disable()
        .await
        .unwrap();
    let (status, refused) = door.ask(Method::POST, path, r#"{"tool":"echo"}"#).await;
    assert_eq!(
        (status, &refused["outcome"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("refused"))
    );
    assert_eq!(refused["error"]["data"]["server"], "one");
    door.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_followed_into_the_next_process() {
    let script = "echo first line >&2; exec \"$0\"";
    let server =
        ServerConfig::stdio("one", "/bin/sh").args(["-c", script, &super::support::misbehave()]);
    let world = World::start([server]).await;
    let door = Door::open(&world);
    let one = world.manager.server("one").unwrap();
    super::support::wait_until("stderr arrived", || !one.stderr_tail(1).is_empty()).await;
    let (_, logs) = door
        .ask(Method::GET, "/api/v1/servers/one/logs?lines=5", "")
        .await;
    assert_eq!(logs, json!({"lines": ["first line"]}));
    let mut events = Events::of(
        open(
            &door.path(),
            Method::GET,
            "/api/v1/servers/one/logs?lines=5&follow=1",
            "",
        )
        .await,
    );
    assert_eq!(events.json().await, json!({"line": "first line"}));
    one.restart().await.unwrap();
    assert_eq!(
        events.json().await,
        json!({"line": "first line"}),
        "of the next process"
    );
    door.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_streamed_as_they_happen() {
    let world = World::start([stdio("one", &[])]).await;
    let door = Door::open(&world);
    let mut events =
        Events::of(open(&door.path(), Method::GET, "/api/v1/events?recent=1", "").await);
    let past = events.json().await;
    assert_eq!(past["server"], "one");
    world
        .manager
        .server("one")
        .unwrap()
        .restart()
        .await
        .unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&json!("connected")) {
        let event = events.json().await;
        if event["type"] == "transition" {
            seen.push(event["to"].clone());
        }
    }
    assert!(seen.contains(&json!("connecting")), "{seen:?}");
    door.close().await;
    world.end().await;
}
