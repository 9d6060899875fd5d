//! The publication: what clients see of all servers, as one atomic snapshot with a version.
//!
//! There is one publisher, owned by the driver. First the snapshot is swapped, then the version is bumped (law 21), so
//! whoever sees version n finds at least content n.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use mainstay_core::catalog::{self, Digest, Entry, ItemKind};
use mainstay_core::ids::SlotId;
use mainstay_wire::listing::{self, RawItem};
use mainstay_wire::raw;
use tokio::sync::watch;

use crate::catalog::{Catalog, Hidden, ItemList, has_legal_headers, json_array};
use crate::suspicious::{self, Suspicion};

/// One item as clients of the aggregate see it.
#[derive(Debug, Clone)]
pub struct Published {
    /// The name (or uri) under which clients see it.
    pub exposed: Box<str>,
    /// The server that owns it.
    pub server: Box<str>,
    /// The server's own name (or uri) for it.
    pub upstream: Box<str>,
    /// The item's text, with the exposed name in it.
    pub raw: Bytes,
}

/// All published items of one kind, sorted by exposed name.
#[derive(Debug)]
pub struct Listing {
    /// The items.
    pub items: Vec<Published>,
    /// Changes exactly when the content changes.
    pub digest: Digest,
    /// Items that are not shown, and why.
    pub hidden: Vec<Hidden>,
    by_name: HashMap<Box<str>, usize>,
    json: OnceLock<Bytes>,
    callable: OnceLock<Option<Box<Self>>>,
}

impl Default for Listing {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            digest: catalog::digest(std::iter::empty()),
            hidden: Vec::new(),
            by_name: HashMap::new(),
            json: OnceLock::new(),
            callable: OnceLock::new(),
        }
    }
}

impl Listing {
    fn new(items: Vec<Published>, hidden: Vec<Hidden>) -> Self {
        let digest = catalog::digest(items.iter().map(|item| (&*item.exposed, item.raw.as_ref())));
        let by_name = items
            .iter()
            .enumerate()
            .map(|(index, item)| (item.exposed.clone(), index))
            .collect();
        Self {
            items,
            digest,
            hidden,
            by_name,
            ..Self::default()
        }
    }

    /// The tools that a modern client can call over HTTP, see [`ItemList::callable_over_http`].
    #[must_use]
    pub fn callable_over_http(&self) -> &Self {
        let judged = self.callable.get_or_init(|| {
            let legal: Vec<_> = self
                .items
                .iter()
                .filter(|tool| has_legal_headers(&tool.exposed, &tool.raw))
                .cloned()
                .collect();
            (legal.len() < self.items.len())
                .then(|| Box::new(Self::new(legal, self.hidden.clone())))
        });
        judged.as_deref().unwrap_or(self)
    }

    /// The item that clients know by this name (or uri).
    #[must_use]
    pub fn find(&self, exposed: &str) -> Option<&Published> {
        self.items.get(*self.by_name.get(exposed)?)
    }

    /// Some of the items as one JSON array, rendered anew. What lies beyond the end is left out.
    #[must_use]
    pub fn json_of(&self, items: Range<usize>) -> Bytes {
        let items = items.start.min(self.items.len())..items.end.min(self.items.len());
        json_array(self.items[items].iter().map(|item| &item.raw))
    }

    /// All items as one JSON array, rendered once per version.
    pub fn json(&self) -> &Bytes {
        self.json
            .get_or_init(|| json_array(self.items.iter().map(|item| &item.raw)))
    }
}

/// What clients see: one immutable snapshot.
#[derive(Debug, Default)]
pub struct Publication {
    /// Grows by one with every change of content.
    pub version: u64,
    /// The tools of all servers.
    pub tools: Listing,
    /// The prompts of all servers.
    pub prompts: Listing,
    /// The resources of all servers, by uri.
    pub resources: Listing,
    /// The resource templates of all servers.
    pub templates: Listing,
    /// The catalogs that it was merged from.
    pub servers: BTreeMap<Box<str>, Arc<Catalog>>,
}

