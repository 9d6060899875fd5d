//! A real HTTP proxy on a port of its own: `CONNECT` tunnels and plain forwarding, with a ledger of what it was asked.
//!
//! It knows no names: every host that it is asked for is reached at the address it was given for it, so that a test can
//! use names that exist nowhere else.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The longest head of a request that is read.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What one connection asked the proxy for: the head of its first request, as text.
pub type AskedHead = String;

#[derive(Debug, Default)]
struct State {
    asked: Mutex<Vec<AskedHead>>,
    refusal: Mutex<Option<u16>>,
}

/// A running proxy. Dropping it ends every connection through it.
#[derive(Debug)]
pub struct HttpProxy {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

impl HttpProxy {
    /// Starts a proxy on a free loopback port; everything it is asked for leads to `upstream`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::<State>::default();
        let accepting = tokio::spawn(accept(listener, upstream, Arc::clone(&state)));
        Ok(Self {
            address,
            state,
            accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The head of the first request of every connection so far, in the order they came.
    #[must_use]
    pub fn asked(&self) -> Vec<AskedHead> {
        self.state
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// From now on every request is refused with this status; `None` serves again.
    pub fn refuse(&self, status: Option<u16>) {
        *self
            .state
            .refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = status;
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _peer)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            // However it ends, the ledger tells what was asked.
            let _ = serve(stream, upstream, &state).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut client: TcpStream, upstream: SocketAddr, state: &State) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        head.push(client.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let tunnels = text.starts_with("CONNECT ");
    state
        .asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(text);
    let refusal = *state.refusal.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(status) = refusal {
        let answer =
            format!("HTTP/1.1 {status} Refused\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return client.write_all(answer.as_bytes()).await;
    }
    let mut server = TcpStream::connect(upstream).await?;
    if tunnels {
        client
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await?;
    } else {
        // The request line names the whole URL; servers have to accept that.
        server.write_all(&head).await?;
    }
    tokio::io::copy_bidirectional(&mut client, &mut server)
        .await
        .map(|_bytes| ())
}
