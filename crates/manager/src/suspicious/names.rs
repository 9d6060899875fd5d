//! Names across servers: those that look alike, those that are ours, and tools that speak of others' tools.
//!
//! The same name on two servers is ordinary: what is exposed carries the server (F254). Only what can be mistaken for
//! something else is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mainstay_wire::listing::RawItem;
use mainstay_wire::raw;

use super::hidden::escaped;
use super::{FINDINGS_MAX, Suspicion, SuspicionKind};
use crate::catalog::Catalog;

/// The tools of Mainstay itself, where clients find the others through them.
pub const DISCOVERY_TOOLS: [&str; 3] = ["search_tools", "describe_tool", "call_tool"];

/// Bytes of a description that are looked through.
const DESCRIPTION_BYTES_MAX: usize = 64 * 1024;

type Servers<'a> = &'a BTreeMap<Box<str>, std::sync::Arc<Catalog>>;

/// What of each server's tools can be mistaken for another's, by server. At most [`FINDINGS_MAX`] each.
pub(crate) fn across(servers: Servers<'_>) -> BTreeMap<Box<str>, Vec<Suspicion>> {
    let mut found: BTreeMap<Box<str>, Vec<Suspicion>> = BTreeMap::new();
    let mut tell = |server: &str, suspicion: Suspicion| {
        let told = found.entry(server.into()).or_default();
        if told.len() < FINDINGS_MAX {
            told.push(suspicion);
        }
    };
    let owners = owners(servers);
    look_alikes(&owners, &mut tell);
    for (server, catalog) in servers {
        for tool in &catalog.tools.items {
            if DISCOVERY_TOOLS.contains(&tool.name.as_str()) {
                let words =
                    "the name of one of Mainstay's own tools, by which clients may find all others";
                let place = format!("tool {}", tool.name);
                tell(server, Suspicion::new(SuspicionKind::OwnName, place, words));
            }
            for (other, name) in mentioned(server, tool, &owners) {
                let words = format!("its description speaks of `{name}`, a tool of `{other}`");
                let place = format!("tool {}: description", escaped(&tool.name));
                tell(
                    server,
                    Suspicion::new(SuspicionKind::SpeaksOfOthers, place, &words),
                );
            }
        }
    }
    found
}

/// Who has a tool of which name.
type Owners<'a> = HashMap<&'a str, BTreeSet<&'a str>>;

fn owners(servers: Servers<'_>) -> Owners<'_> {
    let mut owners: Owners<'_> = HashMap::new();
    for (server, catalog) in servers {
        for tool in &catalog.tools.items {
            owners.entry(&tool.name).or_default().insert(server);
        }
    }
    owners
}

/// Names of different servers that are not the same and look the same. Told of the one that is further from plain letters.
fn look_alikes(owners: &Owners<'_>, tell: &mut impl FnMut(&str, Suspicion)) {
    let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in owners.keys() {
        // Upper and lower case look alike as far as they do not differ in shape; `I`, `l` and `1` are one.
        let skeleton: String = unicode_security::skeleton(name).collect();
        alike.entry(skeleton).or_default().push(name);
    }
    for mut names in alike.into_values().filter(|names| names.len() > 1) {
        names.sort_by_key(|name| (!name.is_ascii(), *name));
        let first = names[0];
        for name in &names[1..] {
            for server in &owners[name] {
                let others = owners[first].iter().filter(|other| *other != server);
                if let Some(other) = others.into_iter().next() {
                    let words = format!(
                        "looks like `{}`, a tool of `{other}`, and is another name: {}",
                        escaped(first),
                        name.escape_unicode()
                    );
                    let place = format!("tool {}", escaped(name));
                    tell(
                        server,
                        Suspicion::new(SuspicionKind::LookAlike, place, &words),
                    );
                }
            }
        }
    }
}

/// Tools of other servers that a description names. Only names that are no words of a language.
fn mentioned<'a>(
    server: &str,
    tool: &RawItem,
    owners: &Owners<'a>,
) -> BTreeSet<(&'a str, &'a str)> {
    let Some(text) = raw::string_member(tool.as_str(), &["description"]) else {
        return BTreeSet::new();
    };
    let most = text.len().min(DESCRIPTION_BYTES_MAX);
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at));
    let end = end.unwrap_or_default();
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let words = text[..end].split(|c: char| !is_part(c));
    let mut found = BTreeSet::new();
    for word in words {
        let word = word.trim_matches(['.', '-']);
        // As clients see it: the server, two underscores, the tool.
        let exposed = word.split_once("__").filter(|(other, _)| *other != server);
        let own = exposed.map_or(word, |(_, own)| own);
        let Some((name, whose)) = owners.get_key_value(own) else {
            continue;
        };
        if exposed.is_none() && (whose.contains(server) || !is_telling(own)) {
            continue;
        }
        let named = |other: &&&str| exposed.is_none_or(|(wanted, _)| **other == wanted);
        if let Some(other) = whose.iter().find(named) {
            found.insert((*other, *name));
        }
    }
    found
}

/// Whether a name is one that nobody writes by chance: of several parts.
fn is_telling(name: &str) -> bool {
    let has_hump = name
        .chars()
        .zip(name.chars().skip(1))
        .any(|(one, next)| one.is_lowercase() && next.is_uppercase());
    has_hump || name.contains(['_', '-', '.'])
}
