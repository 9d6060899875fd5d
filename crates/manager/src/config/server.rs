//! One server as configured: what to connect to, and every setting with its value.

use std::{fmt, hash::Hash};

use super::reach::Reach;
use super::{
    auth::AuthConfig,
    file::{
        self, EnvPolicy, KeepaliveOptions, OnToolChange, Protocol, Push, Replay, Scope,
        ServerOptions, Startup,
    },
    fingerprint::{Fingerprint, Fingerprints, Hashed},
    problem::Problem,
    sandbox::SandboxSettings,
    suspicious::Guard,
    template::Template,
    tools::Tools,
};

/// One server as configured. Made by [`ServerConfig::stdio`], [`ServerConfig::http`] or by reading a file.
///
/// ```
/// use mainstay::config::ServerConfig;
///
/// let time = ServerConfig::stdio("time", "uvx").args(["mcp-server-time"]).env("TZ", "${TZ:-UTC}");
/// let notes = ServerConfig::http("notes", "http://127.0.0.1:3000/mcp").header("Authorization", "Bearer ${TOKEN}");
/// # let _ = (time, notes);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The name, unique in its config.
    pub name: String,
    /// A name for people.
    pub label: Option<String>,
    /// What to connect to, or why that is not known.
    pub transport: Transport,
    /// Whether it is started. Default: true.
    pub enabled: bool,
    /// Whether readiness waits for it. Default: false.
    pub required: bool,
    /// When it is started. Default: eager.
    pub startup: Startup,
    /// Milliseconds without a call after which it is stopped until the next one. Default: never.
    pub idle_shutdown_ms: Option<u64>,
    /// Which generation of MCP it speaks. Default: found out.
    pub protocol: Protocol,
    /// Whose connection it is. Default: shared.
    pub scope: Scope,
    /// The connections beside the shared one.
    pub connections: Connections,
    /// What is done with its tools. Default: all are shown as they are.
    pub tools: Tools,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How it is started again after failures.
    pub restart: Restart,
    /// Probing of a connection without traffic. Default: on for HTTP, off for stdio, where the process is watched.
    pub keepalive: Option<Keepalive>,
    /// Probing on suspicion, where there is no keepalive.
    pub suspicion: Suspicion,
    /// Whether its push stream is held. Default: where it has one.
    pub push: Push,
    /// Milliseconds between two listings, at least, where it has no way to tell changes; `None`: never. Default: 60 s.
    pub poll_ms: Option<u64>,
    /// Whether calls are sent again after the loss of their session (F106). Default: where that is safe.
    pub replay_after_session_loss: Replay,
    /// Whether its word is believed when it calls a tool read-only or idempotent (law 16). Default: false.
    pub trust_annotations: bool,
    /// Calls that may be at the server at the same time. Default: 1024.
    pub concurrency: usize,
    /// Calls that may wait for it, because it is connecting or busy; more are refused (F152). Default: 1024.
    pub waiting: usize,
    /// Bytes of one answer to a call; a larger one is withheld from its call (F195). Default: 16 MiB.
    pub result_bytes: usize,
    /// What happens to a call when the tool changed since the caller saw it (law 20). Default: allow.
    pub on_tool_change: OnToolChange,
    /// When its catalog is listed again, and how large it may be.
    pub catalog: CatalogSettings,
    /// Which variables of our own environment its process sees (law 31). Default: an allow-list.
    pub env_policy: EnvPolicy,
    /// What its process may touch of this machine. Default: whatever we may.
    pub sandbox: Option<SandboxSettings>,
    /// What protects from it. Default: what is suspicious is told, and nothing is refused.
    pub guard: Guard,
    /// How it is stopped.
    pub stop: Stop,
    /// Milliseconds that calls in flight get before a planned stop. Default: 10 s.
    pub drain_ms: u64,
    /// How a `url` is reached. Default: as the environment says.
    pub reach: Reach,
    /// How Mainstay signs in to a `url`. Default: OAuth when the server asks for it.
    pub auth: AuthConfig,
}

