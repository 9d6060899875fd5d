//! Finds out who speaks for a server: its metadata as a protected resource, and those of its authorization server.
//!
//! rmcp walks the documents (RFC 9728, RFC 8414, OpenID Connect, and the 2025-03-26 way without any); here is what it is asked,
//! what else must hold, and what a failure means for people. Nothing here registers, authorizes or sends a secret.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use ::http::{HeaderValue, Response};
use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationMetadata, AuthorizationMetadataSource,
    OAuthHttpClient, OAuthHttpClientError, OAuthHttpClientFuture, OAuthHttpRequest,
};
use serde_json::Value;
use url::Url;

use super::challenge::Challenge;
use super::engine::{SignInError, Step};
use super::http::{self, Fault, Note, OauthHttp};

/// The revision that discovery speaks of in its header.
const REVISION: HeaderValue = HeaderValue::from_static("2025-11-25");

/// What a document of an authorization server must have.
const WANTED: [&str; 3] = ["issuer", "authorization_endpoint", "token_endpoint"];

/// How a document that is wanted is described.
const DOCUMENT: &str =
    "a JSON document with `issuer`, `authorization_endpoint` and `token_endpoint`";

/// Documents that an error tells about.
const TOLD_MAX: usize = 4;

/// Who speaks for a server.
pub(crate) struct Found {
    /// The authorization server, as its metadata spells it; the server's own origin where there is no metadata.
    pub(crate) issuer: String,
    /// The resource, as its metadata spells it: what requests for tokens name (RFC 8707).
    pub(crate) resource: String,
    /// What the server wants, and `offline_access` where the issuer lists it.
    pub(crate) scopes: BTreeSet<String>,
    /// What the issuer says of itself.
    pub(crate) metadata: AuthorizationMetadata,
    /// Whether it said it, or is taken to be as servers of 2025-03-26 were.
    pub(crate) source: AuthorizationMetadataSource,
    /// rmcp's own view, for the authorization request.
    pub(crate) manager: AuthorizationManager,
}

impl Found {
    /// A member of the issuer's metadata that is a list of words; `None` where it says nothing.
    pub(crate) fn words(&self, member: &str) -> Option<Vec<&str>> {
        let list = self.metadata.additional_fields.get(member)?.as_array()?;
        Some(list.iter().filter_map(Value::as_str).collect())
    }

    /// A member of the issuer's metadata that is a text.
    pub(crate) fn text(&self, member: &str) -> Option<&str> {
        self.metadata.additional_fields.get(member)?.as_str()
    }

    /// A member of the issuer's metadata that is true.
    pub(crate) fn says(&self, member: &str) -> bool {
        let value = self.metadata.additional_fields.get(member);
        value.and_then(Value::as_bool).unwrap_or_default()
    }
}

/// What discovery needs to know.
pub(crate) struct Search<'a> {
    /// The server's name, for messages.
    pub(crate) server: &'a str,
    /// The server's URL.
    pub(crate) resource: &'a Url,
    /// What it said when it refused us.
    pub(crate) challenge: Option<&'a Challenge>,
    /// The only issuer that is accepted.
    pub(crate) issuer: Option<&'a str>,
    pub(crate) http: &'a Arc<OauthHttp>,
}

