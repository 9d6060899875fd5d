//! Policy, approvals and the audit log: a gateway on a real port, real tokens, and fake servers whose ledgers say what was sent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "test code: a failure here is the test's failure, and tables are as long as what they list"
)]

#[path = "serve/support.rs"]
#[allow(dead_code, reason = "shared with another test binary")]
mod support;

#[path = "policy/approvals.rs"]
mod approvals;
#[path = "policy/audit.rs"]
mod audit;
#[path = "policy/calls.rs"]
mod calls;
#[path = "policy/office.rs"]
mod office;
#[path = "policy/views.rs"]
mod views;
