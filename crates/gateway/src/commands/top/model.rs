//! What `top` knows and what it is set to. Changed by news and by keys, and by nothing else; knows no terminal and no clock.

use std::cmp::Reverse;
use std::collections::VecDeque;

use serde_json::Value;

use crate::cli::output::Paint;
use crate::cli::top::Sort;
use crate::commands::operate::Order;
use crate::commands::records::identity;
use crate::commands::view::{View, servers};

/// Events, calls and log lines that are kept.
const KEPT: usize = 1_000;

/// How long a message at the bottom stays, in milliseconds.
const TOAST_MS: u64 = 6_000;

/// Something new from the running Mainstay.
#[derive(Debug)]
pub(super) enum News {
    /// All servers.
    Status(Value),
    /// Nobody answers.
    Away,
    /// The selected server.
    Detail(Value),
    /// Something happened.
    Event(Value),
    /// A call ended.
    Call(Value),
    /// From here on, log lines of this server from the beginning.
    LogsOf(String),
    /// A log line of this server.
    Line(String, String),
    /// An order was obeyed.
    Done(String),
    /// An order was not.
    Failed(String),
}

/// What a key asks of whoever runs this.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Leave.
    Leave,
    /// Give this order about this server.
    Order(Order, String),
}

/// What the lower half shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    /// Everything about the selected server, with its timeline.
    Details,
    /// What happens.
    Events,
    /// What the selected server writes to stderr.
    Logs,
    /// Calls.
    Calls,
}

impl Pane {
    pub(super) const ALL: [Self; 4] = [Self::Details, Self::Events, Self::Logs, Self::Calls];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Details => "details",
            Self::Events => "events",
            Self::Logs => "logs",
            Self::Calls => "calls",
        }
    }
}

/// What keys mean now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// Choosing servers.
    Choose,
    /// Typing a filter.
    Filter,
    /// Reading what keys there are.
    Help,
    /// Asked whether an order is meant.
    Confirm(Order, String),
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) status: Value,
    pub(super) detail: Value,
    pub(super) events: VecDeque<Value>,
    pub(super) calls: VecDeque<Value>,
    pub(super) lines: VecDeque<String>,
    /// Whose lines those are.
    pub(super) lines_of: Option<String>,
    pub(super) pane: Pane,
    /// Whether events and calls are those of the selected server alone.
    pub(super) narrowed: bool,
    pub(super) mode: Mode,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) filter: String,
    /// Lines between the end of the pane that is followed and what is shown; in the details, from the top.
    pub(super) scroll: usize,
    pub(super) now_unix_ms: u64,
    /// Since when nobody answers.
    pub(super) away_since_ms: Option<u64>,
    selected: Option<String>,
    toast: Option<(String, Paint, u64)>,
}

impl Model {
    /// Nothing known yet.
    pub(super) fn new(sort: Sort, filter: String, now_unix_ms: u64) -> Self {
        Self {
            status: Value::Null,
            detail: Value::Null,
            events: VecDeque::new(),
            calls: VecDeque::new(),
            lines: VecDeque::new(),
            lines_of: None,
            pane: Pane::Details,
            narrowed: false,
            mode: Mode::Choose,
            sort,
            reversed: false,
            filter,
            scroll: 0,
            now_unix_ms,
            away_since_ms: None,
            selected: None,
            toast: None,
        }
    }

    /// The time goes on.
    pub(super) fn now(&mut self, now_unix_ms: u64) {
        self.now_unix_ms = now_unix_ms;
        if self
            .toast
            .as_ref()
            .is_some_and(|(_, _, until)| *until <= now_unix_ms)
        {
            self.toast = None;
        }
    }

    /// Takes in something new.
    pub(super) fn news(&mut self, news: News) {
        match news {
            News::Status(status) => {
                if self.away_since_ms.take().is_some() {
                    self.say("Mainstay is back", Paint::Good);
                }
                self.status = status;
                self.keep_selected();
            }
            News::Away => {
                let now = self.now_unix_ms;
                self.away_since_ms.get_or_insert(now);
            }
            News::Detail(detail) => self.detail = detail,
            News::Event(event) => {
                let moves = self.moves(Pane::Events, &event);
                let is_new = keep(&mut self.events, event);
                self.scroll += usize::from(moves && is_new);
            }
            News::Call(call) => {
                let moves = self.moves(Pane::Calls, &call);
                let is_new = keep(&mut self.calls, call);
                self.scroll += usize::from(moves && is_new);
            }
            News::LogsOf(name) => {
                self.lines.clear();
                self.lines_of = Some(name);
            }
            News::Line(name, line) if self.lines_of.as_ref() == Some(&name) => {
                if self.lines.len() >= KEPT {
                    self.lines.pop_front();
                }
                self.lines.push_back(line);
            }
            // Of a server that was shown before.
            News::Line(_, _) => {}
            News::Done(text) => self.say(&text, Paint::Good),
            News::Failed(text) => self.say(&text, Paint::Bad),
        }
    }

