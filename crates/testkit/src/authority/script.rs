//! What the fake authorization server and the fake protected server are told to do. Plain data.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

/// What a request is about: where a [`Fault`] strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// The metadata of the authorization server (RFC 8414 and OpenID).
    Metadata,
    /// The protected-resource metadata (RFC 9728), at the protected server.
    ResourceMetadata,
    /// Dynamic registration (RFC 7591).
    Register,
    /// The page that a browser opens.
    Authorize,
    /// Token requests of every grant.
    Token,
    /// Requests for a device code (RFC 8628).
    Device,
    /// The keys that tokens are signed with.
    Jwks,
    /// Revocations (RFC 7009).
    Revoke,
}

/// How one answer goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Nothing happens for a while, then the request is served.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// The request is served (a refresh token is rotated), and the answer comes a while later.
    SlowAnswer {
        /// Milliseconds.
        ms: u64,
    },
    /// The request is served, and the answer waits until [`release`](super::Authority::release).
    HeldAnswer,
    /// No answer at all; nothing is done. The connection stays open.
    Hang,
    /// This answer in place of the right one; nothing is done.
    Status {
        /// The HTTP status.
        status: u16,
        /// Headers, `retry-after` for one.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// A page for people with status 200; nothing is done.
    Html,
    /// The right answer without these members.
    Without(Vec<String>),
    /// The right answer with this member replaced.
    With(String, Value),
    /// The connection is closed; nothing is done.
    Close,
    /// The request is served and the connection closed without the answer: the crash between rotation and answer.
    CloseAfter,
    /// Sent elsewhere with this status; nothing is done.
    Redirect {
        /// 302, 307 or the like.
        status: u16,
        /// The address.
        to: String,
    },
    /// The request is served, and the body of the answer ends after so many bytes.
    Cut(usize),
}

impl Fault {
    /// A status with a plain body and no further header.
    #[must_use]
    pub fn status(status: u16, body: &str) -> Self {
        Self::Status {
            status,
            headers: Vec::new(),
            body: body.to_owned(),
        }
    }

    /// 429 with `Retry-After`.
    #[must_use]
    pub fn too_many(retry_after_s: u64) -> Self {
        Self::Status {
            status: 429,
            headers: vec![("retry-after".to_owned(), retry_after_s.to_string())],
            body: "{\"error\":\"slow_down\"}".to_owned(),
        }
    }
}

/// What the person at the authorization page does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consent {
    /// Agrees at once.
    #[default]
    Allow,
    /// Refuses: `access_denied`.
    Deny,
}

/// What a refresh answers besides the access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RefreshReply {
    /// A new refresh token; the old one is spent, and its reuse revokes the family.
    #[default]
    Rotated,
    /// The same refresh token again.
    Same,
    /// No refresh token: the old one stays good (F209).
    None,
}

