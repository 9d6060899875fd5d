//! Managers with quick clocks, their servers, and how tests look at both.

use std::path::PathBuf;
use std::time::Duration;

use mainstay::config::{Config, ServerConfig};
use mainstay::{Answer, CallError, CallOptions, Manager, Request, ServerHandle, ServerStatus};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const MISBEHAVE: &str = env!("CARGO_BIN_EXE_misbehave");

/// How long anything may take on the slowest machine. Reached only by a failing test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a ledger.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A misbehaving stdio server with quick restart settings and its own ledger.
    pub(crate) fn server(&self, name: &str, flags: &[&str]) -> ServerConfig {
        let ledger = self.path(name).display().to_string();
        let config = ServerConfig::stdio(name, MISBEHAVE).args(["--ledger".to_owned(), ledger]);
        quick(config.args(flags.iter().map(|flag| (*flag).to_owned())))
    }

    /// The ledger of a server: `(pid, event, detail)` in the order of happening.
    pub(crate) fn ledger(&self, name: &str) -> Vec<(u32, String, String)> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        let read = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let pid = words.next()?.parse().ok()?;
            Some((
                pid,
                words.next()?.to_owned(),
                words.next().unwrap_or_default().to_owned(),
            ))
        };
        text.lines().filter_map(read).collect()
    }

    pub(crate) fn count(&self, name: &str, event: &str) -> usize {
        self.ledger(name)
            .iter()
            .filter(|(_, happened, _)| happened == event)
            .count()
    }

    pub(crate) fn count_of(&self, name: &str, event: &str, detail: &str) -> usize {
        self.ledger(name)
            .iter()
            .filter(|(_, happened, what)| happened == event && what == detail)
            .count()
    }
}

/// Restart settings that make failures quick without changing what they lead to.
pub(crate) fn quick(mut config: ServerConfig) -> ServerConfig {
    config.restart.open_interval_ms = 20;
    config.restart.backoff_base_ms = 5;
    config.restart.backoff_cap_ms = 40;
    config.stop.close_ms = 500;
    config.stop.terminate_ms = 300;
    config.timeouts.probe_ms = 500;
    config
}

pub(crate) async fn start(servers: impl IntoIterator<Item = ServerConfig>) -> Manager {
    Manager::builder()
        .config(Config::from_servers(servers))
        .start()
        .await
        .unwrap()
}

/// The outcome of a future that must come within the patience of the tests.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

/// Waits until a predicate over the world holds. For what has no level to wait on: files and processes.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub(crate) async fn state(server: &ServerHandle, state: &str) -> ServerStatus {
    within(
        &format!("{} to be {state}", server.name()),
        server.wait_until(|status| status.state == state),
    )
    .await
}

pub(crate) async fn generation(server: &ServerHandle, at_least: u64) -> ServerStatus {
    let arrived =
        |status: &ServerStatus| status.state == "connected" && status.generation >= at_least;
    within(
        &format!("{} to reach generation {at_least}", server.name()),
        server.wait_until(arrived),
    )
    .await
}

pub(crate) async fn call(
    server: &ServerHandle,
    tool: &str,
    arguments: Value,
) -> Result<Answer, CallError> {
    within(
        &format!("{tool} to end"),
        server.call(tool, Some(&arguments)),
    )
    .await
}

/// The text of a tool's answer.
pub(crate) fn text(answer: &Answer) -> String {
    let result: Value =
        serde_json::from_str(answer.result().expect("a result, not an error")).unwrap();
    result["content"][0]["text"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// A raw call with options.
pub(crate) fn tool_call(tool: &str, arguments: &Value) -> Request {
    Request::new(
        "tools/call",
        Some(&json!({"name": tool, "arguments": arguments}).to_string()),
    )
}

pub(crate) fn limits(idle_ms: u64, total_ms: u64) -> CallOptions {
    let mut options = CallOptions::default();
    options.idle = Some(Duration::from_millis(idle_ms));
    options.total = Some(Duration::from_millis(total_ms));
    options
}

/// Whether a process lives. A zombie does not.
pub(crate) fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        !matches!(state, Some('Z' | 'X') | None)
    })
}

pub(crate) fn kill(pid: u32) {
    let killed = std::process::Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
}

/// All pids that ever appeared in a server's ledger.
pub(crate) fn pids(bench: &Bench, name: &str) -> Vec<u32> {
    let mut pids: Vec<u32> = bench.ledger(name).iter().map(|(pid, ..)| *pid).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}
