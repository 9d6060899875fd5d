//! Passing by the rest of an event that is too long, looking only for the id in its data.

use bytes::{Bytes, BytesMut};

use super::{PREFIX_BYTES_MAX, SseItem};
use crate::envelope::{Refused, Why};
use crate::salvage::Salvage;

/// What the current line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// Its name is not complete yet.
    Unknown,
    Data,
    Other,
}

#[derive(Debug)]
pub(super) struct Excess {
    salvage: Salvage,
    prefix: BytesMut,
    id: Option<String>,
    bytes: usize,
    /// The first bytes of the current line, until its field is known.
    head: Vec<u8>,
    field: Field,
    line_empty: bool,
    after_cr: bool,
    data_lines: usize,
}

impl Excess {
    pub(super) fn new(id: Option<String>, bytes: usize) -> Self {
        Self {
            salvage: Salvage::new(),
            prefix: BytesMut::new(),
            id,
            bytes,
            head: Vec::new(),
            field: Field::Unknown,
            line_empty: true,
            after_cr: false,
            data_lines: 0,
        }
    }

    /// Content of a data line.
    pub(super) fn data(&mut self, bytes: &[u8]) {
        self.salvage.feed(bytes);
        let room = PREFIX_BYTES_MAX.saturating_sub(self.prefix.len());
        self.prefix
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub(super) fn data_line_ends(&mut self) {
        self.data_lines += 1;
    }

    /// Follows the stream. `Some(n)`: the blank line that ends the event is complete after `n` bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if std::mem::take(&mut self.after_cr) && bytes[at] == b'\n' {
                at += 1;
                continue;
            }
            let end = memchr::memchr2(b'\n', b'\r', &bytes[at..]).map(|n| at + n);
            let until = end.unwrap_or(bytes.len());
            self.content(&bytes[at..until]);
            at = until;
            let Some(end) = end else { break };
            at += 1;
            if self.line_empty {
                return Some(at);
            }
            self.after_cr = bytes[end] == b'\r';
            self.line_ends();
        }
        None
    }

    fn content(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len();
        self.line_empty &= bytes.is_empty();
        while let (Field::Unknown, [first, rest @ ..]) = (self.field, bytes) {
            // `data:` and perhaps one space; anything else is of no interest.
            match (self.head.len(), *first) {
                (5, b' ') => {
                    bytes = rest;
                    self.begin_data();
                }
                (5, _) => self.begin_data(),
                (n, byte) if byte == b"data:"[n] => {
                    self.head.push(byte);
                    bytes = rest;
                }
                _ => self.field = Field::Other,
            }
        }
        if self.field == Field::Data {
            self.data(bytes);
        }
    }

    fn begin_data(&mut self) {
        self.field = Field::Data;
        if self.data_lines > 0 {
            self.data(b"\n");
        }
    }

    fn line_ends(&mut self) {
        if self.field == Field::Data {
            self.data_line_ends();
        }
        self.head.clear();
        self.field = Field::Unknown;
        self.line_empty = true;
    }

    pub(super) fn item(self, max: usize) -> SseItem {
        let why = Why::TooLong {
            bytes: self.bytes,
            max,
        };
        let refused = Refused::salvaged(why, self.salvage.finish());
        SseItem::TooLong {
            prefix: Bytes::from(self.prefix),
            refused,
            id: self.id,
        }
    }
}
