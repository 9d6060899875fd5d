//! The gateway's TCP side: MCP for clients of both eras, and health.
//!
//! | path | what |
//! |---|---|
//! | `/mcp` | all servers at once, tools and prompts as `{server}__{name}` |
//! | `/servers/{name}/mcp` | one server, names untouched |
//! | `/profiles/{name}/mcp` | a part of what all servers offer (`mainstay.profiles`), names as at `/mcp` |
//! | `/sse`, `/servers/{name}/sse`, `/profiles/{name}/sse`, `/messages` | the same for clients that only know HTTP+SSE of 2024-11-05 |
//! | `/`, `/api/v1/...` | the dashboard and the admin API (see `admin/door.rs`) |
//! | `/oauth/...` | where browsers come back to after a sign-in (see `signin/web.rs`) |
//! | `/healthz`, `/readyz`, `/metrics` | Mainstay itself |
//!
//! [`Gateway`] answers requests; [`serve`] accepts connections for it; [`Gateway::router`] is the same for embedding in
//! a larger HTTP server. Nothing here decides about a server's lifecycle, and nothing re-encodes what passes through.

pub(crate) mod adapt;
pub(crate) mod batch;
pub mod body;
pub(crate) mod bridge;
pub(crate) mod call;
pub(crate) mod caller;
pub(crate) mod discovery;
pub(crate) mod endpoint;
pub(crate) mod events;
pub mod fault;
pub(crate) mod greet;
pub(crate) mod health;
pub(crate) mod http;
pub(crate) mod legacy;
pub(crate) mod levels;
pub(crate) mod listen;
pub mod local;
pub(crate) mod modern;
pub(crate) mod old;
pub(crate) mod origin;
pub(crate) mod pages;
pub(crate) mod profiles;
pub(crate) mod push;
pub(crate) mod replay;
pub(crate) mod seal;
pub(crate) mod sessions;
pub(crate) mod subscriptions;
pub(crate) mod view;
pub(crate) mod whence;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ::http::{Request, StatusCode};
use bytes::Bytes;
use http_body::Body;
use mainstay::Manager;
use mainstay::config::{AuditConfig, GatewayConfig};
use mainstay_wire::Limits;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::body::Reply;
use self::bridge::park::Parked;
use self::caller::Caller;
use self::endpoint::Endpoint;
use self::endpoint::others::Tasks;
use self::levels::Levels;
use self::origin::Guard;
use self::replay::ReplayLimits;
use self::seal::Sealer;
use self::sessions::Sessions;
use self::subscriptions::Subscriptions;
use self::view::Views;

use crate::access::{self, Access, Denied, Look};
use crate::admin::door::{self, Way};
use crate::audit::Audit;
use crate::policy::gate::{self, Gate};
use crate::record::Recorder;
use crate::reload::ConfigLife;
use crate::signin::visit::Visits;
use crate::signin::{Desk, Origins, web};

pub use self::listen::{ServeError, TlsError, check, serve};

