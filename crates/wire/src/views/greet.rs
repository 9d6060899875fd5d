//! `initialize` and `server/discover`.

use super::ViewError;
use crate::listing::{CacheScope, cache_scope, ttl_ms};
use crate::meta;
use crate::raw;
use crate::revision::Revision;

/// Who somebody is. Never decide or trust by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Implementation {
    /// Programmatic name.
    pub name: String,
    /// Version, in whatever scheme; empty if it gave none.
    pub version: String,
    /// Name for people.
    pub title: Option<String>,
    /// All members as they came, a JSON object.
    pub raw: String,
}

impl Implementation {
    /// Reads `{name, version, title?, ...}`. `None` without a name.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        Some(Self {
            name: raw::string_member(text, &["name"])?.into_owned(),
            version: raw::string_member(text, &["version"])
                .unwrap_or_default()
                .into_owned(),
            title: raw::string_member(text, &["title"]).map(Into::into),
            raw: text.to_owned(),
        })
    }
}

/// The parameters of `initialize`, seen by a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitializeParams {
    /// The revision that the client offers, in its own words.
    pub protocol_version: String,
    /// What the client can do, a raw JSON object.
    pub capabilities: String,
    /// Who the client is, if it says so properly.
    pub client_info: Option<Implementation>,
    /// All members as they came.
    pub raw: String,
}

impl InitializeParams {
    /// Reads raw `params`.
    ///
    /// # Errors
    /// [`ViewError`] without a `protocolVersion` string.
    pub fn read(params: &str) -> Result<Self, ViewError> {
        let version = raw::string_member(params, &["protocolVersion"]).ok_or(ViewError {
            what: "initialize request",
            member: "params.protocolVersion",
            expected: "a string",
        })?;
        Ok(Self {
            protocol_version: version.into_owned(),
            capabilities: object_or_empty(params, "capabilities"),
            client_info: raw::member(params, &["clientInfo"]).and_then(Implementation::read),
            raw: params.to_owned(),
        })
    }

    /// What to answer with, see [`Revision::negotiate`].
    #[must_use]
    pub fn negotiated(&self) -> Revision {
        Revision::negotiate(&self.protocol_version)
    }

    /// Whether the client declared this capability; dotted paths as a list, for example `["elicitation", "url"]`.
    #[must_use]
    pub fn has(&self, capability: &[&str]) -> bool {
        declares(&self.capabilities, capability)
    }
}

/// A server's answer to `initialize`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitializeResult {
    /// The revision that the server chose, in its own words; see [`Self::revision`].
    pub protocol_version: String,
    /// What the server can do, a raw JSON object.
    pub capabilities: String,
    /// Who the server is. Required by the specification, tolerated when missing.
    pub server_info: Option<Implementation>,
    /// Advice for the model.
    pub instructions: Option<String>,
    /// All members as they came, a JSON object.
    pub raw: String,
}

impl InitializeResult {
    /// Reads a raw `result`.
    ///
    /// # Errors
    /// [`ViewError`] without a `protocolVersion` string: then whatever answered is no MCP server.
    pub fn read(result: &str) -> Result<Self, ViewError> {
        let version = raw::string_member(result, &["protocolVersion"]).ok_or(ViewError {
            what: "initialize result",
            member: "result.protocolVersion",
            expected: "a string",
        })?;
        Ok(Self {
            protocol_version: version.into_owned(),
            capabilities: object_or_empty(result, "capabilities"),
            server_info: raw::member(result, &["serverInfo"]).and_then(Implementation::read),
            instructions: raw::string_member(result, &["instructions"]).map(Into::into),
            raw: result.to_owned(),
        })
    }

    /// The chosen revision if we know it.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        Revision::parse(&self.protocol_version)
    }

    /// Whether the server declared this capability, for example `["resources", "subscribe"]`. An explicit `false` is a no.
    #[must_use]
    pub fn has(&self, capability: &[&str]) -> bool {
        declares(&self.capabilities, capability)
    }
}

/// A server's answer to `server/discover`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoverResult {
    /// What the server speaks, in its own words; see [`Revision::newest_modern`].
    pub supported_versions: Vec<String>,
    /// What the server can do, a raw JSON object.
    pub capabilities: String,
    /// Who the server is, from `_meta`.
    pub server_info: Option<Implementation>,
    /// Advice for the model.
    pub instructions: Option<String>,
    /// How long it may be kept, in milliseconds; absent or negative counts as 0.
    pub ttl_ms: u64,
    /// Who may share it; absent means nobody.
    pub cache_scope: CacheScope,
    /// All members as they came, a JSON object.
    pub raw: String,
}

impl DiscoverResult {
    /// Reads a raw `result`.
    ///
    /// # Errors
    /// [`ViewError`] without a `supportedVersions` list of strings: then the server is treated as legacy.
    pub fn read(result: &str) -> Result<Self, ViewError> {
        let fail = ViewError {
            what: "discover result",
            member: "result.supportedVersions",
            expected: "a list of strings",
        };
        let versions = raw::member(result, &["supportedVersions"])
            .and_then(raw::elements)
            .ok_or_else(|| fail.clone())?;
        let versions: Option<Vec<String>> = versions
            .into_iter()
            .map(|raw| raw::string(raw).map(Into::into))
            .collect();
        Ok(Self {
            supported_versions: versions.ok_or(fail)?,
            capabilities: object_or_empty(result, "capabilities"),
            server_info: raw::member(result, &["_meta", meta::SERVER_INFO])
                .and_then(Implementation::read),
            instructions: raw::string_member(result, &["instructions"]).map(Into::into),
            ttl_ms: ttl_ms(result).unwrap_or(0),
            cache_scope: cache_scope(result).unwrap_or(CacheScope::Private),
            raw: result.to_owned(),
        })
    }

    /// The newest modern revision that the server and we have.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        Revision::newest_modern(self.supported_versions.iter().map(String::as_str))
    }

    /// Whether the server declared this capability. An explicit `false` is a no.
    #[must_use]
    pub fn has(&self, capability: &[&str]) -> bool {
        declares(&self.capabilities, capability)
    }
}

/// A capability is declared by being there, unless it says `false` or null.
pub(crate) fn declares(capabilities: &str, path: &[&str]) -> bool {
    raw::member(capabilities, path).is_some_and(|value| !matches!(value, "false" | "null"))
}

fn object_or_empty(text: &str, key: &str) -> String {
    raw::member(text, &[key])
        .filter(|value| raw::is_object(value))
        .unwrap_or("{}")
        .to_owned()
}
