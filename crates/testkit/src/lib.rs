//! Fake servers that misbehave on request, scripts for them, the explorer, and assertions.
//!
//! The fake servers and their scripts ship as `mainstay chaos`; everything else is test only.

mod asks;
pub mod authority;
pub mod explorer;
pub mod history;
pub mod http_proxy;
pub mod http_server;
pub mod script;
pub mod soak;
pub mod stdio_server;
