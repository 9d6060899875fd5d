//! A changed config: compared with what runs, and made true, in one turn of the driver.
//!
//! One turn, so that two reloads never overlap and the later one wins (F219). Nothing here waits: servers drain, open and go
//! by the fleet's own rules.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use mainstay_core::fleet::{FleetEffects, FleetInput};
use mainstay_core::ids::{Generation, SlotId};
use mainstay_core::lifecycle::Former;
use mainstay_core::lifecycle::input::Input;
use mainstay_core::time::Time;
use tokio::sync::oneshot;

use super::Driver;
use crate::catalog::Catalog;
use crate::config::{Config, ServerConfig};
use crate::events::EventKind;
use crate::plan::{self, Plan};
use crate::settings;
use crate::slot::Slot;
use crate::wishes::Wishes;

/// A config to be made true.
#[derive(Debug)]
pub(crate) struct Reload {
    pub(crate) config: Config,
    /// What is remembered of servers that may be new.
    pub(crate) catalogs: BTreeMap<String, Arc<Catalog>>,
    pub(crate) done: oneshot::Sender<Plan>,
}

/// What servers that were removed leave to those that come back under their names.
#[derive(Debug, Default)]
pub(super) struct Formers(BTreeMap<Box<str>, Left>);

#[derive(Debug)]
struct Left {
    /// Kept by whoever still holds a handle.
    wishes: Weak<Wishes>,
    newest: Generation,
    opened_ms: u64,
}

/// How many are remembered: as many as a config may have servers.
const FORMERS_MAX: usize = 1_000;

impl Formers {
    fn leave(&mut self, slot: &Arc<Slot>) {
        if self.0.len() >= FORMERS_MAX {
            self.0.retain(|_, left| left.wishes.strong_count() > 0);
        }
        if self.0.len() >= FORMERS_MAX {
            self.0.pop_first();
        }
        let mut left = Left {
            wishes: Arc::downgrade(&slot.wishes),
            newest: Generation(slot.newest.load(Ordering::Relaxed)),
            opened_ms: slot.opened_ms.load(Ordering::Relaxed),
        };
        // One that was never opened leaves what it took over.
        if let Some(before) = self.0.get(&*slot.name) {
            left.newest = left.newest.max(before.newest);
            left.opened_ms = left.opened_ms.max(before.opened_ms);
        }
        self.0.insert(slot.name.as_ref().into(), left);
    }

    /// What was wished for a server of that name by those who still hold its handle.
    pub(super) fn wishes(&self, name: &str) -> Option<Arc<Wishes>> {
        self.0.get(name)?.wishes.upgrade()
    }

    /// What the lifecycle of a server of that name goes on from.
    pub(super) fn after(&self, name: &str, open_interval_ms: u64) -> Option<Former> {
        let left = self.0.get(name)?;
        let never = left.newest == Generation::NONE;
        (!never).then(|| Former {
            newest: left.newest,
            open_not_before: Time(left.opened_ms) + open_interval_ms,
        })
    }
}

impl Driver {
    /// Makes a config true: what goes first, then what changes, then what comes.
    pub(super) fn reload(
        &mut self,
        config: Config,
        mut catalogs: BTreeMap<String, Arc<Catalog>>,
        effects: &mut FleetEffects,
    ) -> Plan {
        let plan = plan::of(
            &self.directory.configs(),
            &self.setting.gateway.load(),
            &config,
        );
        let gateway = self.setting.gateway.load().with_live(&config.gateway);
        self.setting.gateway.store(Arc::new(gateway));
        for name in &plan.remove {
            self.remove(name, effects);
        }
        let mut wanted: BTreeMap<String, ServerConfig> = config
            .servers
            .into_iter()
            .map(|server| (server.name.clone(), server))
            .collect();
        for (names, anew) in [(&plan.replace, true), (&plan.patch, false)] {
            for config in names.iter().filter_map(|name| wanted.remove(name)) {
                self.change(config, anew, effects);
            }
        }
        for config in plan.add.iter().filter_map(|name| wanted.remove(name)) {
            let catalog = catalogs.remove(&config.name);
            let name: Box<str> = config.name.as_str().into();
            self.add(config, catalog, effects);
            self.told(&name, "added", Vec::new());
        }
        // Profiles, and who has a connection of its own, are a part of what clients see.
        self.setting.publisher.own_changed();
        plan
    }

