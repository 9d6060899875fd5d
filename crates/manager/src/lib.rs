//! Mainstay keeps MCP servers standing: supervised connections to many Model Context Protocol servers behind stable
//! handles.
//!
//! A server may crash, hang, be redeployed or lose its session: whoever calls it sees at worst a slow call or a precise,
//! typed error. Start at [`Manager::builder`]; take a [`ServerHandle`] with [`Manager::server`] and keep it for ever.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use mainstay::Manager;
//! use mainstay::config::{Config, ServerConfig};
//!
//! let time = ServerConfig::stdio("time", "uvx").args(["mcp-server-time"]);
//! let manager = Manager::builder().config(Config::from_servers([time])).start().await?;
//! let time = manager.server("time").ok_or("not configured")?;
//! let arguments = serde_json::json!({"timezone": "UTC"});
//! match time.call("get_current_time", Some(&arguments)).await {
//!     Ok(answer) => println!("{}", answer.result().unwrap_or("the tool failed")),
//!     // Exactly one of refused, rejected and unknown; only the last may have run.
//!     Err(error) => eprintln!("{}: {error}", error.class()),
//! }
//! manager.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! What may happen next is decided in `mainstay-core`; what the bytes mean is `mainstay-wire`'s; this crate does it.

pub mod addresses;
mod admission;
pub mod asks;
mod audience;
pub mod auth;
mod call;
pub mod calls;
pub mod catalog;
mod clock;
pub mod config;
mod content;
mod counters;
mod driver;
pub mod error;
#[cfg(test)]
mod error_doc;
pub mod events;
mod handle;
pub mod journal;
mod latency;
pub mod limits;
mod manager;
pub mod pins;
pub mod plan;
mod pool;
pub mod preflight;
mod principal;
#[doc(hidden)]
pub mod process;
pub mod publish;
mod remembered;
pub mod request;
#[doc(hidden)]
pub mod runtime;
pub mod secrets;
mod settings;
mod shape;
mod slot;
pub mod status;
pub mod store;
pub mod suspicious;
pub mod vault;
pub mod wire_log;
pub mod wishes;

pub use self::asks::{Ask, Said};
pub use self::audience::{Audience, Listed};
pub use self::calls::{CallRecord, Origin, Outcome, TraceContext};
pub use self::catalog::Catalog;
pub use self::counters::Counts;
pub use self::driver::ShutdownReport;
pub use self::error::{CallError, Refusal};
pub use self::events::{Event, EventKind};
pub use self::handle::{PrincipalWishes, ServerHandle};
pub use self::manager::{Manager, ManagerBuilder};
pub use self::plan::Plan;
pub use self::principal::{PRINCIPAL_BYTES_MAX, Principal};
pub use self::publish::Publication;
pub use self::request::{Answer, CallOptions, ClientFace, Request};
pub use self::status::{ConnectionStatus, ServerStatus, SignInFace};
pub use self::wishes::{Declined, LogLevel, Root, Update, Updates, WishError};
