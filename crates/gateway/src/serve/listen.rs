//! Accepting connections, and ending them.
//!
//! HTTP/1.1 with keep-alive straight on hyper: the path of a small call is one parse, one lookup and one write. HTTP/2
//! with prior knowledge on the same port, told apart by the first two bytes of a connection.

mod intake;
mod tls;

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

use self::intake::{HeadClock, HeadTimer, Intake, Protocol, Wire, announced};
use self::tls::Tls;
use super::body::Reply;
use super::origin::is_loopback;
use super::sessions::kept;
use super::{Gateway, GatewaySettings};
use crate::access::tokens::{TokenError, TokenStore};
use crate::access::{Certificate, Denied, Peer, Why};
use crate::admin::door::Way;

pub use self::tls::TlsError;

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

/// How every TLS connection begins, and what those hear who begin otherwise where TLS is spoken.
const TLS_HANDSHAKE: u8 = 0x16;
const NOT_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n\
content-length: 41\r\n\r\nTLS is spoken here: use https://, please\n";

/// And how long they may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often idle sessions are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Why the gateway does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener is reachable from other machines, and nothing says who may come in (law 32).
    #[error(
        "refusing to listen on {0}: everybody who reaches it could use every server, and there is no way to say who may; make \
         a token with `mainstay token create NAME`, or set `mainstay.access.jwt` or `mainstay.access.tls.clientCa`, or listen \
         on a loopback address such as 127.0.0.1 (option `--listen`, setting `mainstay.listen`)"
    )]
    NotLoopback(SocketAddr),
    /// The same, because the tokens that there may be cannot be read.
    #[error("refusing to listen on {0}, because there is no way to say who may come in: {1}")]
    Tokens(SocketAddr, #[source] TokenError),
    /// TLS was asked for and cannot be had.
    #[error("refusing to listen without the TLS that was asked for: {0}")]
    Tls(#[source] TlsError),
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
    let shared = Arc::clone(&gateway.shared);
    let tls = admit(address, &shared.settings, shared.access.has_a_way())?.map(Arc::new);
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
                let connection = connection(stream, tls.clone(), gateway.clone());
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
) -> Option<((TcpStream, SocketAddr), tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok(accepted) => Some((accepted, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Whether a gateway with these settings may listen where they say, and whether its TLS can be had: what [`serve`] asks
/// first. Blocks for a moment.
///
/// # Errors
/// As [`serve`].
pub fn check(settings: &GatewaySettings) -> Result<(), ServeError> {
    let access = &settings.access;
    let has_client_ca = |tls: &mainstay::config::ServerTls| tls.client_ca.is_some();
    let mut has_a_way = !access.jwt.is_empty() || access.tls.as_ref().is_some_and(has_client_ca);
    if !has_a_way && !is_loopback(settings.listen.ip()) && access.tokens {
        let store = settings.state_dir.as_deref().map(TokenStore::new);
        has_a_way = store
            .map_or(Ok(false), |store| store.has_valid())
            .map_err(|error| ServeError::Tokens(settings.listen, error))?;
    }
    admit(settings.listen, settings, has_a_way).map(drop)
}

/// Who listens elsewhere than on loopback knows who comes (law 32).
fn admit(
    address: SocketAddr,
    settings: &GatewaySettings,
    has_a_way: bool,
) -> Result<Option<Tls>, ServeError> {
    if !is_loopback(address.ip()) && !has_a_way {
        return Err(ServeError::NotLoopback(address));
    }
    let tls = settings.access.tls.as_ref();
    tls.map(Tls::load).transpose().map_err(ServeError::Tls)
}

/// The handshake of TLS. `None`: there will be none, and the other end has been told as far as it can be.
async fn secured(
    mut stream: TcpStream,
    tls: &Arc<Tls>,
    peer: &mut Peer,
    gateway: &Gateway,
) -> Option<Wire> {
    let mut first = [0];
    let seen = stream.peek(&mut first).await.ok()?;
    if seen == 0 {
        return None;
    }
    if first != [TLS_HANDSHAKE] {
        let told = async {
            stream.write_all(NOT_TLS).await?;
            stream.shutdown().await
        };
        let _told = tokio::time::timeout(LAST_WORDS, told).await;
        return None;
    }
    let acceptor =
        tokio_rustls::TlsAcceptor::from(tls.current(gateway.shared.access.counts()).await);
    match acceptor.accept(stream).await {
        Ok(stream) => {
            let shown = stream.get_ref().1.peer_certificates();
            let first = shown.and_then(|chain| chain.first());
            peer.certificate = first.map(|der| Arc::new(Certificate::read(der)));
            Some(Wire::Tls(Box::new(stream)))
        }
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            let access = &gateway.shared.access;
            access
                .counts()
                .denied(Denied::Invalid(Why::Handshake), peer.address);
            None
        }
    }
}

async fn connection(
    (stream, address): (TcpStream, SocketAddr),
    tls: Option<Arc<Tls>>,
    gateway: Gateway,
) {
    // Small answers must not wait for company. A connection that is gone already shows it below.
    let _ = stream.set_nodelay(true);
    let shared = Arc::clone(&gateway.shared);
    let head = Duration::from_millis(shared.settings.head_ms);
    let mut peer = Peer {
        address: Some(address),
        certificate: None,
    };
    let wire = match tls {
        None => Some(Wire::Plain(stream)),
        Some(tls) => tokio::select! {
            // Cancel-safe: nothing follows if another arm wins, or if it takes too long.
            secured = tokio::time::timeout(head, secured(stream, &tls, &mut peer, &gateway)) => {
                secured.ok().flatten()
            }
            // Cancel-safe: a token holds nothing.
            () = shared.ending.cancelled() => None,
        },
    };
    let Some(mut stream) = wire else { return };
    let peer = Arc::new(peer);
    let announced = tokio::select! {
        // Cancel-safe: nothing follows if the other arm wins.
        announced = announced(&mut stream, head) => announced,
        // Cancel-safe: a token holds nothing.
        () = shared.ending.cancelled() => None,
    };
    let outcome = match announced {
        None => Ok(()),
        Some((Protocol::Http1, first)) => {
            let intake = Intake::new(first, stream, HeadClock::new());
            http1(intake, gateway, peer, head).await
        }
        Some((Protocol::Http2, first)) => {
            http2(Intake::new(first, stream, HeadClock::new()), gateway, peer).await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a client connection broke");
    }
}

async fn answer(
    gateway: Gateway,
    peer: Arc<Peer>,
    request: hyper::Request<Incoming>,
) -> Result<Reply, Infallible> {
    Ok(gateway.handle_from(request, Way::Listener(&peer)).await)
}

async fn http1(
    intake: Intake,
    gateway: Gateway,
    peer: Arc<Peer>,
    head: Duration,
) -> hyper::Result<()> {
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
            service_fn(move |request| answer(gateway.clone(), Arc::clone(&peer), request)),
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

async fn http2(intake: Intake, gateway: Gateway, peer: Arc<Peer>) -> hyper::Result<()> {
    let shared = Arc::clone(&gateway.shared);
    let served = http2::Builder::new(Streams(shared.tasks.clone()))
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .serve_connection(
            TokioIo::new(intake),
            service_fn(move |request| answer(gateway.clone(), Arc::clone(&peer), request)),
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
