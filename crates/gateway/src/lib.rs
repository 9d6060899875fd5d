//! The gateway of Mainstay: one endpoint for many MCP servers, and the local admin API.

pub mod access;
pub mod admin;
pub mod audit;
pub mod policy;
pub mod record;
pub mod reload;
pub mod serve;
pub mod signin;
pub mod telemetry;
pub(crate) mod ui;

pub use serve::{Gateway, GatewaySettings};
