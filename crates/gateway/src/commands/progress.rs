//! What is starting, while somebody waits for it: drawn on a terminal and gone when it is done, told in a line now and then
//! elsewhere, and only when it takes long.
//!
//! Goes to stderr, and never holds anything up.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mainstay::config::{Config, Startup};
use mainstay::{Manager, ServerStatus};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{AdminClient, segment};
use super::config::plural;
use super::view::View;
use crate::cli::human;
use crate::cli::output::{Output, Paint, drawn};
use crate::cli::table::plain;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(150);

/// Elsewhere than on a terminal nothing is said about a start before this, and then at most this often.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// Servers that are drawn at once.
const DRAWN_MAX: usize = 8;

/// Whoever has not come up by then is no longer shown as starting.
const SHOWN_MAX: Duration = Duration::from_secs(900);

/// What is starting, shown until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    ending: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Progress {
    /// Of the servers that start with a manager. `summary`: says at the end what came up and what did not.
    pub(crate) fn of_all(
        manager: &Manager,
        names: Vec<String>,
        output: Output,
        summary: bool,
    ) -> Self {
        let ending = CancellationToken::new();
        let (manager, until) = (manager.clone(), ending.clone());
        let task = tokio::spawn(async move {
            let mut board = Board::new(output);
            let shown = show_all(&manager, &names, &mut board);
            let all = tokio::select! {
                // Cancel-safe: it only looks, and the board is cleared below.
                all = shown => all,
                // Cancel-safe: a token holds nothing.
                () = until.cancelled() => None,
            };
            let took = board.began.elapsed();
            drop(board);
            if let Some(all) = all.filter(|_| summary) {
                output.note(&summed(&all, &names, took));
            }
        });
        Self {
            ending,
            task: Some(task),
        }
    }

    /// Of one server of the running Mainstay.
    pub(crate) fn of_remote(client: &AdminClient, name: &str, output: Output) -> Self {
        let ending = CancellationToken::new();
        let (client, name, until) = (client.clone(), name.to_owned(), ending.clone());
        let task = tokio::spawn(async move {
            let mut board = Board::new(output);
            let shown = show_remote(&client, &name, &mut board);
            tokio::select! {
                // Cancel-safe: it only looks, and the board is cleared when it is dropped.
                () = shown => {}
                // Cancel-safe: a token holds nothing.
                () = until.cancelled() => {}
            }
        });
        Self {
            ending,
            task: Some(task),
        }
    }
}

