//! What changed between two catalogs.

use std::collections::BTreeMap;

use super::Digest;

/// The names that differ, each list sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Diff {
    /// Only in the new one.
    pub added: Vec<String>,
    /// Only in the old one.
    pub removed: Vec<String>,
    /// In both, with different content.
    pub changed: Vec<String>,
}

impl Diff {
    /// Whether both are the same: then nobody is told (law 21).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Compares two catalogs, given as name and digest of the content.
#[must_use]
pub fn diff(old: &BTreeMap<String, Digest>, new: &BTreeMap<String, Digest>) -> Diff {
    let mut diff = Diff::default();
    for (name, content) in new {
        match old.get(name) {
            None => diff.added.push(name.clone()),
            Some(before) if before != content => diff.changed.push(name.clone()),
            Some(_) => {}
        }
    }
    diff.removed = old
        .keys()
        .filter(|name| !new.contains_key(*name))
        .cloned()
        .collect();
    diff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_21_equal_catalogs_differ_in_nothing() {
        let catalog = |items: &[(&str, u8)]| -> BTreeMap<String, Digest> {
            items
                .iter()
                .map(|(name, content)| ((*name).to_owned(), Digest([*content; 16])))
                .collect()
        };
        let old = catalog(&[("a", 1), ("b", 2), ("c", 3)]);
        assert!(diff(&old, &old).is_empty());
        let found = diff(&old, &catalog(&[("b", 2), ("c", 4), ("d", 5)]));
        assert_eq!(
            found,
            Diff {
                added: vec!["d".to_owned()],
                removed: vec!["a".to_owned()],
                changed: vec!["c".to_owned()]
            }
        );
    }
}
