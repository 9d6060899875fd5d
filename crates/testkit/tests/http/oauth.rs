//! Signing in to servers: the engine against a real authorization server that keeps strict books.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay::auth::rmcp::RmcpEngine;
use mainstay::auth::{Ask, Challenge, Engine, Grant, How, Login, Polled, SignInError};
use mainstay::config::{AuthConfig, ServerConfig, Template};
use mainstay_testkit::authority::{Authority, Client, Guard, Protected, Script, visit};
use mainstay_testkit::http_server;

#[path = "oauth/attacks.rs"]
mod attacks;
#[path = "oauth/bad_input.rs"]
mod bad_input;
#[path = "oauth/grants.rs"]
mod grants;

pub(crate) const BACK: &str = "http://127.0.0.1:4711/callback";

/// An authorization server, a server that wants its tokens, and what is asked of the engine.
pub(crate) struct Stage {
    pub(crate) authority: Authority,
    pub(crate) protected: Protected,
    pub(crate) ask: Ask,
}

impl Stage {
    pub(crate) async fn new(script: Script, guard: Guard) -> Self {
        let authority = Authority::start(script).await.expect("a free port");
        Self::with(authority, guard).await
    }

    pub(crate) async fn with(authority: Authority, guard: Guard) -> Self {
        let scopes = guard.scopes.clone();
        let protected = Protected::start(&authority, guard, http_server::Script::modern())
            .await
            .expect("a free port");
        let url = protected.url();
        let origin = url.trim_end_matches("/mcp").to_owned();
        let challenge = Challenge {
            resource_metadata: Some(
                format!("{origin}/.well-known/oauth-protected-resource/mcp").into(),
            ),
            scopes: scopes.into_iter().collect(),
            ..Challenge::default()
        };
        let server = ServerConfig::http("notes", url.as_str())
            .header("X-Api-Key", "configured-s3cret")
            .header("Cookie", "configured-s3cret");
        let ask = Ask {
            server: Arc::new(server),
            resource: url.into(),
            principal: None,
            challenge: Some(challenge),
            scopes_before: [].into(),
            how: How::Browser,
            redirect_uri: Some(BACK.into()),
            subject: None,
        };
        Self {
            authority,
            protected,
            ask,
        }
    }

    pub(crate) async fn usual() -> Self {
        Self::new(Script::default(), Guard::default()).await
    }

    /// Changes what the entry says about signing in.
    pub(crate) fn auth(&mut self, change: impl FnOnce(&mut AuthConfig)) {
        let mut server = ServerConfig::clone(&self.ask.server);
        change(&mut server.auth);
        self.ask.server = Arc::new(server);
    }

    /// The same, as it stands in a file.
    pub(crate) fn entry(&mut self, auth: &serde_json::Value) {
        let entry = serde_json::json!({"mcpServers": {"notes": {"url": &*self.ask.resource, "auth": auth}}});
        let loaded = mainstay::config::Config::parse(&entry.to_string(), "mcp.json".as_ref());
        let loaded = loaded.expect("a config");
        assert!(!loaded.has_errors(), "{entry}: {:?}", loaded.problems);
        let server = loaded.config.servers.into_iter().next();
        self.ask.server = Arc::new(server.expect("one server"));
    }

    pub(crate) async fn begin(&self) -> Result<Login, SignInError> {
        RmcpEngine::new().begin(&self.ask).await
    }

    pub(crate) async fn finish(&self, login: &Login, url: &str) -> Result<Grant, SignInError> {
        RmcpEngine::new().finish(&self.ask, login, url).await
    }

    /// What a person with a browser does: from the address to the one that the browser is sent back to.
    pub(crate) async fn consent(&self, login: &Login) -> String {
        let page = visit(&login.url).await.expect("a page");
        let back = page.location.clone().unwrap_or_else(|| panic!("{page:?}"));
        assert!(back.starts_with(BACK), "{back}");
        back
    }

    pub(crate) async fn sign_in(&self) -> Result<Grant, SignInError> {
        let login = self.begin().await?;
        let back = self.consent(&login).await;
        self.finish(&login, &back).await
    }

