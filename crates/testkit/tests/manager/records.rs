//! What calls leave behind: one record each, that adds up with the counters, and what status says of a server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::calls::{CallRecord, Outcome};
use mainstay::config::{Config, ServerConfig};
use mainstay::{
    CallError, CallOptions, ClientFace, Manager, Origin, ServerHandle, ServerStatus, TraceContext,
};
use serde_json::{Value, json};

use super::harness::*;

/// How calls ended as their callers saw it.
#[derive(Debug, Default)]
struct Seen {
    begun: u64,
    ended: BTreeMap<&'static str, u64>,
}

/// The word of an outcome, told from the answer alone.
fn word(outcome: &Result<mainstay::Answer, CallError>) -> &'static str {
    match outcome {
        Ok(answer) => match (answer.result(), answer.error()) {
            (Some(result), _) if result.contains(r#""isError":true"#) => "toolError",
            (Some(_), _) => "answered",
            (None, _) => "serverError",
        },
        Err(error) => error.class(),
    }
}

/// Makes a call in the background and notes how it ends; `None` if it is dropped before.
fn begin(
    server: &ServerHandle,
    seen: &Arc<Mutex<Seen>>,
    tool: &str,
    arguments: &Value,
    options: CallOptions,
) -> tokio::task::JoinHandle<()> {
    let (server, seen) = (server.clone(), Arc::clone(seen));
    let request = tool_call(tool, arguments);
    tokio::spawn(async move {
        // Within one poll with the call's own beginning.
        seen.lock().unwrap().begun += 1;
        let outcome = server.request(request, options).await;
        *seen
            .lock()
            .unwrap()
            .ended
            .entry(word(&outcome))
            .or_default() += 1;
    })
}

fn by_outcome<'r>(
    records: impl IntoIterator<Item = &'r Arc<CallRecord>>,
) -> BTreeMap<&'static str, u64> {
    let mut found = BTreeMap::new();
    for record in records {
        *found.entry(record.outcome.word()).or_default() += 1;
    }
    found
}

/// A server with a tool that fails by its own account.
async fn with_failing_tool(server: &ServerHandle) {
    generation(server, 1).await;
    let names = json!({"names": ["echo", "slow", "crash", "fail", "set_tools"]});
    call(server, "set_tools", names).await.unwrap();
}

/// Servers that are fine, mortal, narrow, gone and off.
async fn motley(bench: &Bench) -> Manager {
    let mut narrow = bench.server("narrow", &[]);
    narrow.concurrency = 2;
    let mut gone = bench.server("gone", &["--exit-at", "initialize"]);
    gone.restart.budget = 0;
    gone.restart.parked_call_interval_ms = 600_000;
    let manager = start([
        bench.server("fine", &[]),
        bench.server("mortal", &["--exit-after-calls", "7"]),
        narrow,
        gone,
        bench.server("off", &[]),
    ])
    .await;
    state(&manager.server("gone").unwrap(), "parked").await;
    with_failing_tool(&manager.server("fine").unwrap()).await;
    manager.server("off").unwrap().disable().await.unwrap();
    manager
}

/// Calls of all sorts to all of them, some of which are dropped sooner or later. Returns when none is left.
async fn traffic(manager: &Manager, seen: &Arc<Mutex<Seen>>) {
    let calls = |server: &ServerHandle, round: u64| {
        let within_ms = |total_ms| CallOptions {
            total: Some(Duration::from_millis(total_ms)),
            ..CallOptions::default()
        };
        [
            ("echo", json!({"text": "x"}), 20_000),
            ("slow", json!({"ms": round % 5}), 20_000),
            ("fail", json!({}), 20_000),
            ("no such tool", json!({}), 20_000),
            ("slow", json!({"ms": 60_000}), 30),
            // For ever, as far as the test goes.
            ("slow", json!({"ms": 600_000}), 20_000),
        ]
        .map(|(tool, arguments, total_ms)| {
            begin(server, seen, tool, &arguments, within_ms(total_ms))
        })
    };
    let mut running = Vec::new();
    for round in 0..20_u64 {
        for server in manager.servers() {
            running.push((round, calls(&server, round)));
        }
        tokio::time::sleep(Duration::from_millis(round % 3)).await;
        for (at, tasks) in &running {
            if at + 2 <= round && at % 2 == 0 {
                tasks.iter().for_each(tokio::task::JoinHandle::abort);
            }
        }
    }
    for (_, tasks) in running {
        let [.., endless] = &tasks;
        endless.abort();
        for task in tasks {
            let _ = within("a call to end", task).await;
        }
    }
}

