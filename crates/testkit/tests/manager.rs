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
    mod asks;
    mod auth;
    pub(crate) mod calls;
    pub(crate) mod catalogs;
    pub(crate) mod ends;
    pub(crate) mod exchanges;
    pub(crate) mod harness;
    mod hostile;
    pub(crate) mod http;
    pub(crate) mod listings;
    pub(crate) mod modern;
    pub(crate) mod paper;
    pub(crate) mod pauses;
    pub(crate) mod push;
    mod records;
    pub(crate) mod recovery;
    mod reload;
    pub(crate) mod restore;
    pub(crate) mod routes;
    pub(crate) mod scope;
    pub(crate) mod sessions;
    mod shaping;
    mod soak;
    pub(crate) mod sse;
    pub(crate) mod statuses;
    pub(crate) mod stdio_end;
    pub(crate) mod stdio_greet;
    pub(crate) mod stdio_noise;
    pub(crate) mod stdio_start;
    mod users;
    mod vault;
    pub(crate) mod watching;
}
