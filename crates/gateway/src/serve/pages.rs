//! Listings as clients get them: whole where they fit on one page, else in pages with opaque cursors.
//!
//! A page is a part of one published listing. Its cursor says which listing that was and after which item it goes on; it
//! stands for itself, so nothing is kept for it, and it survives a restart. Where the listing has changed meanwhile, the
//! aggregate (sorted by name) goes on after the same name; one server's own order may have moved, so its client is told to
//! begin again. The whole listing on one page is rendered once per version and never copied.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use mainstay::Publication;
use mainstay::catalog::{CacheHint, Catalog, ItemList, unix_ms};
use mainstay::publish::Listing;
use mainstay_core::catalog::Digest;
use mainstay_wire::{Era, ListKind, Message, Parts, json_string, meta};

use super::Shared;
use super::adapt::Recipient;
use super::endpoint::Endpoint;
use super::fault::Fault;

/// The first field of a cursor. Other versions of Mainstay may write others.
const VERSION: &str = "1";

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// The items, one JSON array.
    pub(crate) items: Bytes,
    /// Where it goes on.
    pub(crate) next: Option<String>,
    /// What is promised about keeping it.
    pub(crate) hint: CacheHint,
}

/// The result of a listing around its rendered items, which are not copied.
pub(crate) fn render(key: &str, page: Page, to: Recipient<'_>) -> Parts {
    let mut parts = Parts::from(format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{\"{key}\":",
        to.id
    ));
    parts.push(page.items);
    if let Some(next) = page.next {
        parts.push(format!(",\"nextCursor\":{}", json_string(&next)));
    }
    match to.era {
        Era::Legacy => parts.push(Bytes::from_static(b"}}")),
        Era::Modern => parts.push(format!(",{}}}}}", modern_tail(page.hint, to.info))),
    }
    parts
}

/// What the cacheable modern results of ours end with.
pub(crate) fn modern_tail(hint: CacheHint, info: &str) -> String {
    format!(
        "\"resultType\":\"complete\",\"ttlMs\":{},\"cacheScope\":\"{}\",\"_meta\":{{\"{}\":{info}}}",
        hint.ttl_ms,
        hint.scope.as_str(),
        meta::SERVER_INFO
    )
}

/// A listing that can be cut into pages.
#[derive(Clone, Copy)]
enum Source<'l> {
    /// Sorted by exposed name.
    Published(&'l Listing),
    /// In the server's order.
    Own(&'l ItemList),
}

impl<'l> Source<'l> {
    /// Modern clients over HTTP are not shown what they could not call.
    fn published(publication: &'l Publication, kind: ListKind, era: Era) -> Self {
        Self::Published(match kind {
            ListKind::Tools if era == Era::Modern => publication.tools.callable_over_http(),
            ListKind::Tools => &publication.tools,
            ListKind::Prompts => &publication.prompts,
            ListKind::Resources => &publication.resources,
            ListKind::Templates => &publication.templates,
        })
    }

    fn own(catalog: &'l Catalog, kind: ListKind, era: Era) -> Self {
        Self::Own(match (kind, era) {
            (ListKind::Tools, Era::Modern) => catalog.tools.callable_over_http(),
            (kind, Era::Legacy | Era::Modern) => list(catalog, kind),
        })
    }

    fn len(self) -> usize {
        match self {
            Self::Published(listing) => listing.items.len(),
            Self::Own(list) => list.items.len(),
        }
    }

    fn name(self, at: usize) -> &'l str {
        match self {
            Self::Published(listing) => listing.items.get(at).map_or("", |item| &item.exposed),
            Self::Own(list) => list.items.get(at).map_or("", |item| &item.name),
        }
    }

    fn bytes(self, at: usize) -> usize {
        match self {
            Self::Published(listing) => listing.items.get(at).map_or(0, |item| item.raw.len()),
            Self::Own(list) => list.items.get(at).map_or(0, |item| item.raw.len()),
        }
    }

    fn digest(self) -> Digest {
        match self {
            Self::Published(listing) => listing.digest,
            Self::Own(list) => list.digest,
        }
    }

    fn whole(self) -> &'l Bytes {
        match self {
            Self::Published(listing) => listing.json(),
            Self::Own(list) => list.json(),
        }
    }

    fn part(self, items: std::ops::Range<usize>) -> Bytes {
        match self {
            Self::Published(listing) => listing.json_of(items),
            Self::Own(list) => list.json_of(items),
        }
    }

    /// Where the items after a name begin now, if that can be said.
    fn after(self, name: &str) -> Option<usize> {
        match self {
            Self::Published(listing) => Some(
                listing
                    .items
                    .partition_point(|item| item.exposed.as_ref() <= name),
            ),
            Self::Own(_) => None,
        }
    }
}

