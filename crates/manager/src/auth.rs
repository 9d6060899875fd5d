//! Signing in to servers: OAuth 2.1 credentials that survive everything.
//!
//! Where the parts are: `grant` says what credentials are, `engine` is the seam to whoever speaks OAuth, `challenge` reads
//! what a server says when it refuses us. Which token goes out, when the next pair is fetched, and what ends a grant is
//! decided here and in `mainstay_core::token`, never by an engine. Nothing here opens a browser or a port (law 11).

pub mod challenge;
pub mod engine;
pub mod grant;

#[cfg(feature = "oauth")]
mod assertion;
#[cfg(feature = "oauth")]
mod browser;
#[cfg(feature = "oauth")]
mod device;
#[cfg(feature = "oauth")]
mod discovery;
#[cfg(feature = "oauth")]
mod endpoint;
#[cfg(feature = "oauth")]
mod enterprise;
#[cfg(feature = "oauth")]
mod exchange;
#[cfg(feature = "oauth")]
mod http;
#[cfg(feature = "oauth")]
mod registration;
#[cfg(feature = "oauth")]
pub mod rmcp;
pub(crate) mod store;

pub use self::challenge::Challenge;
pub use self::engine::{Ask, Engine, How, Login, Polled, SignInError, Step, TokenError};
pub use self::grant::{ClientAuth, ClientIdentity, ClientSource, Grant, GrantKey, Secret, Tokens};
