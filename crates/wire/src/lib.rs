//! MCP as bytes: what comes in is judged and indexed, what goes out is the bytes that came, with single members spliced.
//!
//! This crate is pure. Bytes go in, messages come out: no I/O, no clock, no async, no global state. It must never
//! re-encode what merely passes through: a [`Message`] is one validated text with spans into it, and an
//! [`Editor`] replaces the one member that has to change and leaves every other byte alone.
//!
//! | module | what it knows |
//! |---|---|
//! | [`envelope`] | JSON-RPC messages: parsing, refusing, building |
//! | [`id`] | request ids, kept as they were written |
//! | [`splice`] | editing a message without touching the rest of it |
//! | [`raw`] | looking into raw JSON text without building a tree |
//! | [`ndjson`], [`sse`] | framing on stdio and on HTTP streams |
//! | [`revision`], [`method`], [`headers`], [`meta`], [`codes`] | the names and numbers of the protocol |
//! | [`listing`] | pages of tools, prompts, resources and templates as raw items |
//! | [`views`] | typed looks at the few messages that Mainstay itself acts on |

#![forbid(unsafe_code)]

pub mod codes;
pub mod envelope;
pub mod headers;
pub mod id;
mod intake;
pub mod listing;
pub mod meta;
pub mod method;
pub mod ndjson;
pub mod raw;
pub mod revision;
mod salvage;
mod scan;
pub mod splice;
pub mod sse;
pub mod views;

pub use envelope::{Kind, Limits, Message, Refused, Why, recover_id, split_batch};
pub use id::Id;
pub use listing::{BadItem, ListKind, Page, PageError, RawItem};
pub use ndjson::{Line, LineDecoder};
pub use revision::{Era, Revision};
pub use splice::{Editor, Parts, SpliceError, json_string};
pub use sse::{SseDecoder, SseItem};
