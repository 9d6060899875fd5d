//! Signing in to servers: OAuth 2.1 credentials that survive everything.
//!
//! Where the parts are: `grant` says what credentials are, `engine` is the seam to whoever speaks OAuth, `challenge` reads
//! what a server says when it refuses us. Which token goes out, when the next pair is fetched, and what ends a grant is
//! decided here and in `mainstay_core::token`, never by an engine. Nothing here opens a browser or a port (law 11).

#[cfg(feature = "oauth")]
mod assertion;
pub mod challenge;
#[cfg(feature = "oauth")]
mod endpoint;
pub mod engine;
pub mod grant;
#[cfg(feature = "oauth")]
mod http;
pub(crate) mod store;

pub use self::challenge::Challenge;
pub use self::engine::{Ask, Engine, How, Login, Polled, SignInError, Step, TokenError};
pub use self::grant::{ClientAuth, ClientIdentity, ClientSource, Grant, GrantKey, Secret, Tokens};
