//! The driver's account of a server's further connections: which there are, which are on their way out, and who waits for
//! a place. Decides nothing about time and knows nothing of tasks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mainstay_core::ids::SlotId;

use super::key::Key;

/// The account of one server. `W` is one who waits.
#[derive(Debug)]
pub(crate) struct Ledger<W> {
    members: BTreeMap<Key, SlotId>,
    /// Closed, and something of them still exists. They count: a process is a process.
    leaving: BTreeSet<SlotId>,
    /// In the order in which they came.
    waiting: VecDeque<(Key, W)>,
    /// How many there ever were: what people call them by.
    numbers: u32,
}

impl<W> Default for Ledger<W> {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            leaving: BTreeSet::new(),
            waiting: VecDeque::new(),
            numbers: 0,
        }
    }
}

impl<W> Ledger<W> {
    /// The connection of this key.
    pub(crate) fn find(&self, key: &Key) -> Option<SlotId> {
        self.members.get(key).copied()
    }

    /// All that are not on their way out.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&Key, SlotId)> {
        self.members.iter().map(|(key, slot)| (key, *slot))
    }

    /// Whether there is a place for one more.
    pub(crate) fn has_room(&self, max: usize) -> bool {
        self.members.len() + self.leaving.len() < max
    }

    /// The number of the next connection; never the same twice.
    pub(crate) fn next_number(&mut self) -> u32 {
        self.numbers = self.numbers.saturating_add(1);
        self.numbers
    }

    /// A new connection.
    pub(crate) fn enter(&mut self, key: Key, slot: SlotId) {
        self.members.insert(key, slot);
    }

    /// A connection is on its way out; it answers to no key any more.
    pub(crate) fn leave(&mut self, slot: SlotId) -> Option<Key> {
        let key = self
            .members
            .iter()
            .find(|(_, member)| **member == slot)
            .map(|(key, _)| key.clone())?;
        self.members.remove(&key);
        self.leaving.insert(slot);
        Some(key)
    }

    /// Nothing of the connection exists any more.
    pub(crate) fn gone(&mut self, slot: SlotId) {
        self.leaving.remove(&slot);
        self.members.retain(|_, member| *member != slot);
    }

    /// Whether places are on their way to everybody who waits, and to one more for this key.
    pub(crate) fn room_is_coming(&self, key: &Key) -> bool {
        let mut keys: BTreeSet<&Key> = self.waiting.iter().map(|(key, _)| key).collect();
        keys.insert(key);
        keys.len() <= self.leaving.len()
    }

    /// Those who wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// One more waits for a place.
    pub(crate) fn wait(&mut self, key: Key, who: W) {
        self.waiting.push_back((key, who));
    }

    /// The next to get a place.
    pub(crate) fn next(&mut self) -> Option<(Key, W)> {
        self.waiting.pop_front()
    }

    /// Forgets those who do not wait any more.
    pub(crate) fn retain_waiting(&mut self, waits: impl Fn(&W) -> bool) {
        self.waiting.retain(|(_, who)| waits(who));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(client: &str) -> Key {
        Key {
            principal: None,
            client: Some(client.into()),
            capabilities: "{}".into(),
            era: None,
            lane: 0,
        }
    }

    #[test]
    fn law_2_what_is_on_its_way_out_still_takes_a_place() {
        let mut ledger: Ledger<()> = Ledger::default();
        ledger.enter(key("a"), SlotId(1));
        ledger.enter(key("b"), SlotId(2));
        assert!(!ledger.has_room(2));
        assert_eq!(ledger.leave(SlotId(1)), Some(key("a")));
        assert_eq!(ledger.leave(SlotId(1)), None, "once");
        assert_eq!(ledger.find(&key("a")), None);
        assert!(!ledger.has_room(2), "its process is still there");
        ledger.gone(SlotId(1));
        assert!(ledger.has_room(2));
        assert_eq!(ledger.members().count(), 1);
        assert_ne!(ledger.next_number(), ledger.next_number());
    }

    #[test]
    fn one_place_is_made_for_each_key_that_waits_and_no_more() {
        let mut ledger = Ledger::default();
        ledger.enter(key("a"), SlotId(1));
        assert!(!ledger.room_is_coming(&key("b")));
        ledger.leave(SlotId(1));
        assert!(ledger.room_is_coming(&key("b")));
        ledger.wait(key("b"), 1);
        assert!(ledger.room_is_coming(&key("b")), "the same place");
        ledger.wait(key("b"), 2);
        assert!(!ledger.room_is_coming(&key("c")));
        ledger.retain_waiting(|who| *who != 1);
        assert_eq!(ledger.waiting(), 1);
        assert_eq!(ledger.next(), Some((key("b"), 2)));
        assert!(ledger.room_is_coming(&key("c")));
    }
}