fn list(catalog: &Catalog, kind: ListKind) -> &ItemList {
    match kind {
        ListKind::Tools => &catalog.tools,
        ListKind::Prompts => &catalog.prompts,
        ListKind::Resources => &catalog.resources,
        ListKind::Templates => &catalog.templates,
    }
}

/// How much fits on a page.
#[derive(Clone, Copy)]
struct Size {
    items_max: usize,
    bytes_max: usize,
}

/// A page of what all servers list together, for clients of an era.
pub(crate) fn of_all(
    shared: &Shared,
    endpoint: &Endpoint,
    publication: &Publication,
    (kind, era): (ListKind, Era),
    cursor: Option<&str>,
) -> Result<Page, Fault> {
    let source = Source::published(publication, kind, era);
    let (items, next) = cut(source, size(shared), kind, "", cursor)?;
    Ok(Page {
        items,
        next,
        hint: hint_of_all(shared, endpoint, publication, kind),
    })
}

/// A page of what one server lists, for clients of an era.
pub(crate) fn of_server(
    shared: &Shared,
    server: &str,
    catalog: &Catalog,
    (kind, era): (ListKind, Era),
    cursor: Option<&str>,
) -> Result<Page, Fault> {
    let source = Source::own(catalog, kind, era);
    let (items, next) = cut(source, size(shared), kind, server, cursor)?;
    Ok(Page {
        items,
        next,
        hint: hint_of(catalog, kind),
    })
}

fn size(shared: &Shared) -> Size {
    Size {
        items_max: shared.settings.page_items_max,
        bytes_max: shared.settings.page_bytes_max,
    }
}

/// The cursor of a request; `null` is none.
///
/// # Errors
/// It is no string.
pub(crate) fn cursor(message: &Message) -> Result<Option<String>, Fault> {
    match message.member(&["params", "cursor"]) {
        None | Some("null") => Ok(None),
        Some(raw) => match mainstay_wire::raw::string(raw) {
            Some(cursor) => Ok(Some(cursor.into_owned())),
            None => Err(Fault::params("`params.cursor` must be a string")),
        },
    }
}

/// The items of a page and the cursor of the next one.
fn cut(
    source: Source<'_>,
    size: Size,
    kind: ListKind,
    endpoint: &str,
    cursor: Option<&str>,
) -> Result<(Bytes, Option<String>), Fault> {
    let len = source.len();
    let from = match cursor {
        Some(cursor) => resume(source, kind, endpoint, cursor)?,
        // The usual case: everything, rendered once.
        None if len <= size.items_max.max(1) && source.whole().len() <= size.bytes_max.max(2) => {
            return Ok((source.whole().clone(), None));
        }
        None => 0,
    };
    let mut to = from;
    let mut bytes = 0;
    while to < len && to - from < size.items_max.max(1) {
        bytes += source.bytes(to) + 1;
        if bytes > size.bytes_max && to > from {
            break;
        }
        to += 1;
    }
    let next = (to < len).then(|| write(source, kind, endpoint, to));
    Ok((source.part(from..to), next))
}

/// `VERSION kind digest index endpoint`, a line each, and the name of the last item given.
fn write(source: Source<'_>, kind: ListKind, endpoint: &str, at: usize) -> String {
    let last = source.name(at.saturating_sub(1));
    let digest = short(source.digest());
    URL_SAFE_NO_PAD.encode(format!(
        "{VERSION}\n{}\n{digest}\n{at}\n{endpoint}\n{last}",
        kind.key()
    ))
}

