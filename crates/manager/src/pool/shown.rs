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
    /// None: the same as everybody else.
    own: Option<Arc<Catalog>>,
    /// What everybody was listed at that time.
    basis: Option<[Digest; 4]>,
    /// What the server said of itself to everybody at that time.
    greeting: Option<Greeting>,
    listed_at_unix_ms: u64,
}

impl Remembered {
    /// The listing, if it is another one than everybody's.
    pub(crate) fn own(&self) -> Option<&Arc<Catalog>> {
        self.own.as_ref()
    }

    /// Whether the server lists the same to everybody as it did then.
    pub(crate) fn is_of(&self, shared: &Catalog) -> bool {
        self.basis == Some(shared.digests()) && self.is_of_release(shared)
    }

    /// Whether the server is the same program, as far as it says.
    pub(crate) fn is_of_release(&self, shared: &Catalog) -> bool {
        self.greeting.as_ref() == Some(&shared.greeting)
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
    pub(crate) fn note(&self, key: &Key, catalog: &Arc<Catalog>, shared: Option<&Catalog>) {
        let whose = (Arc::clone(&key.capabilities), key.era);
        let is_same = shared.is_some_and(|shared| shared.same_items(catalog));
        let remembered = Remembered {
            listed_at_unix_ms: catalog.listed_at_unix_ms,
            own: (!is_same).then(|| Arc::clone(catalog)),
            basis: shared.map(Catalog::digests),
            greeting: shared.map(|shared| shared.greeting.clone()),
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

    /// For the driver: nothing that was listed so far holds any more.
    #[expect(dead_code, reason = "for changes of the settings at run time")]
    pub(crate) fn forget(&self) {
        self.0.store(Arc::default());
    }
}
