//! What happened, as records: one bounded ring for those who ask later, one bounded broadcast for those who listen.
//!
//! Log line, status and event stream all come from the same record.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use mainstay_core::catalog::Diff;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::calls::{CallRecord, Calls, Ledger};
use crate::catalog::unix_ms;
use crate::journal::Journal;
use crate::secrets::Hidden;

/// One thing that happened to one server.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// To which server.
    pub server: String,
    /// On which of its further connections (see the setting `scope`), each of which counts generations of its own; absent:
    /// the shared one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<u32>,
    /// Of which generation; 0 when none is concerned.
    pub generation: u64,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum EventKind {
    /// The server's state changed. Emitted exactly once per change.
    Transition {
        /// The state before.
        from: &'static str,
        /// The state after.
        to: &'static str,
        /// Why, as one stable word, when there is a cause.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<&'static str>,
        /// Why, in words.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
        /// Where the connection attempt stood when it failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        phase: Option<&'static str>,
        /// What the clock will do next.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<&'static str>,
        /// In how many milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        next_in_ms: Option<u64>,
    },
    /// The server is not what it was: after a reconnect or a renewed session it says other things of itself (law 25).
    ServerChanged {
        /// What differs: `revision`, `identity`, `capabilities`, `instructions`.
        what: Vec<&'static str>,
    },
    /// A changed config was loaded, and did this to the server (law 28).
    ConfigChanged {
        /// `added`, `removed`, `replaced` (its connection is made anew) or `patched` (its connection stays).
        how: &'static str,
        /// The keys that differ, for what is replaced or patched.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        what: Vec<&'static str>,
    },
    /// Clients see a new publication because of this server.
    Published {
        /// The new version.
        version: u64,
        /// How many tools the server now has.
        tools: usize,
        /// How many prompts.
        prompts: usize,
        /// How many resources.
        resources: usize,
    },
    /// Several servers died within a second of each other: whatever killed them is probably one thing. Emitted once,
    /// under the name of the first.
    DiedTogether {
        /// All of them, in the order of their deaths.
        servers: Vec<String>,
        /// Between the first and the last death, in milliseconds.
        within_ms: u64,
    },
    /// The server was taken out of the publication.
    Retracted {
        /// The new version.
        version: u64,
    },
    /// Something that every connection of the server is to be told could not be told to this one (law 25). The
    /// connection serves on.
    RestoreFailed {
        /// What: `log-level`, `subscription` or `roots`.
        what: &'static str,
        /// Why, in words, and which resource.
        detail: String,
        /// When it is tried again, in milliseconds; absent if only the next connection could do better.
        #[serde(skip_serializing_if = "Option::is_none")]
        again_in_ms: Option<u64>,
    },
    /// The server describes its tools differently than before, within one connection or across them (law 20). At most 20
    /// names of each kind.
    ToolsChanged {
        /// New names.
        added: Vec<String>,
        /// Names that are gone.
        removed: Vec<String>,
        /// Names whose definition differs.
        changed: Vec<String>,
        /// How many tools differ in all.
        total: usize,
    },
    /// What a pinned server lists is not what was approved: tools are held back, or are gone (F250). At most 20 names of each
    /// kind.
    ToolsHeld {
        /// New ones, held back.
        added: Vec<String>,
        /// Those whose definition differs, held back.
        changed: Vec<String>,
        /// Approved ones that are gone.
        removed: Vec<String>,
        /// How many differ in all.
        total: usize,
        /// Why the record of what was approved cannot be used, if it cannot: then everything is held back.
        #[serde(skip_serializing_if = "Option::is_none")]
        damaged: Option<String>,
    },
    /// Tools of a pinned server were approved as they are now.
    ToolsApproved {
        /// At most 20 names.
        tools: Vec<String>,
        /// How many in all.
        total: usize,
        /// Nobody did it: it is what the server listed first.
        first: bool,
    },
    /// A call met a tool whose definition had changed since its caller saw it, and `onToolChange` is `warn` or `refuse`.
    CallMetToolChange {
        /// The tool.
        tool: String,
        /// The call was not made.
        refused: bool,
    },
    /// Listing a connected server again failed; what it listed last stays (law 22).
    ListingFailed {
        /// Why, in words.
        detail: String,
        /// How often in a row.
        failures: u32,
        /// When it is tried again, in milliseconds.
        next_in_ms: u64,
    },
    /// A listing has nothing where there was something, or on the first connection (F157).
    EmptyListing {
        /// It stayed like that, and is shown now. Before that, what was listed last stays.
        believed: bool,
        /// When it is checked again, in milliseconds.
        next_in_ms: u64,
    },
    /// The server announces changes whenever it is listed, and nothing changes (F161).
    ListingLoop {
        /// Listings in a row that changed nothing.
        listings: u32,
        /// How rarely it is listed now, in milliseconds.
        interval_ms: u64,
    },
    /// A limit was exceeded. Told at once, and then ever more rarely per server and limit.
    LimitExceeded {
        /// The setting.
        limit: String,
        /// How often since Mainstay started.
        count: u64,
        /// The newest case in words, or the beginning of what was skipped. Control characters are replaced.
        detail: String,
    },
    /// A process that the server started has left its process group and lives on after its end: out of our reach.
    Escaped {
        /// The processes, where the system tells.
        pids: Vec<u32>,
    },
    /// The replacement of a connection that goes on serving could not be opened.
    ReplacementFailed {
        /// Why, as one stable word.
        cause: &'static str,
        /// Why, in words.
        detail: String,
        /// When it is tried again, in milliseconds, if it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        next_in_ms: Option<u64>,
    },
}