fn short(digest: Digest) -> String {
    digest
        .0
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn resume(
    source: Source<'_>,
    kind: ListKind,
    endpoint: &str,
    cursor: &str,
) -> Result<usize, Fault> {
    let unknown = || {
        Fault::params("unknown cursor: it was not given by this listing; list again without one")
    };
    let text = URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(unknown)?;
    let fields: Vec<&str> = text.splitn(6, '\n').collect();
    let &[VERSION, key, digest, at, of, last] = fields.as_slice() else {
        return Err(unknown());
    };
    let at: usize = at.parse().map_err(|_no_number| unknown())?;
    if key != kind.key() || of != endpoint {
        return Err(unknown());
    }
    if digest == short(source.digest()) && at <= source.len() {
        return Ok(at);
    }
    source.after(last).ok_or_else(|| {
        Fault::params("the listing has changed since this cursor was given; list again without one")
    })
}

/// What may be promised about a server's own listing: what the server promised, less the time that has passed since.
fn hint_of(catalog: &Catalog, kind: ListKind) -> CacheHint {
    let said = list(catalog, kind).hint.filter(|_| !catalog.remembered);
    match said {
        None => CacheHint::NONE,
        // Nothing to reckon with.
        Some(hint) if hint.ttl_ms == 0 => hint,
        Some(hint) => {
            let age_ms = unix_ms().saturating_sub(catalog.listed_at_unix_ms);
            CacheHint {
                ttl_ms: hint.ttl_ms.saturating_sub(age_ms),
                ..hint
            }
        }
    }
}

/// The most cautious of all servers that have such things. A server that has never listed may do so at any moment.
fn hint_of_all(
    shared: &Shared,
    endpoint: &Endpoint,
    publication: &Publication,
    kind: ListKind,
) -> CacheHint {
    let capability = match kind {
        ListKind::Tools => "tools",
        ListKind::Prompts => "prompts",
        ListKind::Resources | ListKind::Templates => "resources",
    };
    let hints = publication
        .servers
        .values()
        .filter(|catalog| {
            !list(catalog, kind).items.is_empty() || catalog.greeting.declares(capability)
        })
        .map(|catalog| hint_of(catalog, kind));
    let hint = hints.reduce(CacheHint::and).unwrap_or(CacheHint::NONE);
    if hint.ttl_ms > 0 && endpoint.is_incomplete(shared, publication) {
        return CacheHint { ttl_ms: 0, ..hint };
    }
    hint
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_wire::listing::{CacheScope, RawItem};

    const SMALL: Size = Size {
        items_max: 2,
        bytes_max: 1_000,
    };

    fn tools(names: &[&str]) -> ItemList {
        let tool = |name: &&str| {
            RawItem::parse(ListKind::Prompts, format!("{{\"name\":\"{name}\"}}").into()).unwrap()
        };
        ItemList::new(names.iter().map(tool).collect())
    }

    fn all(list: &ItemList, size: Size) -> Vec<String> {
        let (mut pages, mut cursor) = (Vec::new(), None);
        loop {
            let (items, next) = cut(
                Source::Own(list),
                size,
                ListKind::Tools,
                "s",
                cursor.as_deref(),
            )
            .unwrap();
            pages.push(String::from_utf8(items.to_vec()).unwrap());
            cursor = next;
            if cursor.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn a_listing_that_fits_is_one_page_and_is_not_copied() {
        let list = tools(&["a", "b"]);
        let (items, next) = cut(Source::Own(&list), SMALL, ListKind::Tools, "s", None).unwrap();
        assert_eq!(next, None);
        assert_eq!(items.as_ptr(), list.json().as_ptr());
        assert_eq!(all(&tools(&[]), SMALL), ["[]"]);
    }

    #[test]
    fn f165_pages_hold_every_item_once_and_in_order() {
        let list = tools(&["e", "d", "c", "b", "a"]);
        let pages = [
            r#"[{"name":"e"},{"name":"d"}]"#,
            r#"[{"name":"c"},{"name":"b"}]"#,
            r#"[{"name":"a"}]"#,
        ];
        assert_eq!(all(&list, SMALL), pages);
        // By bytes; an item that is larger than a page is a page.
        for (bytes_max, count) in [(1, 5), (12, 5), (26, 3), (10_000, 1)] {
            let size = Size {
                items_max: 100,
                bytes_max,
            };
            assert_eq!(all(&list, size).len(), count, "{bytes_max}");
        }
    }

    #[test]
    fn a_cursor_of_another_listing_or_of_nobody_is_refused() {
        let list = tools(&["a", "b", "c"]);
        let next = |list: &ItemList| {
            cut(Source::Own(list), SMALL, ListKind::Tools, "s", None)
                .unwrap()
                .1
                .unwrap()
        };
        let resumed = |list: &ItemList, kind, endpoint, cursor: &str| {
            cut(Source::Own(list), SMALL, kind, endpoint, Some(cursor)).map(|(items, _)| items)
        };
        let cursor = next(&list);
        assert_eq!(
            resumed(&list, ListKind::Tools, "s", &cursor).unwrap(),
            r#"[{"name":"c"}]"#
        );
        for (kind, endpoint, cursor) in [
            (ListKind::Prompts, "s", &*cursor),
            (ListKind::Tools, "t", &cursor),
            (ListKind::Tools, "s", ""),
            (ListKind::Tools, "s", "2"),
            (ListKind::Tools, "s", &cursor[1..]),
        ] {
            let refused = resumed(&list, kind, endpoint, cursor).unwrap_err();
            assert!(refused.message.contains("list again"), "{refused:?}");
        }
        // One server's order may have moved.
        let changed = tools(&["c", "b", "a", "d"]);
        assert!(resumed(&changed, ListKind::Tools, "s", &cursor).is_err());
    }

    #[test]
    fn f140_what_is_not_known_is_private_and_the_most_cautious_word_counts() {
        let public = CacheHint {
            ttl_ms: 50,
            scope: CacheScope::Public,
        };
        assert_eq!(public.and(public), public);
        let private = CacheHint {
            ttl_ms: 70,
            scope: CacheScope::Private,
        };
        assert_eq!(
            public.and(private),
            CacheHint {
                ttl_ms: 50,
                scope: CacheScope::Private
            }
        );
        assert_eq!(public.and(CacheHint::NONE), CacheHint::NONE);
    }
}
