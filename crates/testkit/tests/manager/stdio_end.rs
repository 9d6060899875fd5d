//! How processes end, and what is left of them: nothing.

use std::time::Duration;

use mainstay::{CallError, EventKind};
use serde_json::json;

use super::harness::*;

#[tokio::test]
async fn law_17_f55_f56_deadlines_and_stops_do_not_wait_for_a_server_that_is_stopped_or_deaf() {
    let bench = Bench::new();
    let servers = [
        bench.server("stopped", &["--stop-self-after", "4"]),
        bench.server("deaf", &["--stop-reading-after", "4", "--ignore-term"]),
        bench.server("mute", &["--stop-writing-after", "3", "--ignore-eof"]),
    ];
    let manager = start(servers).await;
    for name in ["stopped", "deaf", "mute"] {
        let server = manager.server(name).unwrap();
        generation(&server, 1).await;
        for size in [1, 500_000] {
            let request = tool_call("echo", &json!({"text": "x".repeat(size)}));
            let error = within(name, server.request(request, limits(200, 200)))
                .await
                .unwrap_err();
            assert!(
                matches!(error, CallError::Unknown(_) | CallError::Refused(_)),
                "{name}: {error}"
            );
        }
    }
    within("shutdown", manager.shutdown()).await;
    for name in ["stopped", "deaf", "mute"] {
        let living: Vec<u32> = pids(&bench, name)
            .into_iter()
            .filter(|pid| lives(*pid))
            .collect();
        assert!(living.is_empty(), "{name}: {living:?}");
    }
    assert_eq!(
        manager.server("deaf").unwrap().status().counts.forced_kills,
        1,
        "F70: who had to be killed is counted"
    );
}

#[tokio::test]
async fn law_16_f61_f62_calls_in_flight_end_with_code_and_last_words_though_a_grandchild_holds_stdout()
 {
    let bench = Bench::new();
    let flags = [
        "--grandchild",
        "--exit-code",
        "5",
        "--last-words",
        "panic: out of cheese",
        "--exit-after-ms",
        "5000",
    ];
    let manager = start([bench.server("a", &flags)]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    let calls = (0..10).map(|_| {
        let server = server.clone();
        tokio::spawn(async move { call(&server, "slow", json!({"ms": 600_000})).await })
    });
    for ended in calls.collect::<Vec<_>>() {
        let error = within("a call", ended).await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Unknown(_)), "{error}");
        let words = error.to_string();
        assert!(words.contains("code 5"), "{words}");
        assert!(words.contains("panic: out of cheese"), "{words}");
    }
    generation(&server, 2).await;
    let grandchildren: Vec<u32> = bench
        .ledger("a")
        .into_iter()
        .filter(|(_, event, _)| event == "grandchild")
        .map(|(_, _, pid)| pid.parse().unwrap())
        .collect();
    assert!(!lives(grandchildren[0]), "F65: swept before the next start");
    manager.shutdown().await;
    assert!(grandchildren.into_iter().all(|pid| !lives(pid)));
}

#[tokio::test]
async fn law_2_f63_a_server_that_closes_its_stdout_is_dead_and_gone_before_the_next_one_starts() {
    let bench = Bench::new();
    let flags = ["--close-stdout-after", "1", "--ignore-eof", "--ignore-term"];
    let manager = start([bench.server("a", &flags)]).await;
    let server = manager.server("a").unwrap();
    let first = generation(&server, 1).await.pid.unwrap();
    let hanging = tokio::spawn({
        let server = server.clone();
        async move { call(&server, "slow", json!({"ms": 600_000})).await }
    });
    until("the call to arrive", || bench.count("a", "call") == 1).await;
    call(&server, "echo", json!({})).await.unwrap();
    let error = within("the call in flight", hanging)
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, CallError::Unknown(_)), "{error}");
    assert!(error.to_string().contains("connection closed"), "{error}");
    until("the second start", || bench.count("a", "spawn") == 2).await;
    assert!(!lives(first));
    generation(&server, 2).await;
    manager.shutdown().await;
}

#[tokio::test]
async fn law_29_f64_f65_f70_a_deaf_tree_of_launchers_leaves_nobody() {
    let bench = Bench::new();
    let ledger = bench.path("a").display().to_string();
    // sh, the runner, its sh, the server, and what the server left behind: none of them hears TERM or an end of stdin.
    let script = format!(
        "trap '' TERM; {MISBEHAVE} --runner --ledger {ledger} --ignore-term --ignore-eof --grandchild; true"
    );
    let config = mainstay::config::ServerConfig::stdio("a", "sh").args(["-c".to_owned(), script]);
    let manager = start([quick(config)]).await;
    let server = manager.server("a").unwrap();
    for round in 1..=2 {
        let leader = generation(&server, round).await.pid.unwrap();
        let mut family = pids(&bench, "a");
        family.push(leader);
        assert!(family.len() >= 3 && family.iter().any(|pid| lives(*pid)));
        if round == 1 {
            within("restart", server.restart()).await.unwrap();
            generation(&server, 2).await;
        } else {
            within("shutdown", manager.shutdown()).await;
        }
        let living: Vec<u32> = family.into_iter().filter(|pid| lives(*pid)).collect();
        assert!(round == 1 || living.is_empty(), "{living:?}");
        assert!(!lives(leader), "round {round}");
    }
    let grandchildren = bench.ledger("a");
    let grandchildren = grandchildren
        .iter()
        .filter(|(_, event, _)| event == "grandchild");
    assert_eq!(grandchildren.clone().count(), 2);
    for (_, _, pid) in grandchildren {
        assert!(!lives(pid.parse().unwrap()));
    }
    assert_eq!(server.status().counts.forced_kills, 2);
}

