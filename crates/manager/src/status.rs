//! What is going on with a server, for people and programs: one flat record, made from the lifecycle's own account.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mainstay_core::failure::Failure;
use mainstay_core::lifecycle::Phase;
use mainstay_core::lifecycle::status::{StateWord, Status};
use mainstay_core::time::Time;
use mainstay_wire::revision::Era;
use schemars::JsonSchema;
use serde::Serialize;

use crate::auth::{self, SignInState};
use crate::catalog::{is_ui, unix_ms};
use crate::config::{HttpKind, ServerConfig, Transport};
use crate::counters::Counts;
use crate::pool::Declared;
use crate::process::ProcessStatus;
use crate::process::tree::Processes;
use crate::slot::{ProcessFace, Slot};
use crate::suspicious::Suspicion;

/// How many stderr lines a status shows.
const TAIL_LINES: usize = 5;

/// One server at one moment.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// The server's name.
    pub name: String,
    /// A label for people, if the config has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The state as one stable word.
    pub state: &'static str,
    /// The state in words, with what matters most about it.
    pub word: String,
    /// The newest generation; 0 before the first connection.
    pub generation: u64,
    /// How long it has been in this state, in milliseconds.
    pub since_ms: u64,
    /// `stdio`, `http` (streamable HTTP), or `sse` (HTTP+SSE of 2024-11-05).
    pub transport: &'static str,
    /// The protocol revision in use, or last in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'static str>,
    /// The stream over which the server tells changes of its catalog, for connected HTTP servers: `open`, `opening`,
    /// `degraded` (tried in vain, and tried again), `unsupported`, `refused` or `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<&'static str>,
    /// The process, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What fences its process (`sandbox`), while there is one: `none` where the config wants a sandbox and can do without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// Whether the connection has proved its health since it was opened.
    pub proven: bool,
    /// Failures charged since the last proof of health.
    pub charges: u32,
    /// Tools in the last good catalog.
    pub tools: usize,
    /// Prompts in the last good catalog.
    pub prompts: usize,
    /// Resources in the last good catalog.
    pub resources: usize,
    /// How many of those are user interfaces (`ui://`) that a client may show and run. They pass unaltered.
    #[serde(skip_serializing_if = "is_zero")]
    pub ui_resources: usize,
    /// Items that the server listed and that are not shown.
    pub hidden: usize,
    /// Tools that are held back until somebody approves them (`tools.pin`), over all connections.
    pub pending_tools: usize,
    /// Age of the last good catalog in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog_age_ms: Option<u64>,
    /// The catalog was read from disk and the server has not confirmed it yet.
    pub catalog_remembered: bool,
    /// How long ago anything came from the connection in use: the age of the last proof that it lives (F234).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub life_age_ms: Option<u64>,
    /// Calls in flight, on all connections.
    pub in_flight: usize,
    /// Calls that wait for the server, on all connections: for one to open, or for other calls to end.
    pub waiting: usize,
    /// The connections beside the shared one, which is what all else here is about (see the setting `scope`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<ConnectionStatus>,
    /// Counters since Mainstay started.
    pub counts: Counts,
    /// `legacy` or `modern`: the era of the protocol revision in use, or last in use.
    pub era: Option<&'static str>,
    /// What its calls are like.
    pub calls: CallsStatus,
    /// How its calls failed since Mainstay started.
    pub failures: FailuresStatus,
    /// Connections that were opened after the first, whether they came about or not.
    pub restarts: u64,
    /// What its processes use. Only where it was asked for, and only on Linux.
    pub process: Option<ProcessStatus>,
    /// What it is doing, while it is connecting.
    pub progress: Option<ProgressStatus>,
    /// The last failure, which outlives the state that it caused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<FailureStatus>,
    /// What the clock will do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<NextStatus>,
    /// When the next connection attempt is due, in milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_in_ms: Option<u64>,
    /// What a human can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
    /// How it stands with signing in to it; absent for servers that do not sign in, and before anything is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<SignInFace>,
    /// Whether Mainstay is ready only with this server.
    pub required: bool,
    /// What in its listing can mislead a model or a person: told, and otherwise left to you.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suspicious: Vec<Suspicion>,
    /// Problems of the server's config entry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// The last stderr lines, while the server is not connected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stderr_tail: Vec<String>,
}