    /// Whether a new record would move what somebody reads: who reads the past goes on reading it.
    fn moves(&self, pane: Pane, record: &Value) -> bool {
        self.pane == pane && self.scroll > 0 && self.shows(record)
    }

    /// Says something at the bottom for a while.
    pub(super) fn say(&mut self, text: &str, paint: Paint) {
        self.toast = Some((text.to_owned(), paint, self.now_unix_ms + TOAST_MS));
    }

    /// What was said last, while it is news.
    pub(super) fn said(&self) -> Option<(&str, Paint)> {
        self.toast
            .as_ref()
            .map(|(text, paint, _)| (text.as_str(), *paint))
    }

    /// The servers that pass the filter, in order.
    pub(super) fn rows(&self) -> Vec<View<'_>> {
        let wanted = self.filter.to_lowercase();
        let mut rows: Vec<View<'_>> = servers(&self.status)
            .iter()
            .map(View)
            .filter(|server| {
                let words = format!(
                    "{} {} {}",
                    server.name(),
                    server.state_words(),
                    server.transport()
                );
                words.to_lowercase().contains(&wanted)
            })
            .collect();
        rows.sort_by(|a, b| a.name().cmp(b.name()));
        // Stable: what is equal stays in the order of the names.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast of a float saturates"
        )]
        let whole =
            |number: Option<f64>| Reverse((number.unwrap_or(-0.001).max(0.0) * 1_000.0) as u64);
        match self.sort {
            Sort::Name => {}
            Sort::State => rows.sort_by_key(|server| urgency(*server)),
            Sort::Since => rows.sort_by_key(|server| server.since_ms()),
            Sort::Tools => rows.sort_by_key(|server| Reverse(server.tools())),
            Sort::Calls => rows.sort_by_key(|server| Reverse(server.calls())),
            Sort::Latency => rows.sort_by_key(|server| whole(server.latency_of("p95Ms"))),
            Sort::Failed => rows.sort_by_key(|server| Reverse(server.failures())),
            Sort::Restarts => rows.sort_by_key(|server| Reverse(server.restarts())),
            Sort::Memory => rows.sort_by_key(|server| Reverse(server.memory())),
            Sort::Cpu => rows.sort_by_key(|server| whole(server.cpu())),
        }
        if self.reversed {
            rows.reverse();
        }
        rows
    }

    /// The name of the selected server.
    pub(super) fn selected(&self) -> Option<&str> {
        self.selected.as_deref()
    }

    /// Its place among the rows.
    pub(super) fn selected_at(&self) -> Option<usize> {
        let rows = self.rows();
        rows.iter()
            .position(|row| Some(row.name()) == self.selected())
    }

    /// The selected server.
    pub(super) fn selected_view(&self) -> Option<View<'_>> {
        servers(&self.status)
            .iter()
            .map(View)
            .find(|server| Some(server.name()) == self.selected())
    }

    /// Whose log is shown, if one is.
    pub(super) fn log_wanted(&self) -> Option<&str> {
        self.selected().filter(|_| self.pane == Pane::Logs)
    }

    /// Selects the row that is `by` further down, or up.
    pub(super) fn step(&mut self, by: isize) {
        let rows = self.rows();
        let last = rows.len().saturating_sub(1);
        let at = self
            .selected_at()
            .unwrap_or_default()
            .saturating_add_signed(by)
            .min(last);
        let name = rows.get(at).map(|row| row.name().to_owned());
        if name != self.selected {
            self.selected = name;
            self.detail = Value::Null;
            self.scroll = 0;
        }
    }

    /// Something is selected whenever there is something to select.
    pub(super) fn keep_selected(&mut self) {
        if self.selected_at().is_none() {
            self.step(0);
        }
    }

    /// Whether a record is shown: of all servers, or of the selected one.
    pub(super) fn shows(&self, record: &Value) -> bool {
        !self.narrowed || record["server"].as_str() == self.selected()
    }
}

/// What is broken comes first.
fn urgency(server: View<'_>) -> u8 {
    match server.paint() {
        Paint::Bad => 0,
        Paint::Warn => 1,
        Paint::Good => 2,
        Paint::Plain | Paint::Dim | Paint::Bold | Paint::Hue(_) => 3,
    }
}

/// Adds a record, unless it is there already: what was the past for one connection is told again by the next.
fn keep(records: &mut VecDeque<Value>, record: Value) -> bool {
    let new = identity(&record);
    if records.iter().rev().any(|old| identity(old) == new) {
        return false;
    }
    if records.len() >= KEPT {
        records.pop_front();
    }
    records.push_back(record);
    true
}
