//! Accepting connections, and ending them.
//!
//! HTTP/1.1 with keep-alive straight on hyper: the path of a small call is one parse, one lookup and one write.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Gateway;
use super::origin::is_loopback;
use super::sessions::kept;

/// Pause after a failed accept: out of descriptors is not cured by asking again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

async fn connection(stream: TcpStream, gateway: Gateway) {
    // Small answers must not wait for company. A connection that is gone already shows it below.
    let _ = stream.set_nodelay(true);
    let shared = Arc::clone(&gateway.shared);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let gateway = gateway.clone();
        async move { Ok::<_, Infallible>(gateway.handle(request).await) }
    });
    // No timer for request heads: it would also close idle kept-alive connections, and clients of which a connection is
    // closed just as they send on it are known to die of it. The number of connections is limited instead.
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    let outcome = tokio::select! {
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
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a client connection broke");
    }
}
