//! Why a text is no message, and whose call it was.

use std::fmt;

use crate::id::Id;
use crate::salvage::Salvaged;

/// The reason for a refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Longer than allowed. `bytes` is what had arrived when the verdict fell.
    #[error("message of {bytes} bytes exceeds the limit of {max} bytes")]
    TooLong {
        /// Length in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// More containers inside each other than allowed.
    #[error("message is nested deeper than the limit of {max} levels")]
    TooDeep {
        /// The limit in levels.
        max: usize,
    },
    /// Not JSON or not UTF-8; `at` is the byte offset of the first fault, surrounding white space not counted.
    #[error("not valid JSON at byte {at}")]
    NotJson {
        /// Byte offset.
        at: usize,
    },
    /// Valid JSON that breaks the rules of JSON-RPC (F59).
    #[error("not a JSON-RPC message: {0}")]
    NotAMessage(&'static str),
    /// A key that decides where the message goes occurs twice.
    #[error("the key \"{0}\" occurs twice")]
    DuplicateKey(&'static str),
    /// An array of messages; see [`crate::split_batch`].
    #[error("a batch of messages where one message is expected")]
    Batch,
}

/// A text that is not accepted as a message, with what it says about itself, so that the call concerned can be told.
#[derive(Clone, PartialEq, Eq)]
pub struct Refused {
    /// The reason.
    pub why: Why,
    /// The id, if exactly one legal id could be read. Without `method` it names one of the reader's own requests.
    pub id: Option<Id>,
    /// The method, if it could be read: then the text was a request or notification of the peer.
    pub method: Option<String>,
    /// The text has a top level member `jsonrpc`: it meant to be a message. Otherwise it is noise (F42, F43).
    pub jsonrpc: bool,
}

impl Refused {
    pub(crate) fn salvaged(why: Why, salvaged: Salvaged) -> Self {
        Self {
            why,
            id: salvaged.id,
            method: salvaged.method,
            jsonrpc: salvaged.jsonrpc,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)?;
        if let Some(method) = &self.method {
            write!(f, ", method {method:?}")?;
        }
        if let Some(id) = &self.id {
            write!(f, ", id {id}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refused({self})")
    }
}

impl std::error::Error for Refused {}
