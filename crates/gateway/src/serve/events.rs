//! Frames of an event stream.

use bytes::Bytes;
use mainstay_wire::Parts;
use mainstay_wire::sse::encode_event;

/// A message as one event. Always of the type `message`: known clients ignore every other.
pub(crate) fn frame(message: Parts) -> Parts {
    encode_event(Some("message"), None, None, message)
}

/// A comment: keeps the connection and the client's patience alive, and shows us when the client is gone.
pub(crate) fn comment() -> Parts {
    Parts::from(Bytes::from_static(b": ping\n\n"))
}
