//! The beginning of a connection, and the clock of a request head that trickles.
//!
//! A head must come within a bounded time, counted from its first byte, so that a connection that is kept alive and says
//! nothing is never closed: clients of which a connection is closed just as they send on it are known to die of it.
//! Costs nothing per byte: one atomic look per read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use hyper::rt::{Sleep, Timer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// How HTTP/2 with prior knowledge begins. No other request begins with its first two letters.
const PREFACE: &[u8] = b"PR";

/// What the first bytes of a connection announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What a connection goes over.
#[derive(Debug)]
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The same for both.
macro_rules! either {
    ($wire:expr, $stream:ident => $what:expr) => {
        match $wire {
            Wire::Plain($stream) => $what,
            Wire::Tls($stream) => $what,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// Waits for the first bytes, and says what they announce. Waits for the first of them as long as it takes, for the rest
/// at most `head`. `None`: nothing more will come, or not in time.
pub(super) async fn announced(stream: &mut Wire, head: Duration) -> Option<(Protocol, BytesMut)> {
    let mut first = BytesMut::with_capacity(16);
    let mut deadline = None;
    loop {
        if first.len() >= PREFACE.len() || first.first().is_some_and(|byte| *byte != PREFACE[0]) {
            let protocol = if first.starts_with(PREFACE) {
                Protocol::Http2
            } else {
                Protocol::Http1
            };
            return Some((protocol, first));
        }
        let read = stream.read_buf(&mut first);
        let read = match deadline {
            None => read.await,
            Some(deadline) => tokio::time::timeout_at(deadline, read).await.ok()?,
        };
        if read.ok()? == 0 {
            return None;
        }
        deadline.get_or_insert_with(|| tokio::time::Instant::now() + head);
    }
}

/// When the head that is being read began.
#[derive(Debug)]
pub(super) struct HeadClock {
    base: Instant,
    /// Milliseconds since `base` plus one; [`WAITING`]: a head is awaited and nothing of it is here; [`OFF`]: no head is.
    began: AtomicU64,
}

const OFF: u64 = 0;
const WAITING: u64 = u64::MAX;

impl HeadClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            base: Instant::now(),
            began: AtomicU64::new(OFF),
        })
    }

    fn wait(&self) {
        self.began.store(WAITING, Ordering::Relaxed);
    }

    fn stop(&self) {
        self.began.store(OFF, Ordering::Relaxed);
    }

    fn read(&self) {
        if self.began.load(Ordering::Relaxed) == WAITING {
            let now = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(0);
            self.began.store(now + 1, Ordering::Relaxed);
        }
    }

    fn began(&self) -> Option<Instant> {
        match self.began.load(Ordering::Relaxed) {
            OFF | WAITING => None,
            began => Some(self.base + Duration::from_millis(began - 1)),
        }
    }
}

/// Gives hyper its sleeps: they count from the first byte of a head, not from the end of the request before.
#[derive(Debug, Clone)]
pub(super) struct HeadTimer {
    pub(super) clock: Arc<HeadClock>,
    pub(super) limit: Duration,
}

impl Timer for HeadTimer {
    fn sleep(&self, _duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.clock.wait();
        Box::pin(HeadSleep {
            clock: Arc::clone(&self.clock),
            limit: self.limit,
            sleep: None,
        })
    }

    fn sleep_until(&self, _deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(self.limit)
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, _deadline: Instant) {
        *sleep = self.sleep(self.limit);
    }
}

/// Polled by hyper whenever a head is not complete after a read.
struct HeadSleep {
    clock: Arc<HeadClock>,
    limit: Duration,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        // Without a first byte there is nothing to wake up for: the read that brings it does.
        let Some(began) = this.clock.began() else {
            return Poll::Pending;
        };
        let limit = this.limit;
        let sleep = this
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until((began + limit).into())));
        sleep.as_mut().poll(cx)
    }
}

impl Drop for HeadSleep {
    fn drop(&mut self) {
        self.clock.stop();
    }
}

/// A connection whose first bytes have been looked at, and whose reads are noticed by the clock.
#[derive(Debug)]
pub(super) struct Intake {
    first: BytesMut,
    stream: Wire,
    clock: Arc<HeadClock>,
}

impl Intake {
    pub(super) fn new(first: BytesMut, stream: Wire, clock: Arc<HeadClock>) -> Self {
        Self {
            first,
            stream,
            clock,
        }
    }

    pub(super) fn clock(&self) -> Arc<HeadClock> {
        Arc::clone(&self.clock)
    }
}

impl AsyncRead for Intake {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            let length = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first[..length]);
            this.first.advance(length);
            if this.first.is_empty() {
                this.first = BytesMut::new();
            }
            this.clock.read();
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.clock.read();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Intake {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