impl Progress {
    /// Shows nothing any more; when this returns nothing of it is left on the screen. Cancel-safe: then it ends soon.
    pub(crate) async fn end(mut self) {
        self.ending.cancel();
        if let Some(task) = self.task.take() {
            // It only shows: what went wrong with it is nobody's concern.
            let _ended = task.await;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

/// The servers that start by themselves.
pub(crate) fn starters(config: &Config) -> Vec<String> {
    let starts = config
        .servers
        .iter()
        .filter(|server| server.enabled && !server.is_broken() && server.startup == Startup::Eager);
    starts.map(|server| server.name.clone()).collect()
}

/// Shows them until all are up or at rest; `None` if that took too long.
async fn show_all(
    manager: &Manager,
    names: &[String],
    board: &mut Board,
) -> Option<Vec<ServerStatus>> {
    let deadline = Instant::now() + SHOWN_MAX;
    while Instant::now() < deadline {
        let status = manager.status();
        let mut pending = 0;
        for server in status.iter().filter(|server| names.contains(&server.name)) {
            match doing(server) {
                Some(doing) => {
                    pending += 1;
                    board.show(&server.name, &doing);
                }
                None => board.done(&server.name),
            }
        }
        if pending == 0 {
            return Some(status);
        }
        board.tick();
        tokio::time::sleep(LOOK).await;
    }
    None
}

/// What a server that has to come up is doing; `None` when it is up or at rest.
fn doing(server: &ServerStatus) -> Option<String> {
    match server.state {
        "connecting" => Some(match &server.progress {
            Some(progress) => phase(progress.phase, progress.since_ms, progress.line.as_deref()),
            None => server.word.clone(),
        }),
        "backoff" => {
            let next = server.next_attempt_in_ms.unwrap_or_default();
            let why = server
                .last_failure
                .as_ref()
                .map(|failure| failure.detail.as_str());
            Some(format!(
                "failed, next attempt in {}: {}",
                human::duration(next),
                why.unwrap_or_default()
            ))
        }
        // Between two attempts.
        "draining" => Some("ending what failed".to_owned()),
        // Its turn has not come yet.
        "disabled" | "idle" if server.generation == 0 => Some("waits for its turn".to_owned()),
        _at_rest => None,
    }
}

fn phase(phase: &str, since_ms: u64, line: Option<&str>) -> String {
    let line = line.filter(|line| !line.trim().is_empty());
    let line = line.map(|line| format!(": {line}")).unwrap_or_default();
    format!("{phase}, {}{line}", human::span(since_ms))
}

/// Shows one server of the running Mainstay while it is not up.
async fn show_remote(client: &AdminClient, name: &str, board: &mut Board) {
    let path = format!("/api/v1/servers/{}", segment(name));
    let deadline = Instant::now() + SHOWN_MAX;
    while Instant::now() < deadline {
        // The call itself says what is wrong; here it is only shown how far it is.
        let Ok(Ok(detail)) = client.get(&path).await.map(super::client::Reply::ok) else {
            return;
        };
        let server = View(&detail["status"]);
        if server.state() == "connected" {
            board.done(name);
        } else {
            let progress = &server.0["progress"];
            let doing = match progress["phase"].as_str() {
                Some(word) => phase(
                    word,
                    progress["sinceMs"].as_u64().unwrap_or_default(),
                    progress["line"].as_str(),
                ),
                None => format!("{} {}", server.state_words(), server.note()),
            };
            board.show(name, &doing);
        }
        board.tick();
        tokio::time::sleep(LOOK).await;
    }
}

/// What became of it, in one line.
fn summed(all: &[ServerStatus], names: &[String], took: Duration) -> String {
    let ours: Vec<&ServerStatus> = all
        .iter()
        .filter(|server| names.contains(&server.name))
        .collect();
    let down: Vec<&str> = ours
        .iter()
        .filter(|server| server.state != "connected")
        .map(|server| server.name.as_str())
        .collect();
    let up = ours.len() - down.len();
    let took = human::duration(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    if down.is_empty() {
        let servers = plural(up, "server");
        return format!("{up} {servers} up after {took}");
    }
    let all = ours.len();
    format!(
        "{up} of {all} {} up after {took}; not up: {} (`mainstay status` says why)",
        plural(all, "server"),
        down.join(", ")
    )
}

/// Where it is shown.
#[derive(Debug)]
struct Board {
    output: Output,
    /// On a terminal, what is drawn for whom.
    bars: BTreeMap<String, ProgressBar>,
    /// Elsewhere, what was last said about whom, and when.
    said: BTreeMap<String, (String, Instant)>,
    began: Instant,
}

impl Board {
    fn new(output: Output) -> Self {
        Self {
            output,
            bars: BTreeMap::new(),
            said: BTreeMap::new(),
            began: Instant::now(),
        }
    }

    fn show(&mut self, name: &str, doing: &str) {
        let doing = plain(doing);
        if let Some(drawn) = drawn() {
            if let Some(bar) = self.bars.get(name) {
                bar.set_message(doing);
            } else if self.bars.len() < DRAWN_MAX {
                let bar = drawn.add(ProgressBar::new_spinner());
                bar.set_style(style());
                bar.set_prefix(Paint::Bold.on(&plain(name), self.output.color_err()));
                bar.set_message(doing);
                self.bars.insert(name.to_owned(), bar);
            }
            return;
        }
        let now = Instant::now();
        let (text, at) = self
            .said
            .entry(name.to_owned())
            .or_insert_with(|| (String::new(), now));
        if now.duration_since(*at) >= LINE_EVERY && *text != doing {
            *at = now;
            text.clone_from(&doing);
            self.output.note(&format!("{name}: {doing}"));
        }
    }

    fn done(&mut self, name: &str) {
        if let Some(bar) = self.bars.remove(name) {
            bar.finish_and_clear();
        }
        self.said.remove(name);
    }

    fn tick(&self) {
        self.bars.values().for_each(ProgressBar::tick);
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        for bar in self.bars.values() {
            bar.finish_and_clear();
        }
    }
}

/// One line, cut at the edge of the terminal.
fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix}  {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_says_where_it_is_and_what_its_runner_said_last() {
        assert_eq!(
            phase("greet", 12_000, Some("npm fetch 3 of 8")),
            "greet, 12 s: npm fetch 3 of 8"
        );
        assert_eq!(phase("spawn", 0, Some(" ")), "spawn, 0 s");
    }
}
