//! What one record of the audit log holds. Member names are part of the format.

use mainstay::catalog::unix_ms;
use serde::Serialize;

use crate::serve::caller::{By, Caller};

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Kind {
    /// A request to a server: made, refused or denied.
    Call,
    /// An order or another change over the admin API.
    Operator,
    /// The configuration was loaded.
    Config,
    /// The log itself.
    Audit,
}

/// Who it was.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Who {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) principal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
    /// How it was identified.
    pub(crate) by: &'static str,
}

impl Who {
    pub(crate) fn of(caller: &Caller) -> Self {
        Self {
            principal: caller.principal.as_ref().map(ToString::to_string),
            label: caller.label.as_deref().map(str::to_owned),
            by: way(caller.by),
        }
    }

    /// Whoever may use the admin API.
    pub(crate) fn operator(by: &'static str) -> Self {
        Self {
            by,
            ..Self::default()
        }
    }
}

/// A way to be identified, as a word.
pub(crate) fn way(by: By) -> &'static str {
    match by {
        By::Local => "local",
        By::Token => "token",
        By::Jwt => "jwt",
        By::Certificate => "certificate",
        By::Embedder => "embedder",
    }
}

/// Who approved a call, or did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Approved {
    /// `client` or `operator`.
    pub(crate) by: &'static str,
    pub(crate) allowed: bool,
}

/// One record.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) at_unix_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) who: Option<Who>,
    /// The method, or `GET /path` of the admin API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    /// The server's own name of the tool or the prompt, or the uri of the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The name that the client used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exposed: Option<String>,
    /// The endpoint: `/mcp`, `/servers/NAME/mcp`, `/profiles/NAME/mcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    /// `allow`, `deny` or `refuse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decision: Option<&'static str>,
    /// The rule that decided, or `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) approval: Option<Approved>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration_ms: Option<u64>,
    /// SHA-256 of the arguments in their canonical form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) arguments_sha256: Option<String>,
    /// What the log says of itself: `started`, `torn`, `gap`, `lost`, `ended`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<&'static str>,
    /// Records that were lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) records: Option<u64>,
    /// Further words: settings that changed, the status of an answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) details: Vec<String>,
}

impl Record {
    /// A record of now, about nothing yet.
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            at_unix_ms: unix_ms(),
            who: None,
            method: None,
            server: None,
            name: None,
            exposed: None,
            endpoint: None,
            decision: None,
            rule: None,
            reason: None,
            approval: None,
            outcome: None,
            duration_ms: None,
            arguments_sha256: None,
            event: None,
            records: None,
            details: Vec::new(),
        }
    }

    /// What the log says of itself.
    pub(super) fn event(event: &'static str) -> Self {
        Self {
            event: Some(event),
            ..Self::new(Kind::Audit)
        }
    }
}
