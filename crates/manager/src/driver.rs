//! The driver: the one task that owns the fleet. It turns messages into inputs, effects into actions, and waits for
//! nothing but its inbox and its clock.
//!
//! Everything that takes time is spawned and comes back as a message, so one server's trouble delays no other (law 27).

mod desk;
pub(crate) mod opener;
mod perform;

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_core::fleet::{Fleet, FleetEffects, FleetInput, FleetPolicy};
use mainstay_core::ids::{Generation, SlotId};
use mainstay_core::lifecycle::Start;
use mainstay_core::lifecycle::input::Input;
use mainstay_core::lifecycle::status::StateWord;
use mainstay_core::time::Time;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

pub(crate) use self::desk::{Desk, Directory, Place};
use self::opener::Opener;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::ServerConfig;
use crate::events::Events;
use crate::publish::Publisher;
use crate::runtime::Runtime;
use crate::runtime::keeper::Orders;
use crate::runtime::report::{Addressed, Report, Reports};
use crate::settings;
use crate::slot::Slot;
use crate::store::Store;

/// Reports waiting for the driver. Each generation has a handful of reporters that wait for room, and the call path only
/// tries; the driver takes microseconds per report, so this is slack for bursts of deaths, not a working depth.
pub(crate) const REPORTS: usize = 1_024;

/// Orders of people waiting for the driver: they come one at a time per caller.
const VERBS: usize = 64;

/// Inputs taken before the driver yields to the other tasks of its thread.
const BATCH: usize = 128;

/// What people (and the config) ask of the driver.
#[derive(Debug)]
pub(crate) enum Verb {
    /// Put a server into the fleet.
    Add {
        config: Box<ServerConfig>,
        catalog: Option<Arc<Catalog>>,
        done: oneshot::Sender<()>,
    },
    /// An operator's order to one server; answered when it is in force.
    Order {
        slot: SlotId,
        input: Input,
        done: oneshot::Sender<()>,
    },
    /// End everything.
    Shutdown { impatient: bool },
}

/// One generation as the driver knows it.
struct Kept {
    task: tokio::task::Id,
    orders: watch::Sender<Orders>,
    runtime: Option<Arc<Runtime>>,
    staged: Option<Arc<Catalog>>,
}

/// What the driver needs from the outside.
pub(crate) struct Setting {
    pub(crate) clock: Clock,
    pub(crate) start_gate: usize,
    pub(crate) edge_patience_ms: u64,
    pub(crate) seed: u64,
    pub(crate) opener: Box<dyn Opener>,
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) events: Arc<Events>,
    pub(crate) publisher: Publisher,
}

/// The one owner of the fleet.
pub(crate) struct Driver {
    setting: Setting,
    fleet: Fleet,
    slots: BTreeMap<SlotId, Arc<Slot>>,
    directory: Arc<Directory>,
    kept: BTreeMap<(SlotId, Generation), Kept>,
    keepers: JoinSet<()>,
    reports: mpsc::Receiver<Addressed>,
    report_sender: mpsc::Sender<Addressed>,
    next_slot: u32,
    shut_down: watch::Sender<bool>,
}

impl Driver {
    /// Starts the driver as a task. The desk is how everybody else talks to it.
    pub(crate) fn start(setting: Setting) -> Desk {
        let (verb_sender, verbs) = mpsc::channel(VERBS);
        let (report_sender, reports) = mpsc::channel(REPORTS);
        let (shut_down, ended) = watch::channel(false);
        let directory = Arc::new(Directory::default());
        let desk = Desk::new(
            verb_sender,
            ended,
            Arc::clone(&directory),
            report_sender.clone(),
        );
        let driver = Self {
            fleet: Fleet::new(FleetPolicy {
                start_gate: setting.start_gate,
                seed: setting.seed,
            }),
            setting,
            slots: BTreeMap::new(),
            directory,
            kept: BTreeMap::new(),
            keepers: JoinSet::new(),
            reports,
            report_sender,
            next_slot: 0,
            shut_down,
        };
        tokio::spawn(driver.run(verbs));
        desk
    }

