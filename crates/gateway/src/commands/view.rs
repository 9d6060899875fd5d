//! One server of the admin API's answer, in words for people: the same in `status` and in `top`.
//!
//! An older Mainstay, or one that is starting, says less: what is absent is shown as nothing, never as a zero.

use serde_json::Value;

use crate::cli::human;
use crate::cli::output::Paint;
use crate::cli::table::{Column, Field, plain};

/// From this width on, failures are told by class.
const WIDE: u16 = 120;

/// The columns, in the order in which they are shown. The rank says which go first when room is short.
pub(crate) const COLUMNS: [Column; 14] = [
    Column::elastic("SERVER", 0),
    Column::new("STATE", 0),
    Column::new("SINCE", 1),
    Column::new("NEXT", 2),
    Column::new("PROTOCOL", 10),
    Column::new("OVER", 11),
    Column::new("TOOLS", 3),
    Column::new("CALLS", 4),
    Column::new("P50/P95", 6),
    Column::new("FAILED", 5),
    Column::new("RESTARTS", 8),
    Column::new("MEMORY", 7),
    Column::new("CPU", 9),
    Column::elastic("NOTE", 12),
];

/// One server at one moment, as the admin API tells it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'v>(pub(crate) &'v Value);

/// The classes of failed calls, as the API and as people call them.
const CLASSES: [(&str, &str); 5] = [
    ("toolError", "tool"),
    ("serverError", "error"),
    ("refused", "refused"),
    ("rejected", "rejected"),
    ("unknown", "unknown"),
];

impl<'v> View<'v> {
    fn text(self, key: &str) -> &'v str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// Its name.
    pub(crate) fn name(self) -> &'v str {
        self.text("name")
    }

    /// The state as the one stable word.
    pub(crate) fn state(self) -> &'v str {
        self.text("state")
    }

    /// The state in one or two words: the stable one, or a better one where there is one.
    pub(crate) fn state_words(self) -> String {
        let state = self.state();
        match state {
            "connected" if self.in_doubt() => "in doubt".to_owned(),
            "parked" if self.0["lastFailure"]["kind"] == "needs-login" => "needs login".to_owned(),
            other => other.to_owned(),
        }
    }

    /// How the state looks.
    pub(crate) fn paint(self) -> Paint {
        if self.in_doubt() {
            Paint::Warn
        } else {
            state_paint(self.state())
        }
    }

    fn in_doubt(self) -> bool {
        self.state() == "connected" && !matches!(self.text("word"), "connected" | "")
    }

    /// Whether it is broken: down, and not because somebody wanted it.
    pub(crate) fn is_down(self) -> bool {
        matches!(self.state(), "parked" | "backoff")
    }

    /// How long it has been in this state, in milliseconds.
    pub(crate) fn since_ms(self) -> u64 {
        self.0["sinceMs"].as_u64().unwrap_or_default()
    }

    /// When it is tried again: `in 12 s`.
    pub(crate) fn next(self) -> String {
        self.0["nextAttemptInMs"]
            .as_u64()
            .map(|ms| format!("in {}", human::span(ms)))
            .unwrap_or_default()
    }

    /// The era and the revision that it speaks.
    pub(crate) fn protocol(self) -> String {
        let parts = [self.text("era"), self.text("protocol")];
        parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// How it is reached.
    pub(crate) fn transport(self) -> String {
        self.text("transport").to_owned()
    }

    /// Tools in its last good catalog.
    pub(crate) fn tools(self) -> u64 {
        self.0["tools"].as_u64().unwrap_or_default()
    }

    /// Calls that were made.
    pub(crate) fn calls(self) -> u64 {
        self.0["calls"]["total"]
            .as_u64()
            .or(self.0["counts"]["answered"].as_u64())
            .unwrap_or_default()
    }

    /// The median and the 95th percentile of what calls take at the server.
    pub(crate) fn latency(self) -> String {
        match (self.latency_of("p50Ms"), self.latency_of("p95Ms")) {
            (Some(half), Some(most)) => {
                format!("{}/{}", human::latency(half), human::latency(most))
            }
            (Some(_), None) | (None, _) => String::new(),
        }
    }

    /// One of the latencies, in milliseconds. What was never measured is not zero.
    pub(crate) fn latency_of(self, key: &str) -> Option<f64> {
        let calls = &self.0["calls"];
        // A finer one where there is one.
        let fine = key
            .strip_suffix("Ms")
            .and_then(|key| calls[format!("{key}Us")].as_f64());
        let ms = fine.map(|us| us / 1_000.0).or(calls[key].as_f64());
        ms.filter(|_| self.calls() > 0)
    }

    fn failures_of(self, class: &str) -> u64 {
        self.0["failures"][class]
            .as_u64()
            .or(self.0["counts"][class].as_u64())
            .unwrap_or_default()
    }

    /// Calls that failed, of every class.
    pub(crate) fn failures(self) -> u64 {
        CLASSES
            .iter()
            .map(|(class, _)| self.failures_of(class))
            .sum()
    }

    /// Calls that failed, by class: `3 tool, 1 unknown`.
    pub(crate) fn failure_classes(self) -> String {
        let classes = CLASSES.iter().filter_map(|(class, word)| {
            let count = self.failures_of(class);
            (count > 0).then(|| format!("{} {word}", human::count(count)))
        });
        classes.collect::<Vec<_>>().join(", ")
    }

    /// How often it was started again, if that is known.
    pub(crate) fn restarts(self) -> Option<u64> {
        self.0["restarts"].as_u64()
    }

    /// Memory of its processes in bytes.
    pub(crate) fn memory(self) -> Option<u64> {
        self.0["process"]["rssBytes"].as_u64()
    }

    /// Share of one processor that its processes use, in percent.
    pub(crate) fn cpu(self) -> Option<f64> {
        self.0["process"]["cpuPercent"].as_f64()
    }

    /// What one would ask next: what holds it up, what stands in its way, or what happened to it last.
    pub(crate) fn note(self) -> String {
        let mut parts = Vec::new();
        let state = self.state();
        let line = self.0["progress"]["line"].as_str().unwrap_or_default();
        match state {
            "connecting" => {
                parts.push(
                    self.text("word")
                        .replacen("connecting (", "", 1)
                        .replacen(')', "", 1),
                );
                parts.push(line.to_owned());
            }
            "connected" if self.in_doubt() => parts.push(self.text("word").to_owned()),
            "parked" | "backoff" => {
                let failure = &self.0["lastFailure"];
                let kind = failure["kind"].as_str().unwrap_or_default();
                parts.push(failure["detail"].as_str().unwrap_or(kind).to_owned());
            }
            _fine => {
                if let Some(failure) = self.0["lastFailure"]["detail"].as_str() {
                    let ago_ms = self.0["lastFailure"]["agoMs"].as_u64().unwrap_or_default();
                    parts.push(format!("{}: {failure}", human::ago(ago_ms)));
                }
            }
        }
        parts.extend(self.pending());
        parts.retain(|part| !part.trim().is_empty());
        plain(&parts.join("; "))
    }

    /// Its cells in a table of [`COLUMNS`].
    pub(crate) fn row(self, width: Option<u16>) -> Vec<Field> {
        let server = self;
        let is_wide = width.is_none_or(|width| width >= WIDE);
        let failures = match server.failures() {
            0 => (String::new(), Paint::Plain),
            _ if is_wide => (server.failure_classes(), Paint::Warn),
            count => (human::count(count), Paint::Warn),
        };
        let plain = |text: String| (text, Paint::Plain);
        let some = |text: Option<String>| plain(text.unwrap_or_default());
        vec![
            (server.name().to_owned(), Paint::Bold),
            (server.state_words(), server.paint()),
            plain(human::span(server.since_ms())),
            plain(server.next()),
            plain(server.protocol()),
            plain(server.transport()),
            plain(server.tools().to_string()),
            plain(human::count(server.calls())),
            plain(server.latency()),
            failures,
            some(server.restarts().map(human::count)),
            some(server.memory().map(human::bytes)),
            some(server.cpu().map(human::percent)),
            (server.note(), Paint::Dim),
        ]
    }

    /// Tools that are held back until somebody approves them.
    pub(crate) fn pending(self) -> Option<String> {
        match self.0["pendingTools"].as_u64() {
            None | Some(0) => None,
            Some(1) => Some("1 changed tool waits for approval".to_owned()),
            Some(count) => Some(format!("{count} changed tools wait for approval")),
        }
    }
}

