//! A person signs in with a browser: the authorization code grant with PKCE.
//!
//! The callback is an attacker's favourite door. It is read in this order, and what comes later is not looked at before what
//! comes earlier is right: `state` (forged, of another login), `iss` (another authorization server, RFC 9207), whether the login
//! was used before (replay), and only then an error or a code. Nothing here opens a browser or a port.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rmcp::transport::auth::{AuthError, OAuthClientConfig, StateStore, StoredAuthorizationState};
use url::Url;

use super::discovery::Found;
use super::endpoint::{self, unix_ms};
use super::engine::{Login, SignInError, Step};
use super::grant::{ClientAuth, ClientIdentity, ClientSource, Grant, Secret};
use super::http::{self, shown};
use super::registration;
use super::rmcp::{Issuer, Setup, protects_codes};
use crate::secrets;

/// How long a person may take, in milliseconds.
const LOGIN_MS_MAX: u64 = 10 * 60 * 1_000;

/// Longest callback that is read, in bytes.
const CALLBACK_BYTES_MAX: usize = 16 * 1024;

/// What a login in a browser needs to be ended.
struct Notes {
    state: Secret,
    verifier: Secret,
    redirect_uri: String,
    issuer: Issuer,
    /// The issuer as it will name itself in the callback; `None` where it has no metadata to compare with.
    names_itself: Option<String>,
    /// It said that it always names itself.
    must_name_itself: bool,
    client: ClientIdentity,
    used: AtomicBool,
}

/// Keeps what rmcp wants to find again, for the one authorization request that is made.
#[derive(Default, Clone)]
struct Kept(Arc<Mutex<Option<(String, StoredAuthorizationState)>>>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

#[async_trait]
impl StateStore for Kept {
    async fn save(&self, state: &str, stored: StoredAuthorizationState) -> Result<(), AuthError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some((state.to_owned(), stored));
        Ok(())
    }

    async fn load(&self, _: &str) -> Result<Option<StoredAuthorizationState>, AuthError> {
        Ok(None)
    }

    async fn delete(&self, _: &str) -> Result<(), AuthError> {
        Ok(())
    }
}

/// Finds the authorization server, makes us known there, and says where the person has to go.
pub(crate) async fn begin(setup: &Setup<'_>) -> Result<Login, SignInError> {
    let Some(redirect_uri) = setup.ask.redirect_uri.as_deref() else {
        let what = "there is no address to which the browser could come back";
        return Err(setup.error(Step::Authorization, what));
    };
    let mut found = setup.discover().await?;
    if !protects_codes(&found) {
        return Err(setup.search(None).without_pkce());
    }
    let scopes = setup.scopes(&found);
    let client = identity(setup, &found, redirect_uri).await?;
    let kept = Kept::default();
    let url = authorization_url(setup, &mut found, &client, redirect_uri, &scopes, &kept).await?;
    let stored = kept.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((state, stored)) = stored else {
        return Err(setup.error(Step::Authorization, "the request was not kept"));
    };
    for secret in [state.as_str(), stored.pkce_verifier.as_str()] {
        secrets::hide(secret);
    }
    let names_itself = found.metadata.issuer.clone();
    let notes = Notes {
        state: Secret::new(state.as_str()),
        verifier: Secret::new(stored.pkce_verifier),
        redirect_uri: redirect_uri.to_owned(),
        must_name_itself: found.says("authorization_response_iss_parameter_supported"),
        names_itself,
        issuer: Issuer::of(&found, scopes),
        client,
        used: AtomicBool::new(false),
    };
    Ok(Login {
        url: url.as_str().into(),
        user_code: None,
        state: Some(Secret::new(state)),
        expires_unix_ms: unix_ms().saturating_add(LOGIN_MS_MAX),
        poll_ms: None,
        notes: Box::new(notes) as Box<dyn Any + Send + Sync>,
    })
}

