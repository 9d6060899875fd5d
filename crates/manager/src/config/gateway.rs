//! Mainstay's own settings: the `mainstay` key of the file.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use crate::journal::JournalConfig;

use super::{
    access::Access,
    audit::AuditConfig,
    file::{self, LimitOptions},
    file_watch::WatchSettings,
    policy::PolicyConfig,
    profiles::{Discovery, Profiles},
    server::saturated,
};

/// Mainstay's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct GatewayConfig {
    /// Where to listen. Default: 127.0.0.1:8808 (law 32). Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where last good catalogs are kept. Default: `None`, which is [`Store::default_dir`](crate::store::Store::default_dir).
    pub state_dir: Option<PathBuf>,
    /// The local socket of the command line. Default: `None`, which leaves it to the gateway.
    pub socket: Option<PathBuf>,
    /// Milliseconds that a call waits for a server that is connecting. Default: 15 s.
    pub edge_patience_ms: u64,
    /// Milliseconds that ending all servers may take in all. Default: 15 s. What is left one second before that is killed.
    pub shutdown_ms: u64,
    /// Milliseconds that a call waits for a client that was asked for input, between two of its requests. Default: 10 min.
    pub input_ms: u64,
    /// Servers that may be starting at the same time. Default: twice the number of cores, at least 4.
    pub start_gate: usize,
    /// What is kept on disk of events and calls.
    pub journal: JournalConfig,
    /// Whether the TCP port also has the dashboard and the admin API. Default: yes.
    pub dashboard: bool,
    /// How the file is watched for changes; `None`: it is not. Default: it is.
    pub watch: Option<WatchSettings>,
    /// Named parts of what all servers offer. Default: none.
    pub profiles: Profiles,
    /// How clients find tools where no profile says otherwise. Default: they are listed.
    pub discovery: Discovery,
    /// Who clients are, and which of them are let in.
    pub access: Access,
    /// Who sees and calls what. Default: `None`, everybody everything.
    pub policy: Option<Arc<PolicyConfig>>,
    /// The log of who did what. Default: none is kept.
    pub audit: Option<AuditConfig>,
    /// The most of everything.
    pub limits: Limits,
}

/// The most of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one message. Default: 16 MiB.
    pub message_bytes: usize,
    /// Bytes of one event of a stream. Default: 16 MiB.
    pub event_bytes: usize,
    /// Nesting of a message. Default: 128.
    pub depth: usize,
    /// Pages of one listing. Default: 1000.
    pub pages: usize,
    /// Bytes kept of each server's stderr. Default: 64 KiB.
    pub stderr_bytes: usize,
    /// Downstream sessions. Default: 10 000.
    pub sessions: usize,
    /// Resources that may be subscribed to, per server. Default: 1000.
    pub subscriptions: usize,
    /// Noise lines of one server before it is an event (F42). Default: 20.
    pub noise_lines: usize,
    /// Requests of one server per second (F258). Default: 100.
    pub requests_per_second: usize,
    /// Notices that wait for one server. Default: 64.
    pub notices: usize,
    /// Messages that wait for the stdin of one server. Default: 64.
    pub queued_lines: usize,
    /// Events that are kept. Default: 512.
    pub events: usize,
    /// Calls that wait for input of their client between two of its requests. Default: 1000.
    pub parked: usize,
    /// Rounds of input of one call. Default: 16.
    pub rounds: u32,
}

pub(super) const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8808);

impl Default for GatewayConfig {
    fn default() -> GatewayConfig {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        GatewayConfig {
            listen: LISTEN,
            state_dir: None,
            socket: None,
            edge_patience_ms: file::EDGE_PATIENCE_MS,
            shutdown_ms: file::SHUTDOWN_MS,
            input_ms: file::INPUT_MS,
            start_gate: (cores * 2).max(4),
            journal: JournalConfig::default(),
            dashboard: true,
            watch: Some(WatchSettings::default()),
            profiles: Profiles::new(),
            discovery: Discovery::default(),
            access: Access::default(),
            policy: None,
            audit: None,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::from_options(&LimitOptions::default())
    }
}

impl Limits {
    pub(super) fn from_options(options: &LimitOptions) -> Limits {
        Limits {
            message_bytes: saturated(options.message_bytes.unwrap_or(file::MESSAGE_BYTES)),
            event_bytes: saturated(options.event_bytes.unwrap_or(file::EVENT_BYTES)),
            depth: saturated(options.depth.unwrap_or(file::DEPTH)),
            pages: saturated(options.pages.unwrap_or(file::PAGES)),
            stderr_bytes: saturated(options.stderr_bytes.unwrap_or(file::STDERR_BYTES)),
            sessions: saturated(options.sessions.unwrap_or(file::SESSIONS)),
            subscriptions: saturated(options.subscriptions.unwrap_or(file::SUBSCRIPTIONS)),
            noise_lines: saturated(options.noise_lines.unwrap_or(file::NOISE_LINES)),
            requests_per_second: saturated(
                options
                    .requests_per_second
                    .unwrap_or(file::REQUESTS_PER_SECOND),
            ),
            notices: saturated(options.notices.unwrap_or(file::NOTICES)),
            queued_lines: saturated(options.queued_lines.unwrap_or(file::QUEUED_LINES)),
            events: saturated(options.events.unwrap_or(file::EVENTS)),
            parked: saturated(options.parked.unwrap_or(file::PARKED)),
            rounds: u32::try_from(options.rounds.unwrap_or(file::ROUNDS)).unwrap_or(u32::MAX),
        }
    }
}
