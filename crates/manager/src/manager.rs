//! The manager: builds the driver, finds servers, shows the publication, ends everything.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mainstay_core::fleet::FleetInput;
use mainstay_wire::envelope;
use tokio::sync::{broadcast, watch};

use crate::auth::{Engine, Office, SignIns};
use crate::calls::CallRecord;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::{self, Config, GatewayConfig};
use crate::driver::opener::Keepers;
use crate::driver::{Desk, Driver, Setting, ShutdownReport};
use crate::error::{OperatorError, StartError};
use crate::events::{Event, Events};
use crate::handle::ServerHandle;
use crate::journal::{self, Journal, JournalStatus};
use crate::plan::{self, Plan};
use crate::process::Guardian;
use crate::process::tree::Processes;
use crate::publish::{Publication, Publisher, Shared};
use crate::remembered;
use crate::status::ServerStatus;
use crate::store::Store;

/// There are more calls than events.
const CALLS_PER_EVENT: usize = 4;

/// Keeps a set of MCP servers standing. Cheap to clone; the servers end when [`Manager::shutdown`] is called or the last
/// clone and the last handle are gone.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use mainstay::Manager;
/// use mainstay::config::{Config, ServerConfig};
///
/// let time = ServerConfig::stdio("time", "uvx").args(["mcp-server-time"]);
/// let manager = Manager::builder().config(Config::from_servers([time])).start().await?;
/// let time = manager.server("time").ok_or("not configured")?;
/// let arguments = serde_json::json!({"timezone": "UTC"});
/// let answer = time.call("get_current_time", Some(&arguments)).await?;
/// println!("{}", answer.result().unwrap_or("the tool failed"));
/// manager.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Manager {
    desk: Desk,
    shared: Arc<Shared>,
    events: Arc<Events>,
    gateway: Arc<ArcSwap<GatewayConfig>>,
    store: Option<Arc<Store>>,
    office: Arc<Office>,
}

/// Settings of a manager before it starts.
#[derive(Debug, Default)]
pub struct ManagerBuilder {
    config: Config,
    state_dir: Option<PathBuf>,
    journal: Option<PathBuf>,
    engine: Option<Arc<dyn Engine>>,
}

impl ManagerBuilder {
    /// The servers, and the settings of the config's `mainstay` section that concern the library. Default: no servers.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Where last good catalogs are kept over restarts. Default: nowhere.
    #[must_use]
    pub fn state_dir(mut self, dir: Option<PathBuf>) -> Self {
        self.state_dir = dir;
        self
    }

    /// Where events and records of calls are kept, see [`journal`](crate::journal): a directory of their own, within the
    /// bounds of the config's `mainstay.journal`. `enabled: false` there wins. Default: nowhere.
    #[must_use]
    pub fn journal(mut self, dir: Option<PathBuf>) -> Self {
        self.journal = dir;
        self
    }

    /// Who speaks OAuth to the authorization servers. Default: with the feature `oauth` our own, without it nobody: then no
    /// server is signed in to.
    #[must_use]
    pub fn engine(mut self, engine: Arc<dyn Engine>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Starts. Returns when every server has its slot, long before the servers are up: one bad server delays nobody
    /// (law 27). A state directory that cannot be used is logged, and Mainstay goes on without one.
    ///
    /// # Errors
    /// [`StartError`] when the operating system refuses what every start needs.
    pub async fn start(self) -> Result<Manager, StartError> {
        let mut seed = [0_u8; 8];
        getrandom::fill(&mut seed).map_err(|error| StartError::Random(error.to_string()))?;
        let limits = self.config.gateway.limits;
        let (publisher, shared) = Publisher::new();
        let events = Arc::new(Events::with(
            limits.events,
            limits.events.saturating_mul(CALLS_PER_EVENT),
            self.config.gateway.journal.arguments,
        ));
        let office = Office::open(
            self.engine.or_else(own_engine),
            self.state_dir.as_deref(),
            Arc::clone(events.hidden()),
        );
        let keepers = keepers(limits, &office)?;
        let store = self.state_dir.and_then(|dir| match Store::open(&dir) {
            Ok(store) => Some(Arc::new(store)),
            Err(error) => {
                tracing::warn!(%error, "going on without remembered catalogs");
                None
            }
        });
        let journal = self.journal.filter(|_| self.config.gateway.journal.enabled);
        let journal = journal.and_then(|dir| {
            Journal::start(
                dir,
                &self.config.gateway.journal,
                Arc::clone(events.hidden()),
            )
        });
        if let Some(journal) = journal {
            events.keep_in(journal);
        }
        let clock = Clock::start();
        let start_gate = self.config.gateway.start_gate;
        let gateway = Arc::new(ArcSwap::from_pointee(self.config.gateway));
        let desk = Driver::start(Setting {
            clock,
            start_gate,
            gateway: Arc::clone(&gateway),
            subscriptions_max: limits.subscriptions,
            seed: u64::from_le_bytes(seed),
            caps: limits,
            opener: Box::new(keepers),
            store: store.clone(),
            events: Arc::clone(&events),
            publisher,
        });
        for server in self.config.servers {
            let catalog = store
                .as_ref()
                .and_then(|store| remembered::load(store, &server))
                .map(Arc::new);
            // The driver has just started; it ends only on shutdown.
            let _ = desk.add(server, catalog).await;
        }
        Ok(Manager {
            desk,
            shared,
            events,
            gateway,
            store,
            office,
        })
    }
}

impl Manager {
    /// Begins to build a manager.
    #[must_use]
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::default()
    }

