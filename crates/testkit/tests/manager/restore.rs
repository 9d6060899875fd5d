//! What every new connection is told again: log level, subscriptions, roots (law 25, F110), on all transports.

use mainstay::config::{Config, ServerConfig};
use mainstay::{EventKind, LogLevel, Manager, Root, ServerHandle, Update, Updates, WishError};
use mainstay_testkit::http_server::{Fault, HttpServer, Script};
use serde_json::json;

use super::harness::*;

fn roots(name: &str) -> Vec<Root> {
    vec![Root {
        uri: format!("file:///{name}"),
        name: Some(name.to_owned()),
    }]
}

async fn restored(server: &ServerHandle) {
    within("everything to be told", server.restored()).await;
}

/// The next changed resource and whether it is only feared to have changed.
async fn changed(updates: &mut Updates) -> (String, bool) {
    let update = within("an update", updates.next()).await;
    let Update::Resource { uri, maybe } = update else {
        panic!("{update:?}");
    };
    (uri.into(), maybe)
}

async fn fake(mut script: Script) -> HttpServer {
    script.subscriptions = true;
    HttpServer::start(script).await.unwrap()
}

async fn connect(config: ServerConfig) -> (Manager, ServerHandle) {
    let manager = start([config]).await;
    let server = manager.server("s").unwrap();
    generation(&server, 1).await;
    (manager, server)
}

/// The bodies of the requests of one method that a fake server saw.
fn bodies(fake: &HttpServer, method: &str) -> Vec<String> {
    let seen = fake.ledger().seen_of(method);
    seen.into_iter().map(|seen| seen.body).collect()
}

#[tokio::test]
async fn law_25_f110_a_restarted_process_is_told_level_subscriptions_and_roots_again() {
    let bench = Bench::new();
    let manager = start([bench.server("s", &["--wishes"])]).await;
    let server = manager.server("s").unwrap();
    // Wishes may come before the server is there.
    server.set_log_level(LogLevel::Warning);
    server.set_roots(roots("one")).unwrap();
    server.subscribe("x:a").unwrap();
    server.subscribe("x:b").unwrap();
    server.subscribe("x:b").unwrap();
    let mut updates = server.updates();
    // The first start may have been greeted before the roots were there.
    generation(&server, 1).await;
    restored(&server).await;
    within("restart", server.restart()).await.unwrap();
    for round in 2..=3 {
        let status = generation(&server, round).await;
        restored(&server).await;
        let pid = status.pid.unwrap();
        let told = |event: &str| -> Vec<String> {
            let ledger = bench.ledger("s").into_iter();
            ledger
                .filter(|(by, what, _)| *by == pid && what == event)
                .map(|(.., detail)| detail)
                .collect()
        };
        assert_eq!(told("level"), ["warning"], "round {round}");
        assert_eq!(
            told("subscribe"),
            ["x:a", "x:b"],
            "round {round}: each once"
        );
        assert_eq!(told("declared"), ["true"], "round {round}");
        until("the roots", || {
            told("roots") == ["[{\"name\":\"one\",\"uri\":\"file:///one\"}]"]
        })
        .await;
        assert_eq!(changed(&mut updates).await, ("x:a".to_owned(), true));
        assert_eq!(changed(&mut updates).await, ("x:b".to_owned(), true));
        call(&server, "touch", json!({"uri": "x:a"})).await.unwrap();
        assert_eq!(changed(&mut updates).await, ("x:a".to_owned(), false));
        // Three notices were sent; however many of them met the look above, no more than the rest is left.
        while updates.try_next().is_some() {}
        if round == 2 {
            kill(pid);
        }
    }
    assert!(server.unsubscribe("x:b"), "one of two");
    assert!(server.unsubscribe("x:a"));
    restored(&server).await;
    assert_eq!(bench.count_of("s", "unsubscribe", "x:a"), 1);
    assert_eq!(bench.count_of("s", "unsubscribe", "x:b"), 0);
    server.set_roots(roots("two")).unwrap();
    until("the new roots", || {
        bench.count_of("s", "roots", "[{\"name\":\"two\",\"uri\":\"file:///two\"}]") == 1
    })
    .await;
    manager.shutdown().await;
}

