//! The manager against real servers that misbehave: real processes, real sockets, real signals.
//!
//! Waits are level-triggered with a patience that only a failing test reaches; nothing asserts on elapsed time.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod manager {
    pub(crate) mod calls;
    pub(crate) mod catalogs;
    pub(crate) mod ends;
    pub(crate) mod harness;
    pub(crate) mod http;
    pub(crate) mod recovery;
    mod soak;
}
