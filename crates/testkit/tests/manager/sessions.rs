//! Sessions through the manager: lost in every dialect, lost by a proxy, lost again and again, and what survives.

use mainstay::config::{Replay, ServerConfig};
use mainstay::{CallError, EventKind, Manager, ServerHandle};
use mainstay_testkit::http_server::{Eras, Fault, HttpServer, LostDialect, Planned, Script};
use serde_json::json;

use super::harness::*;
use super::http::{connect, script};

async fn connect_with(
    fake: &HttpServer,
    change: impl FnOnce(&mut ServerConfig),
) -> (Manager, ServerHandle) {
    let mut config = quick(ServerConfig::http("h", fake.url().as_str()));
    change(&mut config);
    let manager = start([config]).await;
    let server = manager.server("h").unwrap();
    generation(&server, 1).await;
    (manager, server)
}

#[tokio::test]
async fn law_26_f105_f108_a_lost_session_costs_one_initialize_however_many_calls_meet_it() {
    for dialect in [
        LostDialect::NotFound,
        LostDialect::BadRequest,
        LostDialect::Gone,
        LostDialect::OkBody,
        LostDialect::OkStream,
        LostDialect::Wrapped,
    ] {
        let mut script = script(Eras::Legacy);
        script.lost = dialect;
        let fake = HttpServer::start(script).await.unwrap();
        let (manager, server) = connect(&fake).await;
        call(&server, "echo", json!({"text": "x"})).await.unwrap();
        fake.forget_sessions();
        let calls: Vec<_> = (0..32)
            .map(|number| {
                let server = server.clone();
                tokio::spawn(async move {
                    call(&server, "add_marker", json!({"marker": number.to_string()})).await
                })
            })
            .collect();
        for ended in calls {
            within("a call", ended)
                .await
                .unwrap()
                .unwrap_or_else(|error| panic!("{dialect:?}: {error}"));
        }
        let counts = fake.ledger().counts();
        assert_eq!(
            counts.initializes, 2,
            "{dialect:?}: one renewal for 32 calls"
        );
        assert!(
            counts.markers.values().all(|executions| *executions == 1),
            "{dialect:?}: nothing ran twice"
        );
        assert_eq!(counts.markers.len(), 32, "{dialect:?}");
        assert_eq!(
            server.status().charges,
            0,
            "law 7: a renewal of a proven session is not charged"
        );
        manager.shutdown().await;
    }
}

/// Answers of a proxy that lost the server's own: nothing in them is MCP.
const BARE: [&str; 3] = [
    "",
    "<html><title>404 Not Found</title></html>",
    r#"{"message":"Not Found"}"#,
];

fn ran_then_404(body: &str, forget: bool) -> Fault {
    Fault::RunThen {
        status: 404,
        headers: vec![("server".into(), "some-proxy".into())],
        body: body.into(),
        forget,
    }
}

#[tokio::test]
async fn law_16_f106_a_write_that_a_proxy_answers_with_404_never_runs_twice() {
    for forget in [false, true] {
        for body in BARE {
            let fake = HttpServer::start(script(Eras::Legacy)).await.unwrap();
            let (manager, server) = connect(&fake).await;
            call(&server, "echo", json!({"text": "x"})).await.unwrap();
            fake.change(|script| script.then("tools/call", ran_then_404(body, forget)));
            let ended = call(&server, "add_marker", json!({"marker": "write"})).await;
            assert!(
                matches!(ended, Err(CallError::Unknown(_))),
                "{forget} {body}: {ended:?}"
            );
            // The session counts as lost all the same, and the next call finds a new one.
            call(&server, "echo", json!({"text": "x"})).await.unwrap();
            generation(&server, 2).await;
            let counts = fake.ledger().counts();
            assert_eq!(counts.markers["write"], 1, "{forget} {body}");
            assert_eq!(counts.initializes, 2);
            manager.shutdown().await;
            // F112: the session that was only called lost is ended too.
            assert_eq!(fake.sessions(), 0);
        }
    }
}