/// What to connect to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A child process that speaks over its stdin and stdout.
    Stdio {
        /// The program.
        command: Template,
        /// Its arguments.
        args: Vec<Template>,
        /// Variables on top of those that the policy lets through, in the order of the file.
        env: Vec<(String, Template)>,
        /// The directory to start it in; `None`: ours.
        cwd: Option<Template>,
    },
    /// An endpoint that speaks HTTP.
    Http {
        /// Its address.
        url: Template,
        /// Which of the two HTTP transports.
        kind: HttpKind,
        /// Headers for every request, in the order of the file. Names are valid; none of them is one that MCP itself sets.
        headers: Vec<(String, Template)>,
    },
    /// The entry cannot be used. The server is listed as parked for a bad config and never started; the others run.
    Broken {
        /// Why. At least one is an error.
        problems: Vec<Problem>,
    },
}

/// Which HTTP transport a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HttpKind {
    /// Found out as the specification says: streamable HTTP first, and the HTTP+SSE transport of 2024-11-05 if the
    /// address refuses that with 400, 404 or 405. What was found is remembered.
    #[default]
    Auto,
    /// The HTTP+SSE transport of 2024-11-05, and nothing else.
    Sse,
}

impl fmt::Debug for Transport {
    /// Shows programs and names. Hides literal arguments, variables, headers and URLs (law 31).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Stdio {
                command,
                args,
                env,
                cwd,
            } => f
                .debug_struct("Stdio")
                .field("command", command)
                .field("args", args)
                .field("env", env)
                .field("cwd", cwd)
                .finish(),
            Transport::Http { url, kind, headers } => f
                .debug_struct("Http")
                .field("url", url)
                .field("kind", kind)
                .field("headers", headers)
                .finish(),
            Transport::Broken { problems } => f
                .debug_struct("Broken")
                .field("problems", problems)
                .finish(),
        }
    }
}

/// How long things may take, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Timeouts {
    /// A call without answer or progress. Default: 5 min.
    pub call_idle_ms: u64,
    /// A call, whatever its progress. Default: 60 min.
    pub call_total_ms: u64,
    /// A connection attempt as a whole. Default: 60 s.
    pub connect_ms: u64,
    /// Its phase of starting the process or opening the connection. Default: 30 s.
    pub spawn_ms: u64,
    /// One TCP connection to an endpoint, TLS included. Default: 10 s.
    pub tcp_connect_ms: u64,
    /// Its phase of greeting. Default: 60 s.
    pub greet_ms: u64,
    /// Its phase of listing. Default: 30 s.
    pub list_ms: u64,
    /// A connection attempt as a whole, for a package runner that keeps talking on stderr (F4). Default: 5 min.
    pub runner_ms: u64,
    /// Finding out the generation of MCP. Default: 3 s.
    pub probe_ms: u64,
    /// A call's wait for a server that is connecting; `None`: what the gateway says.
    pub edge_patience_ms: Option<u64>,
    /// A push stream without a byte. Default: 5 min.
    pub push_idle_ms: u64,
}

/// The connections to one server beside the shared one, see [`Scope`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Connections {
    /// How many at the same time. Default: 16, and 256 where each user has its own.
    pub max: usize,
    /// How many of them one user may have. Default: 8.
    pub per_user: usize,
    /// Calls of one user at the same time; `None`: a quarter of all.
    pub calls_per_user: Option<usize>,
    /// Milliseconds without a call after which one is closed. Default: 5 min.
    pub idle_ms: u64,
    /// How many for callers with the same capabilities, where one can only serve one client at a time. Default: 4.
    pub lanes: usize,
    /// Capabilities objects for which a connection is opened with a legacy server and kept. Default: none.
    pub keep: Vec<Box<str>>,
}

