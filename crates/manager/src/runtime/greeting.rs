//! What a server said of itself when it was greeted, and what we say of ourselves.

use mainstay_wire::meta;
use mainstay_wire::revision::{Era, Revision};
use mainstay_wire::splice::json_string;
use mainstay_wire::views::{DiscoverResult, InitializeResult};

use crate::request::ClientFace;

/// The capabilities that the shared connection declares, unless the user of the library set roots. Empty: what is not declared
/// is not asked, and clients that can be asked something have connections that say so (`pool`).
pub(crate) const OUR_CAPABILITIES: &str = "{}";

/// Who we say we are.
pub(crate) fn our_info() -> String {
    format!(
        "{{\"name\":\"mainstay\",\"version\":\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    )
}

/// A server's own words: raw JSON text, kept as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The revision that both sides keep to.
    pub revision: Revision,
    /// The server's capabilities object.
    pub capabilities: Box<str>,
    /// The server's info object, if it gave one.
    pub server_info: Option<Box<str>>,
    /// The server's instructions as a JSON string, if it gave any.
    pub instructions: Option<Box<str>>,
}

impl Greeting {
    /// The greeting of a modern server.
    pub(crate) fn from_discover(revision: Revision, view: DiscoverResult) -> Self {
        Self {
            revision,
            capabilities: view.capabilities.into(),
            server_info: view.server_info.map(|info| info.raw.into()),
            instructions: view.instructions.map(|text| json_string(&text).into()),
        }
    }

    /// The greeting of a legacy server.
    pub(crate) fn from_initialize(revision: Revision, view: InitializeResult) -> Self {
        Self {
            revision,
            capabilities: view.capabilities.into(),
            server_info: view.server_info.map(|info| info.raw.into()),
            instructions: view.instructions.map(|text| json_string(&text).into()),
        }
    }

    /// Whether the server declared a capability, for example `tools` or `prompts`.
    #[must_use]
    pub fn declares(&self, capability: &str) -> bool {
        self.capability(capability).is_some()
    }

    /// Whether the server declared that it tells when a listing changed.
    #[must_use]
    pub fn tells_changes(&self, capability: &str) -> bool {
        self.capability(capability)
            .and_then(|object| {
                object
                    .get("listChanged")
                    .and_then(serde_json::Value::as_bool)
            })
            .unwrap_or(false)
    }

    /// Whether the server declared that single resources can be subscribed to.
    #[must_use]
    pub fn can_subscribe(&self) -> bool {
        self.capability("resources")
            .and_then(|object| object.get("subscribe").and_then(serde_json::Value::as_bool))
            .unwrap_or(false)
    }

    /// Whether it makes sense to ask for a subscription. Servers of the legacy era are known that take subscriptions on
    /// without having declared it.
    #[must_use]
    pub fn may_subscribe(&self) -> bool {
        match self.revision.era() {
            Era::Legacy => self.declares("resources"),
            Era::Modern => self.can_subscribe(),
        }
    }

    /// What this greeting says differently from an earlier one, in stable words (law 25, F38).
    pub(crate) fn differences(&self, earlier: &Self) -> Vec<&'static str> {
        let compared = [
            ("revision", self.revision != earlier.revision),
            ("identity", self.server_info != earlier.server_info),
            ("capabilities", self.capabilities != earlier.capabilities),
            ("instructions", self.instructions != earlier.instructions),
        ];
        compared
            .into_iter()
            .filter_map(|(what, differs)| differs.then_some(what))
            .collect()
    }

    fn capability(&self, capability: &str) -> Option<serde_json::Value> {
        let capabilities: serde_json::Value = serde_json::from_str(&self.capabilities).ok()?;
        capabilities
            .get(capability)
            .filter(|value| value.is_object())
            .cloned()
    }

    /// The `_meta` members that a modern server requires of every request, for the given caller or for ourselves.
    pub(crate) fn stamp(&self, client: Option<&ClientFace>) -> Vec<(&'static str, String)> {
        let capabilities = client.map_or(OUR_CAPABILITIES, |client| &client.capabilities);
        let info = client
            .and_then(|client| client.info.as_deref())
            .map_or_else(our_info, str::to_owned);
        vec![
            (
                meta::PROTOCOL_VERSION,
                mainstay_wire::splice::json_string(self.revision.as_str()),
            ),
            (meta::CLIENT_CAPABILITIES, capabilities.to_owned()),
            (meta::CLIENT_INFO, info),
        ]
    }
}
