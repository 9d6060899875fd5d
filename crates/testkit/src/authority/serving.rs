//! A listener with its connections, which can be stopped and started again on the same port.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

type Answer = Pin<Box<dyn Future<Output = io::Result<Response<Body>>> + Send>>;
type Handler = Arc<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

/// A running or stopped listener. Dropping it ends every connection.
pub(super) struct Serving {
    address: SocketAddr,
    handler: Handler,
    accepting: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Serving({})", self.address)
    }
}

impl Serving {
    pub(super) fn start<F>(
        listener: TcpListener,
        handler: impl Fn(Request<Body>) -> F + Send + Sync + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = io::Result<Response<Body>>> + Send + 'static,
    {
        let address = listener.local_addr()?;
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        let accepting = Some(tokio::spawn(accept(listener, Arc::clone(&handler))));
        Ok(Self {
            address,
            handler,
            accepting,
        })
    }

    pub(super) async fn stop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // Aborted: there is no result to look at.
            let _ = accepting.await;
        }
    }

    pub(super) async fn start_again(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.accepting = Some(tokio::spawn(accept(listener, Arc::clone(&self.handler))));
        Ok(())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
    }
}

/// Accepts until aborted; all connections end with it.
async fn accept(listener: TcpListener, handler: Handler) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                // Advisory: without it small answers may wait for an acknowledgement.
                let _ = stream.set_nodelay(true);
                let handler = Arc::clone(&handler);
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                        handler(request.map(Body::new))
                    });
                    // A planned break ends the connection with an error: it is the ledger that tells what happened.
                    let _ = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            // Out of descriptors or the like: let others breathe and go on.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}