/// When a catalog is listed again, and how large it may be. Durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CatalogSettings {
    /// How long a burst of change notices is waited out (law 23). Default: 250.
    pub debounce_ms: u64,
    /// Shortest time between two listings; grows while changes are announced that are none (F161). Default: 2 s.
    pub interval_ms: u64,
    /// First delay before a suspicious listing is checked again (F157, F163). Default: 500.
    pub recheck_ms: u64,
    /// Items of one kind; those beyond are hidden (F249). Default: 10,000.
    pub items: usize,
    /// Bytes of one item; a larger one is hidden (F249). Default: 1 MiB.
    pub item_bytes: usize,
    /// Bytes of all items; those beyond are hidden (F249). Default: 32 MiB.
    pub bytes: usize,
}

/// How a server is started again after failures. Durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Restart {
    /// Failures without proof of health in between before it is parked. Default: 5.
    pub budget: u32,
    /// First step of the backoff. Default: 250.
    pub backoff_base_ms: u64,
    /// Last step of the backoff. Default: 30 s.
    pub backoff_cap_ms: u64,
    /// Shortest time between two opens (law 10). Default: 1 s.
    pub open_interval_ms: u64,
    /// Age at which a connection proves its health. Default: 60 s.
    pub stable_ms: u64,
    /// Time between attempts while parked; `None`: never by itself. Default: 5 min.
    pub parked_probe_ms: Option<u64>,
    /// Time between attempts that calls cause while parked. Default: 10 s.
    pub parked_call_interval_ms: u64,
    /// The least that `Retry-After` counts for. Default: 1 s.
    pub retry_after_min_ms: u64,
    /// The most that `Retry-After` counts for. Default: 10 min.
    pub retry_after_max_ms: u64,
    /// Lost sessions that are renewed for nothing in one window (F107). Default: 10.
    pub renewals: u32,
    /// That window. Default: 60 s.
    pub renewal_window_ms: u64,
}

/// Probing of a connection without traffic. Durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Keepalive {
    /// Time without traffic before a probe. Default: 60 s.
    pub idle_ms: u64,
    /// Time for its answer. Default: 10 s.
    pub timeout_ms: u64,
    /// Misses in a row that prove death. Default: 3.
    pub misses: u32,
}

/// Probing of a connection on which a call met silence, where there is no keepalive (F74).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Suspicion {
    /// Milliseconds for the answer to a probe. Default: 10 s.
    pub timeout_ms: u64,
    /// Misses in a row that prove death. Default: 2.
    pub misses: u32,
}

/// How a server is stopped (law 29): each step in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Stop {
    /// After closing stdin, or ending the HTTP session. Default: 3 s.
    pub close_ms: u64,
    /// After TERM. Default: 3 s.
    pub terminate_ms: u64,
    /// After KILL, before killing again. Default: 3 s.
    pub kill_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts::from_options(&file::TimeoutOptions::default())
    }
}

impl Default for Connections {
    fn default() -> Connections {
        Connections::from_options(&file::ConnectionOptions::default(), Scope::Shared)
    }
}

impl Default for CatalogSettings {
    fn default() -> CatalogSettings {
        CatalogSettings::from_options(&file::CatalogOptions::default())
    }
}

impl Default for Restart {
    fn default() -> Restart {
        Restart::from_options(&file::RestartOptions::default())
    }
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive::from_options(&file::KeepaliveGroup::default())
    }
}

impl Default for Suspicion {
    fn default() -> Suspicion {
        Suspicion::from_options(&file::SuspicionOptions::default())
    }
}

impl Default for Stop {
    fn default() -> Stop {
        Stop::from_options(&file::StopOptions::default())
    }
}

impl ServerConfig {
    /// A server that is a child process. `command` may contain references, as everywhere in [`Template`].
    pub fn stdio(name: impl Into<String>, command: impl Into<Template>) -> ServerConfig {
        let transport = Transport::Stdio {
            command: command.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
        };
        ServerConfig::with_options(name.into(), None, transport, &ServerOptions::default())
    }

    /// A server behind a URL. Its transport is found out, see [`HttpKind::Auto`].
    pub fn http(name: impl Into<String>, url: impl Into<Template>) -> ServerConfig {
        ServerConfig::behind_url(name.into(), url.into(), HttpKind::Auto)
    }

