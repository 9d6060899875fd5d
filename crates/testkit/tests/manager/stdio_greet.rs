//! Greeting processes of either era, whatever they answer or do not answer.

use mainstay::config::{Protocol, ServerConfig};
use mainstay::{Manager, ServerHandle};
use serde_json::json;

use super::harness::*;

async fn started(config: ServerConfig) -> (Manager, ServerHandle) {
    let name = config.name.clone();
    let manager = start([config]).await;
    let server = manager.server(&name).unwrap();
    (manager, server)
}

async fn answers(server: &ServerHandle) {
    let answer = call(server, "echo", json!({"text": "hello"}))
        .await
        .unwrap();
    assert_eq!(text(&answer), "hello");
}

fn probing(mut config: ServerConfig, probe_ms: u64) -> ServerConfig {
    config.timeouts.probe_ms = probe_ms;
    config
}

#[tokio::test]
async fn f26_f30_a_server_that_is_silent_about_the_probe_is_initialized_with_time_of_its_own() {
    let bench = Bench::new();
    // The handshake takes several times as long as the probe may.
    let flags = [
        "--never-answer",
        "server/discover",
        "--late",
        "initialize:1500",
    ];
    let (manager, server) = started(probing(bench.server("a", &flags), 300)).await;
    let status = generation(&server, 1).await;
    assert_eq!(status.protocol, Some("2025-11-25"));
    assert_eq!(bench.count_of("a", "request", "server/discover"), 1);
    assert_eq!(bench.count("a", "initialize"), 1);
    assert_eq!(status.generation, 1);
    answers(&server).await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f27_the_late_answer_to_an_abandoned_probe_is_nobodys_answer() {
    let bench = Bench::new();
    let flags = [
        "--era",
        "both",
        "--late",
        "server/discover:1500",
        "--late",
        "initialize:2500",
    ];
    let (manager, server) = started(probing(bench.server("legacy", &flags), 200)).await;
    let status = generation(&server, 1).await;
    assert_eq!(
        (status.generation, status.protocol),
        (1, Some("2025-11-25"))
    );
    assert_eq!(status.counts.late_answers, 1);
    answers(&server).await;
    manager.shutdown().await;
    // A modern server that is slow to start hears the question, then `initialize`, and then the question again.
    let flags = ["--era", "modern", "--slow-start", "1500"];
    let (manager, server) = started(probing(bench.server("modern", &flags), 200)).await;
    let status = generation(&server, 1).await;
    assert_eq!(
        (status.generation, status.protocol),
        (1, Some("2026-07-28"))
    );
    answers(&server).await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f28_a_server_that_dies_of_the_probe_is_not_probed_again() {
    let bench = Bench::new();
    for (name, start_ms) in [("quick", "0"), ("slow", "1000")] {
        let flags = ["--crash-on-unknown", "--slow-start", start_ms];
        let (manager, server) = started(probing(bench.server(name, &flags), 300)).await;
        let status = generation(&server, 2).await;
        assert_eq!(status.generation, 2, "{name}: one respawn");
        answers(&server).await;
        kill(status.pid.unwrap());
        generation(&server, 3).await;
        assert_eq!(bench.count(name, "spawn"), 3, "{name}: remembered");
        assert_eq!(bench.count_of(name, "request", "server/discover"), 1);
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f29_any_error_about_the_probe_means_legacy() {
    let bench = Bench::new();
    for code in ["-32601", "-32602", "-32600", "-32603", "0", "404"] {
        let server = bench.server(code, &["--unknown-code", code]);
        let (manager, server) = started(server).await;
        let status = generation(&server, 1).await;
        assert_eq!(status.protocol, Some("2025-11-25"), "{code}");
        assert_eq!(bench.count(code, "spawn"), 1, "{code}");
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f31_f52_f53_f54_a_wall_of_stderr_at_any_time_stops_nothing() {
    let bench = Bench::new();
    // More than a pipe holds, before the first message and for every message, without a single newline.
    let flags = [
        "--stderr-flood",
        "300000",
        "--no-newlines",
        "--stderr-per-message",
        "200000",
    ];
    let mut config = mainstay::config::Config::from_servers([bench.server("a", &flags)]);
    config.gateway.limits.stderr_bytes = 10_000;
    let manager = Manager::builder().config(config).start().await.unwrap();
    let server = manager.server("a").unwrap();
    let large = "x".repeat(300_000);
    let answer = call(&server, "echo", json!({"text": large})).await.unwrap();
    assert_eq!(text(&answer).len(), 300_000);
    let ring = server.stderr().unwrap();
    until("all of it to be read", || {
        ring.read_from(0).0 >= 300_000 + 5 * 200_000
    })
    .await;
    assert!(ring.read_from(0).1.len() <= 10_000, "the ring is bounded");
    manager.shutdown().await;
}

#[tokio::test]
async fn f32_a_modern_server_that_never_lists_is_tried_the_legacy_way() {
    let bench = Bench::new();
    let flags = ["--era", "both", "--never-answer-modern", "tools/list"];
    let mut config = bench.server("a", &flags);
    config.timeouts.list_ms = 1_000;
    let (manager, server) = started(config).await;
    let status = generation(&server, 2).await;
    assert_eq!(
        (status.generation, status.protocol),
        (2, Some("2025-11-25"))
    );
    let failure = status.last_failure.unwrap();
    assert_eq!(failure.kind, "connect-timeout");
    assert!(failure.detail.contains("list"), "{}", failure.detail);
    answers(&server).await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f33_the_era_is_remembered_over_restarts_of_mainstay() {
    let bench = Bench::new();
    let server = || bench.server("a", &["--silent-on-unknown"]);
    for round in 1..=2 {
        let config = mainstay::config::Config::from_servers([server()]);
        let manager = Manager::builder()
            .config(config)
            .state_dir(Some(bench.path("state")))
            .start()
            .await
            .unwrap();
        generation(&manager.server("a").unwrap(), 1).await;
        let saved = || std::fs::read_dir(bench.path("state")).is_ok_and(|dir| dir.count() > 0);
        until("the catalog to be kept", saved).await;
        manager.shutdown().await;
        assert_eq!(bench.count("a", "initialize"), round);
    }
    assert_eq!(bench.count_of("a", "request", "server/discover"), 1);
}

#[tokio::test]
async fn f34_errors_about_strangers_ids_disturb_nobody() {
    let bench = Bench::new();
    let (manager, server) = started(bench.server("a", &["--foreign-error"])).await;
    answers(&server).await;
    let status = server.status();
    assert_eq!(status.generation, 1);
    assert!(status.counts.late_answers >= 3, "{:?}", status.counts);
    manager.shutdown().await;
}

#[tokio::test]
async fn f35_f36_what_comes_before_the_answer_to_initialize_is_heard_and_a_ping_is_answered() {
    let bench = Bench::new();
    let (manager, server) = started(bench.server("a", &["--chatter"])).await;
    answers(&server).await;
    until("its ping to be answered", || {
        bench.count_of("a", "answer", "result \"early\"") == 1
    })
    .await;
    assert_eq!(server.status().counts.unrouted_notifications, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn f37_a_version_that_nobody_knows_is_told_with_both_lists_and_parks() {
    let bench = Bench::new();
    let flags = ["--claim-version", "2030-01-01"];
    let (manager, server) = started(bench.server("a", &flags)).await;
    let status = state(&server, "parked").await;
    assert_eq!(status.next_attempt_in_ms, None, "it needs a human");
    assert_eq!(bench.count("a", "spawn"), 1);
    let failure = status.last_failure.unwrap();
    assert_eq!(failure.kind, "version-mismatch");
    for version in ["2030-01-01", "2025-11-25", "2024-11-05"] {
        assert!(failure.detail.contains(version), "{}", failure.detail);
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn f39_an_initialize_that_takes_too_long_is_not_cancelled_but_closed() {
    let bench = Bench::new();
    let mut config = bench.server("a", &["--never-answer", "initialize"]);
    config.protocol = Protocol::Legacy;
    config.timeouts.connect_ms = 700;
    config.restart.budget = 0;
    let (manager, server) = started(config).await;
    state(&server, "parked").await;
    assert_eq!(bench.count("a", "initialize"), 1);
    assert_eq!(bench.count("a", "eof"), 1, "closed");
    assert_eq!(bench.count("a", "cancelled"), 0);
    manager.shutdown().await;
}

#[tokio::test]
async fn f40_no_request_overtakes_the_initialized_notification() {
    let bench = Bench::new();
    let (manager, server) = started(bench.server("a", &["--strict-init"])).await;
    for round in 1..=10 {
        let pid = generation(&server, round).await.pid.unwrap();
        // Proof of health: these deaths are none of the server's fault.
        answers(&server).await;
        kill(pid);
    }
    generation(&server, 11).await;
    answers(&server).await;
    assert_eq!(
        bench.count("a", "initialized"),
        bench.count("a", "initialize")
    );
    assert_eq!(bench.count("a", "too-early"), 0);
    manager.shutdown().await;
}

#[tokio::test]
async fn f40_a_server_that_ends_at_the_initialized_notification_has_failed_its_handshake() {
    let bench = Bench::new();
    let flags = ["--exit-on", "notifications/initialized"];
    let mut config = bench.server("a", &flags);
    config.restart.budget = 2;
    let (manager, server) = started(config).await;
    let status = state(&server, "parked").await;
    assert_eq!(status.last_failure.unwrap().kind, "exited-early");
    assert_eq!(bench.count("a", "spawn"), 3);
    assert_eq!(bench.count("a", "list"), 0);
    manager.shutdown().await;
}
