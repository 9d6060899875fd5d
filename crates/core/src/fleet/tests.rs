//! Tests of the fleet: the gate, isolation, removal and shutdown.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "tests pick out the variants they look at"
)]

use super::*;
use crate::failure::{Failure, FailureKind};
use crate::lifecycle::{Phase, Proof, StateWord, StopStep};

mod storms;

/// A fleet with its clock and a record of everything it asked for.
struct Bench {
    fleet: Fleet,
    now: Time,
    last: Vec<FleetEffect>,
    opens: Vec<(Time, SlotId, Generation)>,
}

impl Bench {
    fn new(start_gate: usize) -> Bench {
        Bench {
            fleet: Fleet::new(FleetPolicy {
                start_gate,
                seed: 1,
            }),
            now: Time(1_000_000),
            last: Vec::new(),
            opens: Vec::new(),
        }
    }

    fn give(&mut self, input: FleetInput) -> &mut Bench {
        let mut effects = FleetEffects::new();
        self.fleet.step(self.now, input, &mut effects);
        self.last = effects.drain().collect();
        for effect in &self.last {
            if let FleetEffect::Slot {
                slot,
                effect: Effect::Open { generation, .. },
            } = effect
            {
                self.opens.push((self.now, *slot, *generation));
            }
        }
        self
    }

    fn add(&mut self, slot: u32, policy: Policy) -> &mut Bench {
        let name = format!("server-{slot}").into();
        self.give(FleetInput::Add {
            slot: SlotId(slot),
            name,
            policy,
            start: Start::Enabled,
            after: None,
        })
    }

    fn slot(&mut self, slot: u32, input: Input) -> &mut Bench {
        self.give(FleetInput::Slot {
            slot: SlotId(slot),
            input,
        })
    }

    fn status(&self, slot: u32) -> Status {
        self.fleet.status(SlotId(slot)).expect("the slot exists")
    }

    fn word(&self, slot: u32) -> StateWord {
        self.status(slot).state
    }

    fn opened(&mut self, slot: u32) -> &mut Bench {
        let generation = self.status(slot).generation;
        self.slot(slot, Input::Opened { generation })
    }

    fn proven(&mut self, slot: u32) -> &mut Bench {
        let generation = self.opened(slot).status(slot).generation;
        self.slot(
            slot,
            Input::Proof {
                generation,
                proof: Proof::ServedCall,
            },
        )
    }

    fn gone(&mut self, slot: u32) -> &mut Bench {
        let generation = self.status(slot).generation;
        self.slot(slot, Input::Gone { generation })
    }

    fn dies(&mut self, slot: u32) -> &mut Bench {
        let generation = self.status(slot).generation;
        let failure = FailureKind::Exited {
            code: None,
            signal: Some(9),
        }
        .into();
        self.slot(
            slot,
            Input::Exited {
                generation,
                failure,
            },
        )
    }

    fn advance(&mut self, ms: u64) -> &mut Bench {
        self.now = self.now + ms;
        self
    }
}

const G1: Generation = Generation(1);

#[test]
fn law_10_the_gate_lets_so_many_through_in_order_f6_f23() {
    let mut bench = Bench::new(2);
    for slot in 1..=5 {
        bench.add(slot, Policy::for_process());
    }
    let opened = |bench: &Bench| {
        bench
            .opens
            .iter()
            .map(|(_, slot, _)| slot.0)
            .collect::<Vec<_>>()
    };
    assert_eq!((opened(&bench), bench.fleet.gate()), (vec![1, 2], (2, 3)));
    bench.advance(30).opened(2);
    assert_eq!(opened(&bench), [1, 2, 3], "a success gives its permit back");
    let failure = Failure::from(FailureKind::Unreachable);
    bench.slot(
        1,
        Input::OpenFailed {
            generation: G1,
            failure,
        },
    );
    assert_eq!(
        opened(&bench),
        [1, 2, 3, 4],
        "so does a failure, although its runtime still exists"
    );
    bench.gone(3);
    assert_eq!(
        (opened(&bench), bench.fleet.gate()),
        (vec![1, 2, 3, 4, 5], (2, 0))
    );
}

#[test]
fn queueing_does_not_count_against_the_connect_deadline_f6() {
    let mut bench = Bench::new(1);
    bench
        .add(1, Policy::for_process())
        .add(2, Policy::for_process());
    bench.advance(50_000);
    let generation = G1;
    bench.slot(1, Input::Life { generation }).opened(1);
    let (at, why) = bench.status(2).next.expect("running now");
    assert_eq!((at.since(bench.now), why), (30_000, Why::SpawnDeadline));
}