impl Publication {
    /// What clients see of these catalogs, by server name: a pure function, the same whoever listed first (law 24).
    #[must_use]
    pub fn merge(version: u64, servers: BTreeMap<Box<str>, Arc<Catalog>>) -> Self {
        let merged = |kind, list: fn(&Catalog) -> &ItemList| merge(&servers, kind, list);
        Self {
            version,
            tools: merged(ItemKind::Tool, |catalog| &catalog.tools),
            prompts: merged(ItemKind::Prompt, |catalog| &catalog.prompts),
            resources: merged(ItemKind::Resource, |catalog| &catalog.resources),
            templates: merged(ItemKind::ResourceTemplate, |catalog| &catalog.templates),
            servers,
        }
    }

    /// The same with other catalogs for some of the servers. Those of servers that are not published are left out: what is
    /// switched off is seen by nobody (law 5).
    #[must_use]
    pub fn with(&self, own: &BTreeMap<Box<str>, Arc<Catalog>>) -> Self {
        self.merged_with(own, |name| self.servers.contains_key(name))
    }

    /// The same also with servers that everybody sees nothing of: those that `apart` says list to each principal by itself.
    #[must_use]
    pub fn with_apart(
        &self,
        own: &BTreeMap<Box<str>, Arc<Catalog>>,
        apart: impl Fn(&str) -> bool,
    ) -> Self {
        self.merged_with(own, |name| self.servers.contains_key(name) || apart(name))
    }

    fn merged_with(
        &self,
        own: &BTreeMap<Box<str>, Arc<Catalog>>,
        fits: impl Fn(&str) -> bool,
    ) -> Self {
        let mut servers = self.servers.clone();
        let fitting = own.iter().filter(|(name, _)| fits(name));
        servers.extend(fitting.map(|(name, catalog)| (name.clone(), Arc::clone(catalog))));
        Self::merge(self.version, servers)
    }

    /// A part of it: some servers, and of those the tools that fit. Everything that stays keeps the name that it has here.
    #[must_use]
    pub fn part(&self, server: impl Fn(&str) -> bool, tool: impl Fn(&str) -> bool) -> Self {
        let of = |listing: &Listing, fits: &dyn Fn(&Published) -> bool| {
            let items = listing.items.iter();
            let items = items.filter(|item| server(&item.server) && fits(item));
            let hidden = listing.hidden.iter();
            let hidden = hidden.filter(|hidden| server(&hidden.server));
            Listing::new(items.cloned().collect(), hidden.cloned().collect())
        };
        let servers = self.servers.iter().filter(|(name, _)| server(name));
        Self {
            version: self.version,
            tools: of(&self.tools, &|item| tool(&item.exposed)),
            prompts: of(&self.prompts, &|_| true),
            resources: of(&self.resources, &|_| true),
            templates: of(&self.templates, &|_| true),
            servers: servers
                .map(|(name, catalog)| (name.clone(), Arc::clone(catalog)))
                .collect(),
        }
    }

    /// A part of it: some servers, and of those what fits, one item at a time. Everything that stays keeps the name that it has
    /// here, and nothing is said of what does not, not even that it is hidden. `None`: that is all of it.
    #[must_use]
    pub fn seen(
        &self,
        server: impl Fn(&str) -> bool,
        item: impl Fn(ItemKind, &Published) -> bool,
    ) -> Option<Self> {
        let fits = |kind, published: &Published| server(&published.server) && item(kind, published);
        let of = |kind, listing: &Listing| {
            let hidden = listing.hidden.iter().filter(|hidden| {
                let named = Published {
                    exposed: match kind {
                        ItemKind::Tool | ItemKind::Prompt => {
                            catalog::exposed_name(&hidden.server, &hidden.name).into()
                        }
                        ItemKind::Resource | ItemKind::ResourceTemplate => {
                            hidden.name.as_str().into()
                        }
                    },
                    server: hidden.server.as_str().into(),
                    upstream: hidden.name.as_str().into(),
                    raw: Bytes::new(),
                };
                fits(kind, &named)
            });
            let items = listing.items.iter().filter(|item| fits(kind, item));
            let (items, hidden): (Vec<_>, Vec<_>) =
                (items.cloned().collect(), hidden.cloned().collect());
            let whole = items.len() == listing.items.len() && hidden.len() == listing.hidden.len();
            (Listing::new(items, hidden), whole)
        };
        let (tools, all_tools) = of(ItemKind::Tool, &self.tools);
        let (prompts, all_prompts) = of(ItemKind::Prompt, &self.prompts);
        let (resources, all_resources) = of(ItemKind::Resource, &self.resources);
        let (templates, all_templates) = of(ItemKind::ResourceTemplate, &self.templates);
        let servers: BTreeMap<_, _> = self
            .servers
            .iter()
            .filter(|(name, _)| server(name))
            .map(|(name, catalog)| (name.clone(), Arc::clone(catalog)))
            .collect();
        let all_servers = servers.len() == self.servers.len();
        let whole = all_tools && all_prompts && all_resources && all_templates && all_servers;
        (!whole).then_some(Self {
            version: self.version,
            tools,
            prompts,
            resources,
            templates,
            servers,
        })
    }

