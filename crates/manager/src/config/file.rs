//! The shape of the file, as people write it: every key optional, nothing resolved, nothing merged.
//!
//! The same structs describe a server's own keys and `mainstay.defaults`; [`ServerOptions::over`] merges the two. Their
//! doc comments are the descriptions in the generated JSON schema, and the constants here are the defaults and limits
//! that the schema, the reader and the resolved settings share.

// The structs of the whole file exist for the schema alone; the reader fills the option structs.
#![expect(dead_code, reason = "fields that only the schema generator looks at")]

use std::collections::BTreeMap;

use super::auth::{AuthOptions, AuthWordOrGroup};
use super::file_watch::{WatchOptions, WatchOrNot};
use schemars::JsonSchema;

use super::Template;
use super::access::AccessOptions;
use super::audit::{AuditOptions, AuditOrNot};
use super::journal::JournalOptions;
use super::policy::PolicyOptions;
use super::profiles::{Discovery, ProfileOptions};
use super::reader::Range;
use super::sandbox::{SandboxOptions, SandboxOrNot};
use super::suspicious::{AskOptions, HiddenText};
use super::tools::ToolOptions;

/// Longest duration that may be set: 30 days, in milliseconds.
pub(super) const DURATION_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;
/// Any duration that must not be zero.
pub(super) const DURATION_MS: Range = Range {
    min: 1,
    max: DURATION_MS_MAX,
};
/// Any duration that may be zero.
pub(super) const DURATION_OR_ZERO_MS: Range = Range {
    min: 0,
    max: DURATION_MS_MAX,
};
/// Largest count of failures, misses and the like.
pub(super) const COUNT_MAX: u64 = 1_000;
/// Largest size in bytes that a limit may be set to: 1 GiB.
pub(super) const BYTES_MAX: u64 = 1 << 30;

/// A Mainstay config: the `mcpServers` map that MCP clients share, and `mainstay` for the gateway itself.
///
/// Comments and trailing commas are allowed. Durations are milliseconds. `${VAR}`, `${VAR:-default}` and `${env:VAR}`
/// refer to environment variables in `command`, `args`, `env`, `cwd`, `url` and `headers`; `$${` stands for `${`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", title = "Mainstay config")]
pub(super) struct ConfigFile {
    /// The servers, by name. A name has 1 to 64 characters, without `/` and control characters.
    pub(super) mcp_servers: Option<BTreeMap<String, ServerEntry>>,
    /// The same as `mcpServers`, as some editors write it.
    pub(super) servers: Option<BTreeMap<String, ServerEntry>>,
    /// Settings of Mainstay itself.
    pub(super) mainstay: Option<GatewayOptions>,
}

/// One server: either `command` (a program that speaks MCP over stdin and stdout) or `url` (streamable HTTP).
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct ServerEntry {
    /// The program to start. Looked up in the server's own PATH.
    pub(super) command: Option<String>,
    /// The program's arguments.
    pub(super) args: Option<Vec<String>>,
    /// Environment variables for the program, on top of those that `envPolicy` lets through.
    pub(super) env: Option<BTreeMap<String, String>>,
    /// The directory to start the program in. Default: that of Mainstay.
    pub(super) cwd: Option<String>,
    /// The address of the server's MCP endpoint: `http://…` or `https://…`.
    pub(super) url: Option<String>,
    /// HTTP headers to send with every request, such as `Authorization`.
    pub(super) headers: Option<BTreeMap<String, String>>,
    /// The transport. Default: `stdio` with `command`, `http` with `url`. `http` also finds out by itself whether the server
    /// only speaks the older HTTP+SSE transport (of 2024-11-05); `sse` insists on that one.
    #[schemars(rename = "type")]
    pub(super) kind: Option<TransportWord>,
    /// A name for people, shown next to the server's own.
    pub(super) label: Option<String>,
    /// Shown like `label` when there is no `label`.
    pub(super) description: Option<String>,
    /// The opposite of `enabled`, as some clients write it.
    pub(super) disabled: Option<bool>,
    #[schemars(flatten)]
    pub(super) options: ServerOptions,
}

