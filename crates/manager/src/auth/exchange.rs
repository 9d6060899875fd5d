//! The caller's identity, exchanged for a token of one server (RFC 8693). The caller's own token goes to the token endpoint
//! alone, never to the server.

use super::endpoint;
use super::engine::{SignInError, Step};
use super::grant::{Grant, Secret};
use super::rmcp::{Issuer, Setup};
use crate::catalog::unix_ms;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// What to do about a token of the caller that is no good, or no more.
const RENEW: &str = "the caller has to get a new token from its issuer and call again with that; if it is refused too, this server's \
     authorization server must be told to trust that issuer for token exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Exchanges the caller's token, or the one that the entry names.
pub(crate) async fn obtain(setup: &Setup<'_>) -> Result<Grant, SignInError> {
    let config = setup.auth.exchange.clone().unwrap_or_default();
    let named = setup.secret("exchange.subjectToken", config.subject_token.as_ref())?;
    // With a scope of `user` everybody has an identity of their own; what the entry names would be somebody else's.
    let subject: Secret = match (&setup.ask.subject, named) {
        (Some(subject), _) if subject.is_over(unix_ms()) => {
            return Err(setup
                .error(
                    Step::Exchange,
                    "the token that the caller signed in to Mainstay with has expired",
                )
                .remedy(RENEW));
        }
        (Some(subject), _) => subject.token().clone(),
        (None, Some(named)) if setup.ask.principal.is_none() => named,
        (None, Some(_)) => {
            return Err(setup
                .error(Step::Exchange, "`exchange.subjectToken` is one identity for all, and this caller has its own")
                .remedy("take it out of the entry, so that the caller's own token is exchanged, or take out `scope: \"user\"`"));
        }
        (None, None) => {
            return Err(setup
                .error(Step::Exchange, "there is no token of the caller that could be exchanged")
                .remedy(
                    "callers have to sign in to Mainstay with a signed token (JWT) of an issuer that this server's authorization \
                     server trusts, and the entry needs `scope: \"user\"`; or the entry names `exchange.subjectToken`",
                ));
        }
    };
    let found = setup.discover().await?;
    let identity = setup
        .configured(&found)?
        .ok_or_else(|| setup.error(Step::Configuration, "`auth.clientId` is missing"))?;
    let mut scopes = setup.scopes(&found);
    scopes.remove("offline_access");
    let mut issuer = Issuer::of(&found, scopes);
    if let Some(url) = setup.given("exchange.tokenUrl", config.token_url.as_ref())? {
        issuer.token_endpoint = url;
    }
    let client = setup.client(&identity, &issuer.issuer)?;
    let audience = setup.given("exchange.audience", config.audience.as_ref())?;
    let scope = issuer.scope();
    let kind = config.subject_token_type.as_deref().unwrap_or(ACCESS_TOKEN);
    let mut parameters = vec![
        ("grant_type", GRANT_TYPE),
        ("subject_token", subject.expose()),
        ("subject_token_type", kind),
        ("requested_token_type", ACCESS_TOKEN),
        ("resource", issuer.resource.as_str()),
    ];
    parameters.extend(audience.as_deref().map(|audience| ("audience", audience)));
    parameters.extend(scope.as_deref().map(|scope| ("scope", scope)));
    let mut tokens = endpoint::tokens(&setup.http, &issuer.token_endpoint, &client, &parameters)
        .await
        .map_err(|refusal| {
            let is_callers = setup.ask.subject.is_some();
            let is_its_fault = matches!(
                refusal.code.as_deref(),
                Some("invalid_grant" | "invalid_request" | "invalid_token")
            );
            let error = refusal.of(setup.server(), Step::Exchange);
            match is_callers && is_its_fault {
                true => error.remedy(RENEW),
                false => error,
            }
        })?;
    // It would outlive the identity that it came from.
    tokens.refresh = None;
    Ok(setup.grant(&issuer, identity, tokens))
}
