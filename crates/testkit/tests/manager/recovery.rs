//! Servers die, loop, hang and come back.

use mainstay::CallError;
use serde_json::json;

use super::harness::*;

#[tokio::test]
async fn law_20_f60_f159_a_killed_server_is_back_under_the_same_handle_with_its_tools() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &[])]).await;
    let server = manager.server("a").unwrap();
    let first = call(&server, "echo", json!({"text": "one"})).await.unwrap();
    let version = *manager.published().borrow();
    for round in 2..=4 {
        kill(server.status().pid.unwrap());
        generation(&server, round).await;
        let answer = call(&server, "echo", json!({"text": "again"}))
            .await
            .unwrap();
        assert_eq!(text(&answer), "again");
        assert_eq!(
            answer.generation.0, round,
            "law 3: generations only grow, one per connection"
        );
    }
    assert_eq!(first.generation.0, 1);
    assert_eq!(
        *manager.published().borrow(),
        version,
        "law 21: the same content is published once"
    );
    assert_eq!(manager.publication().tools.items.len(), 7);
    assert_eq!(
        bench.count("a", "spawn"),
        4,
        "F12: exactly one spawn per start"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn law_13_f62_a_death_is_noticed_without_traffic_while_a_grandchild_holds_stdout() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &["--grandchild"])]).await;
    let server = manager.server("a").unwrap();
    let before = generation(&server, 1).await;
    kill(before.pid.unwrap());
    // No call, no probe: only the exit itself can be what is noticed.
    generation(&server, 2).await;
    manager.shutdown().await;
    assert!(
        pids(&bench, "a").into_iter().all(|pid| !lives(pid)),
        "F65: no grandchild survives"
    );
}

#[tokio::test]
async fn law_16_f61_f175_a_call_in_flight_at_death_is_unknown_and_not_sent_again() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &["--exit-at", "call"])]).await;
    let server = manager.server("a").unwrap();
    let error = call(&server, "add_marker", json!({"marker": "once"}))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Unknown(_)), "{error}");
    assert!(
        error.to_string().contains("ended"),
        "the cause is told: {error}"
    );
    assert_eq!(bench.count("a", "call"), 1, "never sent again");
    manager.shutdown().await;
}

