//! What a config edit touches: computed purely, printed before it is applied, executed dumbly (law 28).

use std::collections::BTreeMap;
use std::fmt;

use crate::catalog::Digest;

/// A server's name in the config.
pub type Name = String;

/// What distinguishes two versions of one config entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprints {
    /// Everything a running connection was made from: command, arguments, environment, directory, URL, headers, auth.
    /// A different one needs a replacement.
    pub connection: Digest,
    /// Everything else: labels, timeouts, filters. A different one is patched in place.
    pub settings: Digest,
}

/// The steps from what runs to what is desired. Every name is in exactly one list; every list is sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plan {
    /// New servers.
    pub add: Vec<Name>,
    /// Servers that are no longer wanted.
    pub remove: Vec<Name>,
    /// Servers whose connection has to be made anew.
    pub replace: Vec<Name>,
    /// Servers whose settings change while their connection stays.
    pub patch: Vec<Name>,
    /// Servers that are not touched.
    pub same: Vec<Name>,
}

impl Plan {
    /// Whether nothing would be touched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.add.is_empty()
            && self.remove.is_empty()
            && self.replace.is_empty()
            && self.patch.is_empty()
    }
}

/// Compares what runs with what is desired.
#[must_use]
pub fn plan(
    running: &BTreeMap<Name, Fingerprints>,
    desired: &BTreeMap<Name, Fingerprints>,
) -> Plan {
    let mut plan = Plan::default();
    for (name, wanted) in desired {
        let list = match running.get(name) {
            None => &mut plan.add,
            Some(current) if current.connection != wanted.connection => &mut plan.replace,
            Some(current) if current.settings != wanted.settings => &mut plan.patch,
            Some(_) => &mut plan.same,
        };
        list.push(name.clone());
    }
    plan.remove = running
        .keys()
        .filter(|name| !desired.contains_key(*name))
        .cloned()
        .collect();
    plan
}

impl fmt::Display for Plan {
    /// One line per touched server, then a summary.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = [
            ("- remove ", &self.remove),
            ("~ replace", &self.replace),
            ("~ patch  ", &self.patch),
            ("+ add    ", &self.add),
        ];
        for (verb, names) in steps {
            for name in names {
                writeln!(f, "{verb} {name}")?;
            }
        }
        if self.is_empty() {
            return write!(f, "nothing to do, {} unchanged", self.same.len());
        }
        write!(
            f,
            "{} to add, {} to remove, {} to replace, {} to patch, {} unchanged",
            self.add.len(),
            self.remove.len(),
            self.replace.len(),
            self.patch.len(),
            self.same.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(entries: &[(&str, u8, u8)]) -> BTreeMap<Name, Fingerprints> {
        let fingerprints = |connection: u8, settings: u8| Fingerprints {
            connection: Digest([connection; 16]),
            settings: Digest([settings; 16]),
        };
        entries
            .iter()
            .map(|(name, c, s)| ((*name).to_owned(), fingerprints(*c, *s)))
            .collect()
    }

    #[test]
    fn law_28_an_edit_touches_only_what_it_changed() {
        let running = servers(&[
            ("gone", 1, 1),
            ("moved", 2, 1),
            ("relabelled", 3, 1),
            ("same", 4, 1),
        ]);
        let desired = servers(&[
            ("moved", 9, 2),
            ("new", 5, 1),
            ("relabelled", 3, 2),
            ("same", 4, 1),
        ]);
        let plan = plan(&running, &desired);
        assert_eq!(plan.add, ["new"]);
        assert_eq!(plan.remove, ["gone"]);
        assert_eq!(
            plan.replace,
            ["moved"],
            "a changed connection wins over changed settings"
        );
        assert_eq!(plan.patch, ["relabelled"]);
        assert_eq!(plan.same, ["same"]);
        assert_eq!(
            plan.to_string(),
            "- remove  gone\n~ replace moved\n~ patch   relabelled\n+ add     new\n\
             1 to add, 1 to remove, 1 to replace, 1 to patch, 1 unchanged"
        );
    }

    #[test]
    fn law_28_no_edit_no_steps() {
        let running = servers(&[("a", 1, 1), ("b", 2, 2)]);
        let plan = plan(&running, &running);
        assert!(plan.is_empty());
        assert_eq!(plan.to_string(), "nothing to do, 2 unchanged");
    }
}