/// How a state looks: good, in between, or broken.
pub(crate) fn state_paint(state: &str) -> Paint {
    match state {
        "connected" => Paint::Good,
        "parked" | "backoff" => Paint::Bad,
        "disabled" | "idle" => Paint::Dim,
        _in_between => Paint::Warn,
    }
}

/// The servers in an answer.
pub(crate) fn servers(status: &Value) -> &[Value] {
    status["servers"].as_array().map_or(&[], Vec::as_slice)
}

/// How many servers are in which state, the most first: `5 servers: 4 connected, 1 parked`.
pub(crate) fn summary(status: &Value) -> String {
    let servers = servers(status);
    let mut states: Vec<(String, usize)> = Vec::new();
    for server in servers {
        let state = View(server).state_words();
        match states.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => states.push((state, 1)),
        }
    }
    states.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let states: Vec<String> = states
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let servers = match servers.len() {
        0 => return "no servers are configured".to_owned(),
        1 => "1 server".to_owned(),
        many => format!("{many} servers"),
    };
    format!("{servers}: {}", states.join(", "))
}

/// The line below the table: how many are how, since when, and for whom.
pub(crate) fn footer(status: &Value) -> String {
    let mut parts = vec![summary(status)];
    if let Some(ms) = status["uptimeMs"].as_u64() {
        let version = status["version"].as_str().unwrap_or_default();
        parts.push(format!("Mainstay {version} up {}", human::span(ms)));
    }
    match status["sessions"].as_u64() {
        None | Some(0) => {}
        Some(1) => parts.push("1 session".to_owned()),
        Some(count) => parts.push(format!("{count} sessions")),
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_absent_is_shown_as_nothing() {
        let server = json!({ "name": "a", "state": "connected", "word": "connected", "counts": { "answered": 7, "unknown": 1 } });
        let view = View(&server);
        assert_eq!(view.latency(), "");
        assert_eq!(view.protocol(), "");
        assert_eq!(
            (view.restarts(), view.memory(), view.cpu()),
            (None, None, None)
        );
        assert_eq!((view.calls(), view.failures()), (7, 1));
        assert_eq!(view.failure_classes(), "1 unknown");
        assert_eq!(view.note(), "");
    }

    #[test]
    fn states_have_their_own_words() {
        let login = json!({ "state": "parked", "word": "parked: login", "lastFailure": { "kind": "needs-login" } });
        assert_eq!(View(&login).state_words(), "needs login");
        let doubt = json!({ "state": "connected", "word": "connected, in doubt: silent" });
        assert_eq!(View(&doubt).state_words(), "in doubt");
        assert_eq!(View(&doubt).paint(), Paint::Warn);
        let status = json!({ "servers": [doubt, login, { "state": "connected" }, { "state": "connected" }] });
        assert_eq!(
            summary(&status),
            "4 servers: 2 connected, 1 in doubt, 1 needs login"
        );
    }
}
