//! The engine that speaks OAuth, with rmcp's authorization client where that is the better engine: discovery, scopes, the
//! authorization request with PKCE, and enterprise-managed authorization.
//!
//! It holds no tokens and decides nothing about them: it carries out one step and says what happened. Nothing here opens a
//! browser or a port, and nothing is remembered between two steps but what a [`Login`] carries.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use rmcp::transport::auth::AuthorizationMetadataSource;
use url::Url;

use super::assertion::SigningKey;
use super::discovery::{Found, Search};
use super::endpoint::{self, Client, Refusal};
use super::engine::{Ask, Engine, How, Login, Polled, SignInError, Step, TokenError};
use super::grant::{ClientAuth, ClientIdentity, ClientSource, Grant, GrantKey, Secret, Tokens};
use super::http::OauthHttp;
use super::{browser, device, enterprise, exchange};
use crate::config::{AuthConfig, GrantType, Template};
use crate::secrets;
use crate::settings::SigningIn;

/// The engine. Has no state; one serves everybody.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct RmcpEngine;

impl RmcpEngine {
    /// The engine.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Engine for RmcpEngine {
    fn refresh<'a>(
        &'a self,
        ask: &'a Ask,
        grant: &'a Grant,
    ) -> BoxFuture<'a, Result<Tokens, TokenError>> {
        Box::pin(refresh(ask, grant))
    }

    fn obtain<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Option<Grant>, SignInError>> {
        Box::pin(async move {
            let setup = Setup::new(ask).await?;
            match setup.auth.grant {
                GrantType::Browser | GrantType::Device => Ok(None),
                GrantType::ClientCredentials => client_credentials(&setup).await.map(Some),
                GrantType::Enterprise => enterprise::obtain(&setup).await.map(Some),
                GrantType::Exchange => exchange::obtain(&setup).await.map(Some),
            }
        })
    }

    fn begin<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Login, SignInError>> {
        Box::pin(async move {
            let setup = Setup::new(ask).await?;
            match ask.how {
                How::Browser => browser::begin(&setup).await,
                How::Device => device::begin(&setup).await,
            }
        })
    }

    fn finish<'a>(
        &'a self,
        ask: &'a Ask,
        login: &'a Login,
        callback_url: &'a str,
    ) -> BoxFuture<'a, Result<Grant, SignInError>> {
        Box::pin(async move { browser::finish(&Setup::new(ask).await?, login, callback_url).await })
    }

    fn poll<'a>(
        &'a self,
        ask: &'a Ask,
        login: &'a Login,
    ) -> BoxFuture<'a, Result<Polled, SignInError>> {
        Box::pin(async move { device::poll(&Setup::new(ask).await?, login).await })
    }

    fn revoke<'a>(
        &'a self,
        ask: &'a Ask,
        grant: &'a Grant,
    ) -> BoxFuture<'a, Result<(), SignInError>> {
        Box::pin(revoke(ask, grant))
    }
}

/// One ask, with what its entry says resolved.
pub(crate) struct Setup<'a> {
    pub(crate) ask: &'a Ask,
    pub(crate) auth: &'a AuthConfig,
    pub(crate) http: Arc<OauthHttp>,
    url: Url,
    values: SigningIn,
}

impl<'a> Setup<'a> {
    pub(crate) async fn new(ask: &'a Ask) -> Result<Self, SignInError> {
        Self::looked_up(ask, false).await
    }

    async fn looked_up(ask: &'a Ask, anew: bool) -> Result<Self, SignInError> {
        let wrong = |what: String| SignInError::new(&*ask.server.name, Step::Configuration, what);
        let auth = &ask.server.auth;
        let url = super::http::checked(&ask.resource).map_err(|fault| wrong(fault.what))?;
        let values = SigningIn::look_up(&ask.server, anew)
            .await
            .map_err(|failure| wrong(failure.to_string()).remedy(failure.kind.hint()))?;
        let route = values.route.clone();
        let http = OauthHttp::new(url.clone(), route, auth.allow_private_addresses);
        Ok(Self {
            ask,
            auth,
            http: Arc::new(http),
            url,
            values,
        })
    }

