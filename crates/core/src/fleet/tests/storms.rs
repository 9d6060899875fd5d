//! What happens to all servers at once: wake-ups, networks that come and go, deaths in company.

use super::*;

/// Lets time pass until `until`, while every open succeeds after `open_ms` and every probe is answered by `probed`.
struct Morning {
    bench: Bench,
    /// Opens under way, and when each will succeed.
    opening: Vec<(Time, SlotId, Generation)>,
    opening_max: usize,
    probes: Vec<(Time, SlotId)>,
}

impl Morning {
    /// `count` servers, every second one a process, connected and proven.
    fn new(count: u32, gate: usize) -> Morning {
        let mut bench = Bench::new(gate);
        for slot in 0..count {
            let policy = if slot % 2 == 0 {
                Policy::for_http()
            } else {
                Policy::for_process()
            };
            bench.add(slot, policy).proven(slot);
        }
        bench.opens.clear();
        Morning {
            bench,
            opening: Vec::new(),
            opening_max: 0,
            probes: Vec::new(),
        }
    }

    fn give(&mut self, input: FleetInput) {
        self.bench.give(input);
        for effect in self.bench.last.clone() {
            let FleetEffect::Slot { slot, effect } = effect else {
                continue;
            };
            match effect {
                Effect::Open { generation, .. } => {
                    let ready = self.bench.now + 400 + u64::from(slot.0 % 7) * 100;
                    self.opening.push((ready, slot, generation));
                }
                Effect::Probe { .. } => self.probes.push((self.bench.now, slot)),
                _ => {}
            }
        }
        self.opening_max = self.opening_max.max(self.bench.fleet.gate().0);
    }

    /// Runs for `ms`. What the sleep did to the connection of a slot comes out when it is probed: its fate.
    fn run(&mut self, ms: u64, fate: fn(SlotId, Generation) -> Input) {
        let end = self.bench.now + ms;
        let mut answered = self.probes.len();
        loop {
            let opened = self.opening.iter().map(|(at, ..)| *at).min();
            let deadline = self.bench.fleet.next_deadline().map(|(at, ..)| at);
            let Some(next) = opened.into_iter().chain(deadline).min() else {
                break;
            };
            if next > end {
                break;
            }
            self.bench.now = self.bench.now.max(next);
            let now = self.bench.now;
            if let Some(index) = self.opening.iter().position(|(at, ..)| *at <= now) {
                let (_, slot, generation) = self.opening.remove(index);
                self.give(FleetInput::Slot {
                    slot,
                    input: Input::Opened { generation },
                });
                self.give(FleetInput::Slot {
                    slot,
                    input: Input::Proof {
                        generation,
                        proof: Proof::ServedCall,
                    },
                });
            } else {
                self.give(FleetInput::Timeout);
            }
            while let Some((_, slot)) = self.probes.get(answered).copied() {
                answered += 1;
                let generation = self.bench.status(slot.0).generation;
                let input = fate(slot, generation);
                let ends = matches!(input, Input::Exited { .. } | Input::SessionLost { .. });
                self.give(FleetInput::Slot { slot, input });
                if ends {
                    self.give(FleetInput::Slot {
                        slot,
                        input: Input::Gone { generation },
                    });
                }
            }
        }
        self.bench.now = end;
    }

    fn all_connected_uncharged(&self) -> bool {
        let slots: Vec<u32> = self.bench.fleet.slots().map(|(slot, _)| slot.0).collect();
        slots.into_iter().all(|slot| {
            let status = self.bench.status(slot);
            (status.state, status.charges) == (StateWord::Connected, 0)
        })
    }
}

/// How many of `times` fall into the busiest `within_ms`.
fn busiest(times: &[Time], within_ms: u64) -> usize {
    let count = |from: &Time| {
        let within = |at: &&Time| **at >= *from && at.since(*from) < within_ms;
        times.iter().filter(within).count()
    };
    times.iter().map(count).max().unwrap_or(0)
}

#[test]
fn law_12_f225_f226_thirty_servers_wake_from_an_hour_of_sleep() {
    for (counted_ms, asleep_ms) in [(0, 3_600_000), (3_600_000, 0)] {
        let mut morning = Morning::new(30, 4);
        morning.bench.advance(45_000).give(FleetInput::Timeout);
        morning.bench.advance(counted_ms);
        morning.give(FleetInput::Woke { asleep_ms });
        assert!(
            morning.bench.last.is_empty(),
            "nothing fires because of the sleep"
        );
        // Every second session is lost, every other connection is dead.
        morning.run(60_000, |slot, generation| {
            if slot.0 % 4 == 0 {
                Input::SessionLost { generation }
            } else {
                let failure = FailureKind::StreamClosed.into();
                Input::Exited {
                    generation,
                    failure,
                }
            }
        });
        assert!(morning.all_connected_uncharged(), "no wrong charge");
        let probes: Vec<Time> = morning.probes.iter().map(|(at, _)| *at).collect();
        assert_eq!(probes.len(), 15, "each HTTP link once, no process");
        assert!(busiest(&probes, 100) <= 4, "probes are spread");
        let opens: Vec<Time> = morning.bench.opens.iter().map(|(at, ..)| *at).collect();
        assert_eq!(opens.len(), 15, "one open each");
        assert!(morning.opening_max <= 4, "the gate holds");
        assert!(busiest(&opens, 100) <= 5, "opens are spread");
    }
}

