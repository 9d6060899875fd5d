//! Performing effects: each one starts something or flips a level, and none of them waits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use mainstay_core::event::Transition;
use mainstay_core::failure::Failure;
use mainstay_core::fleet::{DeathsTogether, FleetEffect, FleetInput};
use mainstay_core::ids::{Generation, SlotId};
use mainstay_core::lifecycle::effect::{Effect, StopStep};
use mainstay_core::lifecycle::input::{Input, OpenMode, Phase};
use mainstay_core::lifecycle::status::StateWord;
use mainstay_core::time::Time;
use tokio::sync::watch;

use super::opener::{Job, Remains, supervise};
use super::{Driver, Kept};
use crate::calls::Step;
use crate::catalog::unix_ms;
use crate::config::{ServerConfig, Transport};
use crate::events::EventKind;
use crate::runtime::keeper::Orders;
use crate::runtime::report::Reports;
use crate::slot::Slot;

impl Driver {
    /// Performs one effect and says which slot it touched.
    pub(super) fn perform(&mut self, effect: FleetEffect) -> Option<SlotId> {
        match effect {
            FleetEffect::Slot { slot, effect } => {
                let place = self.slots.get(&slot).cloned()?;
                self.perform_on(&place, effect);
                Some(slot)
            }
            FleetEffect::Removed { slot } => {
                self.slot_gone(slot);
                None
            }
            FleetEffect::DiedTogether(deaths) => {
                self.died_together(&deaths);
                None
            }
            FleetEffect::ShutDown => {
                self.ended = true;
                None
            }
        }
    }

    fn perform_on(&mut self, slot: &Arc<Slot>, effect: Effect) {
        match effect {
            // The fleet turns a request into an open when the start gate lets it through.
            Effect::RequestOpen { .. } => {}
            Effect::Open { generation, mode } => self.open(slot, generation, mode),
            Effect::Accept { generation } => {
                let runtime = self
                    .kept
                    .get(&(slot.id, generation))
                    .and_then(|kept| kept.runtime.clone());
                // Law 2: the former one stops taking leases in the same instant.
                if let Some(former) = slot.current.swap(runtime) {
                    former.leases.fence();
                }
            }
            Effect::Fence { generation } => self.fence(slot, generation),
            Effect::Fail {
                generation,
                failure,
            } => self.fail(slot, generation, &failure),
            Effect::Stop { generation, how } => self.stop(slot, generation, how),
            Effect::Publish { generation } => {
                let staged = self
                    .kept
                    .get_mut(&(slot.id, generation))
                    .and_then(|kept| kept.staged.take());
                if let Some(catalog) = staged {
                    self.publish(slot, generation, catalog);
                }
            }
            // Only the shared connection was published.
            Effect::Retract if slot.beside.is_some() => {}
            // Its name belongs to another server by now.
            Effect::Retract if self.directory.is_taken_over(slot) => {}
            Effect::Retract => {
                if let Some(version) = self.setting.publisher.retract(&slot.name) {
                    self.setting
                        .events
                        .emit(&slot.name, 0, EventKind::Retracted { version });
                }
            }
            Effect::Probe { generation, since } => self.with_orders(slot, generation, |orders| {
                orders.probes += 1;
                orders.probe_since_ms = since.0;
            }),
            Effect::FenceIfUnused { generation, since } => {
                self.fence_if_unused(slot, generation, since)
            }
            Effect::CleanupFault {
                generation,
                failure,
            } => {
                slot.counters.cleanup_fault();
                // Below warning on purpose: noise of a stop that was asked for (S-16).
                tracing::debug!(server = %slot.name, generation = generation.0, %failure, "fault while closing");
            }
            Effect::Changed(transition) => self.changed(slot, &transition),
        }
    }

    fn open(&mut self, slot: &Arc<Slot>, generation: Generation, mode: OpenMode) {
        let (orders, receiver) = watch::channel(Orders::default());
        slot.counters.opened();
        slot.newest.store(generation.0, Ordering::Relaxed);
        slot.opened_ms
            .store(self.setting.clock.now().0, Ordering::Relaxed);
        let reports = Reports::new(slot.id, self.report_sender.clone(), self.setting.clock);
        let remains = Remains::default();
        let config = slot.config.load_full();
        let waits = self.is_in_the_way(slot, &config);
        let keeping = if waits {
            until_stopped(receiver).boxed()
        } else {
            self.setting.opener.keep(Job {
                slot: Arc::clone(slot),
                config: Arc::clone(&config),
                generation,
                mode,
                reports: reports.clone(),
                orders: receiver,
                remains: remains.clone(),
            })
        };
        // The keeper's first report comes through the inbox, so it cannot overtake this entry.
        let supervised = supervise(keeping, generation, reports, remains);
        let task = self.keepers.spawn(supervised).id();
        self.kept.insert(
            (slot.id, generation),
            Kept {
                task,
                config,
                waits,
                orders,
                runtime: None,
                staged: None,
            },
        );
    }

    /// Law 2: whether something is left of a server of this name that was removed before, where only one may be there at a
    /// time.
    fn is_in_the_way(&self, slot: &Slot, config: &ServerConfig) -> bool {
        let exclusive = !matches!(config.transport, Transport::Http { .. });
        let mut removed = self.slots.values().filter(|other| other.is_removed());
        exclusive
            && slot.beside.is_none()
            && removed.any(|other| {
                other.beside.is_none() && other.name == slot.name && other.id != slot.id
            })
    }

