//! How everybody but the driver reaches the driver, and finds slots by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mainstay_core::fleet::FleetInput;
use mainstay_core::ids::SlotId;
use mainstay_core::lifecycle::input::Input;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Reload, ShutdownReport, Verb};
use crate::catalog::Catalog;
use crate::config::{Config, ServerConfig};
use crate::error::{OperatorError, Refusal};
use crate::pins::PinBook;
use crate::plan::Plan;
use crate::pool::{Hold, Key, Wanted, Way};
use crate::runtime::report::{Addressed, Reports};
use crate::slot::Slot;

/// A slot and the way to tell the driver about it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) slot: Arc<Slot>,
    pub(crate) reports: Reports,
}

/// All slots by server name. Written by the driver, read by everybody without a lock.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    places: ArcSwap<BTreeMap<Box<str>, Place>>,
    version: watch::Sender<u64>,
}

impl Directory {
    pub(super) fn insert(&self, name: &str, slot: Arc<Slot>, reports: Reports) {
        let mut places = BTreeMap::clone(&self.places.load());
        places.insert(name.into(), Place { slot, reports });
        self.store(places);
    }

    /// For the driver: nothing of the slot exists any more. Another one may have the name by now.
    pub(super) fn remove(&self, name: &str, slot: SlotId) {
        let mut places = BTreeMap::clone(&self.places.load());
        if places.get(name).is_some_and(|place| place.slot.id == slot) {
            places.remove(name);
            self.store(places);
        }
    }

    /// Whether another slot has the name of this one.
    pub(super) fn is_taken_over(&self, slot: &Slot) -> bool {
        let found = self.find(&slot.name);
        found.is_some_and(|place| place.slot.id != slot.id)
    }

    /// The entries of the config that hold now, by name.
    pub(crate) fn configs(&self) -> BTreeMap<String, Arc<ServerConfig>> {
        let places = self.places.load();
        let held = places.values().filter(|place| !place.slot.is_removed());
        held.map(|place| (place.slot.name.to_string(), place.slot.config.load_full()))
            .collect()
    }

    /// Grows whenever a name stands for another slot than before.
    pub(crate) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn store(&self, places: BTreeMap<Box<str>, Place>) {
        self.places.store(Arc::new(places));
        self.version.send_modify(|version| *version += 1);
    }

    /// The slot of a server.
    pub(crate) fn find(&self, name: &str) -> Option<Place> {
        self.places.load().get(name).cloned()
    }

    /// All slots, by name.
    pub(crate) fn all(&self) -> Vec<Place> {
        self.places.load().values().cloned().collect()
    }
}

/// The driver's desk.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    verbs: mpsc::Sender<Verb>,
    ended: watch::Receiver<Option<ShutdownReport>>,
    directory: Arc<Directory>,
    pins: Arc<PinBook>,
    // Kept so that the driver's inbox never closes while somebody holds the desk.
    _reports: mpsc::Sender<Addressed>,
}

impl Desk {
    pub(super) fn new(
        verbs: mpsc::Sender<Verb>,
        ended: watch::Receiver<Option<ShutdownReport>>,
        directory: Arc<Directory>,
        pins: Arc<PinBook>,
        reports: mpsc::Sender<Addressed>,
    ) -> Self {
        Self {
            verbs,
            ended,
            directory,
            pins,
            _reports: reports,
        }
    }

    /// All slots by name.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Adds a server. Returns when it has its slot; its start goes on by itself.
    pub(crate) async fn add(
        &self,
        config: ServerConfig,
        catalog: Option<Arc<Catalog>>,
    ) -> Result<(), OperatorError> {
        self.pins.load(vec![config.name.clone()]).await;
        let (done, added) = oneshot::channel();
        self.send(
            Verb::Add {
                config: Box::new(config),
                catalog,
                done,
            },
            added,
        )
        .await
    }

    /// Asks for a connection of a server, which is opened if there is none. Returns when there is a place for it, held by
    /// the caller; whether it is connected yet is another matter. Has no deadline of its own. Dropping it takes nothing
    /// back: a connection that nobody uses is closed in its time.
    pub(crate) async fn derive(
        &self,
        server: SlotId,
        key: Key,
        way: &Way,
    ) -> Result<Hold, Refusal> {
        let (done, answer) = oneshot::channel();
        let wanted = Verb::Derive(Box::new(Wanted {
            server,
            key,
            info: way.info.clone(),
            wishes: way.wishes.clone(),
            subject: way.subject.clone(),
            done,
        }));
        self.verbs
            .send(wanted)
            .await
            .map_err(|_closed| Refusal::ShuttingDown)?;
        answer.await.unwrap_or(Err(Refusal::ShuttingDown))
    }

    /// Makes a config true; returns what that took when it is in force. A dropped caller does not take it back (law 1).
    pub(crate) async fn reload(
        &self,
        config: Config,
        catalogs: BTreeMap<String, Arc<Catalog>>,
    ) -> Result<Plan, OperatorError> {
        let names = config.servers.iter().map(|server| server.name.clone());
        self.pins.load(names.collect()).await;
        let (done, in_force) = oneshot::channel();
        let reload = Verb::Reload(Box::new(Reload {
            config,
            catalogs,
            done,
        }));
        self.send(reload, in_force).await
    }

    /// Gives an order to one server; returns when it is in force. A dropped caller does not take the order back (law 1).
    pub(crate) async fn order(&self, place: &Place, input: Input) -> Result<(), OperatorError> {
        let (done, in_force) = oneshot::channel();
        self.send(
            Verb::Order {
                slot: place.slot.id,
                input,
                done,
            },
            in_force,
        )
        .await
    }

    /// Has a server's listing shaped anew; returns when what differs is published.
    pub(crate) async fn reshape(&self, place: &Place) -> Result<(), OperatorError> {
        let (done, in_force) = oneshot::channel();
        let slot = place.slot.id;
        self.send(Verb::Reshape { slot, done }, in_force).await
    }

    /// Tells every server what happened to the machine; returns when it is in force.
    pub(crate) async fn machine(&self, input: FleetInput) -> Result<(), OperatorError> {
        let (done, in_force) = oneshot::channel();
        let input = Box::new(input);
        self.send(Verb::Machine { input, done }, in_force).await
    }

    /// Ends everything; returns when nothing is left (law 6), or the time for it is over, and tells how it went.
    pub(crate) async fn shutdown(&self, impatient: bool) -> ShutdownReport {
        // A driver that is gone has nothing left either.
        let _ = self.verbs.send(Verb::Shutdown { impatient }).await;
        let mut ended = self.ended.clone();
        let report = ended.wait_for(Option::is_some).await;
        report
            .ok()
            .and_then(|report| report.clone())
            .unwrap_or_default()
    }

    /// Skips the grace of a shutdown under way. Does not wait.
    pub(crate) fn hurry(&self) {
        // A full queue means that the driver is about to see a shutdown order anyway.
        let _ = self.verbs.try_send(Verb::Shutdown { impatient: true });
    }

    async fn send<T>(&self, verb: Verb, done: oneshot::Receiver<T>) -> Result<T, OperatorError> {
        self.verbs
            .send(verb)
            .await
            .map_err(|_closed| OperatorError::Ended)?;
        done.await.map_err(|_closed| OperatorError::Ended)
    }
}