#[test]
fn whoever_no_longer_wants_to_open_leaves_the_queue() {
    let mut bench = Bench::new(1);
    bench
        .add(1, Policy::for_process())
        .add(2, Policy::for_process())
        .add(3, Policy::for_process());
    for _ in 0..100 {
        bench.slot(2, Input::Disable).slot(2, Input::Enable);
    }
    assert_eq!(
        bench.fleet.gate(),
        (1, 2),
        "one place per slot, however often it changes its mind"
    );
    bench.slot(2, Input::Disable).slot(1, Input::Disable);
    assert_eq!(
        bench.opens.last().map(|(_, slot, _)| *slot),
        Some(SlotId(3))
    );
}

#[test]
fn the_gate_cannot_be_bypassed_from_outside() {
    let mut bench = Bench::new(1);
    bench
        .add(1, Policy::for_process())
        .add(2, Policy::for_process());
    bench.slot(2, Input::Granted { generation: G1 });
    assert_eq!(bench.opens.len(), 1);
}

#[test]
fn law_27_one_servers_trouble_delays_no_other() {
    let mut bench = Bench::new(1);
    bench.add(1, Policy::for_process()).proven(1);
    bench.add(2, Policy::for_process()).proven(2);
    // Server 1 is stopped and will not die.
    bench.advance(5_000).slot(1, Input::Restart);
    for _ in 0..10 {
        let (at, _, _) = bench.fleet.next_deadline().expect("it is being stopped");
        bench.now = at;
        bench.give(FleetInput::Timeout);
    }
    assert_eq!(bench.word(1), StateWord::Draining);
    // Server 2 dies and is back at once; server 3 is new and opens at once.
    let exit = FailureKind::Exited {
        code: None,
        signal: Some(9),
    };
    let dead = bench.status(2).generation;
    bench
        .slot(
            2,
            Input::Exited {
                generation: dead,
                failure: exit.into(),
            },
        )
        .gone(2);
    assert_eq!(
        (bench.word(2), bench.opens.last().map(|open| open.0)),
        (StateWord::Connecting, Some(bench.now))
    );
    bench.opened(2).add(3, Policy::for_process());
    assert_eq!(
        bench.opens.last().map(|open| (open.0, open.1)),
        Some((bench.now, SlotId(3)))
    );
}

#[test]
fn law_27_a_server_that_hangs_while_connecting_holds_its_permit_only_until_its_deadline() {
    let mut bench = Bench::new(1);
    bench
        .add(1, Policy::for_process())
        .add(2, Policy::for_process());
    let began = bench.now;
    while bench.opens.len() < 2 {
        let (at, _, _) = bench.fleet.next_deadline().expect("a deadline");
        bench.now = at;
        bench.give(FleetInput::Timeout);
    }
    assert_eq!(bench.opens[1].1, SlotId(2));
    assert!(bench.now.since(began) <= 60_000);
}

#[test]
fn law_28_an_edit_leaves_the_other_slots_alone() {
    let mut bench = Bench::new(4);
    for slot in 1..=3 {
        bench.add(slot, Policy::for_process()).proven(slot);
    }
    let before: Vec<Status> = [1, 3].map(|slot| bench.status(slot)).into();
    bench.advance(5_000).give(FleetInput::Replace {
        slot: SlotId(2),
        policy: Policy::for_process(),
    });
    assert!(
        bench.last.iter().all(|effect| matches!(
            effect,
            FleetEffect::Slot {
                slot: SlotId(2),
                ..
            }
        )),
        "{:?}",
        bench.last
    );
    bench.gone(2).opened(2);
    let patched = Policy {
        drain_ms: 1,
        ..Policy::for_process()
    };
    bench.give(FleetInput::Patch {
        slot: SlotId(2),
        policy: patched.clone(),
    });
    assert!(bench.last.is_empty(), "a patch touches no connection");
    assert_eq!(bench.fleet.policy(SlotId(2)), Some(&patched));
    let after: Vec<Status> = [1, 3].map(|slot| bench.status(slot)).into();
    assert_eq!(before, after);
}

#[test]
fn a_removed_slot_is_unpublished_at_once_and_reported_when_nothing_is_left() {
    let mut bench = Bench::new(4);
    bench.add(1, Policy::for_process()).proven(1);
    bench.give(FleetInput::Remove { slot: SlotId(1) });
    let retract = FleetEffect::Slot {
        slot: SlotId(1),
        effect: Effect::Retract,
    };
    assert!(bench.last.contains(&retract));
    bench.slot(1, Input::Enable).slot(1, Input::Restart);
    assert_eq!(bench.word(1), StateWord::Draining);
    bench.gone(1);
    assert_eq!(
        bench.last.last(),
        Some(&FleetEffect::Removed { slot: SlotId(1) })
    );
    assert_eq!(
        (bench.fleet.slots().count(), bench.fleet.next_deadline()),
        (0, None)
    );
    bench.give(FleetInput::Remove { slot: SlotId(1) });
    assert_eq!(
        bench.last,
        [FleetEffect::Removed { slot: SlotId(1) }],
        "nobody waits for ever"
    );
    bench.slot(1, Input::Wanted);
    assert!(bench.last.is_empty());
}

