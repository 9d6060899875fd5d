//! What the wire crate promises, as properties over generated messages and as the rows of the fault catalogue.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test speaks by panicking, and its helpers are part of it"
)]

mod corpus;
mod envelope;
mod generate;
mod listing;
mod meta;
mod ndjson;
mod splice;
mod sse;
mod views;

// The bodies of the fuzz targets: run here on their seeds and on what the generators make.
#[path = "../../../../fuzz/src/checks.rs"]
#[allow(
    unreachable_pub,
    reason = "it is the public face of another crate as well"
)]
mod checks;