    /// A server behind the URL of its event stream, as of 2024-11-05 (HTTP+SSE).
    pub fn sse(name: impl Into<String>, url: impl Into<Template>) -> ServerConfig {
        ServerConfig::behind_url(name.into(), url.into(), HttpKind::Sse)
    }

    fn behind_url(name: String, url: Template, kind: HttpKind) -> ServerConfig {
        let transport = Transport::Http {
            url: url.hide(),
            kind,
            headers: Vec::new(),
        };
        ServerConfig::with_options(name, None, transport, &ServerOptions::default())
    }

    /// Adds arguments. No effect on an HTTP server.
    #[must_use]
    pub fn args<T: Into<Template>>(mut self, more: impl IntoIterator<Item = T>) -> ServerConfig {
        if let Transport::Stdio { args, .. } = &mut self.transport {
            args.extend(more.into_iter().map(|arg| arg.into().hide()));
        }
        self
    }

    /// Sets an environment variable of the process. No effect on an HTTP server.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<Template>) -> ServerConfig {
        if let Transport::Stdio { env, .. } = &mut self.transport {
            let name = name.into();
            env.retain(|(other, _)| *other != name);
            env.push((name, value.into().hide()));
        }
        self
    }

    /// Sets the directory to start the process in. No effect on an HTTP server.
    #[must_use]
    pub fn cwd(mut self, directory: impl Into<Template>) -> ServerConfig {
        if let Transport::Stdio { cwd, .. } = &mut self.transport {
            *cwd = Some(directory.into());
        }
        self
    }

    /// Sets a header of every request. No effect on a stdio server.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Template>) -> ServerConfig {
        if let Transport::Http { headers, .. } = &mut self.transport {
            let name = name.into();
            headers.retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
            headers.push((name, value.into().hide()));
        }
        self
    }

    /// Whether the entry cannot be used: see [`Transport::Broken`].
    pub fn is_broken(&self) -> bool {
        matches!(self.transport, Transport::Broken { .. })
    }

    /// Why the entry cannot be used; empty when it can.
    pub fn problems(&self) -> &[Problem] {
        match &self.transport {
            Transport::Broken { problems } => problems,
            Transport::Stdio { .. } | Transport::Http { .. } => &[],
        }
    }

    /// What it connects to, for people: the program, or the address without user, password, query and fragment (law 31).
    /// Empty when the entry is broken.
    pub fn target(&self) -> String {
        match &self.transport {
            Transport::Stdio { command, .. } => command.to_string(),
            Transport::Http { url, .. } => {
                match url.literal().and_then(|url| reqwest::Url::parse(&url).ok()) {
                    Some(url) => {
                        let port = url
                            .port()
                            .map(|port| format!(":{port}"))
                            .unwrap_or_default();
                        format!(
                            "{}://{}{port}{}",
                            url.scheme(),
                            url.host_str().unwrap_or_default(),
                            url.path()
                        )
                    }
                    None => url.to_string(),
                }
            }
            Transport::Broken { .. } => String::new(),
        }
    }

    /// Every template of the entry, with the key it stands under.
    pub fn templates(&self) -> Vec<&Template> {
        match &self.transport {
            Transport::Stdio {
                command,
                args,
                env,
                cwd,
            } => {
                let named = env.iter().map(|(_, value)| value);
                std::iter::once(command)
                    .chain(args)
                    .chain(named)
                    .chain(cwd)
                    .chain(
                        self.sandbox
                            .iter()
                            .flat_map(|sandbox| sandbox.read.iter().chain(&sandbox.write)),
                    )
                    .collect()
            }
            Transport::Http { url, headers, .. } => std::iter::once(url)
                .chain(headers.iter().map(|(_, value)| value))
                .chain(self.reach.parts().into_iter().flatten())
                .chain(self.auth.templates())
                .collect(),
            Transport::Broken { .. } => Vec::new(),
        }
    }

    /// What identifies this entry's connection and its other settings, for comparing configs and for the store.
    pub fn fingerprints(&self) -> Fingerprints {
        Fingerprints {
            connection: self.connection_fingerprint(),
            settings: self.settings_fingerprint(),
        }
    }

    pub(super) fn with_options(
        name: String,
        label: Option<String>,
        transport: Transport,
        options: &ServerOptions,
    ) -> ServerConfig {
        let keepalive = match &options.keepalive {
            Some(KeepaliveOptions::Off) => None,
            Some(KeepaliveOptions::On(group)) => Some(Keepalive::from_options(group)),
            None => matches!(transport, Transport::Http { .. }).then(Keepalive::default),
        };
        ServerConfig {
            name,
            label,
            enabled: options.enabled.unwrap_or(true),
            required: options.required.unwrap_or(false),
            startup: options.startup.unwrap_or_default(),
            idle_shutdown_ms: options.idle_shutdown_ms.flatten(),
            protocol: options.protocol.unwrap_or_default(),
            scope: options.scope.unwrap_or_default(),
            connections: Connections::from_options(
                &options.connections.clone().unwrap_or_default(),
                options.scope.unwrap_or_default(),
            ),
            tools: options
                .tools
                .as_ref()
                .map(Tools::from_options)
                .unwrap_or_default(),
            timeouts: Timeouts::from_options(&options.timeouts.clone().unwrap_or_default()),
            restart: Restart::from_options(&options.restart.clone().unwrap_or_default()),
            keepalive,
            suspicion: Suspicion::from_options(&options.suspicion.clone().unwrap_or_default()),
            push: options.push.unwrap_or_default(),
            poll_ms: options.poll_ms.unwrap_or(Some(file::POLL_MS)),
            replay_after_session_loss: options
                .retry
                .as_ref()
                .and_then(|retry| retry.replay_after_session_loss)
                .unwrap_or_default(),
            trust_annotations: options
                .retry
                .as_ref()
                .and_then(|retry| retry.trust_annotations)
                .unwrap_or(false),
            concurrency: saturated(options.concurrency.unwrap_or(file::CONCURRENCY)),
            waiting: saturated(options.waiting.unwrap_or(file::WAITING)),
            result_bytes: saturated(options.result_bytes.unwrap_or(file::RESULT_BYTES)),
            on_tool_change: options.on_tool_change.unwrap_or_default(),
            catalog: CatalogSettings::from_options(&options.catalog.clone().unwrap_or_default()),
            env_policy: options.env_policy.unwrap_or_default(),
            sandbox: SandboxSettings::from_options(options.sandbox.as_ref()),
            guard: Guard::from_options(options),
            stop: Stop::from_options(&options.stop.clone().unwrap_or_default()),
            drain_ms: options.drain_ms.unwrap_or(file::DRAIN_MS),
            auth: AuthConfig::from_options(options.auth.as_ref()),
            reach: Reach::from_options(options),
            transport,
        }
    }

    fn connection_fingerprint(&self) -> Fingerprint {
        let mut hash = Hashed::new("mainstay connection 1");
        match &self.transport {
            Transport::Stdio {
                command,
                args,
                env,
                cwd,
            } => {
                hash.word("stdio");
                hash.word(command.raw());
                hash.count(args.len());
                args.iter().for_each(|arg| hash.word(arg.raw()));
                hash.pairs(env.iter().map(|(name, value)| (name.clone(), value.raw())));
                hash.word(cwd.as_ref().map_or("", Template::raw));
                hash.word(match self.env_policy {
                    EnvPolicy::Allowlist => "allowlist",
                    EnvPolicy::Inherit => "inherit",
                });
                // What it was before there were sandboxes stays equal.
                if let Some(sandbox) = &self.sandbox {
                    hash.word("sandbox");
                    sandbox.words().iter().for_each(|word| hash.word(word));
                }
            }
            Transport::Http { url, kind, headers } => {
                hash.word(match kind {
                    HttpKind::Auto => "http",
                    HttpKind::Sse => "sse",
                });
                hash.word(url.raw());
                hash.pairs(
                    headers
                        .iter()
                        .map(|(name, value)| (name.to_ascii_lowercase(), value.raw())),
                );
                let [ca, proxy, no_proxy, cert, key] = self.reach.parts();
                for part in [ca, proxy, no_proxy] {
                    hash.word(part.map_or("", Template::raw));
                }
                // What had none before there was this setting stays equal.
                if cert.is_some() || key.is_some() {
                    for part in [cert, key] {
                        hash.word(part.map_or("", Template::raw));
                    }
                }
                // Its stream is opened with the connection. What it was by default before it was looked at here stays equal.
                if self.push == Push::Off {
                    hash.word("no push");
                }
                self.auth.add_to(&mut hash);
            }
            Transport::Broken { problems } => {
                hash.word("broken");
                problems
                    .iter()
                    .for_each(|problem| hash.word(&problem.message));
            }
        }
        hash.word(match self.protocol {
            Protocol::Auto => "auto",
            Protocol::Legacy => "legacy",
            Protocol::Modern => "modern",
        });
        hash.finish()
    }

    fn settings_fingerprint(&self) -> Fingerprint {
        let mut hash = Hashed::new("mainstay settings 1");
        // Everything except what the other fingerprint covers. Named one by one, so that a new field must be put into one of
        // the two before this compiles.
        let ServerConfig {
            name: _,
            label,
            transport: _,
            enabled,
            required,
            startup,
            idle_shutdown_ms,
            protocol: _,
            scope,
            connections,
            tools,
            timeouts,
            restart,
            keepalive,
            suspicion,
            push: _,
            poll_ms,
            replay_after_session_loss,
            trust_annotations,
            concurrency,
            waiting,
            result_bytes,
            on_tool_change,
            catalog,
            env_policy: _,
            sandbox: _,
            guard,
            stop,
            drain_ms,
            reach: _,
            auth: _,
        } = self;
        (label, enabled, required, startup, idle_shutdown_ms, tools).hash(&mut hash);
        (
            timeouts,
            restart,
            keepalive,
            suspicion,
            (poll_ms, replay_after_session_loss),
            trust_annotations,
            concurrency,
            stop,
            drain_ms,
        )
            .hash(&mut hash);
        (waiting, result_bytes, on_tool_change, catalog).hash(&mut hash);
        (scope, connections).hash(&mut hash);
        guard.hash(&mut hash);
        hash.finish()
    }
}