/// Settings of a [`Gateway`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewaySettings {
    /// The address listened on; its name is accepted in `Host` besides the loopback names. Default: 127.0.0.1:8808.
    pub listen: SocketAddr,
    /// More names that are accepted in `Host`, without port. Default: none.
    pub allowed_hosts: Vec<String>,
    /// More web origins that are accepted, such as `https://app.example`. Default: none.
    pub allowed_origins: Vec<String>,
    /// Limits of one message from a client. Default: 16 MiB, 128 levels.
    pub limits: Limits,
    /// Most legacy sessions at the same time. Default: 10,000.
    pub sessions_max: usize,
    /// A legacy session ends after this long without a request, a call in flight or an open stream, in milliseconds.
    /// Default: 24 hours, because no known client opens a new session by itself when its old one is gone.
    pub session_idle_ms: u64,
    /// Most push streams (GET and listen) at the same time. Default: 10,000.
    pub push_streams_max: usize,
    /// Most connections at the same time; more wait in the system's queue. Default: 20,000.
    pub connections_max: usize,
    /// Most items on one page of a listing; a longer listing is given in pages. Default: 5,000, because many clients never
    /// ask for a second page.
    pub page_items_max: usize,
    /// Most bytes of items on one page of a listing; a single item may be larger. Default: 8 MiB.
    pub page_bytes_max: usize,
    /// How long a client waits for the first listing of a server that never had one, in milliseconds. Default: 15 s.
    pub edge_patience_ms: u64,
    /// In its first moments, how long a listing of the aggregate waits for servers that have never listed, counted from
    /// the start of the gateway, in milliseconds. Default: 3 s.
    pub startup_grace_ms: u64,
    /// How long a listing waits for a server to say what it lists to clients of this kind, if nobody knows: counted from
    /// when the server was asked first, in milliseconds. Later it is told by `list_changed`. Default: 3 s.
    pub own_listing_ms: u64,
    /// A silent stream says something after this long, in milliseconds; an answer that takes longer becomes a stream.
    /// Default: 15 s.
    pub keep_alive_ms: u64,
    /// A request head that has begun must be here after this long, in milliseconds; a connection that says nothing may
    /// stay. Default: 20 s.
    pub head_ms: u64,
    /// A request body may stand still for this long, and as a whole may take this long plus a second for every 16 KiB,
    /// in milliseconds. Default: 30 s.
    pub body_ms: u64,
    /// On shutdown, how long answers on their way may take, in milliseconds. Default: 5 s.
    pub drain_ms: u64,
    /// Most messages in one batch of a client of 2025-03-26. Default: 100; more than 1,000 are never taken.
    pub batch_messages_max: usize,
    /// Most calls that wait for input of their client between two of its requests. Default: 1,000.
    pub parked_max: usize,
    /// How long such a call waits before the server is told that nobody answers, in milliseconds. Default: 10 min.
    pub parked_expiry_ms: u64,
    /// How long such a call keeps a connection for itself that others wait for, in milliseconds: from then on, the one that
    /// has waited longest makes room. Default: 5 s.
    pub parked_yield_ms: u64,
    /// How often one call may ask for input before it is given up. Default: 16.
    pub rounds_max: u32,
    /// Events of streams that are kept for one legacy session, so that a client that lost a stream can resume it.
    /// Default: 256.
    pub replay_events_max: usize,
    /// Bytes of such events for one session. Default: 4 MiB.
    pub replay_bytes_max: usize,
    /// Bytes of such events for all sessions together. Default: 64 MiB.
    pub replay_total_bytes_max: usize,
    /// How long they are kept after their stream has ended or lost its client, in milliseconds. Default: 5 min.
    pub replay_keep_ms: u64,
    /// Whether the dashboard at `/` and the admin API below `/api/v1/` are served too. Default: yes.
    pub dashboard: bool,
    /// The log of who did what. Default: none is kept.
    pub audit: Option<AuditConfig>,
    /// Who clients are, and which of them are let in. Default: everybody on loopback.
    pub access: mainstay::config::Access,
    /// Where keys and what must outlive a restart are kept. Default: nowhere, so sessions end with the process.
    pub state_dir: Option<PathBuf>,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8808)),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            limits: Limits::default(),
            sessions_max: 10_000,
            session_idle_ms: 24 * 60 * 60 * 1_000,
            push_streams_max: 10_000,
            connections_max: 20_000,
            page_items_max: 5_000,
            page_bytes_max: 8 * 1024 * 1024,
            edge_patience_ms: 15_000,
            startup_grace_ms: 3_000,
            own_listing_ms: 3_000,
            keep_alive_ms: 15_000,
            head_ms: 20_000,
            body_ms: 30_000,
            drain_ms: 5_000,
            batch_messages_max: 100,
            parked_max: 1_000,
            parked_expiry_ms: 10 * 60 * 1_000,
            parked_yield_ms: 5_000,
            rounds_max: 16,
            replay_events_max: 256,
            replay_bytes_max: 4 * 1024 * 1024,
            replay_total_bytes_max: 64 * 1024 * 1024,
            replay_keep_ms: 5 * 60 * 1_000,
            dashboard: true,
            audit: None,
            access: mainstay::config::Access::default(),
            state_dir: None,
        }
    }
}

impl GatewaySettings {
    /// The defaults, for a gateway that listens on `listen`.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            ..Self::default()
        }
    }
}

