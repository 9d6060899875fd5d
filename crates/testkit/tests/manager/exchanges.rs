//! One call and everything that can become of it: replay, deadlines, progress, cancellation, limits (F175 to F195).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::config::{Keepalive, OnToolChange};
use mainstay::{CallError, CallOptions, EventKind, Refusal};
use mainstay_testkit::http_server::{Eras, Fault, HttpServer, Planned, Script};
use serde_json::{Value, json};

use super::harness::*;
use super::paper::{Paper, Say, done, tool, tools};

/// A probe every now and then, quickly missed.
fn probing(config: &mut mainstay::config::ServerConfig) {
    let mut keepalive = Keepalive::default();
    keepalive.timeout_ms = 2_000;
    keepalive.misses = 2;
    config.keepalive = Some(keepalive);
}

#[tokio::test]
async fn law_15_f181_f193_f238_silent_calls_end_alone_and_one_answered_probe_clears_the_link() {
    let paper = Paper::start(|asked| match (asked.method.as_str(), asked.tool()) {
        ("tools/call", "stuck") => Some(Say::Nothing),
        ("tools/call", "slow") => Some(Say::Events(
            Vec::new(),
            Duration::from_millis(700),
            json!({"content": [{"type": "text", "text": "slow"}]}),
        )),
        // Any answer is life, a refusal too.
        ("ping", _) => Some(Say::Error(-32_601, "Method not found")),
        _ => None,
    })
    .await;
    let mut config = paper.config();
    probing(&mut config);
    let (manager, server) = paper.connect(config).await;
    let lists = paper.count("tools/list");
    let slow = tokio::spawn({
        let server = server.clone();
        async move { call(&server, "slow", json!({})).await }
    });
    let stuck: Vec<_> = (0..20)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move {
                let request = tool_call("stuck", &json!({}));
                server.request(request, limits(100, 60_000)).await
            })
        })
        .collect();
    for ended in stuck {
        let error = within("a stuck call", ended).await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Unknown(_)), "{error}");
    }
    until("the suspicion to be probed", || paper.count("ping") > 0).await;
    assert_eq!(
        text(&within("slow", slow).await.unwrap().unwrap()),
        "slow",
        "other calls do not notice"
    );
    let status = server.status();
    assert_eq!((status.state, status.generation), ("connected", 1));
    assert!(
        paper.count("ping") < 20,
        "probes belong to the connection, not to each of the twenty calls: {}",
        paper.count("ping")
    );
    assert_eq!(paper.count("tools/list"), lists, "a listing is no probe");
    manager.shutdown().await;
}

#[tokio::test]
async fn law_15_f192_a_ping_that_is_refused_is_an_answer_and_proves_health() {
    let paper = Paper::start(|asked| match asked.method.as_str() {
        "ping" => Some(Say::Error(-32_601, "Method not found")),
        _ => None,
    })
    .await;
    let mut config = paper.config();
    let mut keepalive = Keepalive::default();
    keepalive.idle_ms = 30;
    keepalive.timeout_ms = 5_000;
    keepalive.misses = 1;
    config.keepalive = Some(keepalive);
    let (manager, server) = paper.connect(config).await;
    until("a few probes", || paper.count("ping") >= 4).await;
    let proven = within("the proof", server.wait_until(|status| status.proven)).await;
    assert_eq!((proven.state, proven.generation), ("connected", 1));
    manager.shutdown().await;
}

#[tokio::test]
async fn law_16_f182_all_attempts_share_one_deadline() {
    let bench = Bench::new();
    let mut config = bench.server("a", &["--exit-at", "call"]);
    config.trust_annotations = true;
    config.restart.open_interval_ms = 400;
    config.restart.budget = 100;
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    // Every attempt dies at once, and the next one is possible only 400 ms after the one before.
    let request = tool_call("echo", &json!({"text": "x"}));
    let ended = within("the call", server.request(request, limits(60_000, 700))).await;
    assert!(ended.is_err());
    let calls = bench.count("a", "call");
    assert!((1..=3).contains(&calls), "{calls} attempts");
    manager.shutdown().await;
}