    /// The server that answers for a resource uri as clients of the aggregate write it, and its own uri for it: the
    /// one that listed it, else the one whose template fits best, else the one whose tool shows it (`ui://`), else the only
    /// one that has resources at all. Uris that collide are exposed as `mainstay://{server}/{uri}`, and everything of that form goes to the server that it names.
    #[must_use]
    pub fn locate<'u>(&'u self, uri: &'u str) -> Option<(&'u str, &'u str)> {
        if let Some(resource) = self.resources.find(uri) {
            return Some((&resource.server, &resource.upstream));
        }
        if let Some(named) = uri.strip_prefix("mainstay://").and_then(|rest| {
            let (server, upstream) = rest.split_once('/')?;
            let (server, _) = self.servers.get_key_value(server)?;
            Some((&**server, upstream))
        }) {
            return Some(named);
        }
        let literal = |template: &Published| {
            template
                .upstream
                .find('{')
                .unwrap_or(template.upstream.len())
        };
        // A template that collides is exposed under another name, and has no claim to uris of the plain form.
        let fitting = self
            .templates
            .items
            .iter()
            .filter(|item| item.exposed == item.upstream && fits(&item.upstream, uri));
        if let Some(best) = fitting.max_by_key(|item| literal(item)) {
            return Some((&best.server, uri));
        }
        if let Some(tool) = self.tools.items.iter().find(|tool| shows(&tool.raw, uri)) {
            return Some((&tool.server, uri));
        }
        // Servers may answer uris that they never list; with a single owner of resources there is no doubt whose it is.
        let mut owners = self
            .servers
            .iter()
            .filter(|(_, catalog)| catalog.greeting.declares("resources"));
        let only = owners.next()?;
        owners.next().is_none().then_some((&**only.0, uri))
    }
}

/// Whether a tool names this uri as its user interface (MCP Apps); such resources need not be listed.
fn shows(tool: &Bytes, uri: &str) -> bool {
    if !uri.starts_with("ui://") {
        return false;
    }
    let Ok(tool) = std::str::from_utf8(tool) else {
        return false;
    };
    [
        &["_meta", "ui", "resourceUri"][..],
        &["_meta", "ui/resourceUri"],
    ]
    .into_iter()
    .any(|path| raw::string_member(tool, path).as_deref() == Some(uri))
}

/// Whether a uri can come from a template: its literal parts occur in order, the first at the start.
fn fits(template: &str, uri: &str) -> bool {
    let mut rest = uri;
    let mut first = true;
    let mut tail = template;
    loop {
        let (literal, after) = match tail.find('{') {
            Some(open) => (
                &tail[..open],
                tail[open..]
                    .find('}')
                    .map(|close| &tail[open + close + 1..]),
            ),
            None => (tail, None),
        };
        let found = if first {
            rest.starts_with(literal).then_some(0)
        } else {
            rest.find(literal)
        };
        let Some(at) = found else { return false };
        rest = &rest[at + literal.len()..];
        first = false;
        match after {
            Some(after) => tail = after,
            None => return rest.is_empty() || template.ends_with('}'),
        }
    }
}