    pub(crate) async fn obtain(&self) -> Result<Grant, SignInError> {
        let granted = RmcpEngine::new().obtain(&self.ask).await?;
        Ok(granted.expect("no person is needed"))
    }

    /// Whether the server lets a token in.
    pub(crate) fn admits(&self, grant: &Grant) -> Result<String, &'static str> {
        let authorization = format!("Bearer {}", grant.tokens.access.expose());
        self.protected.admits(
            &authorization,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
        )
    }

    /// The last token request.
    pub(crate) fn last_form(&self) -> BTreeMap<String, String> {
        let requests = self.authority.ledger().token_requests();
        requests.last().expect("a token request").form.clone()
    }
}

/// A default with something changed.
pub(crate) fn changed<T: Default>(change: impl FnOnce(&mut T)) -> T {
    let mut value = T::default();
    change(&mut value);
    value
}

pub(crate) fn secret_client(secret: &str) -> Client {
    Client {
        secret: Some(secret.to_owned()),
        redirect_uris: vec![BACK.to_owned()],
        ..Client::default()
    }
}

/// The parameters of an address.
pub(crate) fn query(url: &str) -> BTreeMap<String, String> {
    let url = url::Url::parse(url).expect("a URL");
    url.query_pairs().into_owned().collect()
}

#[tokio::test]
async fn a_person_signs_in_and_the_next_pair_comes_without_one() {
    let guard = changed(|guard: &mut Guard| guard.scopes = vec!["read".to_owned()]);
    let stage = Stage::new(Script::default(), guard).await;
    let login = stage.begin().await.expect("begun");
    let asked = query(&login.url);
    assert_eq!(asked["resource"], *stage.ask.resource);
    assert_eq!(asked["scope"], "read");
    assert_eq!(asked["code_challenge_method"], "S256");
    let back = stage.consent(&login).await;
    let grant = stage.finish(&login, &back).await.expect("granted");
    assert_eq!(*grant.key.issuer, stage.authority.issuer());
    assert_eq!(grant.key.resource, stage.ask.resource);
    assert!(grant.by_human);
    assert_eq!(stage.admits(&grant), Ok("ada".to_owned()));
    assert_eq!(stage.last_form()["resource"], *stage.ask.resource);
    let engine = RmcpEngine::new();
    let next = engine.refresh(&stage.ask, &grant).await.expect("refreshed");
    assert_ne!(next.access, grant.tokens.access);
    assert!(next.refresh.is_some());
    assert_eq!(stage.last_form()["resource"], *stage.ask.resource);
    let counts = stage.authority.ledger().counts();
    assert_eq!(
        (counts.refreshes, counts.reuses, counts.registrations),
        (1, 0, 1)
    );
    engine
        .revoke(
            &stage.ask,
            &Grant {
                tokens: next,
                ..grant
            },
        )
        .await
        .expect("revoked");
    assert!(!stage.authority.families()[0].alive);
}

