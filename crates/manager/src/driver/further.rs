//! The further connections of servers: opened when a call asks for one, closed when nobody used it for a while, and never
//! without their server.
//!
//! Each is a slot of the fleet like every other: what is decided here is only when it comes and when it goes. A place is
//! free again when nothing of its former holder exists any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mainstay_core::fleet::{FleetEffects, FleetInput};
use mainstay_core::ids::SlotId;
use mainstay_core::lifecycle::input::Input;
use mainstay_core::lifecycle::status::StateWord;
use mainstay_core::lifecycle::{Lifecycle, Start};
use mainstay_core::time::Time;
use mainstay_wire::revision::Era;
use tokio::sync::oneshot;

use super::{Driver, Place};
use crate::auth::Subject;
use crate::catalog::unix_ms;
use crate::error::Refusal;
use crate::pool::{Beside, Declared, Hold, Key, Ledger, Wanted, too_many};
use crate::principal::Principal;
use crate::request::ClientFace;
use crate::runtime::report::Reports;
use crate::settings;
use crate::slot::Slot;
use crate::wishes::Wishes;

/// Where the answer goes to.
type Done = oneshot::Sender<Result<Hold, Refusal>>;

/// One who waits for a place.
#[derive(Debug)]
pub(super) struct Waiting {
    info: Option<Box<str>>,
    wishes: Option<Arc<Wishes>>,
    subject: Option<Subject>,
    done: Done,
}

/// The further connections of all servers.
#[derive(Debug, Default)]
pub(super) struct Further {
    servers: BTreeMap<SlotId, Ledger<Waiting>>,
    /// When to look whether a connection is still used. One entry for each that is not on its way out.
    looks: BTreeSet<(Time, SlotId)>,
    /// Servers of which a connection has gone: somebody may wait for its place.
    made_room: Vec<SlotId>,
}

impl Further {
    /// When to look next.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.looks.first().map(|(at, _)| *at)
    }
}

impl Driver {
    /// Answers who asks for a connection: with the one there is, with a new one, or when there is room for one.
    pub(super) fn derive(&mut self, wanted: Wanted, effects: &mut FleetEffects) {
        let Wanted {
            server,
            key,
            info,
            wishes,
            subject,
            done,
        } = wanted;
        // A place for somebody who has left would be taken from somebody who has not.
        if done.is_closed() {
            return;
        }
        let who = Waiting {
            info,
            wishes,
            subject,
            done,
        };
        let shared = match self.may_derive(server) {
            Ok(shared) => shared,
            Err(refusal) => return answer(who.done, Err(refusal)),
        };
        if let Some(held) = self.held(server, &key) {
            return answer(who.done, Ok(held));
        }
        if let Some(principal) = &key.principal
            && let Err(refusal) = self.within_own_limit(&shared, principal, effects)
        {
            return answer(who.done, Err(refusal));
        }
        let max = shared.config.load().connections.max;
        let ledger = self.further.servers.entry(server).or_default();
        ledger.retain_waiting(|who| !who.done.is_closed());
        // Nobody is overtaken.
        if ledger.waiting() == 0 && ledger.has_room(max) {
            return self.add_further(&shared, key, who, effects);
        }
        let limit = shared.config.load().waiting;
        if ledger.waiting() >= limit || !self.make_room(&shared, &key, effects) {
            let words = format!("{max} connections are in use already");
            shared.counters.limit_exceeded();
            shared
                .events
                .exceeded(&shared.name, 0, "connections.max", &words);
            return answer(who.done, Err(too_many(&shared)));
        }
        let ledger = self.further.servers.entry(server).or_default();
        ledger.wait(key, who);
        // What had nothing to close is gone already, and nobody will say so again.
        self.further.made_room.push(server);
        self.serve_places(effects);
    }

