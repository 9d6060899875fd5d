//! Listing: all pages of everything a server declares, into a staging catalog. All or nothing (F166).

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use mainstay_core::catalog::ItemKind;
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_wire::envelope::{Limits, Message};
use mainstay_wire::listing::{self, CacheScope, ListKind, RawItem};
use mainstay_wire::revision::Era;
use mainstay_wire::views::ErrorView;
use mainstay_wire::{codes, raw};
use tokio::time::Instant;

use super::freshness::Ttls;
use super::greeting::Greeting;
use super::keeper::Setup;
use super::params::Draft;
use super::{Cut, Limits as CallLimits, Link, Miss, Runtime};
use crate::catalog::{CacheHint, Catalog, Hidden, ItemList, unix_ms};
use crate::config::ServerConfig;
use crate::request::Request;

/// Items that are told one by one as hidden; the others are only counted.
const HIDDEN_MAX: usize = 1_000;

/// Containers around an item in the answer that lists it: the message, its result, the list.
const AROUND_ITEM: usize = 3;

/// One complete listing of a server.
pub(crate) struct Listing {
    /// What it lists, complete.
    pub(crate) catalog: Catalog,
    /// Whether each kind (in the order of [`ItemKind::ALL`]) was asked for and had nothing at all, not even a bad item.
    empty: [bool; 4],
    /// Settings that it exceeds, and how.
    exceeded: Vec<(&'static str, String)>,
}

impl Listing {
    /// Whether it is emptier than can be believed at once (F157): a list that had something has nothing, or a server that
    /// was never listed has nothing at all. Servers answer like this while they warm up.
    pub(crate) fn is_suspicious(&self, known: Option<&Catalog>) -> bool {
        match known {
            Some(known) => [
                &known.tools,
                &known.prompts,
                &known.resources,
                &known.templates,
            ]
            .iter()
            .zip(self.empty)
            .any(|(list, empty)| empty && !list.items.is_empty()),
            None => self.empty.contains(&true) && self.catalog.is_empty(),
        }
    }

    /// Makes known which limits it exceeds.
    pub(crate) fn tell_limits(&self, setup: &Setup) {
        for (limit, detail) in &self.exceeded {
            setup.slot.counters.limit_exceeded();
            setup
                .slot
                .events
                .exceeded(&setup.slot.name, setup.generation.0, limit, detail);
        }
    }
}

/// One listing in the making.
struct Lister<'a> {
    runtime: &'a Runtime,
    config: &'a ServerConfig,
    pages_max: usize,
    deadline: Instant,
    bytes: usize,
    ttls: Ttls,
    headers: Draft,
    hidden: Vec<Hidden>,
    unnamed: usize,
    exceeded: BTreeMap<&'static str, (usize, usize)>,
}

/// Lists everything that the greeting declares. Cancel-safe: nothing is published from here.
pub(crate) async fn list_all(
    runtime: &Runtime,
    greeting: &Greeting,
    config: &ServerConfig,
    pages_max: usize,
    within: Duration,
) -> Result<Listing, Failure> {
    let mut lister = Lister {
        runtime,
        config,
        pages_max,
        deadline: Instant::now() + within,
        bytes: 0,
        ttls: Ttls::default(),
        headers: Draft::default(),
        hidden: Vec::new(),
        unnamed: 0,
        exceeded: BTreeMap::new(),
    };
    let mut lists = Vec::with_capacity(4);
    let mut empty = [false; 4];
    for ((kind, capability), empty) in [
        (ItemKind::Tool, "tools"),
        (ItemKind::Prompt, "prompts"),
        (ItemKind::Resource, "resources"),
        (ItemKind::ResourceTemplate, "resources"),
    ]
    .into_iter()
    .zip(&mut empty)
    {
        let (mut items, mut hint) = (Vec::new(), None);
        if greeting.declares(capability) {
            let hidden = lister.hidden.len();
            (items, hint) = lister.list(kind).await?;
            *empty = items.is_empty() && lister.hidden.len() == hidden;
        }
        if kind == ItemKind::Tool {
            items.retain(|tool| lister.is_callable(tool));
        }
        let hint = hint.filter(|_| greeting.revision.era() == Era::Modern);
        lists.push(ItemList::new(items).with_hint(hint));
    }
    let mut lists = lists.into_iter();
    let mut next = || lists.next().unwrap_or_default();
    let (tools, prompts, resources, templates) = (next(), next(), next(), next());
    runtime.freshness.set_ttls(lister.ttls);
    runtime
        .tool_headers
        .replace(std::mem::take(&mut lister.headers));
    let (hidden, exceeded) = lister.finish();
    Ok(Listing {
        catalog: Catalog {
            greeting: greeting.clone(),
            tools,
            prompts,
            resources,
            templates,
            hidden,
            listed_at_unix_ms: unix_ms(),
            over_sse: matches!(runtime.link(), Link::Sse(_)),
            remembered: false,
        },
        empty,
        exceeded,
    })
}

