//! Getting in: the real binary for a user with apps, a home directory and a configuration of their own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

#[path = "setup/add.rs"]
mod add;
#[path = "setup/doctor.rs"]
mod doctor;
#[path = "setup/import.rs"]
mod import;
#[path = "setup/install.rs"]
mod install;
#[path = "setup/service.rs"]
mod service;
#[path = "setup/support.rs"]
mod support;
