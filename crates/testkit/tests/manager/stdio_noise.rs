//! What processes print instead of answers, and what is done when it is too much: told, counted, an event.

use std::time::Duration;

use mainstay::config::{Config, ServerConfig};
use mainstay::{CallError, EventKind, Manager, ServerHandle};
use serde_json::json;

use super::harness::*;

/// A manager with small limits.
async fn limited(config: ServerConfig) -> (Manager, ServerHandle) {
    let name = config.name.clone();
    let mut config = Config::from_servers([config]);
    config.gateway.limits.message_bytes = 64 * 1024;
    config.gateway.limits.noise_lines = 50;
    config.gateway.limits.requests_per_second = 20;
    config.gateway.limits.notices = 4;
    config.gateway.limits.queued_lines = 4;
    let manager = Manager::builder().config(config).start().await.unwrap();
    let server = manager.server(&name).unwrap();
    generation(&server, 1).await;
    (manager, server)
}

async fn echoes(server: &ServerHandle) {
    let answer = call(server, "echo", json!({"text": "heard"}))
        .await
        .unwrap();
    assert_eq!(text(&answer), "heard");
    assert_eq!(server.status().generation, 1, "the connection stands");
}

/// The events about one limit: count and sample.
fn excesses(manager: &Manager, wanted: &str) -> Vec<(u64, String)> {
    let of = |event: mainstay::Event| match event.kind {
        EventKind::LimitExceeded {
            limit,
            count,
            detail,
        } if limit == wanted => Some((count, detail)),
        _ => None,
    };
    manager.recent_events().into_iter().filter_map(of).collect()
}

#[tokio::test]
async fn f42_f43_f45_noise_between_answers_is_skipped_counted_sampled_and_never_answered() {
    let bench = Bench::new();
    let (manager, server) = limited(bench.server("a", &["--noise-between", "40"])).await;
    for _ in 0..20 {
        echoes(&server).await;
    }
    // 80 lines for each of three answers to the start and twenty to calls.
    assert_eq!(server.status().counts.noise, 80 * 23);
    let told = excesses(&manager, "mainstay.limits.noiseLines");
    let counts: Vec<u64> = told.iter().map(|(count, _)| *count).collect();
    assert_eq!(counts, [50, 100, 200, 400, 800, 1600]);
    assert!(
        told[0].1.contains("still here") || told[0].1.contains("debug"),
        "the line itself: {told:?}"
    );
    assert_eq!(bench.count("a", "answer"), 0, "never answered");
    manager.shutdown().await;
}

#[tokio::test]
async fn f44_f46_twenty_thousand_lines_of_json_and_an_endless_one_before_it_reads_are_no_trouble() {
    let bench = Bench::new();
    let flags = ["--noise-json", "20000", "--long-line", "30000000"];
    let (manager, server) = limited(bench.server("a", &flags)).await;
    echoes(&server).await;
    assert_eq!(server.status().counts.noise, 20_001);
    assert_eq!(bench.count("a", "answer"), 0, "F45: never answered");
    manager.shutdown().await;
}

#[tokio::test]
async fn law_30_f47_a_huge_answer_without_an_id_is_told_to_every_call_in_flight() {
    let bench = Bench::new();
    let (manager, server) = limited(bench.server("a", &["--malformed", "huge"])).await;
    let mut calls = Vec::new();
    for _ in 0..2 {
        let server = server.clone();
        calls.push(tokio::spawn(async move {
            call(&server, "slow", json!({"ms": 600_000})).await
        }));
    }
    until("the calls to arrive", || bench.count("a", "call") == 2).await;
    calls.push(tokio::spawn({
        let server = server.clone();
        async move { call(&server, "echo", json!({})).await }
    }));
    for ended in calls {
        let error = within("a call", ended).await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Unknown(_)), "{error}");
        assert!(error.to_string().contains("exceeds the limit"), "{error}");
    }
    let status = server.status();
    assert_eq!((status.generation, status.counts.oversized), (1, 1));
    assert_eq!(excesses(&manager, "mainstay.limits.messageBytes").len(), 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_30_f47_a_huge_answer_with_an_id_is_told_to_its_call_and_is_an_event() {
    let bench = Bench::new();
    let (manager, server) = limited(bench.server("a", &[])).await;
    let error = call(&server, "big", json!({"bytes": 1_000_000}))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("exceeds the limit of 65536 bytes"),
        "{error}"
    );
    echoes(&server).await;
    assert_eq!(server.status().counts.oversized, 1);
    assert!(!excesses(&manager, "mainstay.limits.messageBytes").is_empty());
    manager.shutdown().await;
}