/// Words for transports.
#[derive(JsonSchema)]
pub(super) enum TransportWord {
    #[schemars(rename = "stdio")]
    Stdio,
    #[schemars(rename = "http")]
    Http,
    #[schemars(rename = "streamable-http")]
    StreamableHttp,
    #[schemars(rename = "streamableHttp")]
    StreamableHttpCamel,
    #[schemars(rename = "sse")]
    Sse,
}

/// Settings that every server may have, and that `mainstay.defaults` may set for all.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct ServerOptions {
    /// Whether the server is started. A disabled server stays in the list and can be enabled at run time.
    #[schemars(extend("default" = true))]
    pub(super) enabled: Option<bool>,
    /// Whether `/readyz` waits for this server. It never stops the others.
    #[schemars(extend("default" = false))]
    pub(super) required: Option<bool>,
    /// When to start: at once, or with the first call.
    #[schemars(extend("default" = "eager"))]
    pub(super) startup: Option<Startup>,
    /// Stop a server that nobody has called for this long and start it again with the next call; `false`: never.
    #[schemars(with = "Option<NumberOrNever>", extend("default" = false))]
    pub(super) idle_shutdown_ms: Option<Option<u64>>,
    /// Which generation of MCP the server speaks: `auto` finds out, `legacy` is up to 2025-11-25, `modern` is 2026-07-28
    /// and later.
    #[schemars(extend("default" = "auto"))]
    pub(super) protocol: Option<Protocol>,
    /// Whose connection it is. `shared`: one for all clients, and for servers of the older MCP (up to 2025-11-25) one more
    /// for each set of capabilities that clients declare. `session`: one for each client session, with this client's
    /// capabilities and name; clients without a session share one as under `shared`. `user`: the same as `shared` until
    /// clients can sign in.
    #[schemars(extend("default" = "shared"))]
    pub(super) scope: Option<Scope>,
    /// The connections to the server beside the shared one (see `scope`): how many, and for how long.
    pub(super) connections: Option<ConnectionOptions>,
    /// What is done with its tools: which are shown, under which names, and how they are called. Changes take effect live.
    pub(super) tools: Option<ToolOptions>,
    /// How long things may take.
    pub(super) timeouts: Option<TimeoutOptions>,
    /// How a server that fails is started again.
    pub(super) restart: Option<RestartOptions>,
    /// Probing of a connection without traffic; `false` turns it off. Default: on for `url`, off for `command` (the process is
    /// watched instead).
    #[schemars(with = "Option<KeepaliveOrOff>")]
    pub(super) keepalive: Option<KeepaliveOptions>,
    /// Probing of a connection on which a call met silence, where there is no `keepalive`.
    pub(super) suspicion: Option<SuspicionOptions>,
    /// Whether the server's push stream is held, over which it tells that its catalog changed; `off` for servers whose host
    /// bills for open streams. Without it listings are repeated as `pollMs` says. Has no effect on `command`.
    #[schemars(extend("default" = "auto"))]
    pub(super) push: Option<Push>,
    /// How often a listing is repeated, at most, because the server has no way to tell that it changed; the server's own
    /// `ttlMs` may make it rarer. `false`: never.
    #[schemars(with = "Option<NumberOrNever>", extend("default" = POLL_MS))]
    pub(super) poll_ms: Option<Option<u64>>,
    /// When a call may be sent again.
    pub(super) retry: Option<RetryOptions>,
    /// How many calls may be at the server at the same time; more wait.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = CONCURRENCY))]
    pub(super) concurrency: Option<u64>,
    /// How many calls may wait for the server, because it is connecting or busy; more are refused.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = WAITING))]
    pub(super) waiting: Option<u64>,
    /// Bytes of one answer to a call; a larger one is withheld, and the call is told.
    #[schemars(range(min = MESSAGE_BYTES_MIN, max = BYTES_MAX), extend("default" = RESULT_BYTES))]
    pub(super) result_bytes: Option<u64>,
    /// What happens to a call when the tool's definition has changed since the caller saw it.
    #[schemars(extend("default" = "allow"))]
    pub(super) on_tool_change: Option<OnToolChange>,
    /// When the catalog is listed again, and how large it may be.
    pub(super) catalog: Option<CatalogOptions>,
    /// Which variables of Mainstay's own environment the program sees: a short list of harmless ones, or all of them.
    #[schemars(extend("default" = "allowlist"))]
    pub(super) env_policy: Option<EnvPolicy>,
    /// What the program may touch of this machine: `true` for the usual places and the network, an object for less or more.
    /// Linux only.
    #[schemars(with = "Option<SandboxOrNot>", extend("default" = false))]
    pub(super) sandbox: Option<SandboxOptions>,
    /// Whether the program is only started as long as its file, and the script it is given, are as they were when they were
    /// approved: what is found first counts as approved, `mainstay tools approve NAME --program` approves another one.
    #[schemars(extend("default" = false))]
    pub(super) pin_program: Option<bool>,
    /// Whether the server may ask clients for something, and how often.
    pub(super) asks: Option<AskOptions>,
    /// The types of content that its answers may have, such as `text/*`; others are withheld, and the call is told. Default: all.
    pub(super) content_types: Option<Vec<String>>,
    /// What is done with characters in names and descriptions that people do not see and models read.
    #[schemars(extend("default" = "flag"))]
    pub(super) hidden_text: Option<HiddenText>,
    /// How long each step of stopping the program may take.
    pub(super) stop: Option<StopOptions>,
    /// How long calls in flight may finish before a planned stop.
    #[schemars(range(min = 0, max = DURATION_MS_MAX), extend("default" = DRAIN_MS))]
    pub(super) drain_ms: Option<u64>,
    /// How Mainstay signs in to a `url`: `auto` (OAuth when the server asks for it), `none`, or how exactly. An `Authorization`
    /// header of the entry switches it off.
    #[schemars(with = "Option<AuthWordOrGroup>", extend("default" = "auto"))]
    pub(super) auth: Option<AuthOptions>,
    /// Whom to trust on `https://…`, and what to show there.
    pub(super) tls: Option<TlsOptions>,
    /// The HTTP proxy that leads to a `url`, such as `http://proxy:3128`, or `direct` for none. Default: what `HTTP_PROXY`,
    /// `HTTPS_PROXY` and `NO_PROXY` say; never for servers on this machine.
    #[schemars(with = "Option<String>")]
    pub(super) proxy: Option<Template>,
    /// Hosts that are reached without a proxy: names (with their subdomains), addresses and networks, separated by commas.
    #[schemars(with = "Option<String>")]
    pub(super) no_proxy: Option<Template>,
}