    /// The server of that name. The handle stays valid for ever (law 20).
    #[must_use]
    pub fn server(&self, name: &str) -> Option<ServerHandle> {
        self.desk
            .directory()
            .find(name)
            .map(|place| ServerHandle::new(place, self.desk.clone()))
    }

    /// All servers, by name.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerHandle> {
        let places = self.desk.directory().all();
        places
            .into_iter()
            .map(|place| ServerHandle::new(place, self.desk.clone()))
            .collect()
    }

    /// What [`Manager::reload`] would do with this config now. Changes nothing.
    #[must_use]
    pub fn plan(&self, config: &Config) -> Plan {
        plan::of(
            &self.desk.directory().configs(),
            &self.gateway.load(),
            config,
        )
    }

    /// Makes the servers what `config` says, and touches nothing else (law 28). Returns what that took, when it is in force
    /// and before everything has come or gone: watch the status for that.
    ///
    /// - New servers are started, and found by their names.
    /// - Servers that are not in it any more are unpublished and refuse ([`Refusal::Removed`](crate::Refusal::Removed)) at
    ///   once; calls that run get their drain time, then they end. Their names are found until nothing of them exists.
    /// - Where the connection differs (command, arguments, environment, URL, headers, ...) it is made anew: of an HTTP
    ///   server before the old one is drained, of a process after. No handle becomes invalid.
    /// - All other differences are settings: they hold from now on, except that limits of one listing, one connection
    ///   attempt or one push stream hold from the next one on. No connection is touched.
    /// - `enabled` enables and disables when it differs from what was loaded before; what an operator did stays otherwise.
    /// - Of Mainstay's own settings [`Plan::gateway`] says which hold now, and which after a restart.
    ///
    /// Broken servers ([`Config`]) are parked and say why: whether such a config is to be loaded at all is for the caller to
    /// decide. Reloads at the same time are done one after the other; the later one wins. Dropping the future takes nothing
    /// back (law 1).
    ///
    /// # Errors
    /// [`OperatorError::Ended`] after a shutdown.
    pub async fn reload(&self, config: Config) -> Result<Plan, OperatorError> {
        let new = self.plan(&config).add;
        let store = self.store.clone();
        let (config, catalogs) = match store.filter(|_| !new.is_empty()) {
            Some(store) => with_remembered(store, config, new).await,
            None => (config, BTreeMap::new()),
        };
        self.desk.reload(config, catalogs).await
    }

    /// Mainstay's own settings that hold now: those of the last reload where they hold at once, the others as of the start.
    #[must_use]
    pub fn settings(&self) -> Arc<GatewayConfig> {
        self.gateway.load_full()
    }

    /// What clients see of all servers: one immutable snapshot (law 21).
    #[must_use]
    pub fn publication(&self) -> Arc<Publication> {
        self.shared.current()
    }

    /// The version of the publication, as a level: wait for `>= n`, never for "changed".
    #[must_use]
    pub fn published(&self) -> watch::Receiver<u64> {
        self.shared.version()
    }

    /// Says when what some clients are listed beside the publication ([`ServerHandle::listed_to`]) may have changed, as a
    /// level.
    #[must_use]
    pub fn own_listings(&self) -> watch::Receiver<u64> {
        self.shared.own()
    }

    /// What is going on with every server, by name.
    #[must_use]
    pub fn status(&self) -> Vec<ServerStatus> {
        self.servers().iter().map(ServerHandle::status).collect()
    }

    /// As [`Manager::status`], with what the processes of the servers use. Looks at all processes of the system once, which
    /// blocks for some milliseconds: not for the hot path.
    #[must_use]
    pub fn full_status(&self) -> Vec<ServerStatus> {
        let processes = Processes::look();
        let servers = self.servers();
        servers
            .iter()
            .map(|server| server.status_among(&processes))
            .collect()
    }

    /// Everything that happens from now on. A listener that is too slow is told how much it missed.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// The last events, oldest first.
    #[must_use]
    pub fn recent_events(&self) -> Vec<Event> {
        self.events.recent()
    }

    /// Every call that ends from now on, on any server. A listener that is too slow is told how much it missed.
    #[must_use]
    pub fn calls(&self) -> broadcast::Receiver<Arc<CallRecord>> {
        self.events.calls().subscribe()
    }

    /// The last calls, oldest first: four times as many as `mainstay.limits.events` are kept.
    #[must_use]
    pub fn recent_calls(&self) -> Vec<Arc<CallRecord>> {
        self.events.calls().recent()
    }

    /// How many calls have ended since the start.
    #[must_use]
    pub fn calls_made(&self) -> u64 {
        self.events.calls().made()
    }

    /// How the journal is doing; `None` without one.
    #[must_use]
    pub fn journal_status(&self) -> Option<JournalStatus> {
        self.events.journal().map(Journal::status)
    }

    /// Looks back in the journal; see [`journal::read`]. `None` without one. Blocks on the disk.
    pub fn read_journal(&self, query: &journal::Query) -> Option<std::io::Result<journal::Page>> {
        let journal = self.events.journal()?;
        Some(journal::read(journal.dir(), query))
    }

    /// Signing in to servers and out, and how that stands.
    #[must_use]
    pub fn sign_ins(&self) -> SignIns {
        SignIns::new(Arc::clone(&self.office), self.desk.clone())
    }

    /// Tells Mainstay that the machine slept for `asleep`: deadlines begin anew, connections are probed one after the
    /// other, and what the sleep broke is not charged (law 12). Only needed where Mainstay cannot notice it: on Linux and
    /// macOS it does. Returns when every server has heard of it; being told twice does no harm.
    pub async fn woke(&self, asleep: std::time::Duration) {
        let asleep_ms = u64::try_from(asleep.as_millis()).unwrap_or(u64::MAX);
        // A manager that has ended has nothing to wake.
        let _ = self.desk.machine(FleetInput::Woke { asleep_ms }).await;
    }

    /// Tells Mainstay that the machine's network changed: HTTP connections are probed, and servers that wait for their next
    /// attempt get it soon, all spread over some seconds (F229). Returns when every server has heard of it.
    pub async fn network_changed(&self) {
        let _ = self.desk.machine(FleetInput::NetworkChanged).await;
    }

    /// Ends everything: running calls get their drain time, then servers are stopped, all in parallel and each by the
    /// clock. When this returns no process, task, socket or timer of Mainstay's servers exists (law 6), except for what
    /// the report names as left. Takes at most `mainstay.shutdownMs` (default 15 s) and a moment: whatever is left shortly
    /// before that is killed. New calls are refused as shutting down from the first moment on (F222). Idempotent: every
    /// caller gets the same report. Dropping the future does not stop the shutdown.
    pub async fn shutdown(&self) -> ShutdownReport {
        // Beside each other: a token that is on its way when the order comes is stored before the end.
        let (report, ()) = tokio::join!(self.desk.shutdown(false), self.office.close());
        if let Some(journal) = self.events.journal() {
            journal.close().await;
        }
        report
    }

    /// Skips what is left of the grace: everything is killed now. For a second signal; does not wait.
    pub fn hurry(&self) {
        self.desk.hurry();
    }
}

