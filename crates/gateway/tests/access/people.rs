//! Who is let in, and as whom.

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use mainstay_gateway::serve::{ServeError, check, serve};
use mainstay_gateway::{Gateway, GatewaySettings};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::rig::{Rig, bearer, get, open, ping, session};
use super::support::{Client, PATIENCE, World, stdio};

const MARK: (&str, &str) = ("mainstay-request", "1");

#[tokio::test(flavor = "multi_thread")]
async fn law_32_loopback_is_open_to_this_user_and_tokens_still_say_who() {
    let rig = Rig::with(|_| {}).await;
    let ann = rig.token("ann", &[]);
    let mut client = rig.client().await;
    let nobody = session(&open(&mut client, "/mcp", &[]).await);
    assert_eq!(
        ping(&mut client, &nobody, None).await.status,
        StatusCode::OK
    );
    // With a token it is another caller, whose sessions are its own.
    assert_eq!(
        ping(&mut client, &nobody, Some(&ann)).await.status,
        StatusCode::NOT_FOUND
    );
    let own = session(&open(&mut client, "/mcp", &[("authorization", &bearer(&ann))]).await);
    assert_eq!(
        ping(&mut client, &own, None).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        ping(&mut client, &own, Some(&ann)).await.status,
        StatusCode::OK
    );
    // A token that is worth nothing does not become this machine's user.
    rig.store.revoke("ann").unwrap();
    assert_eq!(
        ping(&mut client, &nobody, Some(&ann)).await.status,
        StatusCode::UNAUTHORIZED
    );
    // What is for somebody else is passed over.
    let reply = open(&mut client, "/mcp", &[("authorization", "Basic Y2k6eA==")]).await;
    assert_eq!(reply.status, StatusCode::OK);
    // What a proxy passed on may come from anywhere.
    for mark in ["x-forwarded-for", "forwarded", "via", "x-real-ip"] {
        let reply = open(&mut client, "/mcp", &[(mark, "192.0.2.1")]).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{mark}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_elsewhere_is_listened_on_only_with_a_way_to_say_who_one_is() {
    let rig = Rig::with(|_| {}).await;
    let everywhere = || async {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let mut settings = GatewaySettings::new(listener.local_addr().unwrap());
        settings.state_dir = Some(rig.dir.clone());
        (listener, settings)
    };
    let (listener, settings) = everywhere().await;
    assert!(matches!(check(&settings), Err(ServeError::NotLoopback(_))));
    let gateway = Gateway::new(rig.world.manager.clone(), settings);
    let refused =
        tokio::time::timeout(PATIENCE, serve(listener, gateway, CancellationToken::new()));
    let refused = refused.await.expect("it serves").unwrap_err().to_string();
    assert!(refused.contains("mainstay token create"), "{refused}");

    let ann = rig.token("ann", &["admin"]);
    let (listener, settings) = everywhere().await;
    check(&settings).unwrap();
    let port = settings.listen.port();
    let gateway = Gateway::new(rig.world.manager.clone(), settings);
    let ending = CancellationToken::new();
    let served = tokio::spawn(serve(listener, gateway, ending.clone()));
    let mut client = Client::connect(([127, 0, 0, 1], port).into()).await;
    for path in ["/mcp", "/metrics", "/api/v1/status"] {
        let reply = get(&mut client, path, &[]).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(
        get(&mut client, "/healthz", &[]).await.status,
        StatusCode::OK
    );
    let own = bearer(&ann);
    for path in ["/metrics", "/api/v1/status", "/"] {
        let reply = get(&mut client, path, &[&own]).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {reply:?}");
    }
    session(&open(&mut client, "/mcp", &[("authorization", &own)]).await);
    ending.cancel();
    served.await.unwrap().unwrap();

    // A file of tokens that cannot be trusted is no way to say who one is.
    std::fs::write(rig.store.path(), "{").unwrap();
    let (_listener, settings) = everywhere().await;
    let refused = check(&settings).unwrap_err().to_string();
    assert!(refused.contains("access-tokens.json"), "{refused}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_the_dashboard_and_the_api_are_for_administrators() {
    let rig = Rig::with(|access| {
        access.required = mainstay::config::Required::Always;
        access.admin_groups = vec!["ops".to_owned()];
    })
    .await;
    let mut client = rig.client().await;
    let dashboard = std::fs::read_to_string(rig.dir.join("dashboard-token"));
    assert!(dashboard.is_err(), "made when it is first asked for");
    assert_eq!(
        get(&mut client, "/", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    let dashboard = std::fs::read_to_string(rig.dir.join("dashboard-token")).unwrap();
    let of = |groups: serde_json::Value| rig.signed_with("ada", &json!({ "groups": groups }));
    for (token, status) in [
        (dashboard.trim().to_owned(), 200),
        (rig.token("root", &["admin"]), 200),
        (rig.token("ops", &["ops"]), 403),
        (rig.token("plain", &[]), 403),
        (of(json!(["ops", "dev"])), 200),
        // What an issuer calls admins is nothing to us.
        (of(json!(["admin"])), 403),
        (of(json!("ops")), 200),
        (of(json!([])), 403),
        ("mst_guess".to_owned(), 401),
    ] {
        let own = bearer(&token);
        for path in ["/", "/api/v1/status", "/api/v1/tokens"] {
            let reply = get(&mut client, path, &[&own]).await;
            assert_eq!(reply.status.as_u16(), status, "{path} {token}: {reply:?}");
        }
    }
    // Whoever may, makes and revokes tokens; the token is in that one answer.
    let root = bearer(&rig.token("second", &["admin"]));
    let headers = [("authorization", root.as_str()), MARK];
    let made = client
        .send(
            Method::POST,
            "/api/v1/tokens",
            &headers,
            r#"{"name":"made"}"#,
        )
        .await;
    let made = made.json();
    let token = made["token"].as_str().unwrap().to_owned();
    let list = get(&mut client, "/api/v1/tokens", &[&root]).await;
    assert!(
        list.body.contains("\"made\"") && !list.body.contains(&token),
        "{list:?}"
    );
    let id = session(&open(&mut client, "/mcp", &[("authorization", &bearer(&token))]).await);
    let path = format!("/api/v1/tokens/{}/revoke", made["id"].as_str().unwrap());
    let revoked = client.send(Method::POST, &path, &headers, "").await;
    assert_eq!(revoked.json()["state"], "revoked");
    assert_eq!(
        ping(&mut client, &id, Some(&token)).await.status,
        StatusCode::UNAUTHORIZED
    );
    // Ending Mainstay stays with the local socket.
    let stop = client
        .send(Method::POST, "/api/v1/stop", &headers, "")
        .await;
    assert_eq!(stop.status, StatusCode::FORBIDDEN);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_readiness_names_nobody_to_strangers_and_metrics_can_be_opened() {
    let mut broken = stdio("broken", &["--no-such-flag"]);
    broken.required = true;
    let rig = World::start_with([broken], |settings| {
        settings.access.required = mainstay::config::Required::Always;
        settings.access.metrics_open = true;
    })
    .await;
    let mut client = rig.client().await;
    let reply = get(&mut client, "/readyz", &[]).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.body, r#"{"status":"not ready"}"#);
    assert_eq!(
        get(&mut client, "/metrics", &[]).await.status,
        StatusCode::OK
    );
    assert_eq!(
        open(&mut client, "/mcp", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    rig.end().await;
}

/// A stream that was opened with a token is worth no more than the token (F212).
#[tokio::test(flavor = "multi_thread")]
async fn law_32_a_stream_ends_with_the_token_that_opened_it() {
    let rig = Rig::closed().await;
    let (ann, root) = (rig.token("ann", &[]), rig.token("root", &["admin"]));
    let own = bearer(&ann);
    let mut client = rig.client().await;
    let id = session(&open(&mut client, "/mcp", &[("authorization", &own)]).await);
    let headers = [
        ("authorization", own.as_str()),
        ("accept", "text/event-stream"),
        ("mcp-session-id", id.as_str()),
    ];
    let mut listening = rig.client().await;
    let stream = listening.open(Method::GET, "/mcp", &headers, "").await;
    assert_eq!(stream.status(), StatusCode::OK);
    // Another token changes nothing for this one.
    rig.token("bob", &[]);
    assert_eq!(
        ping(&mut client, &id, Some(&ann)).await.status,
        StatusCode::OK
    );
    let root = bearer(&root);
    let headers = [("authorization", root.as_str()), MARK];
    let revoked = client
        .send(Method::POST, "/api/v1/tokens/ann/revoke", &headers, "")
        .await;
    assert_eq!(revoked.status, StatusCode::OK, "{revoked:?}");
    let ended = tokio::time::timeout(PATIENCE, stream.into_body().collect()).await;
    drop(ended.expect("the stream stays open"));
    rig.end().await;
}