/// Whom to trust, and who we are.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct TlsOptions {
    /// A file of certificates (PEM) of authorities that are trusted on top of those of this machine. Relative to this file.
    #[schemars(with = "Option<String>")]
    pub(super) ca_file: Option<Template>,
    /// A file with the certificate (PEM, with those between it and its authority) that is shown to a server which wants to know
    /// who comes. Relative to this file; needs `keyFile`. Read again whenever a connection is opened anew.
    #[schemars(with = "Option<String>")]
    pub(super) cert_file: Option<Template>,
    /// The file with its private key (PEM).
    #[schemars(with = "Option<String>")]
    pub(super) key_file: Option<Template>,
}

pub(super) const POLL_MS: u64 = 60_000;
pub(super) const CONCURRENCY: u64 = 1_024;
pub(super) const WAITING: u64 = 1_024;
pub(super) const RESULT_BYTES: u64 = 16 * 1024 * 1024;
pub(super) const DRAIN_MS: u64 = 10_000;

/// A number, or `false` for never.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum NumberOrNever {
    Number(#[schemars(range(min = 1, max = DURATION_MS_MAX))] u64),
    Never(#[schemars(extend("const" = false))] bool),
}

/// Settings, `false` for off, or `true` for on with the usual settings.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum KeepaliveOrOff {
    On(KeepaliveGroup),
    Off(bool),
}

/// When a server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Startup {
    /// At once, and kept up.
    #[default]
    Eager,
    /// With the first call.
    Lazy,
}

/// Which generation of MCP a server is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Protocol {
    /// Found out by asking, and remembered.
    #[default]
    Auto,
    /// Up to 2025-11-25: handshake and sessions.
    Legacy,
    /// 2026-07-28 and later: stateless.
    Modern,
}