impl Connections {
    /// How many calls of one user may be at the server at the same time, where it takes so many in all.
    pub(crate) fn calls_of_one(&self, concurrency: usize) -> usize {
        self.calls_per_user.unwrap_or(concurrency / 4).max(1)
    }

    fn from_options(options: &file::ConnectionOptions, scope: Scope) -> Connections {
        let max = match scope {
            Scope::User => file::CONNECTIONS_OF_USERS,
            Scope::Shared | Scope::Session => file::CONNECTIONS,
        };
        Connections {
            max: saturated(options.max.unwrap_or(max)),
            per_user: saturated(options.per_user.unwrap_or(file::PER_USER)),
            calls_per_user: options.calls_per_user.map(saturated),
            idle_ms: options.idle_ms.unwrap_or(file::CONNECTION_IDLE_MS),
            lanes: saturated(options.lanes.unwrap_or(file::LANES)),
            keep: options.keep.clone().unwrap_or_default(),
        }
    }
}

impl CatalogSettings {
    fn from_options(options: &file::CatalogOptions) -> CatalogSettings {
        CatalogSettings {
            debounce_ms: options.debounce_ms.unwrap_or(file::DEBOUNCE_MS),
            interval_ms: options.interval_ms.unwrap_or(file::INTERVAL_MS),
            recheck_ms: options.recheck_ms.unwrap_or(file::RECHECK_MS),
            items: saturated(options.items.unwrap_or(file::ITEMS)),
            item_bytes: saturated(options.item_bytes.unwrap_or(file::ITEM_BYTES)),
            bytes: saturated(options.bytes.unwrap_or(file::CATALOG_BYTES)),
        }
    }
}

