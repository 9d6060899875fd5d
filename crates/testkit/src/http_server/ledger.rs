//! What really happened at the fake server: the oracle of the tests.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// How many requests are remembered in full.
const SEEN_MAX: usize = 4_096;

/// One HTTP request as it arrived.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// `POST`, `GET` or `DELETE`.
    pub verb: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// The JSON-RPC method of a POST; empty for responses and other verbs.
    pub method: String,
    /// All headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, if it was text.
    pub body: String,
}

impl Seen {
    /// A header, if it came.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Counters of the whole life of the server, over restarts and lost sessions.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// TCP connections accepted.
    pub connections: u64,
    /// POST requests.
    pub posts: u64,
    /// GET requests of push or resumed streams.
    pub gets: u64,
    /// DELETE requests.
    pub deletes: u64,
    /// `initialize` requests answered.
    pub initializes: u64,
    /// `notifications/initialized` received.
    pub initialized: u64,
    /// `server/discover` requests received.
    pub discovers: u64,
    /// `subscriptions/listen` requests received.
    pub listens: u64,
    /// Tool, prompt and resource listings answered (pages).
    pub lists: u64,
    /// `notifications/cancelled` received.
    pub cancels: u64,
    /// Calls whose caller disconnected before the answer.
    pub disconnects: u64,
    /// Responses of the client to requests of ours.
    pub responses: u64,
    /// Requests that named a session we do not know.
    pub lost_sessions: u64,
    /// Push streams open now.
    pub streams_open: u64,
    /// Tool calls that ran, by tool.
    pub calls: BTreeMap<String, u64>,
    /// Runs of `add_marker`, by marker: more than one is a call that was executed twice.
    pub markers: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: Counts,
    seen: VecDeque<Seen>,
    /// Where every event is written down as well: it outlives this process.
    file: Option<File>,
}

/// Counts and remembers. Shared by all connections of a server.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Inner>);

impl Ledger {
    /// The counters now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// The requests that came, oldest first (the last 4,096).
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.iter().cloned().collect()
    }

    /// The requests of one JSON-RPC method, oldest first.
    #[must_use]
    pub fn seen_of(&self, method: &str) -> Vec<Seen> {
        self.lock()
            .seen
            .iter()
            .filter(|seen| seen.method == method)
            .cloned()
            .collect()
    }

    /// The requests of one HTTP verb, oldest first.
    #[must_use]
    pub fn seen_by(&self, verb: &str) -> Vec<Seen> {
        self.lock()
            .seen
            .iter()
            .filter(|seen| seen.verb == verb)
            .cloned()
            .collect()
    }

    pub(crate) fn record(&self, seen: Seen) {
        let mut inner = self.lock();
        if inner.seen.len() == SEEN_MAX {
            inner.seen.pop_front();
        }
        inner.seen.push_back(seen);
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut inner = self.lock();
        if inner.file.is_none() {
            change(&mut inner.counts);
            return;
        }
        let before = inner.counts.clone();
        change(&mut inner.counts);
        let told = told(&before, &inner.counts);
        // A ledger that cannot be written must not go unnoticed: the reader would count too few.
        if let Some(Err(error)) = inner
            .file
            .as_mut()
            .filter(|_| !told.is_empty())
            .map(|file| file.write_all(told.as_bytes()))
        {
            let _ = writeln!(io::stderr(), "misbehave: ledger: {error}");
            std::process::exit(3);
        }
    }

    /// Writes every event from now on to a file as well, one line each: `PID EVENT DETAIL`, as the stdio server does.
    ///
    /// # Errors
    /// When the file cannot be opened or written.
    pub(crate) fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(format!("{} spawn -\n", std::process::id()).as_bytes())?;
        self.lock().file = Some(file);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The events between two states of the counters, as lines.
fn told(before: &Counts, after: &Counts) -> String {
    let plain = [
        ("initialize", before.initializes, after.initializes),
        ("discover", before.discovers, after.discovers),
        ("listen", before.listens, after.listens),
        ("list", before.lists, after.lists),
        ("get", before.gets, after.gets),
        ("delete", before.deletes, after.deletes),
        ("cancelled", before.cancels, after.cancels),
        ("lost-session", before.lost_sessions, after.lost_sessions),
    ];
    let mut lines = String::new();
    let mut tell = |event: &str, detail: &str, times: u64| {
        let line = format!(
            "{} {event} {}\n",
            std::process::id(),
            detail.replace('\n', " ")
        );
        (0..times).for_each(|_| lines.push_str(&line));
    };
    for (event, before, after) in plain {
        tell(event, "-", after.saturating_sub(before));
    }
    for (event, before, after) in [
        ("call", &before.calls, &after.calls),
        ("marker", &before.markers, &after.markers),
    ] {
        for (name, count) in after {
            let known = before.get(name).copied().unwrap_or_default();
            tell(event, name, count.saturating_sub(known));
        }
    }
    lines
}
