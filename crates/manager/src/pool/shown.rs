//! What a server lists to clients that declare capabilities, as far as its further connections have listed.
//!
//! Remembered beyond the life of a connection: a client that only lists must not keep one open, and most servers list the
//! same to everybody. Read by everybody without waiting.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mainstay_core::catalog::Digest;
use mainstay_wire::revision::Era;

use super::Key;
use crate::catalog::{Catalog, Greeting};
use crate::principal::Principal;

/// Sets of capabilities that are remembered for one server. Beyond it the one that was listed longest ago is forgotten.
const SETS_MAX: usize = 64;

/// Principals whose listings are remembered for one server: as many as may be there at the same time by default. Apart from
/// the sets, so that the coming and going of some does not push out what everybody uses.
const OF_PRINCIPALS_MAX: usize = 256;

/// Whose listing it is: a principal's or nobody's in particular, capabilities in one form, and the era that they were
/// declared in first.
type Whose = (Option<Principal>, Arc<str>, Option<Era>);

/// What was listed to each kind of clients.
#[derive(Debug, Default)]
pub(crate) struct Shown(ArcSwap<BTreeMap<Whose, Remembered>>);

/// One kind of clients was listed this.
#[derive(Debug, Clone)]
pub(crate) struct Remembered {
    /// As it was listed, and as it is shown; none if it is the same as everybody's.
    own: Option<(Arc<Catalog>, Arc<Catalog>)>,
    /// What everybody was listed at that time.
    basis: Option<[Digest; 4]>,
    /// What the server said of itself to everybody at that time.
    greeting: Option<Greeting>,
    listed_at_unix_ms: u64,
}

/// What a further connection has listed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own<'c> {
    /// As it was listed.
    pub(crate) listed: &'c Arc<Catalog>,
    /// As it is shown.
    pub(crate) shown: &'c Arc<Catalog>,
}

impl Remembered {
    /// What is shown, if another thing was listed than everybody's.
    pub(crate) fn own(&self) -> Option<&Arc<Catalog>> {
        self.own.as_ref().map(|(_listed, shown)| shown)
    }

    /// Whether the server lists this to everybody, as it did then.
    pub(crate) fn is_of(&self, everybodys: &Catalog) -> bool {
        self.basis == Some(everybodys.digests()) && self.is_of_release(everybodys)
    }

    /// Whether the server is the same program, as far as it says.
    pub(crate) fn is_of_release(&self, everybodys: &Catalog) -> bool {
        self.greeting.as_ref() == Some(&everybodys.greeting)
    }
}

impl Shown {
    /// What is remembered for these capabilities.
    pub(crate) fn find(&self, capabilities: &Arc<str>, era: Option<Era>) -> Option<Remembered> {
        let whose = (None, Arc::clone(capabilities), era);
        self.0.load().get(&whose).cloned()
    }

    /// What is remembered for the connection of this key, and if that is nothing, for another one of its principal.
    pub(crate) fn find_own(&self, key: &Key) -> Option<Remembered> {
        let principal = key.principal.as_ref()?;
        let known = self.0.load();
        let whose = (
            Some(principal.clone()),
            Arc::clone(&key.capabilities),
            key.era,
        );
        let exactly = known.get(&whose);
        let another = || {
            let own = known
                .iter()
                .filter(|((of, ..), _)| of.as_ref() == Some(principal));
            own.map(|(_, known)| known)
                .max_by_key(|known| known.listed_at_unix_ms)
        };
        exactly.or_else(another).cloned()
    }

    /// A further connection has listed this. What a connection of one client alone lists may be about that client, and stands
    /// for others only while nothing better is known.
    pub(crate) fn note(&self, key: &Key, own: Own<'_>, everybodys: Option<&Catalog>) {
        let whose = (
            key.principal.clone(),
            Arc::clone(&key.capabilities),
            key.era,
        );
        let Own { listed, shown } = own;
        // A principal's stays its own, whatever becomes of everybody's.
        let is_same = key.principal.is_none()
            && everybodys.is_some_and(|everybodys| everybodys.same_items(listed));
        let remembered = Remembered {
            listed_at_unix_ms: listed.listed_at_unix_ms,
            own: (!is_same).then(|| (Arc::clone(listed), Arc::clone(shown))),
            basis: everybodys.map(Catalog::digests),
            greeting: everybodys.map(|everybodys| everybodys.greeting.clone()),
        };
        self.0.rcu(|known| {
            if key.client.is_some() && known.contains_key(&whose) {
                return Arc::clone(known);
            }
            let mut all = BTreeMap::clone(known);
            all.insert(whose.clone(), remembered.clone());
            let is_principals = |whose: &Whose| whose.0.is_some();
            let alike = |(whose, _): &(&Whose, &Remembered)| {
                is_principals(whose) == key.principal.is_some()
            };
            let max = match key.principal {
                Some(_) => OF_PRINCIPALS_MAX,
                None => SETS_MAX,
            };
            if all.iter().filter(alike).count() > max {
                let oldest = all.iter().filter(alike);
                let oldest = oldest.min_by_key(|(_, known)| known.listed_at_unix_ms);
                if let Some(oldest) = oldest.map(|(whose, _)| whose.clone()) {
                    all.remove(&oldest);
                }
            }
            Arc::new(all)
        });
    }

    /// Everything that was listed to others and not to everybody, as it was listed.
    pub(crate) fn listed(&self) -> Vec<Arc<Catalog>> {
        let known = self.0.load();
        let own = known.values().filter_map(|known| known.own.as_ref());
        own.map(|(listed, _)| Arc::clone(listed)).collect()
    }

    /// For the driver: what was listed is shown in another shape now.
    pub(crate) fn reshape(&self, shaped: impl Fn(&Arc<Catalog>) -> Arc<Catalog>) {
        self.0.rcu(|known| {
            let mut all = BTreeMap::clone(known);
            for (listed, shown) in all.values_mut().filter_map(|known| known.own.as_mut()) {
                *shown = shaped(listed);
            }
            Arc::new(all)
        });
    }
}