/// How it stands with signing in to a server. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignInFace {
    /// `none`, `signedIn`, `needed`, `expired` or `refreshing`.
    pub state: &'static str,
    /// The authorization server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What was granted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// What was not granted, and a call would need.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wants: Vec<String>,
    /// When the token in force expires, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at_unix_ms: Option<u64>,
    /// For whom; absent: for this Mainstay, whoever calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The command that signs in, where somebody has to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What is wrong with it, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl SignInFace {
    fn of(slot: &Slot) -> Option<Self> {
        let account = slot.sign_in.load_full()?;
        let config = slot.config.load();
        if !config.signs_in() {
            return None;
        }
        let known = auth::status_of(&slot.name, &account);
        let needs = match known.state {
            SignInState::Needed | SignInState::Expired => true,
            SignInState::None | SignInState::SignedIn | SignInState::Refreshing => {
                !known.wants.is_empty()
            }
        };
        Some(Self {
            state: known.state.word(),
            issuer: known.issuer,
            scopes: known.scopes,
            wants: known.wants,
            expires_at_unix_ms: known.expires_unix_ms,
            command: (needs && known.principal.is_none() && !known.by_callers)
                .then(|| auth::login_command(&slot.name)),
            principal: known.principal.map(|whose| whose.name().to_owned()),
            hint: known.problem,
        })
    }
}

/// One of the connections that a server has beside the shared one.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStatus {
    /// What events call it by. Never used twice for one server while Mainstay runs.
    pub number: u32,
    /// The principal that it serves alone, with credentials of its own (`scope: "user"`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Whether it serves one client session alone (`scope: "session"`); otherwise all clients with its capabilities.
    pub session: bool,
    /// The capabilities that it declares, by name.
    pub capabilities: Vec<String>,
    /// Which of several for the same capabilities, from 0 on.
    pub lane: usize,
    /// The state as one stable word.
    pub state: &'static str,
    /// Its newest generation.
    pub generation: u64,
    /// The process, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Calls in flight.
    pub in_flight: usize,
    /// Calls that wait for it.
    pub waiting: usize,
    /// How long nobody has used it, in milliseconds; absent while somebody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// The last failure, which outlives the state that it caused, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

impl ConnectionStatus {
    fn of(slot: &Slot) -> Option<Self> {
        let beside = slot.beside.as_ref()?;
        let view = slot.view.borrow().clone();
        let current = slot.current.load();
        let idle_since = slot.holds.unused_since_ms();
        let idle = idle_since.map(|since| slot.clock.ago(Time(since)));
        Some(Self {
            number: beside.number,
            principal: slot.principal().map(|whose| whose.name().to_owned()),
            session: beside.key.client.is_some(),
            capabilities: Declared::names(&beside.key.capabilities),
            lane: beside.key.lane,
            state: view.status.state.word(),
            generation: view.status.generation.0,
            pid: slot.process().pid,
            in_flight: current.as_ref().map_or(0, |runtime| runtime.leases.held()),
            waiting: slot.waiting.load(Ordering::Acquire),
            idle_ms: idle.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
            last_failure: view.last_failure.map(|(failure, _)| failure.to_string()),
        })
    }

    /// Those of a server, in the order in which they came. A further connection has none.
    fn all(slot: &Slot) -> Vec<Self> {
        if slot.beside.is_some() {
            return Vec::new();
        }
        let places = slot.family.all();
        let mut all: Vec<Self> = places
            .iter()
            .filter_map(|place| Self::of(&place.slot))
            .collect();
        all.sort_by_key(|connection| connection.number);
        all
    }
}

/// What the calls of a server are like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallsStatus {
    /// Calls that have ended since Mainstay started, however they did.
    pub total: u64,
    /// Calls that ended within the last minute.
    pub per_minute: u64,
    /// Half of the calls of the last five minutes were answered within this time at the server, in milliseconds.
    pub p50_ms: u64,
    /// 95 of 100 were.
    pub p95_ms: u64,
    /// Half of them waited this long in our queue, in milliseconds (law 19).
    pub p50_queue_ms: u64,
    /// 95 of 100 did.
    pub p95_queue_ms: u64,
    /// The same in microseconds: `p50Ms`.
    pub p50_us: u64,
    /// The same in microseconds: `p95Ms`.
    pub p95_us: u64,
    /// The same in microseconds: `p50QueueMs`.
    pub p50_queue_us: u64,
    /// The same in microseconds: `p95QueueMs`.
    pub p95_queue_us: u64,
    /// Bytes of requests, as callers sent them.
    pub bytes_in: u64,
    /// Bytes of answers.
    pub bytes_out: u64,
}

impl CallsStatus {
    fn of(slot: &Slot, counts: &Counts) -> Self {
        let read = slot.ledger.latency.read(slot.clock.now().0);
        // Rounded, so that what takes most of a millisecond is not nothing.
        let ms = |us: u64| (us + 500) / 1_000;
        Self {
            total: counts.ended(),
            per_minute: read.per_minute,
            p50_ms: ms(read.served.p50_us),
            p95_ms: ms(read.served.p95_us),
            p50_queue_ms: ms(read.queued.p50_us),
            p95_queue_ms: ms(read.queued.p95_us),
            p50_us: read.served.p50_us,
            p95_us: read.served.p95_us,
            p50_queue_us: read.queued.p50_us,
            p95_queue_us: read.queued.p95_us,
            bytes_in: read.bytes_in,
            bytes_out: read.bytes_out,
        }
    }
}

