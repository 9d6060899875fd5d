//! The permanent place of one server's connections: what calls and observers touch without asking the driver.
//!
//! The driver is the only writer of the lifecycle's view; everybody else reads.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use mainstay_core::failure::Failure;
use mainstay_core::ids::SlotId;
use mainstay_core::lifecycle::status::Status;
use mainstay_core::time::Time;
use tokio::sync::watch;

use crate::admission::Admission;
use crate::auth;
use crate::calls::Ledger;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::{GatewayConfig, ServerConfig};
use crate::counters::Counters;
use crate::events::Events;
use crate::pins::{Holdback, Pins};
use crate::pool::{Account, Beside, Family, Holds};
use crate::principal::Principal;
use crate::process::StderrRing;
use crate::process::tree::Meter;
use crate::publish::Shared;
use crate::runtime::Runtime;
use crate::runtime::era::EraMemory;
use crate::runtime::gates::AskGates;
use crate::runtime::keeper::MissingModule;
use crate::suspicious::{self, Suspicion};
use crate::wishes::Wishes;

/// The lifecycle as observers see it: a status and when it was taken.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The lifecycle's own account.
    pub(crate) status: Status,
    /// The last failure, which outlives the state that it caused.
    pub(crate) last_failure: Option<(Failure, Time)>,
    /// Mainstay is shutting down: nothing will become available any more.
    pub(crate) shutting_down: bool,
}

impl View {
    fn blank(status: Status) -> watch::Sender<Self> {
        watch::Sender::new(Self {
            status,
            last_failure: None,
            shutting_down: false,
        })
    }
}

/// The permanent place of one server's connections, or the place of one of its further connections.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) id: SlotId,
    pub(crate) name: Arc<str>,
    pub(crate) clock: Clock,
    /// The settings of Mainstay itself that hold now.
    gateway: Arc<ArcSwap<GatewayConfig>>,
    pub(crate) config: ArcSwap<ServerConfig>,
    /// The generation that takes leases, if one does (law 2). Written by the driver only.
    pub(crate) current: ArcSwapOption<Runtime>,
    pub(crate) view: watch::Sender<View>,
    /// The last good catalog, as the server listed it (law 22). Written by the driver only.
    pub(crate) listed: ArcSwapOption<Catalog>,
    /// What is shown of it: the catalog of everybody but the driver, the listings and the store.
    pub(crate) catalog: ArcSwapOption<Catalog>,
    /// What of the listing is held back, because it is not as it was approved. Written by the driver only.
    pub(crate) held: ArcSwap<Holdback>,
    /// What was approved of the server's tools.
    pub(crate) pins: Arc<Pins>,
    /// What clients see of all servers.
    published: Option<Arc<Shared>>,
    /// How often the server may ask clients for something, on all of its connections.
    pub(crate) gates: Arc<AskGates>,
    /// Set once this connection has listed itself.
    pub(crate) has_listed: watch::Sender<bool>,
    /// One for all connections of the server.
    pub(crate) admission: Arc<Admission>,
    /// Calls that wait for this connection of the server, or for others to end (F152).
    pub(crate) waiting: AtomicUsize,
    /// Where it is told what happens to the server.
    pub(crate) events: Arc<Events>,
    pub(crate) counters: Arc<Counters>,
    /// What became of the server's calls, on all of its connections.
    pub(crate) ledger: Arc<Ledger>,
    /// Request ids never restart, whatever the generation.
    pub(crate) ids: Arc<AtomicU64>,
    pub(crate) era: EraMemory,
    /// What the library's user wants every generation to be told (law 25).
    pub(crate) wishes: Arc<Wishes>,
    /// The newest generation that was opened, and when, on the driver's clock. Written by the driver only.
    pub(crate) newest: AtomicU64,
    pub(crate) opened_ms: AtomicU64,
    /// The server spoke HTTP+SSE (2024-11-05) when it was last greeted; the store keeps it over restarts.
    over_sse: AtomicBool,
    pub(crate) missing_module: MissingModule,
    /// What all connections of the server share.
    pub(crate) family: Arc<Family>,
    /// Set in the slots of further connections; the shared one has none.
    pub(crate) beside: Option<Beside>,
    /// The account of the principal whose connection it is.
    pub(crate) account: Option<Arc<Account>>,
    /// Who uses it. Only counted for further connections.
    pub(crate) holds: Holds,
    /// Whose credentials its newest connection shows, if it signs in.
    pub(crate) sign_in: ArcSwapOption<auth::Account>,
    process: Mutex<ProcessFace>,
    /// What its processes had used when somebody last looked.
    pub(crate) meter: Meter,
}

/// What is known about the newest process of a stdio server.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProcessFace {
    /// Its pid, while it lives.
    pub(crate) pid: Option<u32>,
    /// Its stderr, which stays readable after its death.
    pub(crate) stderr: Option<Arc<StderrRing>>,
    /// What fences it, for people.
    pub(crate) fence: Option<String>,
}

