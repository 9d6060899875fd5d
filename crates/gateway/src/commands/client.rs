//! Talks to the running Mainstay: HTTP over its local socket.
//!
//! Must not know what the answers mean beyond their being JSON; the commands do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::exit::{Exit, Stop};

/// No answer of the admin API comes near this size, except lists of thousands of tools.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long the running Mainstay may take for anything but a call: its answers come from memory.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The running Mainstay, as seen from the command line. Every request is its own connection.
#[derive(Debug, Clone)]
pub(crate) struct AdminClient {
    socket: PathBuf,
}

/// What it answered.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// The body: JSON, or a string if it was something else.
    pub(crate) body: Value,
}

impl AdminClient {
    /// A client of the Mainstay that listens on `socket`. Nothing is connected yet.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Whether somebody listens there now.
    pub(crate) async fn is_running(&self) -> bool {
        tokio::time::timeout(ANSWER_MAX, UnixStream::connect(&self.socket))
            .await
            .is_ok_and(|stream| stream.is_ok())
    }

    /// Asks for something.
    ///
    /// # Errors
    /// Exit 5 when nobody listens on the socket, 1 when the answer is late or broken. An HTTP error status is an answer.
    pub(crate) async fn get(&self, path: &str) -> Result<Reply, Stop> {
        self.ask(Method::GET, path, None, ANSWER_MAX).await
    }

    /// Sends something, and waits at most `wait` for the answer.
    ///
    /// # Errors
    /// As [`AdminClient::get`].
    pub(crate) async fn post(
        &self,
        path: &str,
        body: Option<Value>,
        wait: Duration,
    ) -> Result<Reply, Stop> {
        self.ask(Method::POST, path, body, wait).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        wait: Duration,
    ) -> Result<Reply, Stop> {
        let exchange = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| {
                    Stop::unexpected("the running Mainstay broke off its answer", error)
                })?
                .to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or_else(|_not_json| {
                Value::String(String::from_utf8_lossy(&body).into_owned())
            });
            Ok(Reply { status, body })
        };
        tokio::time::timeout(wait, exchange)
            .await
            .unwrap_or_else(|_late| {
                Err(Stop::new(
                    Exit::Unexpected,
                    format!(
                        "the running Mainstay gave no answer within {} s",
                        wait.as_secs()
                    ),
                )
                .hint("look at its log; if it hangs, stop it and start it again"))
            })
    }

    /// Opens a stream: server-sent events, or lines. The stream itself has no deadline; it ends when either side leaves.
    ///
    /// # Errors
    /// As [`AdminClient::get`]; an HTTP error status becomes an error with the text of the body.
    pub(crate) async fn stream(&self, path: &str) -> Result<Lines, Stop> {
        let late = || {
            Stop::new(
                Exit::Unexpected,
                "the running Mainstay gave no answer in time",
            )
        };
        let response = tokio::time::timeout(ANSWER_MAX, self.send(Method::GET, path, None))
            .await
            .map_err(|_| late())??;
        if response.status().is_success() {
            return Ok(Lines {
                body: response.into_body(),
                buffer: Vec::new(),
                ended: false,
            });
        }
        let status = response.status();
        let body = tokio::time::timeout(
            ANSWER_MAX,
            Limited::new(response.into_body(), BODY_BYTES_MAX).collect(),
        )
        .await
        .map_err(|_| late())?
        .map_err(|error| Stop::unexpected("the running Mainstay broke off its answer", error))?;
        let body = serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null);
        Err(Reply { status, body }.refusal())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<http::Response<Incoming>, Stop> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| not_running(&self.socket, error))?;
        let broken = |error| no_answer(&self.socket, error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // Ends by itself when the sender and the body are gone; its errors show up at the sender.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "localhost")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(
                body.map(|body| Bytes::from(body.to_string()))
                    .unwrap_or_default(),
            ))
            .map_err(|error| Stop::unexpected("the name cannot be part of a request", error))?;
        sender.send_request(request).await.map_err(broken)
    }
}

impl Reply {
    /// The body of a success.
    ///
    /// # Errors
    /// Exit 6 for "no such thing", 1 for everything else, with the text that the running Mainstay gave.
    pub(crate) fn ok(self) -> Result<Value, Stop> {
        if self.status.is_success() {
            Ok(self.body)
        } else {
            Err(self.refusal())
        }
    }

    /// The error in an answer that is none.
    pub(crate) fn refusal(&self) -> Stop {
        let exit = if self.status == StatusCode::NOT_FOUND {
            Exit::NotFound
        } else {
            Exit::Unexpected
        };
        let error = self.body.get("error").unwrap_or(&self.body);
        let text = error
            .get("message")
            .or(Some(error))
            .and_then(Value::as_str)
            .map_or_else(
                || format!("the running Mainstay answered {}", self.status),
                str::to_owned,
            );
        let stop = Stop::new(exit, text);
        match error.get("hint").and_then(Value::as_str) {
            Some(hint) => stop.hint(hint),
            None => stop,
        }
    }
}

/// A streamed answer, line by line.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    ended: bool,
}

/// A longer line is cut: nothing we stream has one.
const LINE_BYTES_MAX: usize = 1024 * 1024;

