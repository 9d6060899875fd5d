//! What people and programs see: status, events, logs (F20 to F22, F232 to F238).

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::config::{Keepalive, ServerConfig};
use mainstay::{CallError, Event, EventKind};
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::{Metadata, Subscriber, span};

use super::harness::*;
use super::paper::{Paper, Say};

/// The changes of state of one server: generation, from, to.
fn changes(events: &[Event]) -> Vec<(u64, &'static str, &'static str)> {
    let change = |event: &Event| {
        let EventKind::Transition { from, to, .. } = event.kind else {
            return None;
        };
        Some((event.generation, from, to))
    };
    events.iter().filter_map(change).collect()
}

#[tokio::test]
async fn f20_a_failed_start_is_an_event_with_phase_class_detail_and_next_attempt() {
    let bench = Bench::new();
    let mut config = bench.server("a", &["--exit-at", "initialize", "--exit-code", "3"]);
    config.protocol = mainstay::config::Protocol::Legacy;
    config.restart.backoff_base_ms = 60_000;
    config.restart.backoff_cap_ms = 60_000;
    let manager = start([config]).await;
    state(&manager.server("a").unwrap(), "backoff").await;
    let events = manager.recent_events();
    let failed = events
        .iter()
        .find(|event| matches!(&event.kind, EventKind::Transition { cause: Some(_), .. }))
        .unwrap();
    let told = serde_json::to_value(failed).unwrap();
    assert_eq!(
        (&told["server"], &told["cause"], &told["phase"]),
        (&json!("a"), &json!("exited-early"), &json!("greet")),
        "{told}"
    );
    assert!(
        told["detail"].as_str().unwrap().contains("code 3"),
        "{told}"
    );
    let planned = events.iter().any(|event| {
        matches!(
            &event.kind,
            EventKind::Transition {
                to: "backoff",
                next: Some("retry"),
                next_in_ms: Some(_),
                ..
            }
        )
    });
    assert!(planned, "{events:?}");
    manager.shutdown().await;
}

#[tokio::test]
async fn f22_a_start_that_is_called_off_leaves_no_process_at_any_phase() {
    let bench = Bench::new();
    let flags: [(&str, &[&str]); 3] = [
        ("spawning", &["--slow-start", "600000"]),
        (
            "greeting",
            &[
                "--never-answer",
                "initialize",
                "--never-answer",
                "server/discover",
            ],
        ),
        ("listing", &["--never-answer", "tools/list"]),
    ];
    let manager = start(flags.map(|(name, flags)| bench.server(name, flags))).await;
    for (name, phase) in [
        ("spawning", "greet"),
        ("greeting", "greet"),
        ("listing", "list"),
    ] {
        let server = manager.server(name).unwrap();
        let status = within(
            "the phase",
            server.wait_until(|status| status.pid.is_some() && status.word.contains(phase)),
        )
        .await;
        within("disable", server.disable()).await.unwrap();
        let pid = status.pid.unwrap();
        until("the process to be gone", || !lives(pid)).await;
        state(&server, "disabled").await;
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn law_9_f235_f236_every_change_is_told_once_the_last_one_too_and_a_death_is_one_end() {
    let bench = Bench::new();
    let mut config = bench.server("a", &["--exit-after-calls", "1", "--grandchild"]);
    config.restart.budget = 1;
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    // Exit, end of stdout and the broken call all tell of the same death. Proven, so it comes back; then for good.
    call(&server, "echo", json!({})).await.unwrap();
    generation(&server, 2).await;
    kill(server.status().pid.unwrap());
    state(&server, "parked").await;
    manager.shutdown().await;
    let changes = changes(&manager.recent_events());
    for pair in changes.windows(2) {
        assert_eq!(
            pair[0].2, pair[1].1,
            "nothing is left out or told twice: {changes:?}"
        );
        assert!(
            pair[1].1 != pair[1].2 || pair[0].0 != pair[1].0,
            "{changes:?}"
        );
    }
    for generation in 1..=2 {
        let ends = changes
            .iter()
            .filter(|change| change.1 == "connected" && change.2 != "connected")
            .filter(|change| change.0 == generation)
            .count();
        assert_eq!(ends, 1, "generation {generation}: {changes:?}");
    }
    let parked = changes.iter().filter(|change| change.2 == "parked").count();
    assert_eq!(parked, 1, "{changes:?}");
}

#[tokio::test]
async fn f234_the_status_tells_the_age_of_the_last_sign_of_life() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &[])]).await;
    let server = manager.server("a").unwrap();
    let pid = generation(&server, 1).await.pid.unwrap();
    call(&server, "echo", json!({})).await.unwrap();
    until("the proof to show", || server.status().proven).await;
    let stopped = std::process::Command::new("kill")
        .args(["-STOP", &pid.to_string()])
        .status()
        .unwrap();
    assert!(stopped.success());
    // It is not known to be dead, and nobody claims that it lives: the age grows.
    until("the age to show", || {
        server.status().life_age_ms.is_some_and(|age| age > 300)
    })
    .await;
    assert_eq!(server.status().state, "connected");
    assert!(server.status().since_ms >= server.status().life_age_ms.unwrap_or_default());
    manager.shutdown().await;
}

