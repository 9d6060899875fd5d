//! What is shown of what a server listed: the operator's word on its tools, applied to a complete listing.
//!
//! A slot keeps both: what the server listed, which is what the store remembers and what listings are compared with, and
//! what is shown, which is all that handles, clients and events ever see. So a changed word takes effect without asking
//! the server anything (F214). The way back, from what a caller says to what the server understands, is [`call`]'s; both
//! follow from the config alone, never from what happens to be listed. Must not build JSON trees: items are spliced.

pub(crate) mod call;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_wire::envelope::Message;
use mainstay_wire::listing::{self, ListKind, RawItem};
use mainstay_wire::raw;
use mainstay_wire::splice::json_string;

use crate::catalog::{Catalog, Hidden, ItemList};
use crate::config::{HiddenText, ServerConfig, Tools};
use crate::pins::{ChangeKind, Holdback};
use crate::suspicious::{self, hidden as hidden_text};

/// The catalog that is shown for a listing; the listing itself where the config has nothing to say.
pub(crate) fn shaped(
    listed: &Arc<Catalog>,
    config: &ServerConfig,
    held: &Holdback,
) -> Arc<Catalog> {
    let listed = &visible(listed, config);
    let tools = &config.tools;
    if tools.shows_all_as_listed() {
        return Arc::clone(listed);
    }
    let mut hidden = listed.hidden.clone();
    let mut hide = |name: &str, reason: String| {
        hidden.push(Hidden {
            server: config.name.clone(),
            name: name.to_owned(),
            reason,
        });
    };
    let mut shown = Vec::with_capacity(listed.tools.items.len());
    for tool in &listed.tools.items {
        match shape(tool, tools) {
            Ok(item) => match why_held(&tool.name, held, &config.name) {
                // Under the name that clients would call it by.
                Some(reason) => hide(&item.name, reason),
                None => shown.push(item),
            },
            Err(reason) => hide(&tool.name, reason),
        }
    }
    for (name, key) in strangers(listed, tools) {
        hide(
            name,
            format!("`tools.{key}` names it, but the server lists no such tool"),
        );
    }
    Arc::new(Catalog {
        tools: ItemList::new(shown).with_hint(listed.tools.hint),
        hidden,
        ..Catalog::clone(listed)
    })
}

/// The listing without characters that nobody sees, where the config wants that (F252): words lose them, and an item that
/// has them in what calls are made of is not shown. The listing itself if there is nothing to do.
fn visible(listed: &Arc<Catalog>, config: &ServerConfig) -> Arc<Catalog> {
    let has_any = || !suspicious::within(listed, config.guard.hidden_text).is_empty();
    if config.guard.hidden_text != HiddenText::Strip || !has_any() {
        return Arc::clone(listed);
    }
    let mut clean = Catalog::clone(listed);
    let mut hidden = listed.hidden.clone();
    for (kind, list) in suspicious::lists(listed) {
        let items = list.items.iter().filter_map(|item| {
            let stripped = hidden_text::stripped(item.as_str());
            let reason = match stripped.map(|text| text.map(|text| parse(kind, text.into()))) {
                Ok(None) => return Some(item.clone()),
                Ok(Some(Ok(item))) => return Some(item),
                Ok(Some(Err(reason))) => reason,
                Err(member) => format!("there are characters that nobody sees in `{member}`"),
            };
            hidden.push(Hidden {
                server: config.name.clone(),
                name: hidden_text::escaped(&item.name),
                reason: format!("{reason} (`hiddenText` is `strip`)"),
            });
            None
        });
        let items = ItemList::new(items.collect()).with_hint(list.hint);
        match kind {
            ListKind::Tools => clean.tools = items,
            ListKind::Prompts => clean.prompts = items,
            ListKind::Resources => clean.resources = items,
            ListKind::Templates => clean.templates = items,
        }
    }
    clean.hidden = hidden;
    let words = clean.greeting.instructions.as_deref().and_then(raw::string);
    if let Some(words) = words.filter(|words| hidden_text::has_any(words)) {
        clean.greeting.instructions = Some(json_string(&hidden_text::visible(&words)).into());
    }
    Arc::new(clean)
}

