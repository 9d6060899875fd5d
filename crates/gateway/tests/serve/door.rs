//! Below the level of messages: who may talk to the door, and in what form.

use http::{Method, StatusCode};
use mainstay_gateway::serve::{ServeError, serve};
use mainstay_gateway::{Gateway, GatewaySettings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::support::{BOTH, PATIENCE, World, stdio};

const PING: &str = r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn law_32_f246_foreign_hosts_and_origins_are_turned_away() {
    let world = World::start([]).await;
    let mut client = world.client().await;
    for (method, path) in [
        (Method::POST, "/mcp"),
        (Method::GET, "/mcp"),
        (Method::GET, "/healthz"),
        (Method::GET, "/nowhere"),
    ] {
        for foreign in [
            ("host", "evil.example"),
            ("origin", "http://evil.example"),
            ("origin", "null"),
        ] {
            let headers = [
                foreign,
                ("content-type", "application/json"),
                ("accept", BOTH),
            ];
            let reply = client.send(method.clone(), path, &headers, PING).await;
            assert_eq!(
                reply.status,
                StatusCode::FORBIDDEN,
                "{method} {path} {foreign:?}"
            );
        }
    }
    let own = [("origin", "http://localhost:6274"), ("host", "localhost:1")];
    assert_eq!(
        client.send(Method::GET, "/healthz", &own, "").await.status,
        StatusCode::OK
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_only_loopback_is_listened_on() {
    let world = World::start([]).await;
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let gateway = Gateway::new(world.manager.clone(), GatewaySettings::default());
    let served = serve(listener, gateway, CancellationToken::new());
    let refused = tokio::time::timeout(PATIENCE, served)
        .await
        .expect("it serves")
        .unwrap_err();
    assert!(matches!(refused, ServeError::NotLoopback(_)));
    assert!(
        refused.to_string().contains("127.0.0.1"),
        "the remedy is named"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_and_media_types() {
    let world = World::start([]).await;
    let mut client = world.client().await;
    for method in [Method::PUT, Method::PATCH, Method::OPTIONS, Method::HEAD] {
        let reply = client
            .send(method.clone(), "/mcp", &[("accept", BOTH)], "")
            .await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("allow")),
            (405, Some("GET, POST, DELETE")),
            "{method}"
        );
    }
    let json = ("content-type", "application/json");
    for (accept, status) in [
        (BOTH, 400),
        ("text/event-stream;q=0.5 , application/json;x=y", 400),
        ("*/*", 400),
        ("application/*,text/*", 400),
        ("application/json", 406),
        ("text/event-stream", 406),
        ("text/html", 406),
    ] {
        let reply = client
            .send(Method::POST, "/mcp", &[json, ("accept", accept)], PING)
            .await;
        assert_eq!(reply.status.as_u16(), status, "{accept}");
    }
    let modern = [
        json,
        ("accept", "application/json"),
        ("mcp-protocol-version", "2026-07-28"),
    ];
    let reply = client.send(Method::POST, "/mcp", &modern, PING).await;
    assert_eq!((reply.status.as_u16(), reply.body.as_str()), (406, ""));
    let reply = client.send(Method::POST, "/mcp", &[json], PING).await;
    assert_eq!(
        reply.status,
        StatusCode::BAD_REQUEST,
        "no Accept admits everything; only the session is missing"
    );
    for content_type in ["text/plain", "application/jsonp", ""] {
        let reply = client
            .send(
                Method::POST,
                "/mcp",
                &[("content-type", content_type), ("accept", BOTH)],
                PING,
            )
            .await;
        assert_eq!(
            reply.status,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "{content_type}"
        );
    }
    let charset = [
        ("content-type", "Application/JSON; charset=utf-8"),
        ("accept", BOTH),
    ];
    assert_eq!(
        client
            .send(Method::POST, "/mcp", &charset, PING)
            .await
            .status,
        StatusCode::BAD_REQUEST
    );
    let get = client
        .send(Method::GET, "/mcp", &[("accept", "application/json")], "")
        .await;
    assert_eq!(get.status, StatusCode::NOT_ACCEPTABLE);
    let get = client
        .send(Method::GET, "/mcp", &[("accept", BOTH)], "")
        .await;
    assert_eq!(
        (get.status.as_u16(), get.header("allow")),
        (405, Some("POST")),
        "no session, no push stream"
    );
    let get = client
        .send(
            Method::GET,
            "/mcp",
            &[("accept", BOTH), ("mcp-session-id", "nope")],
            "",
        )
        .await;
    assert_eq!(get.status, StatusCode::NOT_FOUND);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_30_what_breaks_a_limit_is_told_to_its_call() {
    let world = World::start_with([], |settings| settings.limits.message_bytes_max = 1_000).await;
    let mut client = world.client().await;
    let long = |bytes: usize| {
        format!(
            r#"{{"jsonrpc":"2.0","id":"big","method":"ping","params":{{"x":"{}"}}}}"#,
            "x".repeat(bytes)
        )
    };
    for bytes in [1_000, 3_000, 100_000] {
        let reply = client.post("/mcp", &[], long(bytes)).await;
        assert_eq!(reply.error(), (413, -32600, json!("big")), "{bytes}");
        assert!(
            reply.body.contains("limits.messageBytes"),
            "the setting is named: {}",
            reply.body
        );
        // A body that was not read to its end ends the connection; the next request needs another.
        client = world.client().await;
    }
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":"deep","method":"ping","params":{{"x":{}{}}}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    assert_eq!(
        client.post("/mcp", &[], deep).await.error(),
        (400, -32600, json!("deep"))
    );
    for (body, code, id) in [
        ("", -32700, Value::Null),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"ping\"",
            -32700,
            json!(3),
        ),
        ("\u{fffd}", -32700, Value::Null),
        ("7", -32600, Value::Null),
        ("{}", -32600, Value::Null),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}"#,
            -32600,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
            -32600,
            Value::Null,
        ),
        (
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
            -32600,
            Value::Null,
        ),
    ] {
        let reply = client.post("/mcp", &[], body).await;
        assert_eq!(reply.error(), (400, code, id), "{body}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_and_chunked_requests_are_understood() {
    let world = World::start([]).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAccept: {BOTH}\r\n",
        world.address
    );
    let (first, rest) = PING.split_at(7);
    let chunked = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
        first.len(),
        rest.len()
    );
    let whole = format!(
        "{head}Connection: close\r\nContent-Length: {}\r\n\r\n{PING}",
        PING.len()
    );
    stream
        .write_all(format!("{chunked}{whole}").as_bytes())
        .await
        .unwrap();
    let mut answers = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answers))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        answers.matches("HTTP/1.1 400 Bad Request").count(),
        2,
        "{answers}"
    );
    assert_eq!(answers.matches("\"id\":5").count(), 2, "{answers}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f21_readiness_names_the_required_servers_that_are_missing() {
    let mut needed = mainstay::config::ServerConfig::stdio("needed", "/no/such/program");
    needed.required = true;
    let world = World::start_with([needed, stdio("other", &[])], |_| {}).await;
    let mut client = world.client().await;
    let health = client.send(Method::GET, "/healthz", &[], "").await;
    assert_eq!(
        (health.status.as_u16(), health.body.as_str()),
        (200, r#"{"status":"ok"}"#)
    );
    world
        .until("needed", |status| status.state == "parked")
        .await;
    let ready = client.send(Method::GET, "/readyz", &[], "").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let ready = ready.json();
    assert_eq!(
        ready["missing"].as_array().unwrap().len(),
        1,
        "only required servers count: {ready}"
    );
    assert_eq!(
        (&ready["missing"][0]["name"], &ready["missing"][0]["state"]),
        (&json!("needed"), &json!("parked"))
    );
    assert!(
        ready["missing"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("/no/such/program"),
        "{ready}"
    );
    world.end().await;
    let mut needed = stdio("needed", &[]);
    needed.required = true;
    let world = World::start([needed]).await;
    let ready = world
        .client()
        .await
        .send(Method::GET, "/readyz", &[], "")
        .await;
    assert_eq!(
        (ready.status.as_u16(), ready.body.as_str()),
        (200, r#"{"status":"ready"}"#)
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_places_name_the_known_ones() {
    let world = World::start([stdio("time", &[])]).await;
    let mut client = world.client().await;
    let reply = client.post("/servers/tmie/mcp", &[], PING).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert!(
        reply.body.contains("tmie") && reply.body.contains("time"),
        "{}",
        reply.body
    );
    for path in [
        "/",
        "/servers",
        "/servers//mcp",
        "/servers/a/b/mcp",
        "/mcp/x",
    ] {
        assert_eq!(
            client.post(path, &[], PING).await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    assert_eq!(
        client.post("/servers/%74ime/mcp", &[], PING).await.status,
        StatusCode::BAD_REQUEST,
        "found: only the session is missing"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_6_closing_ends_streams_connections_and_idle_keepalives() {
    let mut world = World::start([stdio("one", &[])]).await;
    let mut session = world.session("/mcp").await;
    let _stream = session.get().await;
    let mut idle = world.client().await;
    idle.send(Method::GET, "/healthz", &[], "").await;
    let mut slow = world.session("/mcp").await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__slow","arguments":{"ms":200}}}"#;
    let answered = tokio::spawn(async move { slow.post(call).await });
    let one = world.manager.server("one").unwrap();
    super::support::wait_until("the call is on its way", || one.status().in_flight == 1).await;
    world.close().await;
    assert_eq!(
        answered.await.unwrap().json()["result"]["content"][0]["text"],
        "done",
        "what is on its way arrives"
    );
    assert!(
        TcpStream::connect(world.address).await.is_err(),
        "nobody listens any more"
    );
    world.manager.shutdown().await;
}
