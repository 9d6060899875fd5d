//! One HTTP exchange with the running Mainstay through its local socket, and the connections that are kept for the next.
//!
//! What matters here is to know, of a request that failed, whether it can have left: one that did not may be sent again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use mainstay_gateway::serve::local;
use mainstay_wire::headers;
use rustix::net::RecvFlags;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// Idle connections that are kept.
const IDLE_MAX: usize = 64;

/// Where requests go.
#[derive(Debug)]
pub(super) struct Link {
    socket: PathBuf,
    path: String,
    idle: Mutex<Vec<Connection>>,
}

/// One connection. Dropping it closes it at once, which is how HTTP says that nobody wants the answer any more.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    /// The same socket, to look at it without reading.
    socket: OwnedFd,
}

impl Connection {
    /// Whether the other end is still there, asked of the system itself: a request that goes into a connection of which
    /// the end was not noticed yet could not be told from one that was lost.
    fn is_open(&self) -> bool {
        if self.sender.is_closed() {
            return false;
        }
        let mut byte = [0_u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        // Anything to read on an idle connection, its end included, means that it is none any more.
        matches!(
            rustix::net::recv(&self.socket, &mut byte, flags),
            Err(rustix::io::Errno::WOULDBLOCK)
        )
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A request that got no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing of it has left.
    Unsent,
    /// It may have arrived.
    Lost(String),
}

/// An answer of which only the head is here.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Incoming,
    connection: Option<Connection>,
}

/// What a request carries besides its text.
#[derive(Debug, Default, Clone)]
pub(super) struct Extra {
    pub(super) session: Option<HeaderValue>,
    pub(super) version: Option<HeaderValue>,
    pub(super) last_event: Option<HeaderValue>,
}

impl Link {
    pub(super) fn new(socket: PathBuf, path: String) -> Self {
        Self {
            socket,
            path,
            idle: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A connection: one that is idle, or a new one.
    ///
    /// # Errors
    /// Nobody listens, or not somebody we may talk to (`PermissionDenied`).
    pub(super) async fn connect(&self) -> io::Result<Connection> {
        if let Some(idle) = self.take_idle() {
            return Ok(idle);
        }
        let stream = UnixStream::connect(&self.socket).await?;
        let peer = stream.peer_cred()?.uid();
        let own = rustix::process::geteuid().as_raw();
        if peer != own && peer != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("user {peer} listens there, not you"),
            ));
        }
        let socket = stream.as_fd().try_clone_to_owned()?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Its errors show up at the sender.
        let driver = tokio::spawn(async move { _ = connection.await });
        Ok(Connection {
            sender,
            driver,
            socket,
        })
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let at = idle
                .iter()
                .rposition(|connection| connection.sender.is_ready() || !connection.is_open())?;
            let connection = idle.swap_remove(at);
            if connection.is_open() {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !connection.sender.is_closed() {
            idle.push(connection);
        }
    }

    /// Sends one request and waits for the head of its answer. Dropping the future closes the connection.
    ///
    /// # Errors
    /// [`Failed`], which says whether the request can have arrived.
    pub(super) async fn send(
        &self,
        mut connection: Connection,
        method: Method,
        text: Bytes,
        extra: &Extra,
    ) -> Result<Answer, Failed> {
        let request = self
            .request(method, text, extra)
            .map_err(|error| Failed::Lost(error.to_string()))?;
        match connection.sender.try_send_request(request).await {
            Ok(response) => {
                let (head, body) = response.into_parts();
                Ok(Answer {
                    status: head.status,
                    headers: head.headers,
                    body,
                    connection: Some(connection),
                })
            }
            Err(mut failed) => match failed.take_message() {
                Some(_unsent) => Err(Failed::Unsent),
                None => Err(Failed::Lost(failed.into_error().to_string())),
            },
        }
    }

    fn request(
        &self,
        method: Method,
        text: Bytes,
        extra: &Extra,
    ) -> http::Result<Request<Full<Bytes>>> {
        let accept = if method == Method::GET {
            headers::EVENT_STREAM
        } else {
            headers::ACCEPT_BOTH
        };
        let mut request = Request::builder()
            .method(method)
            .uri(&self.path)
            .header(HOST, "localhost")
            .header(ACCEPT, accept)
            .header(local::RELAY, "stdio");
        if !text.is_empty() {
            request = request.header(CONTENT_TYPE, headers::JSON);
        }
        let extras = [
            (headers::SESSION_ID, &extra.session),
            (headers::PROTOCOL_VERSION, &extra.version),
            (headers::LAST_EVENT_ID, &extra.last_event),
        ];
        for (name, value) in extras {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request.body(Full::new(text))
    }

    /// The whole body. The connection is kept for the next request.
    ///
    /// # Errors
    /// What broke it off.
    pub(super) async fn whole(&self, mut answer: Answer) -> Result<Bytes, String> {
        let body = (&mut answer.body).collect().await;
        let text = body.map_err(|error| error.to_string())?.to_bytes();
        self.done(answer).await;
        Ok(text)
    }

    /// Keeps the connection of an answer that was read to its end.
    pub(super) async fn done(&self, mut answer: Answer) {
        if let Some(mut connection) = answer.connection.take()
            && connection.sender.ready().await.is_ok()
        {
            self.keep(connection);
        }
    }
}

impl Answer {
    /// Whether it is a stream of events.
    pub(super) fn is_stream(&self) -> bool {
        self.headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with(headers::EVENT_STREAM))
    }

    /// The next piece of the body; `None` at its end. Cancel-safe: a frame is handed out or still there.
    pub(super) async fn chunk(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(error.to_string())),
            }
        }
    }
}
