//! Who a request comes from, as far as the gateway knows: the word between those who identify (the door), those who keep
//! apart (sessions, connections) and those who allow (policy). Nothing here decides.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use mainstay::Principal;

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
            })
        });
        Arc::clone(&LOCAL)
    }
}
