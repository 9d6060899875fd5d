//! Disable, shutdown, and the escalation of a stop.

use super::*;

/// A bench in each state, by name.
fn everywhere() -> Vec<(&'static str, Bench)> {
    let start = |policy: Policy| {
        let mut bench = Bench::new(policy);
        bench.give(Input::Start);
        bench
    };
    let mut queued = Bench::process();
    queued.give_queued(Input::Start);
    let mut connected = Bench::process();
    connected.proven().advance(5_000);
    let mut replacing = Bench::http();
    replacing.proven().advance(5_000).give(Input::Replace);
    let mut draining = Bench::process();
    draining.proven().advance(5_000).give(Input::Restart);
    let mut backoff = start(Policy::for_process());
    backoff.open_failed(FailureKind::Unreachable).gone();
    let mut parked = start(Policy::for_process());
    parked
        .open_failed(FailureKind::BadConfig)
        .gone()
        .advance(5_000);
    vec![
        (
            "idle",
            start(Policy {
                lazy: true,
                ..Policy::for_process()
            }),
        ),
        ("queued", queued),
        ("connecting", start(Policy::for_process())),
        ("connected", connected),
        ("replacing", replacing),
        ("draining", draining),
        ("backoff", backoff),
        ("parked", parked),
    ]
}

/// Lets everything that is being stopped disappear, the newest first.
fn all_gone(bench: &mut Bench) {
    for generation in (1..=bench.lifecycle.newest.0).rev().map(Generation) {
        let opening = bench.lifecycle.opening();
        if opening.is_none_or(|opening| opening.generation != generation) {
            bench.give(Input::Gone { generation });
        }
    }
}

#[test]
fn law_5_disable_is_prompt_and_final_from_every_state() {
    for (name, mut bench) in everywhere() {
        bench.give(Input::Disable);
        assert!(
            bench.last.contains(&Effect::Retract),
            "{name}: unpublished in the same step"
        );
        let opens = bench.opens.len();
        bench.give(Input::Disable);
        assert!(!bench.last.contains(&Effect::Retract), "{name}: idempotent");
        for order in [
            Input::Wanted,
            Input::Restart,
            Input::Replace,
            Input::Poke(Poke::Credentials),
            Input::Poke(Poke::Network),
            Input::Poke(Poke::Config),
            Input::Start,
        ] {
            bench.give(order);
        }
        bench.sleep(600_000);
        all_gone(&mut bench);
        bench.sleep(600_000);
        assert_eq!(
            (bench.word(), bench.opens.len()),
            (StateWord::Disabled, opens),
            "{name}: stays down (F148)"
        );
        assert_eq!(bench.lifecycle.next_deadline(), None, "{name}");
        bench.give(Input::Enable).give(Input::Wanted);
        assert_eq!(bench.word(), StateWord::Connecting, "{name}");
    }
}

#[test]
fn law_5_disable_fences_what_serves_and_gives_up_what_opens() {
    let mut bench = Bench::http();
    bench
        .proven()
        .advance(5_000)
        .give(Input::Replace)
        .give(Input::Disable);
    assert_eq!(
        bench.effects(),
        [
            Effect::Retract,
            Effect::Stop {
                generation: G2,
                how: StopStep::Close
            },
            Effect::Fence { generation: G1 },
            Effect::Stop {
                generation: G1,
                how: StopStep::Drain
            },
        ]
    );
    // The replacement finishes anyway: too late.
    bench.give(Input::Opened { generation: G2 });
    assert!(bench.last.is_empty());
}

#[test]
fn law_5_enable_during_the_drain_decides_what_comes_next() {
    let mut bench = Bench::process();
    bench
        .proven()
        .advance(5_000)
        .give(Input::Disable)
        .give(Input::Enable);
    assert_eq!(bench.word(), StateWord::Draining);
    bench.gone();
    assert_eq!((bench.word(), bench.charges()), (StateWord::Connecting, 0));

    let mut lazy = Bench::new(Policy {
        lazy: true,
        ..Policy::for_process()
    });
    lazy.give(Input::Start)
        .give(Input::Wanted)
        .opened()
        .give(Input::Disable)
        .give(Input::Enable)
        .gone();
    assert_eq!(lazy.word(), StateWord::Idle);
}

#[test]
fn law_5_restart_works_from_every_state_and_forgets_failures() {
    for (name, mut bench) in everywhere() {
        let before = bench.lifecycle.newest;
        bench.give(Input::Restart).sleep(1_000);
        all_gone(&mut bench);
        bench.sleep(1_000);
        let opening = bench.lifecycle.opening().map(|opening| opening.generation);
        if name == "queued" {
            assert_eq!(opening, Some(before), "it is about to open anyway");
        } else {
            assert!(
                opening.is_some_and(|generation| generation >= before),
                "{name}"
            );
        }
        assert_eq!(bench.charges(), 0, "{name}");
    }
}

#[test]
fn law_6_shutdown_ends_everything_and_nothing_opens_again() {
    for impatient in [false, true] {
        for (name, mut bench) in everywhere() {
            bench.give(Input::Shutdown { impatient });
            if impatient {
                assert!(
                    bench.stops().iter().all(|(_, how)| *how == StopStep::Kill),
                    "{name}: no grace"
                );
            }
            assert!(
                !bench.last.contains(&Effect::Retract),
                "{name}: the catalog outlives us (law 22)"
            );
            let opens = bench.opens.len();
            for order in [
                Input::Enable,
                Input::Wanted,
                Input::Restart,
                Input::Replace,
                Input::Poke(Poke::Credentials),
                Input::Disable,
                Input::Start,
            ] {
                bench.give(order);
            }
            all_gone(&mut bench);
            assert!(bench.lifecycle.is_shut_down(), "{name}");
            bench
                .give(Input::Enable)
                .give(Input::Restart)
                .sleep(600_000);
            assert!(
                bench.lifecycle.is_shut_down() && bench.opens.len() == opens,
                "{name}"
            );
            assert_eq!(bench.lifecycle.next_deadline(), None, "{name}");
        }
    }
}

