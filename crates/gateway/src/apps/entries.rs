//! From the tree of one file to its entries, still in the app's own words.
//!
//! Knows where each shape keeps its servers and which of them are switched off; understands no entry (`translate` does).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::dialect::{Dialect, Input};
use super::{Format, Shape};

/// Most entries of one file: beyond that it is no list of servers.
pub(crate) const ENTRIES_MAX: usize = 1_000;

/// One entry of an app.
#[derive(Debug)]
pub(crate) struct Raw {
    /// Its name there.
    pub(crate) name: String,
    /// The keys that lead to it: `mcpServers.time`.
    pub(crate) at: String,
    /// What it says.
    pub(crate) map: Map<String, Value>,
    /// Whether something outside the entry switches it off.
    pub(crate) off: bool,
    /// The project that it belongs to; `None`: to all.
    pub(crate) project: Option<PathBuf>,
    /// What its references mean.
    pub(crate) dialect: Dialect,
}

/// The entries of one file, and what was no entry.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// In the order of their names.
    pub(crate) found: Vec<Raw>,
    /// What could not be used, with the keys that lead there.
    pub(crate) problems: Vec<String>,
    /// Whether the map of servers is there at all, however empty.
    pub(crate) present: bool,
}

/// Takes the entries of `shape` out of `tree`, from below `keys`. `project`: the project that the whole file belongs to.
pub(crate) fn collect(
    shape: Shape,
    keys: &[&str],
    tree: &Value,
    project: Option<&Path>,
) -> Entries {
    let mut entries = Entries::default();
    if shape == Shape::Awaken {
        awaken(tree, &mut entries);
        return entries;
    }
    let inputs = if shape == Shape::VsCode {
        inputs(tree, keys)
    } else {
        BTreeMap::new()
    };
    let dialect = Dialect::new(shape, inputs, project);
    let mut at = keys.join(".");
    let mut map = keys.iter().try_fold(tree, |node, key| node.get(key));
    if shape == Shape::OpenCode
        && let Some(inner) = map
            .and_then(|map| map.get("servers"))
            .filter(|inner| is_map_of_entries(inner))
    {
        map = Some(inner);
        at = format!("{at}.servers");
    }
    members(map, &at, project, &dialect, &mut entries);
    if shape == Shape::Gemini {
        gemini_switches(tree, &mut entries);
    }
    if shape == Shape::ClaudeCode && project.is_none() {
        claude_projects(tree, &mut entries);
    }
    if shape == Shape::Nemo {
        let is_client = |raw: &Raw| {
            matches!(
                text(&raw.map, "_type"),
                Some("mcp_client" | "per_user_mcp_client")
            )
        };
        entries.found.retain(is_client);
        entries.present = !entries.found.is_empty();
        entries.problems.clear();
    }
    entries
}

fn is_map_of_entries(value: &Value) -> bool {
    value.as_object().is_some_and(|map| {
        !map.contains_key("command") && !map.contains_key("url") && !map.contains_key("type")
    })
}

fn members(
    map: Option<&Value>,
    at: &str,
    project: Option<&Path>,
    dialect: &Dialect,
    entries: &mut Entries,
) {
    let Some(map) = map.filter(|map| !map.is_null()) else {
        return;
    };
    entries.present = true;
    let Some(map) = map.as_object() else {
        entries
            .problems
            .push(format!("`{at}` is no map of servers"));
        return;
    };
    for (name, value) in map {
        let at = if at.is_empty() {
            name.clone()
        } else {
            format!("{at}.{name}")
        };
        let Some(entry) = value.as_object() else {
            entries
                .problems
                .push(format!("`{at}` is no server: it is not a map"));
            continue;
        };
        if entries.found.len() >= ENTRIES_MAX {
            entries.problems.push(format!(
                "there are more than {ENTRIES_MAX} servers; the others are left out"
            ));
            return;
        }
        entries.found.push(Raw {
            name: name.clone(),
            at,
            map: entry.clone(),
            off: false,
            project: project.map(Path::to_owned),
            dialect: dialect.clone(),
        });
    }
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str)
}

fn texts(value: Option<&Value>) -> Vec<&str> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// What VS Code asks for, beside the map of servers.
fn inputs(tree: &Value, keys: &[&str]) -> BTreeMap<String, Input> {
    let around = keys
        .split_last()
        .and_then(|(_, before)| before.iter().try_fold(tree, |node, key| node.get(key)));
    let list = around
        .and_then(|around| around.get("inputs"))
        .and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|input| {
            let own = |key: &str| input.get(key).and_then(Value::as_str).map(str::to_owned);
            let made = Input {
                description: own("description"),
                default: own("default"),
                password: input
                    .get("password")
                    .and_then(Value::as_bool)
                    .unwrap_or(false),
            };
            Some((own("id")?, made))
        })
        .collect()
}

/// `mcp.allowed` and `mcp.excluded` of Gemini CLI and Qwen Code.
fn gemini_switches(tree: &Value, entries: &mut Entries) {
    let switches = tree.get("mcp");
    let excluded = texts(switches.and_then(|mcp| mcp.get("excluded")));
    let allowed = switches.and_then(|mcp| mcp.get("allowed"));
    let all_allowed = allowed.is_none();
    let allowed = texts(allowed);
    for raw in &mut entries.found {
        let name = raw.name.as_str();
        raw.off = excluded.contains(&name) || !(all_allowed || allowed.contains(&name));
    }
}