/// How the authorization server behaves. Applies from the next request on.
#[derive(Debug, Clone)]
pub struct Script {
    /// The person who agrees.
    pub subject: String,
    /// What that person does.
    pub consent: Consent,
    /// How long access tokens are good, in milliseconds. `expires_in` says it in whole seconds, rounded up.
    pub access_ms: u64,
    /// Said in place of the true `expires_in`; `Some(None)`: left out.
    pub expires_in: Option<Option<Value>>,
    /// How long a refresh token is good, in milliseconds.
    pub refresh_ms: u64,
    /// What a refresh answers.
    pub refresh_reply: RefreshReply,
    /// For so long a spent refresh token gets the same answer again, in milliseconds: what some providers do against lost
    /// answers. 0: a second use is a theft at once.
    pub leeway_ms: u64,
    /// Whether codes and tokens without a refresh token are issued.
    pub issue_refresh: bool,
    /// Scopes that exist; `None`: any.
    pub scopes: Option<Vec<String>>,
    /// Scopes that are granted in place of those asked for.
    pub grant_scopes: Option<Vec<String>>,
    /// Whether `scope` stands in token answers.
    pub tell_scope: bool,
    /// `issuer` in the metadata in place of the true one (a wrong issuer).
    pub issuer_told: Option<String>,
    /// `iss` on the redirect: `None` the true one, `Some(None)` left out, otherwise this (a mix-up).
    pub redirect_iss: Option<Option<String>>,
    /// `state` on the redirect: `None` as it came, `Some(None)` left out, otherwise this (a forgery).
    pub redirect_state: Option<Option<String>>,
    /// Members of the metadata that are replaced, or left out when null.
    pub metadata: BTreeMap<String, Value>,
    /// Which metadata is served: RFC 8414, OpenID.
    pub oauth_metadata: bool,
    /// See `oauth_metadata`.
    pub openid_metadata: bool,
    /// Whether clients may register.
    pub registration: bool,
    /// Whether a client id may be the URL of a document (CIMD), and is announced.
    pub client_documents: bool,
    /// The documents of such clients, by URL: what this server would get if it fetched them.
    pub documents: BTreeMap<String, Value>,
    /// Whether the resource must be named (RFC 8707).
    pub require_resource: bool,
    /// Polls of a device code that are answered `authorization_pending` before the person agrees.
    pub device_polls: u32,
    /// The interval that device codes are told to be polled in, in seconds.
    pub device_interval_s: u64,
    /// Added to the clock of this server, in milliseconds.
    pub clock_ms: i64,
    /// Faults of the next requests, in order.
    pub faults: BTreeMap<At, VecDeque<Fault>>,
    /// A fault of every request that has none of its own.
    pub always: BTreeMap<At, Fault>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            subject: "ada".to_owned(),
            consent: Consent::Allow,
            access_ms: 3_600_000,
            expires_in: None,
            refresh_ms: 30 * 24 * 3_600_000,
            refresh_reply: RefreshReply::Rotated,
            leeway_ms: 0,
            issue_refresh: true,
            scopes: None,
            grant_scopes: None,
            tell_scope: true,
            issuer_told: None,
            redirect_iss: None,
            redirect_state: None,
            metadata: BTreeMap::new(),
            oauth_metadata: true,
            openid_metadata: true,
            registration: true,
            client_documents: true,
            documents: BTreeMap::new(),
            require_resource: false,
            device_polls: 0,
            device_interval_s: 1,
            clock_ms: 0,
            faults: BTreeMap::new(),
            always: BTreeMap::new(),
        }
    }
}

impl Script {
    /// The next request of this kind meets the fault.
    pub fn next(&mut self, at: At, fault: Fault) {
        self.faults.entry(at).or_default().push_back(fault);
    }

    pub(super) fn take(&mut self, at: At) -> Option<Fault> {
        let next = self.faults.get_mut(&at).and_then(VecDeque::pop_front);
        next.or_else(|| self.always.get(&at).cloned())
    }
}

/// Where a protected server publishes its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetadataAt {
    /// At the well-known address with the path of the endpoint, which the challenge names.
    #[default]
    Challenge,
    /// At the well-known address with the path; the challenge does not name it.
    Path,
    /// At the well-known address of the root only; the challenge does not name it.
    Root,
    /// Nowhere: the authorization server must be looked for at the server's own origin.
    Nowhere,
}

/// How the protected server behaves. Applies from the next request on.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Scopes that every request needs; told in the challenge.
    pub scopes: Vec<String>,
    /// Scopes that a tool needs beyond that: without them 403 `insufficient_scope`.
    pub tools: BTreeMap<String, Vec<String>>,
    /// Where the metadata is.
    pub metadata_at: MetadataAt,
    /// `resource` in the metadata in place of the true one.
    pub resource_told: Option<String>,
    /// `authorization_servers` in place of the true one.
    pub servers_told: Option<Vec<String>>,
    /// Whether the audience of a token is not looked at.
    pub any_audience: bool,
    /// Statuses that the next requests get whatever they bring: 401 for one.
    pub refuse: VecDeque<u16>,
    /// Scopes are told in the metadata.
    pub scopes_supported: Option<Vec<String>>,
    /// Faults of the next requests for the metadata, in order.
    pub faults: VecDeque<Fault>,
}
