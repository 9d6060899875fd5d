//! Bodies of HTTP answers: the segments of one text, or a stream of them.
//!
//! A payload that came from a server goes out as the slices it came in; only short texts are joined, because one small
//! copy is cheaper than several writes. Nothing here knows what the bytes mean.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use mainstay_wire::Parts;

/// Texts up to this many bytes are joined into one segment before they are sent.
const JOIN_BYTES_MAX: usize = 16 * 1024;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, no-transform");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const NO: HeaderValue = HeaderValue::from_static("no");

/// One HTTP answer of this gateway.
pub type Reply = Response<ReplyBody>;

/// The error of a body: whatever an inner body reports.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A stream of texts, as an event stream sends them.
pub(crate) type TextStream = Pin<Box<dyn Stream<Item = Parts> + Send>>;

/// The body of a [`Reply`], taken apart again.
pub(crate) enum Content {
    /// One text, whole.
    Text(Parts),
    /// Texts as they come.
    Stream(TextStream),
}

/// The body of a [`Reply`].
#[derive(Default)]
pub struct ReplyBody(Form);

#[derive(Default)]
enum Form {
    /// Nothing (left).
    #[default]
    Empty,
    /// One segment.
    One(Bytes),
    /// Several segments of known total length.
    Several {
        segments: <Parts as IntoIterator>::IntoIter,
        left: u64,
    },
    /// Texts as they come.
    Streamed {
        texts: TextStream,
        segments: Option<<Parts as IntoIterator>::IntoIter>,
    },
    /// The body of another handler.
    Foreign(axum::body::Body),
}

impl std::fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplyBody")
            .field("size", &self.size_hint())
            .finish()
    }
}

impl ReplyBody {
    /// A body of one text.
    pub(crate) fn text(parts: Parts) -> Self {
        if parts.len() <= JOIN_BYTES_MAX {
            return Self(if parts.is_empty() {
                Form::Empty
            } else {
                Form::One(parts.into_bytes())
            });
        }
        let left = parts.len() as u64;
        Self(Form::Several {
            segments: parts.into_iter(),
            left,
        })
    }

    /// Puts something around the stream that this body is; one that is no stream stays as it is.
    pub(crate) fn wrap_stream(self, wrap: impl FnOnce(TextStream) -> TextStream) -> Self {
        match self.0 {
            Form::Streamed {
                texts,
                segments: None,
            } => Self::stream(wrap(texts)),
            form @ (Form::Empty
            | Form::One(_)
            | Form::Several { .. }
            | Form::Streamed { .. }
            | Form::Foreign(_)) => Self(form),
        }
    }

    /// The same, and every text that it sends is shown to somebody first: the whole of a short one, each of a stream.
    pub(crate) fn observed(self, mut see: impl FnMut(&Parts) + Send + 'static) -> Self {
        Self(match self.0 {
            Form::One(text) => {
                see(&Parts::from(text.clone()));
                Form::One(text)
            }
            Form::Several { segments, left } => {
                let mut whole = Parts::new();
                segments.clone().for_each(|segment| whole.push(segment));
                see(&whole);
                Form::Several { segments, left }
            }
            Form::Streamed { texts, segments } => Form::Streamed {
                texts: texts.inspect(move |text| see(text)).boxed(),
                segments,
            },
            other @ (Form::Empty | Form::Foreign(_)) => other,
        })
    }

    /// What this body says. The body of another handler says nothing here.
    pub(crate) fn into_content(self) -> Content {
        match self.0 {
            Form::Empty | Form::Foreign(_) => Content::Text(Parts::new()),
            Form::One(text) => Content::Text(Parts::from(text)),
            Form::Several { segments, .. } => {
                let mut text = Parts::new();
                segments.for_each(|segment| text.push(segment));
                Content::Text(text)
            }
            Form::Streamed { texts, .. } => Content::Stream(texts),
        }
    }

    /// A body of many texts. Dropping the body drops the stream.
    pub(crate) fn stream(texts: TextStream) -> Self {
        Self(Form::Streamed {
            texts,
            segments: None,
        })
    }
}