/// Whose connection to the server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Scope {
    /// One for all clients.
    #[default]
    Shared,
    /// One for each downstream session.
    Session,
    /// One for each authenticated user.
    User,
}

/// Whether a server's push stream is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Push {
    /// Where the server has one.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// Whether a call is sent again after the loss of its session (F106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Replay {
    /// Not at all.
    Never,
    /// If it provably did not run, or may run twice.
    #[default]
    Safe,
    /// Also if a proxy may have answered in the server's place after the call had run.
    Always,
}

/// Which variables of our own environment a child sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum EnvPolicy {
    /// A short list of harmless ones: the search path, the home directory, the language and the like.
    #[default]
    Allowlist,
    /// All of them, secrets included.
    Inherit,
}

/// What happens to a call when the tool's definition has changed since the caller saw it (law 20).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum OnToolChange {
    /// It is made; the change itself is an event.
    #[default]
    Allow,
    /// It is made, and an event says that a call met the change.
    Warn,
    /// It is refused; whoever lists the tools again may call again.
    Refuse,
}

/// The connections to one server beside the shared one. Opened when a client first needs them.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct ConnectionOptions {
    /// How many there may be at the same time, beside the shared one. With `scope: "user"` 256 unless it is said.
    #[schemars(range(min = 1, max = 10_000), extend("default" = CONNECTIONS))]
    pub(super) max: Option<u64>,
    /// With `scope: "user"`, how many of them one user may have: clients that declare different capabilities to a server of
    /// the older MCP need different ones.
    #[schemars(range(min = 1, max = 1_000), extend("default" = PER_USER))]
    pub(super) per_user: Option<u64>,
    /// With `scope: "user"`, how many calls of one user may be at the server at the same time; the others of that user wait,
    /// and nobody else does. A quarter of `concurrency` unless it is said.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) calls_per_user: Option<u64>,
    /// How long one stays open without a call. With `scope: "session"` or `"user"`, what the server remembers of the session
    /// goes with it.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = CONNECTION_IDLE_MS))]
    pub(super) idle_ms: Option<u64>,
    /// How many there may be for clients with the same capabilities, where a connection can only serve one client at a
    /// time: on stdio and HTTP+SSE, once the server has asked a client something.
    #[schemars(range(min = 1, max = 1_000), extend("default" = LANES))]
    pub(super) lanes: Option<u64>,
    /// Capabilities of clients, as they declare them, for which a connection to a legacy server is opened with the server and
    /// kept. For servers that take long to start: the first call of such a client then finds its connection there.
    #[schemars(with = "Option<Vec<serde_json::Map<String, serde_json::Value>>>")]
    pub(super) keep: Option<Vec<Box<str>>>,
}

pub(super) const CONNECTIONS: u64 = 16;
pub(super) const CONNECTIONS_OF_USERS: u64 = 256;
pub(super) const PER_USER: u64 = 8;
pub(super) const CONNECTION_IDLE_MS: u64 = 300_000;
pub(super) const LANES: u64 = 4;

/// When a catalog is listed again, and how large it may be.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct CatalogOptions {
    /// How long a burst of change notices is waited out before listing again.
    #[schemars(range(min = 0, max = DURATION_MS_MAX), extend("default" = DEBOUNCE_MS))]
    pub(super) debounce_ms: Option<u64>,
    /// Shortest time between two listings. It grows while a server announces changes that are none.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = INTERVAL_MS))]
    pub(super) interval_ms: Option<u64>,
    /// How soon a suspicious listing (empty, or unchanged after a change notice) is checked again; further checks of an empty
    /// one come four times later each.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = RECHECK_MS))]
    pub(super) recheck_ms: Option<u64>,
    /// Items of one kind; those beyond are hidden.
    #[schemars(range(min = 1, max = ITEMS_MAX), extend("default" = ITEMS))]
    pub(super) items: Option<u64>,
    /// Bytes of one item; a larger one is hidden.
    #[schemars(range(min = 1024, max = ITEM_BYTES), extend("default" = ITEM_BYTES))]
    pub(super) item_bytes: Option<u64>,
    /// Bytes of all items of the server; those beyond are hidden.
    #[schemars(range(min = MESSAGE_BYTES_MIN, max = BYTES_MAX), extend("default" = CATALOG_BYTES))]
    pub(super) bytes: Option<u64>,
}

