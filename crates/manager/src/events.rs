//! What happened, as records: one bounded ring for those who ask later, one bounded broadcast for those who listen.
//!
//! Log line, status and event stream all come from the same record.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::catalog::unix_ms;

/// One thing that happened to one server.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// To which server.
    pub server: String,
    /// Of which generation; 0 when none is concerned.
    pub generation: u64,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
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
    },
    /// The server is not what it was: after a reconnect or a renewed session it says other things of itself (law 25).
    ServerChanged {
        /// What differs: `revision`, `identity`, `capabilities`, `instructions`.
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
        #[serde(rename = "withinMs")]
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
    /// A limit was exceeded. Told at once, and then for every doubling of their number.
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
}

/// Where events go.
#[derive(Debug)]
pub(crate) struct Events {
    live: broadcast::Sender<Event>,
    recent: Mutex<VecDeque<Event>>,
    kept: usize,
}

impl Events {
    /// An empty ring that keeps so many events for those who ask later; a listener may be as far behind before it is
    /// told that it lagged.
    pub(crate) fn new(kept: usize) -> Self {
        Self {
            live: broadcast::Sender::new(kept.max(1)),
            recent: Mutex::default(),
            kept: kept.max(1),
        }
    }

    /// Records an event and tells the listeners. Never waits.
    pub(crate) fn emit(&self, server: &str, generation: u64, kind: EventKind) {
        let event = Event {
            at_unix_ms: unix_ms(),
            server: server.to_owned(),
            generation,
            kind,
        };
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        while recent.len() >= self.kept {
            recent.pop_front();
        }
        recent.push_back(event.clone());
        drop(recent);
        // No listener is fine.
        let _ = self.live.send(event);
    }

    /// Listens from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.live.subscribe()
    }

    /// The last events, oldest first.
    pub(crate) fn recent(&self) -> Vec<Event> {
        self.recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}
