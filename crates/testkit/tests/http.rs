//! The streamable HTTP link against a real server that misbehaves on request.
//!
//! Each test names the law or the fault row that it holds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "http/answers.rs"]
mod answers;
#[path = "http/engine.rs"]
mod engine;
#[path = "http/era.rs"]
mod era;
#[path = "http/oauth.rs"]
mod oauth;
#[path = "http/push.rs"]
mod push;
#[path = "http/rig.rs"]
mod rig;
#[path = "http/secrets.rs"]
mod secrets;
#[path = "http/session.rs"]
mod session;
#[path = "http/sockets.rs"]
mod sockets;
#[path = "http/tls.rs"]
mod tls;