pub(super) const DEBOUNCE_MS: u64 = 250;
pub(super) const INTERVAL_MS: u64 = 2_000;
pub(super) const RECHECK_MS: u64 = 500;
pub(super) const ITEMS: u64 = 10_000;
pub(super) const ITEMS_MAX: u64 = 100_000;
pub(super) const ITEM_BYTES: u64 = mainstay_wire::listing::ITEM_BYTES_MAX as u64;
pub(super) const CATALOG_BYTES: u64 = 32 * 1024 * 1024;

/// How long things may take, in milliseconds.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct TimeoutOptions {
    /// A call without an answer or progress for this long has failed.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = CALL_IDLE_MS))]
    pub(super) call_idle_ms: Option<u64>,
    /// A call that takes this long has failed, whatever progress it makes.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = CALL_TOTAL_MS))]
    pub(super) call_total_ms: Option<u64>,
    /// From the start of a connection attempt until the server has listed its catalog.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = CONNECT_MS))]
    pub(super) connect_ms: Option<u64>,
    /// Starting the process or opening the connection. Default: 30000, or `connectMs` when that is set.
    #[schemars(range(min = 1, max = DURATION_MS_MAX))]
    pub(super) spawn_ms: Option<u64>,
    /// Opening one connection to a `url`, TLS included. Apart from every limit on answers.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = TCP_CONNECT_MS))]
    pub(super) tcp_connect_ms: Option<u64>,
    /// Greeting the server. Output on stderr counts as life. Default: 60000, or `connectMs` when that is set.
    #[schemars(range(min = 1, max = DURATION_MS_MAX))]
    pub(super) greet_ms: Option<u64>,
    /// Listing the catalog. Default: 30000, or `connectMs` when that is set.
    #[schemars(range(min = 1, max = DURATION_MS_MAX))]
    pub(super) list_ms: Option<u64>,
    /// The same as `connectMs` for a package runner (`npx`, `uvx`, `pipx run`, `docker run` and the like) that keeps talking
    /// on stderr: it may be downloading. Default: 300000, or `connectMs` when that is set.
    #[schemars(range(min = 1, max = DURATION_MS_MAX))]
    pub(super) runner_ms: Option<u64>,
    /// Finding out which generation of MCP the server speaks.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = PROBE_MS))]
    pub(super) probe_ms: Option<u64>,
    /// How long a call waits for a server that is connecting. Default: `mainstay.edgePatienceMs`.
    #[schemars(range(min = 0, max = DURATION_MS_MAX))]
    pub(super) edge_patience_ms: Option<u64>,
    /// A push stream without a single byte for this long is opened anew: it may have died without a word.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = PUSH_IDLE_MS))]
    pub(super) push_idle_ms: Option<u64>,
}

pub(super) const PUSH_IDLE_MS: u64 = 5 * 60 * 1000;
pub(super) const CALL_IDLE_MS: u64 = 5 * 60 * 1000;
pub(super) const CALL_TOTAL_MS: u64 = 60 * 60 * 1000;
pub(super) const CONNECT_MS: u64 = 60_000;
pub(super) const SPAWN_MS: u64 = 30_000;
pub(super) const TCP_CONNECT_MS: u64 = 10_000;
pub(super) const GREET_MS: u64 = 60_000;
pub(super) const LIST_MS: u64 = 30_000;
pub(super) const RUNNER_MS: u64 = 5 * 60 * 1000;
pub(super) const PROBE_MS: u64 = 3_000;
pub(super) const EDGE_PATIENCE_MS: u64 = 15_000;

