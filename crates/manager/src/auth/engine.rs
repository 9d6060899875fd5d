//! The seam to whoever speaks OAuth: what is asked of it, and what can come of that.
//!
//! An engine holds no tokens and decides nothing about them: it carries out one step and says what happened. When to take
//! which step, what is kept and who waits is the keeper's business (`auth::keeper`). No engine opens a browser or a port.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::challenge::Challenge;
use super::grant::{Grant, Secret, Tokens};
use super::subject::Subject;
use crate::config::ServerConfig;
use crate::principal::Principal;

/// Speaks OAuth for us. Every method may take as long as it needs: callers bound it, and run it where nobody can drop it
/// between an answer and its being kept (F200).
pub trait Engine: fmt::Debug + Send + Sync {
    /// Gets the next pair with the refresh token of `grant`. One attempt, one token request.
    ///
    /// The reply may leave out the refresh token and the scopes; whoever asked keeps the former ones (F209).
    ///
    /// # Errors
    /// [`TokenError`], of which only `Refused` says that the refresh token is dead.
    fn refresh<'a>(
        &'a self,
        ask: &'a Ask,
        grant: &'a Grant,
    ) -> BoxFuture<'a, Result<Tokens, TokenError>>;

    /// Gets a grant without a human, where the config says how (client credentials, enterprise, exchange). `Ok(None)`: it
    /// takes a human.
    ///
    /// # Errors
    /// [`SignInError`].
    fn obtain<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Option<Grant>, SignInError>>;

    /// Begins to sign a human in: finds the authorization server, makes us known there, and says where to go.
    ///
    /// # Errors
    /// [`SignInError`].
    fn begin<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Login, SignInError>>;

    /// Ends what [`Engine::begin`] began, with the URL that the authorization server sent the browser to. Checks state and
    /// issuer before anything else.
    ///
    /// # Errors
    /// [`SignInError`].
    fn finish<'a>(
        &'a self,
        ask: &'a Ask,
        login: &'a Login,
        callback_url: &'a str,
    ) -> BoxFuture<'a, Result<Grant, SignInError>>;

    /// Asks once how a device login is doing.
    ///
    /// # Errors
    /// [`SignInError`]: it ended without a grant.
    fn poll<'a>(
        &'a self,
        ask: &'a Ask,
        login: &'a Login,
    ) -> BoxFuture<'a, Result<Polled, SignInError>>;

    /// Tells the issuer that a grant is not wanted any more, if it wants to know. Best effort.
    ///
    /// # Errors
    /// [`SignInError`]; the grant is forgotten here all the same.
    fn revoke<'a>(
        &'a self,
        ask: &'a Ask,
        grant: &'a Grant,
    ) -> BoxFuture<'a, Result<(), SignInError>>;
}

/// Who wants to be signed in to what.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The server's entry: its `auth`, and how it is reached.
    pub server: Arc<ServerConfig>,
    /// The canonical URL of the server, all references resolved: the protected resource (RFC 8707).
    pub resource: Box<str>,
    /// For whom; `None`: for this Mainstay.
    pub principal: Option<Principal>,
    /// What the server said when it last refused us, if it did.
    pub challenge: Option<Challenge>,
    /// Scopes that were asked for before: a step-up asks for these and more.
    pub scopes_before: BTreeSet<String>,
    /// How a human is to sign in.
    pub how: How,
    /// Where the authorization server is to send the browser; `None` where no browser comes back.
    pub redirect_uri: Option<Box<str>>,
    /// What the principal proved itself with, for a token exchange (RFC 8693) alone. Never sent to the server itself.
    pub subject: Option<Subject>,
}

/// How a human signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum How {
    /// In a browser that comes back to a redirect URI, by itself or pasted by hand.
    #[default]
    Browser,
    /// With a code on another device (RFC 8628).
    Device,
}

