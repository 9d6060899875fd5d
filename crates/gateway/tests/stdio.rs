//! `mainstay stdio`, the real binary between a client of ours and real servers, with Mainstay killed and replaced under it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

#[path = "stdio/pipes.rs"]
mod pipes;
#[path = "stdio/profile.rs"]
mod profile;
#[path = "stdio/record.rs"]
mod record;
#[path = "stdio/restart.rs"]
mod restart;
#[path = "stdio/starting.rs"]
mod starting;
#[path = "stdio/support.rs"]
mod support;
