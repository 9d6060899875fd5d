//! What the fake authorization server knows: clients, codes, families of tokens, device codes.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use serde_json::{Value, json};

use super::keys::random;

/// A client that registered, or was registered beforehand.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// Its secret; `None` for a public client.
    pub secret: Option<String>,
    /// Addresses that a browser may be sent back to. A loopback address matches with any port.
    pub redirect_uris: Vec<String>,
    /// The metadata that it registered with.
    pub metadata: Value,
    /// The public key that its assertions are checked with, as a JWK set. Only ES256.
    pub jwks: Option<Value>,
}

/// A grant and all tokens that came of it.
#[derive(Debug, Clone)]
pub struct Family {
    /// Its number.
    pub id: u64,
    /// Whose tokens they are.
    pub subject: String,
    /// The client that holds them.
    pub client_id: String,
    /// What they are good for (`aud`), if it was said.
    pub resource: Option<String>,
    /// What they permit.
    pub scopes: Vec<String>,
    /// Whether it has not been revoked.
    pub alive: bool,
    /// Refreshes so far.
    pub rotations: u64,
    /// The refresh token that is good now.
    pub refresh: Option<String>,
    /// Refresh requests that are on their way through the server.
    pub(super) under_way: u64,
}

/// One refresh token.
#[derive(Debug)]
pub(super) struct Refresh {
    pub(super) family: u64,
    pub(super) expires_unix_ms: u64,
    /// When it was spent, and on what answer.
    pub(super) spent: Option<(Instant, Value)>,
}

/// An authorization code.
#[derive(Debug, Clone)]
pub(super) struct Code {
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) challenge: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) resource: Option<String>,
    pub(super) subject: String,
    /// The family that it became.
    pub(super) spent: Option<u64>,
}

/// A device code.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) client_id: String,
    pub(super) scopes: Vec<String>,
    pub(super) resource: Option<String>,
    pub(super) polls_left: u32,
    pub(super) denied: bool,
}

/// An access token that was issued here.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) family: Option<u64>,
    pub(super) expires_unix_ms: u64,
    pub(super) revoked: bool,
}

#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) clients: HashMap<String, Client>,
    pub(super) codes: HashMap<String, Code>,
    pub(super) families: BTreeMap<u64, Family>,
    pub(super) refresh: HashMap<String, Refresh>,
    pub(super) access: HashMap<String, Access>,
    pub(super) devices: HashMap<String, Device>,
}

impl Books {
    /// Opens a family.
    pub(super) fn family(
        &mut self,
        subject: &str,
        client_id: &str,
        resource: Option<String>,
        scopes: Vec<String>,
    ) -> u64 {
        let id = self.families.len() as u64 + 1;
        self.families.insert(
            id,
            Family {
                id,
                subject: subject.to_owned(),
                client_id: client_id.to_owned(),
                resource,
                scopes,
                alive: true,
                rotations: 0,
                refresh: None,
                under_way: 0,
            },
        );
        id
    }

    /// Ends a family with all its tokens. Whether it lived.
    pub(super) fn revoke(&mut self, family: u64) -> bool {
        for access in self.access.values_mut() {
            access.revoked |= access.family == Some(family);
        }
        self.families
            .get_mut(&family)
            .is_some_and(|family| std::mem::replace(&mut family.alive, false))
    }

    /// A new refresh token of a family.
    pub(super) fn new_refresh(&mut self, family: u64, expires_unix_ms: u64) -> String {
        let token = random("rt-");
        self.refresh.insert(
            token.clone(),
            Refresh {
                family,
                expires_unix_ms,
                spent: None,
            },
        );
        if let Some(family) = self.families.get_mut(&family) {
            family.refresh = Some(token.clone());
        }
        token
    }

    /// The family that a refresh token belongs to, spent or not.
    pub(super) fn family_of(&mut self, refresh: &str) -> Option<&mut Family> {
        let family = self.refresh.get(refresh)?.family;
        self.families.get_mut(&family)
    }
}

impl Client {
    /// A public client that may send browsers to any loopback address.
    #[must_use]
    pub fn public() -> Self {
        Self {
            redirect_uris: vec![
                "http://127.0.0.1/".to_owned(),
                "http://localhost/".to_owned(),
            ],
            metadata: json!({}),
            ..Self::default()
        }
    }

    /// The same with a secret.
    #[must_use]
    pub fn confidential(secret: &str) -> Self {
        Self {
            secret: Some(secret.to_owned()),
            ..Self::public()
        }
    }

    pub(super) fn from_metadata(metadata: &Value, secret: Option<String>) -> Self {
        let uris = metadata.get("redirect_uris").and_then(Value::as_array);
        Self {
            secret,
            redirect_uris: uris
                .into_iter()
                .flatten()
                .filter_map(|uri| uri.as_str().map(str::to_owned))
                .collect(),
            jwks: metadata.get("jwks").cloned(),
            metadata: metadata.clone(),
        }
    }

    /// Whether a browser may be sent to this address. A loopback address counts without its port (RFC 8252), and one
    /// without a path stands for every path.
    pub(super) fn may_return_to(&self, uri: &str) -> bool {
        let Ok(wanted) = url::Url::parse(uri) else {
            return false;
        };
        self.redirect_uris.iter().any(|known| {
            if known == uri {
                return true;
            }
            let Ok(known) = url::Url::parse(known) else {
                return false;
            };
            let is_loopback = matches!(known.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
            is_loopback
                && known.scheme() == wanted.scheme()
                && known.host_str() == wanted.host_str()
                && (known.path() == "/" || known.path() == wanted.path())
        })
    }
}
