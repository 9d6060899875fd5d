//! Who clients are (law 32): the one place where a request becomes that of a caller, or is turned away.
//!
//! | a request | comes from |
//! |---|---|
//! | over the local socket | this user |
//! | on loopback, without anything that says who sends it | this user, unless `mainstay.access.required` is `true` or a proxy passed it on |
//! | with a token of `mainstay token` | `token:NAME` |
//! | with a token that a trusted issuer signed | `ISSUER\|SUBJECT` |
//! | over TLS with a good certificate, and no token | `cert:NAME` |
//! | anything else | nobody: 401 |
//!
//! A token that is shown is judged, also where none is needed: a revoked one must not turn into this machine's user. What is
//! wrong with one is counted and logged, and never told to its sender. Tokens are not forwarded, logged or kept (law 31).
//!
//! Must not decide what a caller may do: that is policy's business.

mod certificate;
mod challenge;
mod counts;
mod issuer;
mod jwks;
mod jwt;
pub mod tokens;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, FORWARDED, HOST, VIA};
use http::{HeaderMap, HeaderName, Uri};
use mainstay::config::{Access as Settings, Required};
use ring::digest;

use self::issuer::{Issuer, Kept};
use self::jwt::{Parted, Verified};
use self::tokens::{ADMIN_GROUP, Known, PREFIX, TokenState, TokenStore, Tokens};
use crate::admin::door::Way;
use crate::serve::caller::{By, Caller};
use crate::serve::origin::{bare, is_loopback, is_loopback_name};

pub(crate) use self::certificate::Certificate;
pub(crate) use self::challenge::{Place, metadata};
pub(crate) use self::counts::{Counts, REASONS, Why};

/// What a proxy adds to a request that it passes on.
const PROXY_MARKS: [HeaderName; 5] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-real-ip"),
];

/// Most signed tokens that are remembered as verified.
const VERIFIED_MAX: usize = 4_096;

/// Longest credential that is looked at, in bytes.
const CREDENTIAL_BYTES_MAX: usize = jwt::TOKEN_BYTES_MAX + 16;

/// The other end of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer {
    /// Where it is.
    pub(crate) address: Option<SocketAddr>,
    /// The good certificate that it showed.
    pub(crate) certificate: Option<Arc<Certificate>>,
}

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Nothing says who sent it.
    Missing,
    /// What says so is worth nothing.
    Invalid(Why),
    /// Its sender is known, and lacks a scope.
    Scope,
    /// It says so in a way that it must not.
    Form(&'static str),
    /// It cannot be found out now.
    Unavailable,
}

/// Finds out who clients are.
#[derive(Debug)]
pub(crate) struct Access {
    settings: Settings,
    /// Whether the port is reached from this machine alone.
    is_local: bool,
    tokens: Option<Arc<Tokens>>,
    issuers: Vec<Arc<Issuer>>,
    verified: Mutex<HashMap<[u8; digest::SHA256_OUTPUT_LEN], Remembered>>,
    counts: Counts,
}

/// A token that was verified before.
#[derive(Debug)]
struct Remembered {
    verified: Verified,
    issuer: usize,
    /// With which keys.
    keys: Arc<Kept>,
}

/// What a first look at a request shows.
#[derive(Debug)]
pub(crate) enum Look {
    /// Who sent it.
    Caller(Arc<Caller>),
    /// It brings a token along, which must be judged.
    Token(Shown),
    /// It is turned away.
    Denied(Denied),
}

/// A token that was shown.
pub(crate) struct Shown {
    token: Box<str>,
    place: Place,
    certificate: Option<Arc<Certificate>>,
    address: Option<SocketAddr>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shown")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// Finds out who the clients of a port are. Reads the tokens of the state directory, which blocks for a moment.
    pub(crate) fn new(settings: &Settings, listen: SocketAddr, state_dir: Option<&Path>) -> Self {
        let store = state_dir.filter(|_| settings.tokens).map(TokenStore::new);
        let issuers = settings.jwt.iter().cloned().map(Issuer::new).collect();
        Self {
            is_local: is_loopback(listen.ip()),
            tokens: store.and_then(Tokens::new).map(Arc::new),
            issuers,
            verified: Mutex::default(),
            counts: Counts::default(),
            settings: settings.clone(),
        }
    }

    /// Whether there is any way to say who one is.
    pub(crate) fn has_a_way(&self) -> bool {
        let has_client_ca = |tls: &mainstay::config::ServerTls| tls.client_ca.is_some();
        !self.issuers.is_empty()
            || self.settings.tls.as_ref().is_some_and(has_client_ca)
            || self
                .tokens
                .as_ref()
                .is_some_and(|tokens| tokens.any_valid())
    }

