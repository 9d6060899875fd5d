//! Pages of tools, prompts, resources and templates as raw items.
//!
//! An item stays the text that the server wrote; only its name is read and, where it is exposed under another one, spliced.
//! One bad item hides only itself, visibly (law 24, F167). Following cursors, and noticing that one repeats, is for
//! whoever asks for the pages.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::id::Id;
use crate::raw;
use crate::scan::{Fault, Scanner, Span, key_among};
use crate::splice::{Parts, json_string};

/// Longest item in bytes. A larger one is hidden: it would be sent to every client with every listing.
pub const ITEM_BYTES_MAX: usize = 1024 * 1024;
/// Longest name or URI in bytes.
pub const NAME_BYTES_MAX: usize = 8 * 1024;
/// Most items of one page.
pub const PAGE_ITEMS_MAX: usize = 100_000;
/// Characters of a bad item that are kept to show it.
const SAMPLE_CHARS_MAX: usize = 120;

/// The four kinds of listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListKind {
    /// `tools/list`
    Tools,
    /// `prompts/list`
    Prompts,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    Templates,
}

impl ListKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    /// The method that lists it.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Tools => crate::method::TOOLS_LIST,
            Self::Prompts => crate::method::PROMPTS_LIST,
            Self::Resources => crate::method::RESOURCES_LIST,
            Self::Templates => crate::method::TEMPLATES_LIST,
        }
    }

    /// The kind that a method lists.
    #[must_use]
    pub fn of_method(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.method() == method)
    }

    /// The member of the result that holds the items.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// The member of an item that names it.
    #[must_use]
    pub const fn name_key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }

    /// The notification that says the list has changed.
    #[must_use]
    pub const fn changed(self) -> &'static str {
        match self {
            Self::Tools => crate::method::TOOLS_LIST_CHANGED,
            Self::Prompts => crate::method::PROMPTS_LIST_CHANGED,
            Self::Resources | Self::Templates => crate::method::RESOURCES_LIST_CHANGED,
        }
    }
}

/// One item as the server wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawItem {
    /// Decoded name, URI or URI template.
    pub name: String,
    /// The whole item, one JSON object; shares the memory of the page.
    pub raw: Bytes,
    /// Where the value of the name lies in `raw`, with its quotes.
    at: Range<usize>,
}

impl RawItem {
    /// Judges the raw text of one item, for example one that was stored.
    ///
    /// # Errors
    /// The reason why it must be hidden.
    pub fn parse(kind: ListKind, raw: Bytes) -> Result<Self, String> {
        let text = std::str::from_utf8(&raw).map_err(|error| format!("not UTF-8: {error}"))?;
        let (name, at) = judge(kind, text)?;
        Ok(Self { name, raw, at })
    }

    /// The item as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only `parse` and `parse_page` make items, and both have validated the text.
        std::str::from_utf8(&self.raw).unwrap_or_default()
    }
}

/// An item that is hidden, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadItem {
    /// Its place in the page.
    pub index: usize,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// Its printable beginning.
    pub sample: String,
}

/// Who may share a cached result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheScope {
    /// Anybody.
    Public,
    /// Only the same credentials. Also what a missing scope means (F140).
    Private,
}

impl CacheScope {
    /// As it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }

    /// Reads the raw value.
    fn read(raw: &str) -> Option<Self> {
        match raw::string(raw)?.as_ref() {
            "public" => Some(Self::Public),
            "private" => Some(Self::Private),
            _ => None,
        }
    }
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The good items in the order of the server.
    pub items: Vec<RawItem>,
    /// The hidden ones.
    pub bad: Vec<BadItem>,
    /// Where the next page begins. `Some("")` is a cursor like any other; only absence is the end (F165).
    pub next_cursor: Option<String>,
    /// How long the page may be kept, in milliseconds. Negative counts as 0.
    pub ttl_ms: Option<u64>,
    /// Who may share it; absent or unknown means [`CacheScope::Private`].
    pub cache_scope: Option<CacheScope>,
}