#[test]
fn law_3_stale_messages_are_counted() {
    let mut bench = Bench::new(4);
    bench.add(1, Policy::for_process()).proven(1);
    for generation in [0, 2, 3].map(Generation) {
        bench.slot(1, Input::Gone { generation });
        assert!(bench.last.is_empty());
    }
    assert_eq!(bench.status(1).stale, 3);
}

/// Servers in all kinds of states, for shutting down.
fn mixed() -> Bench {
    let mut bench = Bench::new(2);
    bench.add(1, Policy::for_process()).proven(1);
    bench.add(2, Policy::for_http()).proven(2);
    bench.advance(5_000).slot(2, Input::Restart).slot(
        2,
        Input::Opened {
            generation: Generation(2),
        },
    );
    bench.add(
        3,
        Policy {
            lazy: true,
            ..Policy::for_process()
        },
    );
    bench.add(4, Policy::for_process());
    let failure = Failure::from(FailureKind::BadConfig);
    bench
        .slot(
            4,
            Input::OpenFailed {
                generation: G1,
                failure,
            },
        )
        .gone(4);
    bench.add(5, Policy::for_process());
    let failure = Failure::from(FailureKind::Unreachable);
    bench
        .slot(
            5,
            Input::OpenFailed {
                generation: G1,
                failure,
            },
        )
        .gone(5);
    for slot in 6..=8 {
        bench.add(slot, Policy::for_process());
    }
    let words: Vec<StateWord> = (1..=8).map(|slot| bench.word(slot)).collect();
    let expected = [
        StateWord::Connected,
        StateWord::Connected,
        StateWord::Idle,
        StateWord::Parked,
        StateWord::Backoff,
        StateWord::Connecting,
        StateWord::Connecting,
        StateWord::Connecting,
    ];
    assert_eq!(
        (words.as_slice(), bench.fleet.gate()),
        (expected.as_slice(), (2, 1))
    );
    bench
}

#[test]
fn law_6_shutdown_from_mixed_states_ends_when_nothing_exists() {
    for impatient in [false, true] {
        let mut bench = mixed();
        let opens = bench.opens.len();
        bench.give(FleetInput::Shutdown { impatient });
        assert_eq!(bench.fleet.gate(), (0, 0));
        let runtimes = [(1, 1), (2, 1), (2, 2), (6, 1), (7, 1)];
        for (index, (slot, generation)) in runtimes.into_iter().enumerate() {
            assert!(
                !bench.last.contains(&FleetEffect::ShutDown),
                "{index} of {runtimes:?} are gone"
            );
            bench.slot(
                slot,
                Input::Gone {
                    generation: Generation(generation),
                },
            );
        }
        assert_eq!(bench.last.last(), Some(&FleetEffect::ShutDown));
        assert_eq!(bench.fleet.next_deadline(), None);
        bench
            .give(FleetInput::Shutdown { impatient: true })
            .slot(1, Input::Enable);
        assert!(bench.last.is_empty(), "once");
        bench.add(9, Policy::for_process());
        assert_eq!(bench.last, [FleetEffect::Removed { slot: SlotId(9) }]);
        assert_eq!(bench.opens.len(), opens, "nothing opened any more");
    }
}

#[test]
fn law_6_an_impatient_shutdown_kills_everything_in_one_step_f223() {
    let mut bench = mixed();
    bench
        .give(FleetInput::Shutdown { impatient: false })
        .give(FleetInput::Shutdown { impatient: true });
    let mut killed: Vec<(u32, u64)> = bench
        .last
        .iter()
        .filter_map(|effect| match effect {
            FleetEffect::Slot {
                slot,
                effect:
                    Effect::Stop {
                        generation,
                        how: StopStep::Kill,
                    },
            } => Some((slot.0, generation.0)),
            _ => None,
        })
        .collect();
    killed.sort_unstable();
    assert_eq!(killed, [(1, 1), (2, 1), (2, 2), (6, 1), (7, 1)]);
}

#[test]
fn law_6_servers_stop_in_parallel_f220() {
    let mut bench = Bench::new(64);
    for slot in 1..=50 {
        bench.add(slot, Policy::for_process()).proven(slot);
    }
    bench.give(FleetInput::Shutdown { impatient: false });
    let drains = bench
        .last
        .iter()
        .filter(|effect| {
            matches!(
                effect,
                FleetEffect::Slot {
                    effect: Effect::Stop {
                        how: StopStep::Drain,
                        ..
                    },
                    ..
                }
            )
        })
        .count();
    assert_eq!(drains, 50);
}