/// The counters and the status of a server say the same as its records.
fn check_accounts(status: &ServerStatus, own: &BTreeMap<&'static str, u64>) {
    let of = |outcome: Outcome| own.get(outcome.word()).copied().unwrap_or_default();
    let answered = of(Outcome::Answered) + of(Outcome::ToolError) + of(Outcome::ServerError);
    let counts = status.counts;
    let counted = [
        (counts.answered, answered),
        (counts.tool_errors, of(Outcome::ToolError)),
        (counts.server_errors, of(Outcome::ServerError)),
        (counts.refused, of(Outcome::Refused)),
        (counts.rejected, of(Outcome::Rejected)),
        (counts.unknown, of(Outcome::Unknown)),
        (counts.cancelled, of(Outcome::Cancelled)),
    ];
    for (counted, recorded) in counted {
        assert_eq!(counted, recorded, "{} {counts:?} {own:?}", status.name);
    }
    assert_eq!(status.calls.total, own.values().sum::<u64>());
    let failures = &status.failures;
    let failed = failures.tool_error
        + failures.server_error
        + failures.refused
        + failures.rejected
        + failures.unknown;
    let caused: u64 = failures.causes.values().sum();
    assert_eq!(caused, failed, "{failures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_16_one_record_for_every_call_and_all_accounts_agree() {
    let bench = Bench::new();
    let manager = motley(&bench).await;
    let mut live = manager.calls();
    let seen = Arc::<Mutex<Seen>>::default();
    let setup = manager.calls_made();
    traffic(&manager, &seen).await;
    let (begun, mut expected) = {
        let seen = seen.lock().unwrap();
        (seen.begun, seen.ended.clone())
    };
    let dropped = begun - expected.values().sum::<u64>();
    expected.insert("cancelled", dropped);
    assert!(dropped > 20 && expected.len() >= 5, "{expected:?}");
    let mut records = Vec::new();
    while let Ok(record) = live.try_recv() {
        records.push(record);
    }
    assert_eq!(records.len() as u64, begun);
    assert_eq!(by_outcome(&records), expected);
    assert_eq!(manager.calls_made(), setup + begun);
    let all = manager.recent_calls();
    for status in manager.status() {
        let own = all.iter().filter(|record| *record.server == *status.name);
        check_accounts(&status, &by_outcome(own));
    }
    for (server, cause) in [("gone", "parked"), ("off", "disabled")] {
        let causes = manager.server(server).unwrap().status().failures.causes;
        assert_eq!(causes.keys().copied().collect::<Vec<_>>(), [cause]);
    }
    within("shutdown", manager.shutdown()).await;
}

/// The one record since the last look.
async fn next(calls: &mut tokio::sync::broadcast::Receiver<Arc<CallRecord>>) -> Arc<CallRecord> {
    let record = within("a record", calls.recv()).await.unwrap();
    assert!(calls.try_recv().is_err(), "one record for one call");
    record
}

#[tokio::test]
async fn law_19_a_record_says_who_called_what_and_where_the_time_went() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &[])]).await;
    let server = manager.server("a").unwrap();
    with_failing_tool(&server).await;
    let mut calls = manager.calls();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut origin = Origin::new("/mcp");
    origin.client = Origin::client_name(r#"{"name":"app","version":"2"}"#);
    origin.trace = TraceContext::parse(trace, None);
    let options = CallOptions {
        origin: Some(Arc::new(origin)),
        ..CallOptions::default()
    };
    let request = tool_call("a__slow", &json!({"ms": 20})).set(&["params", "name"], "\"slow\"");
    let bytes = json!({"name": "a__slow", "arguments": {"ms": 20}})
        .to_string()
        .len() as u64;
    within("the call", server.request(request, options))
        .await
        .unwrap();
    let record = next(&mut calls).await;
    assert_eq!((&*record.server, &*record.method), ("a", "tools/call"));
    assert_eq!(record.tool.as_deref(), Some("slow"));
    assert_eq!(record.exposed.as_deref(), Some("a__slow"));
    assert_eq!(record.client.as_deref(), Some("app/2"));
    assert_eq!(&*record.endpoint, "/mcp");
    assert_eq!(
        record.trace_id.as_deref(),
        Some("4bf92f3577b34da6a3ce929d0e0e4736")
    );
    assert_eq!((record.generation, record.attempts), (1, 1));
    assert!(record.served_ms >= 20 && record.served_us / 1_000 == record.served_ms);
    assert!(record.request_bytes > bytes && record.result_bytes > 20);
    assert_eq!((record.cause, record.arguments.is_none()), (None, true));
    // How else it can end.
    call(&server, "fail", json!({})).await.unwrap();
    let failed = next(&mut calls).await;
    assert_eq!(
        (failed.outcome, &*failed.endpoint),
        (Outcome::ToolError, "library")
    );
    call(&server, "nope", json!({})).await.unwrap();
    let unknown = next(&mut calls).await;
    assert_eq!(unknown.outcome, Outcome::ServerError);
    assert_eq!(unknown.cause, Some("invalid-params"));
    let request = tool_call("slow", &json!({"ms": 60_000}));
    let lost = within("the call", server.request(request, limits(40, 40))).await;
    assert!(matches!(lost, Err(CallError::Unknown(_))));
    let lost = next(&mut calls).await;
    assert_eq!(lost.outcome, Outcome::Unknown);
    assert!(
        matches!(lost.cause, Some("idle-limit" | "total-limit")),
        "{lost:?}"
    );
    assert!(lost.served_us > 0 && lost.result_bytes == 0, "{lost:?}");
    let status = server.status();
    assert!(status.calls.p95_us >= 10_000, "{:?}", status.calls);
    assert!(status.calls.per_minute >= 4 && status.calls.bytes_out > 0);
    assert_eq!(status.era, Some("legacy"));
    assert_eq!(server.recent_calls().len(), 5);
    manager.shutdown().await;
    let refused = call(&server, "echo", json!({})).await.unwrap_err();
    let last = next(&mut calls).await;
    assert_eq!(
        (last.outcome.word(), last.cause),
        (refused.class(), Some(refused.cause_word()))
    );
    assert_eq!((last.generation, last.attempts), (0, 0));
}

