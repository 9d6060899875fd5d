//! Framing on HTTP streams: server-sent events.
//!
//! [`SseDecoder`] follows the event stream format of the HTML standard (LF, CRLF and CR line ends, byte order mark, comments,
//! several data lines) for chunks cut anywhere (F128). It judges framing only: whether `data` is a message is for
//! [`crate::Message::parse`], when to reconnect is for whoever holds the connection.

mod encode;
mod excess;

use bytes::{Bytes, BytesMut};

use crate::envelope::Refused;
use crate::intake::Intake;
use excess::Excess;

pub use encode::{encode_comment, encode_event};

/// Bytes of an over-long event that are kept.
const PREFIX_BYTES_MAX: usize = 4_096;

/// What the stream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SseItem {
    /// An event, ended by a blank line. Empty `data` is no message: a priming event, or only an `id` or `retry`.
    Event {
        /// The event type; `None` means `message`.
        event: Option<String>,
        /// The data lines joined by line feeds; a single line is a slice of the chunk it came in.
        data: Bytes,
        /// The event id, if this event has one. An empty id resets the position of the stream.
        id: Option<String>,
        /// The server's wish for the pause before reconnecting, unclamped (F127).
        retry_ms: Option<u64>,
    },
    /// A comment line: a sign of life.
    Comment,
    /// The event exceeded the limit and was skipped up to its end (F126). The call it belongs to must be told.
    TooLong {
        /// The beginning of its data, at most 4 KiB.
        prefix: Bytes,
        /// Its data as a refused message, with the id if it could be read anywhere in the event.
        refused: Refused,
        /// The event id, if it came before the limit was reached.
        id: Option<String>,
    },
}

/// Splits a byte stream into [`SseItem`]s.
///
/// Push chunks, then drain the iterator until it says `None`; more may come after the next chunk. Memory is bounded by
/// `event_bytes_max` plus one chunk.
#[derive(Debug)]
pub struct SseDecoder {
    event_bytes_max: usize,
    intake: Intake,
    /// The last line ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    /// Nothing has been read yet: a byte order mark may be in front.
    at_start: bool,
    pending: Pending,
    excess: Option<Box<Excess>>,
}

/// The event whose blank line has not come yet.
#[derive(Debug, Default)]
struct Pending {
    event: Option<String>,
    data: Data,
    id: Option<String>,
    retry_ms: Option<u64>,
    /// Length of its lines, comments not counted.
    bytes: usize,
    any: bool,
}

#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Data {
    fn push(&mut self, line: Bytes) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(line),
            Self::One(first) => {
                let mut all = BytesMut::with_capacity((first.len() + line.len() + 1) * 2);
                all.extend_from_slice(&first);
                Self::joined(all, &line)
            }
            Self::Many(all) => Self::joined(all, &line),
        };
    }

    fn joined(mut all: BytesMut, line: &[u8]) -> Self {
        all.extend_from_slice(b"\n");
        all.extend_from_slice(line);
        Self::Many(all)
    }

    fn freeze(self) -> Bytes {
        match self {
            Self::None => Bytes::new(),
            Self::One(line) => line,
            Self::Many(all) => all.freeze(),
        }
    }
}