impl Lines {
    /// The next line without its line break, or `None` at the end. Cancel-safe: nothing read is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Stop> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=at).collect();
                line.truncate(at);
                return Ok(Some(text(line)));
            }
            if self.ended || self.buffer.len() > LINE_BYTES_MAX {
                let rest = std::mem::take(&mut self.buffer);
                return Ok((!rest.is_empty()).then(|| text(rest)));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(_)) | None => self.ended = true,
            }
        }
    }

    /// The data of the next server-sent event, or `None` at the end. Comments and other fields are skipped.
    pub(crate) async fn next_event(&mut self) -> Result<Option<String>, Stop> {
        while let Some(line) = self.next().await? {
            if let Some(data) = line.strip_prefix("data:") {
                return Ok(Some(data.strip_prefix(' ').unwrap_or(data).to_owned()));
            }
        }
        Ok(None)
    }
}

fn text(mut line: Vec<u8>) -> String {
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8_lossy(&line).into_owned()
}

/// Something listens there, and what it said is no answer.
fn no_answer(socket: &Path, error: hyper::Error) -> Stop {
    if error.is_parse() {
        let at = socket.display();
        return Stop::new(
            Exit::NotRunning,
            format!("what answers at {at} is no Mainstay"),
        )
        .because(error)
        .hint("name the socket of one with --socket, or start one with `mainstay serve`");
    }
    if error.is_canceled() {
        // It ended before our request had left: whoever speaks first, or not at all, is none of ours.
        let at = socket.display();
        return Stop::new(
            Exit::NotRunning,
            format!("what answers at {at} closed the connection before it was asked anything"),
        )
        .because(error)
        .hint("it is no Mainstay, or one that just ends: name another socket with --socket, or start one with `mainstay serve`");
    }
    Stop::unexpected("the running Mainstay closed the connection", error)
        .hint("if it has ended, start it again with `mainstay serve`")
}

fn not_running(socket: &Path, error: io::Error) -> Stop {
    let at = socket.display();
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Stop::unexpected(&format!("the socket {at} belongs to somebody else"), error)
            .hint("name your own Mainstay's socket with --socket");
    }
    Stop::new(Exit::NotRunning, format!("no Mainstay is running at {at}"))
        .because(error)
        .hint("start it with `mainstay serve --config mcp.json`, or name its socket with --socket")
}

/// Makes a name safe as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::{get, post};
    use tokio::net::UnixListener;

    use super::*;

    /// Needs a runtime: it starts a task.
    fn with_server(router: Router) -> (AdminClient, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (AdminClient::new(socket), dir)
    }

    #[tokio::test]
    async fn nobody_there_is_exit_5_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let client = AdminClient::new(dir.path().join("absent.sock"));
        assert!(!client.is_running().await);
        let stop = client.get("/api/v1/status").await.unwrap_err();
        assert_eq!(stop.exit, Exit::NotRunning);
        assert!(stop.to_string().contains("absent.sock"), "{stop}");
        assert!(stop.hint.unwrap().contains("mainstay serve"));
    }

    #[tokio::test]
    async fn answers_and_refusals_come_through() {
        let router = Router::new()
            .route("/ok", get(async || r#"{"servers":[]}"#))
            .route("/echo", post(async |body: String| body))
            .route("/no", get(async || (StatusCode::NOT_FOUND, r#"{"error":{"message":"no server is named `tmie`","hint":"did you mean `time`?"}}"#)));
        let (client, _dir) = with_server(router);
        assert!(client.is_running().await);
        assert_eq!(
            client.get("/ok").await.unwrap().ok().unwrap()["servers"],
            serde_json::json!([])
        );
        let sent = serde_json::json!({"tool": "add"});
        assert_eq!(
            client
                .post("/echo", Some(sent.clone()), ANSWER_MAX)
                .await
                .unwrap()
                .ok()
                .unwrap(),
            sent
        );
        let stop = client.get("/no").await.unwrap().ok().unwrap_err();
        assert_eq!(
            (stop.exit, stop.message.as_str()),
            (Exit::NotFound, "no server is named `tmie`")
        );
        assert_eq!(stop.hint.as_deref(), Some("did you mean `time`?"));
    }

    #[tokio::test]
    async fn a_stream_is_read_event_by_event_and_refused_with_its_text() {
        let events = ": hello\n\nevent: transition\ndata: {\"a\":1}\n\ndata:{\"b\":2}\r\n\r\n";
        let router = Router::new()
            .route("/events", get(async move || events))
            .route(
                "/no",
                get(async || {
                    (
                        StatusCode::NOT_FOUND,
                        r#"{"error":"no server is named `x`"}"#,
                    )
                }),
            );
        let (client, _dir) = with_server(router);
        let mut stream = client.stream("/events").await.unwrap();
        assert_eq!(
            stream.next_event().await.unwrap().as_deref(),
            Some("{\"a\":1}")
        );
        assert_eq!(
            stream.next_event().await.unwrap().as_deref(),
            Some("{\"b\":2}")
        );
        assert_eq!(stream.next_event().await.unwrap(), None);
        let stop = client.stream("/no").await.unwrap_err();
        assert_eq!(
            (stop.exit, stop.message.as_str()),
            (Exit::NotFound, "no server is named `x`")
        );
    }

    #[test]
    fn names_are_safe_in_paths() {
        assert_eq!(segment("time"), "time");
        assert_eq!(segment("a b/ü"), "a%20b%2F%C3%BC");
    }
}
