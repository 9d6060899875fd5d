//! Who gets in, and who does not: the attacks at the door, each with what must become of it (law 32).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "test code: a failure here is the test's failure, and tables are as long as what they list"
)]

#[path = "access/attacks.rs"]
mod attacks;
#[path = "access/command.rs"]
mod command;
#[path = "access/exchange.rs"]
mod exchange;
#[path = "access/issuer.rs"]
mod issuer;
#[path = "access/people.rs"]
mod people;
#[path = "access/resource.rs"]
mod resource;
#[path = "access/rig.rs"]
mod rig;
#[allow(
    dead_code,
    reason = "shared with the tests of what is behind the door, which need more of it"
)]
#[path = "serve/support.rs"]
mod support;
#[path = "access/tls.rs"]
mod tls;