/// The single writer of the publication.
#[derive(Debug)]
pub(crate) struct Publisher {
    servers: BTreeMap<Box<str>, Arc<Catalog>>,
    shared: Arc<Shared>,
}

/// What readers hold.
#[derive(Debug)]
pub(crate) struct Shared {
    snapshot: ArcSwap<Publication>,
    version: watch::Sender<u64>,
    /// Grows when a further connection has listed, or is gone.
    own: watch::Sender<u64>,
    /// What is suspicious in the snapshot of a version, looked for when somebody asks.
    across: Mutex<Across>,
}

/// The version that was looked at, and what was found, by server.
type Across = (u64, Arc<BTreeMap<Box<str>, Vec<Suspicion>>>);

impl Shared {
    /// Says when what some clients see beside the publication may have changed, as a level.
    pub(crate) fn own(&self) -> watch::Receiver<u64> {
        self.own.subscribe()
    }

    /// The current snapshot.
    pub(crate) fn current(&self) -> Arc<Publication> {
        self.snapshot.load_full()
    }

    /// What of a server's tools can be mistaken for another's. Looks through all tools once per version.
    pub(crate) fn suspicious(&self, server: &str) -> Vec<Suspicion> {
        let snapshot = self.current();
        let mut across = self.across.lock().unwrap_or_else(PoisonError::into_inner);
        if across.0 != snapshot.version {
            *across = (
                snapshot.version,
                Arc::new(suspicious::across(&snapshot.servers)),
            );
        }
        across.1.get(server).cloned().unwrap_or_default()
    }

    /// The version, as a level: wait for `>= n`.
    pub(crate) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

impl Publisher {
    /// What readers hold.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// An empty publication, version 0.
    pub(crate) fn new() -> (Self, Arc<Shared>) {
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::default(),
            version: watch::Sender::new(0),
            own: watch::Sender::new(0),
            across: Mutex::default(),
        });
        (
            Self {
                servers: BTreeMap::new(),
                shared: Arc::clone(&shared),
            },
            shared,
        )
    }

    /// Publishes a server's catalog. The same content again moves only its freshness; `Some(version)` when clients see
    /// something new.
    pub(crate) fn publish(&mut self, server: &str, catalog: Arc<Catalog>) -> Option<u64> {
        let before = self.servers.insert(server.into(), Arc::clone(&catalog));
        if before.is_some_and(|before| before.same_content(&catalog)) {
            let current = self.shared.snapshot.load_full();
            self.swap(current.version);
            return None;
        }
        Some(self.bump())
    }

    /// Whether clients see the items of this server.
    pub(crate) fn shows(&self, server: &str) -> bool {
        self.servers.contains_key(server)
    }

    /// Takes a server's items away: it was disabled or removed (law 5).
    pub(crate) fn retract(&mut self, server: &str) -> Option<u64> {
        self.servers.remove(server).map(|_| self.bump())
    }

    fn bump(&self) -> u64 {
        let version = self.shared.snapshot.load().version + 1;
        self.swap(version);
        // Only now, with the snapshot in place, may anybody be told.
        self.shared.version.send_replace(version);
        version
    }

    /// A further connection has listed, or is gone: what its clients see may be something else now.
    pub(crate) fn own_changed(&self) {
        self.shared.own.send_modify(|version| *version += 1);
    }

    fn swap(&self, version: u64) {
        let publication = Publication::merge(version, self.servers.clone());
        self.shared.snapshot.store(Arc::new(publication));
    }
}

