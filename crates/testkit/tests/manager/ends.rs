//! Shutdown: nothing survives it, whatever state the servers are in.

use serde_json::json;

use super::harness::*;

#[tokio::test]
async fn law_6_law_29_shutdown_leaves_no_process_however_stubborn() {
    let bench = Bench::new();
    let stubborn = ["--ignore-term", "--ignore-eof", "--grandchild"];
    let manager = start([
        bench.server("stubborn", &stubborn),
        bench.server("good", &[]),
        bench.server("slow", &["--slow-start", "600000"]),
        bench.server("looping", &["--exit-at", "initialize"]),
    ])
    .await;
    generation(&manager.server("stubborn").unwrap(), 1).await;
    generation(&manager.server("good").unwrap(), 1).await;
    until("the slow one to be spawned", || {
        bench.count("slow", "spawn") == 1
    })
    .await;
    within("shutdown", manager.shutdown()).await;
    for name in ["stubborn", "good", "slow", "looping"] {
        let living: Vec<u32> = pids(&bench, name)
            .into_iter()
            .filter(|pid| lives(*pid))
            .collect();
        assert!(living.is_empty(), "{name}: {living:?} still live");
    }
    let error = call(&manager.server("good").unwrap(), "echo", json!({}))
        .await
        .unwrap_err();
    assert_eq!(error.class(), "refused", "{error}");
    within("a second shutdown", manager.shutdown()).await;
    assert!(
        manager.server("good").unwrap().restart().await.is_err(),
        "nothing can resurrect it"
    );
}

#[tokio::test]
async fn law_6_f221_calls_in_flight_get_their_drain_time() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &[])]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    let slow = tokio::spawn({
        let server = server.clone();
        async move { call(&server, "slow", json!({"ms": 700})).await }
    });
    until("the call to arrive", || bench.count("a", "call") == 1).await;
    within("shutdown", manager.shutdown()).await;
    assert!(
        within("the call", slow).await.unwrap().is_ok(),
        "an accepted call is not lost"
    );
}

#[tokio::test]
async fn law_6_f223_a_second_request_to_end_skips_the_grace() {
    let bench = Bench::new();
    let mut config = bench.server("a", &["--ignore-term", "--ignore-eof"]);
    config.drain_ms = 600_000;
    config.stop.close_ms = 600_000;
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    let pid = generation(&server, 1).await.pid.unwrap();
    let ending = tokio::spawn({
        let manager = manager.clone();
        async move { manager.shutdown().await }
    });
    state(&server, "draining").await;
    manager.hurry();
    within("the impatient shutdown", ending).await.unwrap();
    assert!(!lives(pid));
}