impl EventKind {
    /// The event of a difference between two listings; `None` if there is none.
    pub(crate) fn tools_changed(diff: Diff) -> Option<Self> {
        const NAMES_MAX: usize = 20;
        let total = diff.added.len() + diff.removed.len() + diff.changed.len();
        let some = |names: Vec<String>| names.into_iter().take(NAMES_MAX).collect();
        (total > 0).then(|| Self::ToolsChanged {
            added: some(diff.added),
            removed: some(diff.removed),
            changed: some(diff.changed),
            total,
        })
    }

    /// Tools that are approved from now on.
    pub(crate) fn tools_approved(tools: Vec<String>, first: bool) -> Self {
        const NAMES_MAX: usize = 20;
        Self::ToolsApproved {
            total: tools.len(),
            tools: tools.into_iter().take(NAMES_MAX).collect(),
            first,
        }
    }

    /// What kind of log line it is: lines of one kind are limited together (F232).
    fn class(&self) -> &'static str {
        match self {
            Self::Transition { to, .. } => to,
            Self::Published { .. } => "published",
            Self::Retracted { .. } => "retracted",
            Self::DiedTogether { .. } => "died together",
            Self::ToolsChanged { .. } => "tools changed",
            Self::ToolsHeld { .. } => "tools held back",
            Self::ToolsApproved { .. } => "tools approved",
            Self::CallMetToolChange { .. } => "call met tool change",
            Self::ListingFailed { .. } => "listing failed",
            Self::EmptyListing { .. } => "empty listing",
            Self::ListingLoop { .. } => "listing loop",
            Self::LimitExceeded { .. } => "limit exceeded",
            Self::ReplacementFailed { .. } => "replacement failed",
            Self::ServerChanged { .. } => "server changed",
            Self::ConfigChanged { .. } => "config changed",
            Self::RestoreFailed { .. } => "restore failed",
            Self::Escaped { .. } => "processes escaped",
        }
    }

    /// Writes the log line. State changes are INFO, what somebody should look at is WARN, the rest is DEBUG. Never a
    /// payload: names and the words of a failure are the only free text (F233).
    fn log(&self, server: &str, connection: Option<u32>, generation: u64, left_out: u64) {
        let left_out = (left_out > 0).then_some(left_out);
        // The event as programs see it, so that log and event stream can be compared.
        let event = || serde_json::to_string(self).unwrap_or_default();
        match self {
            Self::Transition {
                from,
                to,
                cause,
                detail,
                ..
            } => {
                tracing::info!(
                    server,
                    connection,
                    generation,
                    from,
                    to,
                    cause,
                    detail,
                    left_out,
                    "state changed"
                )
            }
            Self::Published { .. } | Self::Retracted { .. } => {
                tracing::debug!(
                    server,
                    connection,
                    generation,
                    event = event(),
                    left_out,
                    "publication"
                )
            }
            Self::ToolsChanged { total, .. } => {
                tracing::info!(server, connection, generation, total, "tools changed");
            }
            Self::ConfigChanged { how, what } => {
                let what = what.join(", ");
                tracing::info!(server, how, what, left_out, "config changed");
            }
            Self::ToolsApproved { total, first, .. } => {
                tracing::info!(server, generation, total, first, left_out, "tools approved");
            }
            Self::DiedTogether { .. }
            | Self::ToolsHeld { .. }
            | Self::CallMetToolChange { .. }
            | Self::ListingFailed { .. }
            | Self::EmptyListing { .. }
            | Self::ListingLoop { .. }
            | Self::LimitExceeded { .. }
            | Self::ReplacementFailed { .. }
            | Self::ServerChanged { .. }
            | Self::RestoreFailed { .. }
            | Self::Escaped { .. } => {
                let what = self.class();
                tracing::warn!(
                    server,
                    connection,
                    generation,
                    event = event(),
                    left_out,
                    "{what}"
                )
            }
        }
    }
}