    /// Whether a request that says nothing of its sender is turned away.
    pub(crate) fn is_needed(&self, head: &HeaderMap, uri: &Uri, way: Way<'_>) -> bool {
        match (self.settings.required, way) {
            (_, Way::Local) => false,
            (Required::Always, Way::Listener(_) | Way::Embedded) => true,
            // Whoever embeds the gateway has a door of their own.
            (Required::Auto, Way::Embedded) => false,
            (Required::Auto, Way::Listener(_)) => !self.is_local || !names_this_machine(head, uri),
        }
    }

    /// What can be said of a request without asking anybody.
    pub(crate) fn look(&self, head: &HeaderMap, uri: &Uri, way: Way<'_>) -> Look {
        let looked = self.first_look(head, uri, way);
        if let Look::Denied(denied) = &looked {
            self.counts.denied(*denied, way.address());
        }
        looked
    }

    fn first_look(&self, head: &HeaderMap, uri: &Uri, way: Way<'_>) -> Look {
        if uri.query().is_some_and(holds_token) {
            return Look::Denied(Denied::Form("a token is never sent in the address"));
        }
        let mut credentials = head.get_all(AUTHORIZATION).iter();
        let credential = credentials.next();
        if credentials.next().is_some() {
            return Look::Denied(Denied::Form("there is more than one Authorization header"));
        }
        let is_needed = self.is_needed(head, uri, way);
        let certificate = match way {
            Way::Listener(peer) => peer.certificate.clone(),
            Way::Embedded | Way::Local => None,
        };
        if let Some(credential) = credential {
            let token = credential
                .to_str()
                .ok()
                .filter(|text| text.len() <= CREDENTIAL_BYTES_MAX)
                .and_then(bearer);
            match token {
                Some(token) if is_needed || self.is_ours(token) => {
                    return Look::Token(Shown {
                        token: token.into(),
                        place: Place::of(uri.path()),
                        certificate,
                        address: way.address(),
                    });
                }
                None if is_needed => return Look::Denied(Denied::Invalid(Why::Malformed)),
                // For somebody else: apps send what they were told to send everywhere.
                Some(_) | None => {}
            }
        }
        if let Some(caller) = certificate.and_then(|certificate| certificate.caller.clone()) {
            let ended = caller.until_unix_ms.is_some_and(|until| until <= unix_ms());
            return match ended {
                true => Look::Denied(Denied::Invalid(Why::Expired)),
                false => Look::Caller(caller),
            };
        }
        match is_needed {
            true => Look::Denied(Denied::Missing),
            false => Look::Caller(Caller::local()),
        }
    }

    /// Whether a token is meant for us, where none is needed.
    fn is_ours(&self, token: &str) -> bool {
        match token.starts_with(PREFIX) {
            true => self.tokens.is_some(),
            false => !self.issuers.is_empty(),
        }
    }

    /// Whose token it is. Cancel-safe.
    ///
    /// # Errors
    /// Nobody's, or nobody's here. It has been counted.
    pub(crate) async fn judge(&self, shown: Shown) -> Result<Arc<Caller>, Denied> {
        let judged = match shown.token.starts_with(PREFIX) {
            true => self.static_token(&shown.token).await,
            false => self.signed_token(&shown).await,
        };
        judged.inspect_err(|denied| self.counts.denied(*denied, shown.address))
    }

    /// Both at once, for those who have the head of a request apart from its body.
    ///
    /// # Errors
    /// As [`judge`](Self::judge).
    pub(crate) async fn identify(
        &self,
        head: &http::request::Parts,
        way: Way<'_>,
    ) -> Result<Arc<Caller>, Denied> {
        match self.look(&head.headers, &head.uri, way) {
            Look::Caller(caller) => Ok(caller),
            Look::Denied(denied) => Err(denied),
            Look::Token(shown) => self.judge(shown).await,
        }
    }

    async fn static_token(&self, token: &str) -> Result<Arc<Caller>, Denied> {
        let Some(tokens) = &self.tokens else {
            return Err(Denied::Invalid(Why::Unknown));
        };
        match tokens.know(token).await {
            Known::Caller(caller) => Ok(caller),
            Known::Ended(TokenState::Revoked) => Err(Denied::Invalid(Why::Revoked)),
            Known::Ended(TokenState::Expired) => Err(Denied::Invalid(Why::Expired)),
            Known::Ended(TokenState::Valid) | Known::Unknown => Err(Denied::Invalid(Why::Unknown)),
        }
    }