/// Why a result is no page at all. An error is not an empty list (law 22).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Not a JSON object.
    #[error("the result of {method} is not a JSON object")]
    NotAnObject {
        /// The method that was asked.
        method: &'static str,
    },
    /// The list of items is missing or no list.
    #[error("the result of {method} has no list \"{key}\"")]
    NoList {
        /// The method that was asked.
        method: &'static str,
        /// The member.
        key: &'static str,
    },
    /// `nextCursor` is there, but no string. Going on without it would lose items.
    #[error("the result of {method} has a nextCursor that is not a string")]
    BadCursor {
        /// The method that was asked.
        method: &'static str,
    },
    /// More items than one page may have.
    #[error("the result of {method} has more than {max} items")]
    TooMany {
        /// The method that was asked.
        method: &'static str,
        /// The limit.
        max: usize,
    },
}

/// Reads the raw `result` of a listing; see [`crate::Message::result_bytes`]. Items are slices of it.
///
/// # Errors
/// [`PageError`] if the page as a whole cannot be used; a bad item is no such reason.
pub fn parse_page(kind: ListKind, result: &Bytes) -> Result<Page, PageError> {
    let method = kind.method();
    let not_an_object = PageError::NotAnObject { method };
    let text = std::str::from_utf8(result).map_err(|_| not_an_object.clone())?;
    let found = members(kind, text).ok_or(not_an_object)?;
    let list = found.list.ok_or(PageError::NoList {
        method,
        key: kind.key(),
    })?;
    if list.len() > PAGE_ITEMS_MAX {
        return Err(PageError::TooMany {
            method,
            max: PAGE_ITEMS_MAX,
        });
    }
    let next_cursor = match found.cursor.map(|span| span.of(text)) {
        None | Some("null") => None,
        Some(raw) => Some(
            raw::string(raw)
                .ok_or(PageError::BadCursor { method })?
                .into_owned(),
        ),
    };
    let mut page = Page {
        next_cursor,
        ttl_ms: found.ttl_ms.and_then(|span| whole_ms(span.of(text))),
        cache_scope: found
            .cache_scope
            .and_then(|span| CacheScope::read(span.of(text))),
        ..Page::default()
    };
    for (index, span) in list.into_iter().enumerate() {
        let item = span.of(text);
        match judge(kind, item) {
            Ok((name, at)) => page.items.push(RawItem {
                name,
                raw: result.slice(span.start()..span.end()),
                at,
            }),
            Err(reason) => page.bad.push(BadItem {
                index,
                name: raw::string_member(item, &[kind.name_key()])
                    .map(|name| name.chars().take(SAMPLE_CHARS_MAX).collect()),
                reason,
                sample: item.chars().take(SAMPLE_CHARS_MAX).collect(),
            }),
        }
    }
    Ok(page)
}

/// Where the members of a page lie.
#[derive(Default)]
struct Found {
    list: Option<Vec<Span>>,
    cursor: Option<Span>,
    ttl_ms: Option<Span>,
    cache_scope: Option<Span>,
}

/// Finds the items in one pass. If a key occurs twice the last one counts.
fn members(kind: ListKind, text: &str) -> Option<Found> {
    let mut found = Found::default();
    let mut scanner = Scanner::new(text, usize::MAX).ok()?;
    scanner
        .object(0, |scanner, key| {
            let known = key_among(
                key.of(text),
                &[kind.key(), "nextCursor", "ttlMs", "cacheScope"],
            );
            scanner.skip_space();
            if known == Some(0) && scanner.peek() == Some(b'[') {
                found.list = Some(items(scanner)?);
                return Ok(());
            }
            let value = scanner.value(1)?;
            match known {
                Some(0) => found.list = None,
                Some(1) => found.cursor = Some(value),
                Some(2) => found.ttl_ms = Some(value),
                Some(3) => found.cache_scope = Some(value),
                _ => {}
            }
            Ok(())
        })
        .ok()?;
    scanner.expect_end().ok()?;
    Some(found)
}

