//! `mainstay chaos`, used as people use it: the servers misbehave as their scripts say, Mainstay survives, and targets that
//! do not survive are found out. The last point matters most: a test that cannot fail proves nothing.

#![cfg(feature = "chaos")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

#[path = "chaos/naive.rs"]
mod naive;
#[path = "chaos/run.rs"]
mod run;
#[path = "chaos/serve.rs"]
mod serve;
#[path = "chaos/support.rs"]
mod support;
