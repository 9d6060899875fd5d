//! A server on paper: every answer is what a closure says, so that a test can lie in ways that no flag has a name for.
//!
//! Streamable HTTP of the legacy era without sessions, with a push stream. In the process of the test, on a free port.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use mainstay::config::ServerConfig;
use mainstay::{Manager, ServerHandle};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::harness::{PATIENCE, generation, quick, start, until};

/// What a server says to one request.
pub(crate) enum Say {
    /// This result.
    Result(Value),
    /// This raw JSON text as the result.
    Raw(String),
    /// This error.
    Error(i64, &'static str),
    /// Nothing, ever.
    Nothing,
    /// These messages first, as events, then the result after a while.
    Events(Vec<Value>, Duration, Value),
    /// These requests as events, and the result when the client has answered all of them.
    Asks(Vec<Value>, Value),
    /// These messages, as events, and then silence.
    EventsOnly(Vec<Value>),
    /// A stream that ends before the answer.
    Cut,
}

type Script = dyn Fn(&Asked) -> Option<Say> + Send + Sync;

/// One request as the closure sees it.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) params: Value,
    pub(crate) id: Value,
    /// How many requests of this method came before.
    pub(crate) before: usize,
}

impl Asked {
    pub(crate) fn tool(&self) -> &str {
        self.params["name"].as_str().unwrap_or_default()
    }
}

struct Shared {
    script: Box<Script>,
    seen: Mutex<VecDeque<Value>>,
    news: tokio::sync::watch::Sender<()>,
    pushes: Mutex<Vec<mpsc::Sender<Bytes>>>,
}

/// The server. It ends when it is dropped.
pub(crate) struct Paper {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

/// Capabilities with tools.
pub(crate) fn hello(capabilities: &Value) -> Say {
    Say::Result(
        json!({"protocolVersion": "2025-11-25", "capabilities": capabilities,
        "serverInfo": {"name": "paper", "version": "1"}}),
    )
}

/// A tool of that name.
pub(crate) fn tool(name: &str) -> Value {
    json!({"name": name, "inputSchema": {"type": "object"}})
}

/// A listing of tools of those names.
pub(crate) fn tools(names: &[&str]) -> Say {
    Say::Result(json!({"tools": names.iter().map(|name| tool(name)).collect::<Vec<_>>()}))
}

/// The answer of a tool that worked.
pub(crate) fn done(text: &str) -> Say {
    Say::Result(json!({"content": [{"type": "text", "text": text}]}))
}

impl Paper {
    /// A server that greets by itself and lists one tool, unless the closure says otherwise.
    pub(crate) async fn start(
        script: impl Fn(&Asked) -> Option<Say> + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            seen: Mutex::default(),
            news: tokio::sync::watch::Sender::default(),
            pushes: Mutex::default(),
        });
        let router = Router::new()
            .route("/mcp", post(asked).get(listens))
            .with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move {
            // Ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Self {
            address,
            shared,
            serving,
        }
    }

    pub(crate) fn config(&self) -> ServerConfig {
        let url = format!("http://{}/mcp", self.address);
        let mut config = quick(ServerConfig::http("p", url.as_str()));
        config.protocol = mainstay::config::Protocol::Legacy;
        config.catalog.debounce_ms = 10;
        config.catalog.interval_ms = 20;
        config.catalog.recheck_ms = 10;
        config
    }

    /// A manager with this server alone, connected.
    pub(crate) async fn connect(&self, config: ServerConfig) -> (Manager, ServerHandle) {
        let manager = start([config]).await;
        let server = manager.server("p").unwrap();
        generation(&server, 1).await;
        (manager, server)
    }

    /// All messages of one method that came, oldest first.
    pub(crate) fn seen(&self, method: &str) -> Vec<Value> {
        let seen = self
            .shared
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .filter(|message| message["method"] == method)
            .cloned()
            .collect()
    }

    pub(crate) fn count(&self, method: &str) -> usize {
        self.seen(method).len()
    }

    /// All answers of the client to requests of ours.
    pub(crate) fn answers(&self) -> Vec<Value> {
        let seen = self
            .shared
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .filter(|message| message.get("method").is_none())
            .cloned()
            .collect()
    }

    /// Says something on the push stream, once there is one.
    pub(crate) async fn push(&self, message: &Value) {
        let pushes = || {
            self.shared
                .pushes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        };
        until("a push stream", || !pushes().is_empty()).await;
        for push in pushes() {
            let sent = tokio::time::timeout(PATIENCE, push.send(event(message))).await;
            assert!(sent.is_ok(), "nobody reads the push stream");
        }
    }

    pub(crate) async fn tell_changed(&self) {
        self.push(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}))
            .await;
    }
}