/// Why a tool is held back, if it is.
fn why_held(own: &str, held: &Holdback, server: &str) -> Option<String> {
    let change = held.tools.get(own)?;
    let why = match (&held.damaged, change.kind) {
        (Some(_), _) => "the record of approved tools cannot be read",
        (None, ChangeKind::Added) => "it is new",
        (None, ChangeKind::Changed | ChangeKind::Removed) => {
            "its definition has changed since it was approved"
        }
    };
    Some(format!(
        "held back: {why}; `mainstay tools diff {server}` shows it, `mainstay tools approve {server} {own}` approves it"
    ))
}

/// One tool as it is shown, or why it is not.
fn shape(tool: &RawItem, tools: &Tools) -> Result<RawItem, String> {
    let own = tool.name.as_str();
    if !tools.allows(own) {
        return Err("left out by `tools` in the server's config entry".to_owned());
    }
    let name = tools.shown_name(own);
    // Whom a call of that name reaches decides, so that no tool that a server adds can take the name of another.
    if let Some(other) = tools.own_name(name).filter(|other| *other != own) {
        return Err(format!(
            "its name is given to `{other}` by `tools.rename` in the server's config entry"
        ));
    }
    let described = described(tool, tools)?;
    if name == own {
        return Ok(described);
    }
    parse(
        ListKind::Tools,
        listing::renamed(&described, name).into_bytes(),
    )
}

/// A tool with the operator's description, and without those among its required arguments that calls get anyway.
fn described(tool: &RawItem, tools: &Tools) -> Result<RawItem, String> {
    let words = tools.describe.get(&tool.name);
    let required = required(tool, tools);
    if words.is_none() && required.is_none() {
        return Ok(tool.clone());
    }
    let carrier = Message::notification("tool", Some(tool.as_str()));
    let mut editor = carrier.edit();
    if let Some(words) = words {
        editor = editor.set(&["params", "description"], json_string(words));
    }
    const REQUIRED: &[&str] = &["params", "inputSchema", "required"];
    match required {
        Some(names) if names.is_empty() => editor = editor.remove(REQUIRED),
        Some(names) => editor = editor.set(REQUIRED, format!("[{}]", names.join(","))),
        None => {}
    }
    let edited = editor
        .apply()
        .map_err(|error| format!("it cannot be described as `tools` says: {error}"))?;
    let text = edited.params().unwrap_or_default();
    parse(ListKind::Tools, Bytes::copy_from_slice(text.as_bytes()))
}

/// The names (raw JSON) that are still required of a caller; `None` if nothing is changed by the defaults.
fn required<'t>(tool: &'t RawItem, tools: &Tools) -> Option<Vec<&'t str>> {
    if tools.arguments.is_empty() {
        return None;
    }
    let defaults = tools.defaults_of(&tool.name);
    let names = raw::elements(raw::member(tool.as_str(), &["inputSchema", "required"])?)?;
    let mut left = names.clone();
    left.retain(|name| {
        let name = raw::string(name);
        defaults
            .iter()
            .all(|(given, _)| name.as_deref() != Some(given))
    });
    (left.len() < names.len()).then_some(left)
}

fn parse(kind: ListKind, text: Bytes) -> Result<RawItem, String> {
    RawItem::parse(kind, text)
}

/// Tools that the config speaks of by name and the server does not have, and the key that does.
fn strangers<'c>(
    listed: &Catalog,
    tools: &'c Tools,
) -> impl Iterator<Item = (&'c str, &'static str)> {
    let known: BTreeSet<&str> = listed
        .tools
        .items
        .iter()
        .map(|tool| tool.name.as_str())
        .collect();
    let named = |names: &'c std::collections::BTreeMap<String, String>, key| {
        names.keys().map(move |name| (name.as_str(), key))
    };
    let all: Vec<_> = named(&tools.rename, "rename")
        .chain(named(&tools.describe, "describe"))
        .filter(|(name, _)| !known.contains(name))
        .collect();
    all.into_iter()
}

#[cfg(test)]
mod tests;