/// How a server that fails is started again.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct RestartOptions {
    /// Failures without proof of health in between, after which the server is parked.
    #[schemars(range(min = 0, max = COUNT_MAX), extend("default" = BUDGET))]
    pub(super) budget: Option<u64>,
    /// Longest pause before the second attempt; it doubles with every further one.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = BACKOFF_BASE_MS))]
    pub(super) backoff_base_ms: Option<u64>,
    /// Longest pause between two attempts.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = BACKOFF_CAP_MS))]
    pub(super) backoff_cap_ms: Option<u64>,
    /// Shortest time between two starts, for whatever reason.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = OPEN_INTERVAL_MS))]
    pub(super) open_interval_ms: Option<u64>,
    /// A connection that lasts this long has proved its health.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = STABLE_MS))]
    pub(super) stable_ms: Option<u64>,
    /// How often a parked server is tried once; `false`: never by itself.
    #[schemars(with = "Option<NumberOrNever>", extend("default" = PARKED_PROBE_MS))]
    pub(super) parked_probe_ms: Option<Option<u64>>,
    /// How often at most a call may have a parked server tried.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = PARKED_CALL_INTERVAL_MS))]
    pub(super) parked_call_interval_ms: Option<u64>,
    /// The least that a server's own `Retry-After` counts for.
    #[schemars(range(min = 0, max = DURATION_MS_MAX), extend("default" = RETRY_AFTER_MIN_MS))]
    pub(super) retry_after_min_ms: Option<u64>,
    /// The most that a server's own `Retry-After` counts for.
    #[schemars(range(min = 0, max = DURATION_MS_MAX), extend("default" = RETRY_AFTER_MAX_MS))]
    pub(super) retry_after_max_ms: Option<u64>,
    /// Lost sessions of a proven server that are renewed for nothing within `renewalWindowMs`; further ones count as
    /// failures.
    #[schemars(range(min = 0, max = COUNT_MAX), extend("default" = RENEWALS))]
    pub(super) renewals: Option<u64>,
    /// The window of `renewals`.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = RENEWAL_WINDOW_MS))]
    pub(super) renewal_window_ms: Option<u64>,
}

pub(super) const BUDGET: u64 = 5;
pub(super) const BACKOFF_BASE_MS: u64 = 250;
pub(super) const BACKOFF_CAP_MS: u64 = 30_000;
pub(super) const OPEN_INTERVAL_MS: u64 = 1_000;
pub(super) const STABLE_MS: u64 = 60_000;
pub(super) const PARKED_PROBE_MS: u64 = 5 * 60 * 1000;
pub(super) const PARKED_CALL_INTERVAL_MS: u64 = 10_000;
pub(super) const RETRY_AFTER_MIN_MS: u64 = 1_000;
pub(super) const RETRY_AFTER_MAX_MS: u64 = 10 * 60 * 1000;
pub(super) const RENEWALS: u64 = 10;
pub(super) const RENEWAL_WINDOW_MS: u64 = 60_000;

/// What `keepalive` says: off, or on with what is set.
#[derive(Debug, Clone)]
pub(super) enum KeepaliveOptions {
    Off,
    On(KeepaliveGroup),
}

/// Probing of a connection without traffic.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct KeepaliveGroup {
    /// Time without traffic after which a probe is sent.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = KEEPALIVE_IDLE_MS))]
    pub(super) idle_ms: Option<u64>,
    /// Time for the answer to a probe.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = KEEPALIVE_TIMEOUT_MS))]
    pub(super) timeout_ms: Option<u64>,
    /// Probes without an answer in a row, after which the connection is dead.
    #[schemars(range(min = 1, max = COUNT_MAX), extend("default" = KEEPALIVE_MISSES))]
    pub(super) misses: Option<u64>,
}

pub(super) const KEEPALIVE_IDLE_MS: u64 = 60_000;
pub(super) const KEEPALIVE_TIMEOUT_MS: u64 = 10_000;
pub(super) const KEEPALIVE_MISSES: u64 = 3;

/// Probing of a connection on which a call met silence.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct SuspicionOptions {
    /// Time for the answer to a probe.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = SUSPICION_TIMEOUT_MS))]
    pub(super) timeout_ms: Option<u64>,
    /// Probes without an answer in a row, after which the connection is dead.
    #[schemars(range(min = 1, max = COUNT_MAX), extend("default" = SUSPICION_MISSES))]
    pub(super) misses: Option<u64>,
}

pub(super) const SUSPICION_TIMEOUT_MS: u64 = 10_000;
pub(super) const SUSPICION_MISSES: u64 = 2;

