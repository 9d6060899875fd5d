//! What may happen next: the decisions of Mainstay.
//!
//! This crate is pure. It has no clock, no I/O, no async, no threads and no randomness of its own: time comes in as an
//! argument, decisions go out as data, jitter comes from a seed in the state. That is what lets every reachable state of
//! the real machine be enumerated by a test, and any history be replayed.
//!
//! * [`lifecycle`]: one server's connection, from `Disabled` to `Connected` and back. Its one verb is
//!   [`Lifecycle::step`](lifecycle::Lifecycle::step).
//! * [`fleet`]: all lifecycles together: the start gate and the shutdown of everything.
//! * [`catalog`]: which names clients see, and whether a listing changed anything.
//! * [`plan`]: what a config edit touches.
//! * [`policy`], [`failure`], [`backoff`], [`budget`]: the numbers and rules behind those decisions.
//! * [`token`]: when a token is shown, when its successor is fetched, and what ends a grant.
//! * [`event`]: the one record from which log lines, journal, counters and status streams are made.
//!
//! It must not learn what bytes mean (that is the wire crate) nor how anything is done (that is the manager).

#![forbid(unsafe_code)]

pub mod backoff;
pub mod budget;
pub mod catalog;
pub mod event;
pub mod failure;
pub mod fleet;
pub mod ids;
pub mod lifecycle;
pub mod plan;
pub mod policy;
pub mod time;
pub mod token;
