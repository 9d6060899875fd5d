//! `mainstay demo`: Mainstay at work, with three bundled servers that are broken on purpose.

mod board;
mod breaks;
mod children;
mod client;
mod outcome;
mod report;
pub(crate) mod server;
mod traffic;