#[tokio::test]
async fn law_25_f110_a_renewed_session_is_told_again_over_both_legacy_http_transports() {
    for old in [false, true] {
        let fake = fake(Script::legacy()).await;
        let config = if old {
            ServerConfig::sse("s", fake.sse_url().as_str())
        } else {
            ServerConfig::http("s", fake.url().as_str())
        };
        let (manager, server) = connect(quick(config)).await;
        let mut updates = server.updates();
        server.set_log_level(LogLevel::Error);
        server.subscribe("x:a").unwrap();
        restored(&server).await;
        // The session is lost under a call, which does not wait for anything but the greeting.
        if old {
            // Its stream stays open, or the call in flight would be lost with it.
            fake.change(|script| script.old.epoch += 1);
        } else {
            fake.forget_sessions();
        }
        let answer = call(&server, "echo", json!({"text": "x"})).await.unwrap();
        assert_eq!(text(&answer), "x");
        generation(&server, 2).await;
        assert_eq!(changed(&mut updates).await, ("x:a".to_owned(), true));
        restored(&server).await;
        assert_eq!(bodies(&fake, "resources/subscribe").len(), 2, "old: {old}");
        let levels = bodies(&fake, "logging/setLevel");
        assert_eq!(levels.len(), 2, "old: {old}");
        assert!(levels.iter().all(|body| body.contains("\"error\"")));
        // The push stream of the new session may still be on its way.
        within("the change", async {
            loop {
                fake.tell_updated("x:a");
                let next =
                    tokio::time::timeout(std::time::Duration::from_millis(20), updates.next());
                if let Ok(update) = next.await {
                    assert!(matches!(update, Update::Resource { maybe: false, .. }));
                    break;
                }
            }
        })
        .await;
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn law_25_f110_roots_are_declared_answered_and_told_over_http() {
    for old in [false, true] {
        let fake = fake(Script::legacy()).await;
        let config = if old {
            ServerConfig::sse("s", fake.sse_url().as_str())
        } else {
            ServerConfig::http("s", fake.url().as_str())
        };
        let (manager, server) = connect(quick(config)).await;
        let declared = |body: &String| body.contains("\"roots\":{\"listChanged\":true}");
        assert!(
            !declared(&bodies(&fake, "initialize")[0]),
            "nothing to tell"
        );
        server.set_roots(roots("one")).unwrap();
        within("restart", server.restart()).await.unwrap();
        generation(&server, 2).await;
        restored(&server).await;
        assert!(declared(&bodies(&fake, "initialize")[1]), "old: {old}");
        assert!(bodies(&fake, "notifications/roots/list_changed").is_empty());
        server.set_roots(roots("two")).unwrap();
        restored(&server).await;
        assert_eq!(
            bodies(&fake, "notifications/roots/list_changed").len(),
            1,
            "old: {old}"
        );
        within("the answer", async {
            while !bodies(&fake, "").iter().any(|body| {
                body.contains("\"roots-")
                    && body.contains("{\"uri\":\"file:///two\",\"name\":\"two\"}")
            }) {
                fake.ask_roots();
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn law_25_f110_f130_a_modern_server_gets_the_level_with_each_request_and_one_listen_filter() {
    let fake = fake(Script::modern()).await;
    let (manager, server) = connect(quick(ServerConfig::http("s", fake.url().as_str()))).await;
    let mut updates = server.updates();
    server.set_log_level(LogLevel::Notice);
    server.subscribe("x:a").unwrap();
    server.subscribe("x:b").unwrap();
    restored(&server).await;
    let filter = || {
        let all = bodies(&fake, "subscriptions/listen");
        let mut with = all
            .into_iter()
            .filter(|body| body.contains("resourceSubscriptions"));
        with.next_back().unwrap_or_default()
    };
    assert!(filter().contains("[\"x:a\",\"x:b\"]"), "{}", filter());
    fake.tell_updated("x:b");
    // Whatever was feared at the change of the filter comes first.
    while changed(&mut updates).await != ("x:b".to_owned(), false) {}
    call(&server, "echo", json!({"text": "x"})).await.unwrap();
    let level = "\"io.modelcontextprotocol/logLevel\":\"notice\"";
    let called = bodies(&fake, "tools/call");
    assert!(called[0].contains(level), "{}", called[0]);
    // A caller's own level stays.
    let own = json!({"name": "echo", "arguments": {"text": "x"},
        "_meta": {"io.modelcontextprotocol/logLevel": "debug"}});
    let request = mainstay::Request::new("tools/call", Some(&own.to_string()));
    within("the call", server.request(request, limits(10_000, 10_000)))
        .await
        .unwrap();
    assert!(bodies(&fake, "tools/call")[1].contains("logLevel\":\"debug\""));
    // The streams end: the listen comes back, and says what may have been missed.
    fake.end_streams();
    assert!(changed(&mut updates).await.1);
    assert!(server.unsubscribe("x:a"));
    restored(&server).await;
    assert!(filter().contains("[\"x:b\"]"), "{}", filter());
    assert!(bodies(&fake, "resources/subscribe").is_empty());
    manager.shutdown().await;
}

#[tokio::test]
async fn law_25_f110_a_modern_process_gets_one_listen_filter_and_again_after_its_death() {
    let bench = Bench::new();
    let manager = start([bench.server("s", &["--wishes", "--era", "modern"])]).await;
    let server = manager.server("s").unwrap();
    server.subscribe("x:a").unwrap();
    let mut updates = server.updates();
    let first = generation(&server, 1).await;
    restored(&server).await;
    call(&server, "touch", json!({"uri": "x:a"})).await.unwrap();
    assert_eq!(changed(&mut updates).await, ("x:a".to_owned(), false));
    while updates.try_next().is_some() {}
    kill(first.pid.unwrap());
    generation(&server, 2).await;
    assert_eq!(changed(&mut updates).await, ("x:a".to_owned(), true));
    restored(&server).await;
    assert_eq!(bench.count_of("s", "listen", "[\"x:a\"]"), 2);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_25_f110_a_refused_restore_is_an_event_and_tried_again_and_hurts_no_call() {
    let fake = fake(Script::legacy()).await;
    fake.change(|script| {
        script.then(
            "resources/subscribe",
            Fault::Status {
                status: 200,
                headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                body: "{\"jsonrpc\":\"2.0\",\"id\":$ID,\"error\":{\"code\":-32002,\"message\":\"no such resource\"}}"
                    .to_owned(),
            },
        );
    });
    let (manager, server) = connect(quick(ServerConfig::http("s", fake.url().as_str()))).await;
    server.subscribe("x:a").unwrap();
    restored(&server).await;
    let told: Vec<_> = manager
        .recent_events()
        .into_iter()
        .filter_map(|event| {
            if let EventKind::RestoreFailed {
                what,
                detail,
                again_in_ms,
            } = event.kind
            {
                Some((what, detail, again_in_ms))
            } else {
                None
            }
        })
        .collect();
    assert_eq!(
        told,
        [(
            "subscription",
            "x:a: no such resource".to_owned(),
            Some(1_000)
        )]
    );
    assert_eq!(bodies(&fake, "resources/subscribe").len(), 2);
    let status = server.status();
    assert_eq!((status.state, status.generation), ("connected", 1));
    manager.shutdown().await;
}

#[tokio::test]
async fn law_30_subscriptions_beyond_the_limit_are_refused_with_the_setting() {
    let bench = Bench::new();
    let mut config = Config::from_servers([bench.server("s", &["--wishes"])]);
    config.gateway.limits.subscriptions = 1;
    let manager = Manager::builder().config(config).start().await.unwrap();
    let server = manager.server("s").unwrap();
    server.subscribe("x:a").unwrap();
    let refused = server.subscribe("x:b").unwrap_err();
    assert_eq!(refused, WishError::TooManySubscriptions { limit: 1 });
    assert!(
        refused
            .to_string()
            .contains("mainstay.limits.subscriptions")
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn law_25_a_server_without_subscriptions_is_not_asked_and_that_is_told() {
    let bench = Bench::new();
    let manager = start([bench.server("s", &[])]).await;
    let server = manager.server("s").unwrap();
    server.subscribe("x:a").unwrap();
    server.set_log_level(LogLevel::Debug);
    generation(&server, 1).await;
    restored(&server).await;
    assert_eq!(bench.count_of("s", "request", "resources/subscribe"), 0);
    assert_eq!(bench.count_of("s", "request", "logging/setLevel"), 0);
    let told = manager.recent_events().into_iter().any(|event| {
        matches!(
            event.kind,
            EventKind::RestoreFailed {
                again_in_ms: None,
                ..
            }
        )
    });
    assert!(told);
    manager.shutdown().await;
}
