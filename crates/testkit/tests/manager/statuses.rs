//! HTTP statuses and outages, seen from the callers: what a status costs the call, and what it costs the server.

use std::time::Duration;

use mainstay::config::ServerConfig;
use mainstay::{CallError, Manager, Request, ServerHandle};
use mainstay_core::failure::FailureKind;
use mainstay_testkit::http_server::{Fault, HttpServer, Script};
use serde_json::json;

use super::harness::*;

fn status(status: u16) -> Fault {
    Fault::Status {
        status,
        headers: Vec::new(),
        body: String::new(),
    }
}

async fn connect(fake: &HttpServer) -> (Manager, ServerHandle) {
    let manager = start([quick(ServerConfig::http("h", fake.url().as_str()))]).await;
    let server = manager.server("h").unwrap();
    generation(&server, 1).await;
    (manager, server)
}

#[tokio::test]
async fn f92_f94_f98_f99_f100_f101_law_15_a_status_costs_the_call_and_never_the_connection() {
    let fake = HttpServer::start(Script::modern()).await.unwrap();
    let (manager, server) = connect(&fake).await;
    call(&server, "echo", json!({"text": "proof"}))
        .await
        .unwrap();
    for (code, class, kind) in [
        (401, "rejected", FailureKind::NeedsLogin),
        (403, "rejected", FailureKind::Forbidden),
        (404, "rejected", FailureKind::HttpStatus(404)),
        (406, "rejected", FailureKind::Incompatible),
        (408, "unknown", FailureKind::HttpStatus(408)),
        (409, "unknown", FailureKind::HttpStatus(409)),
        (413, "rejected", FailureKind::HttpStatus(413)),
        (415, "rejected", FailureKind::Incompatible),
        (425, "rejected", FailureKind::HttpStatus(425)),
        (431, "rejected", FailureKind::HttpStatus(431)),
        (500, "unknown", FailureKind::HttpStatus(500)),
        (502, "unknown", FailureKind::HttpStatus(502)),
        (503, "unknown", FailureKind::HttpStatus(503)),
        (504, "unknown", FailureKind::HttpStatus(504)),
    ] {
        let before = fake.ledger().seen_of("tools/call").len();
        fake.change(|script| script.then("tools/call", status(code)));
        let error = call(&server, "add_marker", json!({"marker": "m"}))
            .await
            .expect_err("refused");
        assert_eq!(error.class(), class, "{code}");
        let said = failure_of(&error).unwrap_or_else(|| panic!("{code}: {error:?}"));
        assert_eq!(said.kind, kind, "{code}");
        assert_eq!(
            fake.ledger().seen_of("tools/call").len(),
            before + 1,
            "{code}: not sent again"
        );
        call(&server, "echo", json!({"text": "on"}))
            .await
            .unwrap_or_else(|error| panic!("after {code}: {error}"));
    }
    let now = server.status();
    assert_eq!(
        (now.state, now.generation, now.charges),
        ("connected", 1, 0)
    );
    assert_eq!(fake.ledger().counts().markers.get("m"), None);
    manager.shutdown().await;
}

fn failure_of(error: &CallError) -> Option<&mainstay_core::failure::Failure> {
    use mainstay::error::Lost;
    match error {
        CallError::Rejected(lost) | CallError::Unknown(lost) => match lost {
            Lost::Ended { failure, .. } | Lost::Transport { failure, .. } => Some(failure),
            Lost::Idle { .. } | Lost::Total { .. } | Lost::AnswerRefused { .. } => None,
        },
        CallError::Refused(_) => None,
    }
}