/// One more than allowed is kept, which tells that there were too many.
fn items(scanner: &mut Scanner<'_>) -> Result<Vec<Span>, Fault> {
    let mut items = Vec::new();
    scanner.array(1, |scanner| {
        let item = scanner.value(2)?;
        if items.len() <= PAGE_ITEMS_MAX {
            items.push(item);
        }
        Ok(())
    })?;
    Ok(items)
}

/// Whether an item can be published: its name and where the name lies, or the reason to hide it.
fn judge(kind: ListKind, item: &str) -> Result<(String, Range<usize>), String> {
    if item.len() > ITEM_BYTES_MAX {
        return Err(format!(
            "{} bytes exceed the limit of {ITEM_BYTES_MAX} bytes for one item",
            item.len()
        ));
    }
    let key = kind.name_key();
    let mut names = Vec::new();
    let mut schema = None;
    raw::walk(item, |member| {
        if member.is(item, key) {
            names.push(member.value);
        } else if member.is(item, "inputSchema") {
            schema = Some(member.value);
        }
    })
    .ok_or("not an object")?;
    let [at] = names[..] else {
        return Err(if names.is_empty() {
            format!("no member \"{key}\"")
        } else {
            format!("the member \"{key}\" occurs twice")
        });
    };
    let name =
        raw::string(at.of(item)).ok_or_else(|| format!("the member \"{key}\" is not a string"))?;
    if name.is_empty() {
        return Err(format!("the member \"{key}\" is empty"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "the member \"{key}\" is longer than {NAME_BYTES_MAX} bytes"
        ));
    }
    if kind == ListKind::Tools {
        let schema = schema.ok_or("no member \"inputSchema\"")?;
        if !raw::is_object(schema.of(item)) {
            return Err("the member \"inputSchema\" is not an object".to_owned());
        }
    }
    Ok((name.into_owned(), at.start()..at.end()))
}

/// `ttlMs` of a result: whole milliseconds, negative as 0; `None` when absent or no number.
#[must_use]
pub fn ttl_ms(result: &str) -> Option<u64> {
    whole_ms(raw::member(result, &["ttlMs"])?)
}

fn whole_ms(raw: &str) -> Option<u64> {
    if raw.starts_with('-') {
        return Some(0);
    }
    Id::from_raw(raw)
        .filter(|number| !number.is_string())?
        .as_u64()
}

/// `cacheScope` of a result; `None` when absent or unknown.
#[must_use]
pub fn cache_scope(result: &str) -> Option<CacheScope> {
    CacheScope::read(raw::member(result, &["cacheScope"])?)
}

/// The item under another name; everything but the value of the name is the text that the server wrote.
#[must_use]
pub fn renamed(item: &RawItem, name: &str) -> Parts {
    if name == item.name {
        return Parts::from(item.raw.clone());
    }
    let mut parts = Parts::new();
    parts.push(item.raw.slice(..item.at.start));
    parts.push(json_string(name));
    parts.push(item.raw.slice(item.at.end..));
    parts
}

/// A listing result: the items, then `more` members (key and raw value, for example `nextCursor`, `ttlMs`).
#[must_use]
pub fn render_page(
    kind: ListKind,
    items: impl IntoIterator<Item = Parts>,
    more: &[(&str, String)],
) -> Bytes {
    let mut page = BytesMut::new();
    page.extend_from_slice(format!("{{\"{}\":[", kind.key()).as_bytes());
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            page.extend_from_slice(b",");
        }
        for segment in &item {
            page.extend_from_slice(segment);
        }
    }
    page.extend_from_slice(b"]");
    for (key, raw) in more {
        page.extend_from_slice(format!(",{}:{raw}", json_string(key)).as_bytes());
    }
    page.extend_from_slice(b"}");
    page.freeze()
}
