//! Framing on stdio: one message per line.
//!
//! [`LineDecoder`] turns chunks of any size into lines and judges each: a message, a refused message whose call must be
//! told, or noise that is counted and never answered (F42, F43, F45). It never waits and never writes. One message per
//! line is the rule of the transport: two objects on one line, or one object over several lines, are not put together
//! again (F51); the first is refused with its id, the second is noise.

use std::vec;

use bytes::{Bytes, BytesMut};

use crate::envelope::{Limits, Message, Refused, Why, split_batch, trim};
use crate::intake::Intake;
use crate::salvage::Salvage;
use crate::splice::Parts;

/// Characters of a noise line that are kept as a sample.
const SAMPLE_CHARS_MAX: usize = 200;

/// What one line was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every line is a message; a box would cost each of them an allocation"
)]
pub enum Line {
    /// A message. Elements of a batch come one by one.
    Message(Message),
    /// Meant to be a message but broken, too long or too deep. The call it names must be told; without an id every call
    /// in flight may be the one that lost its answer (F47).
    Refused(Refused),
    /// Neither. `sample` is the printable beginning, `bytes` the length of the line.
    Noise {
        /// At most 200 characters; control characters are replaced.
        sample: String,
        /// Length in bytes, surrounding white space not counted.
        bytes: usize,
    },
}

/// Splits a byte stream into [`Line`]s.
///
/// Feed it with [`push`](Self::push) or read straight into [`buffer`](Self::buffer), then drain the iterator until it
/// says `None`; more may come after the next chunk. A line that lies in one chunk is not copied. Memory is bounded by
/// `message_bytes_max` plus one chunk. Dropping a half-read chunk is impossible, so a cancelled read loses nothing (F48).
#[derive(Debug)]
pub struct LineDecoder {
    limits: Limits,
    intake: Intake,
    /// Set while the rest of an over-long line passes by.
    excess: Option<Box<Excess>>,
    batch: vec::IntoIter<Bytes>,
}

#[derive(Debug)]
struct Excess {
    salvage: Salvage,
    sample: String,
    bytes: usize,
}

impl LineDecoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            intake: Intake::default(),
            excess: None,
            batch: Vec::new().into_iter(),
        }
    }

    /// Adds a chunk. Not copied if it is the only owner of its memory and nothing is buffered.
    pub fn push(&mut self, chunk: Bytes) {
        self.intake.push(chunk);
    }

    /// The buffer to append to, for readers that fill a [`BytesMut`] in place (`read_buf`). Only append to it.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.intake.buf
    }

    /// Bytes that wait for the end of their line.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.intake.buf.len()
    }

    /// The stream has ended: judges a last line without line feed once (F49). Call it after draining the iterator.
    pub fn finish(&mut self) -> Option<Line> {
        if let Some(line) = self.next() {
            return Some(line);
        }
        let rest = self.intake.take_all().freeze();
        if let Some(mut excess) = self.excess.take() {
            excess.take(&rest);
            return Some(excess.verdict(&self.limits));
        }
        self.judge(rest)
    }

    fn judge(&mut self, line: Bytes) -> Option<Line> {
        let text = trim(line);
        if text.is_empty() {
            return None;
        }
        match Message::parse(text.clone(), &self.limits) {
            Ok(message) => Some(Line::Message(message)),
            Err(Refused {
                why: Why::Batch, ..
            }) => match split_batch(text, &self.limits) {
                Ok(elements) => {
                    self.batch = elements.into_iter();
                    self.batch
                        .next()
                        .and_then(|element| self.judge_element(element))
                }
                Err(refused) => Some(Line::Refused(refused)),
            },
            Err(refused) => Some(verdict(refused, &text)),
        }
    }

    /// An element of a batch; a batch inside a batch is noise.
    fn judge_element(&self, element: Bytes) -> Option<Line> {
        match Message::parse(element.clone(), &self.limits) {
            Ok(message) => Some(Line::Message(message)),
            Err(refused) => Some(verdict(refused, &element)),
        }
    }

    /// Longest line that is looked at as a whole, line feed not counted; a carriage return may come on top of the message.
    fn line_bytes_max(&self) -> usize {
        self.limits.message_bytes_max.saturating_add(1)
    }

    /// Too much for a message: from here on only the id is looked for.
    fn overflow(&mut self) {
        // The sample must not depend on how much happens to be here already.
        let head = &self.intake.buf[..self.line_bytes_max().min(self.intake.buf.len())];
        self.excess = Some(Box::new(Excess {
            salvage: Salvage::new(),
            sample: sample(head),
            bytes: 0,
        }));
        self.intake.scanned = 0;
    }

    /// `Some` once the line feed of the over-long line is found.
    fn skip_excess(&mut self) -> Option<Line> {
        let excess = self.excess.as_mut()?;
        let Some(end) = memchr::memchr(b'\n', &self.intake.buf) else {
            excess.take(&self.intake.buf);
            self.intake.clear();
            return None;
        };
        excess.take(&self.intake.take(end + 1)[..end]);
        self.excess
            .take()
            .map(|excess| excess.verdict(&self.limits))
    }
}

