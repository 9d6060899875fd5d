//! A running gateway and a client that says exactly what it is told to say.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mainstay::config::{Config, ServerConfig};
use mainstay::{Manager, ServerStatus};
use mainstay_gateway::{Gateway, GatewaySettings, serve};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes, on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const BOTH: &str = "application/json, text/event-stream";
pub(crate) const MODERN: &str = "2026-07-28";

/// Waits until something is the case.
pub(crate) async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited in vain: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The stdio server of the test kit; built once if it is not there yet.
pub(crate) fn misbehave() -> String {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let target = std::env::current_exe().unwrap();
        let target = target.ancestors().nth(2).unwrap();
        let path = target.join("misbehave");
        // A test run of the whole workspace has built it already.
        if !path.exists() {
            let built = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--package", "mainstay-testkit"])
                .args(["--bin", "misbehave"])
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .env("CARGO_TARGET_DIR", target.parent().unwrap())
                .status()
                .unwrap();
            assert!(built.success());
        }
        path
    });
    path.to_str().unwrap().to_owned()
}

/// A stdio server of the test kit with flags.
pub(crate) fn stdio(name: &str, flags: &[&str]) -> ServerConfig {
    ServerConfig::stdio(name, misbehave()).args(flags.iter().copied())
}

/// A gateway, its manager, and the door it listens at.
pub(crate) struct World {
    pub(crate) manager: Manager,
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
    /// Where the journal is kept.
    _state: tempfile::TempDir,
    ending: CancellationToken,
    served: JoinHandle<()>,
}

impl World {
    /// Starts with the given servers, and waits until each is connected.
    pub(crate) async fn start(servers: impl IntoIterator<Item = ServerConfig>) -> Self {
        let world = Self::start_with(servers, |_| {}).await;
        for server in world.manager.servers() {
            world
                .until(server.name(), |status| status.state == "connected")
                .await;
        }
        world
    }

    /// Starts with settings of its own, and waits for nothing.
    pub(crate) async fn start_with(
        servers: impl IntoIterator<Item = ServerConfig>,
        change: impl FnOnce(&mut GatewaySettings),
    ) -> Self {
        Self::of(Config::from_servers(servers), None, change).await
    }

    /// Starts with a config and a place for what is remembered, and waits for nothing.
    pub(crate) async fn of(
        config: Config,
        state_dir: Option<PathBuf>,
        change: impl FnOnce(&mut GatewaySettings),
    ) -> Self {
        let state = tempfile::tempdir().unwrap();
        let builder = Manager::builder().journal(Some(state.path().join("journal")));
        let builder = builder.config(config).state_dir(state_dir);
        let manager = builder.start().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut settings = GatewaySettings::new(address);
        change(&mut settings);
        let gateway = Gateway::new(manager.clone(), settings);
        let ending = CancellationToken::new();
        let served = tokio::spawn({
            let (gateway, ending) = (gateway.clone(), ending.clone());
            async move { serve::serve(listener, gateway, ending).await.unwrap() }
        });
        Self {
            manager,
            gateway,
            address,
            _state: state,
            ending,
            served,
        }
    }

    /// Waits for a state of a server.
    pub(crate) async fn until(
        &self,
        server: &str,
        satisfied: impl FnMut(&ServerStatus) -> bool,
    ) -> ServerStatus {
        let server = self.manager.server(server).unwrap();
        let came = tokio::time::timeout(PATIENCE, server.wait_until(satisfied)).await;
        came.unwrap_or_else(|_| panic!("the state did not come: {:?}", server.status()))
    }

    /// A connection.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Another door, where clients say who they are: as a program does that embeds the gateway and has identified its users.
    pub(crate) async fn embedded(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (gateway, ending) = (self.gateway.clone(), self.ending.child_token());
        tokio::spawn(ending.clone().run_until_cancelled_owned(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let gateway = gateway.clone();
                let service = service_fn(move |mut request: Request<Incoming>| {
                    let gateway = gateway.clone();
                    async move {
                        if let Some(name) = request.headers_mut().remove(PRINCIPAL) {
                            let principal = mainstay::Principal::new(name.to_str().unwrap());
                            request.extensions_mut().insert(principal.unwrap());
                        }
                        Ok::<_, std::convert::Infallible>(gateway.handle(request).await)
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                let connection = connection.serve_connection(TokioIo::new(stream), service);
                tokio::spawn(ending.clone().run_until_cancelled_owned(async move {
                    drop(connection.await);
                }));
            }
        }));
        address
    }

    /// A legacy session.
    pub(crate) async fn session(&self, path: &str) -> Session {
        Session::open(self.client().await, path, "2025-11-25").await
    }

    /// Ends the gateway, as a signal would.
    pub(crate) async fn close(&mut self) {
        self.ending.cancel();
        tokio::time::timeout(PATIENCE, &mut self.served)
            .await
            .expect("the gateway did not end")
            .unwrap();
    }

    /// Ends everything.
    pub(crate) async fn end(mut self) {
        self.manager.shutdown().await;
        self.close().await;
    }
}

/// One answer, whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        serde_json::from_str(&self.body).unwrap()
    }

    /// Status, error code and id of an error answer.
    pub(crate) fn error(&self) -> (u16, i64, Value) {
        let body = self.json();
        (
            self.status.as_u16(),
            body["error"]["code"].as_i64().unwrap_or(0),
            body["id"].clone(),
        )
    }
}

