//! Typed looks at the few messages that Mainstay acts on.
//!
//! A view reads the members it needs and keeps the raw text of what it was read from, so that nothing unknown is lost: it is
//! never encoded again. Everything else passes through unread.

mod call;
mod greet;
mod notice;

pub use call::{CallView, ErrorView, InputRequired, ResultType, ToolHints};
pub use greet::{DiscoverResult, Implementation, InitializeParams, InitializeResult};
pub use notice::{CancelledView, ListenFilter, ProgressView};

/// What a message lacks to be what it says it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} has no valid member \"{member}\": expected {expected}")]
pub struct ViewError {
    /// What was read, in MCP's words.
    pub what: &'static str,
    /// The member, dotted.
    pub member: &'static str,
    /// What should have been there.
    pub expected: &'static str,
}
