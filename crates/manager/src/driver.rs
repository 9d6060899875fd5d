//! The driver: the one task that owns the fleet. It turns messages into inputs, effects into actions, and waits for
//! nothing but its inbox and its clock.
//!
//! Everything that takes time is spawned and comes back as a message, so one server's trouble delays no other (law 27).
//! Orders, reports and deadlines all get their turn, however many there are of the others (law 17).

mod desk;
mod ending;
mod further;
pub(crate) mod opener;
mod perform;
mod reload;
mod shaping;
#[cfg(test)]
mod simulation;
mod wake;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::fleet::{Fleet, FleetEffects, FleetInput, FleetPolicy};
use mainstay_core::ids::{Generation, SlotId};
use mainstay_core::lifecycle::Start;
use mainstay_core::lifecycle::input::Input;
use mainstay_core::lifecycle::status::{StateWord, Status};
use mainstay_core::time::Time;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub(crate) use self::desk::{Desk, Directory, Place};
pub use self::ending::ShutdownReport;
use self::ending::{Due, Ending};
use self::further::Further;
use self::opener::Opener;
use self::reload::Formers;
pub(crate) use self::reload::Reload;
#[cfg(test)]
pub(crate) use self::simulation::a_catalog;
use self::wake::Wake;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::{GatewayConfig, ServerConfig};
use crate::counters::Announcer;
use crate::events::{EventKind, Events};
use crate::pins::PinBook;
use crate::pool::Wanted;
use crate::publish::Publisher;
use crate::runtime::Runtime;
use crate::runtime::era::ERA_AGE_MAX;
use crate::runtime::keeper::Orders;
use crate::runtime::report::{Addressed, Report, Reports};
use crate::settings;
use crate::slot::Slot;
use crate::store::Store;
use crate::wishes::Wishes;

/// Reports waiting for the driver. Each generation has a handful of reporters that wait for room, and the call path only
/// tries; the driver takes microseconds per report, so this is slack for bursts of deaths, not a working depth.
pub(crate) const REPORTS: usize = 1_024;

/// Orders of people waiting for the driver: they come one at a time per caller.
const VERBS: usize = 64;

/// Inputs taken before the driver yields to the other tasks of its thread.
const BATCH: usize = 128;

/// How long the tasks that are left when everything has ended may take to notice it.
const LAST_TASKS: Duration = Duration::from_secs(1);

/// What people (and the config) ask of the driver.
#[derive(Debug)]
pub(crate) enum Verb {
    /// Put a server into the fleet.
    Add {
        config: Box<ServerConfig>,
        catalog: Option<Arc<Catalog>>,
        done: oneshot::Sender<()>,
    },
    /// Make the servers what a config says they are; answered with what that took, when it is in force.
    Reload(Box<Reload>),
    /// An operator's order to one server; answered when it is in force.
    Order {
        slot: SlotId,
        input: Input,
        done: oneshot::Sender<()>,
    },
    /// What is shown of a server's listing may have changed; answered when it is published.
    Reshape {
        slot: SlotId,
        done: oneshot::Sender<()>,
    },
    /// A call needs a connection of its own kind; answered with a hold on it.
    Derive(Box<Wanted>),
    /// Something happened to the whole machine; answered when every server has heard of it.
    Machine {
        input: Box<FleetInput>,
        done: oneshot::Sender<()>,
    },
    /// End everything.
    Shutdown { impatient: bool },
}

/// One generation as the driver knows it.
struct Kept {
    task: tokio::task::Id,
    /// What it was opened by.
    config: Arc<ServerConfig>,
    /// It only holds the place, until nothing is left of a former server of that name.
    waits: bool,
    orders: watch::Sender<Orders>,
    runtime: Option<Arc<Runtime>>,
    staged: Option<Arc<Catalog>>,
}

/// What the driver needs from the outside.
pub(crate) struct Setting {
    pub(crate) clock: Clock,
    pub(crate) start_gate: usize,
    /// The settings of Mainstay itself that hold now. Written by the driver only.
    pub(crate) gateway: Arc<ArcSwap<GatewayConfig>>,
    pub(crate) seed: u64,
    pub(crate) subscriptions_max: usize,
    /// The limits of the config.
    pub(crate) caps: crate::config::Limits,
    pub(crate) opener: Box<dyn Opener>,
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) events: Arc<Events>,
    pub(crate) publisher: Publisher,
}

