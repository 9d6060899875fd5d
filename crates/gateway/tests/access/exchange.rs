//! People whose token is exchanged (RFC 8693): everybody is somebody of their own at the server, and their own token goes to
//! the token endpoint alone.

use std::path::Path;

use http::Method;
use mainstay::config::{Config, Issuer};
use mainstay_testkit::authority::{Authority, Client as Registered, Guard, Protected, Script};
use mainstay_testkit::http_server;
use serde_json::{Value, json};

use super::rig::{OPEN, bearer, session};
use super::support::{Reply, World, modern, modern_headers};
use mainstay_gateway::access::tokens::{NewToken, TokenStore};

const PLACE: &str = "/servers/notes/mcp";

struct Stage {
    authority: Authority,
    server: Protected,
    world: World,
    resource: String,
    dir: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let authority = Authority::start(Script::default()).await.unwrap();
        authority.register("gateway", Registered::confidential("gateway-s3cret"));
        let server = Protected::start(&authority, Guard::default(), http_server::Script::default());
        let server = server.await.unwrap();
        let entry = json!({ "mcpServers": { "notes": {
            "url": server.url(), "scope": "user", "restart": { "openIntervalMs": 20 },
            "auth": { "grant": "exchange", "clientId": "gateway", "clientSecret": "gateway-s3cret" },
        }}});
        let loaded = Config::parse(&entry.to_string(), Path::new("mcp.json")).unwrap();
        assert_eq!(loaded.problems, []);
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().to_owned();
        let mut resource = String::new();
        let world = World::of(loaded.config, Some(state.clone()), |settings| {
            resource = format!("http://{}", settings.listen);
            settings.state_dir = Some(state);
            settings.access.resource = Some(resource.clone());
            settings.access.jwt = vec![Issuer::new(&authority.issuer(), &[])];
        })
        .await;
        Self {
            authority,
            server,
            world,
            resource,
            dir,
        }
    }

    fn token(&self, who: &str, claims: &Value) -> String {
        self.authority.token_for(who, &self.resource, claims)
    }

    /// One that is over by the clock of the exchange, and within the leeway of the door.
    fn old_token(&self, who: &str) -> String {
        let now = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap()
            .as_secs();
        self.token(who, &json!({ "iat": now - 300, "exp": now - 5 }))
    }

    /// A call in a session of its own.
    async fn call(&self, token: &str, text: &str) -> Reply {
        let mut client = self.world.client().await;
        let own = bearer(token);
        let opened = client.post(PLACE, &[("authorization", &own)], OPEN).await;
        let id = session(&opened);
        let headers = [("authorization", &*own), ("mcp-session-id", &id)];
        let params = json!({ "name": "echo", "arguments": { "text": text } });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        client.post(PLACE, &headers, body.to_string()).await
    }

    /// A call of a modern client.
    async fn modern(&self, token: &str, text: &str) -> Reply {
        let members = format!("\"name\":\"echo\",\"arguments\":{{\"text\":\"{text}\"}},");
        let body = modern("1", "tools/call", &members);
        let own = bearer(token);
        let headers = modern_headers(&body);
        let mut headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, it)| (*name, &**it)).collect();
        headers.push(("authorization", &own));
        let mut client = self.world.client().await;
        client.post(PLACE, &headers, body.clone()).await
    }

    /// What was given to the token endpoint to be exchanged.
    fn exchanged(&self) -> Vec<String> {
        let requests = self.authority.ledger().token_requests();
        let subjects = requests
            .iter()
            .filter_map(|request| request.form.get("subject_token"));
        subjects.cloned().collect()
    }

    /// Law 31, law 32: the server was shown none of these, and none of them is on the disk or told by anything.
    async fn went_nowhere(&self, tokens: &[&str]) {
        let shown = self.server.entries().tokens;
        let mut all = vec![format!("{shown:?}")];
        let mut dirs = vec![self.dir.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => dirs.push(path),
                    false => {
                        all.push(String::from_utf8_lossy(&std::fs::read(path).unwrap()).into())
                    }
                }
            }
        }
        let mut client = self.world.client().await;
        for path in [
            "/api/v1/status",
            "/api/v1/auth",
            "/api/v1/journal",
            "/api/v1/calls",
            "/metrics",
        ] {
            let host = [("mainstay-request", "1")];
            let reply = client.send(Method::GET, path, &host, "").await;
            assert_eq!(reply.status, http::StatusCode::OK, "{path}: {reply:?}");
            all.push(reply.body);
        }
        for token in tokens {
            let signature = token.rsplit('.').next().unwrap();
            for text in &all {
                assert!(!text.contains(token) && !text.contains(signature), "{text}");
            }
        }
    }

    async fn end(self) {
        self.world.end().await;
    }
}