/// A login that has begun. The engine's own notes travel with it and are looked at by nobody else.
pub struct Login {
    /// Where the human has to go; `http` or `https`.
    pub url: Box<str>,
    /// The code to type in there, for a device login.
    pub user_code: Option<Box<str>>,
    /// For a browser login: the `state` that comes back. Tells one login from another (F206).
    pub state: Option<Secret>,
    /// When it is too late, in milliseconds of the Unix clock.
    pub expires_unix_ms: u64,
    /// For a device login: how long to wait between two questions, in milliseconds.
    pub poll_ms: Option<u64>,
    /// What the engine needs to end it.
    pub notes: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL holds the state, the code is a secret for a while (law 31).
        f.debug_struct("Login")
            .field("expires_unix_ms", &self.expires_unix_ms)
            .finish_non_exhaustive()
    }
}

/// How a device login is doing.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives for a moment, once in a login"
)]
pub enum Polled {
    /// The human is not done yet; ask again after this many milliseconds.
    Pending {
        /// How long to wait.
        wait_ms: u64,
    },
    /// Done.
    Granted(Grant),
}

/// Why there is no next pair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The authorization server says that this grant is over (`invalid_grant`). Nothing else means that (F210).
    #[error("the authorization server refused the refresh token: {0}")]
    Refused(String),
    /// It could not be reached, was busy or in trouble, or answered with what no authorization server says: another attempt
    /// may go better.
    #[error("{what}")]
    Transient {
        /// Which step, what was expected, what came.
        what: String,
        /// It asked to be left alone for this long.
        retry_after_ms: Option<u64>,
    },
    /// It answered properly, and another attempt would be answered the same (`invalid_client`, `unsupported_grant_type`, a
    /// configured secret that cannot be resolved). Nothing is forgotten: a human has to change something first.
    #[error("{0}")]
    Unusable(String),
}

/// A step of signing in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Reading the server's entry.
    Configuration,
    /// Asking the server for its metadata as a protected resource (RFC 9728).
    ResourceMetadata,
    /// Asking the authorization server for its metadata (RFC 8414).
    IssuerMetadata,
    /// Making ourselves known (RFC 7591).
    Registration,
    /// The human's visit to the authorization server.
    Authorization,
    /// What came back from that.
    Callback,
    /// Exchanging what came back for tokens.
    Token,
    /// Getting the next pair.
    Refresh,
    /// Asking for a device code, or how it is doing.
    Device,
    /// Exchanging one token for another.
    Exchange,
    /// Keeping what we got.
    Store,
}

impl Step {
    /// In words, to follow "while".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Step::Configuration => "reading its entry",
            Step::ResourceMetadata => "asking the server for its resource metadata",
            Step::IssuerMetadata => "asking the authorization server for its metadata",
            Step::Registration => "registering as a client",
            Step::Authorization => "asking for authorization",
            Step::Callback => "reading what the authorization server sent back",
            Step::Token => "exchanging the code for tokens",
            Step::Refresh => "refreshing the token",
            Step::Device => "signing in with a device code",
            Step::Exchange => "exchanging a token",
            Step::Store => "storing the tokens",
        }
    }
}

/// Why somebody could not be signed in: which server, which step, what was expected, what came, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot sign in to `{server}` while {}: {what}{}{}", .step.words(), expected_words(.expected), remedy_words(.remedy))]
pub struct SignInError {
    /// The server.
    pub server: Box<str>,
    /// The step.
    pub step: Step,
    /// What happened. Scrubbed of secrets and bounded by whoever writes it.
    pub what: String,
    /// What was expected instead; empty where that is plain.
    pub expected: String,
    /// What to do; empty where nothing can be said.
    pub remedy: String,
    /// Whether another attempt may go better without anybody changing anything.
    pub transient: bool,
}

impl SignInError {
    /// An error of a step, in words.
    #[must_use]
    pub fn new(server: impl Into<Box<str>>, step: Step, what: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            step,
            what: what.into(),
            expected: String::new(),
            remedy: String::new(),
            transient: false,
        }
    }

    /// The same with what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = expected.into();
        self
    }

    /// The same with what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// The same, worth another attempt.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }
}

fn expected_words(expected: &str) -> String {
    match expected {
        "" => String::new(),
        expected => format!(" (expected {expected})"),
    }
}

fn remedy_words(remedy: &str) -> String {
    match remedy {
        "" => String::new(),
        remedy => format!("; {remedy}"),
    }
}
