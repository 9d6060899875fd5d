//! Last good catalogs over restarts (law 22): between the live form, which is sliced bytes, and the stored one.

use bytes::Bytes;
use mainstay_core::catalog::ItemKind;
use mainstay_wire::listing::RawItem;
use mainstay_wire::revision::Revision;

use crate::catalog::{Catalog, ItemList};
use crate::config::ServerConfig;
use crate::runtime::catalog::wire_kind;
use crate::runtime::greeting::Greeting;
use crate::store::{Store, StoreError, StoredCatalog};

/// Keeps a catalog on disk. Blocking.
pub(crate) fn save(
    store: &Store,
    config: &ServerConfig,
    catalog: &Catalog,
) -> Result<(), StoreError> {
    let texts = |list: &ItemList| {
        list.items
            .iter()
            .map(|item| item.as_str().to_owned())
            .collect()
    };
    let greeting = &catalog.greeting;
    let stored = StoredCatalog {
        saved_at_unix_ms: catalog.listed_at_unix_ms,
        over_sse: catalog.over_sse,
        protocol: Some(greeting.revision.as_str().to_owned()),
        server_info: greeting.server_info.as_deref().map(str::to_owned),
        capabilities: Some(greeting.capabilities.to_string()),
        instructions: greeting
            .instructions
            .as_deref()
            .and_then(|raw| serde_json::from_str(raw).ok()),
        tools: texts(&catalog.tools),
        prompts: texts(&catalog.prompts),
        resources: texts(&catalog.resources),
        templates: texts(&catalog.templates),
    };
    store.save_catalog(&config.name, &config.fingerprints().connection, &stored)
}

/// Reads what was kept of a server with the same connection settings. Blocking.
pub(crate) fn load(store: &Store, config: &ServerConfig) -> Option<Catalog> {
    let stored = store.load_catalog(&config.name, &config.fingerprints().connection)?;
    let revision = stored.protocol.as_deref().and_then(Revision::parse)?;
    Some(Catalog {
        greeting: Greeting {
            revision,
            capabilities: stored
                .capabilities
                .unwrap_or_else(|| "{}".to_owned())
                .into(),
            server_info: stored.server_info.map(Into::into),
            instructions: stored
                .instructions
                .map(|text| mainstay_wire::splice::json_string(&text).into()),
        },
        tools: items(ItemKind::Tool, stored.tools),
        prompts: items(ItemKind::Prompt, stored.prompts),
        resources: items(ItemKind::Resource, stored.resources),
        templates: items(ItemKind::ResourceTemplate, stored.templates),
        hidden: Vec::new(),
        listed_at_unix_ms: stored.saved_at_unix_ms,
        over_sse: stored.over_sse,
        remembered: true,
    })
}

/// Items from their stored texts; one that no longer reads as an item is left out, the others stay (law 24).
fn items(kind: ItemKind, texts: Vec<String>) -> ItemList {
    let read = |text: String| -> Option<RawItem> {
        RawItem::parse(wire_kind(kind), Bytes::from(text)).ok()
    };
    ItemList::new(texts.into_iter().filter_map(read).collect())
}
