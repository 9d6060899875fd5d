//! Plain HTTP/1.1 connections, each driven by whoever uses it.
//!
//! A connection has no task of its own: the call that borrowed it polls it together with its own request and answer, so a
//! call costs no hop between tasks or threads. Idle connections are owned by the pool, given up by a reaper that runs only
//! while there are any, and looked at once before they are used again. Never sends a request twice, except one that the
//! connection handed back untouched.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use mainstay_core::failure::{Failure, FailureKind};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tower_service::Service;

use super::body::OutBody;
use super::client::chain;
use super::lookup::Lookup;

/// One connection with nobody's request on it, or exactly one.
#[derive(Debug)]
struct Live {
    sender: SendRequest<OutBody>,
    connection: Pin<Box<Connection<TokioIo<TcpStream>, OutBody>>>,
}

/// Connections to one origin.
#[derive(Debug)]
pub(super) struct Pool {
    origin: Uri,
    host: HeaderValue,
    connector: HttpConnector<Lookup>,
    idle_max: usize,
    idle_for: Duration,
    shelf: Mutex<Shelf>,
}

/// The idle connections, the one used last at the end.
#[derive(Debug, Default)]
struct Shelf {
    idle: Vec<(Live, Instant)>,
    reaper: Option<AbortHandle>,
}

impl Drop for Shelf {
    fn drop(&mut self) {
        if let Some(reaper) = self.reaper.take() {
            reaper.abort();
        }
    }
}

impl Pool {
    /// A pool without connections. `origin` is the URI that requests go to; only its scheme and authority count.
    pub(super) fn new(
        origin: &Uri,
        connector: HttpConnector<Lookup>,
        idle_max: usize,
        idle_for: Duration,
    ) -> Option<Self> {
        let authority = origin.authority()?;
        let host = match (authority.port_u16(), authority.host()) {
            (None | Some(80), host) => HeaderValue::from_str(host),
            (Some(port), host) => HeaderValue::from_str(&format!("{host}:{port}")),
        };
        Some(Self {
            origin: origin.clone(),
            host: host.ok()?,
            connector,
            idle_max,
            idle_for,
            shelf: Mutex::default(),
        })
    }

    /// Sends a request and waits for the head of its answer. Cancel-safe: dropping it closes the connection it was on.
    ///
    /// # Errors
    /// `Unreachable` if no connection could be made, `StreamClosed` if it broke. Whether anything was written is known to
    /// the mark in the request's body.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<OutBody>,
    ) -> Result<Response<DirectBody>, Failure> {
        request
            .headers_mut()
            .entry(HOST)
            .or_insert_with(|| self.host.clone());
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().unwrap_or_default();
        loop {
            let (mut live, is_fresh) = match self.take_idle() {
                Some(live) => (live, false),
                None => (self.connect().await?, true),
            };
            match exchange(&mut live, request).await {
                Ok(response) => {
                    let pool = Arc::downgrade(self);
                    return Ok(response.map(|body| DirectBody {
                        body,
                        live: Some(live),
                        pool,
                    }));
                }
                // Handed back untouched by a connection that had just been closed: a fresh one takes it.
                Err(Broken {
                    untouched: Some(back),
                    ..
                }) if !is_fresh => request = *back,
                Err(Broken { error, .. }) => {
                    return Err(Failure::new(FailureKind::StreamClosed).with_detail(chain(&error)));
                }
            }
        }
    }

    async fn connect(&self) -> Result<Live, Failure> {
        let unreachable =
            |detail: String| Failure::new(FailureKind::Unreachable).with_detail(detail);
        let mut connector = self.connector.clone();
        poll_fn(|cx| connector.poll_ready(cx))
            .await
            .map_err(|error| unreachable(chain(&error)))?;
        let stream = connector
            .call(self.origin.clone())
            .await
            .map_err(|error| unreachable(chain(&error)))?;
        let (sender, connection) = http1::handshake(stream)
            .await
            .map_err(|error| unreachable(chain(&error)))?;
        Ok(Live {
            sender,
            connection: Box::pin(connection),
        })
    }

    /// The idle connection that was used last and still stands.
    fn take_idle(&self) -> Option<Live> {
        loop {
            let (mut live, since) = self.shelf().idle.pop()?;
            if since.elapsed() < self.idle_for && live.is_usable() {
                return Some(live);
            }
        }
    }

    fn put_idle(self: &Arc<Self>, live: Live) {
        let mut shelf = self.shelf();
        if shelf.idle.len() >= self.idle_max {
            return;
        }
        shelf.idle.push((live, Instant::now()));
        if shelf.reaper.is_none()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let pool = Arc::downgrade(self);
            shelf.reaper = Some(runtime.spawn(reap(pool, self.idle_for)).abort_handle());
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that have been idle for too long; ends when there are none.
async fn reap(pool: Weak<Pool>, idle_for: Duration) {
    loop {
        tokio::time::sleep(idle_for).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut shelf = pool.shelf();
        shelf.idle.retain(|(_, since)| since.elapsed() < idle_for);
        if shelf.idle.is_empty() {
            shelf.reaper = None;
            return;
        }
    }
}

impl Live {
    /// One look, without waiting: closed by the server, or ready for a request.
    fn is_usable(&mut self) -> bool {
        let look = poll_fn(|cx| {
            if self.connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            self.sender.poll_ready(cx).map(|ready| ready.is_ok())
        });
        look.now_or_never().unwrap_or(false)
    }
}

/// A connection that broke under a request.
struct Broken {
    error: hyper::Error,
    untouched: Option<Box<Request<OutBody>>>,
}

/// Polls a request and its connection together until the head of the answer is there.
async fn exchange(
    live: &mut Live,
    request: Request<OutBody>,
) -> Result<Response<Incoming>, Broken> {
    let mut answer = std::pin::pin!(live.sender.try_send_request(request));
    let connection = &mut live.connection;
    let mut has_ended = false;
    let answered = poll_fn(|cx| {
        if !has_ended && connection.as_mut().poll(cx).is_ready() {
            has_ended = true;
        }
        // A connection that has ended has told the request so: what it says now is final.
        answer.as_mut().poll(cx)
    });
    answered.await.map_err(|mut fault| Broken {
        untouched: fault.take_message().map(Box::new),
        error: fault.into_error(),
    })
}

/// The body of an answer; it carries its connection and drives it. Dropped before its end, it closes the connection.
#[derive(Debug)]
pub(super) struct DirectBody {
    body: Incoming,
    live: Option<Live>,
    pool: Weak<Pool>,
}

impl DirectBody {
    /// The next frame. Cancel-safe.
    pub(super) async fn frame(&mut self) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// Whether nothing more will come.
    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// The exact length of what is left, if it is known.
    pub(super) fn exact_bytes(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending()
            && let Some(live) = &mut self.live
        {
            if live.connection.as_mut().poll(cx).is_ready() {
                // Closed by the server; what it had sent is still in the body.
                self.live = None;
            }
            polled = Pin::new(&mut self.body).poll_frame(cx);
        }
        if matches!(polled, Poll::Ready(None)) || (polled.is_ready() && self.body.is_end_stream()) {
            self.give_back();
        }
        polled
    }

    fn give_back(&mut self) {
        if let (Some(live), Some(pool)) = (self.live.take(), self.pool.upgrade()) {
            pool.put_idle(live);
        }
    }
}