#[tokio::test]
async fn f237_the_transport_shown_is_the_configured_one_in_every_state() {
    let bench = Bench::new();
    let fake = HttpServer::start(Script::default()).await.unwrap();
    let url = fake.url();
    let gone = quick(ServerConfig::http("gone", "http://127.0.0.1:9/mcp"));
    let mut off = bench.server("off", &[]);
    off.enabled = false;
    let up = quick(ServerConfig::http("up", url.as_str()));
    let missing = ServerConfig::stdio("missing", "/no/such/program");
    let manager = start([gone, off, up, missing]).await;
    generation(&manager.server("up").unwrap(), 1).await;
    state(&manager.server("missing").unwrap(), "parked").await;
    let shown: Vec<_> = manager
        .status()
        .into_iter()
        .map(|status| (status.name, status.transport))
        .collect();
    let expected = [
        ("gone", "http"),
        ("missing", "stdio"),
        ("off", "stdio"),
        ("up", "http"),
    ];
    assert_eq!(
        shown,
        expected.map(|(name, transport)| (name.to_owned(), transport))
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn law_14_f238_a_busy_link_is_not_probed_and_a_quiet_one_is() {
    let paper = Paper::start(|asked| {
        (asked.method == "tools/call").then(|| {
            Say::Events(
                Vec::new(),
                Duration::from_millis(40),
                json!({"content": []}),
            )
        })
    })
    .await;
    let mut config = paper.config();
    let mut keepalive = Keepalive::default();
    keepalive.idle_ms = 1_500;
    keepalive.timeout_ms = 5_000;
    config.keepalive = Some(keepalive);
    let (manager, server) = paper.connect(config).await;
    let begin = tokio::time::Instant::now();
    while begin.elapsed() < Duration::from_millis(3_500) {
        call(&server, "echo", json!({})).await.unwrap();
    }
    assert_eq!(paper.count("ping"), 0, "traffic is life enough");
    until("a probe of the quiet link", || paper.count("ping") > 0).await;
    assert_eq!(server.status().generation, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn a_replacement_that_cannot_be_opened_is_an_event_and_the_old_connection_serves_on() {
    let paper = Paper::start(|asked| {
        (asked.method == "initialize" && asked.before > 0)
            .then_some(Say::Error(-32_603, "no more room"))
    })
    .await;
    let (manager, server) = paper.connect(paper.config()).await;
    within("restart", server.restart()).await.unwrap();
    until("the failure to be told", || {
        manager.recent_events().iter().any(|event| {
            matches!(&event.kind, EventKind::ReplacementFailed { detail, .. } if detail.contains("no more room"))
        })
    })
    .await;
    let answer = call(&server, "echo", json!({})).await.unwrap();
    assert_eq!(answer.generation.0, 1);
    assert!(server.status().last_failure.is_some());
    manager.shutdown().await;
}

/// Everything that was logged, at every level, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0.lock().unwrap(), "{field}={value:?} ");
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span.record(&mut self.clone());
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
        self.0.lock().unwrap().push('\n');
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn law_31_f233_no_payload_and_no_secret_is_ever_logged() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let bench = Bench::new();
    let fake = HttpServer::start(Script::default()).await.unwrap();
    let url = format!("{}?key=SECRET-QUERY", fake.url());
    let http = quick(ServerConfig::http("h", url.as_str()))
        .header("authorization", "Bearer SECRET-HEADER");
    let stdio = bench
        .server("s", &["--noise-text", "3", "--id-as", "wrong"])
        .env("TOKEN", "SECRET-ENV");
    let crashing = bench
        .server("c", &["--exit-at", "call"])
        .args(["--exit-code", "7"]);
    // An answer that belongs to nobody, in the middle of a stream.
    let paper = Paper::start(|asked| {
        let foreign = json!({"jsonrpc": "2.0", "id": 987_654, "result": {"x": "SECRET-ANSWER"}});
        (asked.method == "tools/call")
            .then(|| Say::Events(vec![foreign], Duration::ZERO, json!({"content": []})))
    })
    .await;
    let manager = start([http, stdio, crashing, paper.config()]).await;
    let payload = json!({"text": "SECRET-PAYLOAD", "marker": "SECRET-PAYLOAD"});
    let (http, crashing) = (manager.server("h").unwrap(), manager.server("c").unwrap());
    call(&http, "echo", payload.clone()).await.unwrap();
    let error = call(&crashing, "echo", payload.clone()).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown(_)), "{error}");
    let paper = manager.server("p").unwrap();
    call(&paper, "echo", payload.clone()).await.unwrap();
    // Its answers belong to nobody: late or foreign ones are payload too.
    let request = tool_call("echo", &payload);
    let stdio = manager.server("s").unwrap();
    let _ = within("the call", stdio.request(request, limits(100, 400))).await;
    manager.shutdown().await;
    let text = log.0.lock().unwrap().clone();
    assert!(
        text.contains("state changed") && text.contains("answer to another request"),
        "the log was not captured: {text}"
    );
    assert!(!text.contains("SECRET"), "{text}");
}
