//! An outgoing text as a list of segments.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

/// Ordered segments of one text. Untouched stretches are slices of the message they came from, not copies.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    segments: SmallVec<[Bytes; 4]>,
    len: usize,
}

impl Parts {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Length of the whole text in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a segment; empty ones are dropped.
    pub fn push(&mut self, segment: impl Into<Bytes>) {
        let segment = segment.into();
        if !segment.is_empty() {
            self.len += segment.len();
            self.segments.push(segment);
        }
    }

    /// Appends all segments of `other`.
    pub fn append(&mut self, other: Self) {
        self.len += other.len;
        self.segments.extend(other.segments);
    }

    /// The segments in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Bytes> {
        self.segments.iter()
    }

    /// One contiguous text; copies only if there is more than one segment.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.segments.len() <= 1 {
            return self.segments.pop().unwrap_or_default();
        }
        let mut whole = BytesMut::with_capacity(self.len);
        for segment in &self.segments {
            whole.extend_from_slice(segment);
        }
        whole.freeze()
    }

    /// Replaces line breaks by spaces. In JSON text they can only stand between tokens, where a space means the same.
    pub(crate) fn without_line_breaks(mut self) -> Self {
        for segment in &mut self.segments {
            if memchr::memchr2(b'\n', b'\r', segment).is_some() {
                let plain: Vec<u8> = segment
                    .iter()
                    .map(|&b| if matches!(b, b'\n' | b'\r') { b' ' } else { b })
                    .collect();
                *segment = plain.into();
            }
        }
        self
    }
}

impl From<Bytes> for Parts {
    fn from(text: Bytes) -> Self {
        let mut parts = Self::new();
        parts.push(text);
        parts
    }
}

impl From<String> for Parts {
    fn from(text: String) -> Self {
        Self::from(Bytes::from(text))
    }
}

impl IntoIterator for Parts {
    type Item = Bytes;
    type IntoIter = smallvec::IntoIter<[Bytes; 4]>;

    fn into_iter(self) -> Self::IntoIter {
        self.segments.into_iter()
    }
}

impl<'p> IntoIterator for &'p Parts {
    type Item = &'p Bytes;
    type IntoIter = std::slice::Iter<'p, Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