impl From<&GatewayConfig> for GatewaySettings {
    fn from(config: &GatewayConfig) -> Self {
        Self {
            listen: config.listen,
            limits: Limits {
                message_bytes_max: config.limits.message_bytes,
                depth_max: config.limits.depth,
            },
            sessions_max: config.limits.sessions,
            edge_patience_ms: config.edge_patience_ms,
            parked_max: config.limits.parked,
            parked_expiry_ms: config.input_ms,
            rounds_max: config.limits.rounds,
            dashboard: config.dashboard,
            audit: config.audit.clone(),
            allowed_hosts: config.access.allowed_hosts.clone(),
            allowed_origins: config.access.allowed_origins.clone(),
            access: config.access.clone(),
            ..Self::default()
        }
    }
}

/// One gateway over one manager. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) manager: Manager,
    pub(crate) settings: GatewaySettings,
    pub(crate) sessions: Sessions,
    /// Seals what clients carry for us.
    pub(crate) sealer: Arc<Sealer>,
    /// Calls that wait for input of their client.
    pub(crate) parked: Arc<Parked>,
    pub(crate) guard: Guard,
    /// Signing in to servers.
    pub(crate) sign_ins: Desk,
    /// The links that calls hand out which wait for a sign-in.
    pub(crate) visits: Visits,
    /// Knows who clients are.
    pub(crate) access: Access,
    /// Keeps the token of those who come from elsewhere.
    pub(crate) door: door::Keeper,
    pub(crate) push_streams: Arc<Semaphore>,
    /// Clients of HTTP+SSE.
    pub(crate) old: old::Streams,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) levels: Levels,
    /// What clients see that declare what they can do.
    pub(crate) views: Views,
    /// Who sees and calls what, and the log of it.
    pub(crate) gate: Gate,
    /// Which server issued which task, on the aggregate.
    pub(crate) task_owners: Tasks,
    /// Cancelled when somebody asks that Mainstay ends.
    stop_asked: CancellationToken,
    /// Cancelled when the gateway goes down: streams end, nothing new begins.
    pub(crate) ending: CancellationToken,
    /// Cancelled when the time for answers on their way is over.
    pub(crate) hurry: CancellationToken,
    /// Calls that outlive their connection, and connections.
    pub(crate) tasks: TaskTracker,
    /// Keeps the log of the wire, if one is kept.
    pub(crate) recorder: OnceLock<Recorder>,
    /// What is known of the config file, if there is one.
    config_life: OnceLock<Arc<ConfigLife>>,
    started: Instant,
}

impl Shared {
    /// What is due from time to time: idle sessions end, old keys are replaced.
    pub(crate) fn sweep(&self) {
        self.sessions.sweep();
        if let Err(error) = self.sealer.refresh() {
            tracing::warn!(%error, "the key ring could not be renewed; the old key stays in use");
        }
        if let Some(tokens) = self.access.tokens().cloned() {
            self.tasks.spawn(async move {
                // A token that was revoked in the file by somebody else is noticed here at the latest.
                tokens.refresh().await;
                drop(tokio::task::spawn_blocking(move || tokens.remember()).await);
            });
        }
    }
}

