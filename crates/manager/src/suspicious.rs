//! What in a server's listing can mislead a model or a person, so that it is told: characters that nobody sees (F252), names
//! that look like another server's, and tools that speak of another server's tools (F254).
//!
//! Only looks, and never decides: nothing is hidden from clients or refused because of what is found here, unless the config
//! says so (`hiddenText: "strip"`, which `shape` carries out). Words are no proof; whoever reads them decides.

pub(crate) mod hidden;
mod names;

use mainstay_wire::listing::{ListKind, RawItem};
use schemars::JsonSchema;
use serde::Serialize;

use crate::catalog::{Catalog, ItemList};
use crate::config::HiddenText;

pub use self::names::DISCOVERY_TOOLS;
pub(crate) use self::names::across;

/// Findings of one server that are told; further ones are only counted.
pub const FINDINGS_MAX: usize = 50;

/// Characters of a text that are shown.
const TEXT_CHARS_MAX: usize = 200;

/// What can mislead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum SuspicionKind {
    /// Characters that nobody sees and a model reads.
    HiddenText,
    /// A name that looks like one of another server and is another.
    LookAlike,
    /// A tool that speaks of another server's tool.
    SpeaksOfOthers,
    /// A name of one of Mainstay's own tools.
    OwnName,
}

impl SuspicionKind {
    /// What a person can do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::HiddenText => {
                "read the text with what is escaped in it; `\"hiddenText\": \"strip\"` keeps it from clients, and `tools.describe` replaces it"
            }
            Self::LookAlike => {
                "look which of the two you mean; `tools.rename` or `tools.exclude` tells them apart"
            }
            Self::SpeaksOfOthers => {
                "read the description: a tool should not tell a model how to use another server's tools; `tools.describe` replaces it"
            }
            Self::OwnName => "give it another name with `tools.rename`",
        }
    }
}

/// Something in a listing that can mislead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suspicion {
    /// What kind.
    pub kind: SuspicionKind,
    /// The place: `tool NAME: description`.
    #[serde(rename = "where")]
    pub place: String,
    /// In words, or the text itself with what nobody sees escaped.
    pub text: String,
}

impl Suspicion {
    fn new(kind: SuspicionKind, place: impl Into<String>, text: &str) -> Self {
        Self {
            kind,
            place: place.into(),
            text: shortened(text),
        }
    }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(TEXT_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// What one server's listing hides. At most [`FINDINGS_MAX`].
pub(crate) fn within(listed: &Catalog, policy: HiddenText) -> Vec<Suspicion> {
    match policy {
        HiddenText::Pass => return Vec::new(),
        HiddenText::Flag | HiddenText::Strip => {}
    }
    let instructions = listed.greeting.instructions.as_deref();
    let mut found: Vec<Suspicion> = instructions
        .and_then(hidden::shown)
        .map(|text| Suspicion::new(SuspicionKind::HiddenText, "instructions", &text))
        .into_iter()
        .collect();
    for (kind, list) in lists(listed) {
        found.extend(list.hidden_text(kind).iter().cloned());
    }
    found.truncate(FINDINGS_MAX);
    found
}

/// What some items hide. At most [`FINDINGS_MAX`].
pub(crate) fn of_items(kind: ListKind, items: &[RawItem]) -> Vec<Suspicion> {
    let word = word_of(kind);
    let each = |item: &RawItem| hidden::of_item(word, &item.name, item.as_str());
    items.iter().flat_map(each).take(FINDINGS_MAX).collect()
}

/// The lists of a catalog.
pub(crate) fn lists(listed: &Catalog) -> [(ListKind, &ItemList); 4] {
    [
        (ListKind::Tools, &listed.tools),
        (ListKind::Prompts, &listed.prompts),
        (ListKind::Resources, &listed.resources),
        (ListKind::Templates, &listed.templates),
    ]
}

/// What one item of a kind is called.
fn word_of(kind: ListKind) -> &'static str {
    match kind {
        ListKind::Tools => "tool",
        ListKind::Prompts => "prompt",
        ListKind::Resources => "resource",
        ListKind::Templates => "resource template",
    }
}
