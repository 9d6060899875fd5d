//! What a server last listed completely: immutable, shared by reference, and kept through any outage (law 22).
//!
//! Raw items stay as the server wrote them. Names and rules come from the core; this module only holds.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use mainstay_core::catalog::{self, Digest};
use mainstay_wire::listing::{CacheScope, ListKind, RawItem};
use mainstay_wire::{headers, raw};
use schemars::JsonSchema;
use serde::Serialize;

pub use crate::runtime::greeting::Greeting;
use crate::suspicious::{self, Suspicion};

/// One item that is not shown, and why (law 24).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hidden {
    /// The server that listed it.
    pub server: String,
    /// Its name, as far as it has one.
    pub name: String,
    /// Why it is hidden.
    pub reason: String,
}

/// What a server said about keeping a listing (modern era).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheHint {
    /// How long it may be kept from the moment when it was listed, in milliseconds.
    pub ttl_ms: u64,
    /// By whom.
    pub scope: CacheScope,
}

impl CacheHint {
    /// Promises nothing: what is not known to be cacheable must not be cached (F140).
    pub const NONE: Self = Self {
        ttl_ms: 0,
        scope: CacheScope::Private,
    };

    /// The more cautious of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let public = [self, other]
            .iter()
            .all(|hint| hint.scope == CacheScope::Public);
        Self {
            ttl_ms: self.ttl_ms.min(other.ttl_ms),
            scope: if public {
                CacheScope::Public
            } else {
                CacheScope::Private
            },
        }
    }
}

/// The items of one kind, in the server's order.
#[derive(Debug, Clone)]
pub struct ItemList {
    /// The items, each with its raw JSON text.
    pub items: Vec<RawItem>,
    /// Changes exactly when the content changes.
    pub digest: Digest,
    /// How long the server lets it be kept, by all its pages; none from servers that say no such thing.
    pub hint: Option<CacheHint>,
    json: OnceLock<Bytes>,
    callable: OnceLock<Option<Box<Self>>>,
    hidden_text: OnceLock<Vec<Suspicion>>,
}

impl Default for ItemList {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl ItemList {
    /// A list of items.
    #[must_use]
    pub fn new(items: Vec<RawItem>) -> Self {
        let digest = catalog::digest(
            items
                .iter()
                .map(|item| (item.name.as_str(), item.raw.as_ref())),
        );
        Self {
            items,
            digest,
            hint: None,
            json: OnceLock::new(),
            callable: OnceLock::new(),
            hidden_text: OnceLock::new(),
        }
    }

    /// The tools that a modern client can call over HTTP: without those whose header annotations are illegal, which such
    /// clients must not accept (F137). Judged once; the list itself where there are none.
    #[must_use]
    pub fn callable_over_http(&self) -> &Self {
        let judged = self.callable.get_or_init(|| {
            let legal: Vec<_> = self
                .items
                .iter()
                .filter(|tool| has_legal_headers(&tool.name, &tool.raw))
                .cloned()
                .collect();
            (legal.len() < self.items.len())
                .then(|| Box::new(Self::new(legal).with_hint(self.hint)))
        });
        judged.as_deref().unwrap_or(self)
    }

    /// What the items, all of this kind, hide from people (F252). Looked for once.
    pub(crate) fn hidden_text(&self, kind: ListKind) -> &[Suspicion] {
        self.hidden_text
            .get_or_init(|| suspicious::of_items(kind, &self.items))
    }

    /// The same with the server's word on keeping it.
    #[must_use]
    pub fn with_hint(mut self, hint: Option<CacheHint>) -> Self {
        self.hint = hint;
        self
    }

    /// Some of the items as one JSON array, rendered anew. What lies beyond the end is left out.
    #[must_use]
    pub fn json_of(&self, items: Range<usize>) -> Bytes {
        let items = items.start.min(self.items.len())..items.end.min(self.items.len());
        json_array(self.items[items].iter().map(|item| &item.raw))
    }

    /// The list as one JSON array, rendered once.
    pub fn json(&self) -> &Bytes {
        self.json
            .get_or_init(|| json_array(self.items.iter().map(|item| &item.raw)))
    }

    /// The item of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&RawItem> {
        self.items.iter().find(|item| item.name == name)
    }
}

/// One server's last complete listing.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// What the server said of itself.
    pub greeting: Greeting,
    /// Its tools.
    pub tools: ItemList,
    /// Its prompts.
    pub prompts: ItemList,
    /// Its resources.
    pub resources: ItemList,
    /// Its resource templates.
    pub templates: ItemList,
    /// Items that are not shown, and why.
    pub hidden: Vec<Hidden>,
    /// When it was listed, in milliseconds since 1970 (for display).
    pub listed_at_unix_ms: u64,
    /// It was listed over the HTTP+SSE transport of 2024-11-05. Changes nothing for clients.
    pub over_sse: bool,
    /// It was read from disk and has not been confirmed by the server since Mainstay started.
    pub remembered: bool,
}

