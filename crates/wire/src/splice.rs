//! Changing single members of a message and leaving every other byte alone.
//!
//! An edit never decodes and encodes a message again: unknown members, key order, big integers and `1.10` stay as they
//! are because nobody touches them. The outcome is a list of segments; the untouched ones are slices of the original.

mod apply;
mod parts;

use bytes::Bytes;

use crate::envelope::{Limits, Message, Refused};
use crate::id::Id;

pub use parts::Parts;

/// Why an edit cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    /// The replacement is not exactly one JSON value.
    #[error("the new value of {path} is not valid JSON")]
    NotJson {
        /// The member, dotted.
        path: String,
    },
    /// A member on the way is neither an object nor null, so nothing can be inside it.
    #[error("{path} is not an object")]
    NotAnObject {
        /// The member, dotted.
        path: String,
    },
    /// The member occurs twice; changing one of them would leave the other in force for some readers.
    #[error("{path} occurs twice")]
    DuplicateKey {
        /// The member, dotted.
        path: String,
    },
    /// The edit itself contradicts: a member and something inside it, or the whole message.
    #[error("the edits of {path} contradict each other")]
    Conflict {
        /// The member, dotted.
        path: String,
    },
    /// The edited text is no message any more ([`Editor::apply`] only).
    #[error("the edited message is refused")]
    Refused(#[from] Refused),
}

/// Collects edits of one message. Later edits of the same member replace earlier ones.
#[derive(Debug)]
#[must_use = "an edit does nothing until it is finished"]
pub struct Editor<'m> {
    message: &'m Message,
    tree: Node,
    error: Option<SpliceError>,
}

/// What is to happen below one key.
#[derive(Debug, Default)]
struct Node {
    change: Option<Change>,
    children: Vec<(String, Self)>,
}

#[derive(Debug)]
enum Change {
    Set(String),
    Remove,
}

impl<'m> Editor<'m> {
    pub(crate) fn new(message: &'m Message) -> Self {
        Self {
            message,
            tree: Node::default(),
            error: None,
        }
    }

    /// Replaces the id, or adds one.
    pub fn id(self, id: &Id) -> Self {
        self.set(&["id"], id.raw())
    }

    /// Sets the member at `path` to raw JSON. Objects that are missing on the way are created, a null on the way is
    /// replaced by an object; a new member is appended after the existing ones.
    pub fn set(mut self, path: &[&str], raw_json: impl Into<String>) -> Self {
        self.record(path, Change::Set(raw_json.into()));
        self
    }

    /// Removes the member at `path` if it exists.
    pub fn remove(mut self, path: &[&str]) -> Self {
        self.record(path, Change::Remove);
        self
    }

    fn record(&mut self, path: &[&str], change: Change) {
        let mut node = &mut self.tree;
        for name in path {
            if node.change.is_some() {
                self.error.get_or_insert_with(|| SpliceError::Conflict {
                    path: path.join("."),
                });
                return;
            }
            let at = node
                .children
                .iter()
                .position(|(key, _)| key == name)
                .unwrap_or_else(|| {
                    node.children.push(((*name).to_owned(), Node::default()));
                    node.children.len() - 1
                });
            node = &mut node.children[at].1;
        }
        if path.is_empty() || !node.children.is_empty() {
            self.error.get_or_insert_with(|| SpliceError::Conflict {
                path: path.join("."),
            });
            return;
        }
        node.change = Some(change);
    }

    /// Makes the edits.
    ///
    /// # Errors
    /// [`SpliceError`] names the member; nothing is sent half edited.
    pub fn finish(self) -> Result<Parts, SpliceError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        apply::apply(self.message, &self.tree)
    }

    /// Makes the edits and reads the outcome as a message again. Copies the text; use [`Editor::finish`] to send.
    ///
    /// # Errors
    /// As [`Editor::finish`], and [`SpliceError::Refused`] if the outcome is no message.
    pub fn apply(self) -> Result<Message, SpliceError> {
        Ok(Message::parse(self.finish()?.into_bytes(), &Limits::NONE)?)
    }
}

impl From<Message> for Parts {
    fn from(message: Message) -> Self {
        Self::from(message.text().clone())
    }
}

impl From<&Message> for Parts {
    fn from(message: &Message) -> Self {
        Self::from(message.text().clone())
    }
}

impl From<Message> for Bytes {
    fn from(message: Message) -> Self {
        message.text().clone()
    }
}

/// Quotes and escapes a plain string as JSON.
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "serde_json fails only on maps with non-string keys and on I/O; this is neither"
)]
pub fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always representable in JSON")
}