fn merge(
    servers: &BTreeMap<Box<str>, Arc<Catalog>>,
    kind: ItemKind,
    list: fn(&Catalog) -> &ItemList,
) -> Listing {
    let mut raws: Vec<(&str, &RawItem)> = Vec::new();
    let mut entries = Vec::new();
    let mut hidden = Vec::new();
    for (server, catalog) in servers {
        for item in &list(catalog).items {
            raws.push((server, item));
            entries.push(Entry {
                // Each server has one catalog here.
                slot: SlotId(0),
                server,
                name: &item.name,
            });
        }
        if kind == ItemKind::Tool {
            hidden.extend(catalog.hidden.iter().cloned());
        }
    }
    let merged = catalog::merge(kind, &entries);
    let mut items = Vec::with_capacity(merged.exposures.len());
    for exposure in merged.exposures {
        let Some((server, item)) = raws.get(exposure.entry) else {
            continue;
        };
        let raw = if exposure.exposed == item.name {
            item.raw.clone()
        } else {
            listing::renamed(item, &exposure.exposed).into_bytes()
        };
        items.push(Published {
            exposed: exposure.exposed.into(),
            server: (*server).into(),
            upstream: item.name.as_str().into(),
            raw,
        });
    }
    for quarantine in merged.quarantined {
        if let Some((server, item)) = raws.get(quarantine.entry) {
            hidden.push(Hidden {
                server: (*server).to_owned(),
                name: item.name.clone(),
                reason: quarantine.reason.to_string(),
            });
        }
    }
    Listing::new(items, hidden)
}

#[cfg(test)]
mod tests {
    use mainstay_wire::ListKind;
    use mainstay_wire::revision::Revision;

    use super::*;
    use crate::catalog::Greeting;

    fn catalog(tools: &[&str], uris: &[&str]) -> Arc<Catalog> {
        let item = |kind, text: String| RawItem::parse(kind, text.into()).unwrap();
        let tool = |name: &&str| {
            let text = format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#);
            item(ListKind::Tools, text)
        };
        let resource = |uri: &&str| {
            let text = format!(r#"{{"uri":"{uri}","name":"r"}}"#);
            item(ListKind::Resources, text)
        };
        Arc::new(Catalog {
            greeting: Greeting {
                revision: Revision::LATEST_LEGACY,
                capabilities: "{}".into(),
                server_info: None,
                instructions: None,
            },
            tools: ItemList::new(tools.iter().map(tool).collect()),
            prompts: ItemList::default(),
            resources: ItemList::new(uris.iter().map(resource).collect()),
            templates: ItemList::default(),
            hidden: Vec::new(),
            listed_at_unix_ms: 0,
            over_sse: false,
            remembered: false,
        })
    }

    fn names(listing: &Listing) -> Vec<&str> {
        listing.items.iter().map(|item| &*item.exposed).collect()
    }

    fn all() -> Publication {
        Publication::merge(
            7,
            BTreeMap::from([
                ("one".into(), catalog(&["a", "b"], &["x:shared"])),
                ("two".into(), catalog(&["a"], &["x:shared"])),
            ]),
        )
    }

    #[test]
    fn law_24_what_stays_of_a_part_keeps_the_name_that_it_has_in_the_whole() {
        let whole = all();
        assert_eq!(names(&whole.tools), ["one__a", "one__b", "two__a"]);
        let part = whole.part(|server| server == "two", |_| true);
        assert_eq!(names(&part.tools), ["two__a"]);
        assert_eq!(names(&part.resources), ["mainstay://two/x:shared"]);
        assert_eq!(
            part.locate("mainstay://two/x:shared"),
            Some(("two", "x:shared"))
        );
        assert!(part.tools.find("one__a").is_none() && !part.servers.contains_key("one"));
        let part = whole.part(|_| true, |tool| tool.ends_with("__a"));
        assert_eq!(names(&part.tools), ["one__a", "two__a"]);
        assert_ne!(part.tools.digest, whole.tools.digest);
    }

    #[test]
    fn law_5_another_listing_of_a_server_that_is_not_published_shows_nobody_anything() {
        let own = |name: &str| BTreeMap::from([(Box::from(name), catalog(&["more"], &[]))]);
        let seen = all().with(&own("one"));
        assert_eq!(names(&seen.tools), ["one__more", "two__a"]);
        // What the other server has is its own name again: nobody else lists it.
        assert_eq!(names(&seen.resources), ["x:shared"]);
        assert_eq!(names(&all().with(&own("off")).tools), names(&all().tools));
    }
}
