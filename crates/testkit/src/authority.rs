//! A real authorization server on a real socket, and MCP servers that want its tokens: the oracle of everything about
//! signing in.
//!
//! It keeps strict books: refresh tokens rotate, the reuse of a spent one revokes its family, codes are good once, tokens
//! are for one resource. It fails on request ([`Fault`]) and its [`Ledger`] tells what happened. It must not use the code
//! under test.

mod authorize;
mod books;
mod client;
mod http;
mod keys;
mod ledger;
mod protected;
mod register;
mod script;
mod serving;
mod state;
#[cfg(test)]
mod tests;
mod token;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

pub use self::books::{Client, Family};
pub use self::ledger::{Counts, Ledger, Outcome, TokenRequest};
pub use self::protected::{Entries, Protected};
pub use self::script::{At, Consent, Fault, Guard, MetadataAt, RefreshReply, Script};
use self::serving::Serving;
use self::state::State;

/// How long the browser of a test waits for one page.
const BROWSE: Duration = Duration::from_secs(30);

/// Redirects that it follows.
const REDIRECTS_MAX: usize = 10;

const FORM: &str = "application/x-www-form-urlencoded";

/// A running (or stopped) authorization server. Dropping it ends every connection.
#[derive(Debug)]
pub struct Authority {
    state: Arc<State>,
    serving: Serving,
}

impl Authority {
    /// Starts one on a free loopback port, with its origin as the issuer.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(script: Script) -> io::Result<Self> {
        Self::start_with_path("", script).await
    }

    /// The same with a path in its issuer, such as `/tenant`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start_with_path(path: &str, script: Script) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(address).await?;
        let base = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(State::new(base, path, script));
        let serving = Serving::start(listener, {
            let state = Arc::clone(&state);
            move |request| http::serve(Arc::clone(&state), request)
        })?;
        Ok(Self { state, serving })
    }

    pub(self) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// The issuer.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.state.issuer()
    }

    /// An endpoint of it: `token`, `jwks`, `authorize`, `register`.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> String {
        format!("{}/{name}", self.state.base())
    }

    /// What happened so far.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.state.ledger
    }

    /// Changes the script; applies from the next request on.
    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.state.script());
    }

    /// The next request of this kind meets the fault.
    pub fn next(&self, at: At, fault: Fault) {
        self.state.script().next(at, fault);
    }

    /// Registers a client beforehand.
    pub fn register(&self, id: &str, client: Client) {
        self.state.books().clients.insert(id.to_owned(), client);
    }

    /// Accepts assertions and subject tokens that another server signed.
    pub fn trust(&self, other: &Authority) {
        self.state.trust(Arc::clone(&other.state));
    }

    /// All grants so far, the oldest first.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        self.state.books().families.values().cloned().collect()
    }

    /// Issues tokens without a browser, as if a person had signed in to this client: `(access, refresh)`.
    #[must_use]
    pub fn grant(&self, client_id: &str, resource: &str, scopes: &[&str]) -> (String, String) {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let (subject, access_ms, refresh_ms) = {
            let script = self.state.script();
            (script.subject.clone(), script.access_ms, script.refresh_ms)
        };
        let now = self.state.now_unix_ms();
        let mut books = self.state.books();
        let family = books.family(
            &subject,
            client_id,
            Some(resource.to_owned()),
            scopes.clone(),
        );
        let refresh = books.new_refresh(family, now + refresh_ms);
        drop(books);
        let claims = json!({
            "sub": subject, "client_id": client_id, "aud": resource, "scope": scopes.join(" "),
        });
        let access = self
            .state
            .access_token(&claims, now + access_ms, Some(family));
        (access, refresh)
    }

    /// Revokes a grant with all its tokens, as its owner or an administrator would.
    pub fn revoke(&self, family: u64) {
        let lived = self.state.books().revoke(family);
        self.state
            .ledger
            .count(|counts| counts.revocations += u64::from(lived));
    }

    /// Every access token issued so far is refused from now on; refresh tokens stay good.
    pub fn expire_access_tokens(&self) {
        for access in self.state.books().access.values_mut() {
            access.expires_unix_ms = 0;
        }
    }

    /// Whether an access token is good now; why not, otherwise.
    ///
    /// # Errors
    /// Why it is not good: `expired`, `revoked`, `not signed here`, `of another issuer`.
    pub fn check(&self, token: &str) -> Result<Value, &'static str> {
        self.state.check(token)
    }

    /// A token with these claims, signed by this server; `header` adds to and replaces members of the header.
    #[must_use]
    pub fn mint(&self, header: &Value, claims: &Value) -> String {
        self.state.sign(header, claims)
    }

    /// A good token of this subject for this audience with these further claims, for five minutes.
    #[must_use]
    pub fn token_for(&self, subject: &str, audience: &str, more: &Value) -> String {
        let now = self.state.now_unix_ms() / 1000;
        let mut claims = json!({
            "iss": self.issuer(), "sub": subject, "aud": audience, "iat": now, "exp": now + 300,
        });
        if let (Some(claims), Some(more)) = (claims.as_object_mut(), more.as_object()) {
            claims.extend(more.clone());
        }
        self.mint(&json!({}), &claims)
    }

    /// Signs with a new key from now on; the old keys stay in the key set if `keep`.
    pub fn rotate_keys(&self, keep: bool) {
        self.state.keys().rotate(keep);
    }

    /// Lets every held answer go.
    pub fn release(&self) {
        self.state.released.notify_waiters();
    }

    /// Stops listening and cuts every connection. Books and ledger stay.
    pub async fn stop(&mut self) {
        self.serving.stop().await;
    }

    /// Listens again on the same port.
    ///
    /// # Errors
    /// When the port was taken by somebody else meanwhile.
    pub async fn start_again(&mut self) -> io::Result<()> {
        self.serving.start_again().await
    }
}

