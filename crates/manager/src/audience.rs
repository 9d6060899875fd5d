//! Which clients a server lists the same to, and what it lists to them.
//!
//! Servers of the legacy era may offer more to clients that declare more. What they offer to one kind of clients is known
//! only once a connection of that kind has listed; until then everybody's listing stands in. Nothing here opens a
//! connection but [`ServerHandle::learn`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_core::lifecycle::status::StateWord;
use mainstay_wire::revision::Era;

use crate::catalog::Catalog;
use crate::config::Scope;
use crate::error::CallError;
use crate::handle::ServerHandle;
use crate::pool::{self, Declared, Key, NOTHING_DECLARED, Own};
use crate::principal::Principal;
use crate::request::ClientFace;
use crate::slot::Slot;

/// Clients that a server cannot tell apart by what they declare. Cheap to clone; the one of clients that declare nothing
/// is made without an allocation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Audience {
    /// In one form.
    capabilities: Arc<str>,
    useful: bool,
    era: Option<Era>,
    client: Option<Arc<str>>,
    principal: Option<Principal>,
}

impl std::fmt::Debug for Audience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not who it is: that may be all that it takes to speak as this client (law 31).
        f.debug_struct("Audience")
            .field("capabilities", &self.capabilities)
            .field("era", &self.era)
            .finish_non_exhaustive()
    }
}

impl Audience {
    /// The audience that a client belongs to. One whose capabilities cannot be read declares nothing.
    #[must_use]
    pub fn of(face: &ClientFace) -> Self {
        let plain = matches!(&*face.capabilities, "" | "{}");
        let declared = if plain { None } else { Declared::of(face).ok() };
        let useful = declared.as_ref().is_some_and(|declared| declared.useful);
        Self {
            capabilities: declared
                .map_or_else(|| Arc::clone(&NOTHING_DECLARED), |declared| declared.text),
            useful,
            era: face.era,
            client: face.client.clone(),
            principal: face.principal.clone(),
        }
    }

    /// Whether it declares nothing that a server could use: it is listed what everybody is, unless a server keeps a
    /// connection for this client alone.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.useful
    }

    /// Whether it is about one client, which may have a connection of its own.
    #[must_use]
    pub fn has_client(&self) -> bool {
        self.client.is_some()
    }

    /// Whether it is about one principal, which may have a connection of its own.
    #[must_use]
    pub fn has_principal(&self) -> bool {
        self.principal.is_some()
    }

    /// The same without the principal: whoever declares the same.
    #[must_use]
    pub fn of_nobody(&self) -> Self {
        Self {
            principal: None,
            ..self.clone()
        }
    }

    /// The same without the client that it was made of: all clients of a principal that declare the same.
    #[must_use]
    pub fn at_large(&self) -> Self {
        Self {
            client: None,
            ..self.clone()
        }
    }
}

/// What a server lists to an audience.
#[derive(Debug, Clone)]
pub enum Listed {
    /// What it lists to everybody.
    Shared,
    /// This.
    Own(Arc<Catalog>),
    /// This, when it was last asked; everybody is listed something else since.
    Stale(Arc<Catalog>),
    /// Nobody knows yet: it was never asked. Meanwhile this may be shown, and nothing else: what everybody is listed may
    /// be private.
    Shape(Arc<Catalog>),
    /// Nobody knows yet: it was never asked.
    Unknown,
}

impl Listed {
    /// What to show, where that is not everybody's listing.
    #[must_use]
    pub fn own(self) -> Option<Arc<Catalog>> {
        match self {
            Self::Own(catalog) | Self::Stale(catalog) | Self::Shape(catalog) => Some(catalog),
            Self::Shared | Self::Unknown => None,
        }
    }

    /// Whether [`ServerHandle::learn`] may find something else.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        matches!(self, Self::Stale(_) | Self::Shape(_) | Self::Unknown)
    }
}

impl ServerHandle {
    /// What the server lists to an audience, as far as is known. Asks nobody and waits for nothing.
    #[must_use]
    pub fn listed_to(&self, audience: &Audience) -> Listed {
        let place = self.place();
        let slot = &place.slot;
        if let (Some(principal), Scope::User) = (&audience.principal, slot.config.load().scope) {
            return listed_to_principal(slot, principal, audience);
        }
        if let Some(own) = own_connection(slot, audience) {
            return own;
        }
        if !audience.useful {
            return Listed::Shared;
        }
        let era = pool::known_era(slot);
        let asked_as_legacy = pool::wants_legacy(audience.era, &slot.family);
        let greeted = (era != Some(Era::Legacy) && asked_as_legacy).then_some(Era::Legacy);
        let (Some(shared), Some(listed)) = (slot.catalog.load_full(), slot.listed.load_full())
        else {
            return Listed::Unknown;
        };
        let known = slot.family.shown.find(&audience.capabilities, greeted);
        // Modern servers are told with every request, and have no such listings.
        let Some(known) = known.filter(|known| known.is_of_release(&listed)) else {
            return match era {
                Some(Era::Modern) => Listed::Shared,
                Some(Era::Legacy) | None => Listed::Unknown,
            };
        };
        match known.own() {
            None => Listed::Shared,
            Some(own) if own.same_items(&shared) => Listed::Shared,
            Some(own) if known.is_of(&listed) || is_connected(slot, audience, greeted) => {
                Listed::Own(Arc::clone(own))
            }
            Some(own) => Listed::Stale(Arc::clone(own)),
        }
    }