/// Lines of one class that one server may log in one window.
const LINES_MAX: u64 = 10;

/// The window.
const WINDOW: Duration = Duration::from_secs(60);

/// An exceeded limit is told again after this long.
const LIMIT_INTERVAL: Duration = Duration::from_secs(10);

/// How many log lines of one class a server had, lately.
#[derive(Debug)]
struct Lines {
    since: Instant,
    written: u64,
    left_out: u64,
}

/// How often a limit was exceeded, and when that was last told.
#[derive(Debug)]
struct Exceeded {
    count: u64,
    told: Instant,
}

/// What has been said about whom. As many entries as there are servers times classes.
#[derive(Debug, Default)]
struct Said {
    lines: HashMap<(String, &'static str), Lines>,
    exceeded: HashMap<(String, String), Exceeded>,
}

impl Said {
    /// Whether a line may be written now, and how many were left out before it (F232).
    fn may_write(&mut self, server: &str, class: &'static str) -> Option<u64> {
        let now = Instant::now();
        let lines = self
            .lines
            .entry((server.to_owned(), class))
            .or_insert(Lines {
                since: now,
                written: 0,
                left_out: 0,
            });
        if now.duration_since(lines.since) >= WINDOW {
            lines.since = now;
            lines.written = 0;
        }
        if lines.written >= LINES_MAX {
            lines.left_out += 1;
            return None;
        }
        lines.written += 1;
        Some(std::mem::take(&mut lines.left_out))
    }

    /// Counts an exceeded limit; the count if it is time to tell it.
    fn exceed(&mut self, server: &str, limit: &str) -> Option<u64> {
        let now = Instant::now();
        let key = (server.to_owned(), limit.to_owned());
        let entry = self.exceeded.entry(key);
        let is_first = matches!(entry, Entry::Vacant(_));
        let exceeded = entry.or_insert(Exceeded {
            count: 0,
            told: now,
        });
        exceeded.count += 1;
        let due = is_first || now.duration_since(exceeded.told) >= LIMIT_INTERVAL;
        if due {
            exceeded.told = now;
        }
        due.then_some(exceeded.count)
    }
}

/// Where the events of the shared connections go, or those of one further connection.
#[derive(Debug)]
pub(crate) struct Events {
    stream: Arc<Stream>,
    /// What is told is told of this one.
    connection: Option<u32>,
}

/// The one stream of all events.
#[derive(Debug)]
struct Stream {
    live: broadcast::Sender<Event>,
    recent: Mutex<VecDeque<Event>>,
    kept: usize,
    said: Mutex<Said>,
    calls: Calls,
    hidden: Arc<Hidden>,
    journal: OnceLock<Journal>,
    /// What records call a door that was not named.
    library: Arc<str>,
    arguments: bool,
}

impl Events {
    /// An empty ring that keeps so many events for those who ask later; a listener may be as far behind before it is
    /// told that it lagged.
    #[cfg(test)]
    pub(crate) fn new(kept: usize) -> Self {
        Self::with(kept, kept, false)
    }

    /// As [`Events::new`], with so many records of calls, and with their arguments if that is wanted.
    pub(crate) fn with(kept: usize, calls: usize, arguments: bool) -> Self {
        Self {
            stream: Arc::new(Stream {
                live: broadcast::Sender::new(kept.max(1)),
                recent: Mutex::default(),
                kept: kept.max(1),
                said: Mutex::default(),
                calls: Calls::new(calls),
                hidden: Arc::default(),
                journal: OnceLock::new(),
                library: "library".into(),
                arguments,
            }),
            connection: None,
        }
    }