#[test]
fn law_6_a_second_signal_skips_the_grace_f223() {
    let mut bench = Bench::http();
    bench.proven().advance(5_000).give(Input::Restart).opened();
    bench.give(Input::Shutdown { impatient: false });
    assert_eq!(bench.stops(), [(G2, StopStep::Drain)]);
    bench.give(Input::Shutdown { impatient: true });
    assert_eq!(
        bench.stops(),
        [(G2, StopStep::Kill), (G1, StopStep::Kill)],
        "the retiring one too"
    );
    let fails = bench
        .last
        .iter()
        .filter(|effect| matches!(effect, Effect::Fail { .. }))
        .count();
    assert_eq!(fails, 2, "calls of both are told");
    bench.give(Input::Shutdown { impatient: true });
    assert!(bench.last.is_empty());
}

#[test]
fn law_29_a_stop_escalates_by_our_clock_and_never_gives_up() {
    let mut bench = Bench::process();
    bench.proven().advance(5_000).give(Input::Disable);
    let mut steps = vec![(bench.stops(), 0)];
    let began = bench.now;
    for _ in 0..5 {
        bench.wake();
        steps.push((bench.stops(), bench.now.since(began)));
    }
    let stop = |how| vec![(G1, how)];
    assert_eq!(
        steps,
        [
            (stop(StopStep::Drain), 0),
            (stop(StopStep::Close), 10_000),
            (stop(StopStep::Terminate), 13_000),
            (stop(StopStep::Kill), 16_000),
            (stop(StopStep::Kill), 19_000),
            (stop(StopStep::Kill), 22_000),
        ]
    );
    assert_eq!(
        bench.word(),
        StateWord::Draining,
        "failing to stop is a state"
    );
}

#[test]
fn a_failed_or_cancelled_open_owns_its_runtime_until_it_is_gone_f22() {
    let mut bench = Bench::process();
    bench.give(Input::Start).open_failed(FailureKind::NotMcp);
    assert_eq!(
        (bench.word(), bench.stops()),
        (StateWord::Draining, vec![(G1, StopStep::Close)])
    );
    assert_eq!(bench.wake(), Why::CloseDeadline);
    assert_eq!(bench.wake(), Why::TerminateDeadline);
    assert_eq!(bench.wake(), Why::KillDeadline);
    assert_eq!(bench.opens.len(), 1);
    bench.gone();
    assert_eq!(
        bench.word(),
        StateWord::Connecting,
        "the delay has passed meanwhile"
    );

    let mut cancelled = Bench::http();
    cancelled.give(Input::Start).give(Input::Disable);
    assert_eq!(
        cancelled.stops(),
        [(G1, StopStep::Close)],
        "no drain: it never served"
    );
}

#[test]
fn a_death_while_draining_fails_the_calls_and_sweeps_f62() {
    let mut bench = Bench::process();
    bench.proven().advance(5_000).give(Input::Restart).exited();
    let failure = Failure::from(FailureKind::Exited {
        code: Some(1),
        signal: None,
    });
    assert_eq!(
        bench.effects(),
        [
            Effect::Fail {
                generation: G1,
                failure
            },
            Effect::Stop {
                generation: G1,
                how: StopStep::Kill
            }
        ]
    );
    bench.gone();
    assert_eq!(
        (bench.word(), bench.charges()),
        (StateWord::Connecting, 0),
        "planned: not charged"
    );
}

#[test]
fn without_a_drain_time_calls_are_failed_at_once() {
    let mut bench = Bench::new(Policy {
        drain_ms: 0,
        ..Policy::for_process()
    });
    bench.proven().give(Input::Disable);
    assert_eq!(
        bench.effects(),
        [
            Effect::Retract,
            Effect::Fence { generation: G1 },
            Effect::Fail {
                generation: G1,
                failure: FailureKind::Stopped.into()
            },
            Effect::Stop {
                generation: G1,
                how: StopStep::Close
            },
        ]
    );
}

#[test]
fn a_runtime_that_vanishes_without_a_word_is_a_failure() {
    let mut bench = Bench::process();
    bench.give(Input::Start).gone();
    assert_eq!((bench.word(), bench.charges()), (StateWord::Backoff, 1));
    bench.wake();
    bench.opened().gone();
    assert_eq!((bench.word(), bench.charges()), (StateWord::Backoff, 2));
    let ended: Vec<Generation> = bench
        .last
        .iter()
        .filter_map(|effect| match effect {
            Effect::Fail { generation, .. } => Some(*generation),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [G2], "its calls are told");
}

#[test]
fn calls_are_told_when_their_runtime_vanishes_in_the_middle_of_the_drain() {
    let mut bench = Bench::process();
    bench.proven().advance(5_000).give(Input::Restart).gone();
    let told = Effect::Fail {
        generation: G1,
        failure: FailureKind::StreamClosed.into(),
    };
    assert!(bench.last.contains(&told));
}

#[test]
fn law_21_disable_unpublishes_even_during_a_shutdown() {
    let mut bench = Bench::process();
    bench.proven().give(Input::Shutdown { impatient: false });
    bench.give(Input::Disable);
    assert_eq!(bench.effects(), [Effect::Retract]);
    bench.gone().give(Input::Disable);
    assert_eq!(bench.effects(), [Effect::Retract]);
    assert!(bench.lifecycle.is_shut_down());
}
