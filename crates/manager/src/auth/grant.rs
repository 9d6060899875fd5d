//! What a server's authorization server gave us: tokens, whose they are, and as which client we got them.
//!
//! Nothing here decides or acts. No secret is shown by `Debug`, and none leaves by `Display` or serde: what goes to disk is
//! written by `auth::store` alone (law 31).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::principal::Principal;

/// A text that must not be shown. Equal texts are equal; `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the moment of use. It goes into no message, log or error (law 31).
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whose credentials these are, and what they are good for. Credentials of one key are never offered under another: not to
/// another resource, not for another principal, not as another client, not when another issuer speaks for the resource.
///
/// A struct with its parts, never one text: names cannot be chosen so that two keys become one (F255).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantKey {
    /// The authorization server, exactly as its metadata spells it.
    pub issuer: Box<str>,
    /// As which client we are known there.
    pub client_id: Box<str>,
    /// For whom; `None`: for this Mainstay, whoever calls.
    pub principal: Option<Principal>,
    /// The protected resource: the canonical URL of the MCP server.
    pub resource: Box<str>,
}

impl GrantKey {
    /// A fixed name for this key, the same in every process: 128 bits of a hash over its parts, each with its length.
    #[must_use]
    pub fn digest(&self) -> String {
        digest_of(&[
            Some(&self.issuer),
            Some(&self.client_id),
            self.principal.as_ref().map(Principal::name),
            Some(&self.resource),
        ])
    }
}

/// A hash over parts that no choice of parts can shift: each is preceded by whether it is there and how long it is (F255).
pub(crate) fn digest_of(parts: &[Option<&str>]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        match part {
            Some(part) => {
                hash.update([1]);
                hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                hash.update(part.as_bytes());
            }
            None => hash.update([0]),
        }
    }
    hash.finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A pair of tokens as an authorization server gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// What is shown to the server with every request.
    pub access: Secret,
    /// What gets the next pair. `None`: there is none, or the reply named none; [`Tokens::after`] keeps the former one.
    pub refresh: Option<Secret>,
    /// The scopes that were granted; empty: the reply named none.
    pub scopes: BTreeSet<String>,
    /// When they came, in milliseconds of the Unix clock.
    pub received_unix_ms: u64,
    /// How long the access token is good from then on, in milliseconds; `None`: the reply did not say.
    pub lifetime_ms: Option<u64>,
}

impl Tokens {
    /// When the access token expires, in milliseconds of the Unix clock, if the reply said how long it is good.
    #[must_use]
    pub fn expires_unix_ms(&self) -> Option<u64> {
        let lifetime_ms = self.lifetime_ms?;
        Some(self.received_unix_ms.saturating_add(lifetime_ms))
    }

    /// This pair as the successor of a former one: what the reply left out is as it was (F209).
    #[must_use]
    pub fn after(mut self, former: &Tokens) -> Self {
        if self.refresh.is_none() {
            self.refresh = former.refresh.clone();
        }
        if self.scopes.is_empty() {
            self.scopes = former.scopes.clone();
        }
        self
    }
}

/// How we came to be known to an authorization server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientSource {
    /// The config names the client.
    Configured,
    /// The client id is the URL of a metadata document.
    MetadataDocument,
    /// We registered ourselves.
    Registered,
}

impl ClientSource {
    /// A stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::MetadataDocument => "metadata-document",
            Self::Registered => "registered",
        }
    }

    pub(crate) fn of(word: &str) -> Option<Self> {
        [Self::Configured, Self::MetadataDocument, Self::Registered]
            .into_iter()
            .find(|source| source.word() == word)
    }
}

/// How a client proves itself at the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// It does not: a public client, which names itself in the body.
    None,
    /// `client_secret_basic`.
    SecretBasic,
    /// `client_secret_post`.
    SecretPost,
    /// `private_key_jwt`: a signed assertion.
    PrivateKey,
}

impl ClientAuth {
    /// The word of the OAuth registry.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SecretBasic => "client_secret_basic",
            Self::SecretPost => "client_secret_post",
            Self::PrivateKey => "private_key_jwt",
        }
    }

    pub(crate) fn of(word: &str) -> Option<Self> {
        [
            Self::None,
            Self::SecretBasic,
            Self::SecretPost,
            Self::PrivateKey,
        ]
        .into_iter()
        .find(|auth| auth.word() == word)
    }
}

