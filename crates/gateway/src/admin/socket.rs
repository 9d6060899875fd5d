//! The local socket's end of a connection. Where the socket lies and whose it is, is decided by whoever opens it.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Answers on their way get this long when Mainstay ends.
const DRAIN: Duration = Duration::from_secs(2);

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves a router on a local socket until `ending` is cancelled; when this returns no connection of it is left (law 6).
pub async fn serve_unix(listener: UnixListener, router: Router, ending: CancellationToken) {
    let tasks = TaskTracker::new();
    let hurry = CancellationToken::new();
    loop {
        tokio::select! {
            // Cancel-safe: a token holds nothing.
            () = ending.cancelled() => break,
            // Cancel-safe: a connection that was not accepted stays in the queue.
            accepted = listener.accept() => match accepted {
                // The file's mode keeps others out; between its making and its mode there is a moment.
                Ok((stream, _peer)) if !is_ours(&stream) => {
                    tracing::warn!("a connection of another user to the local socket was refused");
                }
                Ok((stream, _peer)) => {
                    tasks.spawn(connection(stream, router.clone(), ending.clone(), hurry.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a local connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        hurry.cancel();
        tasks.wait().await;
    }
}

/// Whether the other end belongs to this user, or to the superuser.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn connection(
    stream: UnixStream,
    router: Router,
    ending: CancellationToken,
    hurry: CancellationToken,
) {
    let service = TowerToHyperService::new(router);
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    let outcome = tokio::select! {
        // Cancel-safe: pinned and polled on below.
        outcome = served.as_mut() => outcome,
        // Cancel-safe: a token holds nothing.
        () = ending.cancelled() => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                // Cancel-safe: nothing follows.
                outcome = served.as_mut() => outcome,
                () = hurry.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a local connection broke");
    }
}
