//! Frames of event streams and bodies that arrive in pieces, whole or broken.

use std::convert::Infallible;
use std::io;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;

/// One `message` event.
pub(crate) fn event(id: Option<&str>, data: &str) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    Bytes::from(format!("event: message\n{id}data: {data}\n\n"))
}

/// A body that ends when its sender is dropped.
pub(crate) fn channel() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel::<Bytes>(64);
    let chunks = stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, Infallible>(chunk), receiver))
    });
    (sender, Body::from_stream(chunks))
}

/// These bytes, one per chunk.
pub(crate) fn byte_by_byte(bytes: &Bytes) -> Body {
    let singles: Vec<_> = (0..bytes.len())
        .map(|at| Ok::<_, Infallible>(bytes.slice(at..=at)))
        .collect();
    Body::from_stream(stream::iter(singles))
}

/// These bytes, and then the connection breaks in the middle of the body.
pub(crate) fn broken_after(bytes: Bytes) -> Body {
    let head = stream::iter([Ok(bytes)]);
    // The pause of one scheduling round lets the head leave before the break.
    let tail = stream::once(async {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        Err(io::Error::other("planned break"))
    });
    Body::from_stream(head.chain(tail))
}

/// These bytes, and the end a few milliseconds later.
pub(crate) fn late_end(bytes: Bytes) -> Body {
    let head = stream::iter([Ok::<_, Infallible>(bytes)]);
    let tail = stream::once(async {
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        Ok(Bytes::new())
    });
    Body::from_stream(head.chain(tail))
}

/// These bytes, and then nothing, for ever.
pub(crate) fn stalled_after(bytes: Bytes) -> Body {
    Body::from_stream(stream::iter([Ok::<_, Infallible>(bytes)]).chain(stream::pending()))
}