/// How the calls of a server failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailuresStatus {
    /// The tool failed, by its own account.
    pub tool_error: u64,
    /// The server answered with a JSON-RPC error.
    pub server_error: u64,
    /// Nothing was sent.
    pub refused: u64,
    /// Sent, and not run.
    pub rejected: u64,
    /// Sent, and not answered.
    pub unknown: u64,
    /// All of these by cause, as one stable word each.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub causes: BTreeMap<&'static str, u64>,
}

impl FailuresStatus {
    fn of(slot: &Slot, counts: &Counts) -> Self {
        Self {
            tool_error: counts.tool_errors,
            server_error: counts.server_errors,
            refused: counts.refused,
            rejected: counts.rejected,
            unknown: counts.unknown,
            causes: slot.ledger.causes(),
        }
    }
}

/// What a server that is connecting is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgressStatus {
    /// `spawn`, `greet` or `list`.
    pub phase: &'static str,
    /// The last line that its process wrote to stderr: a package runner that downloads says so there. Secrets of the
    /// configuration are hidden in it.
    pub line: Option<String>,
    /// How long the attempt has been under way, in milliseconds.
    pub since_ms: u64,
}

impl ProgressStatus {
    fn of(slot: &Slot, status: &Status, process: &ProcessFace) -> Option<Self> {
        /// Characters of the line at most.
        const CHARS_MAX: usize = 200;
        if status.state != StateWord::Connecting {
            return None;
        }
        // The ring of a process that is gone is about the attempt before.
        let ring = process.stderr.as_ref().filter(|_| process.pid.is_some());
        let line = ring.and_then(|ring| ring.tail(1).pop());
        let line = line.map(|line| {
            let hidden = slot.events.hidden().scrub(&line);
            hidden.chars().take(CHARS_MAX).collect()
        });
        Some(Self {
            phase: status.phase.map_or("spawn", Phase::word),
            line,
            since_ms: u64::try_from(slot.clock.ago(status.since).as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// A failure as people see it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureStatus {
    /// The kind as one stable word.
    pub kind: &'static str,
    /// In words.
    pub detail: String,
    /// What a human can do.
    pub hint: &'static str,
    /// How long ago, in milliseconds.
    pub ago_ms: u64,
}

/// What the clock will do next.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NextStatus {
    /// Which deadline.
    pub why: &'static str,
    /// In how many milliseconds.
    pub in_ms: u64,
}

impl ServerStatus {
    /// As [`ServerStatus::of`], with what its processes use.
    pub(crate) fn in_full(slot: &Arc<Slot>, processes: &Processes) -> Self {
        let mut status = Self::of(slot);
        let further = status.connections.iter().filter_map(|one| one.pid);
        let leaders: Vec<u32> = status.pid.into_iter().chain(further).collect();
        status.process = processes.of(&leaders, &slot.meter);
        status
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one flat record, filled in field by field"
    )]
    pub(crate) fn of(slot: &Arc<Slot>) -> Self {
        let view = slot.view.borrow().clone();
        let config = slot.config.load_full();
        let catalog = slot.catalog.load_full();
        let current = slot.current.load_full();
        let process = slot.process();
        let status = &view.status;
        let ago = |at| u64::try_from(slot.clock.ago(at).as_millis()).unwrap_or(u64::MAX);
        let ahead = |at| u64::try_from(slot.clock.ahead(at).as_millis()).unwrap_or(u64::MAX);
        let greeting = current.as_ref().and_then(|runtime| runtime.greeting());
        let revision = greeting
            .map(|greeting| greeting.revision)
            .or(catalog.as_ref().map(|catalog| catalog.greeting.revision));
        let connected = status.state == StateWord::Connected;
        let connections = ConnectionStatus::all(slot);
        let beside =
            |count: fn(&ConnectionStatus) -> usize| connections.iter().map(count).sum::<usize>();
        let counts = slot.counters.read();
        Self {
            name: slot.name.to_string(),
            label: config.label.clone(),
            state: status.state.word(),
            word: words(
                status,
                view.last_failure.as_ref().map(|(failure, _)| failure),
            ),
            generation: status.generation.0,
            since_ms: ago(status.since),
            transport: match config.transport {
                Transport::Stdio { .. } => "stdio",
                Transport::Http {
                    kind: HttpKind::Sse,
                    ..
                } => "sse",
                Transport::Http { .. } if slot.over_sse() => "sse",
                Transport::Http { .. } => "http",
                Transport::Broken { .. } => "none",
            },
            protocol: revision.map(mainstay_wire::revision::Revision::as_str),
            push: current
                .as_ref()
                .and_then(|runtime| runtime.freshness.push().word()),
            pid: process.pid,
            sandbox: in_force(&config, &process),
            proven: status.proven,
            charges: status.charges,
            tools: catalog
                .as_ref()
                .map_or(0, |catalog| catalog.tools.items.len()),
            prompts: catalog
                .as_ref()
                .map_or(0, |catalog| catalog.prompts.items.len()),
            resources: catalog
                .as_ref()
                .map_or(0, |catalog| catalog.resources.items.len()),
            ui_resources: catalog.as_ref().map_or(0, |catalog| {
                let items = catalog.resources.items.iter();
                items.filter(|item| is_ui(&item.name)).count()
            }),
            hidden: catalog.as_ref().map_or(0, |catalog| catalog.hidden.len()),
            pending_tools: pending_tools(slot),
            catalog_age_ms: catalog
                .as_ref()
                .map(|catalog| unix_ms().saturating_sub(catalog.listed_at_unix_ms)),
            catalog_remembered: catalog.as_ref().is_some_and(|catalog| catalog.remembered),
            life_age_ms: current
                .as_ref()
                .map(|runtime| runtime.last_life_ms())
                .filter(|at| *at > 0)
                .map(|at| ago(Time(at))),
            waiting: slot.waiting.load(Ordering::Acquire) + beside(|one| one.waiting),
            in_flight: current.as_ref().map_or(0, |runtime| runtime.leases.held())
                + beside(|one| one.in_flight),
            connections,
            counts,
            era: revision.map(|revision| match revision.era() {
                Era::Legacy => "legacy",
                Era::Modern => "modern",
            }),
            calls: CallsStatus::of(slot, &counts),
            failures: FailuresStatus::of(slot, &counts),
            restarts: status.generation.0.saturating_sub(1),
            process: None,
            progress: ProgressStatus::of(slot, status, &process),
            last_failure: view
                .last_failure
                .as_ref()
                .map(|(failure, at)| FailureStatus {
                    kind: failure.kind.word(),
                    detail: failure.to_string(),
                    hint: failure.kind.hint(),
                    ago_ms: ago(*at),
                }),
            next: status.next.map(|(at, why)| NextStatus {
                why: why.word(),
                in_ms: ahead(at),
            }),
            next_attempt_in_ms: status.next_attempt.map(ahead),
            hint: status.hint,
            sign_in: SignInFace::of(slot),
            required: config.required,
            suspicious: slot.suspicious(),
            problems: config.problems().iter().map(ToString::to_string).collect(),
            stderr_tail: if connected {
                Vec::new()
            } else {
                process
                    .stderr
                    .map(|ring| ring.tail(TAIL_LINES))
                    .unwrap_or_default()
            },
        }
    }
}

/// A state in words: the word itself and what a reader would ask next.
fn words(status: &Status, last_failure: Option<&Failure>) -> String {
    let because = |text: &str| match status.cause.as_ref().or(last_failure) {
        Some(failure) => format!("{text}: {failure}"),
        None => text.to_owned(),
    };
    match status.state {
        StateWord::Disabled => "disabled".to_owned(),
        StateWord::Idle => "idle, starts with the first call".to_owned(),
        StateWord::Connecting => match status.phase {
            Some(phase) => format!(
                "connecting ({}), attempt {}",
                phase.word(),
                status.attempt.max(1)
            ),
            None => "connecting".to_owned(),
        },
        StateWord::Connected if status.marks.degraded => because("connected, in doubt"),
        StateWord::Connected => "connected".to_owned(),
        StateWord::Draining => match status.step {
            Some(step) => because(&format!("stopping ({})", step.word())),
            None => because("stopping"),
        },
        StateWord::Backoff => because("waiting before the next attempt"),
        StateWord::Parked => because("parked"),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// What fences a living process that is to be fenced.
fn in_force(config: &ServerConfig, process: &ProcessFace) -> Option<String> {
    config.sandbox.as_ref()?;
    process.pid?;
    let fence = process.fence.as_deref();
    Some(fence.unwrap_or("none").to_owned())
}

/// How many tools are held back on this connection and the further ones.
fn pending_tools(slot: &Slot) -> usize {
    let own = slot.held.load_full();
    let others = slot.family.all().into_iter();
    let others: Vec<_> = others.map(|place| place.slot.held.load_full()).collect();
    let held = std::iter::once(&own).chain(&others);
    let names: BTreeSet<&str> = held
        .flat_map(|held| held.tools.keys())
        .map(|name| &**name)
        .collect();
    names.len()
}
