//! Two small honest proxies that heal nothing, and one of them repeats: targets that must not pass.
//!
//! `relay` keeps one connection to one upstream and forwards every request to it. `retry` does the same, and when a
//! request fails for whatever reason it connects again and sends it again, as eager proxies do. They are processes of
//! their own: this very test program, started with `--ignored --exact`.

use std::process::Stdio;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

/// How often `retry` sends one request.
const ATTEMPTS: usize = 4;

/// The command line that starts this proxy, for `--target-command`.
pub(crate) fn command(mode: &str) -> String {
    let program = std::env::current_exe().unwrap();
    format!(
        "env NAIVE_MODE={mode} NAIVE_CONFIG={{config}} NAIVE_PORT={{port}} '{}' --ignored --exact --nocapture naive::the_proxy_itself",
        program.display()
    )
}

#[tokio::test]
#[ignore = "a program for other tests"]
async fn the_proxy_itself() {
    let set = |name: &str| std::env::var(name).unwrap();
    let config: Value =
        serde_json::from_slice(&std::fs::read(set("NAIVE_CONFIG")).unwrap()).unwrap();
    let server = config["mcpServers"]
        .as_object()
        .unwrap()
        .values()
        .next()
        .unwrap()
        .clone();
    let attempts = if set("NAIVE_MODE") == "retry" {
        ATTEMPTS
    } else {
        1
    };
    let proxy = Arc::new(Proxy {
        server,
        attempts,
        upstream: Mutex::new(None),
    });
    proxy.connect().await;
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{}", set("NAIVE_PORT")))
        .await
        .unwrap();
    let app = axum::Router::new()
        .route("/mcp", post(serve))
        .with_state(proxy);
    axum::serve(listener, app).await.unwrap();
}

struct Proxy {
    server: Value,
    attempts: usize,
    upstream: Mutex<Option<Upstream>>,
}

/// The one connection.
enum Upstream {
    Stdio {
        _child: Child,
        stdin: ChildStdin,
        stdout: BufReader<ChildStdout>,
    },
    Http {
        client: Client<HttpConnector, Full<Bytes>>,
        url: String,
        session: Option<String>,
    },
}

async fn serve(State(proxy): State<Arc<Proxy>>, body: String) -> Response {
    let message: Value = serde_json::from_str(&body).unwrap_or_default();
    if message.get("id").is_none() {
        return reply(StatusCode::ACCEPTED, &Value::Null);
    }
    if message["method"] == "initialize" {
        let result = json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "naive", "version": "1"}});
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        return reply(StatusCode::OK, &answer);
    }
    for attempt in 0..proxy.attempts {
        if attempt > 0 {
            proxy.connect().await;
        }
        if let Some(answer) = proxy.forward(&message).await {
            return reply(StatusCode::OK, &answer);
        }
    }
    let gone = json!({"error": "the upstream is gone"});
    reply(StatusCode::BAD_GATEWAY, &gone)
}

fn reply(status: StatusCode, body: &Value) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (status, json, body.to_string()).into_response()
}

impl Proxy {
    async fn connect(&self) {
        let mut upstream = match self.server["url"].as_str() {
            Some(url) => Upstream::Http {
                client: Client::builder(TokioExecutor::new()).build_http(),
                url: url.to_owned(),
                session: None,
            },
            None => {
                let args = self.server["args"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter_map(Value::as_str);
                let mut child = Command::new(self.server["command"].as_str().unwrap())
                    .args(args)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
                Upstream::Stdio {
                    _child: child,
                    stdin,
                    stdout: BufReader::new(stdout),
                }
            }
        };
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "naive", "version": "1"}});
        let greeting =
            json!({"jsonrpc": "2.0", "id": "greeting", "method": "initialize", "params": params});
        if upstream.exchange(&greeting).await.is_some() {
            let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
            upstream.tell(&done).await;
        }
        *self.upstream.lock().await = Some(upstream);
    }

    async fn forward(&self, message: &Value) -> Option<Value> {
        self.upstream.lock().await.as_mut()?.exchange(message).await
    }
}

impl Upstream {
    async fn tell(&mut self, message: &Value) -> Option<http::Response<hyper::body::Incoming>> {
        match self {
            Self::Stdio { stdin, .. } => {
                stdin
                    .write_all(format!("{message}\n").as_bytes())
                    .await
                    .ok()?;
                None
            }
            Self::Http {
                client,
                url,
                session,
            } => {
                let mut request = http::Request::post(url.as_str())
                    .header("content-type", "application/json")
                    .header("accept", "application/json, text/event-stream");
                if let Some(session) = session {
                    request = request.header("mcp-session-id", session.as_str());
                }
                let body = Full::new(Bytes::from(message.to_string()));
                client.request(request.body(body).unwrap()).await.ok()
            }
        }
    }

    async fn exchange(&mut self, message: &Value) -> Option<Value> {
        let response = self.tell(message).await;
        if let (Self::Http { session, .. }, Some(response)) = (&mut *self, response) {
            let opened = response.headers().get("mcp-session-id").cloned();
            if let Some(opened) = opened {
                *session = Some(opened.to_str().unwrap().to_owned());
            }
            let good = response.status().is_success();
            let body = response.into_body().collect().await.ok()?.to_bytes();
            let text = String::from_utf8_lossy(&body);
            let data = text
                .lines()
                .find_map(|line| line.strip_prefix("data:"))
                .unwrap_or(&text);
            return serde_json::from_str(data).ok().filter(|_| good);
        }
        let Self::Stdio { stdout, .. } = self else {
            return None;
        };
        loop {
            let mut line = String::new();
            if stdout.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let answer: Option<Value> = serde_json::from_str(&line).ok();
            if let Some(answer) = answer.filter(|answer| answer["id"] == message["id"]) {
                return Some(answer);
            }
        }
    }
}