/// When a call may be sent again.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct RetryOptions {
    /// Believe the server when it calls a tool read-only or idempotent: such a call is repeated when its outcome is unknown.
    #[schemars(extend("default" = false))]
    pub(super) trust_annotations: Option<bool>,
    /// Whether a call is sent again that was answered with "no such session". `safe`: if the server itself said so (an MCP
    /// error, or words about the session), because then it did not run the call; and if only somebody on the way may have
    /// said so (a bare 404 of a proxy), where it is read-only or idempotent on a server whose annotations are trusted.
    /// `always`: after a bare 404 too. `never`: not at all.
    #[schemars(extend("default" = "safe"))]
    pub(super) replay_after_session_loss: Option<Replay>,
}

/// How long each step of stopping a program may take, in milliseconds.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct StopOptions {
    /// After closing its stdin (or ending the HTTP session).
    #[schemars(range(min = 0, max = DURATION_MS_MAX), extend("default" = STOP_MS))]
    pub(super) close_ms: Option<u64>,
    /// After asking its process group to terminate.
    #[schemars(range(min = 0, max = DURATION_MS_MAX), extend("default" = STOP_MS))]
    pub(super) terminate_ms: Option<u64>,
    /// After killing its process group, before killing again.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = STOP_MS))]
    pub(super) kill_ms: Option<u64>,
}

pub(super) const STOP_MS: u64 = 3_000;

/// Settings of Mainstay itself.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct GatewayOptions {
    /// Where to listen, as `host:port`. Port 0 picks a free one.
    #[schemars(extend("default" = LISTEN))]
    pub(super) listen: Option<String>,
    /// Where last good catalogs are kept. Relative to this file. Default: the user's state directory.
    pub(super) state_dir: Option<String>,
    /// The local socket for the command line. Relative to this file. Default: in the user's runtime directory.
    pub(super) socket: Option<String>,
    /// How long a call waits for a server that is connecting.
    #[schemars(range(min = 0, max = DURATION_MS_MAX), extend("default" = EDGE_PATIENCE_MS))]
    pub(super) edge_patience_ms: Option<u64>,
    /// How long a shutdown may take in all: servers are stopped in parallel, and what is left one second before the end is
    /// killed.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = SHUTDOWN_MS))]
    pub(super) shutdown_ms: Option<u64>,
    /// How long a call waits for a client that was asked for input, between two of its requests, before the server is told that
    /// nobody answers.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = INPUT_MS))]
    pub(super) input_ms: Option<u64>,
    /// How many servers may be starting at the same time. Default: twice the number of cores, at least 4.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) start_gate: Option<u64>,
    /// What is kept on disk of events and calls, below the state directory.
    pub(super) journal: Option<JournalOptions>,
    /// Whether the TCP port also has the dashboard at `/` and the admin API below `/api/v1/`. The local socket always has
    /// the API.
    #[schemars(extend("default" = true))]
    pub(super) dashboard: Option<bool>,
    /// Whether this file is watched, and what changes in it is loaded while servers run; `false` turns it off. Without it,
    /// `mainstay reload` and the signal HUP load it.
    #[schemars(with = "Option<WatchOrNot>")]
    pub(super) watch: Option<WatchOptions>,
    /// Named parts of what all servers offer, each at `/profiles/NAME/mcp`, so that each client sees what it needs.
    pub(super) profiles: Option<BTreeMap<String, ProfileOptions>>,
    /// How clients find tools at `/mcp`, and in profiles that do not say otherwise: `list` shows all of them; `search` shows
    /// a few tools that find, describe and call the others, for clients that take only so many.
    #[schemars(extend("default" = "list"))]
    pub(super) discovery: Option<Discovery>,
    /// The same as `hiddenText` in `defaults`.
    #[schemars(extend("default" = "flag"))]
    pub(super) hidden_text: Option<HiddenText>,
    /// Who clients are, and which of them are let in.
    pub(super) access: Option<AccessOptions>,
    /// Who sees and calls what. Default: everybody everything. Changes take effect live.
    pub(super) policy: Option<PolicyOptions>,
    /// The log of who did what, when and how it ended; `true` keeps it in the state directory. Default: none is kept.
    #[schemars(with = "Option<AuditOrNot>")]
    pub(super) audit: Option<AuditOptions>,
    /// The most of everything.
    pub(super) limits: Option<LimitOptions>,
    /// Settings for every server that does not set them itself.
    pub(super) defaults: Option<ServerOptions>,
}

