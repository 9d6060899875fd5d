//! Starting processes: slow ones, package runners, many at once, and those that end before they begin.

use mainstay::config::{Config, ServerConfig};
use mainstay::{Manager, ServerStatus};
use serde_json::json;

use super::harness::*;

/// The same server under the name of a package runner.
fn runner(bench: &Bench, name: &str, flags: &[&str]) -> ServerConfig {
    let npx = bench.path("npx");
    if !npx.exists() {
        std::os::unix::fs::symlink(MISBEHAVE, &npx).unwrap();
    }
    let ledger = bench.path(name).display().to_string();
    let config = ServerConfig::stdio(name, npx.display().to_string().as_str());
    let config = config.args(["--ledger".to_owned(), ledger]);
    let mut config = quick(config.args(flags.iter().map(|flag| (*flag).to_owned())));
    config.timeouts.greet_ms = 2_000;
    config.timeouts.connect_ms = 2_000;
    config.timeouts.runner_ms = 60_000;
    config.restart.budget = 0;
    config.restart.parked_probe_ms = None;
    config
}

fn failure(status: ServerStatus) -> String {
    let failure = status.last_failure.unwrap();
    format!("{}: {}", failure.kind, failure.detail)
}

#[tokio::test]
async fn f4_a_package_runner_that_talks_on_stderr_is_not_cut_off_in_mid_download() {
    let bench = Bench::new();
    let download = ["--slow-start", "4500", "--stderr-alive", "100"];
    // The same, but nobody would expect it to download.
    let mut plain = bench.server("plain", &download);
    plain.timeouts = runner(&bench, "-", &[]).timeouts;
    plain.restart.budget = 0;
    let silent = runner(&bench, "silent", &["--slow-start", "600000"]);
    let talking = runner(&bench, "talking", &download);
    let manager = start([talking, plain, silent, bench.server("good", &[])]).await;
    // Law 27: the others do not wait for it.
    generation(&manager.server("good").unwrap(), 1).await;
    let status = generation(&manager.server("talking").unwrap(), 1).await;
    assert_eq!(status.generation, 1);
    assert_eq!(bench.count("talking", "spawn"), 1);
    for name in ["plain", "silent"] {
        let words = failure(state(&manager.server(name).unwrap(), "parked").await);
        assert!(words.starts_with("connect-timeout"), "{name}: {words}");
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn f5_a_start_that_took_too_long_is_ended_with_manners() {
    let bench = Bench::new();
    let mut patient = runner(&bench, "patient", &["--slow-start", "600000"]);
    patient.timeouts.greet_ms = 500;
    patient.stop.terminate_ms = 30_000;
    // This one reads, and leaves at the end of its stdin before anybody says TERM.
    let mut polite = runner(&bench, "polite", &["--never-answer", "initialize"]);
    polite.timeouts.greet_ms = 1_500;
    polite.stop.close_ms = 30_000;
    let manager = start([patient, polite]).await;
    state(&manager.server("patient").unwrap(), "parked").await;
    assert_eq!(bench.count_of("patient", "signal", "TERM"), 1);
    state(&manager.server("polite").unwrap(), "parked").await;
    assert_eq!(bench.count("polite", "eof"), 1);
    assert_eq!(bench.count("polite", "signal"), 0);
    for name in ["patient", "polite"] {
        let counts = manager.server(name).unwrap().status().counts;
        assert_eq!(counts.forced_kills, 0, "{name}");
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn f5_f14_the_same_missing_module_again_and_again_is_a_corrupt_cache() {
    let bench = Bench::new();
    let flags = [
        "--exit-at",
        "start",
        "--exit-code",
        "1",
        "--last-words",
        "Error: Cannot find module 'zod'",
    ];
    let mut config = runner(&bench, "a", &flags);
    config.restart.budget = 3;
    let manager = start([config]).await;
    let words = failure(state(&manager.server("a").unwrap(), "parked").await);
    for part in [
        "code 1",
        "'zod'",
        "corrupt package cache",
        "npm cache clean",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn f7_a_second_copy_is_recognised_by_its_last_words() {
    let bench = Bench::new();
    let words = "Error: listen EADDRINUSE: address already in use";
    let mut config = bench.server("a", &["--exit-at", "start", "--last-words", words]);
    config.restart.budget = 0;
    let manager = start([config]).await;
    let words = failure(state(&manager.server("a").unwrap(), "parked").await);
    assert!(words.contains("another copy of this server"), "{words}");
    manager.shutdown().await;
}

#[tokio::test]
async fn f14_an_exit_at_once_tells_its_code_and_its_last_words() {
    let bench = Bench::new();
    let flags = [
        "--exit-at",
        "start",
        "--last-words",
        "accept the license first",
    ];
    let mut config = bench.server("a", &flags);
    config.restart.budget = 1;
    let manager = start([config]).await;
    let status = state(&manager.server("a").unwrap(), "parked").await;
    assert_eq!(status.charges, 2, "it counts");
    assert_eq!(status.stderr_tail, ["accept the license first"]);
    let words = failure(status);
    assert!(
        words.starts_with("exited-early") && words.contains("code 0"),
        "{words}"
    );
    assert!(words.contains("accept the license first"), "{words}");
    manager.shutdown().await;
}

#[tokio::test]
async fn f6_starts_queue_at_the_gate_and_their_deadlines_begin_behind_it() {
    const GATE: usize = 2;
    let bench = Bench::new();
    let names: Vec<String> = (0..14).map(|number| format!("s{number}")).collect();
    let servers = names.iter().map(|name| {
        // One ledger for all: its order is the order of happening.
        let config = ServerConfig::stdio(name.as_str(), MISBEHAVE);
        let ledger = bench.path("all").display().to_string();
        let mut config = quick(config.args(["--ledger".to_owned(), ledger]));
        config = config.args(["--slow-start".to_owned(), "500".to_owned()]);
        // All of them one after the other take longer than this.
        config.timeouts.connect_ms = 3_000;
        config
    });
    let mut config = Config::from_servers(servers);
    config.gateway.start_gate = GATE;
    let manager = Manager::builder().config(config).start().await.unwrap();
    for name in &names {
        generation(&manager.server(name).unwrap(), 1).await;
    }
    let mut starting = 0_usize;
    let mut most = 0;
    for (_, event, _) in bench.ledger("all") {
        match event.as_str() {
            "spawn" => starting += 1,
            // It is still answering the listing, so it is still behind the gate.
            "list" => starting -= 1,
            _ => {}
        }
        most = most.max(starting);
    }
    assert_eq!(most, GATE);
    assert_eq!(bench.count("all", "spawn"), names.len(), "nobody failed");
    manager.shutdown().await;
}

#[tokio::test]
async fn f7_f12_f13_any_number_of_callers_share_one_process() {
    let bench = Bench::new();
    let mut config = bench.server("a", &["--slow-start", "100"]);
    config.startup = mainstay::config::Startup::Lazy;
    let manager = start([config]).await;
    let calls = (0..50).map(|_| {
        let server = manager.server("a").unwrap();
        tokio::spawn(async move { call(&server, "echo", json!({"text": "x"})).await.unwrap() })
    });
    for ended in calls.collect::<Vec<_>>() {
        within("a call", ended).await.unwrap();
    }
    assert_eq!(bench.count("a", "spawn"), 1, "one slot, one process");
    assert_eq!(bench.count("a", "initialize"), 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn f22_a_start_that_is_cancelled_in_any_phase_leaves_no_process() {
    let bench = Bench::new();
    let phases: [(&str, &[&str]); 4] = [
        ("starting", &["--slow-start", "600000"]),
        ("probing", &["--never-answer", "server/discover"]),
        ("greeting", &["--never-answer", "initialize"]),
        ("listing", &["--never-answer", "tools/list"]),
    ];
    let manager = start(phases.map(|(name, flags)| bench.server(name, flags))).await;
    for (name, _) in phases {
        until("its process", || bench.count(name, "spawn") == 1).await;
        let server = manager.server(name).unwrap();
        within("disable", server.disable()).await.unwrap();
        state(&server, "disabled").await;
        until("its end", || {
            pids(&bench, name).into_iter().all(|pid| !lives(pid))
        })
        .await;
    }
    manager.shutdown().await;
}

/// Whatever a shell would make of it: an argument reaches the program as it was written.
#[tokio::test]
async fn f240_arguments_never_pass_a_shell() {
    let bench = Bench::new();
    let hostile = bench.path("a; touch pwned $(touch pwned) `touch pwned` && touch pwned");
    let config = ServerConfig::stdio("s", MISBEHAVE)
        .args(["--ledger".to_owned(), hostile.display().to_string()]);
    let manager = start([quick(config)]).await;
    generation(&manager.server("s").unwrap(), 1).await;
    manager.shutdown().await;
    assert!(hostile.exists(), "one argument, to the letter");
    assert!(!bench.path("pwned").exists());
}