    async fn signed_token(&self, shown: &Shown) -> Result<Arc<Caller>, Denied> {
        let is_signed = shown.token.bytes().filter(|byte| *byte == b'.').count() == 2;
        if self.issuers.is_empty() || !is_signed {
            return Err(Denied::Invalid(Why::Unknown));
        }
        let mut key = [0; digest::SHA256_OUTPUT_LEN];
        key.copy_from_slice(digest::digest(&digest::SHA256, shown.token.as_bytes()).as_ref());
        let (verified, issuer) = match self.remembered(&key) {
            Some(known) => known,
            None => {
                let (verified, issuer, keys) = self.verify(&shown.token).await?;
                self.remember(key, verified.clone(), issuer, keys);
                (verified, issuer)
            }
        };
        let audience = self.issuers.get(issuer).map(|one| &one.settings.audience);
        let resource = self.settings.resource.as_deref();
        let is_meant = match audience {
            Some(audience) if !audience.is_empty() => {
                verified.audience.iter().any(|one| audience.contains(one))
            }
            Some(_) | None => resource.is_some_and(|resource| {
                let mut meant = verified.audience.iter();
                meant.any(|one| shown.place.is_audience(resource, one))
            }),
        };
        if !is_meant {
            return Err(Denied::Invalid(Why::Audience));
        }
        if let Some(bound) = &verified.certificate {
            let own = shown.certificate.as_ref().map(|own| &own.digest);
            if own != Some(bound) {
                return Err(Denied::Invalid(Why::Bound));
            }
        }
        let has = |scope: &String| verified.caller.scopes.iter().any(|own| **own == **scope);
        if !self.settings.scopes.iter().all(has) {
            return Err(Denied::Scope);
        }
        Ok(verified.caller)
    }

    async fn verify(&self, token: &str) -> Result<(Verified, usize, Arc<Kept>), Denied> {
        let parted = Parted::of(token).map_err(Denied::Invalid)?;
        let named = parted.issuer().ok_or(Denied::Invalid(Why::Issuer))?;
        let known = |issuer: &Arc<Issuer>| issuer.settings.issuer == named;
        let found = self.issuers.iter().enumerate().find(|(_, one)| known(one));
        let Some((at, issuer)) = found else {
            return Err(Denied::Invalid(Why::Issuer));
        };
        // One that says itself that it is over is no reason to ask anybody.
        parted
            .is_over(&issuer.rules(), unix_ms())
            .map_err(Denied::Invalid)?;
        let kept = issuer
            .keys(|keys| parted.could_be_of(keys))
            .await
            .map_err(|_none| Denied::Unavailable)?;
        let verified = parted
            .judged(&kept.keys, &issuer.rules(), unix_ms())
            .map_err(Denied::Invalid)?;
        Ok((verified, at, kept))
    }

    /// What a token was found to say before, if its keys are still the same and it has not ended.
    fn remembered(&self, key: &[u8; 32]) -> Option<(Verified, usize)> {
        let now = unix_ms();
        let mut all = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(key)?;
        let is_current = self
            .issuers
            .get(known.issuer)
            .is_some_and(|issuer| issuer.are_current(&known.keys));
        let until = known.verified.caller.until_unix_ms;
        if !is_current || until.is_none_or(|until| until <= now) {
            all.remove(key);
            return None;
        }
        Some((known.verified.clone(), known.issuer))
    }

    fn remember(&self, key: [u8; 32], verified: Verified, issuer: usize, keys: Arc<Kept>) {
        let mut all = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= VERIFIED_MAX {
            // They are verified again when they come again.
            all.clear();
        }
        let remembered = Remembered {
            verified,
            issuer,
            keys,
        };
        all.insert(key, remembered);
    }

    /// Whether a caller may use the dashboard and the admin API.
    pub(crate) fn is_admin(&self, caller: &Caller) -> bool {
        let is_in = |group: &str| caller.groups.iter().any(|own| **own == *group);
        match caller.by {
            By::Local => true,
            // What their users may do here is for the program that knows them to say, over the local socket.
            By::Embedder => false,
            By::Token => is_in(ADMIN_GROUP),
            By::Jwt | By::Certificate => {
                self.settings.admin_groups.iter().any(|group| is_in(group))
            }
        }
    }

    /// What is set.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What was denied.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How often the keys of an issuer could not be had.
    pub(crate) fn key_failures(&self) -> u64 {
        let failures =
            |issuer: &Arc<Issuer>| issuer.failures.load(std::sync::atomic::Ordering::Relaxed);
        self.issuers.iter().map(failures).sum()
    }

    /// The static tokens, if there is a place for them.
    pub(crate) fn tokens(&self) -> Option<&Arc<Tokens>> {
        self.tokens.as_ref()
    }
}

/// Whether a request was sent on this machine: it names us by a loopback name, and no proxy passed it on.
pub(crate) fn names_this_machine(head: &HeaderMap, uri: &Uri) -> bool {
    let named = head.get(HOST).and_then(|host| host.to_str().ok());
    let host = named.or_else(|| uri.authority().map(http::uri::Authority::as_str));
    host.is_some_and(|host| is_loopback_name(bare(host)))
        && !PROXY_MARKS.iter().any(|mark| head.contains_key(mark))
}

/// The token of an `Authorization: Bearer`.
fn bearer(credential: &str) -> Option<&str> {
    let (scheme, token) = credential.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Whether a query holds what must not be in one.
fn holds_token(query: &str) -> bool {
    query.split('&').any(|member| {
        let (name, value) = member.split_once('=').unwrap_or((member, ""));
        name.eq_ignore_ascii_case("access_token") || value.starts_with(PREFIX)
    })
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