impl From<axum::body::Body> for ReplyBody {
    fn from(body: axum::body::Body) -> Self {
        Self(Form::Foreign(body))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let form = &mut self.get_mut().0;
        match form {
            Form::Empty => Poll::Ready(None),
            Form::One(text) => {
                let text = std::mem::take(text);
                *form = Form::Empty;
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
            Form::Several { segments, left } => Poll::Ready(segments.next().map(|segment| {
                *left = left.saturating_sub(segment.len() as u64);
                Ok(Frame::data(segment))
            })),
            Form::Streamed { texts, segments } => loop {
                if let Some(segment) = segments.as_mut().and_then(Iterator::next) {
                    return Poll::Ready(Some(Ok(Frame::data(segment))));
                }
                match texts.as_mut().poll_next(cx) {
                    Poll::Ready(Some(text)) if text.len() <= JOIN_BYTES_MAX => {
                        return Poll::Ready(Some(Ok(Frame::data(text.into_bytes()))));
                    }
                    Poll::Ready(Some(text)) => *segments = Some(text.into_iter()),
                    Poll::Ready(None) => {
                        *form = Form::Empty;
                        return Poll::Ready(None);
                    }
                    Poll::Pending => return Poll::Pending,
                }
            },
            Form::Foreign(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Form::Empty => true,
            Form::One(_) | Form::Streamed { .. } => false,
            Form::Several { left, .. } => *left == 0,
            Form::Foreign(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Form::Empty => SizeHint::with_exact(0),
            Form::One(text) => SizeHint::with_exact(text.len() as u64),
            Form::Several { left, .. } => SizeHint::with_exact(*left),
            Form::Streamed { .. } => SizeHint::default(),
            Form::Foreign(body) => body.size_hint(),
        }
    }
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(ReplyBody::default());
    *reply.status_mut() = status;
    reply
}

/// An answer in words, for refusals below the level of JSON-RPC.
pub(crate) fn plain(status: StatusCode, text: impl Into<String>) -> Reply {
    let mut reply = Response::new(ReplyBody::text(Parts::from(text.into())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, PLAIN);
    reply
}

/// One JSON text.
pub(crate) fn json(status: StatusCode, parts: Parts) -> Reply {
    let mut reply = Response::new(ReplyBody::text(parts));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, JSON);
    reply
}

/// An event stream, kept from being buffered or cached on its way.
pub(crate) fn events(texts: TextStream) -> Reply {
    let mut reply = Response::new(ReplyBody::stream(texts));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, EVENT_STREAM);
    headers.insert(CACHE_CONTROL, NO_CACHE);
    headers.insert(ACCEL_BUFFERING, NO);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn parts(texts: &[&'static str]) -> Parts {
        let mut parts = Parts::new();
        for text in texts {
            parts.push(Bytes::from_static(text.as_bytes()));
        }
        parts
    }

    #[tokio::test]
    async fn short_texts_are_joined_and_long_ones_go_out_as_the_slices_that_came() {
        let body = ReplyBody::text(parts(&["{\"a\":", "1}"]));
        assert_eq!(body.size_hint().exact(), Some(7));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{\"a\":1}");

        let big = Bytes::from(vec![b'x'; JOIN_BYTES_MAX + 1]);
        let mut text = parts(&["["]);
        text.push(big.clone());
        text.push(Bytes::from_static(b"]"));
        let mut body = ReplyBody::text(text);
        assert_eq!(body.size_hint().exact(), Some(big.len() as u64 + 2));
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame.unwrap().into_data().unwrap());
        }
        assert_eq!(frames.len(), 3);
        assert_eq!(
            frames[1].as_ptr(),
            big.as_ptr(),
            "the payload must not be copied"
        );
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn streamed_texts_keep_their_order() {
        let texts = futures_util::stream::iter([parts(&["a", "b"]), parts(&["c"])]).boxed();
        assert_eq!(
            ReplyBody::stream(texts).collect().await.unwrap().to_bytes(),
            "abc"
        );
    }
}
