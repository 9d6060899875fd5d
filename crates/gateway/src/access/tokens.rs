//! The static tokens of this Mainstay: named, kept as digests, expiring, revocable.
//!
//! A token is 256 random bits behind a prefix that scanners recognise; only its SHA-256 is kept, in one file of the state
//! directory that belongs to this user alone. Several processes may change the file: each takes the lock, reads it anew and
//! writes it whole. A running Mainstay notices a change with the next request that brings a token along (see `live.rs`).
//!
//! Must never show a token again, nor tell by how long it takes whether one is nearly right.

mod live;
mod store;

pub(crate) use self::live::{Known, Tokens};
pub use self::store::{Created, NewToken, TokenError, TokenInfo, TokenState, TokenStore};

/// How every token begins.
pub const PREFIX: &str = "mst_";

/// The group whose tokens may use the dashboard and the admin API.
pub const ADMIN_GROUP: &str = "admin";
