//! The gateway on a real port, in front of a real manager and real servers that misbehave, spoken to in raw HTTP.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "test code: a failure here is the test's failure, and tables are as long as what they list"
)]

#[path = "serve/admin.rs"]
mod admin;
#[path = "serve/batch.rs"]
mod batch;
#[path = "serve/bridge.rs"]
mod bridge;
#[path = "serve/crossing.rs"]
mod crossing;
#[path = "serve/dashboard.rs"]
mod dashboard;
#[path = "serve/door.rs"]
mod door;
#[path = "serve/failing.rs"]
mod failing;
#[path = "serve/journal.rs"]
mod journal;
#[path = "serve/lazy.rs"]
mod lazy;
#[path = "serve/legacy.rs"]
mod legacy;
#[path = "serve/listings.rs"]
mod listings;
#[path = "serve/modern.rs"]
mod modern;
#[path = "serve/old.rs"]
mod old;
#[path = "serve/openapi.rs"]
mod openapi;
#[path = "serve/people.rs"]
mod people;
#[path = "serve/profiles.rs"]
mod profiles;
#[path = "serve/push.rs"]
mod push;
#[path = "serve/refused.rs"]
mod refused;
#[path = "serve/replay.rs"]
mod replay;
#[path = "serve/routing.rs"]
mod routing;
#[path = "serve/search.rs"]
mod search;
#[path = "serve/sessions.rs"]
mod sessions;
#[path = "serve/shaping.rs"]
mod shaping;
#[path = "serve/slow.rs"]
mod slow;
#[path = "serve/subscriptions.rs"]
mod subscriptions;
#[path = "serve/support.rs"]
mod support;
#[path = "serve/telemetry.rs"]
mod telemetry;
#[path = "serve/views.rs"]
mod views;
