//! Merging what all servers list into what clients see, by rules that do not depend on who answered first (law 24, F169).

use std::collections::BTreeMap;
use std::fmt;

use super::{ItemKind, exposed_name};
use crate::ids::SlotId;

/// The longest resource URI that is exposed.
const URI_BYTES_MAX: usize = 8 * 1_024;

/// One item of one server, by name only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry<'a> {
    /// Where it comes from.
    pub slot: SlotId,
    /// The server's name.
    pub server: &'a str,
    /// The item's name, URI or URI template.
    pub name: &'a str,
}

/// One item as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exposure {
    /// Unique among the exposures of its kind.
    pub exposed: String,
    /// Index into the entries that were merged.
    pub entry: usize,
}

/// The outcome of a merge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Sorted by exposed name.
    pub exposures: Vec<Exposure>,
    /// What clients do not see, and why; sorted by entry.
    pub quarantined: Vec<Quarantine>,
}

/// An item that is hidden, visibly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quarantine {
    /// Index into the entries that were merged.
    pub entry: usize,
    /// Why it is hidden.
    pub reason: Reason,
}

/// Why an item is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It has no name.
    NoName,
    /// Its URI is too long to be exposed.
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The same server lists the same name before it.
    Duplicate {
        /// The entry that is exposed instead.
        of: usize,
    },
    /// A different item already has the exposed name (two hashes that are equal by chance).
    Collision {
        /// The entry that is exposed instead.
        with: usize,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoName => f.write_str("has no name"),
            Reason::TooLong { bytes, max } => {
                write!(f, "is {bytes} bytes long, at most {max} are allowed")
            }
            Reason::Duplicate { .. } => f.write_str("is listed twice by its server"),
            Reason::Collision { .. } => f.write_str("has the same exposed name as another item"),
        }
    }
}

/// Merges the entries of one kind. The same set of entries gives the same names in any order; only among entries of one
/// slot with one name does the order decide: the first is exposed.
///
/// Tools and prompts are exposed by [`exposed_name`]. Resources and templates keep their URI; where several servers list
/// the same one, the server whose name sorts first keeps it and the others are exposed as `mainstay://{server}/{uri}`.
#[must_use]
pub fn merge(kind: ItemKind, entries: &[Entry<'_>]) -> Merged {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|index| {
        entries
            .get(*index)
            .map(|entry| (entry.server, entry.slot, entry.name, *index))
    });

    let mut merged = Merged::default();
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let mut previous: Option<(usize, &Entry<'_>)> = None;
    for index in order {
        let Some(entry) = entries.get(index) else {
            continue;
        };
        let reason = match previous {
            _ if entry.name.is_empty() => Some(Reason::NoName),
            Some((first, same)) if same == entry => Some(Reason::Duplicate { of: first }),
            Some(_) | None => None,
        };
        let reason = match reason {
            Some(reason) => Some(reason),
            None => {
                previous = Some((index, entry));
                expose(kind, entry, index, &mut taken).err()
            }
        };
        if let Some(reason) = reason {
            merged.quarantined.push(Quarantine {
                entry: index,
                reason,
            });
        }
    }
    merged.exposures = taken
        .into_iter()
        .map(|(exposed, entry)| Exposure { exposed, entry })
        .collect();
    merged
        .quarantined
        .sort_by_key(|quarantine| quarantine.entry);
    merged
}