#[tokio::test]
async fn law_18_a_call_whose_caller_leaves_is_recorded_as_cancelled_wherever_it_was() {
    let bench = Bench::new();
    let mut config = bench.server("a", &[]);
    config.concurrency = 1;
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    let mut calls = manager.calls();
    let running = tokio::spawn({
        let server = server.clone();
        async move { server.call("slow", Some(&json!({"ms": 600_000}))).await }
    });
    until("the call to arrive", || bench.count("a", "call") == 1).await;
    let queued = tokio::spawn({
        let server = server.clone();
        async move { server.call("echo", None).await }
    });
    until("the other to wait", || server.status().waiting == 1).await;
    queued.abort();
    let record = next(&mut calls).await;
    assert_eq!((record.outcome, record.attempts), (Outcome::Cancelled, 0));
    assert_eq!((record.served_us, record.generation), (0, 0));
    running.abort();
    let record = next(&mut calls).await;
    assert_eq!((record.outcome, record.attempts), (Outcome::Cancelled, 1));
    assert!(record.served_us > 0 && record.generation == 1, "{record:?}");
    assert_eq!(record.cause, None);
    assert_eq!(server.status().counts.cancelled, 2);
    manager.shutdown().await;
}

#[tokio::test]
async fn a_client_that_gets_no_connection_leaves_a_record_too() {
    let bench = Bench::new();
    let mut config = bench.server("a", &["--exit-at", "initialize"]);
    config.restart.budget = 0;
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    state(&server, "parked").await;
    let mut calls = manager.calls();
    let face = ClientFace {
        capabilities: r#"{"sampling":{}}"#.into(),
        ..ClientFace::default()
    };
    server.for_client(&face).await.unwrap_err();
    let record = next(&mut calls).await;
    assert_eq!((&*record.method, record.cause), ("connect", Some("parked")));
    let request = tool_call("echo", &json!({}));
    let options = CallOptions::default();
    let refused = server.for_call(&face, &request, &options).await;
    assert!(refused.is_err());
    let record = next(&mut calls).await;
    assert_eq!(
        (&*record.method, record.tool.as_deref()),
        ("tools/call", Some("echo"))
    );
    assert_eq!(server.status().counts.refused, 2);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_31_arguments_are_recorded_only_where_they_are_asked_for_and_without_secrets() {
    let bench = Bench::new();
    for wanted in [false, true] {
        let server = bench.server("a", &[]).env("API_TOKEN", "literal-secret");
        let mut config = Config::from_servers([server]);
        config.gateway.journal.arguments = wanted;
        let journal = bench.path("journal");
        let builder = Manager::builder().config(config).journal(Some(journal));
        let manager = builder.start().await.unwrap();
        let server = manager.server("a").unwrap();
        let long = "x".repeat(10_000);
        for text in ["literal-secret", "plain", &long] {
            call(&server, "echo", json!({"text": text})).await.unwrap();
        }
        manager.shutdown().await;
        let calls = manager.recent_calls();
        let shown: Vec<Option<&str>> = calls
            .iter()
            .map(|record| record.arguments.as_ref().map(|raw| raw.get()))
            .collect();
        if wanted {
            let expected = [
                Some(r#"{"text":"[hidden]"}"#),
                Some(r#"{"text":"plain"}"#),
                Some(r#""10011 bytes""#),
            ];
            assert_eq!(shown, expected);
        } else {
            assert_eq!(shown, [None; 3]);
        }
        let page = manager.read_journal(&Default::default()).unwrap().unwrap();
        let plain = page.records.iter().any(|line| line.get().contains("plain"));
        assert_eq!(plain, wanted, "{page:?}");
        assert!(
            page.records
                .iter()
                .all(|line| !line.get().contains("literal"))
        );
    }
}

#[tokio::test]
async fn what_the_processes_of_a_server_use_is_told_while_there_are_any() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &["--grandchild"])]).await;
    let server = manager.server("a").unwrap();
    let pid = generation(&server, 1).await.pid.unwrap();
    assert_eq!(server.status().process, None, "only where it is asked for");
    until("both processes to be seen", || {
        server
            .full_status()
            .process
            .is_some_and(|used| used.processes == 2)
    })
    .await;
    let used = server.full_status().process.unwrap();
    assert_eq!(used.pid, pid);
    assert!(used.rss_bytes > 100_000, "{used:?}");
    let all = manager.full_status();
    assert_eq!(all[0].process.unwrap().processes, 2);
    server.disable().await.unwrap();
    until("nothing to be left", || {
        server.full_status().process.is_none()
    })
    .await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f5_what_a_slow_start_is_doing_is_told_with_its_last_line_and_no_secret() {
    let words = "echo fetching 3 of 9 with $API_TOKEN >&2; exec cat >/dev/null";
    let config = ServerConfig::stdio("a", "/bin/sh")
        .args(["-c", words])
        .env("API_TOKEN", "literal-secret");
    let manager = start([quick(config)]).await;
    let server = manager.server("a").unwrap();
    let mut progress = None;
    until("the line", || {
        progress = server.status().progress.filter(|told| told.line.is_some());
        progress.is_some()
    })
    .await;
    let progress = progress.unwrap();
    assert_eq!(
        progress.line.as_deref(),
        Some("fetching 3 of 9 with [hidden]")
    );
    assert_eq!(progress.phase, "greet");
    within("shutdown", manager.shutdown()).await;
    assert_eq!(server.status().progress, None);
}

#[tokio::test]
async fn a_server_has_a_timeline_of_its_states_and_counts_its_restarts() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &[])]).await;
    let server = manager.server("a").unwrap();
    let first = generation(&server, 1).await;
    assert_eq!(first.restarts, 0);
    kill(first.pid.unwrap());
    let second = generation(&server, 2).await;
    assert_eq!(second.restarts, 1);
    let steps = server.timeline();
    let words: Vec<(&str, &str)> = steps.iter().map(|step| (step.from, step.to)).collect();
    assert_eq!(words[0].1, "connecting", "{words:?}");
    assert_eq!(words[1], ("connecting", "connected"), "{words:?}");
    assert!(
        words.windows(2).all(|pair| pair[0].1 == pair[1].0),
        "{words:?}"
    );
    assert!(
        steps.iter().any(|step| step.cause == Some("exited")),
        "{steps:?}"
    );
    assert!(steps.iter().all(|step| step.at_unix_ms > 1_600_000_000_000));
    manager.shutdown().await;
}
