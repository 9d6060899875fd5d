//! The answers of the admin API as plain data. Member names are part of the API.

use mainstay::calls::Step;
use mainstay::catalog::{Hidden, ItemList};
use mainstay::journal::JournalStatus;
use mainstay::{Catalog, Event, ServerHandle, ServerStatus};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::calls::Record;
use super::reload::ConfigBrief;
use crate::audit::AuditStatus;
use crate::serve::Gateway;

/// Events of one server that its detail shows at most.
const EVENTS_MAX: usize = 50;

/// Mainstay and all servers.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Overview {
    version: &'static str,
    pid: u32,
    uptime_ms: u64,
    /// Legacy sessions of clients.
    sessions: usize,
    publication: PublicationCounts,
    /// The config file. Absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<ConfigBrief>,
    /// How the journal is doing; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    journal: Option<JournalStatus>,
    /// How the audit log is doing; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<AuditStatus>,
    /// Calls that wait for the operator to approve them.
    approvals: usize,
    servers: Vec<ServerStatus>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct PublicationCounts {
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
            publication: PublicationCounts {
                version: publication.version,
                tools: publication.tools.items.len(),
                prompts: publication.prompts.items.len(),
                resources: publication.resources.items.len(),
                templates: publication.templates.items.len(),
            },
            config: ConfigBrief::of(gateway),
            journal: manager.journal_status(),
            audit: gateway.shared.gate.audit().map(|audit| audit.status()),
            approvals: gateway.shared.gate.approvals.list().len(),
            servers: manager.full_status(),
        }
    }
}

/// One server in full.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ServerDetail {
    status: ServerStatus,
    catalog: Option<CatalogDetail>,
    /// Its last events, oldest first.
    events: Vec<Event>,
    /// The last changes of its state, oldest first.
    timeline: Vec<Step>,
    /// Its last calls, oldest first.
    #[schemars(with = "Vec<mainstay::CallRecord>")]
    calls: Vec<Record>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct CatalogDetail {
    listed_at_unix_ms: u64,
    remembered: bool,
    protocol: &'static str,
    /// As the server says it.
    #[schemars(with = "serde_json::Value")]
    server_info: Option<Box<RawValue>>,
    /// As the server says it.
    #[schemars(with = "serde_json::Value")]
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
            timeline: server.timeline(),
            calls: server.recent_calls().into_iter().map(Record).collect(),
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
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ToolList {
    version: u64,
    tools: Vec<ToolEntry>,
    hidden: Vec<Hidden>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ToolEntry {
    server: String,
    /// The server's own name for it.
    name: String,
    /// Its name at `/mcp`.
    exposed: String,
    /// The definition as clients see it.
    #[schemars(with = "serde_json::Value")]
    tool: Option<Box<RawValue>>,
}

/// All published prompts, resources and resource templates.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CatalogList {
    version: u64,
    prompts: Vec<ItemEntry>,
    resources: Vec<ItemEntry>,
    templates: Vec<ItemEntry>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ItemEntry {
    server: String,
    /// The server's own name or uri for it.
    name: String,
    /// Its name or uri at `/mcp`.
    exposed: String,
    /// It is a user interface (`ui://`), which clients may show and run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ui: bool,
    /// The definition as clients see it.
    #[schemars(with = "serde_json::Value")]
    item: Option<Box<RawValue>>,
}

impl CatalogList {
    pub(super) fn of(gateway: &Gateway) -> Self {
        let publication = gateway.manager().publication();
        let entry = |item: &mainstay::publish::Published| ItemEntry {
            server: item.server.to_string(),
            name: item.upstream.to_string(),
            exposed: item.exposed.to_string(),
            ui: mainstay::catalog::is_ui(&item.upstream),
            item: std::str::from_utf8(&item.raw).ok().and_then(raw),
        };
        let entries =
            |listing: &mainstay::publish::Listing| listing.items.iter().map(entry).collect();
        Self {
            version: publication.version,
            prompts: entries(&publication.prompts),
            resources: entries(&publication.resources),
            templates: entries(&publication.templates),
        }
    }
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

/// What is wrong with a request.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ErrorBody {
    pub(super) error: ErrorDetail,
}

/// What is wrong, and what can be done about it.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct ErrorDetail {
    pub(super) message: String,
    /// The next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
    /// The code of the JSON-RPC error that an MCP client would have got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<i64>,
    /// What programs want to know about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<serde_json::Value>,
}

/// The process that ends.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Stopping {
    pub(super) pid: u32,
}

/// What happened, oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct EventList {
    pub(super) events: Vec<Event>,
}

/// Lines of a server's stderr, oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LogLines {
    pub(super) lines: Vec<String>,
}

/// One line of a server's stderr.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LogLine {
    pub(super) line: String,
}

/// What an event stream says.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes what is written event by event")]
pub(super) enum Told {
    /// Something happened.
    Event(Box<Event>),
    /// The reader was too slow: so many events are missing here.
    Lagged(Lagged),
}

/// The reader was too slow.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Lagged {
    /// `lagged`.
    #[serde(rename = "type")]
    pub(super) kind: LaggedWord,
    /// How many events are missing.
    pub(super) missed: u64,
}

impl Lagged {
    pub(super) fn of(missed: u64) -> Self {
        Self {
            kind: LaggedWord::Lagged,
            missed,
        }
    }
}

/// The one word.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum LaggedWord {
    Lagged,
}

/// JSON text as it is; `None` if it is none.
pub(super) fn raw(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.to_owned()).ok()
}