    /// Asks the server what it lists to clients like this one: opens such a client's connection if there is none, and waits
    /// until it has listed or has failed to. What it has listed is then known, also when the connection is gone
    /// (`connections.idleMs`). Starts a server that is not there. Takes at most `timeouts.connectMs` beyond the patience of
    /// a call; dropping the future changes nothing for anybody else (law 1).
    ///
    /// # Errors
    /// What [`ServerHandle::for_client`] says.
    pub async fn learn(&self, face: &ClientFace) -> Result<(), CallError> {
        let place = self.place();
        let Some(way) = pool::way(&place, face).await? else {
            return Ok(());
        };
        let held = pool::connect(&place, self.desk(), &way).await?;
        let slot = &held.place().slot;
        let mut listed = slot.has_listed.subscribe();
        let mut view = slot.view.subscribe();
        let failed = view.wait_for(|view| {
            view.shutting_down
                || matches!(view.status.state, StateWord::Parked | StateWord::Disabled)
        });
        let within = Duration::from_millis(slot.config.load().timeouts.connect_ms);
        let known = tokio::select! {
            biased;
            // Cancel-safe, all of them: levels and a sleep hold nothing.
            listed = listed.wait_for(|listed| *listed) => listed.is_ok(),
            _failed = failed => false,
            () = tokio::time::sleep(within) => false,
        };
        if let (true, Some(listed), Some(shown)) =
            (known, slot.listed.load_full(), slot.catalog.load_full())
        {
            // It may have listed when nothing was known of everybody's listing, or of another release of the server.
            let own = Own {
                listed: &listed,
                shown: &shown,
            };
            let everybodys = place.slot.listed.load_full();
            slot.family.shown.note(&way.key, own, everybodys.as_deref());
        }
        Ok(())
    }
}

/// What a principal sees of a server that keeps a connection for it: what that connection has listed, now or when there last
/// was one, and never what was listed to somebody else with other credentials (F256).
fn listed_to_principal(slot: &Slot, principal: &Principal, audience: &Audience) -> Listed {
    // Law 5: what is switched off is seen by nobody.
    if slot.family.off.load(Ordering::Acquire) {
        return Listed::Shared;
    }
    let declared = Declared {
        text: Arc::clone(&audience.capabilities),
        useful: audience.useful,
    };
    let key = pool::key_of_principal(slot, principal.clone(), audience.era, declared);
    let everybodys = slot.catalog.load_full();
    let place = slot.family.find(&key);
    let listed = place
        .as_ref()
        .filter(|place| *place.slot.has_listed.borrow());
    if let Some(own) = listed.and_then(|place| place.slot.catalog.load_full()) {
        return Listed::Own(own);
    }
    let known = slot.family.shown.find_own(&key);
    let known = known.and_then(|known| known.own().map(Arc::clone));
    match (known, everybodys) {
        // Its connection hears of changes while there is one; one that cannot connect has nothing better to say.
        (Some(own), _) if place.is_some() => Listed::Own(own),
        (Some(own), _) => Listed::Stale(own),
        (None, Some(everybodys)) => Listed::Shape(slot.family.shareable(&everybodys)),
        (None, None) => Listed::Unknown,
    }
}

/// What the connection of this one client has listed, if it has one and that has.
fn own_connection(slot: &Slot, audience: &Audience) -> Option<Listed> {
    let client = audience.client.as_ref()?;
    if slot.config.load().scope != Scope::Session {
        return None;
    }
    let legacy = pool::known_era(slot) != Some(Era::Legacy)
        && pool::wants_legacy(audience.era, &slot.family);
    let place = slot.family.find(&Key {
        principal: None,
        client: Some(Arc::clone(client)),
        capabilities: Arc::clone(&audience.capabilities),
        era: legacy.then_some(Era::Legacy),
        lane: 0,
    })?;
    if !*place.slot.has_listed.borrow() {
        return None;
    }
    let own = place.slot.catalog.load_full()?;
    let shared = slot.catalog.load_full();
    let is_same = shared.is_some_and(|shared| shared.same_items(&own));
    Some(if is_same {
        Listed::Shared
    } else {
        Listed::Own(own)
    })
}

/// Whether there is a connection that hears of changes.
fn is_connected(slot: &Slot, audience: &Audience, era: Option<Era>) -> bool {
    let place = slot.family.find(&Key {
        principal: None,
        client: None,
        capabilities: Arc::clone(&audience.capabilities),
        era,
        lane: 0,
    });
    place.is_some_and(|place| place.slot.current.load().is_some())
}
