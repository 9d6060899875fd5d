//! Frames of an event stream.

use bytes::Bytes;
use mainstay_wire::Parts;

/// A message as one event. Line breaks inside the JSON text (legal between tokens) become further `data:` lines, which
/// the reader joins with a line break again.
pub(crate) fn frame(message: Parts) -> Parts {
    let mut event = Parts::new();
    event.push(Bytes::from_static(b"event: message\r\ndata: "));
    for segment in message {
        let mut rest = segment;
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            event.push(rest.slice(..at));
            event.push(Bytes::from_static(b"\r\ndata: "));
            rest = rest.slice(at + 1..);
        }
        event.push(rest);
    }
    event.push(Bytes::from_static(b"\r\n\r\n"));
    event
}

/// A comment: keeps the connection and the client's patience alive, and shows us when the client is gone.
pub(crate) fn comment() -> Parts {
    Parts::from(Bytes::from_static(b": ping\r\n\r\n"))
}
