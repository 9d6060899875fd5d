//! Listing: all pages of everything a server declares, into a staging catalog. All or nothing (F166).

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use mainstay_core::catalog::ItemKind;
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_wire::codes;
use mainstay_wire::listing::{self, ListKind, RawItem};
use mainstay_wire::views::ErrorView;
use tokio::time::Instant;

use super::freshness::Ttls;
use super::greeting::Greeting;
use super::params::Draft;
use super::{Cut, Limits, Link, Miss, Runtime};
use crate::catalog::{Catalog, Hidden, ItemList, unix_ms};
use crate::config::ToolFilter;
use crate::request::Request;

/// Items of one kind that one server may list.
const ITEMS_MAX: usize = 100_000;

/// Lists everything that the greeting declares. Cancel-safe: nothing is published from here.
pub(crate) async fn list_all(
    runtime: &Runtime,
    greeting: &Greeting,
    filter: &ToolFilter,
    pages_max: usize,
    within: Duration,
) -> Result<Catalog, Failure> {
    let deadline = Instant::now() + within;
    let mut hidden = Vec::new();
    let mut ttls = Ttls::default();
    let mut headers = Draft::default();
    let mut lists = Vec::with_capacity(4);
    for (kind, capability) in [
        (ItemKind::Tool, "tools"),
        (ItemKind::Prompt, "prompts"),
        (ItemKind::Resource, "resources"),
        (ItemKind::ResourceTemplate, "resources"),
    ] {
        let mut items = if greeting.declares(capability) {
            list_kind(runtime, kind, pages_max, deadline, &mut hidden, &mut ttls).await?
        } else {
            Vec::new()
        };
        if kind == ItemKind::Tool {
            items.retain(|tool| is_offered(runtime, filter, tool, &mut hidden));
            items.retain(|tool| is_callable(runtime, tool, &mut headers, &mut hidden));
        }
        lists.push(ItemList::new(items));
    }
    runtime.freshness.set_ttls(ttls);
    runtime.tool_headers.replace(headers);
    let mut lists = lists.into_iter();
    let mut next = || lists.next().unwrap_or_default();
    Ok(Catalog {
        greeting: greeting.clone(),
        tools: next(),
        prompts: next(),
        resources: next(),
        templates: next(),
        hidden,
        listed_at_unix_ms: unix_ms(),
        over_sse: matches!(runtime.link(), Link::Sse(_)),
        remembered: false,
    })
}

/// Whether the config lets a tool through; one that it does not is hidden, visibly.
fn is_offered(
    runtime: &Runtime,
    filter: &ToolFilter,
    tool: &RawItem,
    hidden: &mut Vec<Hidden>,
) -> bool {
    let offered = filter.allows(&tool.name);
    if !offered {
        hidden.push(Hidden {
            server: runtime.server.to_string(),
            name: tool.name.clone(),
            reason: "left out by `tools` in the server's config entry".to_owned(),
        });
    }
    offered
}

/// Whether a tool can be called over this transport: an annotation that makes no header hides it, visibly (F137).
fn is_callable(
    runtime: &Runtime,
    tool: &RawItem,
    headers: &mut Draft,
    hidden: &mut Vec<Hidden>,
) -> bool {
    if !runtime.speaks_modern_http() {
        return true;
    }
    let Err(reason) = headers.read(tool) else {
        return true;
    };
    tracing::warn!(server = %runtime.server, tool = %tool.name, reason, "tool hidden");
    hidden.push(Hidden {
        server: runtime.server.to_string(),
        name: tool.name.clone(),
        reason,
    });
    false
}

async fn list_kind(
    runtime: &Runtime,
    kind: ItemKind,
    pages_max: usize,
    deadline: Instant,
    hidden: &mut Vec<Hidden>,
    ttls: &mut Ttls,
) -> Result<Vec<RawItem>, Failure> {
    let method = wire_kind(kind).method();
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    let mut seen = HashSet::new();
    for _page in 0..pages_max {
        let request = match &cursor {
            None => Request::new(method, None),
            Some(cursor) => {
                let params = format!(
                    "{{\"cursor\":{}}}",
                    mainstay_wire::splice::json_string(cursor)
                );
                Request::new(method, Some(&params))
            }
        };
        let limits = Limits {
            deadline,
            idle: Duration::from_secs(3_600),
        };
        let answer = runtime
            .ask(&request, None, None, limits)
            .await
            .map_err(|miss| miss_failure(method, miss))?;
        let Some(result) = answer.result_bytes() else {
            let error = ErrorView::of(&answer);
            // A server may declare resources and have no templates at all; that is no failure of the listing.
            if kind == ItemKind::ResourceTemplate
                && error
                    .as_ref()
                    .is_some_and(|error| error.code == Some(codes::METHOD_NOT_FOUND))
            {
                return Ok(items);
            }
            let words =
                error.map_or_else(|| "an unreadable error".to_owned(), |error| error.message);
            return Err(listing_failed(method, &words));
        };
        // The items live as long as the catalog: they must not keep a whole read buffer alive.
        let result = Bytes::copy_from_slice(&result);
        let page = listing::parse_page(wire_kind(kind), &result)
            .map_err(|error| listing_failed(method, &error.to_string()))?;
        ttls.note(wire_kind(kind), page.ttl_ms);
        items.extend(page.items);
        hidden.extend(page.bad.into_iter().map(|bad| Hidden {
            server: runtime.server.to_string(),
            name: bad.name.unwrap_or_else(|| format!("#{}", bad.index)),
            reason: bad.reason,
        }));
        if items.len() > ITEMS_MAX {
            return Err(listing_failed(
                method,
                &format!("more than {ITEMS_MAX} items"),
            ));
        }
        // An empty string is a cursor; only its absence ends the listing (F165).
        let Some(next) = page.next_cursor else {
            return Ok(items);
        };
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
        &format!("more than {pages_max} pages (setting `mainstay.limits.pages`)"),
    ))
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
        Miss::NotSent(Cut::AnswerRefused(why)) | Miss::Lost(Cut::AnswerRefused(why)) => {
            listing_failed(method, &why)
        }
    }
}

fn listing_failed(method: &str, words: &str) -> Failure {
    Failure::new(FailureKind::ListingFailed).with_detail(format!("{method}: {words}"))
}