#[cfg(feature = "oauth")]
fn own_engine() -> Option<Arc<dyn Engine>> {
    Some(Arc::new(crate::auth::rmcp::RmcpEngine::new()))
}

#[cfg(not(feature = "oauth"))]
fn own_engine() -> Option<Arc<dyn Engine>> {
    None
}

/// The opener of production.
fn keepers(limits: config::Limits, office: &Arc<Office>) -> Result<Keepers, StartError> {
    Ok(Keepers {
        office: Arc::clone(office),
        guardian: Arc::new(Guardian::start()?),
        limits: envelope::Limits {
            message_bytes_max: limits.message_bytes,
            depth_max: limits.depth,
        },
        pages_max: limits.pages,
        stderr_bytes_max: limits.stderr_bytes,
        caps: limits,
        pauses: Arc::default(),
    })
}

/// Reads what is remembered of new servers, beside everything else: a slow disk delays nobody.
async fn with_remembered(
    store: Arc<Store>,
    config: Config,
    new: Vec<String>,
) -> (Config, BTreeMap<String, Arc<Catalog>>) {
    let spare = config.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let servers = new.iter().filter_map(|name| config.server(name));
        let catalogs = servers.filter_map(|server| {
            let catalog = remembered::load(&store, server)?;
            Some((server.name.clone(), Arc::new(catalog)))
        });
        let catalogs = catalogs.collect();
        (config, catalogs)
    });
    // Without what was remembered a server starts all the same.
    reading.await.unwrap_or((spare, BTreeMap::new()))
}
