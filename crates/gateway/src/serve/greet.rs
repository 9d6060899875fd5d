//! What an endpoint says of itself: capabilities, identity, instructions, for `initialize` and `server/discover`.
//!
//! Only what really works is declared: what a server says of itself passes untouched within its era, and without tasks and
//! extensions into the other one. The aggregate declares what at least one of its servers offers.

use std::collections::BTreeMap;

use mainstay::config::Discovery;
use mainstay::{Catalog, Publication};
use mainstay_wire::{Era, Revision, json_string, raw};

use super::Shared;
use super::endpoint::{Endpoint, catalog_for};
use super::fault::Fault;
use super::view::Viewer;
use super::{discovery, profiles};

/// Instructions of one server on the aggregate, and of all of them together, in bytes.
const INSTRUCTIONS_OF_ONE_BYTES_MAX: usize = 4 * 1024;
const INSTRUCTIONS_BYTES_MAX: usize = 16 * 1024;

/// An extension that is nothing but resources and `_meta`, so that it works across eras.
const UI_EXTENSION: &str = "io.modelcontextprotocol/ui";

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
    pub(crate) async fn face(&self, shared: &Shared, who: &Viewer, era: Era) -> Face {
        match self {
            Self::All | Self::Profile(_) => {
                // In the first moments: most clients ask once, and what is declared then stays for them.
                self.settled(shared).await;
                let publication = self.publication(shared, &who.as_declaring_nothing());
                let advice = match profiles::discovery(shared, self) {
                    Discovery::Search => Some(discovery::ADVICE),
                    Discovery::List => None,
                };
                Face {
                    capabilities: aggregate(&publication, era),
                    info: own_info().to_owned(),
                    instructions: joined_instructions(&publication, advice),
                }
            }
            Self::Server(server) => {
                match catalog_for(shared, server, &who.as_declaring_nothing()).await {
                    Ok(catalog) => of_server(server.name(), &catalog, era),
                    Err(fault) => unknown_server(server.name(), &fault),
                }
            }
        }
    }

    /// The info object that results carry towards modern clients.
    pub(crate) fn info(&self, shared: &Shared) -> String {
        match self {
            Self::All | Self::Profile(_) => own_info().to_owned(),
            Self::Server(server) => shared
                .manager
                .publication()
                .servers
                .get(server.name())
                .and_then(|catalog| catalog.greeting.server_info.as_deref().map(str::to_owned))
                .unwrap_or_else(|| fallback_info(server.name())),
        }
    }

    /// Whether it makes sense to subscribe to a resource here. A server that was not greeted yet may come to offer it.
    pub(crate) fn may_subscribe(&self, shared: &Shared, who: &Viewer) -> bool {
        let publication = self.publication(shared, &who.as_declaring_nothing());
        let mut catalogs = publication.servers.values();
        match self {
            Self::All | Self::Profile(_) => {
                catalogs.any(|catalog| catalog.greeting.may_subscribe())
            }
            Self::Server(server) => publication
                .servers
                .get(server.name())
                .is_none_or(|catalog| catalog.greeting.may_subscribe()),
        }
    }

    /// Whether changes of a kind of listing (`tools`, `prompts`, `resources`) can happen here at all.
    pub(crate) fn offers(&self, shared: &Shared, kind: &str) -> bool {
        match self {
            Self::All | Self::Profile(_) => true,
            Self::Server(server) => match shared.manager.publication().servers.get(server.name()) {
                Some(catalog) => catalog.greeting.declares(kind),
                // Not greeted yet: it may come to offer anything.
                None => true,
            },
        }
    }
}

fn aggregate(publication: &Publication, era: Era) -> String {
    let catalogs = || publication.servers.values();
    let subscribe = if catalogs().any(|catalog| catalog.greeting.can_subscribe()) {
        ",\"subscribe\":true"
    } else {
        ""
    };
    let mut capabilities = format!(
        "{{\"tools\":{{\"listChanged\":true}},\"prompts\":{{\"listChanged\":true}},\"resources\":{{\"listChanged\":true{subscribe}}}"
    );
    for capability in ["completions", "logging"] {
        if catalogs().any(|catalog| catalog.greeting.declares(capability)) {
            capabilities.push_str(&format!(",\"{capability}\":{{}}"));
        }
    }
    // The first server by name speaks for an extension that several have.
    let mut extensions: BTreeMap<String, &str> = BTreeMap::new();
    for catalog in catalogs() {
        let crossing = catalog.greeting.revision.era() != era;
        let declared = raw::member(&catalog.greeting.capabilities, &["extensions"]);
        for (key, value) in declared.map(raw::members).unwrap_or_default() {
            if !crossing || key == UI_EXTENSION {
                extensions.entry(key.into_owned()).or_insert(value);
            }
        }
    }
    if !extensions.is_empty() {
        capabilities.push_str(&format!(",\"extensions\":{}", object(&extensions)));
    }
    capabilities.push('}');
    capabilities
}