#[tokio::test]
async fn f180_a_call_without_options_has_a_deadline_all_the_same() {
    let paper = Paper::start(|asked| (asked.method == "tools/call").then_some(Say::Nothing)).await;
    let mut config = paper.config();
    config.timeouts.call_total_ms = 150;
    let (manager, server) = paper.connect(config).await;
    let error = call(&server, "echo", json!({})).await.unwrap_err();
    assert!(error.to_string().contains("callTotalMs"), "{error}");
    manager.shutdown().await;
}

#[tokio::test]
async fn f183_a_progress_token_is_sent_and_progress_counts_though_nobody_asked_for_it() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &[])]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    // 80 steps, 10 ms apart, under an idle limit that is shorter than the whole.
    let request = tool_call("progress", &json!({"steps": 80}));
    let answer = within("the call", server.request(request, limits(500, 60_000)))
        .await
        .unwrap();
    assert_eq!(text(&answer), "80 steps");
    let paper = Paper::start(|_| None).await;
    let (other, server) = paper.connect(paper.config()).await;
    call(&server, "echo", json!({})).await.unwrap();
    let seen = paper.seen("tools/call");
    assert!(
        seen[0]["params"]["_meta"]["progressToken"].is_u64(),
        "{}",
        seen[0]
    );
    other.shutdown().await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f174_progress_arrives_in_the_order_in_which_it_was_sent() {
    let paper = Paper::start(|asked| {
        let token = asked.params["_meta"]["progressToken"].clone();
        let step = |number: u64| {
            json!({"jsonrpc": "2.0", "method": "notifications/progress",
            "params": {"progressToken": token, "progress": number}})
        };
        let result = json!({"content": []});
        (asked.method == "tools/call")
            .then(|| Say::Events((1..=50).map(step).collect(), Duration::ZERO, result))
    })
    .await;
    let (manager, server) = paper.connect(paper.config()).await;
    let (sender, mut received) = tokio::sync::mpsc::channel(100);
    let mut options = limits(60_000, 60_000);
    options.hear = Some(sender);
    options.progress = true;
    within(
        "the call",
        server.request(tool_call("echo", &json!({})), options),
    )
    .await
    .unwrap();
    let mut steps = Vec::new();
    while let Ok(mainstay::Said::Progress(message)) = received.try_recv() {
        let params: Value = serde_json::from_str(message.params().unwrap()).unwrap();
        steps.push(params["progress"].as_u64().unwrap());
    }
    assert_eq!(steps, (1..=50).collect::<Vec<_>>());
    manager.shutdown().await;
}

