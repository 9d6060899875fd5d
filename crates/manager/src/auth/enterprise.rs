//! Enterprise-managed authorization: the identity provider of an enterprise decides, and no person is asked.
//!
//! An identity assertion is obtained from the provider and redeemed at the server's authorization server; rmcp does both and
//! checks what the assertion is bound to.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use oauth2::{ClientSecret, RefreshToken};
use rmcp::transport::auth::OAuthHttpClient;
use rmcp::transport::auth::enterprise::{
    EmaAuthorizationServer, EmaClientAssertion, EmaClientAssertionProvider,
    EmaClientAuthentication, EmaError, EmaExchangeRequest, EmaExchangeStage,
};

use super::assertion::{self, SigningKey};
use super::endpoint::unix_ms;
use super::engine::{SignInError, Step};
use super::grant::{ClientAuth, Grant, Secret, Tokens};
use super::rmcp::{Issuer, Setup};
use crate::config::EnterpriseConfig;
use crate::secrets;

/// Obtains a token with the enterprise's identity.
pub(crate) async fn obtain(setup: &Setup<'_>) -> Result<Grant, SignInError> {
    let Some(provider) = &setup.auth.enterprise else {
        return Err(setup.error(Step::Configuration, "`auth.enterprise` is missing"));
    };
    let found = setup.discover().await?;
    let identity = setup
        .configured(&found)?
        .ok_or_else(|| setup.error(Step::Configuration, "`auth.clientId` is missing"))?;
    let proof = setup.client(&identity, &found.issuer)?;
    let mut scopes = setup.scopes(&found);
    scopes.remove("offline_access");
    let issuer = Issuer::of(&found, scopes);
    let secret = |secret: Option<Secret>| {
        ClientSecret::new(
            secret
                .map(|secret| secret.expose().to_owned())
                .unwrap_or_default(),
        )
    };
    let authentication = match proof.auth {
        ClientAuth::None => EmaClientAuthentication::None,
        ClientAuth::SecretBasic => EmaClientAuthentication::ClientSecretBasic(secret(proof.secret)),
        ClientAuth::SecretPost => EmaClientAuthentication::ClientSecretPost(secret(proof.secret)),
        ClientAuth::PrivateKey => match proof.key {
            Some(key) => EmaClientAuthentication::JwtAssertion(Arc::new(Signer { key })),
            None => EmaClientAuthentication::None,
        },
    };
    let resource_as =
        EmaAuthorizationServer::new(&issuer.issuer, &issuer.token_endpoint, proof.id.as_str())
            .with_client_authentication(authentication);
    let idp = identity_provider(setup, provider)?;
    let tokens = exchanged(setup, provider, idp, resource_as, &issuer).await?;
    Ok(setup.grant(&issuer, identity, tokens))
}

fn identity_provider(
    setup: &Setup<'_>,
    provider: &EnterpriseConfig,
) -> Result<EmaAuthorizationServer, SignInError> {
    let server = EmaAuthorizationServer::new(
        setup.value("enterprise.issuer", &provider.issuer)?,
        setup.value("enterprise.tokenUrl", &provider.token_url)?,
        setup.value("enterprise.clientId", &provider.client_id)?,
    );
    let secret = setup.secret("enterprise.clientSecret", provider.client_secret.as_ref())?;
    Ok(match secret {
        None => server,
        Some(secret) => {
            let secret = ClientSecret::new(secret.expose().to_owned());
            server.with_client_authentication(EmaClientAuthentication::ClientSecretBasic(secret))
        }
    })
}

async fn exchanged(
    setup: &Setup<'_>,
    provider: &EnterpriseConfig,
    idp: EmaAuthorizationServer,
    resource_as: EmaAuthorizationServer,
    issuer: &Issuer,
) -> Result<Tokens, SignInError> {
    let id_token = setup.secret("enterprise.idToken", provider.id_token.as_ref())?;
    let refresh = setup.secret("enterprise.refreshToken", provider.refresh_token.as_ref())?;
    let refresh = refresh.map(|token| RefreshToken::new(token.expose().to_owned()));
    let resource = issuer.resource.as_str();
    let request = match (&id_token, &refresh) {
        (Some(token), _) => {
            EmaExchangeRequest::new_with_id_token(idp, resource_as, resource, token.expose())
        }
        (None, Some(token)) => EmaExchangeRequest::new(idp, resource_as, resource, token),
        (None, None) => {
            let what = "`auth.enterprise` names neither `idToken` nor `refreshToken`";
            return Err(setup.error(Step::Configuration, what));
        }
    };
    let request = request.with_scopes(issuer.scopes.iter().cloned());
    let http: &dyn OAuthHttpClient = &*setup.http;
    let token = request
        .exchange(http, http)
        .await
        .map_err(|error| of_rmcp(setup, &error))?;
    let access = token.access_token.secret();
    secrets::hide(access);
    Ok(Tokens {
        access: Secret::new(access.as_str()),
        refresh: None,
        scopes: token.scopes.into_iter().collect::<BTreeSet<_>>(),
        received_unix_ms: unix_ms(),
        lifetime_ms: token
            .expires_in
            .map(|lifetime| u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX)),
    })
}

/// A failure of rmcp in our words.
fn of_rmcp(setup: &Setup<'_>, error: &EmaError) -> SignInError {
    let last = setup.http.notes().pop();
    let told = last.as_ref().map_or(String::new(), |note| {
        format!(" ({}: {})", note.request, note.outcome)
    });
    let fault = last.and_then(|note| note.fault);
    let who = |stage: &EmaExchangeStage| match stage {
        EmaExchangeStage::IdentityProvider => "the identity provider",
        EmaExchangeStage::ResourceAuthorizationServer => "the authorization server",
        _ => "a server",
    };
    let again = "its identity token may have expired: renew what `auth.enterprise` names";
    let (what, remedy, transient) = match error {
        EmaError::InvalidRequest(why) => ((*why).to_owned(), "", false),
        EmaError::InvalidResponse { stage, message } => (
            format!("{} gave an unusable answer: {message}{told}", who(stage)),
            "",
            false,
        ),
        EmaError::RequestFailed(stage) => (
            format!("{} could not be asked{told}", who(stage)),
            fault.as_ref().map_or("", |fault| fault.remedy),
            fault.as_ref().is_none_or(|fault| fault.transient),
        ),
        EmaError::InvalidGrant(stage) => (
            format!("{} refused the identity{told}", who(stage)),
            again,
            false,
        ),
        EmaError::InsufficientUserAuthentication(stage) => (
            format!(
                "{} wants the person to sign in again, or more strongly",
                who(stage)
            ),
            again,
            false,
        ),
        EmaError::OAuthRejected {
            stage,
            status,
            code,
        } => (
            format!("{} answered {status}, `{code}`", who(stage)),
            "check the clients of the server's `auth` and what they may do",
            *status >= 500 || *status == 429,
        ),
        other => (other.to_string(), "", false),
    };
    let error = setup.error(Step::Exchange, what).remedy(remedy);
    if transient { error.transient() } else { error }
}

/// Signs the assertions of the client with our own key.
struct Signer {
    key: SigningKey,
}

#[async_trait]
impl EmaClientAssertionProvider for Signer {
    async fn create_assertion(
        &self,
        server: &EmaAuthorizationServer,
    ) -> Result<EmaClientAssertion, Box<dyn std::error::Error + Send + Sync>> {
        let signed = assertion::of_client(&self.key, &server.client_id, &server.issuer, unix_ms())?;
        Ok(EmaClientAssertion::new(signed))
    }
}