    pub(crate) fn server(&self) -> &str {
        &self.ask.server.name
    }

    pub(crate) fn error(&self, step: Step, what: impl Into<String>) -> SignInError {
        SignInError::new(self.server(), step, what)
    }

    /// The value of a template of `auth`, at the moment of use (law 31).
    pub(crate) fn value(&self, key: &str, template: &Template) -> Result<String, SignInError> {
        self.values.value(template).map_err(|failure| {
            self.error(Step::Configuration, format!("`auth.{key}`: {failure}"))
                .remedy("set it, or change the entry")
        })
    }

    pub(crate) fn given(
        &self,
        key: &str,
        template: Option<&Template>,
    ) -> Result<Option<String>, SignInError> {
        template
            .map(|template| self.value(key, template))
            .transpose()
    }

    /// A value that is hidden from then on.
    pub(crate) fn secret(
        &self,
        key: &str,
        template: Option<&Template>,
    ) -> Result<Option<Secret>, SignInError> {
        let value = self.given(key, template)?;
        Ok(value.map(|value| {
            let value = value.trim_end_matches(['\r', '\n']);
            secrets::hide(value);
            Secret::new(value)
        }))
    }

    /// The private key of `auth`, read.
    pub(crate) fn key(&self) -> Result<Option<SigningKey>, SignInError> {
        let Some(pem) = self.secret("privateKey", self.auth.private_key.as_ref())? else {
            return Ok(None);
        };
        let id = self.given("keyId", self.auth.key_id.as_ref())?;
        let key = SigningKey::read(pem.expose(), self.auth.algorithm, id);
        key.map(Some)
            .map_err(|why| self.error(Step::Configuration, why))
    }

    /// Finds the authorization server.
    pub(crate) async fn discover(&self) -> Result<Found, SignInError> {
        let issuer = self.given("issuer", self.auth.issuer.as_ref())?;
        self.search(issuer.as_deref()).run().await
    }

    pub(crate) fn search<'s>(&'s self, issuer: Option<&'s str>) -> Search<'s> {
        Search {
            server: self.server(),
            resource: &self.url,
            challenge: self.ask.challenge.as_ref(),
            issuer,
            http: &self.http,
        }
    }

    /// What is asked for: what the entry says, else what the server wants; together with what was asked for before, so that a
    /// step up never loses anything; `offline_access` only where the issuer lists it.
    pub(crate) fn scopes(&self, found: &Found) -> BTreeSet<String> {
        let mut scopes = match &self.auth.scopes {
            None => found.scopes.clone(),
            Some(configured) => {
                let mut scopes: BTreeSet<String> = configured.iter().cloned().collect();
                if found.scopes.contains(OFFLINE) {
                    scopes.insert(OFFLINE.to_owned());
                }
                if let Some(challenge) = &self.ask.challenge
                    && challenge.wants_more()
                {
                    scopes.extend(challenge.scopes.iter().cloned());
                }
                scopes
            }
        };
        scopes.extend(self.ask.scopes_before.iter().cloned());
        scopes
    }

    /// The client that the entry names, at this issuer.
    pub(crate) fn configured(&self, found: &Found) -> Result<Option<ClientIdentity>, SignInError> {
        let Some(id) = self.given("clientId", self.auth.client_id.as_ref())? else {
            return Ok(None);
        };
        Ok(Some(ClientIdentity {
            id: id.into(),
            secret: None,
            auth: self.configured_auth(found)?,
            source: ClientSource::Configured,
        }))
    }

