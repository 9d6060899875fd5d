//! A server that says exactly the bytes that it is given, and keeps the bytes that it gets. Both eras, HTTP.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, StatusCode};
use mainstay::config::{Protocol, ServerConfig};
use mainstay_wire::Era;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::tree::Tree;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// What is said to the next request: messages with `$ID` and `$TOKEN` in them. The last one is the answer. More than one
/// makes an event stream. A question among them (a message with an id of its own) holds the answer back until it was answered.
pub(crate) type Say = Vec<String>;

struct Shared {
    /// Results by method, for what is said again and again.
    usual: HashMap<&'static str, String>,
    next: Mutex<VecDeque<Say>>,
    seen: Mutex<Vec<Seen>>,
    /// The last response of a client to a question.
    answered: watch::Sender<Option<String>>,
}

/// The server. It ends when it is dropped.
pub(crate) struct Paper {
    address: SocketAddr,
    era: Era,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Paper {
    /// A server of an era that gives these results to these methods.
    pub(crate) async fn start(era: Era, usual: HashMap<&'static str, String>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            usual,
            next: Mutex::default(),
            seen: Mutex::default(),
            answered: watch::Sender::default(),
        });
        let router = Router::new()
            .route("/mcp", post(asked))
            .with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Self {
            address,
            era,
            shared,
            serving,
        }
    }

    pub(crate) fn config(&self, name: &str) -> ServerConfig {
        let url = format!("http://{}/mcp", self.address);
        let mut config = ServerConfig::http(name, url.as_str());
        config.protocol = match self.era {
            Era::Legacy => Protocol::Legacy,
            Era::Modern => Protocol::Modern,
        };
        config
    }

    /// What the next request that is none of the usual ones gets.
    pub(crate) fn say(&self, say: Say) {
        locked(&self.shared.next).push_back(say);
    }

    /// The requests that came since the last call, besides the usual ones.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *locked(&self.shared.seen))
    }

    /// The response to the question.
    pub(crate) fn answered(&self) -> Option<String> {
        self.shared.answered.send_replace(None)
    }
}

impl Drop for Paper {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn asked(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let tree = Tree::read(&text);
    let (Some(id), Some(method)) = (tree.raw(&["id"]), tree.string(&["method"])) else {
        if tree.get(&["method"]).is_none() {
            shared.answered.send_replace(Some(text));
        }
        return StatusCode::ACCEPTED.into_response();
    };
    if method == "subscriptions/listen" {
        return listens(&id);
    }
    let said = match shared.usual.get(method.as_str()) {
        Some(result) => vec![format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{result}}}"
        )],
        None => {
            locked(&shared.seen).push(Seen { headers, text });
            locked(&shared.next).pop_front().unwrap_or_default()
        }
    };
    let token = tree
        .raw(&["params", "_meta", "progressToken"])
        .unwrap_or_default();
    let filled = |text: &String| text.replacen("$ID", &id, 1).replacen("$TOKEN", &token, 1);
    let mut said: Vec<String> = said.iter().map(filled).collect();
    match said.len() {
        0 => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("nobody expects {method}"),
        )
            .into_response(),
        1 => ([("content-type", "application/json")], said.remove(0)).into_response(),
        _ => {
            let last = said.pop().map(|text| event(&text)).unwrap_or_default();
            let asks = said
                .iter()
                .any(|text| Tree::read(text).get(&["id"]).is_some());
            let first: String = said.iter().map(|text| event(text)).collect();
            let mut answered = shared.answered.subscribe();
            let last = async move {
                if asks {
                    // The server ends with the test, and the stream with it.
                    drop(answered.wait_for(Option::is_some).await);
                }
                last
            };
            streamed(stream::once(std::future::ready(first)).chain(stream::once(last)))
        }
    }
}

fn event(text: &str) -> String {
    format!("event: message\ndata: {text}\n\n")
}

fn streamed(texts: impl Stream<Item = String> + Send + 'static) -> Response {
    let body = Body::from_stream(texts.map(Ok::<_, Infallible>));
    ([("content-type", "text/event-stream")], body).into_response()
}

/// Honours nothing, and stays.
fn listens(id: &str) -> Response {
    let first = format!(
        "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{{\"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":{id}}},\"notifications\":{{}}}}}}\n\n"
    );
    streamed(stream::once(std::future::ready(first)).chain(stream::pending()))
}