fn said(reply: &Reply) -> String {
    let text = &reply.json()["result"]["content"][0]["text"];
    text.as_str()
        .unwrap_or_else(|| panic!("{reply:?}"))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_everybodys_token_is_exchanged_and_shown_to_no_server() {
    let stage = Stage::new().await;
    let (ann, bob) = (
        stage.token("ann", &json!({})),
        stage.token("bob", &json!({})),
    );
    assert_eq!(said(&stage.call(&ann, "of ann").await), "of ann");
    assert_eq!(
        stage.server.entries().admitted.keys().collect::<Vec<_>>(),
        ["ann"]
    );
    let first: Vec<String> = stage.server.entries().tokens.into_keys().collect();
    assert_eq!(said(&stage.modern(&bob, "of bob").await), "of bob");
    let admitted = stage.server.entries().admitted;
    assert_eq!(admitted.keys().collect::<Vec<_>>(), ["ann", "bob"]);
    assert_eq!(
        stage.exchanged(),
        [ann.clone(), bob.clone()],
        "once for everybody"
    );
    // A token for everybody, and none of them is anybody's own.
    let tokens: Vec<String> = stage.server.entries().tokens.into_keys().collect();
    let subject = |token: &String| {
        stage
            .authority
            .check(token)
            .map(|claims| claims["sub"].clone())
    };
    let of_first: Vec<_> = first.iter().map(subject).collect();
    assert_eq!(of_first, [Ok(json!("ann"))]);
    let others: Vec<_> = tokens
        .iter()
        .filter(|one| !first.contains(one))
        .map(subject)
        .collect();
    assert_eq!(others, [Ok(json!("bob"))]);
    // What was exchanged ends: it is exchanged anew, for whoever comes, with what they bring then.
    let later = stage.token("ann", &json!({ "jti": "later" }));
    stage.authority.expire_access_tokens();
    assert_eq!(said(&stage.modern(&later, "again").await), "again");
    assert_eq!(stage.exchanged().len(), 3);
    stage.went_nowhere(&[&ann, &bob, &later]).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_17_a_token_that_cannot_be_exchanged_is_told_and_a_newer_one_revives_the_server() {
    let stage = Stage::new().await;
    let old = stage.old_token("ann");
    let refused = stage.call(&old, "no").await;
    let error = refused.json()["error"].clone();
    let message = error["message"]
        .as_str()
        .unwrap_or_else(|| panic!("{refused:?}"));
    for word in ["notes", "exchanging a token", "expired", "new token"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert!(
        !message.contains("mainstay login") && !message.contains("log in"),
        "{message}"
    );
    assert_eq!(error["data"]["outcome"], "refused", "{error}");
    // One principal's token is nobody else's.
    let bob = stage.token("bob", &json!({}));
    assert_eq!(said(&stage.call(&bob, "of bob").await), "of bob");
    assert_eq!(stage.server.entries().admitted.get("ann"), None);
    // An exchange needs no person: the call that brings a good token is the one that goes through.
    let new = stage.token("ann", &json!({}));
    assert_eq!(said(&stage.call(&new, "of ann").await), "of ann");
    assert_eq!(said(&stage.modern(&new, "of ann").await), "of ann");
    stage.went_nowhere(&[&old, &new, &bob]).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_a_static_token_is_no_identity_of_the_issuer_and_is_never_sent_to_it() {
    let stage = Stage::new().await;
    let new = NewToken {
        name: "ci".to_owned(),
        ..NewToken::default()
    };
    let token = TokenStore::new(stage.dir.path())
        .create(&new)
        .unwrap()
        .token;
    let refused = stage.call(&token, "no").await;
    let message = refused.json()["error"]["message"].to_string();
    for word in ["notes", "no token of the caller", "JWT"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert_eq!(stage.exchanged(), Vec::<String>::new());
    assert_eq!(stage.server.entries().tokens.len(), 0);
    stage.end().await;
}