impl Search<'_> {
    /// Finds the authorization server of the server.
    ///
    /// # Errors
    /// [`SignInError`]: which document, what was expected, what came.
    pub(crate) async fn run(&self) -> Result<Found, SignInError> {
        let mut manager = self.manager(self.resource).await?;
        let header = self.challenge.map(header_of);
        let resolved = manager
            .resolve_metadata_from_challenge(header.as_deref())
            .await;
        let (metadata, source) = match resolved {
            Ok(resolution) => (resolution.metadata, resolution.source),
            Err(error) => self.second_try(error).await?,
        };
        let (metadata, source) = self.pinned(metadata, source).await?;
        self.check_endpoints(&metadata)?;
        let resource = self.resource_of(&mut manager).await?;
        manager.set_metadata(metadata.clone());
        let mut scopes: BTreeSet<String> = manager
            .select_initial_scopes(&[])
            .await
            .into_iter()
            .collect();
        scopes.retain(|scope| crate::config::is_scope(scope));
        let own = self.resource.origin().ascii_serialization();
        Ok(Found {
            issuer: metadata.issuer.clone().unwrap_or(own),
            resource,
            scopes,
            metadata,
            source,
            manager,
        })
    }

    async fn manager(&self, url: &Url) -> Result<AuthorizationManager, SignInError> {
        let client: Arc<dyn OAuthHttpClient> = Arc::clone(self.http) as _;
        AuthorizationManager::new_with_oauth_http_client(url.clone(), client)
            .await
            .map_err(|error| self.error(Step::Configuration, error.to_string()))
    }

    /// rmcp refuses addresses of private networks by how they are written, whatever the entry allows, and insists on the issuer
    /// of the server's own path where servers of 2025-03-26 have only one: both are asked for once more, by name.
    async fn second_try(
        &self,
        error: AuthError,
    ) -> Result<(AuthorizationMetadata, AuthorizationMetadataSource), SignInError> {
        if let AuthError::AuthorizationServersUnavailable {
            authorization_servers,
            ..
        } = &error
            && self.http.allows_private()
        {
            for issuer in authorization_servers {
                if let Ok(metadata) = self.metadata_of(issuer).await {
                    return Ok((
                        metadata,
                        AuthorizationMetadataSource::ProtectedResourceMetadata,
                    ));
                }
            }
        }
        let guessed = matches!(error, AuthError::AuthorizationServerMismatch { .. })
            && !self.http.notes().iter().any(is_resource_document);
        if guessed {
            let own = self.resource.origin().ascii_serialization();
            if let Ok(metadata) = self.metadata_of(&own).await {
                let source = AuthorizationMetadataSource::AuthorizationServerMetadata;
                return Ok((metadata, source));
            }
        }
        Err(self.of_rmcp(&error))
    }

    /// The metadata of the issuer that the entry accepts; those that were found where it accepts any.
    async fn pinned(
        &self,
        metadata: AuthorizationMetadata,
        source: AuthorizationMetadataSource,
    ) -> Result<(AuthorizationMetadata, AuthorizationMetadataSource), SignInError> {
        let Some(pinned) = self.issuer else {
            return Ok((metadata, source));
        };
        if metadata
            .issuer
            .as_deref()
            .is_some_and(|found| is_same_issuer(found, pinned))
        {
            return Ok((metadata, source));
        }
        let named = self.named_issuers();
        let is_named = named.iter().any(|named| is_same_issuer(named, pinned));
        if !named.is_empty() && !is_named {
            let what = format!(
                "the server names the authorization servers {}",
                http::shown(&named.join(", "))
            );
            let remedy = "if the server has moved to another authorization server, change `issuer` in its `auth`";
            return Err(self
                .error(Step::ResourceMetadata, what)
                .expected(format!("{pinned}, as `issuer` says"))
                .remedy(remedy));
        }
        let metadata = self.metadata_of(pinned).await?;
        Ok((
            metadata,
            AuthorizationMetadataSource::AuthorizationServerMetadata,
        ))
    }

    /// The metadata of exactly this issuer.
    async fn metadata_of(&self, issuer: &str) -> Result<AuthorizationMetadata, SignInError> {
        let url = http::checked(issuer)
            .map_err(|fault| self.error(Step::IssuerMetadata, format!("{issuer} {fault}")))?;
        let manager = self.manager(&url).await?;
        let resolution = manager.resolve_metadata().await;
        let resolution = resolution.map_err(|error| self.of_rmcp(&error))?;
        let metadata = resolution.metadata;
        let is_it = metadata
            .issuer
            .as_deref()
            .is_some_and(|found| is_same_issuer(found, issuer));
        if resolution.source.is_discovered() && is_it {
            return Ok(metadata);
        }
        Err(self
            .error(
                Step::IssuerMetadata,
                format!("{issuer} published no metadata of its own{}", self.told()),
            )
            .expected(DOCUMENT))
    }

    /// The authorization servers that the resource's own document names.
    fn named_issuers(&self) -> Vec<String> {
        let notes = self.http.notes();
        let documents = notes.iter().filter(|note| is_resource_document(note));
        let parsed = documents.filter_map(|note| {
            let document = note.document.as_deref()?;
            serde_json::from_slice::<Value>(document).ok()
        });
        let lists = parsed.filter_map(|document| {
            let list = document.get("authorization_servers")?.as_array()?;
            Some(
                list.iter()
                    .filter_map(|one| Some(one.as_str()?.to_owned()))
                    .collect::<Vec<_>>(),
            )
        });
        lists.flatten().collect()
    }

    /// Where secrets and people will be sent: only to addresses that are fit for it.
    fn check_endpoints(&self, metadata: &AuthorizationMetadata) -> Result<(), SignInError> {
        let endpoints = [
            (
                "authorization_endpoint",
                metadata.authorization_endpoint.as_str(),
            ),
            ("token_endpoint", metadata.token_endpoint.as_str()),
        ];
        for (member, endpoint) in endpoints {
            let wrong = match http::checked(endpoint) {
                Ok(url) if self.http.is_safe(&url) => continue,
                Ok(_) => "is not https://".to_owned(),
                Err(fault) => fault.what,
            };
            let what = format!(
                "the issuer's `{member}`, {}, {wrong}",
                http::shown(endpoint)
            );
            return Err(self
                .error(Step::IssuerMetadata, what)
                .expected("an https:// address, or one on this machine"));
        }
        Ok(())
    }

    /// The resource as its own document spells it. rmcp tells it only in the authorization request that it would make: one is
    /// made for nobody.
    async fn resource_of(&self, manager: &mut AuthorizationManager) -> Result<String, SignInError> {
        let nobody = r#"{"authorization_endpoint":"https://nobody.invalid/a","token_endpoint":"https://nobody.invalid/t"}"#;
        let internal = |error: String| self.error(Step::ResourceMetadata, error);
        let metadata: AuthorizationMetadata =
            serde_json::from_str(nobody).map_err(|error| internal(error.to_string()))?;
        manager.set_metadata(metadata);
        manager
            .configure_client_id("nobody")
            .map_err(|error| internal(error.to_string()))?;
        let url = manager.get_authorization_url(&[]).await;
        let url = url.map_err(|error| internal(error.to_string()))?;
        let url = Url::parse(&url).map_err(|error| internal(error.to_string()))?;
        let found = url.query_pairs().find(|(name, _)| name == "resource");
        let found = found.map(|(_, value)| value.into_owned());
        Ok(found.unwrap_or_else(|| self.resource.to_string()))
    }

    fn error(&self, step: Step, what: impl Into<String>) -> SignInError {
        SignInError::new(self.server, step, what)
    }

    /// A failure of rmcp in our words.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rmcp's errors, of which there will be more"
    )]
    pub(crate) fn of_rmcp(&self, error: &AuthError) -> SignInError {
        match error {
            AuthError::DiscoveryRequestFailed { url, source } => self.of_request(url, source.as_ref()),
            AuthError::ProtectedResourceMetadataInvalid { url, reason } => self
                .error(Step::ResourceMetadata, format!("{} cannot be used: {reason}", place(url)))
                .expected(format!("a document about {}", place(self.resource)))
                .remedy("the server's operator has to correct it; nobody was signed in"),
            AuthError::AuthorizationServersUnavailable {
                authorization_servers,
                ..
            } => self.of_unavailable(authorization_servers),
            AuthError::AuthorizationServerMismatch {
                expected_issuer,
                received_issuer,
            } => self
                .error(
                    Step::IssuerMetadata,
                    format!("the metadata are those of `{}`", http::shown(received_issuer)),
                )
                .expected(format!("`issuer` to be `{}`", http::shown(expected_issuer)))
                .remedy("the authorization server's operator has to correct it, or somebody is posing as it; nobody was signed in"),
            AuthError::AuthorizationServerMissingIssuer { expected_issuer } => self
                .error(Step::IssuerMetadata, "the metadata name no `issuer`")
                .expected(format!("`{}`", http::shown(expected_issuer))),
            AuthError::PkceUnsupported => self.without_pkce(),
            other => self.error(Step::IssuerMetadata, http::shown(&other.to_string())),
        }
    }

    /// An authorization server that does not protect codes (S256) is not used.
    pub(crate) fn without_pkce(&self) -> SignInError {
        self.error(
            Step::IssuerMetadata,
            "the authorization server does not say that it supports PKCE with S256",
        )
        .expected("`code_challenge_methods_supported` with `S256`")
        .remedy("its operator has to switch it on: without it a code can be stolen")
    }

    fn of_request(&self, url: &Url, source: &(dyn Error + Send + Sync + 'static)) -> SignInError {
        let step = match url.path().contains("authorization-server")
            || url.path().contains("openid-configuration")
        {
            true => Step::IssuerMetadata,
            false => Step::ResourceMetadata,
        };
        if let Some(fault) = source.downcast_ref::<Fault>() {
            let error = self.error(step, fault.what.clone()).remedy(fault.remedy);
            return if fault.transient {
                error.transient()
            } else {
                error
            };
        }
        let what = format!("{}: {}", place(url), http::shown(&source.to_string()));
        let last = self.http.notes().pop().and_then(|note| note.status);
        let error = self.error(step, what).expected("a JSON document");
        match last {
            Some(status) if status >= 500 || matches!(status, 408 | 425 | 429) => error.transient(),
            Some(_) | None => error,
        }
    }

    fn of_unavailable(&self, issuers: &[String]) -> SignInError {
        let named = http::shown(&issuers.join(", "));
        let what = format!(
            "the server names {named}, and none published usable metadata{}",
            self.told()
        );
        let error = self.error(Step::IssuerMetadata, what).expected(DOCUMENT);
        let refused = issuers.iter().find_map(|issuer| {
            let url = Url::parse(issuer).ok()?;
            self.http.refuses(&url)
        });
        match refused {
            Some(fault) => {
                let what = format!("the server names {named}, and {}", fault.what);
                self.error(Step::IssuerMetadata, what).remedy(fault.remedy)
            }
            None => error,
        }
    }

    /// What was asked and answered, for the last documents.
    pub(crate) fn told(&self) -> String {
        let notes = self.http.notes();
        let told: Vec<String> = notes
            .iter()
            .rev()
            .take(TOLD_MAX)
            .rev()
            .map(|note| format!("{}: {}{}", note.request, note.outcome, missing(note)))
            .collect();
        match told.is_empty() {
            true => String::new(),
            false => format!(" ({})", told.join("; ")),
        }
    }
}