    async fn run(mut self, mut verbs: mpsc::Receiver<Verb>) {
        let mut effects = FleetEffects::new();
        let mut taken = 0;
        let mut verbs_open = true;
        while !*self.shut_down.borrow() {
            let deadline = self
                .fleet
                .next_deadline()
                .map(|(at, _slot, _why)| self.setting.clock.instant(at));
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // People first: a disable must not queue behind a storm of reports (law 5).
                biased;
                // Cancel-safe: an unread verb stays queued.
                verb = verbs.recv(), if verbs_open => match verb {
                    Some(verb) => self.verb(verb, &mut effects),
                    // Nobody can ask for anything any more: the last handle is gone, and so must the servers be.
                    None => {
                        verbs_open = false;
                        self.step(FleetInput::Shutdown { impatient: false }, &mut effects);
                    }
                },
                // Cancel-safe: a joined keeper is removed only when it is returned.
                Some(ended) = self.keepers.join_next() => self.keeper_ended(ended, &mut effects),
                // Cancel-safe: an unread report stays queued.
                Some(addressed) = self.reports.recv() => self.report(addressed, &mut effects),
                // Cancel-safe: a sleep holds nothing.
                () = timer => self.step(FleetInput::Timeout, &mut effects),
            }
            taken += 1;
            if taken % BATCH == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn verb(&mut self, verb: Verb, effects: &mut FleetEffects) {
        match verb {
            Verb::Add {
                config,
                catalog,
                done,
            } => {
                self.add(*config, catalog, effects);
                let _ = done.send(());
            }
            Verb::Order { slot, input, done } => {
                self.step(FleetInput::Slot { slot, input }, effects);
                // The caller may have left; the order stands.
                let _ = done.send(());
            }
            Verb::Shutdown { impatient } => {
                for slot in self.slots.values() {
                    slot.view.send_modify(|view| view.shutting_down = true);
                }
                self.step(FleetInput::Shutdown { impatient }, effects);
            }
        }
    }

    fn add(
        &mut self,
        config: ServerConfig,
        catalog: Option<Arc<Catalog>>,
        effects: &mut FleetEffects,
    ) {
        let id = SlotId(self.next_slot);
        self.next_slot += 1;
        let start = if config.enabled {
            Start::Enabled
        } else {
            Start::Disabled
        };
        let policy = settings::policy(&config);
        let name: Box<str> = config.name.as_str().into();
        // The view is filled in by the first refresh below; a disabled slot of generation zero is the honest blank.
        let blank = mainstay_core::lifecycle::Lifecycle::new(0, Start::Disabled)
            .status(self.setting.clock.now());
        let slot = Arc::new(Slot::new(
            id,
            config,
            self.setting.edge_patience_ms,
            self.setting.clock,
            blank,
        ));
        let reports = Reports::new(id, self.report_sender.clone(), self.setting.clock);
        self.slots.insert(id, Arc::clone(&slot));
        if let (Some(catalog), Start::Enabled) = (catalog, start) {
            slot.era.set(Some(catalog.greeting.revision.era()));
            slot.catalog.store(Some(Arc::clone(&catalog)));
            // Law 22: the last good catalog is served before the server is up.
            self.publish(&slot, Generation::default(), catalog);
        }
        self.step(
            FleetInput::Add {
                slot: id,
                name: name.clone(),
                policy,
                start,
            },
            effects,
        );
        self.directory.insert(&name, slot, reports);
        self.step(
            FleetInput::Slot {
                slot: id,
                input: Input::Start,
            },
            effects,
        );
    }

    fn report(&mut self, addressed: Addressed, effects: &mut FleetEffects) {
        let Addressed { slot, report } = addressed;
        match report {
            Report::Input(input) => {
                let gone = if matches!(input, Input::Gone { .. }) {
                    input.generation()
                } else {
                    None
                };
                self.step(FleetInput::Slot { slot, input }, effects);
                if let Some(generation) = gone {
                    self.kept.remove(&(slot, generation));
                }
            }
            Report::Opened {
                generation,
                runtime,
                catalog,
            } => {
                if let Some(kept) = self.kept.get_mut(&(slot, generation)) {
                    kept.runtime = Some(runtime);
                    kept.staged = catalog;
                }
                self.step(
                    FleetInput::Slot {
                        slot,
                        input: Input::Opened { generation },
                    },
                    effects,
                );
            }
            Report::Listed {
                generation,
                catalog,
            } => {
                let Some(place) = self.slots.get(&slot).cloned() else {
                    return;
                };
                // Law 3: only the generation that serves may say what the server offers.
                let current = place
                    .current
                    .load()
                    .as_ref()
                    .map(|runtime| runtime.generation);
                if current == Some(generation) {
                    self.publish(&place, generation, catalog);
                } else {
                    place.counters.stale();
                }
            }
        }
    }

    /// A keeper's task has ended. It has reported `Gone` itself, unless it panicked: then nothing of it is left either,
    /// because whatever it owned was dropped with it, and one server must not take the rest down.
    fn keeper_ended(
        &mut self,
        ended: Result<(), tokio::task::JoinError>,
        effects: &mut FleetEffects,
    ) {
        let Err(error) = ended else { return };
        tracing::error!(%error, "a keeper task failed; its server is treated as gone");
        // Only the one that failed: another keeper may have just ended well, with its own reports still on their way.
        let failed = self
            .kept
            .iter()
            .find(|(_, kept)| kept.task == error.id())
            .map(|(key, _)| *key);
        if let Some((slot, generation)) = failed {
            let failure =
                mainstay_core::failure::Failure::new(mainstay_core::failure::FailureKind::Internal);
            if let Some(runtime) = self
                .kept
                .get(&(slot, generation))
                .and_then(|kept| kept.runtime.clone())
            {
                runtime.fail(failure.clone());
            }
            self.step(
                FleetInput::Slot {
                    slot,
                    input: Input::OpenFailed {
                        generation,
                        failure: failure.clone(),
                    },
                },
                effects,
            );
            self.step(
                FleetInput::Slot {
                    slot,
                    input: Input::Exited {
                        generation,
                        failure,
                    },
                },
                effects,
            );
            self.step(
                FleetInput::Slot {
                    slot,
                    input: Input::Gone { generation },
                },
                effects,
            );
            self.kept.remove(&(slot, generation));
        }
    }

    /// Lets the fleet decide, does what it decided, and shows the result to observers.
    fn step(&mut self, input: FleetInput, effects: &mut FleetEffects) {
        let now = self.setting.clock.now();
        // An input can change what people see without any effect: a proof of health takes the charges away.
        let mut touched = self.concerned(&input, now);
        self.fleet.step(now, input, effects);
        let decided: Vec<_> = effects.drain().collect();
        for effect in decided {
            if let Some(slot) = self.perform(effect)
                && !touched.contains(&slot)
            {
                touched.push(slot);
            }
        }
        for slot in touched {
            self.show(slot);
        }
    }

    /// The slots that an input is about. Others may be touched by what it leads to.
    fn concerned(&self, input: &FleetInput, now: Time) -> Vec<SlotId> {
        match input {
            FleetInput::Add { slot, .. }
            | FleetInput::Patch { slot, .. }
            | FleetInput::Replace { slot, .. }
            | FleetInput::Remove { slot }
            | FleetInput::Slot { slot, .. } => vec![*slot],
            FleetInput::Timeout => self.fleet.due(now).collect(),
            FleetInput::Shutdown { .. } => self.slots.keys().copied().collect(),
        }
    }

    /// Shows a slot's lifecycle to observers. After the effects, so that whoever sees "connected" finds a generation.
    fn show(&self, id: SlotId) {
        let (Some(slot), Some(status)) = (self.slots.get(&id), self.fleet.status(id)) else {
            return;
        };
        let now = self.setting.clock.now();
        slot.view.send_if_modified(|view| {
            let mut changed = view.status != status;
            if let Some(cause) = &status.cause {
                // Outside the states that a failure leads to the cause is history, unless it is news: a planned replacement
                // that fails leaves the old connection serving, and people must still hear of it.
                let is_news = view
                    .last_failure
                    .as_ref()
                    .is_none_or(|(last, _)| last != cause);
                let is_why = matches!(
                    status.state,
                    StateWord::Draining | StateWord::Backoff | StateWord::Parked
                );
                if is_why {
                    view.last_failure = Some((cause.clone(), status.since));
                } else if is_news {
                    view.last_failure = Some((cause.clone(), now));
                    changed = true;
                }
            }
            view.status = status;
            changed
        });
    }
}