#[test]
fn an_empty_fleet_shuts_down_at_once() {
    let mut bench = Bench::new(1);
    bench.give(FleetInput::Shutdown { impatient: false });
    assert_eq!(bench.last, [FleetEffect::ShutDown]);
}

#[test]
fn deadlines_of_all_slots_are_one_deadline() {
    let mut bench = Bench::new(8);
    bench
        .add(
            1,
            Policy {
                stable_ms: 9_000,
                ..Policy::for_process()
            },
        )
        .opened(1);
    bench
        .add(
            2,
            Policy {
                stable_ms: 4_000,
                ..Policy::for_process()
            },
        )
        .opened(2);
    let next = bench
        .fleet
        .next_deadline()
        .map(|(at, slot, why)| (at.since(bench.now), slot, why));
    assert_eq!(next, Some((4_000, Some(SlotId(2)), Why::Stable)));
    bench.advance(20_000).give(FleetInput::Timeout);
    assert_eq!(bench.fleet.next_deadline(), None);
    assert!(bench.status(1).proven && bench.status(2).proven);
}

#[test]
fn a_deadline_that_was_replaced_wakes_nobody() {
    let mut bench = Bench::new(8);
    bench.add(1, Policy::for_process());
    let next = |bench: &Bench| {
        bench
            .fleet
            .next_deadline()
            .map(|(at, _, why)| (at.since(bench.now), why))
    };
    assert_eq!(next(&bench), Some((30_000, Why::SpawnDeadline)));
    bench.opened(1);
    assert_eq!(next(&bench), Some((60_000, Why::Stable)));
}

type Way = (&'static str, fn(&mut Bench));

/// Everything that makes the connected server 2 open a new generation.
fn ways_to_open() -> [Way; 8] {
    [
        ("reload", |bench| {
            bench.give(FleetInput::Replace {
                slot: SlotId(2),
                policy: Policy::for_http(),
            });
        }),
        ("restart", |bench| {
            bench.slot(2, Input::Restart);
        }),
        ("crash", |bench| {
            bench.dies(2).gone(2);
        }),
        ("lost session", |bench| {
            let generation = bench.status(2).generation;
            bench.slot(2, Input::SessionLost { generation });
        }),
        ("new credentials", |bench| {
            let generation = bench.status(2).generation;
            let failure = FailureKind::NeedsLogin.into();
            let ends = Input::Exited {
                generation,
                failure,
            };
            bench.slot(2, ends).gone(2);
            bench.slot(2, Input::Poke(Poke::Credentials));
        }),
        ("announced end", |bench| {
            let generation = bench.status(2).generation;
            bench.slot(2, Input::ServerClosing { generation });
        }),
        ("toggle", |bench| {
            bench.slot(2, Input::Disable).gone(2);
            bench.slot(2, Input::Enable);
        }),
        ("failed probes", |bench| {
            let generation = bench.status(2).generation;
            bench.slot(2, Input::Suspect { generation });
            while bench.word(2) == StateWord::Connected {
                let (at, ..) = bench.fleet.next_deadline().expect("a deadline");
                bench.now = bench.now.max(at);
                bench.give(FleetInput::Timeout);
            }
            bench.gone(2);
        }),
    ]
}

#[test]
fn f23_every_way_to_open_leads_through_the_gate_and_its_interval() {
    for (name, way) in ways_to_open() {
        let mut bench = Bench::new(1);
        bench.add(2, Policy::for_http()).proven(2).advance(30_000);
        // Somebody else holds the only permit.
        let slow = Policy {
            connect: crate::policy::ConnectPolicy {
                spawn_ms: 10_000_000,
                greet_ms: 10_000_000,
                list_ms: 10_000_000,
                total_ms: 10_000_000,
            },
            ..Policy::for_process()
        };
        bench.add(1, slow);
        let before = bench.opens.len();
        way(&mut bench);
        assert_eq!(bench.opens.len(), before, "{name} bypasses the gate");
        assert_eq!(bench.fleet.gate(), (1, 1), "{name} queues");
        bench.advance(1).opened(1);
        assert_eq!(bench.opens.len(), before + 1, "{name} opens in its turn");
        // The next one is due no sooner than the interval allows.
        let opened_at = bench.now;
        bench.slot(2, Input::Restart).gone(2);
        while bench.opens.len() == before + 1 {
            let (at, ..) = bench.fleet.next_deadline().expect("a deadline");
            bench.now = bench.now.max(at);
            bench.give(FleetInput::Timeout);
        }
        assert!(bench.now.since(opened_at) >= 1_000, "{name}");
    }
}
