//! A place on loopback where a browser comes back to after a sign-in, for as long as that sign-in lasts.
//!
//! Opened for nothing but a sign-in that somebody has just asked for (law 11), on a port of the system or the one that is
//! configured. What comes back is handed on as it is; whether it belongs to anything is somebody else's business.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::page::Page;
use crate::serve::origin::{bare, is_loopback_name};

/// Where the browser comes back to, on whatever listener.
pub(super) const PATH: &str = "/oauth/callback";

/// A browser opens a few connections at once, and nobody else has business here.
const CONNECTIONS_MAX: usize = 16;
/// A request head that has begun must be here after this long.
const HEAD: Duration = Duration::from_secs(10);
/// How long the last page may take to get to the browser once the sign-in is over.
const LAST_PAGE: Duration = Duration::from_secs(2);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is done with the query of a callback; the outcome is what the browser shows.
pub(crate) type Answer = Arc<dyn Fn(String) -> BoxFuture<'static, Page> + Send + Sync>;

/// Takes a port on loopback: this one, or one of the system's.
///
/// # Errors
/// It is taken, or may not be used.
pub(crate) async fn bind(port: Option<u16>) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.unwrap_or(0))).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Answers until `ending` is cancelled; then the port is free again, and pages on their way get a moment.
pub(crate) async fn serve(listener: TcpListener, answer: Answer, ending: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        tokio::select! {
            // Cancel-safe: a token holds nothing.
            () = ending.cancelled() => break,
            // Cancel-safe: neither the permit nor the accepted connection is lost.
            accepted = accept(&listener, &places) => {
                let Some((stream, place)) = accepted else { continue };
                let served = connection(stream, Arc::clone(&answer), ending.clone());
                connections.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _peer)) => Some((stream, place)),
        Err(error) => {
            tracing::debug!(%error, "a browser could not be let in");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, answer: Answer, ending: CancellationToken) {
    let service = service_fn(move |request| {
        let answer = Arc::clone(&answer);
        async move { Ok::<_, Infallible>(respond(request, answer).await.map(Full::new)) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let outcome = tokio::select! {
        // Cancel-safe: the pinned connection is polled on below.
        outcome = served.as_mut() => outcome,
        // Cancel-safe: a token holds nothing.
        () = ending.cancelled() => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(LAST_PAGE, served.as_mut()).await {
                Ok(outcome) => outcome,
                Err(_too_slow) => Ok(()),
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a browser's connection broke");
    }
}

async fn respond(request: Request<Incoming>, answer: Answer) -> Response<Bytes> {
    let host = request.headers().get(HOST);
    let host = host.and_then(|host| host.to_str().ok()).map(bare);
    if !host.is_some_and(is_loopback_name) {
        // A foreign name that somebody let lead to this machine (F246).
        return Page::with(StatusCode::FORBIDDEN, "Not for this address").into_response();
    }
    if request.uri().path() != PATH {
        return Page::with(StatusCode::NOT_FOUND, "Nothing is here")
            .say("This address only waits for the end of a sign-in.")
            .into_response();
    }
    if request.method() != Method::GET {
        return Page::with(StatusCode::METHOD_NOT_ALLOWED, "Not so").into_response();
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    answer(query).await.into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(at: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn law_6_f246_it_answers_its_one_address_and_is_gone_afterwards() {
        let (listener, at) = bind(None).await.unwrap();
        assert!(at.ip().is_loopback());
        let ending = CancellationToken::new();
        let answer: Answer = Arc::new(|query| Box::pin(async move { Page::new(&query) }));
        let served = tokio::spawn(serve(listener, answer, ending.clone()));
        let get = |target: &str, host: &str| {
            ask(
                at,
                Box::leak(
                    format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
                        .into_boxed_str(),
                ),
            )
        };
        let text = get("/oauth/callback?code=7", "127.0.0.1").await;
        assert!(
            text.starts_with("HTTP/1.1 200") && text.contains("code=7"),
            "{text}"
        );
        for (target, host, status) in [
            ("/oauth/callback?code=7", "evil.example", "403"),
            ("/", "127.0.0.1", "404"),
            ("/oauth/callback/x", "localhost", "404"),
        ] {
            let text = get(target, host).await;
            assert!(
                text.starts_with(&format!("HTTP/1.1 {status}")),
                "{target}: {text}"
            );
        }
        ending.cancel();
        served.await.unwrap();
        assert!(
            TcpStream::connect(at).await.is_err(),
            "the port is free again"
        );
    }
}