    /// The server whose further connection is wanted, if it may have one now.
    fn may_derive(&self, server: SlotId) -> Result<Arc<Slot>, Refusal> {
        let shared = self.slots.get(&server).filter(|_| self.ending.is_none());
        let shared = shared.cloned().ok_or(Refusal::ShuttingDown)?;
        if shared.is_removed() {
            return Err(crate::call::gone(&shared));
        }
        let state = self.fleet.status(server).map(|status| status.state);
        // Law 5: nothing resurrects a disabled server.
        if state == Some(StateWord::Disabled) || shared.family.off.load(Ordering::Acquire) {
            let server = (&*shared.name).into();
            return Err(Refusal::Disabled { server });
        }
        Ok(shared)
    }

    fn held(&self, server: SlotId, key: &Key) -> Option<Hold> {
        self.further.servers.get(&server)?.find(key)?;
        let place = self.slots.get(&server)?.family.find(key)?;
        Hold::take(&place)
    }

    /// Whether a principal may have one more connection: of those that it has, one that nobody uses makes room. Nobody waits
    /// for that, and nobody else's connection is touched.
    fn within_own_limit(
        &mut self,
        shared: &Slot,
        principal: &Principal,
        effects: &mut FleetEffects,
    ) -> Result<(), Refusal> {
        let limit = shared.config.load().connections.per_user;
        let of = |slot: &Arc<Slot>| slot.principal() == Some(principal);
        let mut own: Vec<Arc<Slot>> = self.further_of(shared.id);
        own.retain(of);
        if own.len() < limit {
            return Ok(());
        }
        match self.close_longest_unused(own) {
            Some(slot) => {
                self.dismiss(&slot, effects);
                Ok(())
            }
            None => Err(Refusal::TooManyConnectionsOfUser {
                server: (&*shared.name).into(),
                limit,
            }),
        }
    }

    /// Closes to calls the one of these connections that was unused longest, if any is unused.
    fn close_longest_unused(&self, connections: Vec<Arc<Slot>>) -> Option<Arc<Slot>> {
        let mut unused: Vec<(u64, Arc<Slot>)> = connections
            .into_iter()
            .filter(|slot| !slot.wishes.are_heard())
            .filter_map(|slot| Some((slot.holds.unused_since_ms()?, slot)))
            .collect();
        unused.sort_by_key(|(since, slot)| (*since, slot.id));
        // Won or lost: a call may have come in between.
        unused
            .into_iter()
            .map(|(_, slot)| slot)
            .find(|slot| slot.holds.close_if_unused())
    }

    /// Sees to it that a place becomes free for this key: the connection that was idle longest makes room. `false`: all of
    /// them are in use.
    fn make_room(&mut self, shared: &Slot, key: &Key, effects: &mut FleetEffects) -> bool {
        let Some(ledger) = self.further.servers.get(&shared.id) else {
            return false;
        };
        if ledger.room_is_coming(key) {
            return true;
        }
        match self.close_longest_unused(self.further_of(shared.id)) {
            Some(slot) => {
                self.dismiss(&slot, effects);
                true
            }
            None => false,
        }
    }

    fn add_further(
        &mut self,
        shared: &Arc<Slot>,
        key: Key,
        who: Waiting,
        effects: &mut FleetEffects,
    ) {
        let id = SlotId(self.next_slot);
        self.next_slot += 1;
        let now = self.setting.clock.now();
        let ledger = self.further.servers.entry(shared.id).or_default();
        let beside = Beside {
            server: shared.id,
            key: key.clone(),
            number: ledger.next_number(),
            info: who.info,
        };
        ledger.enter(key.clone(), id);
        let wishes = match &key.principal {
            Some(principal) => shared.family.wishes_of(principal, &shared.wishes),
            None => who.wishes.unwrap_or_else(|| match key.client {
                Some(_) => Arc::new(shared.wishes.blank()),
                None => Wishes::beside(&shared.wishes),
            }),
        };
        let blank = Lifecycle::new(0, Start::Disabled).status(now);
        let slot = Arc::new(shared.further(id, beside, wishes, blank));
        // Before it asks for credentials.
        if let (Some(account), Some(subject)) = (&slot.account, &who.subject) {
            account.subject.bring(subject, unix_ms());
        }
        let config = slot.config.load_full();
        let place = Arc::new(Place {
            reports: Reports::new(id, self.report_sender.clone(), self.setting.clock),
            slot: Arc::clone(&slot),
        });
        let held = Hold::take(&place);
        self.slots.insert(id, Arc::clone(&slot));
        // The level may have changed while nobody knew of this connection. What others want to hear is no principal's affair.
        if key.principal.is_none() {
            slot.wishes.follow(&shared.wishes);
        }
        let look = now + config.connections.idle_ms;
        self.further.looks.insert((look, id));
        let mut policy = settings::policy(&config);
        // Somebody wants it now, and when nobody does any more it goes altogether.
        settings::of_further(&mut policy);
        let name = config.name.as_str().into();
        let add = FleetInput::Add {
            slot: id,
            name,
            policy,
            start: Start::Enabled,
            after: None,
        };
        self.step(add, effects);
        // Only now it shows what it is: whoever found it before would take it for one that is switched off.
        shared.family.enter(&key, place);
        match held {
            Some(held) => answer(who.done, Ok(held)),
            // Nobody else can have closed it yet.
            None => answer(who.done, Err(too_many(shared))),
        }
    }