#[test]
fn f229_f226_the_network_goes_and_comes_back() {
    let mut morning = Morning::new(30, 4);
    // Gone: every HTTP link dies, and nothing can be reached.
    for slot in (0..30).step_by(2) {
        let generation = morning.bench.status(slot).generation;
        let failure = FailureKind::StreamClosed.into();
        morning
            .bench
            .slot(
                slot,
                Input::Exited {
                    generation,
                    failure,
                },
            )
            .slot(slot, Input::Gone { generation });
    }
    while (0..30).any(|slot| {
        !matches!(
            morning.bench.word(slot),
            StateWord::Parked | StateWord::Connected
        )
    }) {
        let granted: Vec<(u32, Generation)> = (0..30)
            .map(|slot| (slot, morning.bench.status(slot)))
            .filter(|(_, status)| status.phase == Some(Phase::Spawn))
            .map(|(slot, status)| (slot, status.generation))
            .collect();
        if granted.is_empty() {
            let (at, ..) = morning.bench.fleet.next_deadline().expect("a deadline");
            morning.bench.now = morning.bench.now.max(at);
            morning.bench.give(FleetInput::Timeout);
        }
        for (slot, generation) in granted {
            let failure = FailureKind::Unreachable.into();
            let failed = Input::OpenFailed {
                generation,
                failure,
            };
            morning.bench.slot(slot, failed);
            morning.bench.slot(slot, Input::Gone { generation });
        }
    }
    assert_eq!(morning.bench.word(0), StateWord::Parked);
    morning.bench.advance(30_000).opens.clear();
    // Back.
    morning.give(FleetInput::NetworkChanged);
    assert!(morning.bench.opens.is_empty(), "not in this instant");
    morning.run(30_000, |_, generation| Input::Proof {
        generation,
        proof: Proof::ProbeAnswered,
    });
    assert!(morning.all_connected_uncharged());
    let opens: Vec<Time> = morning.bench.opens.iter().map(|(at, ..)| *at).collect();
    assert_eq!(opens.len(), 15);
    assert!(morning.opening_max <= 4);
    assert!(busiest(&opens, 100) <= 5, "revived one after the other");
}

fn told_together(bench: &Bench) -> Vec<Vec<u32>> {
    bench
        .last
        .iter()
        .filter_map(|effect| match effect {
            FleetEffect::DiedTogether(deaths) => {
                Some(deaths.slots.iter().map(|slot| slot.0).collect())
            }
            _ => None,
        })
        .collect()
}

#[test]
fn f77_servers_that_die_together_are_one_record_and_come_back_one_after_the_other() {
    let mut bench = Bench::new(16);
    for slot in 0..12 {
        bench.add(slot, Policy::for_process()).proven(slot);
    }
    bench.advance(600_000).opens.clear();
    for slot in 0..12 {
        bench.advance(40).dies(slot);
        assert!(told_together(&bench).is_empty());
    }
    for slot in 0..12 {
        assert!(bench.status(slot).marks.died_together, "{slot}");
        bench.gone(slot);
    }
    assert!(bench.opens.is_empty(), "nobody comes back in this instant");
    let mut told = Vec::new();
    while bench.opens.len() < 12 {
        let (at, slot, why) = bench.fleet.next_deadline().expect("a deadline");
        assert_eq!(slot.is_none(), why == Why::DiedTogether);
        bench.now = bench.now.max(at);
        bench.give(FleetInput::Timeout);
        told.extend(told_together(&bench));
    }
    assert_eq!(told, [(0..12).collect::<Vec<u32>>()], "one record");
    let opens: Vec<Time> = bench.opens.iter().map(|(at, ..)| *at).collect();
    assert!(busiest(&opens, 100) <= 4, "{opens:?}");
}

#[test]
fn f77_a_death_alone_is_no_event_and_is_not_delayed() {
    let mut bench = Bench::new(4);
    for slot in 0..3 {
        bench.add(slot, Policy::for_process()).proven(slot);
    }
    bench.advance(600_000);
    for slot in 0..3 {
        bench.advance(1_001).dies(slot).gone(slot);
        assert_eq!(bench.word(slot), StateWord::Connecting, "at once");
        assert!(!bench.status(slot).marks.died_together);
        assert!(told_together(&bench).is_empty());
    }
    // Planned ends and lost sessions are no deaths.
    let mut bench = Bench::new(4);
    for slot in 0..3 {
        bench.add(slot, Policy::for_http()).proven(slot);
    }
    bench.advance(600_000);
    for slot in 0..3 {
        let generation = bench.status(slot).generation;
        bench.slot(slot, Input::SessionLost { generation });
    }
    bench.advance(5_000).give(FleetInput::Timeout);
    assert!(told_together(&bench).is_empty());
}