#[tokio::test]
async fn each_way_of_being_known_to_an_issuer_has_its_turn() {
    let document = "https://mainstay.example/client.json";
    // By hand comes first, whatever else there is.
    let mut stage = Stage::usual().await;
    stage
        .authority
        .register("by-hand", secret_client("hand-s3cret-1"));
    stage.auth(|auth| {
        auth.client_id = Some(Template::new("by-hand"));
        auth.client_secret = Some(Template::new("hand-s3cret-1"));
        auth.client_metadata_url = Some(Template::new(document));
    });
    let grant = stage.sign_in().await.expect("granted");
    assert_eq!(&*grant.client.id, "by-hand");
    assert_eq!(
        grant.client.secret, None,
        "what the entry says is not kept a second time"
    );
    let refreshed = RmcpEngine::new().refresh(&stage.ask, &grant).await;
    assert!(refreshed.is_ok(), "{refreshed:?}");
    // Then the document, where the issuer takes one.
    stage.auth(|auth| (auth.client_id, auth.client_secret) = (None, None));
    stage.authority.change(|script| {
        let metadata = serde_json::json!({"client_id": document, "redirect_uris": [BACK]});
        script.documents.insert(document.to_owned(), metadata);
    });
    let grant = stage.sign_in().await.expect("granted");
    assert_eq!(&*grant.client.id, document);
    assert_eq!(stage.authority.ledger().counts().registrations, 0);
    // Then registration, with a secret where the issuer insists on one, which the grant keeps for the refreshes.
    stage.authority.change(|script| {
        script.client_documents = false;
        let methods = serde_json::json!(["client_secret_post"]);
        let member = "token_endpoint_auth_methods_supported".to_owned();
        script.metadata.insert(member, methods);
    });
    let grant = stage.sign_in().await.expect("granted");
    assert!(grant.client.secret.is_some());
    let next = RmcpEngine::new().refresh(&stage.ask, &grant).await;
    assert!(next.is_ok(), "{next:?}");
    assert!(stage.last_form().contains_key("client_secret"));
    // And if nothing is left, a person is told what to do.
    stage.authority.change(|script| script.registration = false);
    let error = stage.begin().await.expect_err("no client").to_string();
    assert!(
        error.contains("`notes`") && error.contains("`clientId`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_step_up_asks_for_what_was_asked_before_and_more() {
    let scopes = ["read", "write", "offline_access"].map(str::to_owned);
    let script = changed(|script: &mut Script| script.scopes = Some(scopes.to_vec()));
    let guard = changed(|guard: &mut Guard| guard.scopes = vec!["read".to_owned()]);
    let mut stage = Stage::new(script, guard).await;
    let grant = stage.sign_in().await.expect("granted");
    assert!(
        grant.requested_scopes.contains("offline_access"),
        "the issuer lists it"
    );
    stage.ask.scopes_before = grant.requested_scopes.clone();
    if let Some(challenge) = &mut stage.ask.challenge {
        challenge.scopes = ["write".to_owned()].into();
        challenge.error = Some("insufficient_scope".into());
    }
    let login = stage.begin().await.expect("begun");
    assert_eq!(query(&login.url)["scope"], "offline_access read write");
}

#[tokio::test]
async fn what_is_granted_at_one_issuer_is_never_shown_to_another() {
    let mut stage = Stage::usual().await;
    let first = stage.sign_in().await.expect("granted");
    let other = Authority::start(Script::default()).await.expect("a port");
    let issuer = other.issuer();
    stage
        .protected
        .change(|guard| guard.servers_told = Some(vec![issuer.clone()]));
    stage.ask.scopes_before = first.requested_scopes.clone();
    let second = stage.sign_in().await.expect("granted anew");
    assert_eq!(*second.key.issuer, *issuer);
    assert_ne!(second.client.id, first.client.id);
    assert_eq!(other.ledger().counts().registrations, 1);
    let shown = other.ledger().token_requests();
    assert!(
        shown
            .iter()
            .all(|request| request.client_id != *first.client.id)
    );
    // An entry that accepts one issuer follows the server nowhere else.
    let pinned = stage.authority.issuer();
    stage.auth(|auth| auth.issuer = Some(Template::new(pinned.clone())));
    let error = stage.begin().await.expect_err("another issuer").to_string();
    assert!(
        error.contains(&issuer) && error.contains(&pinned),
        "{error}"
    );
    assert_eq!(other.ledger().counts().registrations, 1);
}

#[tokio::test]
async fn a_device_code_is_asked_about_until_the_person_is_done() {
    let script = changed(|script: &mut Script| script.device_polls = 2);
    let mut stage = Stage::new(script, Guard::default()).await;
    stage.ask.how = How::Device;
    stage.ask.redirect_uri = None;
    let login = stage.begin().await.expect("begun");
    assert_eq!(login.user_code.as_deref(), Some("WDJB-MJHT"));
    assert!(login.url.starts_with("http") && login.poll_ms == Some(1_000));
    let engine = RmcpEngine::new();
    for _ in 0..2 {
        let polled = engine.poll(&stage.ask, &login).await.expect("not over");
        assert!(
            matches!(polled, Polled::Pending { wait_ms: 1_000 }),
            "{polled:?}"
        );
    }
    let polled = engine.poll(&stage.ask, &login).await.expect("done");
    let Polled::Granted(grant) = polled else {
        panic!("{polled:?}");
    };
    assert_eq!(stage.admits(&grant), Ok("ada".to_owned()));
    assert!(grant.tokens.refresh.is_some());
}