    /// Ends a further connection. It answers to its key no more; its calls are drained like those of a disabled server.
    pub(super) fn dismiss(&mut self, slot: &Slot, effects: &mut FleetEffects) {
        let Some(beside) = &slot.beside else { return };
        slot.holds.close();
        self.further.looks.retain(|(_, look)| *look != slot.id);
        if let Some(ledger) = self.further.servers.get_mut(&beside.server)
            && let Some(key) = ledger.leave(slot.id)
        {
            slot.family.leave(&key);
            self.step(FleetInput::Remove { slot: slot.id }, effects);
        }
    }

    /// Opens the connections that are to stand ready (`connections.keep`), once the server has shown that it needs them.
    pub(super) fn open_kept(&mut self, server: SlotId, effects: &mut FleetEffects) {
        let Ok(shared) = self.may_derive(server) else {
            return;
        };
        // Modern servers are told with every request.
        if shared.beside.is_some() || shared.era.get() == Some(Era::Modern) {
            return;
        }
        let config = shared.config.load_full();
        for key in config
            .connections
            .keep
            .iter()
            .filter_map(|kept| kept_key(kept))
        {
            let ledger = self.further.servers.entry(server).or_default();
            if ledger.find(&key).is_none() && ledger.has_room(config.connections.max) {
                let (done, _nobody) = oneshot::channel();
                let who = Waiting {
                    info: None,
                    wishes: None,
                    subject: None,
                    done,
                };
                self.add_further(&shared, key, who, effects);
            }
        }
    }

    /// Closes the connections that nobody used for a while.
    pub(super) fn close_unused(&mut self, effects: &mut FleetEffects) {
        let now = self.setting.clock.now();
        while let Some((at, id)) = self.further.looks.first().copied() {
            if at > now {
                return;
            }
            self.further.looks.remove(&(at, id));
            let Some(slot) = self.slots.get(&id).cloned() else {
                continue;
            };
            let idle_ms = slot.config.load().connections.idle_ms;
            let since = match slot.holds.unused_since_ms() {
                Some(since) if !slot.wishes.are_heard() && !is_kept(&slot) => Time(since),
                Some(_) | None => now,
            };
            if since + idle_ms <= now && slot.holds.close_if_unused() {
                self.dismiss(&slot, effects);
            } else {
                let again = (since + idle_ms).max(now + 1);
                self.further.looks.insert((again, id));
            }
        }
    }

    /// An order to switch a server off or on: known to everybody before anything of it is done.
    pub(super) fn switch(&self, server: SlotId, input: &Input) {
        if let Some(shared) = self.slots.get(&server)
            && matches!(input, Input::Disable | Input::Enable)
        {
            let off = *input == Input::Disable;
            shared.family.off.store(off, Ordering::Release);
        }
    }