impl SseDecoder {
    /// A decoder at the start of a stream. `event_bytes_max` bounds the lines of one event, comments not counted.
    #[must_use]
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            intake: Intake::default(),
            after_cr: false,
            at_start: true,
            pending: Pending::default(),
            excess: None,
        }
    }

    /// Adds a chunk. Not copied if it is the only owner of its memory and nothing is buffered.
    pub fn push(&mut self, chunk: Bytes) {
        self.intake.push(chunk);
    }

    /// The buffer to append to, for readers that fill a [`BytesMut`] in place. Only append to it.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.intake.buf
    }

    /// The stream has ended: hands out an event whose blank line is missing. The standard would drop it; here its data is
    /// judged like any other, because a caller waits for it. Call it after draining the iterator.
    pub fn finish(&mut self) -> Option<SseItem> {
        if let Some(item) = self.next() {
            return Some(item);
        }
        let rest = self.intake.take_all().freeze();
        self.after_cr = false;
        if let Some(mut excess) = self.excess.take() {
            excess.feed(&rest);
            return Some(excess.item(self.event_bytes_max));
        }
        let comment = self.line(rest);
        self.dispatch().or(comment)
    }

    fn dispatch(&mut self) -> Option<SseItem> {
        let Pending {
            event,
            data,
            id,
            retry_ms,
            any,
            bytes: _,
        } = std::mem::take(&mut self.pending);
        any.then(|| SseItem::Event {
            event,
            data: data.freeze(),
            id,
            retry_ms,
        })
    }

    /// Takes one line without its end. `Some` for a comment.
    fn line(&mut self, line: Bytes) -> Option<SseItem> {
        let (name, value) = match memchr::memchr(b':', &line) {
            Some(0) => return Some(SseItem::Comment),
            Some(colon) => {
                let space = usize::from(line.get(colon + 1) == Some(&b' '));
                (&line[..colon], line.slice(colon + 1 + space..))
            }
            None => (&line[..], Bytes::new()),
        };
        let known = match name {
            b"data" => {
                self.pending.data.push(value);
                true
            }
            b"event" => {
                // A type alone makes no event.
                self.pending.event = Some(lossy(&value)).filter(|event| !event.is_empty());
                false
            }
            b"id" if !value.contains(&0) => {
                self.pending.id = Some(lossy(&value));
                true
            }
            b"retry" => match digits(&value) {
                Some(ms) => {
                    self.pending.retry_ms = Some(ms);
                    true
                }
                None => false,
            },
            _ => false,
        };
        self.pending.any |= known;
        self.pending.bytes += line.len();
        None
    }

    /// The length of the next line. `None`: not all of it is here.
    fn line_end(&mut self) -> Option<usize> {
        let found = memchr::memchr2(b'\n', b'\r', &self.intake.buf[self.intake.scanned..])
            .map(|at| self.intake.scanned + at);
        self.intake.scanned = if found.is_some() {
            0
        } else {
            self.intake.buf.len()
        };
        found
    }

    fn swallow_lf(&mut self) {
        if self.after_cr && !self.intake.buf.is_empty() {
            self.after_cr = false;
            if self.intake.buf[0] == b'\n' {
                drop(self.intake.take(1));
            }
        }
    }

    /// A byte order mark at the very beginning is no text. `false`: not enough is here to know.
    fn pass_mark(&mut self) -> bool {
        const MARK: &[u8] = b"\xEF\xBB\xBF";
        if self.at_start {
            if self.intake.buf.len() < MARK.len() && MARK.starts_with(&self.intake.buf) {
                return false;
            }
            self.at_start = false;
            if self.intake.buf.starts_with(MARK) {
                drop(self.intake.take(MARK.len()));
            }
        }
        true
    }

    /// Too much for an event: from the line that breaks the limit on, which begins the buffer, only the id is looked for.
    fn overflow(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let mut excess = Excess::new(pending.id, pending.bytes);
        if !matches!(pending.data, Data::None) {
            excess.data(&pending.data.freeze());
            excess.data_line_ends();
        }
        self.intake.scanned = 0;
        self.excess = Some(Box::new(excess));
    }

    fn skip_excess(&mut self) -> Option<SseItem> {
        let excess = self.excess.as_mut()?;
        match excess.feed(&self.intake.buf) {
            None => {
                self.intake.clear();
                None
            }
            Some(used) => {
                let ended_by_cr = self.intake.take(used).last() == Some(&b'\r');
                self.after_cr = ended_by_cr;
                self.excess
                    .take()
                    .map(|excess| excess.item(self.event_bytes_max))
            }
        }
    }
}

impl Iterator for SseDecoder {
    type Item = SseItem;

    /// The next item of what was pushed so far. `None` means: push more.
    fn next(&mut self) -> Option<SseItem> {
        self.intake.note();
        let next = self.step();
        if next.is_none() {
            self.intake.rest();
        }
        next
    }
}

impl SseDecoder {
    fn step(&mut self) -> Option<SseItem> {
        loop {
            if !self.pass_mark() {
                return None;
            }
            self.swallow_lf();
            if self.excess.is_some() {
                return self.skip_excess();
            }
            let end = self.line_end();
            let room = self.event_bytes_max.saturating_sub(self.pending.bytes);
            if end.unwrap_or(self.intake.buf.len()) > room {
                self.overflow();
                continue;
            }
            let mut line = self.intake.take(end? + 1);
            self.after_cr = line.last() == Some(&b'\r');
            line.truncate(line.len() - 1);
            let item = if line.is_empty() {
                self.dispatch()
            } else {
                self.line(line.freeze())
            };
            if item.is_some() {
                return item;
            }
        }
    }
}

fn lossy(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// ASCII digits only, as the standard demands; `None` also for numbers beyond 64 bit.
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