/// Where a client of [`World::embedded`] says who it is.
const PRINCIPAL: &str = "x-test-principal";

/// One connection.
pub(crate) struct Client {
    /// Who it says that it is, at a door that asks.
    pub(crate) principal: Option<String>,
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    driver: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        // Closes the socket at once, whatever is on its way.
        self.driver.abort();
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let driver = tokio::spawn(async move { drop(connection.await) });
        Self {
            principal: None,
            sender,
            address,
            driver,
        }
    }

    /// A connection of somebody.
    pub(crate) async fn connect_as(address: SocketAddr, principal: Option<&str>) -> Self {
        let mut client = Self::connect(address).await;
        client.principal = principal.map(str::to_owned);
        client
    }

    /// Another connection of the same.
    pub(crate) async fn twin(&self) -> Self {
        Self::connect_as(self.address, self.principal.as_deref()).await
    }

    /// Sends a request with exactly these headers (besides `Host`, unless it is among them) and returns the open answer.
    pub(crate) async fn open(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> http::Response<Incoming> {
        let mut request = Request::builder().method(method).uri(path);
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            request = request.header("host", self.address.to_string());
        }
        if let Some(principal) = &self.principal {
            request = request.header(PRINCIPAL, principal);
        }
        for (name, value) in headers {
            request = request.header(
                *name,
                http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answered = async {
            self.sender.ready().await.unwrap();
            self.sender.send_request(request).await.unwrap()
        };
        tokio::time::timeout(PATIENCE, answered)
            .await
            .expect("no answer")
    }

    /// The same, with the whole answer.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let response = self.open(method, path, headers, body).await;
        let (head, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect())
            .await
            .expect("no end of the body")
            .unwrap();
        let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        Reply {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    /// POSTs JSON as MCP clients do, with further headers.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let mut all = vec![("content-type", "application/json"), ("accept", BOTH)];
        all.extend(headers);
        self.send(Method::POST, path, &all, body).await
    }

    /// POSTs a modern request with the headers that belong to it.
    pub(crate) async fn modern(&mut self, path: &str, body: &str) -> Reply {
        let headers = modern_headers(body);
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        self.post(path, &headers, body.to_owned()).await
    }
}

/// The headers that belong to a modern request.
pub(crate) fn modern_headers(body: &str) -> Vec<(&'static str, String)> {
    let value: Value = serde_json::from_str(body).unwrap();
    let method = value["method"].as_str().unwrap().to_owned();
    let name = match method.as_str() {
        "tools/call" | "prompts/get" => value["params"]["name"].as_str(),
        "resources/read" => value["params"]["uri"].as_str(),
        _ => None,
    };
    let mut headers = vec![
        ("mcp-protocol-version", MODERN.to_owned()),
        ("mcp-method", method),
    ];
    headers.extend(name.map(|name| ("mcp-name", mainstay_wire::headers::encode_value(name))));
    headers
}

/// A modern request: `members` is what stands in `params` beside `_meta`, with a trailing comma if not empty.
pub(crate) fn modern(id: &str, method: &str, members: &str) -> String {
    let meta = "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"io.modelcontextprotocol/clientCapabilities\":{}";
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\",\"params\":{{{members}\"_meta\":{{{meta}}}}}}}"
    )
}

/// A legacy session.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) opened: Value,
    revision: String,
}

impl Session {
    pub(crate) async fn open(client: Client, path: &str, revision: &str) -> Self {
        Self::open_as(client, path, revision, "{}").await
    }