#[tokio::test]
async fn f106_a_doubtful_404_is_replayed_only_where_that_is_safe_or_wished() {
    let cases = [
        (Replay::Safe, true, "echo", 2, true),
        (Replay::Safe, false, "echo", 1, false),
        (Replay::Safe, true, "add_marker", 1, false),
        (Replay::Never, true, "echo", 1, false),
        (Replay::Always, false, "add_marker", 2, true),
    ];
    for (replay, trust, tool, runs, answered) in cases {
        let fake = HttpServer::start(script(Eras::Legacy)).await.unwrap();
        let (manager, server) = connect_with(&fake, |config| {
            config.trust_annotations = trust;
            config.replay_after_session_loss = replay;
        })
        .await;
        call(&server, "slow", json!({"ms": 0})).await.unwrap();
        fake.change(|script| script.then("tools/call", ran_then_404("", false)));
        let ended = call(&server, tool, json!({"marker": "m", "text": "m"})).await;
        assert_eq!(
            ended.is_ok(),
            answered,
            "{replay:?} {trust} {tool}: {ended:?}"
        );
        assert_eq!(
            fake.ledger().counts().calls[tool],
            runs,
            "{replay:?} {trust} {tool}"
        );
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f106_never_means_that_even_a_plain_refusal_is_left_to_the_caller() {
    let fake = HttpServer::start(script(Eras::Legacy)).await.unwrap();
    let (manager, server) = connect_with(&fake, |config| {
        config.replay_after_session_loss = Replay::Never;
    })
    .await;
    call(&server, "echo", json!({"text": "x"})).await.unwrap();
    fake.forget_sessions();
    let ended = call(&server, "add_marker", json!({"marker": "m"})).await;
    assert!(matches!(ended, Err(CallError::Rejected(_))), "{ended:?}");
    assert_eq!(fake.ledger().counts().markers.get("m"), None);
    manager.shutdown().await;
}

#[tokio::test]
async fn f109_calls_in_flight_on_the_old_session_are_drained_and_none_is_silently_lost() {
    let fake = HttpServer::start(script(Eras::Legacy)).await.unwrap();
    let (manager, server) = connect_with(&fake, |config| config.drain_ms = 30_000).await;
    call(&server, "echo", json!({"text": "x"})).await.unwrap();
    let running: Vec<_> = (0..4)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { call(&server, "slow", json!({})).await })
        })
        .collect();
    until("they run", || {
        fake.ledger().counts().calls.get("slow") == Some(&4)
    })
    .await;
    fake.forget_sessions();
    call(&server, "echo", json!({"text": "renews"}))
        .await
        .unwrap();
    generation(&server, 2).await;
    fake.release();
    for ended in running {
        let answer = within("a drained call", ended).await.unwrap().unwrap();
        assert_eq!((text(&answer).as_str(), answer.generation.0), ("done", 1));
    }
    assert_eq!(fake.ledger().counts().calls["slow"], 4);
    manager.shutdown().await;
}

#[tokio::test]
async fn f109_draining_the_old_session_has_a_limit_and_what_is_left_is_unknown() {
    let fake = HttpServer::start(script(Eras::Legacy)).await.unwrap();
    let (manager, server) = connect_with(&fake, |config| config.drain_ms = 100).await;
    call(&server, "echo", json!({"text": "x"})).await.unwrap();
    let running = tokio::spawn({
        let server = server.clone();
        async move { call(&server, "slow", json!({})).await }
    });
    until("it runs", || {
        fake.ledger().counts().calls.get("slow") == Some(&1)
    })
    .await;
    fake.forget_sessions();
    call(&server, "echo", json!({"text": "renews"}))
        .await
        .unwrap();
    let ended = within("the old call", running).await.unwrap();
    assert!(matches!(ended, Err(CallError::Unknown(_))), "{ended:?}");
    assert_eq!(fake.ledger().counts().calls["slow"], 1, "not sent again");
    assert_eq!(server.status().charges, 0, "S-14");
    manager.shutdown().await;
}

#[tokio::test]
async fn f111_f113_an_idle_session_that_is_lost_is_noticed_on_the_stream_and_renewed_once() {
    let fake = HttpServer::start(script(Eras::Legacy)).await.unwrap();
    let (manager, server) = connect(&fake).await;
    call(&server, "echo", json!({"text": "x"})).await.unwrap();
    until("the stream is open", || {
        fake.ledger().counts().streams_open == 1
    })
    .await;
    let old = fake.ledger().seen_of("tools/call")[0]
        .header("mcp-session-id")
        .unwrap()
        .to_owned();
    fake.forget_sessions();
    generation(&server, 2).await;
    until("the old id is deleted", || {
        fake.ledger().counts().deletes == 1
    })
    .await;
    let delete = fake.ledger().seen_by("DELETE").remove(0);
    assert_eq!(delete.header("mcp-session-id"), Some(&*old));
    assert_eq!(fake.ledger().counts().initializes, 2);
    assert_eq!(fake.sessions(), 1, "the successor is untouched");
    assert_eq!(server.status().charges, 0);
    manager.shutdown().await;
}

