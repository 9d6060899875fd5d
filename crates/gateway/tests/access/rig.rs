//! A Mainstay that wants to know who asks, its tokens, and an issuer whom it trusts.

use std::path::PathBuf;

use http::{Method, StatusCode};
use mainstay::config::{Access, Config, Issuer, Required, ServerConfig};
use mainstay_gateway::GatewaySettings;
use mainstay_gateway::access::tokens::{NewToken, TokenStore};
use mainstay_testkit::authority::{Authority, Script};
use serde_json::{Value, json};

use super::support::{BOTH, Client, Reply, World, stdio};

pub(crate) const PING: &str = r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#;
pub(crate) const OPEN: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;

pub(crate) struct Rig {
    pub(crate) world: World,
    pub(crate) authority: Authority,
    pub(crate) store: TokenStore,
    pub(crate) dir: PathBuf,
    /// The address under which it is known.
    pub(crate) resource: String,
    _state: tempfile::TempDir,
}

impl Rig {
    /// One that wants to know who asks, also on loopback.
    pub(crate) async fn closed() -> Self {
        Self::with(|access| access.required = Required::Always).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Access)) -> Self {
        Self::of([stdio("one", &[])], |settings| change(&mut settings.access)).await
    }

    pub(crate) async fn of(
        servers: impl IntoIterator<Item = ServerConfig>,
        change: impl FnOnce(&mut GatewaySettings),
    ) -> Self {
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().to_owned();
        let authority = Authority::start(Script::default()).await.unwrap();
        let mut resource = String::new();
        let world = World::of(Config::from_servers(servers), None, |settings| {
            resource = format!("http://{}", settings.listen);
            settings.state_dir = Some(dir.clone());
            settings.access.resource = Some(resource.clone());
            settings.access.jwt = vec![Issuer::new(&authority.issuer(), &[])];
            change(settings);
        })
        .await;
        for server in world.manager.servers() {
            world
                .until(server.name(), |status| status.state == "connected")
                .await;
        }
        Self {
            world,
            authority,
            store: TokenStore::new(&dir),
            dir,
            resource,
            _state: state,
        }
    }

    /// A token of ours.
    pub(crate) fn token(&self, name: &str, groups: &[&str]) -> String {
        let new = NewToken {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..NewToken::default()
        };
        self.store.create(&new).unwrap().token
    }

    /// A token of the issuer for us.
    pub(crate) fn signed(&self, subject: &str) -> String {
        self.signed_with(subject, &json!({}))
    }

    /// The same with further claims.
    pub(crate) fn signed_with(&self, subject: &str, claims: &Value) -> String {
        self.authority.token_for(subject, &self.resource, claims)
    }

    pub(crate) async fn client(&self) -> Client {
        self.world.client().await
    }

    /// How often clients were turned away for this reason.
    pub(crate) async fn denied(&self, reason: &str) -> u64 {
        let token = self.token(&format!("metrics-{}", random()), &[]);
        let mut client = self.client().await;
        let reply = get(&mut client, "/metrics", &[&bearer(&token)]).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        let line = format!("mainstay_clients_denied_total{{reason=\"{reason}\"}} ");
        let found = reply
            .body
            .lines()
            .find_map(|found| found.strip_prefix(&line));
        let found = found.unwrap_or_else(|| panic!("{line}: {}", reply.body));
        found.parse::<f64>().unwrap() as u64
    }

    pub(crate) async fn end(self) {
        self.world.end().await;
    }
}

pub(crate) fn random() -> String {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).unwrap();
    format!("{:08x}", u32::from_le_bytes(bytes))
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Asks for a path, with these values of `Authorization`.
pub(crate) async fn get(client: &mut Client, path: &str, authorizations: &[&str]) -> Reply {
    let headers: Vec<_> = authorizations
        .iter()
        .map(|value| ("authorization", *value))
        .collect();
    client.send(Method::GET, path, &headers, "").await
}

/// Opens a session, or hears why not.
pub(crate) async fn open(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut all = vec![("content-type", "application/json"), ("accept", BOTH)];
    all.extend(headers);
    client.send(Method::POST, path, &all, OPEN).await
}

/// The session that was opened.
pub(crate) fn session(reply: &Reply) -> String {
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    reply.header("mcp-session-id").unwrap().to_owned()
}

/// Speaks in a session.
pub(crate) async fn ping(client: &mut Client, id: &str, token: Option<&str>) -> Reply {
    let authorization = token.map(bearer);
    let mut headers = vec![("mcp-session-id", id)];
    headers.extend(
        authorization
            .as_deref()
            .map(|value| ("authorization", value)),
    );
    client.post("/mcp", &headers, PING).await
}