impl Iterator for LineDecoder {
    type Item = Line;

    /// The next line of what was pushed so far. `None` means: push more.
    fn next(&mut self) -> Option<Line> {
        self.intake.note();
        let next = self.step();
        if next.is_none() {
            self.intake.rest();
        }
        next
    }
}

impl LineDecoder {
    fn step(&mut self) -> Option<Line> {
        loop {
            if let Some(element) = self.batch.next() {
                return self.judge_element(element);
            }
            if self.excess.is_some() {
                return self.skip_excess();
            }
            match memchr::memchr(b'\n', &self.intake.buf[self.intake.scanned..]) {
                Some(at) if self.intake.scanned + at > self.line_bytes_max() => self.overflow(),
                Some(at) => {
                    let line = self.intake.take(self.intake.scanned + at + 1).freeze();
                    if let Some(line) = self.judge(line) {
                        return Some(line);
                    }
                }
                None if self.intake.buf.len() > self.line_bytes_max() => self.overflow(),
                None => {
                    self.intake.scanned = self.intake.buf.len();
                    return None;
                }
            }
        }
    }
}

impl Excess {
    fn take(&mut self, bytes: &[u8]) {
        self.salvage.feed(bytes);
        self.bytes += bytes.len();
    }

    fn verdict(self, limits: &Limits) -> Line {
        let salvaged = self.salvage.finish();
        if !salvaged.jsonrpc {
            return Line::Noise {
                sample: self.sample,
                bytes: self.bytes,
            };
        }
        let why = Why::TooLong {
            bytes: self.bytes,
            max: limits.message_bytes_max,
        };
        Line::Refused(Refused::salvaged(why, salvaged))
    }
}

fn verdict(refused: Refused, text: &[u8]) -> Line {
    if refused.jsonrpc {
        Line::Refused(refused)
    } else {
        Line::Noise {
            sample: sample(text),
            bytes: text.len(),
        }
    }
}

/// The beginning of a line in a form that is safe to log and to show.
fn sample(text: &[u8]) -> String {
    let head = &text[..text.len().min(SAMPLE_CHARS_MAX * 4)];
    let printable = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    String::from_utf8_lossy(head)
        .trim_start_matches('\u{feff}')
        .chars()
        .take(SAMPLE_CHARS_MAX)
        .map(printable)
        .collect()
}

/// One line to write: the text without line breaks of its own, and a line feed.
///
/// Line breaks inside valid JSON stand between tokens and become spaces; nothing else changes.
#[must_use]
pub fn into_line(message: impl Into<Parts>) -> Parts {
    let mut line = message.into().without_line_breaks();
    line.push(Bytes::from_static(b"\n"));
    line
}
