//! The dashboard and the admin API on the TCP port: who gets in, and what every answer says to a browser (law 32).

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::support::{Client, Events, Reply, World, stdio};

const MARK: (&str, &str) = ("mainstay-request", "1");
const STATUS: &str = "/api/v1/status";

async fn get(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Reply {
    client.send(Method::GET, path, headers, "").await
}

/// Method, path and headers of a request.
type Asked<'a> = (Method, &'a str, &'a [(&'a str, &'a str)]);

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_the_api_are_on_the_port_of_mcp() {
    let world = World::start([stdio("one", &[])]).await;
    let mut client = world.client().await;
    let page = get(&mut client, "/", &[]).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "script-src 'sha256-",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let status = get(&mut client, STATUS, &[]).await;
    assert_eq!(status.json()["servers"][0]["name"], "one");
    for answer in [&page, &status] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let order = client
        .send(Method::POST, "/api/v1/servers/one/disable", &[MARK], "")
        .await;
    assert_eq!(order.status, StatusCode::OK, "{order:?}");
    let mut events = Events::of(
        world
            .client()
            .await
            .open(Method::GET, "/api/v1/events?recent=1", &[], "")
            .await,
    );
    assert_eq!(events.json().await["server"], "one");
    let unknown = get(&mut client, "/api/v1/nope", &[]).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert!(unknown.json()["error"]["message"].is_string());
    world.end().await;
}

/// Each line is one request, what it says, and what must become of it.
#[tokio::test(flavor = "multi_thread")]
async fn law_32_f246_other_web_pages_neither_look_nor_order() {
    let world = World::start([stdio("one", &[])]).await;
    let mut client = world.client().await;
    let own = format!("http://{}", world.address);
    let own = own.as_str();
    let order = "/api/v1/servers/one/restart";
    let generation = world.manager.server("one").unwrap().status().generation;
    let refused: &[Asked<'_>] = &[
        // What a form of another page sends, and what a script may send without asking.
        (Method::POST, order, &[]),
        (
            Method::POST,
            order,
            &[
                ("origin", "http://localhost:1"),
                ("content-type", "text/plain"),
            ],
        ),
        // Another port of this machine is another origin, whatever else it says.
        (
            Method::POST,
            order,
            &[MARK, ("origin", "http://localhost:1")],
        ),
        (Method::POST, order, &[MARK, ("origin", "null")]),
        (
            Method::POST,
            order,
            &[MARK, ("origin", "https://evil.example")],
        ),
        (
            Method::POST,
            order,
            &[MARK, ("sec-fetch-site", "cross-site")],
        ),
        (
            Method::POST,
            order,
            &[MARK, ("sec-fetch-site", "same-site")],
        ),
        (Method::GET, STATUS, &[("sec-fetch-site", "same-site")]),
        (
            Method::GET,
            STATUS,
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
        ),
        (Method::GET, STATUS, &[("origin", "http://localhost:1")]),
        (Method::GET, STATUS, &[("host", "evil.example")]),
        (
            Method::GET,
            "/",
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "iframe"),
            ],
        ),
        (
            Method::GET,
            "/",
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "no-cors"),
                ("sec-fetch-dest", "script"),
            ],
        ),
    ];
    for (method, path, headers) in refused {
        let reply = client.send(method.clone(), path, headers, "").await;
        assert_eq!(
            reply.status,
            StatusCode::FORBIDDEN,
            "{path} {headers:?}: {reply:?}"
        );
    }
    // A browser that asks whether it may is not told that it may.
    let asked = [
        ("origin", "http://localhost:1"),
        ("access-control-request-headers", "mainstay-request"),
        ("access-control-request-method", "POST"),
    ];
    let reply = client.send(Method::OPTIONS, order, &asked, "").await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(
        reply
            .headers
            .keys()
            .all(|name| !name.as_str().starts_with("access-control")),
        "{reply:?}"
    );
    assert_eq!(
        world.manager.server("one").unwrap().status().generation,
        generation
    );
    let passed: &[Asked<'_>] = &[
        (Method::POST, order, &[MARK]),
        (
            Method::POST,
            order,
            &[MARK, ("origin", own), ("sec-fetch-site", "same-origin")],
        ),
        (Method::GET, STATUS, &[("sec-fetch-site", "same-origin")]),
        (Method::GET, STATUS, &[("sec-fetch-site", "none")]),
        (
            Method::GET,
            "/",
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
        ),
    ];
    for (method, path, headers) in passed {
        let reply = client.send(method.clone(), path, headers, "").await;
        assert_eq!(
            reply.status,
            StatusCode::OK,
            "{path} {headers:?}: {reply:?}"
        );
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_whoever_may_come_from_another_machine_needs_the_token() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("dashboard-token");
    let world = World::start_with([stdio("one", &[])], |settings| {
        settings.allowed_hosts = vec!["box.lan".to_owned()];
        settings.state_dir = Some(state.path().to_owned());
    })
    .await;
    let mut client = world.client().await;
    // From here, it asks for nothing, and there is no token to lose.
    assert_eq!(get(&mut client, STATUS, &[]).await.status, StatusCode::OK);
    assert!(!file.exists());
    let host = ("host", "box.lan");
    for mark in [
        host,
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
        ("via", "1.1 proxy"),
    ] {
        for path in ["/", STATUS] {
            let reply = get(&mut client, path, &[mark]).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{path} {mark:?}");
            assert!(reply.header("www-authenticate").is_some());
            assert!(
                reply.body.contains("dashboard-token"),
                "says where it is: {reply:?}"
            );
        }
    }
    let token = std::fs::read_to_string(&file).unwrap();
    let token = token.trim();
    let bearer = format!("Bearer {token}");
    let reply = get(&mut client, STATUS, &[host, ("authorization", &bearer)]).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    for wrong in [
        "Bearer",
        "Bearer x",
        &format!("Basic {token}"),
        &format!("Bearer {token}x"),
        token,
    ] {
        let reply = get(&mut client, STATUS, &[host, ("authorization", wrong)]).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    let reply = get(&mut client, "/?token=wrong", &[host]).await;
    assert_eq!(
        (reply.status, reply.header("set-cookie")),
        (StatusCode::UNAUTHORIZED, None)
    );
    let reply = get(&mut client, &format!("/?token={token}"), &[host]).await;
    assert_eq!(
        (reply.status, reply.header("location")),
        (StatusCode::SEE_OTHER, Some("/"))
    );
    let cookie = reply.header("set-cookie").unwrap().to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let cookie = format!("other=1; {}", cookie.split(';').next().unwrap());
    let page = get(&mut client, "/", &[host, ("cookie", &cookie)]).await;
    assert_eq!(page.status, StatusCode::OK);
    // The token lets in; it does not make another page ours.
    let reply = client
        .send(
            Method::POST,
            "/api/v1/servers/one/restart",
            &[host, ("cookie", &cookie), ("origin", "http://evil.example")],
            "",
        )
        .await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert!(!page.body.contains(token));
    world.end().await;
}

/// A gateway inside another server cannot know who asks, unless it is told.
#[tokio::test(flavor = "multi_thread")]
async fn law_32_an_embedded_gateway_asks_for_the_token_unless_told_who_asks() {
    let world = World::start_with([], |_| {}).await;
    let ask = |peer: Option<&str>| {
        let mut request = http::Request::get(STATUS)
            .header("host", "localhost")
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        if let Some(peer) = peer {
            let peer: std::net::SocketAddr = peer.parse().unwrap();
            request
                .extensions_mut()
                .insert(axum::extract::ConnectInfo(peer));
        }
        world.gateway.handle(request)
    };
    assert_eq!(ask(None).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        ask(Some("192.0.2.1:9")).await.status(),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(ask(Some("127.0.0.1:9")).await.status(), StatusCode::OK);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_does_not_stop_mainstay_and_can_be_without_all_this() {
    let world = World::start_with([], |_| {}).await;
    let mut client = world.client().await;
    for path in [
        "/api/v1/stop",
        "/api/v1/stop/",
        "/api/v1/%73top",
        "/api/v1//stop",
    ] {
        let reply = client.send(Method::POST, path, &[MARK], "").await;
        assert!(reply.status.is_client_error(), "{path}: {reply:?}");
    }
    assert!(!world.gateway.stop_asked().is_cancelled());
    let told: Value = client
        .send(Method::POST, "/api/v1/stop", &[MARK], "")
        .await
        .json();
    assert_eq!(told["error"]["hint"], json!("run `mainstay stop`"));
    world.end().await;
    let world = World::start_with([], |settings| settings.dashboard = false).await;
    let mut client = world.client().await;
    for path in ["/", STATUS, "/api/v1/openapi.json"] {
        assert_eq!(
            get(&mut client, path, &[]).await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    world.end().await;
}