    /// The same with capabilities.
    pub(crate) async fn open_as(
        mut client: Client,
        path: &str,
        revision: &str,
        capabilities: &str,
    ) -> Self {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{revision}","capabilities":{capabilities},"clientInfo":{{"name":"t","version":"1"}}}}}}"#
        );
        let reply = client.post(path, &[], body).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        let id = reply
            .header("mcp-session-id")
            .expect("a session id")
            .to_owned();
        let opened = reply.json()["result"].clone();
        let mut session = Self {
            client,
            path: path.to_owned(),
            id,
            opened,
            revision: revision.to_owned(),
        };
        let reply = session
            .post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
            .await;
        assert_eq!((reply.status.as_u16(), reply.body.as_str()), (202, ""));
        session
    }

    pub(crate) async fn post(&mut self, body: impl Into<Bytes>) -> Reply {
        let (path, id, revision) = (self.path.clone(), self.id.clone(), self.revision.clone());
        self.client
            .post(
                &path,
                &[("mcp-session-id", &id), ("mcp-protocol-version", &revision)],
                body,
            )
            .await
    }

    /// Another connection in the same session.
    pub(crate) async fn twin(&self) -> Self {
        self.over(self.client.twin().await)
    }

    /// The same session over another connection.
    pub(crate) fn over(&self, client: Client) -> Self {
        Self {
            client,
            path: self.path.clone(),
            id: self.id.clone(),
            opened: self.opened.clone(),
            revision: self.revision.clone(),
        }
    }

    /// Opens an answer without waiting for its end.
    pub(crate) async fn open_post(&mut self, body: impl Into<Bytes>) -> http::Response<Incoming> {
        let (path, id) = (self.path.clone(), self.id.clone());
        let headers = [
            ("content-type", "application/json"),
            ("accept", BOTH),
            ("mcp-session-id", &id),
        ];
        self.client.open(Method::POST, &path, &headers, body).await
    }

    /// Opens the push stream.
    pub(crate) async fn get(&mut self) -> http::Response<Incoming> {
        let (path, id) = (self.path.clone(), self.id.clone());
        self.client
            .open(
                Method::GET,
                &path,
                &[("accept", "text/event-stream"), ("mcp-session-id", &id)],
                "",
            )
            .await
    }
}

/// Reads the events of a stream as they come.
pub(crate) struct Events {
    body: Incoming,
    text: String,
    /// The id of the latest event that had one.
    pub(crate) last_id: Option<String>,
}

impl Events {
    pub(crate) fn of(response: http::Response<Incoming>) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            body: response.into_body(),
            text: String::new(),
            last_id: None,
        }
    }

    /// The data of the next event; `None` at the end. Comments and priming events are skipped, and do not extend the
    /// patience.
    pub(crate) async fn next(&mut self) -> Option<String> {
        tokio::time::timeout(PATIENCE, self.read())
            .await
            .expect("no event came")
    }

    async fn read(&mut self) -> Option<String> {
        loop {
            while let Some(at) = self.text.find("\n\n") {
                let event: String = self.text.drain(..at + 2).collect();
                let id = event.lines().find_map(|line| line.strip_prefix("id: "));
                if let Some(id) = id {
                    self.last_id = Some(id.to_owned());
                }
                let data: Vec<&str> = event
                    .lines()
                    .filter_map(|line| line.strip_prefix("data: "))
                    .collect();
                if data.iter().any(|line| !line.is_empty()) {
                    return Some(data.join("\n"));
                }
                if id.is_some() && data == [""] {
                    continue;
                }
                assert!(
                    event.starts_with(':'),
                    "neither an event nor a comment: {event:?}"
                );
            }
            let data = self.body.frame().await?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// The id with which the stream begins, before anything is said. Comments do not extend the patience.
    pub(crate) async fn priming(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.read_priming())
            .await
            .expect("the stream does not begin with an id")
    }

    async fn read_priming(&mut self) -> String {
        loop {
            if let Some(id) = &self.last_id {
                return id.clone();
            }
            if let Some(end) = self.text.find("data: \n\n") {
                let start = self.text[..end].find("id: ").unwrap() + "id: ".len();
                let id = self.text[start..end].lines().next().unwrap();
                self.last_id = Some(id.to_owned());
                continue;
            }
            let frame = self.body.frame().await.expect("the stream ended");
            self.text
                .push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
    }

    /// The next event as JSON.
    pub(crate) async fn json(&mut self) -> Value {
        serde_json::from_str(&self.next().await.expect("the stream ended")).unwrap()
    }

    /// Waits for a comment.
    pub(crate) async fn comment(&mut self) {
        while !self.text.contains(": ping\n\n") {
            let frame = tokio::time::timeout(PATIENCE, self.body.frame())
                .await
                .expect("nothing came")
                .unwrap();
            self.text
                .push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
    }
}