impl Drop for Paper {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn event(message: &Value) -> Bytes {
    Bytes::from(format!("data: {message}\n\n"))
}

async fn asked(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let method = message["method"].as_str().unwrap_or_default().to_owned();
    let before = {
        let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.iter().filter(|seen| seen["method"] == method).count();
        seen.push_back(message.clone());
        before
    };
    shared.news.send_replace(());
    let id = message.get("id").cloned();
    let (Some(id), false) = (id, method.is_empty()) else {
        return axum::http::StatusCode::ACCEPTED.into_response();
    };
    let asked = Asked {
        params: message["params"].clone(),
        id: id.clone(),
        before,
        method,
    };
    let said = (shared.script)(&asked).unwrap_or_else(|| usual(&asked));
    let result = |result: &Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
    let text = match said {
        Say::Result(value) => result(&value).to_string(),
        Say::Raw(raw) => format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{raw}}}"),
        Say::Error(code, words) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": words}})
                .to_string()
        }
        Say::Nothing => std::future::pending().await,
        Say::Events(messages, after, value) => {
            return events(messages, Some((after, result(&value))));
        }
        Say::EventsOnly(messages) => return events(messages, None),
        Say::Asks(questions, value) => return asks(shared, questions, result(&value)),
        Say::Cut => return stream(mpsc::channel(1).1),
    };
    ([("content-type", "application/json")], text).into_response()
}

fn usual(asked: &Asked) -> Say {
    match asked.method.as_str() {
        "initialize" => hello(&json!({"tools": {"listChanged": true}})),
        "tools/list" => tools(&["echo"]),
        "tools/call" => done("done"),
        "ping" => Say::Result(json!({})),
        _ => Say::Error(-32_601, "Method not found"),
    }
}

fn events(messages: Vec<Value>, last: Option<(Duration, Value)>) -> Response {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        for message in messages {
            // A client that has left needs no events.
            let _ = sender.send(event(&message)).await;
        }
        match last {
            Some((after, answer)) => {
                tokio::time::sleep(after).await;
                let _ = sender.send(event(&answer)).await;
            }
            None => sender.closed().await,
        }
    });
    stream(receiver)
}

fn asks(shared: Arc<Shared>, questions: Vec<Value>, answer: Value) -> Response {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut news = shared.news.subscribe();
        for question in &questions {
            // A client that has left needs no events.
            let _ = sender.send(event(question)).await;
        }
        let answered = || {
            let seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
            questions.iter().all(|question| {
                let is_answer =
                    |seen: &&Value| seen.get("method").is_none() && seen["id"] == question["id"];
                seen.iter().any(|seen| is_answer(&seen))
            })
        };
        while !answered() {
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
        let _ = sender.send(event(&answer)).await;
    });
    stream(receiver)
}

async fn listens(State(shared): State<Arc<Shared>>) -> Response {
    let (sender, receiver) = mpsc::channel(64);
    // Room for the first one, always.
    let _ = sender.try_send(Bytes::from_static(b": welcome\n\n"));
    let mut pushes = shared.pushes.lock().unwrap_or_else(PoisonError::into_inner);
    pushes.push(sender);
    stream(receiver)
}

fn stream(mut receiver: mpsc::Receiver<Bytes>) -> Response {
    let chunks = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context))
        .map(Ok::<_, std::convert::Infallible>);
    (
        [("content-type", "text/event-stream")],
        Body::from_stream(chunks),
    )
        .into_response()
}

use futures_util::StreamExt as _;