    /// The same stream, for what happens on a further connection of a server.
    pub(crate) fn of_connection(&self, number: u32) -> Self {
        Self {
            stream: Arc::clone(&self.stream),
            connection: Some(number),
        }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        let said = self.stream.said.lock();
        said.unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an exceeded limit, and tells it unless it was told a moment ago.
    pub(crate) fn exceeded(&self, server: &str, generation: u64, limit: &str, detail: &str) {
        let count = self.said().exceed(server, limit);
        if let Some(count) = count {
            let kind = EventKind::LimitExceeded {
                limit: limit.to_owned(),
                count,
                detail: detail.to_owned(),
            };
            self.emit(server, generation, kind);
        }
    }

    /// Records an event, logs it within the limits, and tells the listeners. Never waits.
    pub(crate) fn emit(&self, server: &str, generation: u64, kind: EventKind) {
        let may_write = self.said().may_write(server, kind.class());
        if let Some(left_out) = may_write {
            kind.log(server, self.connection, generation, left_out);
        }
        let event = Event {
            at_unix_ms: unix_ms(),
            server: server.to_owned(),
            connection: self.connection,
            generation,
            kind,
        };
        if let Some(journal) = self.stream.journal.get() {
            journal.event(&event);
        }
        let mut recent = self
            .stream
            .recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while recent.len() >= self.stream.kept {
            recent.pop_front();
        }
        recent.push_back(event.clone());
        drop(recent);
        // No listener is fine.
        let _ = self.stream.live.send(event);
    }

    /// A call ended: its record goes to its server's ledger, into the ring, and to the listeners. Never waits.
    pub(crate) fn call(&self, ledger: &Ledger, record: Arc<CallRecord>) {
        ledger.record(&record);
        if let Some(journal) = self.stream.journal.get() {
            journal.call(&record);
        }
        self.stream.calls.record(&record);
    }

    /// The secrets that must not be told.
    pub(crate) fn hidden(&self) -> &Arc<Hidden> {
        &self.stream.hidden
    }

    /// From now on everything is kept on disk too. The first journal stays.
    pub(crate) fn keep_in(&self, journal: Journal) {
        let _ = self.stream.journal.set(journal);
    }

    /// What keeps everything on disk, if something does.
    pub(crate) fn journal(&self) -> Option<&Journal> {
        self.stream.journal.get()
    }

    /// The records of calls.
    pub(crate) fn calls(&self) -> &Calls {
        &self.stream.calls
    }

    /// Where calls come from that do not say so.
    pub(crate) fn library(&self) -> Arc<str> {
        Arc::clone(&self.stream.library)
    }

    /// Whether records of calls hold their arguments.
    pub(crate) fn keeps_arguments(&self) -> bool {
        self.stream.arguments
    }

    /// Listens from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.stream.live.subscribe()
    }

    /// The last events, oldest first.
    pub(crate) fn recent(&self) -> Vec<Event> {
        self.stream
            .recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn f232_a_flood_of_one_class_is_cut_and_counted_and_disturbs_no_other() {
        let mut said = Said::default();
        let written = (0..1_000)
            .filter(|_| said.may_write("a", "backoff").is_some())
            .count();
        assert_eq!(written, 10);
        assert_eq!(said.may_write("a", "connected"), Some(0));
        assert_eq!(said.may_write("b", "backoff"), Some(0));
        tokio::time::advance(WINDOW).await;
        assert_eq!(said.may_write("a", "backoff"), Some(990));
        assert_eq!(said.may_write("a", "backoff"), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_exceeded_limit_is_told_at_once_and_then_rarely_with_its_count() {
        let events = Events::new(512);
        for _ in 0..100 {
            events.exceeded("a", 1, "waiting", "too many");
        }
        tokio::time::advance(LIMIT_INTERVAL).await;
        events.exceeded("a", 1, "waiting", "too many");
        events.exceeded("b", 1, "waiting", "too many");
        let counts: Vec<_> = events
            .recent()
            .into_iter()
            .filter_map(|event| {
                let EventKind::LimitExceeded { count, .. } = event.kind else {
                    return None;
                };
                Some((event.server, count))
            })
            .collect();
        assert_eq!(
            counts,
            [
                ("a".to_owned(), 1),
                ("a".to_owned(), 101),
                ("b".to_owned(), 1)
            ]
        );
    }
}
