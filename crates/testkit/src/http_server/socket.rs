//! The socket under one connection of the fake server: it can be told to break at any byte of what is written.
//!
//! Below HTTP on purpose: a head is cut as well as a body, and what the client meets is a real reset, a real end or a
//! real silence.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::script::Then;

/// When and how a connection is to break.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Bytes that still pass.
    left: u64,
    then: Then,
    every_ms: u64,
}

/// Breaks one connection on demand. Shared by its socket and the requests on it.
#[derive(Debug, Default)]
pub(crate) struct Knife(Mutex<Option<Cut>>);

impl Knife {
    /// From now on so many bytes pass, and then this happens.
    pub(crate) fn arm(&self, after_bytes: u64, then: Then, every_ms: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Cut {
            left: after_bytes,
            then,
            every_ms,
        });
    }

    fn cut(&self) -> Option<Cut> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passed(&self, bytes: usize) {
        if let Some(cut) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            cut.left = cut.left.saturating_sub(bytes as u64);
        }
    }
}

/// A TCP connection with a knife at it.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    knife: Arc<Knife>,
    drip: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, knife: Arc<Knife>) -> Self {
        Self {
            stream,
            knife,
            drip: None,
        }
    }

    fn after(&mut self, cx: &mut Context<'_>, bytes: &[u8], cut: Cut) -> Poll<io::Result<usize>> {
        match cut.then {
            Then::Reset => {
                // Closing it now sends a reset instead of an end.
                let _ = self.stream.set_zero_linger();
                Poll::Ready(Err(io::Error::other("planned reset")))
            }
            Then::Close => Poll::Ready(Err(io::Error::other("planned end"))),
            Then::Stall => Poll::Pending,
            Then::Drip => {
                let every = Duration::from_millis(cut.every_ms);
                let drip = self
                    .drip
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(every)));
                ready!(drip.as_mut().poll(cx));
                self.drip = None;
                Pin::new(&mut self.stream).poll_write(cx, bytes.get(..1).unwrap_or(bytes))
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(cut) = self.knife.cut() else {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        };
        if cut.left == 0 {
            return self.after(cx, bytes, cut);
        }
        let pass = usize::try_from(cut.left).unwrap_or(usize::MAX);
        let pass = bytes.get(..pass).unwrap_or(bytes);
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, pass))?;
        self.knife.passed(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