/// As which client: the one that the entry names, a metadata document, or one that we register now.
async fn identity(
    setup: &Setup<'_>,
    found: &Found,
    redirect_uri: &str,
) -> Result<ClientIdentity, SignInError> {
    if let Some(configured) = setup.configured(found)? {
        return Ok(configured);
    }
    if let Some(document) = document_of(setup, found)? {
        return Ok(document);
    }
    registration::register(setup, found, Some(redirect_uri)).await
}

/// The client that is its own metadata document, where the entry has one and the issuer takes it.
pub(crate) fn document_of(
    setup: &Setup<'_>,
    found: &Found,
) -> Result<Option<ClientIdentity>, SignInError> {
    let template = setup.auth.client_metadata_url.as_ref();
    let Some(id) = setup.given("clientMetadataUrl", template)? else {
        return Ok(None);
    };
    if !found.says("client_id_metadata_document_supported") {
        return Ok(None);
    }
    let fits = Url::parse(&id).is_ok_and(|url| url.scheme() == "https" && url.path() != "/");
    if !fits {
        return Err(setup
            .error(
                Step::Configuration,
                "`auth.clientMetadataUrl` cannot be a client id",
            )
            .expected("https:// with a host and a path"));
    }
    Ok(Some(ClientIdentity {
        id: id.into(),
        secret: None,
        auth: ClientAuth::None,
        source: ClientSource::MetadataDocument,
    }))
}

/// The address that the person has to visit.
async fn authorization_url(
    setup: &Setup<'_>,
    found: &mut Found,
    client: &ClientIdentity,
    redirect_uri: &str,
    scopes: &std::collections::BTreeSet<String>,
    kept: &Kept,
) -> Result<Url, SignInError> {
    let wrong = |what: String| setup.error(Step::Authorization, what);
    if let Some(types) = &found.metadata.response_types_supported
        && !types.iter().any(|one| one == "code")
    {
        let what = format!(
            "the authorization server answers only {}",
            shown(&types.join(", "))
        );
        return Err(wrong(what)
            .expected("`response_types_supported` with `code`")
            .remedy("choose another `grant` in the server's `auth`"));
    }
    found.manager.set_state_store(kept.clone());
    let config = OAuthClientConfig::new(&*client.id, redirect_uri);
    let of_rmcp = |error: AuthError| setup.search(None).of_rmcp(&error);
    found.manager.configure_client(config).map_err(of_rmcp)?;
    let words: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let url = found.manager.get_authorization_url(&words).await;
    let mut url = http::checked(&url.map_err(of_rmcp)?).map_err(|fault| wrong(fault.what))?;
    if scopes.contains("offline_access") {
        // OpenID Connect grants offline access only where the person is asked for consent.
        url.query_pairs_mut().append_pair("prompt", "consent");
    }
    Ok(url)
}

/// Ends a login with the address that the browser came back to.
pub(crate) async fn finish(
    setup: &Setup<'_>,
    login: &Login,
    callback: &str,
) -> Result<Grant, SignInError> {
    let Some(notes) = login.notes.downcast_ref::<Notes>() else {
        return Err(setup.error(Step::Callback, "this login is none of a browser"));
    };
    let code = code_of(setup, notes, callback)?;
    secrets::hide(&code);
    let client = setup.client(&notes.client, &notes.issuer.issuer)?;
    let parameters = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", notes.redirect_uri.as_str()),
        ("code_verifier", notes.verifier.expose()),
        ("resource", notes.issuer.resource.as_str()),
    ];
    let tokens = endpoint::tokens(
        &setup.http,
        &notes.issuer.token_endpoint,
        &client,
        &parameters,
    )
    .await
    .map_err(|refusal| {
        let error = refusal.of(setup.server(), Step::Token);
        match error.remedy.as_str() {
            "" => error.remedy("sign in again: a code is good once and for a moment"),
            _ => error,
        }
    })?;
    Ok(setup.grant(&notes.issuer, notes.client.clone(), tokens))
}