/// What a document lacks that an authorization server's must have.
fn missing(note: &Note) -> String {
    let parsed = note
        .document
        .as_deref()
        .filter(|_| note.status == Some(200));
    let Some(Ok(Value::Object(object))) = parsed.map(serde_json::from_slice) else {
        return String::new();
    };
    if object.contains_key("resource") {
        return String::new();
    }
    let missing: Vec<&str> = WANTED
        .into_iter()
        .filter(|member| !object.contains_key(*member))
        .collect();
    match missing.is_empty() {
        true => String::new(),
        false => format!(", without `{}`", missing.join("`, `")),
    }
}

fn is_resource_document(note: &Note) -> bool {
    note.status == Some(200)
        && note.document.as_deref().is_some_and(|document| {
            serde_json::from_slice::<Value>(document)
                .is_ok_and(|value| value.get("resource").is_some())
        })
}

/// Issuers are compared as they are spelled; only a slash after the host means nothing.
fn is_same_issuer(one: &str, other: &str) -> bool {
    let trimmed = |issuer: &str| -> String {
        let is_root =
            Url::parse(issuer).is_ok_and(|url| url.path() == "/" && url.query().is_none());
        let bare = if is_root {
            issuer.trim_end_matches('/')
        } else {
            issuer
        };
        bare.to_owned()
    };
    trimmed(one) == trimmed(other)
}