    /// How the client of the entry proves itself: with what it has, in a way that the issuer takes.
    fn configured_auth(&self, found: &Found) -> Result<ClientAuth, SignInError> {
        const METHODS: &str = "token_endpoint_auth_methods_supported";
        let methods = found.words(METHODS);
        let takes = |method: &str| methods.as_ref().is_none_or(|list| list.contains(&method));
        if self.auth.private_key.is_some() {
            return match takes("private_key_jwt") {
                true => Ok(ClientAuth::PrivateKey),
                false => Err(self.untaken("a private key", methods.as_deref())),
            };
        }
        if self.auth.client_secret.is_none() {
            return Ok(ClientAuth::None);
        }
        if takes("client_secret_basic") {
            Ok(ClientAuth::SecretBasic)
        } else if takes("client_secret_post") {
            Ok(ClientAuth::SecretPost)
        } else {
            Err(self.untaken("a secret", methods.as_deref()))
        }
    }

    fn untaken(&self, what: &str, methods: Option<&[&str]>) -> SignInError {
        let methods = super::http::shown(&methods.unwrap_or_default().join(", "));
        let said =
            format!("the authorization server does not take {what} from clients, only {methods}");
        self.error(Step::Configuration, said)
            .remedy("change what proves the client in the server's `auth`")
    }

    /// A client with what proves it, for the moment of use.
    pub(crate) fn client(
        &self,
        identity: &ClientIdentity,
        issuer: &str,
    ) -> Result<Client, SignInError> {
        let is_configured = identity.source == ClientSource::Configured;
        let secret = match identity.auth {
            ClientAuth::SecretBasic | ClientAuth::SecretPost if is_configured => {
                self.secret("clientSecret", self.auth.client_secret.as_ref())?
            }
            ClientAuth::SecretBasic | ClientAuth::SecretPost => identity.secret.clone(),
            ClientAuth::None | ClientAuth::PrivateKey => None,
        };
        let key = match identity.auth {
            ClientAuth::PrivateKey => self.key()?,
            ClientAuth::None | ClientAuth::SecretBasic | ClientAuth::SecretPost => None,
        };
        Ok(Client {
            id: identity.id.to_string(),
            auth: identity.auth,
            secret,
            key,
            audience: issuer.to_owned(),
        })
    }

    /// What was obtained, with everything that it takes to go on.
    pub(crate) fn grant(&self, found: &Issuer, client: ClientIdentity, tokens: Tokens) -> Grant {
        Grant {
            key: GrantKey {
                issuer: found.issuer.as_str().into(),
                client_id: client.id.clone(),
                principal: self.ask.principal.clone(),
                resource: self.ask.resource.clone(),
            },
            granted_unix_ms: tokens.received_unix_ms,
            tokens: self.complete(tokens, &found.scopes),
            client,
            token_endpoint: found.token_endpoint.as_str().into(),
            resource_indicator: (*found.resource != *self.ask.resource)
                .then(|| found.resource.as_str().into()),
            revocation_endpoint: found.revocation_endpoint.as_deref().map(Into::into),
            requested_scopes: found.scopes.clone(),
            by_human: self.auth.needs_a_person(),
        }
    }

    /// A reply without scopes grants what was asked for (RFC 6749, section 5.1).
    fn complete(&self, mut tokens: Tokens, requested: &BTreeSet<String>) -> Tokens {
        if tokens.scopes.is_empty() {
            tokens.scopes.clone_from(requested);
        }
        tokens
    }
}

/// The scope that asks for a refresh token.
const OFFLINE: &str = "offline_access";

/// What of an issuer is needed after discovery.
#[derive(Debug, Clone)]
pub(crate) struct Issuer {
    pub(crate) issuer: String,
    pub(crate) resource: String,
    pub(crate) token_endpoint: String,
    pub(crate) revocation_endpoint: Option<String>,
    /// What is asked for.
    pub(crate) scopes: BTreeSet<String>,
}

impl Issuer {
    pub(crate) fn of(found: &Found, scopes: BTreeSet<String>) -> Self {
        Self {
            issuer: found.issuer.clone(),
            resource: found.resource.clone(),
            token_endpoint: found.metadata.token_endpoint.clone(),
            revocation_endpoint: found.text("revocation_endpoint").map(str::to_owned),
            scopes,
        }
    }