/// What the servers advise, each under its name. What finds no room is left out, visibly.
fn joined_instructions(publication: &Publication, advice: Option<&str>) -> Option<String> {
    let mut joined = String::new();
    if let Some(advice) = advice {
        joined.push_str(&format!("{advice}\n\n"));
    }
    let mut left_out = 0;
    for (server, catalog) in &publication.servers {
        let Some(text) = catalog
            .greeting
            .instructions
            .as_deref()
            .and_then(raw::string)
        else {
            continue;
        };
        let text = cut(text.trim());
        if joined.len() + text.len() > INSTRUCTIONS_BYTES_MAX {
            left_out += 1;
        } else if !text.is_empty() {
            joined.push_str(&format!("## {server}\n\n{text}\n\n"));
        }
    }
    if left_out > 0 {
        joined.push_str(&format!(
            "(The instructions of {left_out} more servers are too long to be shown here.)"
        ));
    }
    let joined = joined.trim_end();
    (!joined.is_empty()).then(|| json_string(joined))
}

fn cut(text: &str) -> String {
    if text.len() <= INSTRUCTIONS_OF_ONE_BYTES_MAX {
        return text.to_owned();
    }
    let whole = text.char_indices().map(|(at, _)| at);
    let end = whole
        .take_while(|at| *at <= INSTRUCTIONS_OF_ONE_BYTES_MAX)
        .last();
    format!("{}…", &text[..end.unwrap_or(0)])
}

fn object(members: &BTreeMap<String, &str>) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(key, value)| format!("{}:{value}", json_string(key)))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// An info object for a client of a revision: without what that revision does not know. Everything else passes untouched.
pub(crate) fn info_for(info: &str, revision: Revision) -> String {
    let newer = |key: &str| match key {
        "title" => revision < Revision::V2025_06_18,
        "description" | "icons" | "websiteUrl" => revision < Revision::V2025_11_25,
        _ => false,
    };
    let members = raw::members(info);
    if !members.iter().any(|(key, _)| newer(key)) {
        return info.to_owned();
    }
    let kept: Vec<String> = members
        .iter()
        .filter(|(key, _)| !newer(key))
        .map(|(key, value)| format!("{}:{value}", json_string(key)))
        .collect();
    format!("{{{}}}", kept.join(","))
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
            "tasks" if crossing => continue,
            "extensions" if crossing => match raw::member(value, &[UI_EXTENSION]) {
                Some(ui) => format!("{{{}:{ui}}}", json_string(UI_EXTENSION)),
                None => continue,
            },
            "tools" | "prompts" | "resources" if raw::is_object(value) => with_list_changed(value),
            _ => value.to_owned(),
        };
        kept.push(format!("{}:{value}", json_string(&key)));
    }
    format!("{{{}}}", kept.join(","))
}

fn with_list_changed(capability: &str) -> String {
    let mut members: BTreeMap<String, &str> = raw::members(capability)
        .into_iter()
        .map(|(key, value)| (key.into_owned(), value))
        .collect();
    members.insert("listChanged".to_owned(), "true");
    object(&members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_carried_is_declared() {
        let theirs = r#"{"tools":{"x":1.10},"resources":{"subscribe":true},"tasks":{"list":{}},"experimental":{"n":12345678901234567890}}"#;
        assert_eq!(
            declared(theirs, false),
            r#"{"tools":{"listChanged":true,"x":1.10},"resources":{"listChanged":true,"subscribe":true},"tasks":{"list":{}},"experimental":{"n":12345678901234567890}}"#
        );
        assert!(!declared(theirs, true).contains("tasks"));
        assert_eq!(declared("{}", true), "{}");
        let extensions = r#"{"extensions":{"io.modelcontextprotocol/tasks":{},"io.modelcontextprotocol/ui":{"m":[1.0]}}}"#;
        assert_eq!(declared(extensions, false), extensions);
        assert_eq!(
            declared(extensions, true),
            r#"{"extensions":{"io.modelcontextprotocol/ui":{"m":[1.0]}}}"#
        );
    }

    #[test]
    fn an_info_object_loses_only_what_the_revision_does_not_know() {
        let info = r#"{"name":"s", "title":"S","icons":[],"x":1.10}"#;
        assert_eq!(info_for(info, Revision::V2025_11_25), info);
        assert_eq!(
            info_for(info, Revision::V2025_06_18),
            r#"{"name":"s","title":"S","x":1.10}"#
        );
        assert_eq!(
            info_for(info, Revision::V2025_03_26),
            r#"{"name":"s","x":1.10}"#
        );
    }

    #[test]
    fn long_instructions_are_cut_at_a_character() {
        let long = "ä".repeat(INSTRUCTIONS_OF_ONE_BYTES_MAX);
        assert!(cut(&long).len() <= INSTRUCTIONS_OF_ONE_BYTES_MAX + '…'.len_utf8());
        assert_eq!(cut("short"), "short");
    }
}
