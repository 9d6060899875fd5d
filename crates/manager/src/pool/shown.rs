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

/// Sets of capabilities that are remembered for one server. Beyond it the one that was listed longest ago is forgotten.
const SETS_MAX: usize = 64;

/// Whose listing it is: capabilities in one form, and the era that they were declared in first.
type Whose = (Arc<str>, Option<Era>);

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
        let whose = (Arc::clone(capabilities), era);
        self.0.load().get(&whose).cloned()
    }

    /// A further connection has listed this. What a connection of one client alone lists may be about that client, and stands
    /// for others only while nothing better is known.
    pub(crate) fn note(&self, key: &Key, own: Own<'_>, everybodys: Option<&Catalog>) {
        let whose = (Arc::clone(&key.capabilities), key.era);
        let Own { listed, shown } = own;
        let is_same = everybodys.is_some_and(|everybodys| everybodys.same_items(listed));
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
            if all.len() > SETS_MAX {
                let oldest = all.iter().min_by_key(|(_, known)| known.listed_at_unix_ms);
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
