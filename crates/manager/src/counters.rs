//! What happened at one server, in numbers. Plain atomics: counting never waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use schemars::JsonSchema;
use serde::Serialize;

use crate::calls::Outcome;
use crate::events::{EventKind, Events};
use crate::limits::{Limit, is_news};

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident $(=> $verb:ident)?),* $(,)?) => {
        /// The live counters of one server, over all generations.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($field: AtomicU64,)*
            announcer: OnceLock<Announcer>,
        }

        /// A reading of a server's counters since Mainstay started.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct Counts {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Counters {
            $($(pub(crate) fn $verb(&self) {
                self.$field.fetch_add(1, Ordering::Relaxed);
            })?)*

            /// Reads all of them.
            pub(crate) fn read(&self) -> Counts {
                Counts { $($field: self.$field.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Calls answered by the server, with a result or an error.
    answered,
    /// Of the answered: calls of tools that failed, by their own account.
    tool_errors,
    /// Of the answered: calls that the server answered with a JSON-RPC error.
    server_errors,
    /// Calls refused before anything was sent.
    refused,
    /// Calls rejected by the server without running them.
    rejected,
    /// Calls sent whose outcome is unknown.
    unknown,
    /// Calls whose caller left before they ended.
    cancelled,
    /// Calls sent more than once because it was safe.
    resent => resent,
    /// Answers that came after their caller had left, or twice.
    late_answers => late_answer,
    /// Lines or events that were no MCP message.
    noise,
    /// Messages that meant to be MCP and were malformed.
    malformed => malformed,
    /// Messages of the server that exceeded a size or depth limit; the calls concerned, if any, were told.
    oversized,
    /// Requests of the server that were refused because there were too many per second.
    over_requests,
    /// Requests of the server for sampling or elicitation that were refused, because it may not ask or asked too often.
    asks_refused,
    /// Notifications that nobody listens to.
    unrouted_notifications => unrouted_notification,
    /// Notices of ours (cancel, answers to the server) that could not be sent.
    notices_lost => notice_lost,
    /// Times that a process had to be killed, because it did not end when it was asked to.
    forced_kills => forced_kill,
    /// Times that a process was found to have left its process group.
    escapes,
    /// Limits that were exceeded: calls refused for one, answers withheld, items hidden.
    limits_exceeded => limit_exceeded,
    /// Calls that found the tool's definition changed since their caller saw it.
    tool_changes => tool_change,
    /// Messages from generations that are no longer current.
    stale => stale,
    /// Connections that came back after a failure.
    recoveries => recovered,
    /// Faults raised while closing a connection: noise, never charged.
    cleanup_faults => cleanup_fault,
    /// Connections opened.
    opens => opened,
}

impl Counts {
    /// Calls that have ended, however they did.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.answered + self.refused + self.rejected + self.unknown + self.cancelled
    }
}

/// Where a server's excesses become events.
#[derive(Debug)]
pub(crate) struct Announcer {
    /// The server's name.
    pub(crate) server: Arc<str>,
    /// The stream of events.
    pub(crate) events: Arc<Events>,
    /// How much noise is worth an event.
    pub(crate) noise_lines: u64,
}

impl Counters {
    /// A call ended (law 16).
    pub(crate) fn call(&self, outcome: Outcome) {
        let (of, more) = match outcome {
            Outcome::Answered => (&self.answered, None),
            Outcome::ToolError => (&self.answered, Some(&self.tool_errors)),
            Outcome::ServerError => (&self.answered, Some(&self.server_errors)),
            Outcome::Refused => (&self.refused, None),
            Outcome::Rejected => (&self.rejected, None),
            Outcome::Unknown => (&self.unknown, None),
            Outcome::Cancelled => (&self.cancelled, None),
        };
        of.fetch_add(1, Ordering::Relaxed);
        if let Some(more) = more {
            more.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// From now on excesses are events too.
    pub(crate) fn announce_to(&self, announcer: Announcer) {
        // Set once, when the slot is made.
        let _ = self.announcer.set(announcer);
    }

    /// Processes have left the group of a server that is gone, and live on.
    pub(crate) fn escaped(&self, generation: u64, pids: Vec<u32>) {
        self.escapes.fetch_add(1, Ordering::Relaxed);
        if let Some(to) = self.announcer.get() {
            to.events
                .emit(&to.server, generation, EventKind::Escaped { pids });
        }
    }

    /// A limit was exceeded: counted, and from time to time an event and a warning with a sample (F42). Never waits.
    pub(crate) fn exceeded(&self, limit: Limit, generation: u64, sample: &str) {
        let field = match limit {
            Limit::Message => &self.oversized,
            Limit::Noise => &self.noise,
            Limit::Requests => &self.over_requests,
            Limit::Asks => &self.asks_refused,
            Limit::Notices => &self.notices_lost,
        };
        let count = field.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(to) = self.announcer.get() else {
            return;
        };
        let threshold = match limit {
            Limit::Noise => to.noise_lines,
            Limit::Message | Limit::Requests | Limit::Asks | Limit::Notices => 1,
        };
        if !is_news(count, threshold) {
            tracing::debug!(server = %to.server, generation, limit = limit.setting(), count, "skipped");
            return;
        }
        let limit = limit.setting();
        let kind = EventKind::LimitExceeded {
            limit: limit.to_owned(),
            count,
            detail: sample.to_owned(),
        };
        to.events.emit(&to.server, generation, kind);
    }
}