/// Where a path leads.
enum Place<'p> {
    All(Face),
    Server(&'p str, Face),
    Profile(&'p str, Face),
    /// Where clients of HTTP+SSE send their messages.
    Messages,
    Elsewhere,
}

/// How an endpoint is spoken to.
#[derive(Clone, Copy)]
enum Face {
    /// `/mcp`.
    Streamable,
    /// `/sse`.
    Old,
}

impl Gateway {
    /// A gateway that answers for `manager`. Listens nowhere yet. Reads the keys and sessions of
    /// [`state_dir`](GatewaySettings::state_dir), which blocks for a moment.
    #[must_use]
    pub fn new(manager: Manager, settings: GatewaySettings) -> Self {
        let sealer = Arc::new(Sealer::for_gateway(settings.state_dir.as_deref()));
        let (tasks, ending, hurry) = (
            TaskTracker::new(),
            CancellationToken::new(),
            CancellationToken::new(),
        );
        let replay = replay::Common::new(
            ReplayLimits::from(&settings),
            tasks.clone(),
            ending.clone(),
            hurry.clone(),
        );
        let mut sessions =
            Sessions::new(settings.sessions_max, settings.session_idle_ms).replaying(replay);
        if let Some(dir) = settings
            .state_dir
            .as_deref()
            .filter(|_| sealer.is_durable())
        {
            sessions = sessions.durable(&sealer, dir);
        }
        // The address under which clients reach us is one of our names.
        let resource = settings.access.resource.as_deref();
        let named = resource.and_then(|resource| resource.parse::<::http::Uri>().ok());
        let named = named.and_then(|resource| resource.host().map(str::to_owned));
        let hosts: Vec<String> = settings
            .allowed_hosts
            .iter()
            .cloned()
            .chain(named)
            .collect();
        let shared = Shared {
            sessions,
            sealer,
            parked: Arc::new(Parked::new(
                settings.parked_max,
                Duration::from_millis(settings.parked_expiry_ms),
            )),
            guard: Guard::new(settings.listen, &hosts, &settings.allowed_origins),
            access: Access::new(
                &settings.access,
                settings.listen,
                settings.state_dir.as_deref(),
            ),
            sign_ins: Desk::of_gateway(&manager, origins(&settings), tasks.clone(), ending.clone()),
            visits: Visits::new(Duration::from_millis(settings.parked_expiry_ms)),
            door: door::Keeper::new(settings.state_dir.as_deref()),
            push_streams: Arc::new(Semaphore::new(
                settings.push_streams_max.min(Semaphore::MAX_PERMITS),
            )),
            old: old::Streams::default(),
            subscriptions: Subscriptions::default(),
            levels: Levels::default(),
            gate: gate(&settings),
            task_owners: Tasks::default(),
            views: Views::new(manager.own_listings()),
            ending,
            hurry,
            tasks,
            recorder: OnceLock::new(),
            config_life: OnceLock::new(),
            stop_asked: CancellationToken::new(),
            started: Instant::now(),
            manager,
            settings,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The manager behind it.
    #[must_use]
    pub fn manager(&self) -> &Manager {
        &self.shared.manager
    }

    /// Shows every message of clients to a recorder from now on. The first one stays.
    pub fn record(&self, recorder: Recorder) {
        let _first = self.shared.recorder.set(recorder);
    }

    /// Lets the admin API show the config file and load it anew. The first one stays.
    pub fn follow_config(&self, life: Arc<ConfigLife>) {
        if self.shared.config_life.set(Arc::clone(&life)).is_ok()
            && self.shared.gate.audit().is_some()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            let (shared, ending) = (Arc::downgrade(&self.shared), self.ending());
            self.shared.tasks.spawn(async move {
                tokio::select! {
                    // Cancel-safe: what was not recorded yet is lost with the gateway, which ends.
                    () = gate::follow_config(life, shared) => {}
                    // Cancel-safe: a token holds nothing.
                    () = ending.cancelled() => {}
                }
            });
        }
    }

    /// What is known of the config file, if there is one.
    pub(crate) fn config_life(&self) -> Option<Arc<ConfigLife>> {
        self.shared.config_life.get().cloned()
    }

    /// How many legacy sessions are open.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.shared.sessions.count()
    }

    /// How many calls wait for input of their client.
    #[must_use]
    pub fn parked_count(&self) -> usize {
        self.shared.parked.count()
    }

    /// How many calls wait for the operator to approve them.
    #[must_use]
    pub fn approvals_count(&self) -> usize {
        self.shared.gate.approvals.list().len()
    }

    /// How many subscriptions to resources clients hold.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.shared.subscriptions.count()
    }

    /// How long the gateway exists.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Cancelled when somebody asks over the local socket that Mainstay ends. What becomes of that is up to whoever runs
    /// the gateway.
    #[must_use]
    pub fn stop_asked(&self) -> CancellationToken {
        self.shared.stop_asked.clone()
    }

    /// Cancelled when the gateway goes down.
    pub(crate) fn ending(&self) -> CancellationToken {
        self.shared.ending.clone()
    }

    /// Ends the audit log, if one is kept: what waits is written, for two seconds at most. To be called when nothing happens
    /// any more; dropping the future does not stop it.
    pub async fn end_audit(&self) {
        if let Some(audit) = self.shared.gate.audit() {
            audit.close().await;
        }
    }

    /// Answers one request. Never fails: what is wrong is told in the answer. Dropping the future is a disconnect.
    ///
    /// A [`Principal`](mainstay::Principal) among the request's extensions is taken for whoever makes it: the program that
    /// embeds the gateway has identified its user. Without one, the request is this machine's user's.
    ///
    /// The dashboard and the admin API want their token, unless the request brings an axum `ConnectInfo<SocketAddr>` of
    /// loopback along.
    pub async fn handle<B>(&self, request: Request<B>) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        self.handle_from(request, Way::Embedded).await
    }

    /// The same for a request of which it is known how it came.
    pub(crate) async fn handle_from<B>(&self, request: Request<B>, way: Way<'_>) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        if let Err(foreign) = self.shared.guard.check(request.uri(), request.headers()) {
            return body::plain(StatusCode::FORBIDDEN, foreign.to_string());
        }
        if web::is_here(request.uri().path()) {
            return Box::pin(web::answer(self, request, way)).await;
        }
        if door::is_behind(request.uri().path()) {
            // In a box of its own, so that the way of a call does not get larger by it.
            return Box::pin(door::answer(self, request, way)).await;
        }
        self.answer(request, way).await
    }

    /// Answers one request that came through a door of which the system says that only this user can open it: neither
    /// `Host` nor `Origin` means anything there. A relay may mark itself (see [`local`]).
    pub async fn handle_local<B>(&self, mut request: Request<B>) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        local::admit(&mut request);
        let mut reply = self.answer(request, Way::Local).await;
        local::sign(&mut reply);
        reply
    }

    /// Whose request it is; `None`: it is turned away.
    pub(crate) async fn identify(
        &self,
        head: &::http::request::Parts,
        way: Way<'_>,
    ) -> Option<Arc<Caller>> {
        let told = Caller::of_extensions(&head.extensions);
        if matches!(way, Way::Embedded) && told.principal.is_some() {
            return Some(told);
        }
        self.shared.access.identify(head, way).await.ok()
    }

    /// Finds out whose request it is, and answers it. The one place where that is found out.
    async fn answer<B>(&self, request: Request<B>, way: Way<'_>) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let path = request.uri().path();
        if let Some(reply) = access::metadata(&self.shared.access, request.method(), path) {
            return reply;
        }
        if matches!(path, "/healthz" | "/readyz") {
            let access = &self.shared.access;
            let is_open = !access.is_needed(request.headers(), request.uri(), way);
            return health::answer(&self.shared, path, is_open);
        }
        let caller = match self.caller(&request, way) {
            Look::Caller(caller) => caller,
            Look::Token(shown) => match Box::pin(self.shared.access.judge(shown)).await {
                Ok(caller) => caller,
                Err(denied) => return self.denied(denied, request.uri()),
            },
            Look::Denied(denied) => return self.denied(denied, request.uri()),
        };
        self.route(request, &caller).await
    }

    /// Whose request it is, as far as it can be said at once.
    fn caller<B>(&self, request: &Request<B>, way: Way<'_>) -> Look {
        let access = &self.shared.access;
        match way {
            Way::Local => Look::Caller(Caller::local()),
            Way::Listener(_)
                if access.settings().metrics_open && request.uri().path() == "/metrics" =>
            {
                Look::Caller(Caller::local())
            }
            // Whoever embeds this gateway may know more than we do.
            Way::Embedded => {
                let told = Caller::of_extensions(request.extensions());
                match told.principal {
                    Some(_) => Look::Caller(told),
                    None => access.look(request.headers(), request.uri(), way),
                }
            }
            Way::Listener(_) => access.look(request.headers(), request.uri(), way),
        }
    }

    fn denied(&self, denied: Denied, uri: &::http::Uri) -> Reply {
        denied.into_reply(&self.shared.access, &access::Place::of(uri.path()))
    }

    async fn route<B>(&self, request: Request<B>, caller: &Arc<Caller>) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let shared = &self.shared;
        let path = request.uri().path();
        // What a caller may not see is answered like what is not there.
        let is_open = |endpoint: &Endpoint| gate::is_open(shared, caller, endpoint);
        let (endpoint, face) = match place(path) {
            Place::All(face) => (Endpoint::All, face),
            Place::Server(name, face) => {
                let found = find(&shared.manager, name).map(Endpoint::Server);
                match found.filter(is_open) {
                    Some(endpoint) => (endpoint, face),
                    None => {
                        let words = no_such_server(shared, caller, name);
                        return body::plain(StatusCode::NOT_FOUND, words);
                    }
                }
            }
            Place::Profile(name, face) => match profiles::find(shared, name).filter(is_open) {
                Some(endpoint) => (endpoint, face),
                None => {
                    let words = profiles::no_such_profile(shared, caller, name);
                    return body::plain(StatusCode::NOT_FOUND, words);
                }
            },
            Place::Messages => return old::post(shared, caller, request).await,
            Place::Elsewhere => {
                return match path {
                    "/metrics" => health::metrics(self),
                    _ => body::plain(
                        StatusCode::NOT_FOUND,
                        "nothing is here; MCP is at /mcp, /servers/{name}/mcp and /profiles/{name}/mcp",
                    ),
                };
            }
        };
        match face {
            Face::Streamable => http::handle(shared, caller, endpoint, request).await,
            Face::Old => old::open(shared, caller, endpoint, &request),
        }
    }

    /// The same as an axum router, to be nested into a larger server. The `Host` and `Origin` checks are part of it.
    pub fn router(&self) -> axum::Router {
        let gateway = self.clone();
        axum::Router::new().fallback(move |request: axum::extract::Request| {
            let gateway = gateway.clone();
            async move { gateway.handle(request).await.map(axum::body::Body::new) }
        })
    }
}

