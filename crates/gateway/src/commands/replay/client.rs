//! The clients of a replay: plain HTTP, sessions, and the questions that come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, Uri, request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use mainstay_wire::{SseDecoder, SseItem, headers};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::recording::{Entry, Recording};
use crate::exit::{Exit, Stop};

/// Longest event that is read.
const EVENT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How long the end of a session may take.
const DELETE_MAX: Duration = Duration::from_secs(2);

/// A question of a server: the exchange in which it came, and which of that exchange it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) exchange: u64,
    pub(super) at: usize,
}

/// How one exchange ended.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) answer: Value,
    pub(super) session: Option<HeaderValue>,
}

impl Said {
    /// No answer, and why.
    pub(super) fn nothing(why: String) -> Self {
        Self {
            answer: json!({ "nothing": why }),
            session: None,
        }
    }
}

#[derive(Debug)]
struct Session {
    id: HeaderValue,
    version: String,
    endpoint: String,
}

/// All clients of a recording.
#[derive(Debug)]
pub(super) struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    base: String,
    /// The path of the URL, if it has one: then everything goes there.
    path: Option<String>,
    sessions: HashMap<String, Session>,
    questions: Arc<Questions>,
}

/// The ids of the questions that have come, by exchange.
#[derive(Debug, Default)]
struct Questions {
    came: Mutex<HashMap<u64, Vec<Value>>>,
    more: Notify,
}

impl Client {
    /// A client of this URL.
    ///
    /// # Errors
    /// It is not one of plain HTTP.
    pub(super) fn new(url: &Uri) -> Result<Self, Stop> {
        let authority = url.authority().filter(|_| url.scheme_str() == Some("http"));
        let authority = authority.ok_or_else(|| {
            Stop::new(Exit::Usage, format!("`{url}` is no http:// URL"))
                .hint("use one such as http://127.0.0.1:8808, or http://127.0.0.1:8808/mcp for one endpoint")
        })?;
        Ok(Self {
            base: format!("http://{authority}"),
            path: (url.path() != "/").then(|| url.path().to_owned()),
            ..Self::nowhere()
        })
    }

    /// A client of nobody.
    pub(super) fn nowhere() -> Self {
        Self {
            http: HttpClient::builder(TokioExecutor::new()).build_http(),
            base: String::new(),
            path: None,
            sessions: HashMap::new(),
            questions: Arc::default(),
        }
    }

    /// Whether anybody listens at all.
    ///
    /// # Errors
    /// Nobody does.
    pub(super) async fn reach(&self) -> Result<(), Stop> {
        let request = self.request(Method::GET, "/healthz").body(Full::default());
        let request = request.map_err(|error| Stop::unexpected("cannot ask", error))?;
        match self.http.request(request).await {
            Ok(_whatever) => Ok(()),
            Err(error) => Err(Stop::new(
                Exit::NotRunning,
                format!("nobody answers at {}", self.base),
            )
            .because(error)
            .hint("start `mainstay serve`, or name another address with --url")),
        }
    }

    fn request(&self, method: Method, endpoint: &str) -> request::Builder {
        let path = self.path.as_deref().unwrap_or(endpoint);
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
    }

    /// A session was opened.
    pub(super) fn opened(&mut self, peer: &str, id: HeaderValue, answer: &Value) {
        let version = answer["result"]["protocolVersion"].as_str();
        let endpoint = String::new();
        let session = self.sessions.entry(peer.to_owned()).or_insert(Session {
            id: id.clone(),
            version: String::new(),
            endpoint,
        });
        session.id = id;
        if let Some(version) = version {
            version.clone_into(&mut session.version);
        }
    }