fn place(url: &Url) -> String {
    url.as_str()
        .parse()
        .map_or_else(|_| String::new(), |uri| http::place_of(&uri))
}

/// A challenge as rmcp reads it.
fn header_of(challenge: &Challenge) -> String {
    let mut parts = Vec::new();
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    if let Some(url) = &challenge.resource_metadata {
        parts.push(format!("resource_metadata=\"{}\"", quoted(url)));
    }
    if !challenge.scopes.is_empty() {
        let scopes: Vec<&str> = challenge.scopes.iter().map(String::as_str).collect();
        parts.push(format!("scope=\"{}\"", quoted(&scopes.join(" "))));
    }
    format!("Bearer {}", parts.join(", "))
}

impl OAuthHttpClient for OauthHttp {
    fn execute(&self, operation: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move {
            let mut request = operation.request;
            if let Some(revision) = request.headers_mut().get_mut("mcp-protocol-version") {
                *revision = REVISION;
            }
            let answer: Result<Response<Vec<u8>>, Fault> = OauthHttp::execute(self, request).await;
            answer.map_err(|fault| Box::new(fault) as OAuthHttpClientError)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_the_same_only_as_they_are_spelled() {
        assert!(is_same_issuer("https://as.example", "https://as.example/"));
        for (one, other) in [
            ("https://as.example/t", "https://as.example/t/"),
            ("https://as.example", "https://AS.example"),
            ("https://as.example", "https://as.example:443"),
            ("https://as.example", "http://as.example"),
        ] {
            assert!(!is_same_issuer(one, other), "{one} {other}");
        }
    }

    #[test]
    fn a_challenge_is_handed_on_without_what_could_change_its_meaning() {
        let challenge = Challenge {
            resource_metadata: Some("https://h/\"x".into()),
            scopes: ["b".to_owned(), "a".to_owned()].into(),
            ..Challenge::default()
        };
        assert_eq!(
            header_of(&challenge),
            r#"Bearer resource_metadata="https://h/\"x", scope="a b""#
        );
    }
}
