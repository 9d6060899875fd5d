//! Signing in to servers as people do it: the real `mainstay`, a real authorization server, servers that want its tokens, and a
//! browser that follows redirects and keeps cookies.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "test code: a failure here is the test's failure"
)]

#[path = "signin/background.rs"]
mod background;
#[path = "signin/browser.rs"]
mod browser;
#[path = "signin/calls.rs"]
mod calls;
#[path = "signin/commands.rs"]
mod commands;
#[path = "signin/support.rs"]
mod support;
