//! A real streamable-HTTP MCP server, of both eras, that misbehaves on request.
//!
//! It listens on a port of the system's choice, keeps a ledger of everything that reached it, and takes its
//! [`Script`] before or while it runs. It can be stopped and started again on the same port, as a deployment would.
//! It must not use the code under test: it is the oracle.

mod answer;
mod control;
mod faults;
mod fleet;
mod ledger;
mod old;
mod params;
mod push;
mod script;
mod service;
mod socket;
mod sse;
mod state;
mod tools;
mod wishes;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub use self::ledger::{Counts, Ledger, Seen};
pub use self::old::{EndpointForm, OldScript};
pub use self::script::{
    AcceptPolicy, DiscoverDialect, Eras, Fault, Framing, GetPolicy, LostDialect, Planned, Script,
    Then,
};
use self::socket::{Knife, Wire};
use self::state::State;

/// A running (or stopped) fake server. Dropping it ends every connection.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Starts a server on a free loopback port.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(script: Script) -> io::Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), script).await
    }

    /// Starts a server on a given address.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start_on(address: SocketAddr, script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::new(script));
        let accepting = Some(tokio::spawn(accept(listener, Arc::clone(&state))));
        Ok(Self {
            address,
            state,
            accepting,
        })
    }

    /// The MCP endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The address of the event stream of the HTTP+SSE transport of 2024-11-05.
    #[must_use]
    pub fn sse_url(&self) -> String {
        format!("http://{}/sse", self.address)
    }

    /// The address it listens on, also while it is stopped.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happened so far.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.state.ledger
    }

    /// Writes the ledger's events from now on to a file as well, for readers that outlive this process.
    ///
    /// # Errors
    /// When the file cannot be opened or written.
    pub fn write_ledger_to(&self, path: &std::path::Path) -> io::Result<()> {
        self.state.ledger.write_to(path)
    }

    /// Changes the script; applies from the next request on.
    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.state.script());
    }

    /// A way in for connections that somebody else accepted.
    #[must_use]
    pub fn front(&self) -> Front {
        Front(Arc::clone(&self.state))
    }

    /// Forgets all sessions, as a restart of a server that keeps them in memory.
    pub fn forget_sessions(&self) {
        self.state.forget_sessions();
    }

    /// How many legacy sessions are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.state.sessions()
    }

    /// Ends all push and listen streams cleanly.
    pub fn end_streams(&self) {
        self.state.end_streams();
    }

    /// Tells clients that a listing changed: `tools`, `prompts` or `resources`.
    pub fn tell_changed(&self, kind: &str) {
        self.state.tell_changed(kind);
    }

    /// Tells every client that subscribed to a resource that it changed.
    pub fn tell_updated(&self, uri: &str) {
        self.state.tell_updated(uri);
    }

    /// Asks every client with a push stream for its roots. The answers are in the ledger, as requests without a method.
    pub fn ask_roots(&self) {
        self.state.ask_roots();
    }

    /// Lets every held `slow` call go.
    pub fn release(&self) {
        self.state.release();
    }

    /// Stops listening, cuts every connection and forgets all sessions. The ledger stays.
    pub async fn stop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // Aborted: there is no result to look at.
            let _ = accepting.await;
        }
        self.state.forget_sessions();
        self.state.end_streams();
        self.state.end_tasks().await;
    }

    /// Listens again on the same port.
    ///
    /// # Errors
    /// When the port was taken by somebody else meanwhile.
    pub async fn start_again(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.accepting = Some(tokio::spawn(accept(listener, Arc::clone(&self.state))));
        Ok(())
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
    }
}

/// A way into a server for connections that somebody else accepted, such as those that were wrapped in TLS before.
#[derive(Debug, Clone)]
pub struct Front(Arc<State>);

impl Front {
    /// Serves one connection to its end, HTTP/1.1 or HTTP/2 as the client begins it.
    pub async fn serve(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        self.0.ledger.count(|counts| counts.connections += 1);
        let state = Arc::clone(&self.0);
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let knife = Arc::<Knife>::default();
            service::serve(Arc::clone(&state), knife, request.map(Body::new))
        });
        // How it ended is told by the ledger.
        let _ = auto::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(io), service)
            .await;
    }
}

/// Serves one request that somebody else accepted, as if it had come to the server itself.
pub(crate) async fn serve_request(
    server: &HttpServer,
    request: hyper::Request<Body>,
) -> io::Result<hyper::Response<Body>> {
    service::serve(Arc::clone(&server.state), Arc::<Knife>::default(), request).await
}

/// Accepts until aborted; all connections end with it.
async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                state.ledger.count(|counts| counts.connections += 1);
                let policy = state.script().take_accept();
                match policy {
                    AcceptPolicy::Serve => {
                        connections.spawn(connection(stream, Arc::clone(&state)));
                    }
                    AcceptPolicy::Silent => {
                        connections.spawn(async move {
                            let _held = stream;
                            std::future::pending().await
                        });
                    }
                    AcceptPolicy::Reset => {
                        // Advisory: without it this is a close.
                        let _ = stream.set_zero_linger();
                    }
                    AcceptPolicy::Close => drop(stream),
                }
            }
            // Out of descriptors or the like: let others breathe and go on.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    // Advisory: without it small answers may wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    if state.script().reset_on_close {
        let _ = stream.set_zero_linger();
    }
    let knife = Arc::<Knife>::default();
    let wire = Wire::new(stream, Arc::clone(&knife));
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        service::serve(
            Arc::clone(&state),
            Arc::clone(&knife),
            request.map(Body::new),
        )
    });
    // A planned break ends the connection with an error: it is the ledger that tells what happened.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(wire), service)
        .await;
}
