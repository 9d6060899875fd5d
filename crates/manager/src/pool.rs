//! More than one connection to a server: which callers may share one, and how a call finds its own.
//!
//! Servers of the legacy era are told once, when they are greeted, what their client can do, and a server with
//! `scope: "session"` serves one client per connection. So beside the shared connection of a server there are further
//! ones. Each is a slot of its own that the driver opens on demand, supervises like every other, and closes when nobody
//! used it for a while (law 1). They are never published and never remembered; people see them in the server's status.
//!
//! Nothing here opens or closes anything: the driver does.

mod account;
mod holds;
mod key;
mod lanes;
mod ledger;
mod seat;
mod shown;
mod subject;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use mainstay_core::ids::SlotId;
use mainstay_wire::revision::Era;
use tokio::sync::oneshot;

pub(crate) use self::account::{Account, Accounts};
pub(crate) use self::holds::{Hold, Holds};
pub(crate) use self::key::{Declared, Key, NOTHING_DECLARED};
use self::lanes::Lanes;
pub(crate) use self::ledger::Ledger;
use self::seat::era_of;
pub(crate) use self::seat::{connect, seat, too_many};
pub(crate) use self::shown::{Own, Shown};
use crate::auth::Subject;
use crate::catalog::Catalog;
use crate::config::Scope;
use crate::driver::Place;
use crate::error::{CallError, Refusal};
use crate::principal::Principal;
use crate::request::{CallOptions, ClientFace};
use crate::slot::Slot;
use crate::wishes::Wishes;

/// What all connections of one server have in common. Written by the driver, except where it says otherwise; read by
/// everybody without waiting.
#[derive(Debug, Default)]
pub(crate) struct Family {
    /// The server has asked its client something on a stream that calls share: on stdio and HTTP+SSE, and on the push stream
    /// of an HTTP server that does not keep its questions to the call's own stream. Set by whoever hears it, for good: from
    /// then on a connection of callers that can be asked serves one client at a time.
    pub(crate) asked: Arc<AtomicBool>,
    /// The server was greeted in the words of the legacy era, and answered in those of the modern one. Set by the keeper that
    /// tried, for good.
    pub(crate) modern_only: AtomicBool,
    /// Switched off by an operator, from the moment of the order: what is left of the server only goes (law 5).
    pub(crate) off: AtomicBool,
    /// What further connections have listed.
    pub(crate) shown: Shown,
    /// Taken out of the config, for good: its name may come back as another server, with a family of its own.
    pub(crate) removed: AtomicBool,
    /// The further connections.
    connections: ArcSwap<BTreeMap<Key, Arc<Place>>>,
    /// What belongs to single principals.
    pub(crate) accounts: Accounts,
    /// What of everybody's listing others may see, and of which listing that is.
    shareable: ArcSwapOption<(Arc<Catalog>, Arc<Catalog>)>,
    /// By keys with lane 0. Entries are no more than there are connections and calls.
    lanes: Mutex<BTreeMap<Key, Arc<Lanes>>>,
}

impl Family {
    /// The further connection of this key.
    pub(crate) fn find(&self, key: &Key) -> Option<Arc<Place>> {
        self.connections.load().get(key).cloned()
    }

    /// All further connections.
    pub(crate) fn all(&self) -> Vec<Arc<Place>> {
        self.connections.load().values().cloned().collect()
    }

    /// What a principal may see of a listing that was given to somebody else, while nothing of its own is known.
    pub(crate) fn shareable(&self, everybodys: &Arc<Catalog>) -> Arc<Catalog> {
        if let Some(known) = &*self.shareable.load()
            && Arc::ptr_eq(&known.0, everybodys)
        {
            return Arc::clone(&known.1);
        }
        let shape = everybodys
            .shareable()
            .map_or_else(|| Arc::clone(everybodys), Arc::new);
        let known = (Arc::clone(everybodys), Arc::clone(&shape));
        self.shareable.store(Some(Arc::new(known)));
        shape
    }

    /// The connections of a principal.
    pub(crate) fn of_principal(&self, principal: &Principal) -> Vec<Arc<Place>> {
        self.of(Some(principal))
    }

    /// The further connections of nobody in particular.
    pub(crate) fn of_nobody(&self) -> Vec<Arc<Place>> {
        self.of(None)
    }