impl Timeouts {
    fn from_options(options: &file::TimeoutOptions) -> Timeouts {
        // Under a connect limit that was set, a phase that was not may use all of it: raising one number is enough for a slow
        // server.
        let phase = |own: Option<u64>, usual: u64| own.or(options.connect_ms).unwrap_or(usual);
        Timeouts {
            call_idle_ms: options.call_idle_ms.unwrap_or(file::CALL_IDLE_MS),
            call_total_ms: options.call_total_ms.unwrap_or(file::CALL_TOTAL_MS),
            connect_ms: options.connect_ms.unwrap_or(file::CONNECT_MS),
            spawn_ms: phase(options.spawn_ms, file::SPAWN_MS),
            tcp_connect_ms: options.tcp_connect_ms.unwrap_or(file::TCP_CONNECT_MS),
            greet_ms: phase(options.greet_ms, file::GREET_MS),
            list_ms: phase(options.list_ms, file::LIST_MS),
            runner_ms: phase(options.runner_ms, file::RUNNER_MS),
            probe_ms: options.probe_ms.unwrap_or(file::PROBE_MS),
            edge_patience_ms: options.edge_patience_ms,
            push_idle_ms: options.push_idle_ms.unwrap_or(file::PUSH_IDLE_MS),
        }
    }
}