/// Who we are at an authorization server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The client id.
    pub id: Box<str>,
    /// The secret that a registration brought. A secret of the config is not kept here: it is resolved at use.
    pub secret: Option<Secret>,
    /// How it proves itself.
    pub auth: ClientAuth,
    /// Where it comes from.
    pub source: ClientSource,
}

/// Everything that it takes to go on being signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose, and what for.
    pub key: GrantKey,
    /// The tokens in force.
    pub tokens: Tokens,
    /// As which client we got them.
    pub client: ClientIdentity,
    /// Where the next pair is fetched.
    pub token_endpoint: Box<str>,
    /// How the resource was named to the issuer, where that is not the URL of the server.
    pub resource_indicator: Option<Box<str>>,
    /// Where a grant can be revoked (RFC 7009), if the issuer says.
    pub revocation_endpoint: Option<Box<str>>,
    /// The scopes that were asked for, ever: a step-up asks for these and more.
    pub requested_scopes: BTreeSet<String>,
    /// A human had to sign in for it. What programs can get by themselves is got anew when it ends.
    pub by_human: bool,
    /// When it was granted first, in milliseconds of the Unix clock. A refresh does not change it.
    pub granted_unix_ms: u64,
}

/// The canonical form of a server's URL, as which it is known to issuers: no user, no query, no fragment. What stands there
/// may be a secret, and does not make it another resource. `None`: it is no URL.
pub(crate) fn resource_of(url: &str) -> Option<Box<str>> {
    let mut url = reqwest::Url::parse(url.trim()).ok()?;
    url.host_str()?;
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    let text = url.as_str();
    // `https://host/` and `https://host` are one: the shorter form is what issuers are told.
    let text = match url.path() {
        "/" => text.trim_end_matches('/'),
        _ => text,
    };
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(issuer: &str, client: &str, principal: Option<&str>, resource: &str) -> GrantKey {
        GrantKey {
            issuer: issuer.into(),
            client_id: client.into(),
            principal: principal.and_then(Principal::new),
            resource: resource.into(),
        }
    }

    #[test]
    fn f255_no_choice_of_names_makes_two_keys_one() {
        let keys = [
            key("https://a", "b", None, "https://r"),
            key("https://ab", "", None, "https://r"),
            key("https://a", "b", Some("https://r"), ""),
            key("https://a", "b", Some("x"), "https://r"),
            key("https://a", "bx", None, "https://r"),
            key("https://a", "", Some("b"), "https://r"),
        ];
        let digests: BTreeSet<String> = keys.iter().map(GrantKey::digest).collect();
        assert_eq!(digests.len(), keys.len());
    }

    #[test]
    fn law_31_a_resource_is_a_url_without_what_may_be_secret() {
        for (url, resource) in [
            ("https://Example.com", "https://example.com"),
            ("https://example.com:443/", "https://example.com"),
            (
                "https://me:s3cret@example.com/mcp?key=s3cret#x",
                "https://example.com/mcp",
            ),
            ("http://127.0.0.1:8080/a/", "http://127.0.0.1:8080/a/"),
        ] {
            assert_eq!(resource_of(url).as_deref(), Some(resource));
        }
        assert_eq!(resource_of("mcp"), None);
    }

    #[test]
    fn f209_what_a_reply_leaves_out_stays_as_it_was() {
        let pair = |refresh: Option<&str>, scopes: &[&str]| Tokens {
            access: Secret::new("a"),
            refresh: refresh.map(Secret::new),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            received_unix_ms: 0,
            lifetime_ms: None,
        };
        let former = pair(Some("r1"), &["read", "write"]);
        let kept = pair(None, &[]).after(&former);
        assert_eq!(
            (&kept.refresh, &kept.scopes),
            (&former.refresh, &former.scopes)
        );
        let rotated = pair(Some("r2"), &["read"]).after(&former);
        assert_eq!(rotated, pair(Some("r2"), &["read"]));
    }

    #[test]
    fn law_31_debug_shows_no_secret() {
        let tokens = Tokens {
            access: Secret::new("access-s3cret"),
            refresh: Some(Secret::new("refresh-s3cret")),
            scopes: BTreeSet::new(),
            received_unix_ms: 0,
            lifetime_ms: Some(1),
        };
        assert!(!format!("{tokens:?}").contains("s3cret"));
    }
}
