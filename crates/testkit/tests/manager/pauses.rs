//! Throttling, seen from the callers: who waits, who is told, and what it costs the server (laws 15 and 19).

use std::time::{Duration, Instant};

use mainstay::config::ServerConfig;
use mainstay::error::Lost;
use mainstay::{CallError, Refusal};
use mainstay_core::failure::FailureKind;
use mainstay_testkit::http_server::{Fault, HttpServer, Script};
use serde_json::json;

use super::harness::*;

fn throttled(status: u16, retry_after: &str) -> Fault {
    Fault::Status {
        status,
        headers: vec![("retry-after".to_owned(), retry_after.to_owned())],
        body: String::new(),
    }
}

/// A server whose `Retry-After: 0` counts for this long.
fn patient(name: &str, fake: &HttpServer, pause_ms: u64) -> ServerConfig {
    let mut config = quick(ServerConfig::http(name, fake.url().as_str()));
    config.restart.retry_after_min_ms = pause_ms;
    config
}

#[tokio::test]
async fn f102_law_19_a_short_pause_is_waited_for_in_the_queue_by_calls_of_all_servers_of_the_host()
{
    let fake = HttpServer::start(Script::legacy()).await.unwrap();
    let manager = start([patient("a", &fake, 2_000), patient("b", &fake, 2_000)]).await;
    let (a, b) = (manager.server("a").unwrap(), manager.server("b").unwrap());
    generation(&a, 1).await;
    generation(&b, 1).await;
    fake.change(|script| script.then("tools/call", throttled(429, "0")));
    let before = fake.ledger().seen_of("tools/call").len();
    let first = tokio::spawn({
        let a = a.clone();
        async move { call(&a, "add_marker", json!({"marker": "a"})).await }
    });
    until("the refusal", || {
        fake.ledger().seen_of("tools/call").len() > before
    })
    .await;
    let (first, second) = tokio::join!(first, call(&b, "add_marker", json!({"marker": "b"})));
    let (first, second) = (first.unwrap().unwrap(), second.unwrap());
    assert_eq!((first.attempts, second.attempts), (2, 1));
    for answer in [&first, &second] {
        assert!(
            answer.queued >= Duration::from_millis(800),
            "the pause is our time, not the server's: {:?}",
            answer.queued
        );
    }
    let counts = fake.ledger().counts();
    assert_eq!(
        (counts.markers["a"], counts.markers["b"]),
        (1, 1),
        "nothing ran twice"
    );
    assert_eq!(fake.ledger().seen_of("tools/call").len(), before + 3);
    for server in [&a, &b] {
        let status = server.status();
        assert_eq!((status.charges, status.generation), (0, 1), "law 15");
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn f103_f102_a_long_pause_is_told_at_once_and_nothing_goes_there_meanwhile() {
    let fake = HttpServer::start(Script::legacy()).await.unwrap();
    let clock = HttpServer::start(Script::legacy()).await.unwrap();
    let mut config = patient("h", &fake, 1_000);
    // Probes would come often and be missed at once, if they were sent.
    let keepalive = config.keepalive.as_mut().unwrap();
    (keepalive.idle_ms, keepalive.timeout_ms, keepalive.misses) = (40, 500, 1);
    let other = quick(ServerConfig::http("clock", clock.url().as_str()));
    let manager = start([config, other]).await;
    let (server, clock) = (
        manager.server("h").unwrap(),
        manager.server("clock").unwrap(),
    );
    generation(&server, 1).await;
    fake.change(|script| script.then("tools/call", throttled(429, "86400")));
    let rejected = call(&server, "echo", json!({"text": "x"})).await;
    match rejected {
        Err(CallError::Rejected(Lost::Transport { failure, .. })) => {
            assert_eq!(failure.kind, FailureKind::RateLimited);
            let wait_ms = failure.retry_after_ms.unwrap();
            assert!(
                (500_000..=600_000).contains(&wait_ms),
                "clamped to ten minutes: {wait_ms}"
            );
        }
        other => panic!("{other:?}"),
    }
    let before = fake.ledger().seen().len();
    let refused = call(&server, "echo", json!({"text": "x"})).await;
    match &refused {
        Err(error @ CallError::Refused(Refusal::RateLimited { wait_ms, .. })) => {
            assert!((500_000..=600_000).contains(wait_ms), "{wait_ms}");
            assert!(error.to_string().contains("left alone"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // A planned replacement has to keep the pause too, and the old connection serves on.
    within("restart", server.restart()).await.unwrap();
    // Time for many probes passes.
    generation(&clock, 1).await;
    call(&clock, "slow", json!({"ms": 600})).await.unwrap();
    assert_eq!(fake.ledger().seen().len(), before, "not one request");
    let status = server.status();
    assert_eq!(
        (status.state, status.charges, status.generation),
        ("connected", 0, 1),
        "law 15: throttling is no fault"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn f102_law_15_a_server_that_throttles_its_greeting_is_never_parked_for_it() {
    for (status, method) in [(429, "initialize"), (503, "tools/list")] {
        let mut script = Script::legacy();
        script.then_times(method, 6, throttled(status, "0"));
        let fake = HttpServer::start(script).await.unwrap();
        let mut config = patient("h", &fake, 30);
        config.restart.budget = 1;
        let manager = start([config]).await;
        let server = manager.server("h").unwrap();
        let connected = generation(&server, 7).await;
        assert_eq!(connected.charges, 0, "{status}");
        assert_eq!(fake.ledger().seen_of(method).len(), 7, "one per attempt");
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f102_a_reconnect_keeps_the_pause_that_a_call_met() {
    let mut fake = HttpServer::start(Script::modern()).await.unwrap();
    let manager = start([patient("h", &fake, 1_500)]).await;
    let server = manager.server("h").unwrap();
    generation(&server, 1).await;
    fake.change(|script| script.then("tools/call", throttled(503, "0")));
    let began = Instant::now();
    let lost = call(&server, "add_marker", json!({"marker": "x"})).await;
    assert!(
        matches!(&lost, Err(CallError::Unknown(Lost::Ended { failure, .. }))
            if failure.kind == FailureKind::RateLimited),
        "law 16: a 503 proves nothing: {lost:?}"
    );
    fake.stop().await;
    fake.start_again().await.unwrap();
    let before = fake.ledger().seen().len();
    within("restart", server.restart()).await.unwrap();
    generation(&server, 2).await;
    assert!(fake.ledger().seen().len() > before);
    assert!(
        began.elapsed() >= Duration::from_millis(1_400),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(server.status().charges, 0);
    manager.shutdown().await;
}

#[tokio::test]
async fn f102_law_23_a_listing_that_is_throttled_is_done_later_and_not_forgotten() {
    let fake = HttpServer::start(Script::legacy()).await.unwrap();
    let manager = start([patient("h", &fake, 300)]).await;
    let server = manager.server("h").unwrap();
    generation(&server, 1).await;
    until("the push stream", || {
        fake.ledger().counts().streams_open == 1
    })
    .await;
    fake.change(|script| {
        script.extra_tools.push("late".to_owned());
        script.then_times("tools/list", 2, throttled(429, "0"));
    });
    fake.tell_changed("tools");
    until("the new tool", || {
        let publication = manager.publication();
        publication
            .tools
            .items
            .iter()
            .any(|tool| &*tool.upstream == "late")
    })
    .await;
    assert_eq!(server.status().generation, 1);
    manager.shutdown().await;
}