    /// POSTs a message; the task ends with its answer.
    pub(super) fn say(
        &mut self,
        entry: &Entry,
        peer: Option<&str>,
        message: Value,
        recording: &Recording,
    ) -> JoinHandle<Said> {
        let mut request = self
            .request(Method::POST, &entry.endpoint)
            .header(ACCEPT, headers::ACCEPT_BOTH)
            .header(CONTENT_TYPE, headers::JSON);
        if entry.is_modern {
            request = modern(request, &message, recording);
        } else if let Some(session) = peer.and_then(|peer| self.sessions.get_mut(peer)) {
            entry.endpoint.clone_into(&mut session.endpoint);
            request = request
                .header(headers::SESSION_ID, &session.id)
                .header(headers::PROTOCOL_VERSION, &session.version);
        }
        let request = request.body(Full::new(Bytes::from(message.to_string())));
        let (http, questions, exchange) = (
            self.http.clone(),
            Arc::clone(&self.questions),
            entry.exchange,
        );
        tokio::spawn(async move {
            let asked = async {
                let request = request.map_err(|error| error.to_string())?;
                let response = http
                    .request(request)
                    .await
                    .map_err(|error| error.to_string())?;
                read(response, &message["id"], exchange, &questions).await
            };
            asked.await.unwrap_or_else(Said::nothing)
        })
    }

    /// The id of a question of this replay, waited for; `None`: it does not come.
    pub(super) async fn question(&self, asked: Asked, wait: Duration) -> Option<Value> {
        let coming = async {
            loop {
                let more = self.questions.more.notified();
                let id = {
                    let came = self.questions.came.lock();
                    let came = came.unwrap_or_else(PoisonError::into_inner);
                    came.get(&asked.exchange)
                        .and_then(|ids| ids.get(asked.at))
                        .cloned()
                };
                match id {
                    Some(id) => return id,
                    None => more.await,
                }
            }
        };
        tokio::time::timeout(wait, coming).await.ok()
    }

    /// Ends the sessions. One that cannot be ended ends by its idle limit.
    pub(super) async fn leave(&self) {
        for session in self.sessions.values() {
            let request = self
                .request(Method::DELETE, &session.endpoint)
                .header(headers::SESSION_ID, &session.id)
                .body(Full::default());
            if let Ok(request) = request {
                let _ended = tokio::time::timeout(DELETE_MAX, self.http.request(request)).await;
            }
        }
    }
}

/// The routing headers of a modern message.
fn modern(
    mut request: request::Builder,
    message: &Value,
    recording: &Recording,
) -> request::Builder {
    let version = &message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
    let method = message["method"].as_str().unwrap_or_default();
    request = request
        .header(
            headers::PROTOCOL_VERSION,
            version.as_str().unwrap_or("none"),
        )
        .header(headers::METHOD, method);
    let params = message["params"].to_string();
    let Some(name) = headers::mcp_name_of(method, Some(&params)) else {
        return request;
    };
    request = request.header(headers::NAME, headers::encode_value(&name));
    let schema = recording.schema(&name).unwrap_or("{}");
    let arguments = message["params"]["arguments"].to_string();
    for param in headers::param_headers(schema).unwrap_or_default() {
        if let Some(value) = param.value(Some(&arguments)) {
            request = request.header(param.header, value);
        }
    }
    request
}

/// Reads an answer: one JSON text, or events up to the answer.
async fn read(
    response: Response<Incoming>,
    id: &Value,
    exchange: u64,
    questions: &Questions,
) -> Result<Said, String> {
    let session = response.headers().get(headers::SESSION_ID).cloned();
    let status = response.status();
    let is_stream = response.headers().get(CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .starts_with(headers::EVENT_STREAM.as_bytes())
    });
    let mut body = response.into_body();
    if !is_stream {
        let text = body
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        let answer = serde_json::from_slice(&text)
            .unwrap_or_else(|_| json!({ "nothing": format!("HTTP {status}") }));
        return Ok(Said { answer, session });
    }
    let mut events = SseDecoder::new(EVENT_BYTES_MAX);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        events.push(data);
        for item in events.by_ref() {
            let SseItem::Event { data, .. } = item else {
                continue;
            };
            let Ok(message) = serde_json::from_slice::<Value>(&data) else {
                continue;
            };
            if message.get("method").is_none() && message["id"] == *id {
                let answer = message;
                return Ok(Said { answer, session });
            }
            if message.get("method").is_some() && message.get("id").is_some() {
                let came = questions.came.lock();
                let mut came = came.unwrap_or_else(PoisonError::into_inner);
                came.entry(exchange)
                    .or_default()
                    .push(message["id"].clone());
                questions.more.notify_waiters();
            }
        }
    }
    Err("the stream ended without an answer".to_owned())
}