    /// Unpublished and refusing when this returns; what is left of it goes in its own time.
    fn remove(&mut self, name: &str, effects: &mut FleetEffects) {
        let Some(slot) = self.directory.find(name).map(|place| place.slot) else {
            return;
        };
        // First of all, so that whoever finds it gone is told why: calls that look for a connection, and calls that wait
        // for their turn.
        slot.family.removed.store(true, Ordering::Release);
        slot.family.off.store(true, Ordering::Release);
        slot.admission.close();
        slot.family.accounts.close();
        for further in self.further_of(slot.id) {
            further.view.send_modify(|_| {});
            self.dismiss(&further, effects);
        }
        slot.view.send_modify(|_| {});
        self.refuse_waiting(slot.id, crate::call::gone);
        self.told(name, "removed", Vec::new());
        self.former.leave(&slot);
        self.step(FleetInput::Remove { slot: slot.id }, effects);
    }

    /// A server's entry differs: `anew` if its connection does.
    fn change(&mut self, config: ServerConfig, anew: bool, effects: &mut FleetEffects) {
        let Some(slot) = self.directory.find(&config.name).map(|place| place.slot) else {
            return;
        };
        let before = slot.config.load_full();
        let (was_enabled, enabled) = (before.enabled, config.enabled);
        let name = Arc::clone(&slot.name);
        let what = plan::differences(&before, &config);
        self.told(&name, if anew { "replaced" } else { "patched" }, what);
        slot.admission.resize(config.concurrency);
        slot.gates.set(config.guard.asks);
        let share = config.connections.calls_of_one(config.concurrency);
        slot.family.accounts.resize(share);
        if anew {
            // Whatever it was found to be, it may be something else now.
            slot.era.set(None);
            slot.set_over_sse(false);
            slot.family.modern_only.store(false, Ordering::Relaxed);
        }
        let config = Arc::new(config);
        let all = std::iter::once(Arc::clone(&slot)).chain(self.further_of(slot.id));
        for one in all.collect::<Vec<_>>() {
            one.events.hidden().cover(&config);
            one.config.store(Arc::clone(&config));
            if was_enabled && !enabled {
                // It is about to go, and opens nothing before.
                continue;
            }
            self.step(changed(&one, &config, anew), effects);
        }
        // Before it goes: what is disabled is not shown anyway.
        self.reshape(slot.id);
        if was_enabled != enabled {
            let order = if enabled {
                Input::Enable
            } else {
                Input::Disable
            };
            self.order(slot.id, order, effects);
            if !enabled {
                // Only now, so that nothing was opened for it: what comes after is under the new policy.
                self.step(changed(&slot, &config, anew), effects);
            }
        }
        if !anew && slot.current.load().is_some() {
            // What is to stand ready may be more than before. A new connection opens what it needs itself.
            self.open_kept(slot.id, effects);
        }
        // What is known of it is shown as the new entry has it, whether or not it is connected anew (F214).
        self.reshape(slot.id);
    }

    /// Everybody hears what the config did to a server.
    fn told(&self, name: &str, how: &'static str, what: Vec<&'static str>) {
        let kind = EventKind::ConfigChanged { how, what };
        self.setting.events.emit(name, 0, kind);
    }

    /// Nothing of a slot exists any more.
    pub(super) fn slot_gone(&mut self, id: SlotId) {
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        self.further_gone(&slot);
        if slot.beside.is_none() {
            self.directory.remove(&slot.name, id);
            self.further_ended(id);
            self.make_way(&slot.name);
        }
    }
}

/// What the fleet is told of a changed entry.
fn changed(slot: &Slot, config: &ServerConfig, anew: bool) -> FleetInput {
    let mut policy = settings::policy(config);
    if slot.beside.is_some() {
        settings::of_further(&mut policy);
    }
    let slot = slot.id;
    if anew {
        FleetInput::Replace { slot, policy }
    } else {
        FleetInput::Patch { slot, policy }
    }
}
