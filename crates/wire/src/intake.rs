//! The buffer in front of a decoder.
//!
//! It remembers how far it was searched, so that each byte is searched once, and it lets go of the memory of a huge message
//! once that has passed: a quiet connection must not keep 16 MiB because it was busy once.

use bytes::{Bytes, BytesMut};

/// An empty buffer that never held more than this is kept for the next chunk.
const KEEP_BYTES_MAX: usize = 128 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Intake {
    pub(crate) buf: BytesMut,
    /// Bytes of `buf` that are known not to hold what is looked for.
    pub(crate) scanned: usize,
    /// The most that `buf` held since its memory was fresh.
    peak: usize,
}

impl Intake {
    /// Adds a chunk. Not copied if it is the only owner of its memory and nothing is buffered.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if self.buf.is_empty() {
            match chunk.try_into_mut() {
                Ok(chunk) => self.buf = chunk,
                Err(shared) => self.buf.extend_from_slice(&shared),
            }
        } else {
            self.buf.extend_from_slice(&chunk);
        }
    }

    /// To be called before reading from the buffer: notes how large it became.
    pub(crate) fn note(&mut self) {
        self.peak = self.peak.max(self.buf.len());
    }

    /// To be called when nothing more can be read from the buffer.
    pub(crate) fn rest(&mut self) {
        if self.buf.is_empty() && self.peak > KEEP_BYTES_MAX {
            *self = Self::default();
        }
    }

    /// Takes the first `len` bytes out; what is left has not been searched.
    pub(crate) fn take(&mut self, len: usize) -> BytesMut {
        self.scanned = 0;
        self.buf.split_to(len)
    }

    /// Takes everything out.
    pub(crate) fn take_all(&mut self) -> BytesMut {
        self.scanned = 0;
        self.buf.split()
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.scanned = 0;
        self.buf.clear();
    }
}