impl Catalog {
    /// What of a listing that was given to somebody may be shown to somebody else, before that one was listed anything:
    /// kinds that the server calls public, and where it says nothing (older revisions) everything but the resources, which
    /// are not what a server can do but what somebody has. `None`: all of it.
    #[must_use]
    pub fn shareable(&self) -> Option<Self> {
        let may = |list: &ItemList, unsaid: bool| {
            let said = list.hint.map(|hint| hint.scope == CacheScope::Public);
            list.items.is_empty() || said.unwrap_or(unsaid)
        };
        let kinds = [
            may(&self.tools, true),
            may(&self.prompts, true),
            may(&self.resources, false),
            may(&self.templates, true),
        ];
        if kinds.into_iter().all(|may| may) {
            return None;
        }
        let [tools, prompts, resources, templates] = kinds;
        let part = |list: &ItemList, may: bool| {
            if may {
                list.clone()
            } else {
                ItemList::default()
            }
        };
        Some(Self {
            tools: part(&self.tools, tools),
            prompts: part(&self.prompts, prompts),
            resources: part(&self.resources, resources),
            templates: part(&self.templates, templates),
            hidden: Vec::new(),
            ..self.clone()
        })
    }

    /// Identifies the definition of a tool: equal as long as the server describes it with the same bytes. For
    /// [`CallOptions::expected`](crate::CallOptions::expected).
    #[must_use]
    pub fn tool_digest(&self, tool: &str) -> Option<Digest> {
        self.tools.find(tool).map(definition)
    }

    /// Whether there is nothing in it at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        [&self.tools, &self.prompts, &self.resources, &self.templates]
            .iter()
            .all(|list| list.items.is_empty())
    }

    /// Whether two catalogs list the same; what the server said of itself does not count.
    #[must_use]
    pub fn same_items(&self, other: &Self) -> bool {
        self.digests() == other.digests()
    }

    /// Identifies everything that is listed.
    pub(crate) fn digests(&self) -> [Digest; 4] {
        [&self.tools, &self.prompts, &self.resources, &self.templates].map(|list| list.digest)
    }

    /// Whether two catalogs show the same things to clients; freshness does not count.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self.same_items(other) && self.greeting == other.greeting
    }
}

/// Whether the annotations for headers in a tool's schema, if there are any, are legal.
pub(crate) fn has_legal_headers(name: &str, tool: &Bytes) -> bool {
    let schema = std::str::from_utf8(tool)
        .ok()
        .and_then(|tool| raw::member(tool, &["inputSchema"]));
    match schema.map(headers::param_headers) {
        None | Some(Ok(_)) => true,
        Some(Err(reason)) => {
            tracing::warn!(
                tool = name,
                reason,
                "tool left out for modern clients over HTTP"
            );
            false
        }
    }
}

/// Identifies the definition of one item.
pub(crate) fn definition(item: &RawItem) -> Digest {
    catalog::digest(std::iter::once((item.name.as_str(), item.raw.as_ref())))
}

/// What differs between the tools of two catalogs of one server.
pub(crate) fn tool_changes(old: &Catalog, new: &Catalog) -> catalog::Diff {
    if old.tools.digest == new.tools.digest {
        return catalog::Diff::default();
    }
    let digests = |catalog: &Catalog| {
        let named = |item: &RawItem| (item.name.clone(), definition(item));
        catalog.tools.items.iter().map(named).collect()
    };
    catalog::diff(&digests(old), &digests(new))
}

/// Renders raw items as one JSON array.
pub(crate) fn json_array<'a>(items: impl Iterator<Item = &'a Bytes> + Clone) -> Bytes {
    let size: usize = items.clone().map(|raw| raw.len() + 1).sum();
    let mut text = BytesMut::with_capacity(size + 2);
    text.put_u8(b'[');
    for (index, raw) in items.enumerate() {
        if index > 0 {
            text.put_u8(b',');
        }
        text.put_slice(raw);
    }
    text.put_u8(b']');
    text.freeze()
}

/// Whether a resource is a user interface, which clients that support it show and run.
#[must_use]
pub fn is_ui(uri: &str) -> bool {
    uri.starts_with("ui://")
}

/// Milliseconds since 1970, for display.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A catalog that many hold.
pub type SharedCatalog = Arc<Catalog>;
