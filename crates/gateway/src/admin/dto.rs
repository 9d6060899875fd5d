//! The answers of the admin API as plain data. Member names are part of the API.

use mainstay::catalog::{Hidden, ItemList};
use mainstay::{Catalog, Event, ServerHandle, ServerStatus};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::serve::Gateway;

/// Events of one server that its detail shows at most.
const EVENTS_MAX: usize = 50;

/// Mainstay and all servers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Overview {
    version: &'static str,
    pid: u32,
    uptime_ms: u64,
    /// Legacy sessions of clients.
    sessions: usize,
    publication: Counts,
    servers: Vec<ServerStatus>,
}

#[derive(Debug, Serialize)]
struct Counts {
    version: u64,
    tools: usize,
    prompts: usize,
    resources: usize,
    templates: usize,
}

impl Overview {
    pub(super) fn of(gateway: &Gateway) -> Self {
        let manager = gateway.manager();
        let publication = manager.publication();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_ms: u64::try_from(gateway.uptime().as_millis()).unwrap_or(u64::MAX),
            sessions: gateway.session_count(),
            publication: Counts {
                version: publication.version,
                tools: publication.tools.items.len(),
                prompts: publication.prompts.items.len(),
                resources: publication.resources.items.len(),
                templates: publication.templates.items.len(),
            },
            servers: manager.full_status(),
        }
    }
}

/// One server in full.
#[derive(Debug, Serialize)]
pub(super) struct ServerDetail {
    status: ServerStatus,
    catalog: Option<CatalogDetail>,
    events: Vec<Event>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CatalogDetail {
    listed_at_unix_ms: u64,
    remembered: bool,
    protocol: &'static str,
    server_info: Option<Box<RawValue>>,
    capabilities: Option<Box<RawValue>>,
    tools: Vec<String>,
    prompts: Vec<String>,
    resources: Vec<String>,
    templates: Vec<String>,
    hidden: Vec<Hidden>,
}

impl ServerDetail {
    pub(super) fn of(gateway: &Gateway, server: &ServerHandle) -> Self {
        let mut events = gateway.manager().recent_events();
        events.retain(|event| event.server == server.name());
        events.drain(..events.len().saturating_sub(EVENTS_MAX));
        Self {
            status: server.full_status(),
            catalog: server.catalog().as_deref().map(CatalogDetail::of),
            events,
        }
    }
}

impl CatalogDetail {
    fn of(catalog: &Catalog) -> Self {
        let names = |list: &ItemList| list.items.iter().map(|item| item.name.clone()).collect();
        let greeting = &catalog.greeting;
        Self {
            listed_at_unix_ms: catalog.listed_at_unix_ms,
            remembered: catalog.remembered,
            protocol: greeting.revision.as_str(),
            server_info: greeting.server_info.as_deref().and_then(raw),
            capabilities: raw(&greeting.capabilities),
            tools: names(&catalog.tools),
            prompts: names(&catalog.prompts),
            resources: names(&catalog.resources),
            templates: names(&catalog.templates),
            hidden: catalog.hidden.clone(),
        }
    }
}

/// All published tools.
#[derive(Debug, Serialize)]
pub(super) struct ToolList {
    version: u64,
    tools: Vec<ToolEntry>,
    hidden: Vec<Hidden>,
}

#[derive(Debug, Serialize)]
struct ToolEntry {
    server: String,
    /// The server's own name for it.
    name: String,
    /// Its name at `/mcp`.
    exposed: String,
    /// The definition as clients see it.
    tool: Option<Box<RawValue>>,
}

impl ToolList {
    pub(super) fn of(gateway: &Gateway) -> Self {
        let publication = gateway.manager().publication();
        let entry = |tool: &mainstay::publish::Published| ToolEntry {
            server: tool.server.to_string(),
            name: tool.upstream.to_string(),
            exposed: tool.exposed.to_string(),
            tool: std::str::from_utf8(&tool.raw).ok().and_then(raw),
        };
        Self {
            version: publication.version,
            tools: publication.tools.items.iter().map(entry).collect(),
            hidden: publication.tools.hidden.clone(),
        }
    }
}

/// JSON text as it is; `None` if it is none.
pub(super) fn raw(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.to_owned()).ok()
}