/// The servers of single projects in the user's file of Claude Code.
fn claude_projects(tree: &Value, entries: &mut Entries) {
    let projects = tree.get("projects").and_then(Value::as_object);
    for (directory, project) in projects.into_iter().flatten() {
        let first = entries.found.len();
        let folder = Path::new(directory);
        let dialect = Dialect::new(Shape::ClaudeCode, BTreeMap::new(), Some(folder));
        let at = format!("projects.\"{directory}\".mcpServers");
        members(
            project.get("mcpServers"),
            &at,
            Some(folder),
            &dialect,
            entries,
        );
        let off = texts(project.get("disabledMcpServers"));
        for raw in entries.found.iter_mut().skip(first) {
            raw.off = off.contains(&raw.name.as_str());
        }
    }
}

/// A list of records, one record, or what wraps either.
fn awaken(tree: &Value, entries: &mut Entries) {
    let list = match tree {
        Value::Array(list) => Some((String::new(), list)),
        Value::Object(map) => ["mcp-servers", "mcp_servers", "items", "servers"]
            .into_iter()
            .find_map(|key| Some((key.to_owned(), map.get(key)?.as_array()?))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    };
    let records: Vec<(String, &Value)> = match list {
        Some((key, list)) => list
            .iter()
            .enumerate()
            .map(|(index, one)| (format!("{key}[{index}]"), one))
            .collect(),
        None => vec![(String::new(), tree)],
    };
    for (at, record) in records.into_iter().take(ENTRIES_MAX) {
        let hidden = record
            .pointer("/meta/hidden")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let (at, spec) = match record.get("spec") {
            Some(spec) => (
                format!("{at}.spec").trim_start_matches('.').to_owned(),
                spec,
            ),
            None => (at, record),
        };
        let entry = spec
            .as_object()
            .and_then(|map| Some((text(map, "id")?, map)));
        let Some((id, map)) = entry else {
            if !(at.is_empty() && tree.as_object().is_some_and(Map::is_empty)) {
                let place = if at.is_empty() {
                    "the file".to_owned()
                } else {
                    format!("`{at}`")
                };
                entries
                    .problems
                    .push(format!("{place} holds no record with an `id`"));
            }
            continue;
        };
        entries.present = true;
        entries.found.push(Raw {
            name: id.to_owned(),
            at,
            map: map.clone(),
            off: hidden,
            project: None,
            dialect: Dialect::new(Shape::Awaken, BTreeMap::new(), None),
        });
    }
}

/// What kind of file this is, by what is in it: its shape, and the keys that lead to its servers.
pub(crate) fn detect(
    path: &Path,
    format: Format,
    tree: &Value,
) -> Option<(Shape, &'static [&'static str])> {
    let has = |key: &str| tree.get(key).is_some_and(Value::is_object);
    if tree.is_array()
        || tree.get("spec").is_some()
        || tree.get("mcp-servers").is_some_and(Value::is_array)
    {
        return Some((Shape::Awaken, &[]));
    }
    if has("mcpServers") {
        return Some((of_common(path, tree), &["mcpServers"]));
    }
    if has("context_servers") {
        return Some((Shape::Zed, &["context_servers"]));
    }
    if has("function_groups") {
        return Some((Shape::Nemo, &["function_groups"]));
    }
    if has("mcp_servers") {
        let shape = if format == Format::Toml {
            Shape::Codex
        } else {
            Shape::Hermes
        };
        return Some((shape, &["mcp_servers"]));
    }
    if has("extensions") && format == Format::Yaml {
        return Some((Shape::Goose, &["extensions"]));
    }
    if has("servers") {
        return Some((Shape::VsCode, &["servers"]));
    }
    if has("mcp") {
        let is_editor = tree.pointer("/mcp/inputs").is_some()
            || tree
                .pointer("/mcp/servers")
                .and_then(Value::as_object)
                .is_some_and(|map| {
                    map.values()
                        .any(|entry| entry.get("command").is_some_and(Value::is_string))
                });
        return Some(if is_editor {
            (Shape::VsCode, &["mcp", "servers"])
        } else {
            (Shape::OpenCode, &["mcp"])
        });
    }
    let entries = tree.as_object().filter(|map| !map.is_empty())?;
    if entries.contains_key("id") && entries.contains_key("transport") {
        return Some((Shape::Awaken, &[]));
    }
    let is_entry = |entry: &Value| entry.get("command").is_some() || entry.get("url").is_some();
    if !entries.values().all(is_entry) {
        return None;
    }
    let is_open_code = |entry: &Value| {
        matches!(
            entry.get("type").and_then(Value::as_str),
            Some("local" | "remote")
        )
    };
    Some((
        if entries.values().any(is_open_code) {
            Shape::OpenCode
        } else {
            Shape::Common
        },
        &[],
    ))
}

/// Which of the apps with a map `mcpServers` wrote this.
fn of_common(path: &Path, tree: &Value) -> Shape {
    let is_below = |directory: &str| path.iter().any(|part| part == directory);
    let entries = tree.get("mcpServers").and_then(Value::as_object);
    let has_key =
        |key: &str| entries.is_some_and(|map| map.values().any(|entry| entry.get(key).is_some()));
    let has_projects = tree.get("projects").is_some_and(Value::is_object);
    if is_below(".gemini") || is_below(".qwen") || has_key("httpUrl") {
        Shape::Gemini
    } else if has_projects || path.ends_with(".claude.json") || path.ends_with(".mcp.json") {
        Shape::ClaudeCode
    } else if has_key("serverUrl") {
        Shape::Windsurf
    } else if has_key("alwaysAllow") {
        Shape::Roo
    } else if has_key("autoApprove") {
        Shape::Cline
    } else {
        Shape::Common
    }
}