pub(super) const SHUTDOWN_MS: u64 = 15_000;

pub(super) const LISTEN: &str = "127.0.0.1:8808";

/// The most of everything. What exceeds a limit is refused, and the call concerned is told.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct LimitOptions {
    /// Bytes of one message.
    #[schemars(range(min = MESSAGE_BYTES_MIN, max = BYTES_MAX), extend("default" = MESSAGE_BYTES))]
    pub(super) message_bytes: Option<u64>,
    /// Bytes of one event of a stream.
    #[schemars(range(min = MESSAGE_BYTES_MIN, max = BYTES_MAX), extend("default" = EVENT_BYTES))]
    pub(super) event_bytes: Option<u64>,
    /// Nesting of a message.
    #[schemars(range(min = DEPTH_MIN, max = DEPTH_MAX), extend("default" = DEPTH))]
    pub(super) depth: Option<u64>,
    /// Pages of one listing.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = PAGES))]
    pub(super) pages: Option<u64>,
    /// Bytes kept of each server's stderr.
    #[schemars(range(min = STDERR_BYTES_MIN, max = BYTES_MAX), extend("default" = STDERR_BYTES))]
    pub(super) stderr_bytes: Option<u64>,
    /// Downstream sessions.
    #[schemars(range(min = 1, max = 10_000_000), extend("default" = SESSIONS))]
    pub(super) sessions: Option<u64>,
    /// Resources that a program which embeds Mainstay may be subscribed to, per server.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = SUBSCRIPTIONS))]
    pub(super) subscriptions: Option<u64>,
    /// Lines on a server's stdout that are no MCP messages after which it is an event and a warning; they are always skipped.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = NOISE_LINES))]
    pub(super) noise_lines: Option<u64>,
    /// Requests that one server may send us per second; further ones are refused.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = REQUESTS_PER_SECOND))]
    pub(super) requests_per_second: Option<u64>,
    /// Cancel notices and answers that may wait for one server; further ones are dropped.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = NOTICES))]
    pub(super) notices: Option<u64>,
    /// Messages that may wait for the stdin of one server; the calls of further ones wait within their own deadlines.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = QUEUED_LINES))]
    pub(super) queued_lines: Option<u64>,
    /// Events that are kept; also how many a listener may be behind before it is told that it missed some.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = EVENTS))]
    pub(super) events: Option<u64>,
    /// Calls that wait for input of their client between two of its requests; a further one is refused.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = PARKED))]
    pub(super) parked: Option<u64>,
    /// How often one call may ask for input before it is given up.
    #[schemars(range(min = 1, max = 1_000), extend("default" = ROUNDS))]
    pub(super) rounds: Option<u64>,
}

pub(super) const PARKED: u64 = 1_000;
pub(super) const ROUNDS: u64 = 16;
pub(super) const ROUNDS_MAX: u64 = 1_000;
pub(super) const INPUT_MS: u64 = 600_000;

pub(super) const SUBSCRIPTIONS: u64 = 1_000;

pub(super) const MESSAGE_BYTES_MIN: u64 = 4 * 1024;
pub(super) const MESSAGE_BYTES: u64 = 16 * 1024 * 1024;
pub(super) const EVENT_BYTES: u64 = 16 * 1024 * 1024;
pub(super) const DEPTH_MIN: u64 = 8;
pub(super) const DEPTH_MAX: u64 = 512;
pub(super) const DEPTH: u64 = 128;
pub(super) const PAGES: u64 = 1_000;
pub(super) const STDERR_BYTES_MIN: u64 = 1024;
pub(super) const STDERR_BYTES: u64 = 64 * 1024;
pub(super) const SESSIONS: u64 = 10_000;
pub(super) const NOISE_LINES: u64 = 20;
pub(super) const REQUESTS_PER_SECOND: u64 = 100;
pub(super) const NOTICES: u64 = 64;
pub(super) const QUEUED_LINES: u64 = 64;
pub(super) const EVENTS: u64 = 512;
