//! What happened at one server, in numbers. Plain atomics: counting never waits.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident => $verb:ident),* $(,)?) => {
        /// The live counters of one server, over all generations.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($field: AtomicU64,)*
        }

        /// A reading of a server's counters since Mainstay started.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct Counts {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Counters {
            $($(#[$doc])* pub(crate) fn $verb(&self) {
                self.$field.fetch_add(1, Ordering::Relaxed);
            })*

            /// Reads all of them.
            pub(crate) fn read(&self) -> Counts {
                Counts { $($field: self.$field.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Calls answered by the server, with a result or an error.
    answered => answered,
    /// Calls refused before anything was sent.
    refused => refused,
    /// Calls rejected by the server without running them.
    rejected => rejected,
    /// Calls sent whose outcome is unknown.
    unknown => unknown,
    /// Calls sent more than once because it was safe.
    resent => resent,
    /// Answers that came after their caller had left, or twice.
    late_answers => late_answer,
    /// Lines or events that were no MCP message.
    noise => noise,
    /// Notifications that nobody listens to.
    unrouted_notifications => unrouted_notification,
    /// Notices of ours (cancel, answers to the server) that could not be sent.
    notices_lost => notice_lost,
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
