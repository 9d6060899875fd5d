//! Signing in to servers: OAuth 2.1 credentials that survive everything.
//!
//! Where the parts are: `grant` says what credentials are, `engine` is the seam to whoever speaks OAuth, `challenge` reads
//! what a server says when it refuses us, `store` keeps grants on disk, `account` owns the credentials of one holder and
//! everything that changes them, `credentials` is what a link holds of that, `house` what all accounts share, `office` where
//! people sign in and out, `login` one attempt at that, and `subject` what callers bring for a token exchange.
//!
//! Which token goes out, when the next pair is fetched, and what ends a grant is decided here and in
//! `mainstay_core::token`, never by an engine. Nothing here opens a browser or a port (law 11).

mod account;
pub mod challenge;
mod credentials;
pub mod engine;
pub mod grant;
mod house;
mod login;
mod office;
mod store;
mod subject;
mod words;

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

pub(crate) use self::account::Account;
pub use self::challenge::Challenge;
#[doc(hidden)]
pub use self::credentials::Credentials;
pub(crate) use self::credentials::Judged;
pub use self::engine::{Ask, Engine, How, Login, Polled, SignInError, Step, TokenError};
pub use self::grant::{ClientAuth, ClientIdentity, ClientSource, Grant, GrantKey, Secret, Tokens};
pub use self::login::{Begun, LoginState};
pub(crate) use self::office::Office;
pub(crate) use self::office::status_of;
pub use self::office::{SignInState, SignInStatus, SignIns};
pub(crate) use self::subject::Newest;
pub use self::subject::Subject;
pub use self::words::login_command;