    /// The scopes as a parameter, if there are any.
    pub(crate) fn scope(&self) -> Option<String> {
        let words: Vec<&str> = self.scopes.iter().map(String::as_str).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

/// Whether the issuer may be used with a browser: it protects codes with PKCE and S256. One that publishes metadata for a
/// protected resource has to say so; those of 2025-03-26 did not have to.
pub(crate) fn protects_codes(found: &Found) -> bool {
    match &found.metadata.code_challenge_methods_supported {
        Some(methods) => methods.iter().any(|method| method == "S256"),
        None => found.source != AuthorizationMetadataSource::ProtectedResourceMetadata,
    }
}

/// A program's own grant: its secret or its signature is all it takes.
async fn client_credentials(setup: &Setup<'_>) -> Result<Grant, SignInError> {
    let found = setup.discover().await?;
    let identity = setup
        .configured(&found)?
        .ok_or_else(|| setup.error(Step::Configuration, "`auth.clientId` is missing"))?;
    let client = setup.client(&identity, &found.issuer)?;
    let mut scopes = setup.scopes(&found);
    scopes.remove(OFFLINE);
    let issuer = Issuer::of(&found, scopes);
    let scope = issuer.scope();
    let mut parameters = vec![
        ("grant_type", "client_credentials"),
        ("resource", issuer.resource.as_str()),
    ];
    parameters.extend(scope.as_deref().map(|scope| ("scope", scope)));
    let tokens = endpoint::tokens(&setup.http, &issuer.token_endpoint, &client, &parameters)
        .await
        .map_err(|refusal| refusal.of(setup.server(), Step::Token))?;
    Ok(setup.grant(&issuer, identity, tokens))
}

async fn refresh(ask: &Ask, grant: &Grant) -> Result<Tokens, TokenError> {
    let unusable = |error: SignInError| TokenError::Unusable(error.to_string());
    let setup = Setup::new(ask).await.map_err(unusable)?;
    let refusal = match refreshed(&setup, grant).await? {
        Ok(tokens) => return Ok(tokens),
        Err(refusal) => refusal,
    };
    let kept_elsewhere = ask
        .server
        .auth
        .templates()
        .into_iter()
        .any(Template::is_stored);
    if refusal.code.as_deref() != Some("invalid_client") || !kept_elsewhere {
        return Err(refusal.of_refresh());
    }
    // Nothing was spent: the client was not believed. What it proves itself with may be another by now.
    let setup = Setup::looked_up(ask, true).await.map_err(unusable)?;
    refreshed(&setup, grant).await?.map_err(Refusal::of_refresh)
}

async fn refreshed(
    setup: &Setup<'_>,
    grant: &Grant,
) -> Result<Result<Tokens, Refusal>, TokenError> {
    let Some(token) = &grant.tokens.refresh else {
        return Err(TokenError::Unusable("there is no refresh token".to_owned()));
    };
    let client = setup.client(&grant.client, &grant.key.issuer);
    let client = client.map_err(|error| TokenError::Unusable(error.to_string()))?;
    let indicator = grant.resource_indicator.as_deref();
    let parameters = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token.expose()),
        ("resource", indicator.unwrap_or(&grant.key.resource)),
    ];
    let asked = endpoint::tokens(&setup.http, &grant.token_endpoint, &client, &parameters);
    Ok(asked.await)
}

async fn revoke(ask: &Ask, grant: &Grant) -> Result<(), SignInError> {
    let Some(place) = &grant.revocation_endpoint else {
        return Ok(());
    };
    let setup = Setup::new(ask).await?;
    let client = setup.client(&grant.client, &grant.key.issuer)?;
    let (token, hint) = match &grant.tokens.refresh {
        Some(token) => (token, "refresh_token"),
        None => (&grant.tokens.access, "access_token"),
    };
    let parameters = [("token", token.expose()), ("token_type_hint", hint)];
    endpoint::tell(&setup.http, place, &client, &parameters)
        .await
        .map_err(|refusal| refusal.of(setup.server(), Step::Token))
}