impl Lister<'_> {
    fn finish(mut self) -> (Vec<Hidden>, Vec<(&'static str, String)>) {
        if self.unnamed > 0 {
            let (count, server) = (self.unnamed, self.runtime.server.to_string());
            self.hidden.push(Hidden {
                server,
                name: format!("{count} more"),
                reason: "only the first hidden items are named".to_owned(),
            });
        }
        let told = |(setting, (count, max)): (&'static str, (usize, usize))| {
            (
                setting,
                format!("{count} items of the listing are beyond {max} and hidden"),
            )
        };
        let exceeded = self.exceeded.into_iter().map(told).collect();
        (self.hidden, exceeded)
    }

    fn hide(&mut self, name: String, reason: String) {
        if self.hidden.len() >= HIDDEN_MAX {
            self.unnamed += 1;
            return;
        }
        self.hidden.push(Hidden {
            server: self.runtime.server.to_string(),
            name,
            reason,
        });
    }

    /// Hides an item for a limit.
    fn exceed(&mut self, setting: &'static str, max: usize, name: String) {
        self.exceeded.entry(setting).or_insert((0, max)).0 += 1;
        self.hide(
            name,
            format!("beyond the limit of {max} (setting `{setting}`)"),
        );
    }

    /// Whether a tool can be called over this transport: an annotation that makes no header hides it, visibly (F137).
    fn is_callable(&mut self, tool: &RawItem) -> bool {
        if !self.runtime.speaks_modern_http() {
            return true;
        }
        let Err(reason) = self.headers.read(tool) else {
            return true;
        };
        tracing::warn!(server = %self.runtime.server, tool = %tool.name, reason, "tool hidden");
        self.hide(tool.name.clone(), reason);
        false
    }

    /// All pages of one kind, or nothing (F166).
    async fn list(&mut self, kind: ItemKind) -> Result<(Vec<RawItem>, Option<CacheHint>), Failure> {
        let method = wire_kind(kind).method();
        let mut items = Vec::new();
        let mut hint: Option<CacheHint> = None;
        let mut cursor: Option<String> = None;
        let mut seen = HashSet::new();
        for _page in 0..self.pages_max {
            let Some(result) = self.page(kind, cursor.as_deref()).await? else {
                return Ok((items, hint));
            };
            let page = listing::parse_page(wire_kind(kind), &result)
                .map_err(|error| listing_failed(method, &error.to_string()))?;
            self.ttls.note(wire_kind(kind), page.ttl_ms);
            let said = CacheHint {
                ttl_ms: page.ttl_ms.unwrap_or(0),
                scope: page.cache_scope.unwrap_or(CacheScope::Private),
            };
            hint = Some(hint.map_or(said, |hint| hint.and(said)));
            for bad in page.bad {
                let name = bad.name.unwrap_or_else(|| format!("#{}", bad.index));
                self.hide(name, bad.reason);
            }
            for item in page.items {
                self.take(kind, item, &mut items);
            }
            // An empty string is a cursor; only its absence ends the listing (F165).
            let Some(next) = page.next_cursor else {
                return Ok((items, hint));
            };
            if items.len() >= self.config.catalog.items {
                self.exceed(
                    "catalog.items",
                    self.config.catalog.items,
                    format!("all further {}", kind.word()),
                );
                return Ok((items, hint));
            }
            if !seen.insert(next.clone()) {
                return Err(listing_failed(
                    method,
                    "the server repeats a cursor, so the listing would never end",
                ));
            }
            cursor = Some(next);
        }
        Err(listing_failed(
            method,
            &format!(
                "more than {} pages (setting `mainstay.limits.pages`)",
                self.pages_max
            ),
        ))
    }

    /// Takes an item that is within the limits, mended where it must be; the others are hidden with the reason (F249).
    fn take(&mut self, kind: ItemKind, item: RawItem, items: &mut Vec<RawItem>) {
        let limits = &self.config.catalog;
        let (most, item_bytes, all_bytes) = (limits.items, limits.item_bytes, limits.bytes);
        let depth_max = self.runtime.depth_max.saturating_sub(AROUND_ITEM);
        if items.len() >= most {
            return self.exceed("catalog.items", most, item.name);
        }
        if item.raw.len() > item_bytes {
            return self.exceed("catalog.itemBytes", item_bytes, item.name);
        }
        if self.bytes + item.raw.len() > all_bytes {
            return self.exceed("catalog.bytes", all_bytes, item.name);
        }
        if depth(&item.raw) > depth_max {
            return self.exceed("mainstay.limits.depth", self.runtime.depth_max, item.name);
        }
        let item = if kind == ItemKind::Tool {
            self.mended(item)
        } else {
            item
        };
        self.bytes += item.raw.len();
        items.push(item);
    }

    /// A tool whose `outputSchema` is no object is kept without it (F168): many clients refuse a whole listing for one.
    /// Everything else of the tool stays as it was written.
    fn mended(&mut self, tool: RawItem) -> RawItem {
        let schema = raw::member(tool.as_str(), &["outputSchema"]);
        if schema.is_none_or(raw::is_object) {
            return tool;
        }
        let carrier = Message::notification("tool", Some(tool.as_str()));
        let mended = carrier
            .edit()
            .remove(&["params", "outputSchema"])
            .finish()
            .ok()
            .and_then(|parts| Message::parse(parts.into_bytes(), &Limits::default()).ok())
            .and_then(|carrier| {
                let text = Bytes::copy_from_slice(carrier.params()?.as_bytes());
                RawItem::parse(wire_kind(ItemKind::Tool), text).ok()
            });
        let Some(mended) = mended else { return tool };
        self.hide(
            tool.name,
            "shown without its `outputSchema`, which is not an object".to_owned(),
        );
        mended
    }

    /// The result of one page; `None` when the server has no such list at all.
    async fn page(&self, kind: ItemKind, cursor: Option<&str>) -> Result<Option<Bytes>, Failure> {
        let method = wire_kind(kind).method();
        let params = cursor.map(|cursor| {
            format!(
                "{{\"cursor\":{}}}",
                mainstay_wire::splice::json_string(cursor)
            )
        });
        let request = Request::new(method, params.as_deref());
        let limits = CallLimits {
            deadline: self.deadline,
            idle: Duration::from_secs(3_600),
        };
        let answer = self
            .runtime
            .ask(&request, limits)
            .await
            .map_err(|miss| miss_failure(method, miss))?;
        if let Some(result) = answer.result_bytes() {
            // The items live as long as the catalog: they must not keep a whole read buffer alive.
            return Ok(Some(Bytes::copy_from_slice(&result)));
        }
        let error = ErrorView::of(&answer);
        // A server may declare resources and have no templates at all; that is no failure of the listing.
        if kind == ItemKind::ResourceTemplate
            && error
                .as_ref()
                .is_some_and(|error| error.code == Some(codes::METHOD_NOT_FOUND))
        {
            return Ok(None);
        }
        let words = error.map_or_else(|| "an unreadable error".to_owned(), |error| error.message);
        Err(listing_failed(method, &words))
    }
}