#[tokio::test]
async fn law_18_f186_f187_f188_a_call_that_is_left_is_cancelled_once_with_a_fixed_reason() {
    let paper = Paper::start(|asked| (asked.tool() == "stuck").then_some(Say::Nothing)).await;
    let (manager, server) = paper.connect(paper.config()).await;
    let left = tokio::spawn({
        let server = server.clone();
        async move { call(&server, "stuck", json!({"secret": "why"})).await }
    });
    until("the call to arrive", || paper.count("tools/call") == 1).await;
    left.abort();
    // The server never answers; the caller is gone at once all the same.
    assert!(within("the caller to be gone", left).await.is_err());
    until("the cancel notice", || {
        paper.count("notifications/cancelled") == 1
    })
    .await;
    let request = tool_call("stuck", &json!({}));
    within("a timeout", server.request(request, limits(50, 60_000)))
        .await
        .unwrap_err();
    until("the second cancel notice", || {
        paper.count("notifications/cancelled") == 2
    })
    .await;
    call(&server, "echo", json!({})).await.unwrap();
    let (calls, notices) = (
        paper.seen("tools/call"),
        paper.seen("notifications/cancelled"),
    );
    assert_eq!(
        notices.len(),
        2,
        "once for each, and none for an answered one"
    );
    for (call, notice) in calls.iter().zip(&notices) {
        assert_eq!(notice["params"]["requestId"], call["id"]);
        assert_eq!(notice["params"]["reason"], "no longer wanted");
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn f189_a_call_that_the_server_gives_up_ends_at_once_with_its_reason() {
    let paper = Paper::start(|asked| {
        (asked.method == "tools/call").then(|| {
            Say::EventsOnly(vec![
                json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
                "params": {"requestId": asked.id, "reason": "out of\n paper"}}),
            ])
        })
    })
    .await;
    let mut config = paper.config();
    config.trust_annotations = true;
    let (manager, server) = paper.connect(config).await;
    let error = call(&server, "echo", json!({})).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown(_)), "{error}");
    assert!(
        error
            .to_string()
            .ends_with("cancelled the call: out of paper"),
        "{error}"
    );
    assert_eq!(paper.count("tools/call"), 1, "it is not sent again");
    assert_eq!(
        paper.count("notifications/cancelled"),
        0,
        "nobody cancels what is cancelled"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn f190_an_answer_that_comes_too_late_is_counted_and_disturbs_nobody() {
    let paper = Paper::start(|asked| (asked.tool() == "stuck").then_some(Say::Nothing)).await;
    let (manager, server) = paper.connect(paper.config()).await;
    let request = tool_call("stuck", &json!({}));
    within("the call", server.request(request, limits(50, 60_000)))
        .await
        .unwrap_err();
    let id = paper.seen("tools/call")[0]["id"].clone();
    let before = server.status().counts.late_answers;
    paper
        .push(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}}))
        .await;
    until("the late answer to be counted", || {
        server.status().counts.late_answers == before + 1
    })
    .await;
    assert!(call(&server, "echo", json!({})).await.is_ok());
    assert_eq!(server.status().generation, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn f191_pings_of_the_server_are_answered_while_a_call_waits() {
    let paper = Paper::start(|asked| {
        let ping = |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
        (asked.tool() == "stuck").then(|| Say::EventsOnly((900..910).map(ping).collect()))
    })
    .await;
    let (manager, server) = paper.connect(paper.config()).await;
    let waiting = tokio::spawn({
        let server = server.clone();
        async move { call(&server, "stuck", json!({})).await }
    });
    until("ten pongs", || paper.answers().len() == 10).await;
    assert!(
        paper
            .answers()
            .iter()
            .all(|pong| pong["result"] == json!({}))
    );
    assert!(!waiting.is_finished(), "the call still waits");
    waiting.abort();
    manager.shutdown().await;
}

#[tokio::test]
async fn law_15_f194_errors_of_tools_are_no_failures_of_the_server_whatever_their_words() {
    let paper = Paper::start(|asked| match asked.tool() {
        "result" => Some(Say::Result(json!({"isError": true,
            "content": [{"type": "text", "text": "connection closed: session not found (404)"}]}))),
        "error" => Some(Say::Error(-32_603, "transport closed, broken pipe")),
        _ => None,
    })
    .await;
    let (manager, server) = paper.connect(paper.config()).await;
    for _ in 0..20 {
        for tool in ["result", "error"] {
            let answer = call(&server, tool, json!({})).await.unwrap();
            assert_eq!(answer.attempts, 1);
        }
    }
    let status = server.status();
    assert_eq!(
        (status.state, status.generation, status.charges),
        ("connected", 1, 0)
    );
    assert!(status.last_failure.is_none(), "{:?}", status.last_failure);
    assert_eq!(paper.count("ping"), 0, "and nobody is suspicious");
    manager.shutdown().await;
}

#[tokio::test]
async fn f195_an_answer_beyond_the_cap_is_withheld_from_its_call_and_counted() {
    let paper =
        Paper::start(|asked| (asked.tool() == "big").then(|| done(&"x".repeat(10_000)))).await;
    let mut config = paper.config();
    config.result_bytes = 5_000;
    let (manager, server) = paper.connect(config).await;
    for _ in 0..3 {
        let error = call(&server, "big", json!({})).await.unwrap_err();
        assert!(
            matches!(&error, CallError::Unknown(_)) && error.to_string().contains("resultBytes"),
            "{error}"
        );
    }
    assert!(call(&server, "echo", json!({})).await.is_ok());
    assert_eq!(server.status().counts.limits_exceeded, 3);
    let told = manager.recent_events().into_iter().any(|event| {
        matches!(event.kind, EventKind::LimitExceeded { limit, count: 1, .. } if limit == "resultBytes")
    });
    assert!(told, "an exceeded limit is an event");
    assert_eq!(server.status().generation, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_16_f175_f176_f177_f178_only_clear_hints_of_a_trusted_server_allow_a_repetition() {
    let listed = || {
        let hinted = |name: &str, hints: Value| {
            let mut tool = tool(name);
            tool["annotations"] = hints;
            tool
        };
        Say::Result(json!({"tools": [
            hinted("safe", json!({"readOnlyHint": true})),
            hinted("again", json!({"idempotentHint": true})),
            hinted("torn", json!({"readOnlyHint": true, "destructiveHint": true})),
            tool("get_or_create"),
        ]}))
    };
    for trust in [true, false] {
        let calls = Arc::new(Mutex::new(Vec::<String>::new()));
        let seen = Arc::clone(&calls);
        let paper = Paper::start(move |asked| {
            if asked.method == "tools/list" {
                return Some(listed());
            }
            if asked.method != "tools/call" {
                return None;
            }
            // Each tool's first call breaks, the second would work.
            let name = asked.tool().to_owned();
            let mut seen = seen.lock().unwrap();
            let is_first = !seen.contains(&name);
            seen.push(name);
            is_first.then_some(Say::Cut)
        })
        .await;
        let mut config = paper.config();
        config.trust_annotations = trust;
        let (manager, server) = paper.connect(config).await;
        for name in ["safe", "again", "torn", "get_or_create"] {
            let outcome = call(&server, name, json!({})).await;
            let repeated = trust && matches!(name, "safe" | "again");
            let executed = calls
                .lock()
                .unwrap()
                .iter()
                .filter(|call| *call == name)
                .count();
            assert_eq!(
                executed,
                if repeated { 2 } else { 1 },
                "{name}, trusted: {trust}"
            );
            match outcome {
                Ok(answer) => assert!(repeated && answer.attempts == 2, "{name}"),
                Err(error) => assert!(
                    !repeated && matches!(error, CallError::Unknown(_)),
                    "{name}: {error}"
                ),
            }
        }
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn law_16_f179_what_provably_never_left_is_sent_when_the_server_is_back_and_runs_once() {
    let script = Script {
        eras: Eras::Legacy,
        ..Script::default()
    };
    let mut fake = HttpServer::start(script).await.unwrap();
    let url = fake.url();
    let manager = start([quick(mainstay::config::ServerConfig::http(
        "h",
        url.as_str(),
    ))])
    .await;
    let server = manager.server("h").unwrap();
    generation(&server, 1).await;
    fake.stop().await;
    // Not idempotent, not trusted: what allows the second try is that the first one never began.
    let waiting = tokio::spawn({
        let server = server.clone();
        async move { call(&server, "add_marker", json!({"marker": "m"})).await }
    });
    within(
        "the outage to be noticed",
        server.wait_until(|status| status.state != "connected"),
    )
    .await;
    fake.start_again().await.unwrap();
    let answer = within("the call", waiting).await.unwrap().unwrap();
    assert!(answer.attempts >= 1);
    assert_eq!(fake.ledger().counts().markers.get("m"), Some(&1));
    manager.shutdown().await;
}

#[tokio::test]
async fn f152_calls_that_wait_are_limited_and_the_others_are_told() {
    let bench = Bench::new();
    let mut config = bench.server("a", &["--slow-start", "800"]);
    config.waiting = 3;
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    state(&server, "connecting").await;
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { call(&server, "echo", json!({"text": "x"})).await })
        })
        .collect();
    let (mut answered, mut refused) = (0, 0);
    for ended in calls {
        match within("a call", ended).await.unwrap() {
            Ok(_) => answered += 1,
            Err(CallError::Refused(Refusal::TooManyWaiting { limit: 3, .. })) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((answered, refused), (3, 7));
    let status = server.status();
    assert_eq!((status.waiting, status.counts.limits_exceeded), (0, 7));
    manager.shutdown().await;
}

#[tokio::test]
async fn law_19_f152_a_busy_server_makes_calls_wait_in_the_same_bounded_queue() {
    let bench = Bench::new();
    let mut config = bench.server("a", &[]);
    config.concurrency = 1;
    config.waiting = 2;
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    let slow = |ms: u64| {
        let server = server.clone();
        tokio::spawn(async move { call(&server, "slow", json!({"ms": ms})).await })
    };
    let first = slow(600);
    until("the first to arrive", || bench.count("a", "call") == 1).await;
    let waiting = [slow(0), slow(0)];
    until("two to wait", || server.status().waiting == 2).await;
    let error = call(&server, "echo", json!({})).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Refused(Refusal::TooManyWaiting { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("`waiting`"), "{error}");
    assert!(within("the first", first).await.unwrap().is_ok());
    for ended in waiting {
        let answer = within("a waiting one", ended).await.unwrap().unwrap();
        assert!(answer.queued > answer.served, "its time was our queue's");
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn f18_a_server_whose_next_attempt_is_far_away_refuses_at_once_with_reason_and_time() {
    let mut script = Script {
        eras: Eras::Legacy,
        ..Script::default()
    };
    script.plan.push_back(Planned {
        method: Some("initialize".to_owned()),
        times: 1_000,
        fault: Fault::Status {
            status: 503,
            headers: vec![("retry-after".to_owned(), "300".to_owned())],
            body: String::new(),
        },
    });
    let fake = HttpServer::start(script).await.unwrap();
    let url = fake.url();
    let mut config = quick(mainstay::config::ServerConfig::http("h", url.as_str()));
    config.protocol = mainstay::config::Protocol::Legacy;
    let manager = start([config]).await;
    let server = manager.server("h").unwrap();
    state(&server, "backoff").await;
    let attempts = fake.ledger().seen_of("initialize").len();
    for _ in 0..20 {
        // Patience is 15 s, and nothing would come of it.
        let error = call(&server, "echo", json!({})).await.unwrap_err();
        let CallError::Refused(Refusal::TooSoon {
            next_attempt_in,
            cause: Some(cause),
            ..
        }) = &error
        else {
            panic!("{error}")
        };
        assert!(next_attempt_in.as_secs() > 60, "{error}");
        assert!(
            matches!(cause.kind.word(), "http-status" | "rate-limited"),
            "{error}"
        );
        assert!(error.to_string().contains("which comes in"), "{error}");
    }
    assert_eq!(
        fake.ledger().seen_of("initialize").len(),
        attempts,
        "calls cause no attempts"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn f24_f25_an_idle_server_stops_only_when_nothing_is_in_flight_and_a_call_starts_it_again() {
    let bench = Bench::new();
    let mut config = bench.server("a", &[]);
    config.idle_shutdown_ms = Some(300);
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    // Longer than the limit, and not cut.
    let answer = call(&server, "slow", json!({"ms": 1_000})).await.unwrap();
    assert_eq!((text(&answer), answer.generation.0), ("done".to_owned(), 1));
    state(&server, "idle").await;
    assert_eq!(manager.publication().tools.items.len(), 7, "its tools stay");
    let answer = call(&server, "echo", json!({"text": "up"})).await.unwrap();
    assert_eq!((text(&answer), answer.generation.0), ("up".to_owned(), 2));
    manager.shutdown().await;
}

/// A server whose tool is described as the test says.
async fn restless(
    policy: OnToolChange,
    version: Arc<AtomicU64>,
) -> (Paper, mainstay::Manager, mainstay::ServerHandle) {
    let paper = Paper::start(move |asked| {
        (asked.method == "tools/list").then(|| {
            let mut tool = tool("echo");
            tool["description"] = json!(format!("version {}", version.load(Ordering::SeqCst)));
            Say::Result(json!({"tools": [tool]}))
        })
    })
    .await;
    let mut config = paper.config();
    config.on_tool_change = policy;
    let (manager, server) = paper.connect(config).await;
    (paper, manager, server)
}

#[tokio::test]
async fn law_20_f250_a_tool_that_changed_since_its_caller_saw_it_is_what_the_policy_says() {
    for policy in [
        OnToolChange::Allow,
        OnToolChange::Warn,
        OnToolChange::Refuse,
    ] {
        let version = Arc::new(AtomicU64::new(1));
        let (paper, manager, server) = restless(policy, Arc::clone(&version)).await;
        let seen = server.catalog().unwrap().tool_digest("echo");
        let options = || CallOptions {
            expected: seen,
            ..CallOptions::default()
        };
        let request = || tool_call("echo", &json!({}));
        within("a call", server.request(request(), options()))
            .await
            .unwrap();
        version.store(2, Ordering::SeqCst);
        paper.tell_changed().await;
        until("the change to be listed", || {
            server.catalog().unwrap().tool_digest("echo") != seen
        })
        .await;
        let outcome = within("the call", server.request(request(), options())).await;
        let executed = paper.count("tools/call");
        match policy {
            OnToolChange::Refuse => {
                let error = outcome.unwrap_err();
                assert!(
                    matches!(&error, CallError::Refused(Refusal::ToolChanged { .. })),
                    "{error}"
                );
                assert_eq!(executed, 1);
            }
            OnToolChange::Allow | OnToolChange::Warn => {
                outcome.unwrap();
                assert_eq!(executed, 2);
            }
        }
        let events = manager.recent_events();
        let changed = events.iter().any(|event| {
            matches!(&event.kind, EventKind::ToolsChanged { changed, .. } if changed == &["echo"])
        });
        assert!(changed, "a changed definition is an event: {events:?}");
        let met = events
            .iter()
            .any(|event| matches!(&event.kind, EventKind::CallMetToolChange { .. }));
        assert_eq!(met, policy != OnToolChange::Allow);
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f172_an_answer_that_knows_no_such_tool_leads_to_one_listing_in_both_forms() {
    for as_error in [true, false] {
        let called = Arc::new(AtomicBool::new(false));
        let paper = Paper::start(move |asked| match (asked.method.as_str(), asked.tool()) {
            ("tools/list", _) if called.load(Ordering::SeqCst) => Some(tools(&["echo"])),
            ("tools/list", _) => Some(tools(&["echo", "gone"])),
            ("tools/call", "gone") => {
                called.store(true, Ordering::SeqCst);
                Some(if as_error {
                    Say::Error(-32_602, "Unknown tool: gone")
                } else {
                    Say::Result(json!({"isError": true,
                        "content": [{"type": "text", "text": "Tool gone not found"}]}))
                })
            }
            _ => None,
        })
        .await;
        let (manager, server) = paper.connect(paper.config()).await;
        let before = paper.count("tools/list");
        assert!(manager.publication().tools.find("p__gone").is_some());
        for _ in 0..20 {
            assert!(
                call(&server, "gone", json!({})).await.is_ok(),
                "the server's own words"
            );
        }
        until("the tool to be unpublished", || {
            manager.publication().tools.find("p__gone").is_none()
        })
        .await;
        assert!(
            paper.count("tools/list") <= before + 3,
            "{} listings",
            paper.count("tools/list")
        );
        assert!(manager.publication().tools.find("p__echo").is_some());
        manager.shutdown().await;
    }
}