    fn of(&self, principal: Option<&Principal>) -> Vec<Arc<Place>> {
        let connections = self.connections.load();
        let own = connections.iter();
        own.filter(|(key, _)| key.principal.as_ref() == principal)
            .map(|(_, place)| Arc::clone(place))
            .collect()
    }

    /// How many connections there are for the callers of this key.
    fn lanes_of(&self, key: &Key) -> usize {
        let connections = self.connections.load();
        let range = key.at(0)..=key.at(usize::MAX);
        connections.range(range).count()
    }

    /// The connections for the callers of this key.
    fn lanes_at(&self, key: &Key) -> Vec<Arc<Place>> {
        let connections = self.connections.load();
        let range = key.at(0)..=key.at(usize::MAX);
        connections
            .range(range)
            .map(|(_, place)| Arc::clone(place))
            .collect()
    }

    /// For the driver: the wishes for a further connection of a principal, which all of its connections share: the first has
    /// them, the others are told the same.
    pub(crate) fn wishes_of(&self, principal: &Principal, server: &Wishes) -> Arc<Wishes> {
        let (leading, new) = self.accounts.wishes(principal, || server.apart());
        if new {
            return leading;
        }
        let connections = self.connections.load();
        let mut own = connections
            .iter()
            .filter(|(key, _)| key.principal.as_ref() == Some(principal));
        if own.any(|(_, place)| Arc::ptr_eq(&place.slot.wishes, &leading)) {
            Wishes::beside(&leading)
        } else {
            leading
        }
    }

    /// For the driver: there is a connection more.
    pub(crate) fn enter(&self, key: &Key, place: Arc<Place>) {
        let mut connections = BTreeMap::clone(&self.connections.load());
        connections.insert(key.clone(), place);
        self.connections.store(Arc::new(connections));
    }

    /// For the driver: a connection answers to its key no more.
    pub(crate) fn leave(&self, key: &Key) {
        let mut connections = BTreeMap::clone(&self.connections.load());
        connections.remove(key);
        self.connections.store(Arc::new(connections));
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever is on a lane, or waits for one, holds them.
        lanes.retain(|_, lanes| Arc::strong_count(lanes) > 1);
    }

    /// How many calls of this key wait for their turn.
    pub(crate) fn waiting(&self, key: &Key) -> usize {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.get(&key.at(0)).map_or(0, |lanes| lanes.waiting())
    }

    /// The lanes of the callers of this key.
    fn lanes(&self, key: &Key) -> Arc<Lanes> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key.at(0);
        if !lanes.contains_key(&key) {
            // Lanes that nobody is on are as good as new ones: whatever callers declare, there are no more than calls.
            lanes.retain(|_, lanes| Arc::strong_count(lanes) > 1);
        }
        Arc::clone(lanes.entry(key).or_default())
    }
}

/// What makes a slot one of the further connections of a server.
#[derive(Debug)]
pub(crate) struct Beside {
    /// The server's own slot.
    pub(crate) server: SlotId,
    /// Whose connection it is.
    pub(crate) key: Key,
    /// What people call it by: unique for its server since Mainstay started.
    pub(crate) number: u32,
    /// The client info object that the server is shown; ours if there is none.
    pub(crate) info: Option<Box<str>>,
}

impl Beside {
    /// What the connection says in its greeting, and with requests of our own.
    pub(crate) fn face(&self) -> ClientFace {
        ClientFace {
            capabilities: (&*self.key.capabilities).into(),
            info: self.info.clone(),
            client: self.key.client.clone(),
            principal: self.key.principal.clone(),
            subject: None,
            era: self.key.era,
        }
    }
}

/// The way of one client to a server, where that is not the shared connection. Outlives every connection it leads to.
#[derive(Clone)]
pub(crate) struct Way {
    /// Which connection, with lane 0.
    pub(crate) key: Key,
    /// What the server is shown of the client.
    pub(crate) info: Option<Box<str>>,
    /// Who calls, if calls say nothing else.
    pub(crate) client: Option<Arc<str>>,
    /// What the user of the library wants the connection to be told, once there was one.
    pub(crate) wishes: Option<Arc<Wishes>>,
    /// What a principal proved itself with, where its credentials are exchanged for that.
    pub(crate) subject: Option<Subject>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not who it is: that may be all that it takes to speak as this client (law 31).
        f.debug_struct("Way")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Somebody asks the driver for a connection of this key. It is answered with a hold, so that nothing can close the
/// connection before it is used.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) server: SlotId,
    pub(crate) key: Key,
    pub(crate) info: Option<Box<str>>,
    pub(crate) wishes: Option<Arc<Wishes>>,
    pub(crate) subject: Option<Subject>,
    pub(crate) done: oneshot::Sender<Result<Hold, Refusal>>,
}