    /// What was in the way of a server that came back under its name is gone.
    pub(super) fn make_way(&mut self, name: &str) {
        let Some(slot) = self.directory.find(name).map(|place| place.slot) else {
            return;
        };
        let mut kept = self.kept.iter();
        let waits = kept.any(|((of, _), kept)| *of == slot.id && kept.waits);
        if waits && !self.is_in_the_way(&slot, &slot.config.load()) {
            // A generation of its own, so that the interval between two opens counts from the one that is one (law 10).
            self.answers.push_back(FleetInput::Slot {
                slot: slot.id,
                input: Input::Restart,
            });
        }
    }

    fn fence(&mut self, slot: &Slot, generation: Generation) {
        if let Some(runtime) = self
            .kept
            .get(&(slot.id, generation))
            .and_then(|kept| kept.runtime.as_ref())
        {
            runtime.leases.fence();
        }
        if slot
            .current
            .load()
            .as_ref()
            .is_some_and(|runtime| runtime.generation == generation)
        {
            slot.current.store(None);
        }
    }

    fn fail(&mut self, slot: &Slot, generation: Generation, failure: &Failure) {
        if let Some(runtime) = self
            .kept
            .get(&(slot.id, generation))
            .and_then(|kept| kept.runtime.as_ref())
        {
            if let Some(ending) = &mut self.ending {
                ending.cut(runtime.leases.held());
            }
            runtime.fail(failure.clone());
        }
    }

    fn stop(&mut self, slot: &Slot, generation: Generation, how: StopStep) {
        if let Some(ending) = &mut self.ending
            && how == StopStep::Kill
            && !self.sweeping
        {
            ending.killed(slot.id);
        }
        self.with_orders(slot, generation, |orders| {
            orders.stop = Some(how);
            if how == StopStep::Kill {
                orders.kills += 1;
            }
        });
    }

    fn with_orders(&self, slot: &Slot, generation: Generation, change: impl FnOnce(&mut Orders)) {
        if let Some(kept) = self.kept.get(&(slot.id, generation)) {
            kept.orders.send_modify(change);
        }
    }

    fn fence_if_unused(&mut self, slot: &Slot, generation: Generation, since: Time) {
        let Some(runtime) = self
            .kept
            .get(&(slot.id, generation))
            .and_then(|kept| kept.runtime.clone())
        else {
            return;
        };
        let now = self.setting.clock.now();
        let input = match runtime.leases.fence_if_unused(since.0) {
            Ok(()) => {
                self.fence(slot, generation);
                Input::Unused { generation }
            }
            Err(used_ms) => Input::Traffic {
                generation,
                at: used_ms.map_or(now, Time),
            },
        };
        self.answers.push_back(FleetInput::Slot {
            slot: slot.id,
            input,
        });
    }

    /// One record for one cause, whatever it was (F77).
    fn died_together(&self, deaths: &DeathsTogether) {
        // Connections of one server that die together have no riddle in common.
        let names: BTreeSet<String> = deaths
            .slots
            .iter()
            .filter_map(|slot| self.slots.get(slot))
            .map(|slot| slot.name.to_string())
            .collect();
        let servers: Vec<String> = names.into_iter().collect();
        if servers.len() < 2 {
            return;
        }
        let within_ms = deaths.last.since(deaths.first);
        tracing::warn!(
            ?servers,
            within_ms,
            "several servers died together: look for a common cause"
        );
        let Some(first) = servers.first().cloned() else {
            return;
        };
        let kind = EventKind::DiedTogether { servers, within_ms };
        self.setting.events.emit(&first, 0, kind);
    }

    fn changed(&self, slot: &Slot, transition: &Transition) {
        let arrived =
            transition.to == StateWord::Connected && transition.from != StateWord::Connected;
        if arrived && transition.generation.0 > 1 {
            slot.counters.recovered();
        }
        let (from, to) = (transition.from.word(), transition.to.word());
        let cause = transition
            .failure
            .as_ref()
            .map(|failure| failure.kind.word());
        let detail = transition.failure.as_ref().map(ToString::to_string);
        if slot.beside.is_none() {
            slot.ledger.moved(Step {
                at_unix_ms: unix_ms(),
                from,
                to,
                cause,
                detail: detail.clone(),
            });
        }
        // The view is updated after the effects: it still says where the open stood.
        let before = slot.view.borrow().status.phase;
        let phase = before.filter(|_| transition.from == StateWord::Connecting);
        let next_in = transition.next.map(|(at, _why)| slot.clock.ahead(at));
        slot.events.emit(
            &slot.name,
            transition.generation.0,
            EventKind::Transition {
                from,
                to,
                cause,
                detail,
                phase: transition
                    .failure
                    .is_some()
                    .then_some(phase)
                    .flatten()
                    .map(Phase::word),
                next: transition.next.map(|(_at, why)| why.word()),
                next_in_ms: next_in.and_then(|wait| u64::try_from(wait.as_millis()).ok()),
            },
        );
    }
}

/// What stands in for a generation that must not be opened yet: it ends when it is told to.
async fn until_stopped(mut orders: watch::Receiver<Orders>) {
    // A driver that is gone counts as an order.
    let _ = orders.wait_for(|orders| orders.stop.is_some()).await;
}
