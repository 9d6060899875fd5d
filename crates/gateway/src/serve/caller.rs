//! Who a request comes from, as far as the gateway knows: the word between those who identify (the door), those who keep
//! apart (sessions, connections) and those who allow (policy). Nothing here decides.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::Extensions;
use mainstay::Principal;
use mainstay::auth::Subject;
use tokio_util::sync::CancellationToken;

use super::sessions::unix_ms;

/// How often it is looked whether an identification has ended meanwhile.
const EXPIRY_LOOK_MS: u64 = 30_000;

/// How a caller was identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum By {
    /// Not at all: whoever reaches the loopback port, or the local socket of this user.
    Local,
    /// A static token of this Mainstay.
    Token,
    /// A signed token of an issuer that is trusted.
    Jwt,
    /// A client certificate.
    Certificate,
    /// By the program that this gateway is a part of.
    Embedder,
}

/// Who a request comes from. One per identity, shared by its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Its name, unique over all ways to be identified (`token:ci`, `https://issuer|subject`, `cert:CN`). `None`: nobody in
    /// particular, that is: this machine's user.
    pub(crate) principal: Option<Principal>,
    /// How it was identified.
    pub(crate) by: By,
    /// What people call it: the token's name, the subject's name or mail address, the certificate's subject.
    pub(crate) label: Option<Arc<str>>,
    /// Groups and roles, from the claim that the configuration names, or of the token.
    pub(crate) groups: Vec<Arc<str>>,
    /// Scopes that were granted.
    pub(crate) scopes: Vec<Arc<str>>,
    /// Claims with one text as their value, and those with several texts, by name.
    pub(crate) claims: BTreeMap<Box<str>, Vec<Box<str>>>,
    /// When the identification ends, in milliseconds since 1970; `None`: not by itself.
    pub(crate) until_unix_ms: Option<u64>,
    /// Whether it was ended before that: the token was revoked.
    pub(crate) ended: Ended,
    /// The signed token itself, verified, for servers whose credentials are exchanged for it. Never of a static token, and never
    /// shown to a server.
    pub(crate) subject: Option<Subject>,
}

/// Says to whoever waits that an identification is worth nothing any more. Says nothing of who it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ended(CancellationToken);

impl PartialEq for Ended {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Ended {}

impl Ended {
    /// From now on.
    pub(crate) fn end(&self) {
        self.0.cancel();
    }
}

impl Caller {
    /// This machine's user, who needs no identification where that is allowed.
    pub(crate) fn local() -> Arc<Self> {
        static LOCAL: LazyLock<Arc<Caller>> = LazyLock::new(|| {
            Arc::new(Caller {
                principal: None,
                by: By::Local,
                label: None,
                groups: Vec::new(),
                scopes: Vec::new(),
                claims: BTreeMap::new(),
                until_unix_ms: None,
                ended: Ended::default(),
                subject: None,
            })
        });
        Arc::clone(&LOCAL)
    }

    /// Whether both are the same principal. Nobody in particular is only the same as nobody in particular.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.principal == other.principal
    }

    /// Whoever the embedding program says it is, or this machine's user.
    pub(crate) fn of_extensions(extensions: &Extensions) -> Arc<Self> {
        match extensions.get::<Principal>() {
            None => Self::local(),
            Some(principal) => Arc::new(Self {
                principal: Some(principal.clone()),
                by: By::Embedder,
                ..Self::clone(&Self::local())
            }),
        }
    }

    /// Waits until the identification ends: its time is over, or somebody ended it. Cancel-safe; never resolves for one that
    /// does not end.
    pub(crate) async fn expired(&self) {
        let over = async {
            let Some(until) = self.until_unix_ms else {
                return std::future::pending().await;
            };
            loop {
                let left_ms = until.saturating_sub(unix_ms());
                if left_ms == 0 {
                    return;
                }
                // In steps, because the clock of the wall may be set, and the machine may sleep.
                tokio::time::sleep(Duration::from_millis(left_ms.min(EXPIRY_LOOK_MS))).await;
            }
        };
        tokio::select! {
            // Cancel-safe: a token holds nothing.
            () = self.ended.0.cancelled() => {}
            // Cancel-safe: it looks at the clock anew.
            () = over => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn nobody_in_particular_costs_nothing_and_is_nobody_else() {
        let none = Caller::of_extensions(&Extensions::new());
        assert!(Arc::ptr_eq(&none, &Caller::local()));
        let mut extensions = Extensions::new();
        extensions.insert(Principal::new("ann").unwrap());
        let ann = Caller::of_extensions(&extensions);
        assert_eq!(
            (ann.by, ann.principal.as_ref().map(Principal::name)),
            (By::Embedder, Some("ann"))
        );
        assert!(!ann.is_same_as(&none) && !none.is_same_as(&ann));
        assert!(ann.is_same_as(&Caller::of_extensions(&extensions)));
    }

    #[tokio::test]
    async fn f212_an_identification_ends_when_its_time_is_over() {
        let mut caller = Caller::clone(&Caller::local());
        caller.until_unix_ms = Some(1);
        caller.expired().await;
        caller.until_unix_ms = Some(u64::MAX);
        assert!(caller.expired().now_or_never().is_none());
        caller.until_unix_ms = None;
        assert!(caller.expired().now_or_never().is_none());
        let same = caller.clone();
        caller.ended = Ended::default();
        caller.ended.end();
        caller.expired().await;
        // One that was ended is still the same caller, and ends nobody else.
        assert_eq!(caller, same);
        assert!(same.expired().now_or_never().is_none());
    }
}