fn expose(
    kind: ItemKind,
    entry: &Entry<'_>,
    index: usize,
    taken: &mut BTreeMap<String, usize>,
) -> Result<(), Reason> {
    let exposed = match kind {
        ItemKind::Tool | ItemKind::Prompt => exposed_name(entry.server, entry.name),
        ItemKind::Resource | ItemKind::ResourceTemplate => {
            if entry.name.len() > URI_BYTES_MAX {
                return Err(Reason::TooLong {
                    bytes: entry.name.len(),
                    max: URI_BYTES_MAX,
                });
            }
            if taken.contains_key(entry.name) {
                format!("mainstay://{}/{}", entry.server, entry.name)
            } else {
                entry.name.to_owned()
            }
        }
    };
    match taken.get(&exposed) {
        Some(with) => Err(Reason::Collision { with: *with }),
        None => {
            taken.insert(exposed, index);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(slot: u32, server: &'static str, name: &'static str) -> Entry<'static> {
        Entry {
            slot: SlotId(slot),
            server,
            name,
        }
    }

    /// All orders of up to six items, by Heap's algorithm.
    fn permutations<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
        fn visit<T: Clone>(k: usize, items: &mut Vec<T>, all: &mut Vec<Vec<T>>) {
            if k <= 1 {
                return all.push(items.clone());
            }
            for i in 0..k {
                visit(k - 1, items, all);
                items.swap(if k.is_multiple_of(2) { i } else { 0 }, k - 1);
            }
        }
        let mut all = Vec::new();
        visit(items.len(), &mut items.to_vec(), &mut all);
        all
    }

    /// What clients see, without the indices that depend on the order of the input.
    fn seen<'a>(merged: &Merged, entries: &[Entry<'a>]) -> Vec<(String, Entry<'a>)> {
        merged
            .exposures
            .iter()
            .map(|e| (e.exposed.clone(), entries[e.entry]))
            .collect()
    }

    #[test]
    fn law_24_merge_is_the_same_for_every_order_f169_f170() {
        let entries = [
            entry(2, "beta", "search"),
            entry(1, "alpha", "search"),
            entry(3, "a__b", "c"),
            entry(4, "a", "b__c"),
            entry(1, "alpha", "search"),
            entry(5, "beta", "search"),
        ];
        for kind in ItemKind::ALL {
            let expected = seen(&merge(kind, &entries), &entries);
            for permuted in permutations(&entries) {
                assert_eq!(
                    seen(&merge(kind, &permuted), &permuted),
                    expected,
                    "{kind:?} {permuted:?}"
                );
            }
        }
    }

    #[test]
    fn law_24_f254_tools_of_different_servers_never_shadow_each_other() {
        let entries = [entry(1, "alpha", "search"), entry(2, "beta", "search")];
        let merged = merge(ItemKind::Tool, &entries);
        let names: Vec<&str> = merged
            .exposures
            .iter()
            .map(|e| e.exposed.as_str())
            .collect();
        assert_eq!(names, ["alpha__search", "beta__search"]);
        assert!(merged.quarantined.is_empty());
    }

    /// A server's name may contain the separator: the names that people see may collide then, the keys behind them never.
    #[test]
    fn law_24_f255_names_that_collide_by_concatenation_lead_to_different_servers() {
        let entries = [entry(1, "a__b", "c"), entry(2, "a", "b__c")];
        let merged = merge(ItemKind::Tool, &entries);
        assert_eq!(merged.exposures.len(), 2, "{merged:?}");
        assert_ne!(merged.exposures[0].exposed, merged.exposures[1].exposed);
        assert_ne!(merged.exposures[0].entry, merged.exposures[1].entry);
        let swapped = merge(ItemKind::Tool, &[entries[1], entries[0]]);
        for exposure in &merged.exposures {
            let same = swapped
                .exposures
                .iter()
                .find(|other| other.exposed == exposure.exposed);
            assert_eq!(
                same.map(|other| 1 - other.entry),
                Some(exposure.entry),
                "whoever came first"
            );
        }
    }

    #[test]
    fn resources_keep_their_uri_and_the_later_server_moves_aside() {
        let entries = [
            entry(2, "beta", "file:///readme"),
            entry(1, "alpha", "file:///readme"),
        ];
        let merged = merge(ItemKind::Resource, &entries);
        assert_eq!(
            merged.exposures,
            [
                Exposure {
                    exposed: "file:///readme".to_owned(),
                    entry: 1
                },
                Exposure {
                    exposed: "mainstay://beta/file:///readme".to_owned(),
                    entry: 0
                },
            ]
        );
    }

    #[test]
    fn law_24_a_bad_item_hides_only_itself_and_says_why() {
        let entries = [
            entry(1, "alpha", "x"),
            entry(1, "alpha", ""),
            entry(1, "alpha", "x"),
            entry(1, "alpha", "y"),
        ];
        let merged = merge(ItemKind::Tool, &entries);
        assert_eq!(merged.exposures.len(), 2);
        assert_eq!(
            merged.quarantined,
            [
                Quarantine {
                    entry: 1,
                    reason: Reason::NoName
                },
                Quarantine {
                    entry: 2,
                    reason: Reason::Duplicate { of: 0 }
                },
            ]
        );
    }

    #[test]
    fn two_slots_of_one_server_do_not_hide_each_other_silently() {
        let merged = merge(
            ItemKind::Tool,
            &[entry(1, "alpha", "x"), entry(2, "alpha", "x")],
        );
        assert_eq!(
            merged.exposures,
            [Exposure {
                exposed: "alpha__x".to_owned(),
                entry: 0
            }]
        );
        assert_eq!(
            merged.quarantined,
            [Quarantine {
                entry: 1,
                reason: Reason::Collision { with: 0 }
            }]
        );
    }
}
