//! Reads what an upstream wrote down about itself: the oracle of `chaos run`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// What really happened at one upstream, over all its lives.
#[derive(Debug, Default, Clone)]
pub(super) struct Account {
    /// The processes that served, in the order of their starts.
    pub(super) starts: Vec<u32>,
    /// The processes that they left behind.
    pub(super) children: Vec<u32>,
    /// `initialize` requests.
    pub(super) greetings: usize,
    /// Listings, counted in pages.
    pub(super) lists: usize,
    /// GET and `subscriptions/listen` requests.
    pub(super) streams: usize,
    /// How often each marker was executed.
    pub(super) markers: BTreeMap<String, usize>,
}

impl Account {
    /// Reads a ledger; one that is not there yet is empty.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self::of(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    fn of(text: &str) -> Self {
        let mut account = Self::default();
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let pid = words.next().and_then(|pid| pid.parse().ok());
            let (Some(pid), Some(event)) = (pid, words.next()) else {
                continue;
            };
            let detail = words.next().unwrap_or_default();
            match event {
                "spawn" => account.starts.push(pid),
                "grandchild" => account.children.extend(detail.parse::<u32>().ok()),
                "initialize" => account.greetings += 1,
                "list" => account.lists += 1,
                "get" | "listen" => account.streams += 1,
                "marker" => *account.markers.entry(detail.to_owned()).or_default() += 1,
                // Calls, probes and the like: nothing is judged by them.
                _ => {}
            }
        }
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_over_all_lives() {
        let account = Account::of(
            "7 spawn -\n7 grandchild 8\n7 initialize 2025-11-25\n7 marker a b\n9 spawn -\n9 marker a b\n9 list tools/list\n9 get -\n9 listen -\n9 request ping\nnonsense\n",
        );
        assert_eq!((account.starts, account.children), (vec![7, 9], vec![8]));
        assert_eq!(
            (account.greetings, account.lists, account.streams),
            (1, 1, 2)
        );
        assert_eq!(account.markers["a b"], 2);
    }
}