/// Where browsers find the gateway.
fn origins(settings: &GatewaySettings) -> Origins {
    let scheme = match settings.access.tls {
        Some(_) => "https",
        None => "http",
    };
    let mut listen = settings.listen;
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let own: Box<str> = format!("{scheme}://{listen}").into();
    let public = settings.access.resource.as_deref();
    let public = public.and_then(|resource| url::Url::parse(resource).ok());
    let public = public.map(|url| url.origin().ascii_serialization().into());
    Origins {
        here: own.clone(),
        elsewhere: public.unwrap_or(own),
    }
}

/// What decides about requests, with the audit log if one is to be kept.
fn gate(settings: &GatewaySettings) -> Gate {
    let gate = Gate::default();
    let config = settings.audit.as_ref();
    if let Some(audit) =
        config.and_then(|config| Audit::start(config, settings.state_dir.as_deref()))
    {
        gate.keep(audit);
    }
    gate
}

fn place(path: &str) -> Place<'_> {
    match path {
        "/mcp" | "/mcp/" => Place::All(Face::Streamable),
        "/sse" | "/sse/" => Place::All(Face::Old),
        "/messages" | "/messages/" => Place::Messages,
        _ => {
            let below = |prefix: &str| -> Option<(&str, Face)> {
                let rest = path.strip_prefix(prefix)?;
                let (name, face) = rest.strip_suffix('/').unwrap_or(rest).split_once('/')?;
                match face {
                    _ if name.is_empty() => None,
                    "mcp" => Some((name, Face::Streamable)),
                    "sse" => Some((name, Face::Old)),
                    _ => None,
                }
            };
            if let Some((name, face)) = below("/servers/") {
                Place::Server(name, face)
            } else if let Some((name, face)) = below("/profiles/") {
                Place::Profile(name, face)
            } else {
                Place::Elsewhere
            }
        }
    }
}

fn find(manager: &Manager, segment: &str) -> Option<mainstay::ServerHandle> {
    if segment.contains('%') {
        let name = percent_encoding::percent_decode_str(segment)
            .decode_utf8()
            .ok()?;
        return manager.server(&name);
    }
    manager.server(segment)
}

fn no_such_server(shared: &Shared, caller: &Caller, segment: &str) -> String {
    let known: Vec<String> = shared
        .manager
        .servers()
        .iter()
        .map(|server| server.name().to_owned())
        .filter(|name| gate::sees_server(shared, caller, name, None))
        .collect();
    format!(
        "no server is named `{}`; configured are: {}",
        fault::shown(segment),
        known.join(", ")
    )
}