/// The one owner of the fleet.
pub(crate) struct Driver {
    setting: Setting,
    fleet: Fleet,
    wake: Wake,
    slots: BTreeMap<SlotId, Arc<Slot>>,
    directory: Arc<Directory>,
    kept: BTreeMap<(SlotId, Generation), Kept>,
    keepers: JoinSet<()>,
    reports: mpsc::Receiver<Addressed>,
    report_sender: mpsc::Sender<Addressed>,
    /// Answers of the driver's own to what the fleet asked; they must not queue behind anything.
    answers: VecDeque<FleetInput>,
    /// Catalogs on their way to the disk.
    writes: TaskTracker,
    next_slot: u32,
    further: Further,
    former: Formers,
    /// What was approved of the servers' tools.
    pins: Arc<PinBook>,
    /// The leader of the generation that is being stepped is dead: a kill only sweeps what it left.
    sweeping: bool,
    ending: Option<Ending>,
    /// Slots of which something is left although the time is over.
    left: Vec<SlotId>,
    ended: bool,
    shut_down: watch::Sender<Option<ShutdownReport>>,
}

impl Driver {
    /// Starts the driver as a task. The desk is how everybody else talks to it.
    pub(crate) fn start(setting: Setting) -> Desk {
        let (verb_sender, verbs) = mpsc::channel(VERBS);
        let (report_sender, reports) = mpsc::channel(REPORTS);
        let (shut_down, ended) = watch::channel(None);
        let directory = Arc::new(Directory::default());
        let dir = setting.store.as_ref().map(|store| store.dir().to_owned());
        let pins = Arc::new(PinBook::new(dir));
        let desk = Desk::new(
            verb_sender,
            ended,
            Arc::clone(&directory),
            Arc::clone(&pins),
            report_sender.clone(),
        );
        let driver = Self {
            fleet: Fleet::new(FleetPolicy {
                start_gate: setting.start_gate,
                seed: setting.seed,
            }),
            setting,
            wake: Wake::start(),
            slots: BTreeMap::new(),
            directory,
            kept: BTreeMap::new(),
            keepers: JoinSet::new(),
            reports,
            report_sender,
            answers: VecDeque::new(),
            writes: TaskTracker::new(),
            next_slot: 0,
            further: Further::default(),
            former: Formers::default(),
            pins,
            sweeping: false,
            ending: None,
            left: Vec::new(),
            ended: false,
            shut_down,
        };
        tokio::spawn(driver.run(verbs));
        desk
    }

    async fn run(mut self, mut verbs: mpsc::Receiver<Verb>) {
        let mut effects = FleetEffects::new();
        let mut taken = 0;
        let mut verbs_open = true;
        loop {
            // Law 17: what is due does not queue behind the inbox. One turn of the clock per message, so that neither
            // starves the other.
            self.pass_time(&mut effects);
            if self.ended {
                break;
            }
            let deadline = self.deadline();
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
                verb = verbs.recv(), if verbs_open => {
                    match verb {
                        Some(verb) => self.verb(verb, &mut effects),
                        // Nobody can ask for anything any more: the last handle is gone, and so must the servers be.
                        None => {
                            verbs_open = false;
                            self.shut_down(false, &mut effects);
                        }
                    }
                    // Nor must a report queue behind a storm of orders: each of them lets one pass.
                    if let Some(ended) = self.keepers.try_join_next() {
                        self.keeper_ended(ended, &mut effects);
                    }
                    if let Ok(addressed) = self.reports.try_recv() {
                        self.report(addressed, &mut effects);
                    }
                },
                // Cancel-safe: a joined keeper is removed only when it is returned.
                Some(ended) = self.keepers.join_next() => self.keeper_ended(ended, &mut effects),
                // Cancel-safe: an unread report stays queued.
                Some(addressed) = self.reports.recv() => self.report(addressed, &mut effects),
                // Cancel-safe: the readiness stays. The step itself looks whether the machine slept.
                () = self.wake.noticed() => self.step(FleetInput::Timeout, &mut effects),
                // Cancel-safe: a sleep holds nothing. What is due is done at the top.
                () = timer => {}
            }
            taken += 1;
            if taken % BATCH == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.leave().await;
    }

