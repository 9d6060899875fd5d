//! Accepting connections, and ending them.
//!
//! HTTP/1.1 with keep-alive straight on hyper: the path of a small call is one parse, one lookup and one write. HTTP/2
//! with prior knowledge on the same port, told apart by the first two bytes of a connection.

mod intake;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::intake::{HeadClock, HeadTimer, Intake, Protocol, announced};
use super::Gateway;
use super::body::Reply;
use super::origin::is_loopback;
use super::sessions::kept;
use crate::admin::door::Way;

/// Pause after a failed accept: out of descriptors is not cured by asking again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest request head in bytes, and most headers in it; more is answered with 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;

/// Most requests at the same time on one HTTP/2 connection, and the pings that find out whether its other end is there.
const STREAMS_MAX: u32 = 1_000;
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(20);

/// The last words to a client whose request head did not arrive in time.
const HEAD_TOO_LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// And how long they may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often idle sessions are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Why the gateway does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener is reachable from other machines (law 32).
    #[error(
        "refusing to listen on {0}: everybody who reaches it could use every server, and this version has no \
         authentication; listen on a loopback address such as 127.0.0.1 (option `--listen`, setting `mainstay.listen`)"
    )]
    NotLoopback(SocketAddr),
    /// The listener does not know its own address.
    #[error("the listener has no address")]
    Address(#[source] io::Error),
}

/// Serves until `ending` is cancelled: then nothing new is accepted, streams end, answers on their way get
/// [`drain_ms`](super::GatewaySettings::drain_ms), and when this returns no task or connection of the gateway is left
/// (law 6). The manager is not shut down.
///
/// # Errors
/// [`ServeError`] before the first connection is accepted, never later.
pub async fn serve(
    listener: TcpListener,
    gateway: Gateway,
    ending: CancellationToken,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Address)?;
    if !is_loopback(address.ip()) {
        return Err(ServeError::NotLoopback(address));
    }
    let shared = Arc::clone(&gateway.shared);
    let places = Arc::new(Semaphore::new(
        shared.settings.connections_max.min(Semaphore::MAX_PERMITS),
    ));
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    shared.tasks.spawn({
        let shared = Arc::clone(&shared);
        async move { kept::run(&shared.sessions, shared.ending.clone()).await }
    });
    loop {
        tokio::select! {
            // Cancel-safe: a token holds nothing.
            () = ending.cancelled() => break,
            // Cancel-safe: an interval keeps its time.
            _ = sweep.tick() => shared.sweep(),
            // Cancel-safe: neither the permit nor the accepted connection is lost, both arms of `accept` are.
            accepted = accept(&listener, &places) => {
                let Some((stream, place)) = accepted else { continue };
                let connection = connection(stream, gateway.clone());
                shared.tasks.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
        }
    }
    drop(listener);
    shared.ending.cancel();
    shared.tasks.close();
    let drained = tokio::time::timeout(
        Duration::from_millis(shared.settings.drain_ms),
        shared.tasks.wait(),
    )
    .await;
    if drained.is_err() {
        shared.hurry.cancel();
        shared.tasks.wait().await;
    }
    // The last moment: what sessions were told until now must outlive us. A panic in there has been logged.
    drop(tokio::task::spawn_blocking(move || shared.sessions.flush()).await);
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _peer)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(mut stream: TcpStream, gateway: Gateway) {
    // Small answers must not wait for company. A connection that is gone already shows it below.
    let _ = stream.set_nodelay(true);
    let shared = Arc::clone(&gateway.shared);
    let head = Duration::from_millis(shared.settings.head_ms);
    let announced = tokio::select! {
        // Cancel-safe: nothing follows if the other arm wins.
        announced = announced(&mut stream, head) => announced,
        // Cancel-safe: a token holds nothing.
        () = shared.ending.cancelled() => None,
    };
    let outcome = match announced {
        None => Ok(()),
        Some((Protocol::Http1, first)) => {
            http1(Intake::new(first, stream, HeadClock::new()), gateway, head).await
        }
        Some((Protocol::Http2, first)) => {
            http2(Intake::new(first, stream, HeadClock::new()), gateway).await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a client connection broke");
    }
}

async fn answer(gateway: Gateway, request: hyper::Request<Incoming>) -> Result<Reply, Infallible> {
    Ok(gateway.handle_from(request, Way::Listener).await)
}

async fn http1(intake: Intake, gateway: Gateway, head: Duration) -> hyper::Result<()> {
    let shared = Arc::clone(&gateway.shared);
    let timer = HeadTimer {
        clock: intake.clock(),
        limit: head,
    };
    let mut served = http1::Builder::new()
        .timer(timer)
        .header_read_timeout(head)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(
            TokioIo::new(intake),
            service_fn(move |request| answer(gateway.clone(), request)),
        );
    let outcome = tokio::select! {
        // Cancel-safe: the connection is polled on below.
        outcome = poll_fn(|cx| std::pin::Pin::new(&mut served).poll(cx)) => outcome,
        // Cancel-safe: a token holds nothing.
        () = shared.ending.cancelled() => {
            std::pin::Pin::new(&mut served).graceful_shutdown();
            tokio::select! {
                // Cancel-safe: nothing follows.
                outcome = poll_fn(|cx| std::pin::Pin::new(&mut served).poll(cx)) => outcome,
                () = shared.hurry.cancelled() => Ok(()),
            }
        }
    };
    if outcome.as_ref().is_err_and(|error| error.is_timeout()) {
        let mut stream = served.into_parts().io.into_inner();
        let told = async {
            stream.write_all(HEAD_TOO_LATE).await?;
            stream.shutdown().await
        };
        // Whoever sends so slowly may not read either.
        let _told = tokio::time::timeout(LAST_WORDS, told).await;
    }
    outcome
}

async fn http2(intake: Intake, gateway: Gateway) -> hyper::Result<()> {
    let shared = Arc::clone(&gateway.shared);
    let served = http2::Builder::new(Streams(shared.tasks.clone()))
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .serve_connection(
            TokioIo::new(intake),
            service_fn(move |request| answer(gateway.clone(), request)),
        );
    let mut served = pin!(served);
    tokio::select! {
        // Cancel-safe: the pinned connection is polled on below.
        outcome = served.as_mut() => outcome,
        // Cancel-safe: a token holds nothing.
        () = shared.ending.cancelled() => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                // Cancel-safe: nothing follows.
                outcome = served.as_mut() => outcome,
                () = shared.hurry.cancelled() => Ok(()),
            }
        }
    }
}

/// Runs the streams of HTTP/2 connections as tasks of the gateway, so that its end waits for them (law 6).
#[derive(Debug, Clone)]
struct Streams(TaskTracker);

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}