/// Which way a client goes: `None` is the shared connection. Waits for a server of unknown era as a call waits.
///
/// Cancel-safe: nothing is opened here, except that a lazy server is started to be asked who it is.
///
/// # Errors
/// What the client declares cannot be read, or what a call would be told while the server is not there.
pub(crate) async fn way(shared: &Place, face: &ClientFace) -> Result<Option<Way>, CallError> {
    let declared =
        Declared::of(face).map_err(|why| CallError::Refused(Refusal::BadRequest(why.into())))?;
    let slot = &shared.slot;
    let (client, principal) = match slot.config.load().scope {
        Scope::Session => (face.client.clone(), None),
        // Whoever is nobody in particular shares the one that everybody of this machine has.
        Scope::User => (None, face.principal.clone()),
        Scope::Shared => (None, None),
    };
    if let Some(principal) = principal {
        return Ok(Some(way_of_principal(slot, face, principal, declared)));
    }
    if client.is_none() {
        if !declared.useful {
            return Ok(None);
        }
        let era = match known_era(slot) {
            Some(era) => era,
            None => era_of(shared, &CallOptions::default()).await?,
        };
        // Modern servers are told with every request.
        if era == Era::Modern && !wants_legacy(face.era, &slot.family) {
            return Ok(None);
        }
    }
    let legacy = known_era(slot) != Some(Era::Legacy) && wants_legacy(face.era, &slot.family);
    Ok(Some(Way {
        info: client.as_ref().and(face.info.clone()),
        key: Key {
            principal: None,
            client,
            capabilities: declared.text,
            // A server that is of that era anyway is greeted in it anyway.
            era: legacy.then_some(Era::Legacy),
            lane: 0,
        },
        client: face.client.clone(),
        wishes: None,
        subject: None,
    }))
}

/// The way of a principal to a connection of its own. Waits for nothing: whatever is the matter with the connection that
/// everybody shares concerns it not at all (law 27).
fn way_of_principal(
    slot: &Slot,
    face: &ClientFace,
    principal: Principal,
    declared: Declared,
) -> Way {
    Way {
        key: key_of_principal(slot, principal, face.era, declared),
        info: None,
        client: face.client.clone(),
        wishes: None,
        subject: subject::of(slot, Some(face)).cloned(),
    }
}

/// Which connection a principal has for clients that speak this era and declare this.
pub(crate) fn key_of_principal(
    slot: &Slot,
    principal: Principal,
    era: Option<Era>,
    declared: Declared,
) -> Key {
    let known = known_era(slot);
    let legacy = declared.useful && known != Some(Era::Legacy) && wants_legacy(era, &slot.family);
    // Modern servers are told with every request, so one connection serves all clients of a principal.
    let told_anyway = known == Some(Era::Modern) && !legacy;
    Key {
        principal: Some(principal),
        client: None,
        capabilities: if declared.useful && !told_anyway {
            declared.text
        } else {
            NOTHING_DECLARED.clone()
        },
        era: legacy.then_some(Era::Legacy),
        lane: 0,
    }
}

/// Whether a caller is better served in the legacy era, as far as the server speaks it: servers of both eras may ask things
/// of a legacy client in the words of that era only.
pub(crate) fn wants_legacy(era: Option<Era>, family: &Family) -> bool {
    era == Some(Era::Legacy) && !family.modern_only.load(Ordering::Relaxed)
}

/// The era that the server spoke last, as far as that is known without asking.
pub(crate) fn known_era(slot: &Slot) -> Option<Era> {
    let current = slot.current.load();
    let connected = current
        .as_ref()
        .and_then(|runtime| runtime.greeting())
        .map(|greeting| greeting.revision.era());
    connected
        .or_else(|| crate::settings::fixed_era(&slot.config.load()))
        .or_else(|| slot.era.get())
}
