//! The bounded soak, in a process of its own: the other tests of this binary hold descriptors and children too.
//! `scripts/soak` is the long one.

use serde_json::json;

use super::harness::*;

#[test]
fn law_6_law_26_f11_f68_f230_f231_crashes_and_lost_sessions_leave_nothing_behind() {
    let soaked = std::process::Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["150", "40"])
        .output()
        .unwrap();
    assert!(
        soaked.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&soaked.stdout),
        String::from_utf8_lossy(&soaked.stderr)
    );
}

/// What the soak found: a proof of health has no effect but is news.
#[tokio::test]
async fn law_9_f234_a_served_call_shows_as_proof_in_the_status() {
    let bench = Bench::new();
    let manager = start([bench.server("s", &[])]).await;
    let server = manager.server("s").unwrap();
    let opened = generation(&server, 1).await;
    assert!(!opened.proven, "a handshake proves nothing");
    kill(opened.pid.unwrap());
    let again = generation(&server, 2).await;
    assert_eq!(again.charges, 1, "an unproven connection died");
    call(&server, "echo", json!({"text": "x"})).await.unwrap();
    let proven = within("the proof", server.wait_until(|status| status.proven)).await;
    assert_eq!(proven.charges, 0);
    manager.shutdown().await;
}

/// What a look at a crash loop found: a cancel notice that nobody is left to hear is no limit that was exceeded.
#[tokio::test]
async fn law_30_the_end_of_a_connection_exceeds_no_limit() {
    let bench = Bench::new();
    let mut config = bench.server("s", &["--exit-on", "tools/list"]);
    config.restart.budget = 1;
    let manager = start([config]).await;
    state(&manager.server("s").unwrap(), "parked").await;
    let exceeded: Vec<_> = manager
        .recent_events()
        .into_iter()
        .filter(|event| matches!(event.kind, mainstay::EventKind::LimitExceeded { .. }))
        .collect();
    assert!(exceeded.is_empty(), "{exceeded:?}");
    manager.shutdown().await;
}