#[tokio::test]
async fn law_9_f69_servers_that_connect_and_leave_at_once_are_spawned_budget_plus_one_times() {
    let bench = Bench::new();
    let loops: [(&str, &[&str]); 4] = [
        ("after-handshake", &["--exit-after", "initialize"]),
        ("after-listing", &["--exit-after", "tools/list"]),
        (
            "at-initialized",
            &["--exit-on", "notifications/initialized"],
        ),
        ("soon", &["--exit-after-ms", "200"]),
    ];
    let servers = loops.map(|(name, flags)| {
        let mut config = bench.server(name, flags);
        config.restart.budget = 4;
        config.restart.parked_probe_ms = None;
        config.protocol = mainstay::config::Protocol::Legacy;
        config
    });
    let manager = start(servers).await;
    for (name, _) in loops {
        let status = state(&manager.server(name).unwrap(), "parked").await;
        assert_eq!(bench.count(name, "spawn"), 5, "{name}: {}", status.word);
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn f73_writing_to_servers_that_die_never_hurts_us() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &[])]).await;
    let server = manager.server("a").unwrap();
    let large = "x".repeat(200_000);
    for round in 1..=10 {
        let pid = generation(&server, round).await.pid.unwrap();
        let calls = (0..4).map(|_| {
            let server = server.clone();
            let request = tool_call("echo", &json!({"text": large}));
            tokio::spawn(async move { server.request(request, limits(60_000, 60_000)).await })
        });
        let calls: Vec<_> = calls.collect();
        kill(pid);
        for ended in calls {
            // Answered by the old or the next process, or unknown; but it ends, and so do not we.
            let _ = within("a call", ended).await.unwrap();
        }
        // Proof that the next one is needed at all.
        within("a call", server.call("echo", None)).await.unwrap();
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn law_15_f74_a_busy_server_is_not_killed_and_a_stopped_one_is() {
    let bench = Bench::new();
    let mut config = bench.server("a", &[]);
    config.suspicion.timeout_ms = 300;
    config.suspicion.misses = 2;
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    // Busy for longer than probes would take, and its caller gives up early: the probe is answered, nothing happens.
    let busy = tokio::spawn({
        let server = server.clone();
        async move { call(&server, "slow", json!({"ms": 2_500})).await }
    });
    until("the call to arrive", || bench.count("a", "call") == 1).await;
    let request = tool_call("slow", &json!({"ms": 600_000}));
    within("a deadline", server.request(request, limits(100, 60_000)))
        .await
        .unwrap_err();
    assert!(within("the busy call", busy).await.unwrap().is_ok());
    let status = server.status();
    assert_eq!((status.generation, bench.count("a", "spawn")), (1, 1));
    // Stopped, it answers no probe; no keepalive is configured, the silence of a call is what raises suspicion.
    let pid = status.pid.unwrap();
    let stopped = std::process::Command::new("kill")
        .args(["-STOP", &pid.to_string()])
        .status()
        .unwrap();
    assert!(stopped.success());
    let request = tool_call("echo", &json!({}));
    within("a deadline", server.request(request, limits(100, 60_000)))
        .await
        .unwrap_err();
    generation(&server, 2).await;
    assert!(!lives(pid));
    manager.shutdown().await;
}

#[tokio::test]
async fn f66_a_process_that_left_its_group_is_named_and_left_alone() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &["--escapee"])]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    until("the escape", || bench.count("a", "escapee") == 1).await;
    let (escapee, ..) = bench.ledger("a")[..]
        .iter()
        .find(|(_, event, _)| event == "escapee")
        .cloned()
        .unwrap();
    within("shutdown", manager.shutdown()).await;
    let escaped = |event: mainstay::Event| {
        if let EventKind::Escaped { pids } = event.kind {
            return Some(pids);
        }
        None
    };
    let told = manager.recent_events().into_iter().find_map(escaped);
    let lived = lives(escapee);
    kill(escapee);
    assert!(lived, "it is not ours to end");
    assert_eq!(told, Some(vec![escapee]));
    assert_eq!(server.status().counts.escapes, 1);
}

#[tokio::test]
async fn f67_f68_f69_a_hundred_crashes_leave_no_zombie_and_no_process() {
    let bench = Bench::new();
    let mut config = bench.server("a", &["--exit-on", "initialize", "--exit-code", "1"]);
    config.restart.budget = 99;
    config.restart.open_interval_ms = 1;
    config.restart.backoff_cap_ms = 2;
    config.restart.parked_probe_ms = None;
    config.protocol = mainstay::config::Protocol::Legacy;
    let manager = start([config, bench.server("good", &[])]).await;
    let good = generation(&manager.server("good").unwrap(), 1).await.pid;
    state(&manager.server("a").unwrap(), "parked").await;
    assert_eq!(bench.count("a", "spawn"), 100);
    for pid in pids(&bench, "a") {
        let left = std::path::Path::new(&format!("/proc/{pid}")).exists();
        assert!(!left || good == Some(pid), "{pid} is still there");
    }
    let server = manager.server("good").unwrap();
    assert_eq!(server.status().pid, good, "F67: nobody else was touched");
    assert!(call(&server, "echo", json!({})).await.is_ok());
    let stopped = tokio::time::timeout(Duration::from_secs(30), manager.shutdown()).await;
    assert!(stopped.is_ok());
}
