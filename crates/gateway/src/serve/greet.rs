//! What an endpoint says of itself: capabilities, identity, instructions, for `initialize` and `server/discover`.
//!
//! Only what really works is declared. Not carried yet, and therefore taken out of a server's own words: subscriptions
//! to single resources, and tasks across eras.

use std::collections::BTreeMap;

use mainstay::Catalog;
use mainstay_wire::{Era, json_string, raw};

use super::Shared;
use super::endpoint::{Endpoint, catalog};
use super::fault::Fault;

/// An endpoint's self-description as raw JSON texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Face {
    /// The capabilities object.
    pub(crate) capabilities: String,
    /// The info object.
    pub(crate) info: String,
    /// The instructions, a JSON string.
    pub(crate) instructions: Option<String>,
}

/// Who Mainstay says it is on the aggregate, as a raw JSON object.
pub(crate) fn own_info() -> &'static str {
    concat!(
        "{\"name\":\"mainstay\",\"title\":\"Mainstay\",\"version\":\"",
        env!("CARGO_PKG_VERSION"),
        "\"}"
    )
}

impl Endpoint {
    /// Describes the endpoint to a client of the given era. On one server's endpoint this waits for the server's first
    /// greeting within the edge patience; a server that was never greeted is described as offering everything, so that
    /// clients ask again and get a precise error instead of nothing.
    pub(crate) async fn face(&self, shared: &Shared, era: Era) -> Face {
        match self {
            Self::All => Face {
                capabilities: aggregate(shared),
                info: own_info().to_owned(),
                instructions: None,
            },
            Self::Server(server) => match catalog(shared, server).await {
                Ok(catalog) => of_server(server.name(), &catalog, era),
                Err(fault) => unknown_server(server.name(), &fault),
            },
        }
    }

    /// The info object that results carry towards modern clients.
    pub(crate) fn info(&self, shared: &Shared) -> String {
        match self {
            Self::All => own_info().to_owned(),
            Self::Server(server) => shared
                .manager
                .publication()
                .servers
                .get(server.name())
                .and_then(|catalog| catalog.greeting.server_info.as_deref().map(str::to_owned))
                .unwrap_or_else(|| fallback_info(server.name())),
        }
    }

    /// Whether changes of a kind of listing (`tools`, `prompts`, `resources`) can happen here at all.
    pub(crate) fn offers(&self, shared: &Shared, kind: &str) -> bool {
        match self {
            Self::All => true,
            Self::Server(server) => match shared.manager.publication().servers.get(server.name()) {
                Some(catalog) => catalog.greeting.declares(kind),
                // Not greeted yet: it may come to offer anything.
                None => true,
            },
        }
    }
}

fn aggregate(shared: &Shared) -> String {
    let publication = shared.manager.publication();
    let mut capabilities = String::from(
        "{\"tools\":{\"listChanged\":true},\"prompts\":{\"listChanged\":true},\"resources\":{\"listChanged\":true}",
    );
    for capability in ["completions", "logging"] {
        if publication
            .servers
            .values()
            .any(|catalog| catalog.greeting.declares(capability))
        {
            capabilities.push_str(&format!(",\"{capability}\":{{}}"));
        }
    }
    capabilities.push('}');
    capabilities
}

fn of_server(name: &str, catalog: &Catalog, era: Era) -> Face {
    let greeting = &catalog.greeting;
    let crossing = greeting.revision.era() != era;
    Face {
        capabilities: declared(&greeting.capabilities, crossing),
        info: greeting
            .server_info
            .as_deref()
            .map_or_else(|| fallback_info(name), str::to_owned),
        instructions: greeting.instructions.as_deref().map(str::to_owned),
    }
}

fn unknown_server(name: &str, fault: &Fault) -> Face {
    Face {
        capabilities: "{\"tools\":{\"listChanged\":true},\"prompts\":{\"listChanged\":true},\"resources\":{\"listChanged\":true}}".to_owned(),
        info: fallback_info(name),
        instructions: Some(json_string(&fault.message)),
    }
}

/// Both eras require a name and a version of a server that gave neither.
fn fallback_info(name: &str) -> String {
    format!("{{\"name\":{},\"version\":\"unknown\"}}", json_string(name))
}

/// A server's capabilities object with what is not carried taken out, and `listChanged` where Mainstay itself notices
/// changes. Values that are not touched stay byte for byte.
fn declared(capabilities: &str, crossing: bool) -> String {
    let mut kept: Vec<String> = Vec::new();
    for (key, value) in raw::members(capabilities) {
        let value = match &*key {
            "tasks" | "extensions" if crossing => continue,
            "tools" | "prompts" if raw::is_object(value) => with_list_changed(value, &[]),
            "resources" if raw::is_object(value) => with_list_changed(value, &["subscribe"]),
            _ => value.to_owned(),
        };
        kept.push(format!("{}:{value}", json_string(&key)));
    }
    format!("{{{}}}", kept.join(","))
}

fn with_list_changed(object: &str, without: &[&str]) -> String {
    let mut members: BTreeMap<String, String> = raw::members(object)
        .into_iter()
        .filter(|(key, _)| !without.contains(&&**key))
        .map(|(key, value)| (key.into_owned(), value.to_owned()))
        .collect();
    members.insert("listChanged".to_owned(), "true".to_owned());
    let members: Vec<String> = members
        .into_iter()
        .map(|(key, value)| format!("{}:{value}", json_string(&key)))
        .collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_carried_is_declared() {
        let theirs = r#"{"tools":{"x":1.10},"resources":{"subscribe":true},"tasks":{"list":{}},"experimental":{"n":12345678901234567890}}"#;
        assert_eq!(
            declared(theirs, false),
            r#"{"tools":{"listChanged":true,"x":1.10},"resources":{"listChanged":true},"tasks":{"list":{}},"experimental":{"n":12345678901234567890}}"#
        );
        assert!(!declared(theirs, true).contains("tasks"));
        assert_eq!(declared("{}", true), "{}");
    }
}