/// How many containers are inside each other in valid JSON text. Iterative: no depth is too deep to be measured (F247).
fn depth(json: &[u8]) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    let mut in_string = false;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if in_string => drop(bytes.next()),
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' if !in_string => open = open.saturating_sub(1),
            _other => {}
        }
    }
    deepest
}

/// The wire's word for a kind.
pub(crate) fn wire_kind(kind: ItemKind) -> ListKind {
    match kind {
        ItemKind::Tool => ListKind::Tools,
        ItemKind::Prompt => ListKind::Prompts,
        ItemKind::Resource => ListKind::Resources,
        ItemKind::ResourceTemplate => ListKind::Templates,
    }
}

fn miss_failure(method: &str, miss: Miss) -> Failure {
    match miss {
        Miss::NotSent(Cut::Ended(failure))
        | Miss::Rejected(failure)
        | Miss::Doubted(failure)
        | Miss::Lost(Cut::Ended(failure)) => failure,
        Miss::NotSent(Cut::Idle | Cut::Total) | Miss::Lost(Cut::Idle | Cut::Total) => {
            listing_failed(method, "no answer in time")
        }
        Miss::NotSent(Cut::AnswerRefused(why) | Cut::Cancelled(why))
        | Miss::Lost(Cut::AnswerRefused(why) | Cut::Cancelled(why)) => listing_failed(method, &why),
    }
}

fn listing_failed(method: &str, words: &str) -> Failure {
    Failure::new(FailureKind::ListingFailed).with_detail(format!("{method}: {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f247_depth_is_measured_without_recursion() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(depth(deep.as_bytes()), 100_000);
        assert_eq!(depth(br#"{"a":"[[[\"[[","b":[{}]}"#), 3);
        assert_eq!(depth(b"1"), 0);
    }
}