    /// When the clock has something to say next.
    fn deadline(&self) -> Option<Instant> {
        let next = self.fleet.next_deadline();
        let fleet = next.map(|(at, _slot, _why)| self.setting.clock.instant(at));
        let ending = self.ending.as_ref().map(Ending::deadline);
        let further = self.further.deadline();
        let further = further.map(|at| self.setting.clock.instant(at));
        fleet.into_iter().chain(ending).chain(further).min()
    }

    /// Does what is due, if something is.
    fn pass_time(&mut self, effects: &mut FleetEffects) {
        if self.deadline().is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.step(FleetInput::Timeout, effects);
        self.close_unused(effects);
        match self.ending.as_ref().map_or(Due::Nothing, Ending::due) {
            Due::Nothing => {}
            Due::Kill => self.shut_down(true, effects),
            Due::GiveUp => self.ended = true,
        }
    }

    /// Begins to end everything, or skips what is left of the grace.
    fn shut_down(&mut self, impatient: bool, effects: &mut FleetEffects) {
        if self.ending.is_none() {
            let runtimes = self.kept.values().filter_map(|kept| kept.runtime.as_ref());
            let calls = runtimes.map(|runtime| runtime.leases.held()).sum();
            self.ending = Some(Ending::begin(
                self.setting.gateway.load().shutdown_ms,
                calls,
            ));
            for slot in self.slots.values() {
                // First of all, so that whoever finds the server gone is told why (F222): calls that look for a
                // connection, and calls that wait for their turn.
                slot.view.send_modify(|view| view.shutting_down = true);
                slot.admission.close();
                slot.family.accounts.close();
            }
            self.end_further();
        }
        if let Some(ending) = self.ending.as_mut().filter(|_| impatient) {
            ending.hurry();
        }
        self.step(FleetInput::Shutdown { impatient }, effects);
    }

    /// Everything has ended, or the time is over: nothing of ours stays behind (law 6).
    async fn leave(mut self) {
        for ((slot, _), kept) in std::mem::take(&mut self.kept) {
            // Only when time ran out: then its calls end here, whatever the connection does.
            if let Some(runtime) = kept.runtime {
                runtime.leases.fence();
                runtime.fail(FailureKind::Stopped.into());
            }
            if let Some(slot) = self.slots.get(&slot) {
                tracing::error!(server = %slot.name, "the time for the shutdown is over and the server is not gone");
                slot.current.store(None);
                self.left.push(slot.id);
            }
        }
        self.writes.close();
        let tasks = async {
            self.keepers.shutdown().await;
            self.writes.wait().await;
        };
        // Tasks end at their next await and a write takes as long as the disk takes: neither may hold us for long.
        if tokio::time::timeout(LAST_TASKS, tasks).await.is_err() {
            tracing::warn!("a task did not end; leaving without it");
        }
        let name = |id| self.slots.get(&id).map(|slot| slot.name.to_string());
        let report = self
            .ending
            .as_ref()
            .map(|ending| ending.report(self.left.iter().copied(), name));
        self.shut_down
            .send_replace(Some(report.unwrap_or_default()));
    }

    fn verb(&mut self, verb: Verb, effects: &mut FleetEffects) {
        match verb {
            Verb::Add {
                config,
                catalog,
                done,
            } => {
                // Too late is told by letting go of `done`.
                if self.ending.is_none() {
                    self.add(*config, catalog, effects);
                    // The caller may have left; the server stays.
                    let _ = done.send(());
                }
            }
            Verb::Reload(reload) => {
                // Too late is told by letting go of `done`.
                if self.ending.is_none() {
                    let plan = self.reload(reload.config, reload.catalogs, effects);
                    // The caller may have left; what was loaded stays.
                    let _ = reload.done.send(plan);
                }
            }
            Verb::Order { slot, input, done } => {
                self.order(slot, input, effects);
                // The caller may have left; the order stands.
                let _ = done.send(());
            }
            Verb::Reshape { slot, done } => {
                self.reshape(slot);
                // The caller may have left; what is shown has changed.
                let _ = done.send(());
            }
            Verb::Derive(wanted) => self.derive(*wanted, effects),
            Verb::Machine { input, done } => {
                self.step(*input, effects);
                // The caller may have left; what happened to the machine has happened.
                let _ = done.send(());
            }
            Verb::Shutdown { impatient } => self.shut_down(impatient, effects),
        }
    }