/// What a callback says.
#[derive(Default)]
struct Callback {
    state: Option<String>,
    issuer: Option<String>,
    code: Option<String>,
    error: Option<String>,
    description: Option<String>,
    /// A parameter that occurs twice means nothing.
    twice: bool,
}

impl Callback {
    fn read(url: &Url) -> Self {
        let mut callback = Self::default();
        for (name, value) in url.query_pairs() {
            let place = match name.as_ref() {
                "state" => &mut callback.state,
                "iss" => &mut callback.issuer,
                "code" => &mut callback.code,
                "error" => &mut callback.error,
                "error_description" => &mut callback.description,
                // Whatever else an authorization server adds is not for us.
                _ => continue,
            };
            callback.twice |= place.is_some();
            *place = Some(value.into_owned());
        }
        callback
    }
}

/// The code of a callback that is provably the answer to this login.
fn code_of(setup: &Setup<'_>, notes: &Notes, text: &str) -> Result<String, SignInError> {
    let wrong = |what: &str| setup.error(Step::Callback, what);
    let again = "sign in again, from the beginning";
    let text = text.trim();
    if text.len() > CALLBACK_BYTES_MAX {
        return Err(wrong("the address is too long").remedy(again));
    }
    let url = Url::parse(text).map_err(|_| {
        wrong("this is not an address")
            .expected("the whole address that the browser shows at the end, beginning with http")
    })?;
    let callback = Callback::read(&url);
    if callback.twice {
        return Err(wrong("a parameter occurs twice").remedy(again));
    }
    let Some(state) = &callback.state else {
        return Err(wrong("the address has no `state`")
            .expected("the whole address that the browser shows at the end")
            .remedy(again));
    };
    if Secret::new(state.as_str()) != notes.state {
        return Err(wrong("its `state` belongs to another login, or to nobody's").remedy(again));
    }
    check_issuer(setup, notes, callback.issuer.as_deref())?;
    if notes.used.swap(true, Ordering::AcqRel) {
        return Err(wrong("this login was ended before, and a code is good once").remedy(again));
    }
    if let Some(error) = &callback.error {
        let described = callback.description.as_deref();
        let described = described.map_or(String::new(), |text| format!(" ({})", shown(text)));
        let what = format!(
            "the authorization server said `{}`{described}",
            shown(error)
        );
        return Err(setup
            .error(Step::Authorization, what)
            .remedy(remedy_of(error)));
    }
    callback
        .code
        .filter(|code| !code.is_empty())
        .ok_or_else(|| wrong("the address has no `code`").remedy(again))
}

/// Whether it is the authorization server we went to that answers (RFC 9207): compared as it is spelled.
fn check_issuer(
    setup: &Setup<'_>,
    notes: &Notes,
    received: Option<&str>,
) -> Result<(), SignInError> {
    let wrong = |what: String| {
        let remedy = "nothing was sent anywhere; if it happens again, somebody may be posing as the authorization server";
        setup.error(Step::Callback, what).remedy(remedy)
    };
    let expected = notes
        .names_itself
        .as_deref()
        .unwrap_or(&notes.issuer.issuer);
    match received {
        Some(received) if received == expected => Ok(()),
        Some(received) => Err(
            wrong(format!("the answer comes from `{}`", shown(received)))
                .expected(format!("`iss` to be `{}`", shown(expected))),
        ),
        None if notes.must_name_itself => Err(wrong(
            "the answer does not say who it comes from".to_owned(),
        )
        .expected(format!("`iss` to be `{}`", shown(expected)))),
        None => Ok(()),
    }
}

fn remedy_of(error: &str) -> &'static str {
    match error {
        "access_denied" => "sign in again and allow it, or ask somebody who may",
        "invalid_scope" => "check `scopes` in the server's `auth`",
        "unauthorized_client" | "invalid_client" => "check `clientId` in the server's `auth`",
        "temporarily_unavailable" | "server_error" => "try again later",
        _ => "",
    }
}