#[tokio::test]
async fn law_16_f177_a_read_only_call_is_sent_again_only_where_annotations_are_trusted() {
    let bench = Bench::new();
    let mut trusted = bench.server("trusted", &["--exit-after-calls", "1"]);
    trusted.trust_annotations = true;
    let mut doubted = bench.server("doubted", &["--exit-at", "call"]);
    doubted.trust_annotations = false;
    let manager = start([trusted, doubted]).await;
    let (trusted, doubted) = (
        manager.server("trusted").unwrap(),
        manager.server("doubted").unwrap(),
    );
    generation(&trusted, 1).await;
    // `slow` is annotated as read-only; its server is killed in the middle of it.
    let slow = tokio::spawn({
        let trusted = trusted.clone();
        async move { call(&trusted, "slow", json!({"ms": 300})).await }
    });
    until("the call to arrive", || bench.count("trusted", "call") == 1).await;
    kill(trusted.status().pid.unwrap());
    let answer = within("the call to end", slow).await.unwrap().unwrap();
    assert_eq!(answer.attempts, 2);
    let error = call(&doubted, "echo", json!({"text": "x"}))
        .await
        .unwrap_err();
    assert!(
        matches!(error, CallError::Unknown(_)),
        "F176: annotations are claims: {error}"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn law_9_f69_a_server_that_connects_and_dies_for_ever_is_parked_after_budget_plus_one_attempts()
 {
    let bench = Bench::new();
    let mut config = bench.server("a", &["--exit-at", "initialize", "--exit-code", "3"]);
    config.restart.budget = 3;
    config.protocol = mainstay::config::Protocol::Legacy;
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    let status = state(&server, "parked").await;
    assert_eq!(bench.count("a", "spawn"), 4, "exactly budget + 1");
    assert_eq!(status.last_failure.as_ref().unwrap().kind, "exited-early");
    assert!(
        status.word.contains("code 3"),
        "F14: the exit code is told: {}",
        status.word
    );
    assert!(
        status.next_attempt_in_ms.is_some(),
        "law 11: parked is not dead"
    );
    let error = call(&server, "echo", json!({})).await.unwrap_err();
    assert_eq!(error.class(), "refused");
    assert!(error.to_string().contains("parked"), "{error}");
    manager.shutdown().await;
}

#[tokio::test]
async fn law_5_restart_revives_a_parked_server_and_disable_is_prompt_and_final() {
    let bench = Bench::new();
    let marker = bench.path("broken");
    std::fs::write(&marker, "").unwrap();
    let script = format!(
        "test -e {} && exit 9; exec {} --ledger {}",
        marker.display(),
        MISBEHAVE,
        bench.path("a").display()
    );
    let mut config =
        quick(mainstay::config::ServerConfig::stdio("a", "sh").args(["-c".to_owned(), script]));
    config.restart.budget = 0;
    config.restart.parked_probe_ms = None;
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    state(&server, "parked").await;
    std::fs::remove_file(&marker).unwrap();
    within("restart", server.restart()).await.unwrap();
    generation(&server, 2).await;
    assert!(manager.publication().tools.find("a__echo").is_some());
    within("disable", server.disable()).await.unwrap();
    assert!(
        manager.publication().tools.find("a__echo").is_none(),
        "disabled implies unpublished, at once"
    );
    let error = call(&server, "echo", json!({})).await.unwrap_err();
    assert!(error.to_string().contains("disabled"), "{error}");
    state(&server, "disabled").await;
    within("enable", server.enable()).await.unwrap();
    within("enable twice", server.enable()).await.unwrap();
    assert_eq!(
        text(
            &call(&server, "echo", json!({"text": "back"}))
                .await
                .unwrap()
        ),
        "back"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn law_11_f1_a_missing_command_parks_at_once_and_says_what_to_do() {
    let bench = Bench::new();
    let manager = start([
        quick(mainstay::config::ServerConfig::stdio(
            "missing",
            "no-such-program-of-mainstay",
        )),
        bench.server("good", &[]),
    ])
    .await;
    let missing = manager.server("missing").unwrap();
    let status = state(&missing, "parked").await;
    let failure = status.last_failure.unwrap();
    assert_eq!(failure.kind, "spawn-not-found");
    assert!(
        failure.detail.contains("no-such-program-of-mainstay"),
        "{}",
        failure.detail
    );
    assert_eq!(
        status.next_attempt_in_ms, None,
        "what needs a human is not probed"
    );
    // Law 27: the other one does not care.
    assert!(
        call(&manager.server("good").unwrap(), "echo", json!({}))
            .await
            .is_ok()
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn law_27_f15_silent_and_garbage_servers_delay_nobody() {
    let bench = Bench::new();
    let silent = bench.server(
        "silent",
        &[
            "--never-answer",
            "initialize",
            "--never-answer",
            "server/discover",
        ],
    );
    let garbage = bench.server("garbage", &["--garbage"]);
    let good = bench.server("good", &[]);
    let manager = start([silent, garbage, good]).await;
    let good = manager.server("good").unwrap();
    assert!(call(&good, "echo", json!({})).await.is_ok());
    assert_eq!(
        manager.server("silent").unwrap().status().state,
        "connecting"
    );
    assert_eq!(
        manager.publication().tools.items.len(),
        7,
        "only the good one's tools, and all of them"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn law_15_f74_a_hanging_server_is_probed_after_a_silent_call_and_replaced() {
    let bench = Bench::new();
    let mut config = bench.server("a", &[]);
    config.keepalive = Some(mainstay::config::Keepalive::default());
    if let Some(keepalive) = &mut config.keepalive {
        keepalive.idle_ms = 60_000;
        keepalive.timeout_ms = 100;
        keepalive.misses = 2;
    }
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    let status = generation(&server, 1).await;
    let stopped = std::process::Command::new("kill")
        .args(["-STOP", &status.pid.unwrap().to_string()])
        .status()
        .unwrap();
    assert!(stopped.success());
    let request = tool_call("echo", &json!({"text": "x"}));
    let error = within(
        "the call to end",
        server.request(request, limits(50, 60_000)),
    )
    .await
    .unwrap_err();
    assert!(
        matches!(error, CallError::Unknown(_)),
        "law 17: the deadline fires: {error}"
    );
    generation(&server, 2).await;
    assert!(call(&server, "echo", json!({})).await.is_ok());
    manager.shutdown().await;
    assert!(
        !lives(status.pid.unwrap()),
        "a stopped process is killed all the same"
    );
}