#[tokio::test]
async fn f99_f100_law_16_reading_is_repeated_after_a_gateway_error_and_never_after_a_conflict() {
    let fake = HttpServer::start(Script::modern()).await.unwrap();
    let (manager, server) = connect(&fake).await;
    let read = || Request::new("resources/read", Some(r#"{"uri":"file:///fixed"}"#));
    for (code, is_repeated) in [
        (502, true),
        (503, true),
        (504, true),
        (408, true),
        (409, false),
    ] {
        fake.change(|script| script.then("resources/read", status(code)));
        let before = fake.ledger().seen_of("resources/read").len();
        let answered = within("a reading", server.request(read(), limits(20_000, 20_000))).await;
        assert_eq!(answered.is_ok(), is_repeated, "{code}: {answered:?}");
        assert_eq!(
            fake.ledger().seen_of("resources/read").len() - before,
            1 + usize::from(is_repeated),
            "{code}"
        );
        if let Ok(answer) = answered {
            assert!(
                answer.queued < Duration::from_secs(10),
                "a server that is still there is not waited for like one that is gone"
            );
        }
    }
    assert_eq!(server.status().generation, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn f92_f94_f98_what_a_human_has_to_end_parks_at_once_and_is_not_tried_again() {
    for (code, cause) in [
        (401, "needs-login"),
        (403, "forbidden"),
        (406, "incompatible"),
        (415, "incompatible"),
    ] {
        let mut script = Script::legacy();
        script.then_times("initialize", 100, status(code));
        script.then_times("server/discover", 100, status(code));
        let fake = HttpServer::start(script).await.unwrap();
        let manager = start([quick(ServerConfig::http("h", fake.url().as_str()))]).await;
        let server = manager.server("h").unwrap();
        let parked = state(&server, "parked").await;
        let failure = parked.last_failure.unwrap();
        assert_eq!(failure.kind, cause, "{code}: {failure:?}");
        let seen = fake.ledger().seen().len();
        assert!(seen <= 2, "{code}: {seen} requests for one attempt");
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f84_f99_what_passes_by_itself_is_tried_again_while_greeting_and_while_listing() {
    for method in ["initialize", "tools/list"] {
        for fault in [
            status(408),
            status(425),
            status(502),
            status(503),
            status(504),
            Fault::Html,
            Fault::Drop,
        ] {
            let mut script = Script::legacy();
            script.then_times(method, 2, fault.clone());
            let fake = HttpServer::start(script).await.unwrap();
            let (manager, server) = connect(&fake).await;
            assert!(server.status().generation >= 2, "{method}: {fault:?}");
            call(&server, "echo", json!({"text": "x"})).await.unwrap();
            manager.shutdown().await;
        }
    }
}

#[tokio::test]
async fn f85_a_server_that_is_away_for_a_second_costs_no_call() {
    for script in [Script::legacy(), Script::modern()] {
        let mut fake = HttpServer::start(script).await.unwrap();
        let manager = start([ServerConfig::http("h", fake.url().as_str())]).await;
        let server = manager.server("h").unwrap();
        generation(&server, 1).await;
        call(&server, "echo", json!({"text": "proof"}))
            .await
            .unwrap();
        fake.stop().await;
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..30 {
            if number == 20 {
                fake.start_again().await.unwrap();
            }
            let server = server.clone();
            calls.spawn(async move {
                call(&server, "add_marker", json!({"marker": number.to_string()})).await
            });
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        while let Some(ended) = within("a call", calls.join_next()).await {
            ended.unwrap().expect("answered");
        }
        let counts = fake.ledger().counts();
        assert_eq!(counts.markers.len(), 30);
        assert!(counts.markers.values().all(|runs| *runs == 1));
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f104_a_connection_greets_once_however_many_calls_it_serves() {
    for script in [Script::legacy(), Script::modern()] {
        let fake = HttpServer::start(script).await.unwrap();
        let (manager, server) = connect(&fake).await;
        let before = fake.ledger().counts();
        for round in 0..10 {
            let calls = (0..8).map(|number| {
                let server = server.clone();
                tokio::spawn(async move {
                    call(
                        &server,
                        "echo",
                        json!({"text": format!("{round} {number}")}),
                    )
                    .await
                })
            });
            for ended in calls.collect::<Vec<_>>() {
                ended.await.unwrap().unwrap();
            }
        }
        let after = fake.ledger().counts();
        assert_eq!(after.initializes, before.initializes);
        assert_eq!(after.discovers, before.discovers);
        assert_eq!(after.lists, before.lists, "nor does it list for a call");
        assert!(
            after.connections <= before.connections + 8,
            "as many connections as calls at a time: {} after {}",
            after.connections,
            before.connections
        );
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f88_law_17_a_drip_never_outlasts_the_absolute_limit_of_a_call() {
    use mainstay_testkit::http_server::Then;
    let fake = HttpServer::start(Script::legacy()).await.unwrap();
    let (manager, server) = connect(&fake).await;
    for fault in [
        Fault::Trickle { every_ms: 20 },
        Fault::HeadThenStall,
        Fault::Cut {
            after_bytes: 30,
            then: Then::Drip,
            every_ms: 200,
        },
    ] {
        fake.change(|script| script.then("tools/call", fault.clone()));
        let request = tool_call("echo", &json!({}));
        let ended = within("the limit", server.request(request, limits(60_000, 400))).await;
        assert!(
            matches!(
                &ended,
                Err(CallError::Unknown(mainstay::error::Lost::Total {
                    total_ms: 400,
                    ..
                }))
            ),
            "{fault:?}: {ended:?}"
        );
    }
    call(&server, "echo", json!({"text": "on"})).await.unwrap();
    assert_eq!(server.status().generation, 1, "law 15");
    manager.shutdown().await;
}