#[tokio::test]
async fn f48_f50_f57_single_bytes_carriage_returns_a_mark_and_noise_change_no_answer() {
    let bench = Bench::new();
    let flags = [
        "--one-byte-writes",
        "--crlf",
        "--bom",
        "--noise-between",
        "1",
        "--foreign-error",
    ];
    let (manager, server) = limited(bench.server("a", &flags)).await;
    let calls = (0..32).map(|number: u32| {
        let server = server.clone();
        tokio::spawn(async move {
            let words = format!("{number} äöü \u{1f600}");
            let answer = call(&server, "echo", json!({"text": words})).await.unwrap();
            assert_eq!(text(&answer), words);
        })
    });
    for ended in calls.collect::<Vec<_>>() {
        within("a call", ended).await.unwrap();
    }
    assert_eq!(server.status().generation, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn f49_the_last_words_need_no_newline() {
    let bench = Bench::new();
    let flags = ["--exit-after-calls", "1", "--no-final-newline"];
    let (manager, server) = limited(bench.server("a", &flags)).await;
    let answer = call(&server, "echo", json!({"text": "farewell"}))
        .await
        .unwrap();
    assert_eq!((text(&answer).as_str(), answer.attempts), ("farewell", 1));
    manager.shutdown().await;
}

#[tokio::test]
async fn f49_half_an_answer_at_the_end_is_none_and_its_call_ends() {
    let bench = Bench::new();
    let (manager, server) = limited(bench.server("a", &["--malformed", "half"])).await;
    let error = call(&server, "echo", json!({})).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown(_)), "{error}");
    assert_eq!(bench.count("a", "call"), 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn f51_one_message_is_one_line_and_the_call_of_anything_else_ends_cleanly() {
    let bench = Bench::new();
    let (manager, server) = limited(bench.server("pretty", &["--malformed", "pretty"])).await;
    let request = tool_call("echo", &json!({}));
    let error = within("the call", server.request(request, limits(300, 60_000)))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("callIdleMs"), "{error}");
    assert!(server.status().counts.noise > 3, "its lines are noise");
    manager.shutdown().await;
    let (manager, server) = limited(bench.server("two", &["--malformed", "two"])).await;
    let error = call(&server, "echo", json!({})).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(server.status().counts.malformed, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn f57_a_late_answer_is_not_the_answer_to_the_next_call() {
    let bench = Bench::new();
    let (manager, server) = limited(bench.server("a", &[])).await;
    // A server that ignores cancellation would answer this one, so the notice must not be what saves us.
    let late = bench.server("late", &["--late", "tools/call:700"]);
    let (other, late) = limited(late).await;
    let request = tool_call("echo", &json!({"text": "first"}));
    let error = within("the call", late.request(request, limits(150, 60_000)))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Unknown(_)), "{error}");
    let answer = call(&late, "echo", json!({"text": "second"}))
        .await
        .unwrap();
    assert_eq!(text(&answer), "second");
    assert_eq!(late.status().counts.late_answers, 1);
    echoes(&server).await;
    manager.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn f59_an_answer_with_both_or_neither_ends_its_call_at_once() {
    let bench = Bench::new();
    for form in ["both", "neither"] {
        let (manager, server) = limited(bench.server(form, &["--malformed", form])).await;
        // The usual limits are minutes: only the answer itself can end this.
        let error = call(&server, "echo", json!({})).await.unwrap_err();
        assert!(matches!(error, CallError::Unknown(_)), "{form}: {error}");
        assert!(
            error.to_string().contains("not a JSON-RPC message"),
            "{error}"
        );
        let counts = server.status().counts;
        assert_eq!((counts.malformed, counts.oversized), (1, 0));
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f258_a_server_that_asks_too_much_is_refused_counted_and_serves_on() {
    let bench = Bench::new();
    let (manager, server) = limited(bench.server("a", &["--flood-requests", "3000"])).await;
    until("the flood to be heard", || {
        server.status().counts.over_requests > 1_000
    })
    .await;
    echoes(&server).await;
    let told = excesses(&manager, "mainstay.limits.requestsPerSecond");
    assert!(!told.is_empty() && told.len() < 20, "{told:?}");
    assert!(told[0].1.contains("requestsPerSecond"), "{told:?}");
    let answered = || {
        bench
            .ledger("a")
            .iter()
            .any(|(_, event, _)| event == "answer")
    };
    until("some of it to be answered, with errors", answered).await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f44_f55_notices_to_a_server_that_does_not_read_are_dropped_counted_and_told() {
    let bench = Bench::new();
    let (manager, server) = limited(bench.server("a", &["--stop-reading-after", "4"])).await;
    // Most of them fit into the pipe; each then leaves a cancel notice, for which there is no room.
    let calls = (0..600).map(|_| {
        let server = server.clone();
        let request = tool_call("echo", &json!({"text": "x".repeat(40)}));
        tokio::spawn(async move { server.request(request, limits(1_500, 1_500)).await })
    });
    for ended in calls.collect::<Vec<_>>() {
        within("the deadline", ended).await.unwrap().unwrap_err();
    }
    let lost = || server.status().counts.notices_lost;
    until("notices to be dropped", || lost() > 100).await;
    let told = excesses(&manager, "mainstay.limits.notices");
    assert!(!told.is_empty() && told.len() < 12, "{told:?}");
    let stopped = tokio::time::timeout(Duration::from_secs(30), manager.shutdown()).await;
    assert!(stopped.is_ok(), "F56: the stop is not held up");
}
