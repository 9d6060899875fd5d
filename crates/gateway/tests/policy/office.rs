//! A gateway with a policy, two servers with ledgers, and people with tokens.

use std::path::{Path, PathBuf};

use http::Method;
use mainstay::config::{AuditConfig, Config, ServerConfig};
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::{Value, json};

use super::support::{Client, Events, Reply, World, modern_headers};

/// The servers `one` and `two`, and who may do what.
pub(crate) struct Office {
    pub(crate) world: World,
    pub(crate) one: HttpServer,
    pub(crate) two: HttpServer,
    pub(crate) state: tempfile::TempDir,
}

/// The config of two servers, with settings of Mainstay.
fn config(mainstay: &Value, servers: [ServerConfig; 2]) -> Config {
    let text = json!({ "mcpServers": {}, "mainstay": mainstay }).to_string();
    let loaded = Config::parse(&text, Path::new("mcp.json")).unwrap();
    assert!(!loaded.has_errors(), "{:?}", loaded.problems);
    let mut config = loaded.config;
    config.servers = Config::from_servers(servers).servers;
    config
}

impl Office {
    pub(crate) async fn open(mainstay: &Value) -> Self {
        Self::with(mainstay, Script::legacy(), None).await
    }

    pub(crate) async fn with(mainstay: &Value, script: Script, audit: Option<AuditConfig>) -> Self {
        let state = tempfile::tempdir().unwrap();
        let (one, two) = (
            HttpServer::start(script).await.unwrap(),
            HttpServer::start(Script::legacy()).await.unwrap(),
        );
        let config = config(mainstay, servers(&one, &two));
        let dir = state.path().to_owned();
        let world = World::of(config, None, |settings| {
            settings.state_dir = Some(dir);
            settings.audit = audit;
        })
        .await;
        for server in ["one", "two"] {
            world
                .until(server, |status| status.state == "connected")
                .await;
        }
        Self {
            world,
            one,
            two,
            state,
        }
    }

    /// Makes other settings true, while everything runs.
    pub(crate) async fn reload(&self, mainstay: &Value) {
        let config = config(mainstay, servers(&self.one, &self.two));
        self.world.manager.reload(config).await.unwrap();
    }

    /// Somebody with a token of that name.
    pub(crate) async fn person(&self, name: &str, groups: &[&str]) -> Person {
        let body = json!({ "name": name, "groups": groups }).to_string();
        let made = self.admin(Method::POST, "/api/v1/tokens", &body).await;
        assert_eq!(made.status, 200, "{made:?}");
        let token = made.json()["token"].as_str().unwrap().to_owned();
        Person {
            client: self.world.client().await,
            bearer: Some(format!("Bearer {token}")),
            session: None,
        }
    }

    /// This machine's user, who brings no token.
    pub(crate) async fn local(&self) -> Person {
        Person {
            client: self.world.client().await,
            bearer: None,
            session: None,
        }
    }

    /// Asks the admin API.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: &str) -> Reply {
        let headers = [
            ("mainstay-request", "1"),
            ("content-type", "application/json"),
        ];
        let mut client = self.world.client().await;
        client.send(method, path, &headers, body.to_owned()).await
    }

    /// The audit log's file.
    pub(crate) fn log(&self) -> PathBuf {
        self.state.path().join("audit/audit.jsonl")
    }

    /// How many calls of a tool reached the first server.
    pub(crate) fn calls(&self, tool: &str) -> u64 {
        let counts = self.one.ledger().counts();
        counts.calls.get(tool).copied().unwrap_or(0) as u64
    }

    pub(crate) async fn close(self) {
        self.world.gateway.end_audit().await;
        self.world.end().await;
    }
}

fn servers(one: &HttpServer, two: &HttpServer) -> [ServerConfig; 2] {
    let mut first = ServerConfig::http("one", one.url());
    first.trust_annotations = true;
    [first, ServerConfig::http("two", two.url())]
}

/// Somebody who asks.
pub(crate) struct Person {
    pub(crate) client: Client,
    pub(crate) bearer: Option<String>,
    /// The session of the legacy era, once it was opened.
    pub(crate) session: Option<String>,
}

impl Person {
    /// The same one over another connection.
    pub(crate) async fn again(&self, office: &Office) -> Self {
        Self {
            client: office.world.client().await,
            bearer: self.bearer.clone(),
            session: self.session.clone(),
        }
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        let mut headers = Vec::new();
        headers.extend(
            self.bearer
                .as_deref()
                .map(|bearer| ("authorization", bearer)),
        );
        headers.extend(self.session.as_deref().map(|id| ("mcp-session-id", id)));
        headers
    }

    /// Sends a message as it is.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Reply {
        let (bearer, session) = (self.bearer.clone(), self.session.clone());
        let mut headers = Vec::new();
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        headers.extend(session.as_deref().map(|id| ("mcp-session-id", id)));
        self.client.post(path, &headers, body.to_owned()).await
    }

    /// The same, and leaves the answer open.
    pub(crate) async fn open(&mut self, path: &str, body: &str) -> Events {
        let owned: Vec<(String, String)> = self
            .headers()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut headers: Vec<(&str, &str)> = owned
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        headers.push(("content-type", "application/json"));
        headers.push(("accept", super::support::BOTH));
        Events::of(
            self.client
                .open(Method::POST, path, &headers, body.to_owned())
                .await,
        )
    }

    /// Opens a session of the legacy era; a former one is left alone.
    pub(crate) async fn greet(&mut self, path: &str, capabilities: &Value) -> Value {
        self.session = None;
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": capabilities,
            "clientInfo": { "name": "t", "version": "1" } });
        let reply = self.post(path, &request("initialize", &params)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        self.session = reply.header("mcp-session-id").map(str::to_owned);
        reply.json()["result"].clone()
    }

    /// Asks within the session.
    pub(crate) async fn ask(&mut self, path: &str, method: &str, params: &Value) -> Value {
        if self.session.is_none() {
            self.greet(path, &json!({})).await;
        }
        self.post(path, &request(method, params)).await.json()
    }

    /// The names in a listing.
    pub(crate) async fn names(&mut self, path: &str, what: &str) -> Vec<String> {
        let answer = self.ask(path, &format!("{what}/list"), &json!({})).await;
        let key = if what == "resources" { "uri" } else { "name" };
        let items = answer["result"][what]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .clone();
        items
            .iter()
            .map(|item| item[key].as_str().unwrap().to_owned())
            .collect()
    }

    /// Calls a tool within the session.
    pub(crate) async fn call(&mut self, path: &str, tool: &str) -> Value {
        self.ask(
            path,
            "tools/call",
            &json!({ "name": tool, "arguments": {} }),
        )
        .await
    }

    /// Asks as clients of the modern era do.
    pub(crate) async fn modern(
        &mut self,
        path: &str,
        method: &str,
        mut params: Value,
        capabilities: Value,
    ) -> Reply {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        });
        let body = request(method, &params);
        let owned = modern_headers(&body);
        let mut headers: Vec<(&str, &str)> = owned
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let bearer = self.bearer.clone();
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        self.client.post(path, &headers, body).await
    }
}

/// A request.
pub(crate) fn request(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
}