impl Slot {
    /// A slot for a configured server.
    pub(crate) fn new(
        id: SlotId,
        config: ServerConfig,
        gateway: Arc<ArcSwap<GatewayConfig>>,
        wishes: Arc<Wishes>,
        events: Arc<Events>,
        clock: Clock,
        status: Status,
    ) -> Self {
        events.hidden().cover(&config);
        let gates = AskGates::default();
        gates.set(config.guard.asks);
        Self {
            id,
            name: config.name.as_str().into(),
            clock,
            gateway,
            admission: Arc::new(Admission::new(config.concurrency)),
            waiting: AtomicUsize::new(0),
            events,
            config: ArcSwap::from_pointee(config),
            current: ArcSwapOption::empty(),
            sign_in: ArcSwapOption::empty(),
            view: View::blank(status),
            listed: ArcSwapOption::empty(),
            catalog: ArcSwapOption::empty(),
            held: ArcSwap::default(),
            pins: Pins::none(),
            published: None,
            gates: Arc::new(gates),
            has_listed: watch::Sender::new(false),
            counters: Arc::default(),
            ledger: Arc::new(Ledger::new()),
            ids: Arc::new(AtomicU64::new(1)),
            era: EraMemory::default(),
            wishes,
            newest: AtomicU64::new(0),
            opened_ms: AtomicU64::new(0),
            over_sse: AtomicBool::new(false),
            missing_module: MissingModule::default(),
            family: Arc::default(),
            beside: None,
            account: None,
            holds: Holds::new(clock.now().0),
            process: Mutex::default(),
            meter: Meter::default(),
        }
    }

    /// The same with what was approved of its tools.
    pub(crate) fn with_pins(mut self, pins: Arc<Pins>) -> Self {
        self.pins = pins;
        self
    }

    /// The same with what clients see of all servers.
    pub(crate) fn with_published(mut self, published: Arc<Shared>) -> Self {
        self.published = Some(published);
        self
    }

    /// What in the server's listing can mislead (F252, F254).
    pub(crate) fn suspicious(&self) -> Vec<Suspicion> {
        let policy = self.config.load().guard.hidden_text;
        let listed = self.listed.load();
        let mut found = listed
            .as_ref()
            .map_or_else(Vec::new, |listed| suspicious::within(listed, policy));
        if let Some(published) = &self.published {
            found.extend(published.suspicious(&self.name));
        }
        found
    }

    /// A slot for a further connection of the same server: the same settings and limits, and a life of its own.
    pub(crate) fn further(
        &self,
        id: SlotId,
        beside: Beside,
        wishes: Arc<Wishes>,
        status: Status,
    ) -> Self {
        let config = self.config.load_full();
        let account = beside.key.principal.as_ref().map(|principal| {
            let calls = config.connections.calls_of_one(config.concurrency);
            self.family.accounts.of(principal, calls)
        });
        // Until it has listed itself, what the server listed elsewhere is the best there is. Not so with a principal's: what
        // others were listed is not its.
        let (listed, catalog) = match account {
            None => (self.listed.load_full(), self.catalog.load_full()),
            Some(_) => (None, None),
        };
        let era = EraMemory::default();
        if let Some(known) = beside.key.era.or_else(|| self.era.get()) {
            era.set(Some(known));
        }
        Self {
            sign_in: ArcSwapOption::empty(),
            id,
            name: Arc::clone(&self.name),
            clock: self.clock,
            gateway: Arc::clone(&self.gateway),
            config: ArcSwap::new(config),
            current: ArcSwapOption::empty(),
            view: View::blank(status),
            listed: ArcSwapOption::new(listed),
            catalog: ArcSwapOption::new(catalog),
            held: ArcSwap::new(self.held.load_full()),
            pins: Arc::clone(&self.pins),
            published: self.published.clone(),
            gates: Arc::clone(&self.gates),
            has_listed: watch::Sender::new(false),
            admission: Arc::clone(&self.admission),
            waiting: AtomicUsize::new(0),
            events: Arc::new(self.events.of_connection(beside.number)),
            counters: Arc::clone(&self.counters),
            ledger: Arc::clone(&self.ledger),
            ids: Arc::new(AtomicU64::new(1)),
            era,
            wishes,
            newest: AtomicU64::new(0),
            opened_ms: AtomicU64::new(0),
            over_sse: AtomicBool::new(self.over_sse()),
            missing_module: MissingModule::default(),
            family: Arc::clone(&self.family),
            beside: Some(beside),
            account,
            holds: Holds::new(self.clock.now().0),
            process: Mutex::default(),
            meter: Meter::default(),
        }
    }

    /// Whose connection it is, where a server has one for each principal; `None`: of nobody in particular.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        self.beside.as_ref()?.key.principal.as_ref()
    }

    /// How long calls wait for a connection, in milliseconds.
    pub(crate) fn edge_patience_ms(&self) -> u64 {
        let own = self.config.load().timeouts.edge_patience_ms;
        own.unwrap_or_else(|| self.gateway.load().edge_patience_ms)
    }

    /// Whether the server was taken out of the config: nothing will become available here any more.
    pub(crate) fn is_removed(&self) -> bool {
        self.family.removed.load(Ordering::Acquire)
    }

    /// Whether HTTP+SSE is to be tried first.
    pub(crate) fn over_sse(&self) -> bool {
        self.over_sse.load(Ordering::Relaxed)
    }

    /// Remembers which HTTP transport worked.
    pub(crate) fn set_over_sse(&self, over_sse: bool) {
        self.over_sse.store(over_sse, Ordering::Relaxed);
    }

    /// The newest process.
    pub(crate) fn process(&self) -> ProcessFace {
        self.process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A new process took the place.
    pub(crate) fn set_process(&self, pid: u32, stderr: Arc<StderrRing>, fence: Option<String>) {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = ProcessFace {
            pid: Some(pid),
            stderr: Some(stderr),
            fence,
        };
    }

    /// The process of that pid is gone.
    pub(crate) fn clear_process(&self, pid: u32) {
        let mut face = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if face.pid == Some(pid) {
            face.pid = None;
        }
    }
}
