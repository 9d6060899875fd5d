//! Bodies in both directions: requests as segments that are never copied when large, responses chunk by chunk.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use mainstay_core::failure::Failure;
use mainstay_wire::splice::Parts;

use super::client;
use super::direct::DirectBody;
use crate::runtime::waiters::CallMark;

/// Requests up to this size are put together into one segment: one small copy is cheaper than many small writes.
const WHOLE_BYTES_MAX: usize = 64 * 1024;

/// How much of an error body is read, and how long that may take.
const SOME_BYTES_MAX: usize = 64 * 1024;
const SOME: Duration = Duration::from_secs(5);

/// How much memory is set aside for an answer on the word of its length alone.
const RESERVE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The body of a request, kept so that it can be sent again after a redirect.
#[derive(Debug)]
pub(super) enum Payload {
    Empty,
    Whole(Bytes),
    Segments(Parts),
}

impl Payload {
    pub(super) fn of(parts: Parts) -> Self {
        if parts.len() <= WHOLE_BYTES_MAX {
            Self::Whole(parts.into_bytes())
        } else {
            Self::Segments(parts)
        }
    }

    /// A body for one attempt. `mark` is told when the first byte is about to be written.
    pub(super) fn body(&self, mark: Option<&Arc<CallMark>>) -> OutBody {
        let mark = mark.cloned();
        match self {
            Self::Empty => OutBody {
                first: None,
                rest: VecDeque::new(),
                left: 0,
                mark: None,
            },
            Self::Whole(bytes) => OutBody {
                first: Some(bytes.clone()),
                rest: VecDeque::new(),
                left: bytes.len() as u64,
                mark,
            },
            Self::Segments(parts) => OutBody {
                first: None,
                rest: parts.iter().cloned().collect(),
                left: parts.len() as u64,
                mark,
            },
        }
    }
}

/// The body of one request on its way out.
#[derive(Debug)]
pub(super) struct OutBody {
    first: Option<Bytes>,
    rest: VecDeque<Bytes>,
    left: u64,
    mark: Option<Arc<CallMark>>,
}

/// The caller left while its request was still waiting for a connection.
#[derive(Debug, thiserror::Error)]
#[error("the caller left before the request was written")]
pub(super) struct Abandoned;

impl Body for OutBody {
    type Data = Bytes;
    type Error = Abandoned;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abandoned>>> {
        // HTTP asks for the body only when the connection stands and the head is about to leave: this is the moment
        // that separates "refused" from "outcome unknown" (law 16, F179).
        if let Some(mark) = self.mark.take()
            && !mark.begin_write()
        {
            return Poll::Ready(Some(Err(Abandoned)));
        }
        let next = self.first.take().or_else(|| self.rest.pop_front());
        if let Some(bytes) = &next {
            self.left -= bytes.len() as u64;
        }
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The body of a response.
#[derive(Debug)]
pub(super) enum InBody {
    /// From our own use of hyper.
    Plain(DirectBody),
    /// From reqwest.
    Full(reqwest::Body),
}

impl InBody {
    /// The next piece; `None` at the end. Cancel-safe.
    pub(super) async fn chunk(&mut self) -> Option<Result<Bytes, Failure>> {
        loop {
            let frame = match self {
                Self::Plain(body) => body.frame().await?.map_err(|error| client::broken(&error)),
                Self::Full(body) => body
                    .frame()
                    .await?
                    .map_err(|error| client::broken(&error.without_url())),
            };
            match frame {
                // Trailers say nothing that we need.
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(failure) => return Some(Err(failure)),
            }
        }
    }

    /// Whether nothing more will come.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end_stream(),
            Self::Full(body) => body.is_end_stream(),
        }
    }

    fn exact_bytes(&self) -> Option<u64> {
        match self {
            Self::Plain(body) => body.exact_bytes(),
            Self::Full(body) => body.size_hint().exact(),
        }
    }
}

/// Why a body could not be collected.
#[derive(Debug)]
pub(super) enum CollectFault {
    /// It is longer than allowed.
    TooLong,
    /// The connection broke.
    Broken(Failure),
}

/// Reads a whole body of at most `bytes_max`. A body that comes in one piece is used as it is; a longer one is put
/// together with one copy, into memory that was set aside by its announced length.
pub(super) async fn collect(body: &mut InBody, bytes_max: usize) -> Result<Bytes, CollectFault> {
    let announced = body
        .exact_bytes()
        .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if announced.is_some_and(|announced| announced > bytes_max) {
        return Err(CollectFault::TooLong);
    }
    let first = match body.chunk().await {
        None => return Ok(Bytes::new()),
        Some(first) => first.map_err(CollectFault::Broken)?,
    };
    if announced == Some(first.len()) {
        return Ok(first);
    }
    let second = match body.chunk().await {
        None if first.len() > bytes_max => return Err(CollectFault::TooLong),
        None => return Ok(first),
        Some(second) => second.map_err(CollectFault::Broken)?,
    };
    let mut whole = BytesMut::with_capacity(
        announced
            .unwrap_or(first.len() * 2)
            .min(RESERVE_BYTES_MAX)
            .max(first.len()),
    );
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    drop((first, second));
    while whole.len() <= bytes_max {
        match body.chunk().await {
            None => return Ok(whole.freeze()),
            Some(Ok(chunk)) => whole.extend_from_slice(&chunk),
            Some(Err(failure)) => return Err(CollectFault::Broken(failure)),
        }
    }
    Err(CollectFault::TooLong)
}

/// Reads what an error response says, as far as it is short and prompt. Never fails: the status says enough.
pub(super) async fn collect_some(mut body: InBody) -> Bytes {
    let mut said = BytesMut::new();
    let reading = async {
        while said.len() < SOME_BYTES_MAX
            && let Some(Ok(chunk)) = body.chunk().await
        {
            said.extend_from_slice(&chunk);
        }
    };
    // Too slow: what came so far is what it said.
    let _ = tokio::time::timeout(SOME, reading).await;
    said.truncate(SOME_BYTES_MAX);
    said.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn law_16_an_abandoned_request_is_never_written_and_a_written_one_is_known_to_be() {
        let payload = Payload::of(Parts::from(Bytes::from_static(b"{}")));
        let mark = Arc::new(CallMark::default());
        let mut body = payload.body(Some(&mark));
        assert!(!mark.abandon_was_sent(), "not a byte was asked for");
        assert!(body.frame().await.expect("a frame").is_err());
        let mark = Arc::new(CallMark::default());
        let mut body = payload.body(Some(&mark));
        assert_eq!(body.size_hint().exact(), Some(2));
        assert_eq!(
            body.frame()
                .await
                .expect("a frame")
                .expect("data")
                .into_data()
                .expect("data"),
            "{}"
        );
        assert!(mark.abandon_was_sent());
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn large_requests_leave_in_the_segments_they_came_in() {
        let (first, second) = (
            Bytes::from(vec![b'a'; WHOLE_BYTES_MAX]),
            Bytes::from_static(b"b"),
        );
        let mut parts = Parts::from(first.clone());
        parts.push(second.clone());
        let mut body = Payload::of(parts).body(None);
        assert_eq!(body.size_hint().exact(), Some(WHOLE_BYTES_MAX as u64 + 1));
        let sent = body
            .frame()
            .await
            .expect("a frame")
            .expect("data")
            .into_data()
            .expect("data");
        assert_eq!(sent.as_ptr(), first.as_ptr(), "no copy");
        assert_eq!(
            body.frame()
                .await
                .expect("a frame")
                .expect("data")
                .into_data()
                .expect("data"),
            second
        );
        assert!(body.is_end_stream());
    }
}