impl Restart {
    fn from_options(options: &file::RestartOptions) -> Restart {
        Restart {
            budget: small(options.budget.unwrap_or(file::BUDGET)),
            backoff_base_ms: options.backoff_base_ms.unwrap_or(file::BACKOFF_BASE_MS),
            backoff_cap_ms: options.backoff_cap_ms.unwrap_or(file::BACKOFF_CAP_MS),
            open_interval_ms: options.open_interval_ms.unwrap_or(file::OPEN_INTERVAL_MS),
            stable_ms: options.stable_ms.unwrap_or(file::STABLE_MS),
            parked_probe_ms: options
                .parked_probe_ms
                .unwrap_or(Some(file::PARKED_PROBE_MS)),
            parked_call_interval_ms: options
                .parked_call_interval_ms
                .unwrap_or(file::PARKED_CALL_INTERVAL_MS),
            retry_after_min_ms: options
                .retry_after_min_ms
                .unwrap_or(file::RETRY_AFTER_MIN_MS),
            retry_after_max_ms: options
                .retry_after_max_ms
                .unwrap_or(file::RETRY_AFTER_MAX_MS),
            renewals: small(options.renewals.unwrap_or(file::RENEWALS)),
            renewal_window_ms: options.renewal_window_ms.unwrap_or(file::RENEWAL_WINDOW_MS),
        }
    }
}

impl Keepalive {
    fn from_options(options: &file::KeepaliveGroup) -> Keepalive {
        Keepalive {
            idle_ms: options.idle_ms.unwrap_or(file::KEEPALIVE_IDLE_MS),
            timeout_ms: options.timeout_ms.unwrap_or(file::KEEPALIVE_TIMEOUT_MS),
            misses: small(options.misses.unwrap_or(file::KEEPALIVE_MISSES)),
        }
    }
}

impl Suspicion {
    fn from_options(options: &file::SuspicionOptions) -> Suspicion {
        Suspicion {
            timeout_ms: options.timeout_ms.unwrap_or(file::SUSPICION_TIMEOUT_MS),
            misses: small(options.misses.unwrap_or(file::SUSPICION_MISSES)),
        }
    }
}

impl Stop {
    fn from_options(options: &file::StopOptions) -> Stop {
        Stop {
            close_ms: options.close_ms.unwrap_or(file::STOP_MS),
            terminate_ms: options.terminate_ms.unwrap_or(file::STOP_MS),
            kill_ms: options.kill_ms.unwrap_or(file::STOP_MS),
        }
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub(super) fn saturated(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