#[tokio::test]
async fn f107_without_affinity_the_server_is_parked_with_a_hint_and_with_cookies_all_is_well() {
    let replicas = Script {
        replicas: 3,
        ..script(Eras::Legacy)
    };
    let fake = HttpServer::start(replicas.clone()).await.unwrap();
    let mut config = quick(ServerConfig::http("h", fake.url().as_str()));
    config.push = mainstay::config::Push::Off;
    let manager = start([config]).await;
    let status = state(&manager.server("h").unwrap(), "parked").await;
    let failure = status.last_failure.unwrap();
    assert_eq!(failure.kind, "session-unstable", "{failure:?}");
    assert!(failure.hint.contains("sticky"), "{}", failure.hint);
    assert!(fake.ledger().counts().initializes <= 6, "law 9");
    manager.shutdown().await;

    let fake = HttpServer::start(Script {
        sticky: true,
        ..replicas
    })
    .await
    .unwrap();
    let (manager, server) = connect(&fake).await;
    for number in 0..20 {
        call(&server, "echo", json!({"text": number.to_string()}))
            .await
            .unwrap();
    }
    assert_eq!(fake.ledger().counts().initializes, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_7_f107_renewals_have_a_budget_and_no_call_fails_while_it_is_exceeded() {
    let fake = HttpServer::start(script(Eras::Legacy)).await.unwrap();
    let (manager, server) = connect(&fake).await;
    for round in 0..14 {
        call(&server, "add_marker", json!({"marker": round.to_string()}))
            .await
            .unwrap();
        fake.forget_sessions();
    }
    let counts = fake.ledger().counts();
    assert!(counts.markers.values().all(|runs| *runs == 1) && counts.markers.len() == 14);
    assert!(counts.initializes <= 16, "{}", counts.initializes);
    let failure = server
        .status()
        .last_failure
        .expect("more than ten a minute");
    assert_eq!(failure.kind, "session-unstable");
    manager.shutdown().await;
}

#[tokio::test]
async fn law_25_f38_a_server_that_changed_behind_its_session_is_compared_and_published() {
    let fake = HttpServer::start(Script {
        prompts: false,
        ..script(Eras::Legacy)
    })
    .await
    .unwrap();
    let (manager, server) = connect(&fake).await;
    call(&server, "echo", json!({"text": "x"})).await.unwrap();
    assert!(manager.publication().prompts.items.is_empty());
    fake.change(|script| {
        script.prompts = true;
        script.server_version = "2".into();
        script.instructions = "read me again".into();
        script.extra_tools = vec!["fresh".into()];
    });
    fake.forget_sessions();
    // The first listing after the renewal fails: it is repeated, because nobody else would.
    fake.change(|script| {
        script.plan.push_back(Planned {
            method: Some("tools/list".into()),
            times: 1,
            fault: Fault::Status {
                status: 503,
                headers: Vec::new(),
                body: String::new(),
            },
        });
    });
    call(&server, "echo", json!({"text": "renews"}))
        .await
        .unwrap();
    until("the change is published", || {
        let publication = manager.publication();
        let fresh = publication
            .tools
            .items
            .iter()
            .any(|tool| &*tool.upstream == "fresh");
        fresh && !publication.prompts.items.is_empty()
    })
    .await;
    let greeting = server.catalog().unwrap().greeting.clone();
    assert!(greeting.instructions.unwrap().contains("read me again"));
    let told: Vec<_> = manager
        .recent_events()
        .into_iter()
        .filter_map(|event| {
            if let EventKind::ServerChanged { what } = event.kind {
                Some(what)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(told, [["identity", "capabilities", "instructions"]]);
    assert_eq!(fake.ledger().counts().initializes, 2);
    manager.shutdown().await;
}