/// What a page answered.
#[derive(Debug, Clone)]
pub struct Page {
    /// The address that was asked.
    pub url: String,
    /// Its HTTP status.
    pub status: u16,
    /// Where it sends the browser, if it does.
    pub location: Option<String>,
    /// Its body.
    pub body: String,
}

/// Opens one page as a browser would, redirects not followed.
///
/// # Errors
/// When the page cannot be reached, or does not answer within half a minute.
pub async fn visit(url: &str) -> io::Result<Page> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the page does not answer");
    let asking = fetch(url, None);
    tokio::time::timeout(BROWSE, asking).await.map_err(late)?
}

/// Sends a form, as a client (or a thief) without any library would.
///
/// # Errors
/// When the address cannot be reached, or does not answer within half a minute.
pub async fn post(url: &str, form: &[(&str, &str)]) -> io::Result<Page> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the address does not answer");
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let asking = fetch(url, Some(form));
    tokio::time::timeout(BROWSE, asking).await.map_err(late)?
}

/// Signs in as a person with a browser would: opens the address and follows redirects to the last page.
///
/// # Errors
/// When a page cannot be reached, or redirects never end.
pub async fn browse(url: &str) -> io::Result<Page> {
    let mut page = visit(url).await?;
    for _ in 0..REDIRECTS_MAX {
        let Some(location) = page.location.clone() else {
            return Ok(page);
        };
        page = visit(&location).await?;
    }
    Err(io::Error::other("redirects do not end"))
}

async fn fetch(url: &str, form: Option<String>) -> io::Result<Page> {
    let uri: Uri = url.parse().map_err(io::Error::other)?;
    let authority = uri.authority().map(|authority| authority.as_str());
    let authority = authority.ok_or_else(|| io::Error::other("no host"))?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let request = match &form {
        Some(_) => Request::post(target).header("content-type", FORM),
        None => Request::get(target),
    };
    let request = request
        .header("host", authority)
        .body(axum::body::Body::from(form.unwrap_or_default()))
        .map_err(io::Error::other)?;
    let asking = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let location = response.headers().get("location");
        let location = location
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = axum::body::Body::new(response.into_body());
        let body = axum::body::to_bytes(body, 1024 * 1024)
            .await
            .map_err(io::Error::other)?;
        Ok(Page {
            url: url.to_owned(),
            status,
            location,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    };
    tokio::pin!(asking);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // Cancel-safe: pinned; the connection is only driven for it.
        page = &mut asking => page,
        // Cancel-safe: pinned; a connection that is over has handed on all that it read.
        _over = &mut connection => asking.await,
    }
}