    /// What an order to a server means to its further connections.
    pub(super) fn order_further(
        &mut self,
        server: SlotId,
        input: &Input,
        effects: &mut FleetEffects,
    ) {
        // Others are not ordered by people, or concern the shared connection alone.
        if *input == Input::Disable {
            for slot in self.further_of(server) {
                self.dismiss(&slot, effects);
            }
            self.refuse_waiting(server, |shared| Refusal::Disabled {
                server: (&*shared.name).into(),
            });
            // Law 5: principals do not see it any more either.
            self.setting.publisher.own_changed();
        } else if *input == Input::Restart {
            for slot in self.further_of(server) {
                let input = Input::Restart;
                let slot = slot.id;
                self.step(FleetInput::Slot { slot, input }, effects);
            }
        }
    }

    /// Nobody gets a place any more.
    pub(super) fn end_further(&mut self) {
        let servers: Vec<SlotId> = self.further.servers.keys().copied().collect();
        for server in servers {
            self.refuse_waiting(server, |_| Refusal::ShuttingDown);
        }
    }

    /// Nothing of a slot exists any more.
    pub(super) fn further_gone(&mut self, slot: &Slot) {
        // Whoever still looks at it must not wait for anything.
        slot.view
            .send_modify(|view| view.status.state = StateWord::Disabled);
        if let Some(beside) = &slot.beside
            && let Some(ledger) = self.further.servers.get_mut(&beside.server)
        {
            ledger.gone(slot.id);
            self.setting.publisher.own_changed();
            self.further.looks.retain(|(_, look)| *look != slot.id);
            self.further.made_room.push(beside.server);
        }
    }

    /// Nothing of a server exists any more, and so there will be no connection of it.
    pub(super) fn further_ended(&mut self, server: SlotId) {
        if let Some(mut ledger) = self.further.servers.remove(&server) {
            while let Some((_, who)) = ledger.next() {
                answer(who.done, Err(Refusal::ShuttingDown));
            }
        }
    }

    /// Gives the places that became free to those who wait for them.
    pub(super) fn serve_places(&mut self, effects: &mut FleetEffects) {
        while let Some(server) = self.further.made_room.pop() {
            let Ok(shared) = self.may_derive(server) else {
                // They were told when it was disabled.
                continue;
            };
            let max = shared.config.load().connections.max;
            while let Some(ledger) = self.further.servers.get_mut(&server)
                && ledger.has_room(max)
                && let Some((key, who)) = ledger.next()
            {
                if who.done.is_closed() {
                    continue;
                }
                match self.held(server, &key) {
                    Some(held) => answer(who.done, Ok(held)),
                    None => self.add_further(&shared, key, who, effects),
                }
            }
        }
    }

    pub(super) fn further_of(&self, server: SlotId) -> Vec<Arc<Slot>> {
        let ledger = self.further.servers.get(&server);
        let members = ledger.into_iter().flat_map(Ledger::members);
        members
            .filter_map(|(_, member)| self.slots.get(&member).cloned())
            .collect()
    }

    pub(super) fn refuse_waiting(&mut self, server: SlotId, refusal: impl Fn(&Slot) -> Refusal) {
        let shared = self.slots.get(&server).cloned();
        if let (Some(shared), Some(ledger)) = (shared, self.further.servers.get_mut(&server)) {
            while let Some((_, who)) = ledger.next() {
                answer(who.done, Err(refusal(&shared)));
            }
        }
    }
}

/// The key of callers that declare this; `None` if nobody could.
fn kept_key(capabilities: &str) -> Option<Key> {
    let declared = Declared::of(&ClientFace {
        capabilities: capabilities.into(),
        ..ClientFace::default()
    });
    let declared = declared.ok().filter(|declared| declared.useful)?;
    Some(Key {
        principal: None,
        client: None,
        capabilities: declared.text,
        era: None,
        lane: 0,
    })
}

/// Whether a connection stands ready whether or not anybody uses it.
fn is_kept(slot: &Slot) -> bool {
    let config = slot.config.load();
    let key = slot.beside.as_ref().map(|beside| &beside.key);
    let mut kept = config.connections.keep.iter();
    kept.any(|kept| kept_key(kept).as_ref() == key)
}

/// The caller may have left; then the hold ends here and the connection is idle.
fn answer(done: Done, answer: Result<Hold, Refusal>) {
    drop(done.send(answer));
}