    fn order(&mut self, slot: SlotId, input: Input, effects: &mut FleetEffects) {
        let ordered = input.clone();
        self.switch(slot, &ordered);
        self.step(FleetInput::Slot { slot, input }, effects);
        self.order_further(slot, &ordered, effects);
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
        let wishes = self.former.wishes(&name);
        let open_interval_ms = config.restart.open_interval_ms;
        let pins = self.pins.of(&name);
        let slot = Arc::new(
            Slot::new(
                id,
                config,
                Arc::clone(&self.setting.gateway),
                // Whoever holds a handle of a server of that name that was there before wishes the same of this one (law 20).
                wishes.unwrap_or_else(|| Arc::new(Wishes::new(self.setting.subscriptions_max))),
                Arc::clone(&self.setting.events),
                self.setting.clock,
                blank,
            )
            .with_pins(pins)
            .with_published(self.setting.publisher.shared()),
        );
        slot.counters.announce_to(Announcer {
            server: Arc::clone(&slot.name),
            events: Arc::clone(&self.setting.events),
            noise_lines: u64::try_from(self.setting.caps.noise_lines).unwrap_or(u64::MAX),
        });
        let reports = Reports::new(id, self.report_sender.clone(), self.setting.clock);
        self.slots.insert(id, Arc::clone(&slot));
        if let (Some(catalog), Start::Enabled) = (catalog, start) {
            let age_ms = crate::catalog::unix_ms().saturating_sub(catalog.listed_at_unix_ms);
            if Duration::from_millis(age_ms) < ERA_AGE_MAX {
                slot.era.set(Some(catalog.greeting.revision.era()));
            }
            slot.set_over_sse(catalog.over_sse);
            // Law 22: the last good catalog is served before the server is up.
            self.publish(&slot, Generation::default(), catalog);
        }
        self.step(
            FleetInput::Add {
                slot: id,
                name: name.clone(),
                policy,
                start,
                after: self.former.after(&name, open_interval_ms),
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
                self.open_kept(slot, effects);
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

    /// A keeper's task has ended. It has reported everything itself, panics included: this is for the case that even its
    /// supervision failed. One server must not take the rest down, so its generation is treated as gone.
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
            let failure = Failure::new(FailureKind::Internal);
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
        // Before anything else that happens after a sleep (law 12).
        let mut woke = self.wake.slept_ms().map(|asleep_ms| {
            tracing::info!(asleep_ms, "the machine slept");
            FleetInput::Woke { asleep_ms }
        });
        let mut next = Some(input);
        let mut touched = Vec::new();
        while let Some(input) = woke
            .take()
            .or_else(|| next.take())
            .or_else(|| self.answers.pop_front())
        {
            self.sweeping = matches!(
                &input,
                FleetInput::Slot {
                    input: Input::Exited { .. },
                    ..
                }
            );
            let now = self.setting.clock.now();
            // An input can change what people see without any effect: a proof of health takes the charges away.
            touched.extend(self.concerned(&input, now));
            self.fleet.step(now, input, effects);
            for effect in effects.drain().collect::<Vec<_>>() {
                touched.extend(self.perform(effect));
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for slot in touched {
            self.show(slot);
        }
        self.serve_places(effects);
    }

    /// A replacement that could not be opened changes no state, and people must hear of it all the same.
    fn tell_failed_replacement(&self, slot: &Slot, status: &Status) {
        let before = slot.view.borrow().status.clone();
        let serves_on = status.state == StateWord::Connected
            && before.state == StateWord::Connected
            && before.generation == status.generation;
        let (Some(tried), None) = (before.marks.successor, status.marks.successor) else {
            return;
        };
        if let (true, Some(failure)) = (serves_on, &status.cause) {
            let next = status.next_attempt.map(|at| slot.clock.ahead(at));
            let kind = EventKind::ReplacementFailed {
                cause: failure.kind.word(),
                detail: failure.to_string(),
                next_in_ms: next.and_then(|wait| u64::try_from(wait.as_millis()).ok()),
            };
            slot.events.emit(&slot.name, tried.0, kind);
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
            FleetInput::Woke { .. } | FleetInput::NetworkChanged | FleetInput::Shutdown { .. } => {
                self.slots.keys().copied().collect()
            }
        }
    }

    /// Shows a slot's lifecycle to observers. After the effects, so that whoever sees "connected" finds a generation.
    fn show(&self, id: SlotId) {
        let (Some(slot), Some(status)) = (self.slots.get(&id), self.fleet.status(id)) else {
            return;
        };
        let now = self.setting.clock.now();
        self.tell_failed_replacement(slot, &status);
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
