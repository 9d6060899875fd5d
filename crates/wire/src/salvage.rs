//! Saving what a refused message says about itself.
//!
//! A message that is too long, too deep or broken still belongs to a call, and the call must be told (law 30, F47). This
//! streaming reader keeps no text: it follows strings and nesting through any number of chunks and remembers the top
//! level `id` and `method`, wherever they stand. Some peers write the id after a huge result, so a prefix is not enough.

use smallvec::SmallVec;

use crate::id::{ID_BYTES_MAX, Id};
use crate::scan::key_is;

/// Longest method name (raw, with quotes) that is remembered.
const METHOD_BYTES_MAX: usize = 258;
/// No key of interest is longer, even with every character escaped.
const KEY_BYTES_MAX: usize = 48;

/// What could be saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Salvaged {
    /// Present if exactly one complete, legal top level id was seen.
    pub(crate) id: Option<Id>,
    pub(crate) method: Option<String>,
    /// A top level member `jsonrpc` was seen: the text meant to be a message, it is no noise.
    pub(crate) jsonrpc: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Before the outermost brace.
    Start,
    /// The text is not an object, or the object is over.
    Over,
    /// Between tokens or inside a bare scalar.
    Between,
    /// Inside a string.
    Text,
    /// Inside a string, after a backslash.
    Escape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Key,
    Id,
    Method,
    /// A value nobody asked for.
    Other,
}

/// The streaming reader. Memory is bounded by the limits on id and method.
#[derive(Debug, Clone)]
pub(crate) struct Salvage {
    mode: Mode,
    depth: usize,
    want: Want,
    /// The token being collected at depth 1: a key, an id or a method.
    token: SmallVec<[u8; 32]>,
    overlong: bool,
    ids_seen: usize,
    id: Option<Id>,
    method: Option<String>,
    jsonrpc: bool,
}

impl Salvage {
    pub(crate) fn new() -> Self {
        Self {
            mode: Mode::Start,
            depth: 0,
            want: Want::Key,
            token: SmallVec::new(),
            overlong: false,
            ids_seen: 0,
            id: None,
            method: None,
            jsonrpc: false,
        }
    }

    /// One whole text, or the part of it that is at hand.
    pub(crate) fn of(text: &[u8]) -> Salvaged {
        let mut salvage = Self::new();
        salvage.feed(text);
        salvage.finish()
    }

    /// Follows the next bytes; one pass, nothing is kept but short tokens.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            match self.mode {
                Mode::Over => return,
                Mode::Text => {
                    let stop = memchr::memchr2(b'"', b'\\', &bytes[at..]);
                    let until = stop.map_or(bytes.len(), |n| at + n);
                    self.collect(&bytes[at..until]);
                    at = until;
                    if let Some(&byte) = bytes.get(at) {
                        self.collect(&[byte]);
                        self.mode = if byte == b'"' {
                            Mode::Between
                        } else {
                            Mode::Escape
                        };
                        at += 1;
                    }
                }
                Mode::Escape => {
                    self.collect(&bytes[at..=at]);
                    self.mode = Mode::Text;
                    at += 1;
                }
                Mode::Start => {
                    match bytes[at] {
                        b'{' => {
                            self.mode = Mode::Between;
                            self.depth = 1;
                        }
                        // White space and the bytes of a byte order mark.
                        b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF => {}
                        _ => self.mode = Mode::Over,
                    }
                    at += 1;
                }
                Mode::Between => {
                    self.between(bytes[at]);
                    at += 1;
                }
            }
        }
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.collect(b"\"");
                self.mode = Mode::Text;
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.overlong = true; // a container is neither a key, an id nor a method
            }
            b'}' | b']' if self.depth > 1 => self.depth -= 1,
            b'}' | b']' => {
                self.value_ends();
                self.mode = Mode::Over;
            }
            b':' if self.depth == 1 && self.want == Want::Key => self.key_ends(),
            b',' if self.depth == 1 => {
                self.value_ends();
                self.want = Want::Key;
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            other => self.collect(&[other]),
        }
    }

    fn collect(&mut self, bytes: &[u8]) {
        if self.depth != 1 || self.overlong {
            return;
        }
        let max = match self.want {
            Want::Key => KEY_BYTES_MAX,
            Want::Id => ID_BYTES_MAX,
            Want::Method => METHOD_BYTES_MAX,
            Want::Other => return,
        };
        if self.token.len() + bytes.len() > max {
            self.overlong = true;
        } else {
            self.token.extend_from_slice(bytes);
        }
    }

    fn key_ends(&mut self) {
        let key = if self.overlong {
            None
        } else {
            std::str::from_utf8(&self.token).ok()
        };
        let is = |name| key.is_some_and(|key| key_is(key, name));
        self.want = if is("id") {
            Want::Id
        } else if is("method") {
            Want::Method
        } else {
            self.jsonrpc |= is("jsonrpc");
            Want::Other
        };
        self.token.clear();
        self.overlong = false;
    }

    fn value_ends(&mut self) {
        let text = if self.overlong {
            None
        } else {
            std::str::from_utf8(&self.token).ok()
        };
        match self.want {
            Want::Id => {
                self.ids_seen += 1;
                self.id = text.and_then(Id::from_raw);
            }
            Want::Method => self.method = text.and_then(|raw| serde_json::from_str(raw).ok()),
            Want::Key | Want::Other => {}
        }
        self.want = Want::Other;
        self.token.clear();
        self.overlong = false;
    }

    /// What was found. A value that was still being read does not count: half an id is another call's id.
    pub(crate) fn finish(self) -> Salvaged {
        let id = if self.ids_seen == 1 { self.id } else { None };
        Salvaged {
            id,
            method: self.method,
            jsonrpc: self.jsonrpc,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(text: &str) -> Option<String> {
        Salvage::of(text.as_bytes())
            .id
            .map(|id| id.raw().to_owned())
    }

    #[test]
    fn f47_finds_the_id_before_and_after_a_huge_result() {
        assert_eq!(
            id_of(r#"{"jsonrpc":"2.0","id":7,"result":{"a":[1,{"id":3}],"te"#).as_deref(),
            Some("7")
        );
        assert_eq!(
            id_of(r#"{"result":{"id":3,"x":"\",\"id\":4"},"jsonrpc":"2.0","id":"a"}"#).as_deref(),
            Some("\"a\"")
        );
    }

    #[test]
    fn half_an_id_a_second_id_or_a_nested_id_is_none() {
        assert_eq!(id_of(r#"{"jsonrpc":"2.0","id":12"#), None);
        assert_eq!(id_of(r#"{"jsonrpc":"2.0","id":"12"#), None);
        assert_eq!(id_of(r#"{"id":1,"id":2}"#), None);
        assert_eq!(id_of(r#"{"id":1,"\u0069d":2}"#), None);
        assert_eq!(id_of(r#"{"id":{"id":1},"a":1}"#), None);
        assert_eq!(id_of(r#"{"id":null}"#), None);
        assert_eq!(id_of(r#"["id",1]"#), None);
    }

    #[test]
    fn chunking_changes_nothing() {
        let text = "\u{feff} {\"a\":[\"\\\"}\",{}],\"method\":\"tools\\/call\",\"jsonrpc\":\"2.0\",\"id\":\"é\\n\",\"z\":1}".as_bytes();
        let whole = Salvage::of(text);
        assert_eq!(whole.method.as_deref(), Some("tools/call"));
        assert!(whole.jsonrpc && whole.id.is_some());
        let mut salvage = Salvage::new();
        for byte in text {
            salvage.feed(&[*byte]);
        }
        assert_eq!(salvage.finish(), whole);
    }
}
