//! The twenty statements about planned reconnects and the retry budget (S-01 to S-20) that a lifecycle decides. S-05 to S-08
//! are decided where faults are classified.

use super::*;
use crate::failure::{Blame, every_kind};

/// What closing `generation` raises, however little of it was needed.
fn noise(generation: Generation) -> [Input; 3] {
    let failure = |kind: FailureKind| Failure::from(kind).with_detail("raised while closing");
    [
        Input::Exited {
            generation,
            failure: failure(FailureKind::CleanupFault),
        },
        Input::OpenFailed {
            generation,
            failure: failure(FailureKind::CleanupFault),
        },
        Input::Exited {
            generation,
            failure: failure(FailureKind::StreamClosed),
        },
    ]
}

/// Opens that fail, until `charges` are charged, and then one that succeeds and proves nothing.
fn charged(mut bench: Bench, charges: u32) -> Bench {
    bench.give(Input::Start);
    for _ in 0..charges {
        bench.open_failed(FailureKind::Unreachable).gone();
        while bench.word() == StateWord::Backoff {
            bench.wake();
        }
    }
    bench.opened();
    assert_eq!(bench.charges(), charges);
    bench
}

/// One planned reconnect of every sort, each with its noise; says what was wrong afterwards.
fn planned_reconnects(bench: &mut Bench, rounds: u64) -> Result<(), String> {
    bench.proven();
    for round in 0..rounds {
        let old = bench.advance(60_000).generation();
        let planned = match round % 5 {
            0 => Input::Restart,
            1 => Input::Replace,
            2 => Input::SessionLost { generation: old },
            3 => Input::ServerClosing { generation: old },
            _ => Input::Unused { generation: old },
        };
        bench.give(planned);
        for input in noise(old) {
            bench.give(input);
        }
        if bench.word() == StateWord::Draining {
            bench.gone();
        }
        if bench.word() == StateWord::Idle {
            bench.give(Input::Wanted);
        }
        if bench.lifecycle.opening().is_some() {
            bench.opened();
        }
        // Some of it comes when the new one serves already.
        for input in noise(old) {
            bench.give(input);
        }
        bench.give(Input::Gone { generation: old });
        let (word, charges) = (bench.word(), bench.charges());
        let latched = bench.lifecycle.status(bench.now).cause;
        if word != StateWord::Connected || charges != 0 || latched.is_some() {
            return Err(format!(
                "{word} with {charges} charges and {latched:?} in round {round}"
            ));
        }
        bench.served();
    }
    Ok(())
}

#[test]
fn s01_noise_of_a_planned_reconnect_leaves_the_counter_exactly_as_it_was() {
    for charges in 0..=4 {
        let mut bench = charged(Bench::process(), charges);
        let old = bench.generation();
        bench.give(Input::Unused { generation: old });
        for input in noise(old) {
            bench.give(input);
        }
        bench.gone();
        assert_eq!((bench.word(), bench.charges()), (StateWord::Idle, charges));
    }
}

#[test]
fn s02_fifty_planned_reconnects_with_noise_leave_the_server_connected() {
    for mut bench in [Bench::http(), Bench::process()] {
        if bench.policy.exclusive {
            // A process has no session to lose: it would be a failure of its own.
            bench.spoil = |_, input| match input {
                Input::SessionLost { .. } => Input::Restart,
                other => other,
            };
        }
        assert_eq!(planned_reconnects(&mut bench, 250), Ok(()));
        assert!(bench.opens.len() > 200, "they were reconnects");
    }
}

#[test]
fn s03_every_genuine_kind_stops_after_exactly_six_attempts() {
    let genuine = |kind: &FailureKind| kind.blame() != Blame::Human;
    for kind in every_kind().into_iter().filter(genuine) {
        let mut bench = Bench::process();
        bench.give(Input::Start);
        for attempt in 1..=6 {
            assert_eq!(bench.opens.len(), attempt, "{kind}");
            bench.open_failed(kind).gone();
            if attempt < 6 {
                bench.wake();
            }
        }
        assert_eq!(bench.word(), StateWord::Parked, "{kind}");
    }
}

#[test]
fn s09_an_open_that_fails_at_once_neither_spins_nor_delays_a_shutdown() {
    let mut bench = Bench::new(Policy {
        budget: u32::MAX,
        ..Policy::for_process()
    });
    // Even with every wait configured away.
    bench.policy.open_interval_ms = 0;
    bench.policy.backoff.base_ms = 0;
    bench.give(Input::Start);
    let mut last = None;
    for _ in 0..2_000 {
        bench.open_failed(FailureKind::SpawnFailed).gone();
        assert_eq!(bench.word(), StateWord::Backoff, "it yields to the clock");
        let mut stopped = bench.lifecycle.clone();
        let mut effects = Effects::new();
        let order = Input::Shutdown { impatient: false };
        stopped.step(&bench.policy, bench.now, order, &mut effects);
        assert!(stopped.is_shut_down(), "in this very step");
        bench.wake();
        assert!(last.replace(bench.now) < Some(bench.now), "time has passed");
    }
}

#[test]
fn s10_after_a_planned_reconnect_the_delay_is_not_the_one_of_earlier_outages() {
    for planned in [
        Input::Restart,
        Input::Replace,
        Input::Unused {
            generation: Generation(5),
        },
    ] {
        let mut bench = charged(Bench::process(), 4);
        bench.advance(2_000).give(planned.clone());
        let [fault, ..] = noise(Generation(5));
        bench.give(fault).gone().give(Input::Wanted);
        assert_eq!(
            (bench.word(), bench.opens.last().map(|(at, _)| *at)),
            (StateWord::Connecting, Some(bench.now)),
            "at once after {}",
            planned.word()
        );
    }
}

#[test]
fn s11_noise_between_failures_does_not_refill_the_budget() {
    // Genuine, benign, genuine, benign: no proof in between.
    let mut bench = Bench::process();
    bench.give(Input::Start);
    for genuine in 1..=6 {
        bench.open_failed(FailureKind::Unreachable).gone();
        assert_eq!(bench.charges(), genuine);
        if genuine < 6 {
            bench.wake();
            bench.opened();
            let old = bench.generation();
            bench.advance(2_000).give(Input::Unused { generation: old });
            for input in noise(old) {
                bench.give(input);
            }
            bench.gone().give(Input::Wanted);
        }
    }
    assert_eq!(bench.word(), StateWord::Parked);
}

#[test]
fn s13_a_clean_end_right_after_the_handshake_parks_as_well() {
    let mut bench = Bench::process();
    bench.give(Input::Start);
    while bench.word() != StateWord::Parked {
        bench.opened();
        let failure = FailureKind::Exited {
            code: Some(0),
            signal: None,
        };
        let generation = bench.generation();
        bench.give(Input::Exited {
            generation,
            failure: failure.into(),
        });
        bench.gone();
        if bench.word() == StateWord::Backoff {
            bench.wake();
        }
    }
    assert_eq!(bench.opens.len(), 6);
}

#[test]
fn s14_calls_that_a_teardown_has_to_fail_are_told_why_and_nothing_is_charged() {
    for order in [
        Input::Restart,
        Input::Replace,
        Input::Disable,
        Input::Shutdown { impatient: true },
    ] {
        let mut bench = Bench::process();
        bench.proven().advance(5_000).give(order.clone());
        let mut told = bench.effects();
        while bench.word() == StateWord::Draining
            && !told.iter().any(|e| matches!(e, Effect::Fail { .. }))
        {
            bench.wake();
            told = bench.effects();
        }
        let failure = FailureKind::Stopped.into();
        let expected = Effect::Fail {
            generation: G1,
            failure,
        };
        assert!(told.contains(&expected), "{}: {told:?}", order.word());
        assert_eq!(bench.charges(), 0);
    }
}

#[test]
fn s15_s16_noise_is_attached_and_counted_apart_and_never_the_cause() {
    let mut bench = Bench::process();
    bench.proven().exited();
    let primary = bench.lifecycle.status(bench.now).cause.expect("a cause");
    let fault = Failure::from(FailureKind::CleanupFault).with_detail("pipe already closed");
    bench.give(Input::Exited {
        generation: G1,
        failure: fault.clone(),
    });
    assert_eq!(
        bench.last,
        [Effect::CleanupFault {
            generation: G1,
            failure: fault.clone()
        }],
        "a record of its own, and no change of state"
    );
    bench.gone();
    let status = bench.lifecycle.status(bench.now);
    assert_eq!((status.cause, status.charges), (Some(primary), 1));
    assert_eq!(
        (status.cleanup_fault, status.cleanup_faults),
        (Some(fault), 1)
    );
}

#[test]
fn s16_the_end_that_was_asked_for_is_no_fault() {
    let mut bench = Bench::process();
    bench.proven().advance(5_000).give(Input::Restart);
    bench.exited();
    bench.give(Input::Exited {
        generation: G1,
        failure: FailureKind::StreamClosed.into(),
    });
    assert_eq!(bench.lifecycle.status(bench.now).cleanup_faults, 0);
}

/// S-19: each of these is the machine without one part of the fix; the scenario of S-02 must notice every one.
#[test]
fn s19_the_regression_test_fails_when_the_fix_is_removed() {
    type Defect = fn(&Lifecycle, Input) -> Input;
    let without_the_fix: [(&str, Defect); 3] = [
        (
            "noise is blamed on whoever serves",
            |machine, input| match (input, machine.state()) {
                (Input::Exited { failure, .. }, State::Connected(connected)) => Input::Exited {
                    generation: connected.generation,
                    failure,
                },
                (input, _) => input,
            },
        ),
        (
            "a planned end is taken for a failure",
            |machine, input| match (input, machine.state()) {
                (Input::Restart, State::Connected(connected)) => Input::Exited {
                    generation: connected.generation,
                    failure: FailureKind::CleanupFault.into(),
                },
                (input, _) => input,
            },
        ),
        (
            "a lost session is taken for a crash",
            |_, input| match input {
                Input::SessionLost { generation } => Input::Exited {
                    generation,
                    failure: FailureKind::StreamClosed.into(),
                },
                other => other,
            },
        ),
    ];
    for (name, defect) in without_the_fix {
        let mut bench = Bench::http();
        bench.spoil = defect;
        assert!(
            planned_reconnects(&mut bench, 50).is_err(),
            "missed: {name}"
        );
    }
    assert_eq!(planned_reconnects(&mut Bench::http(), 50), Ok(()));
}

/// Texts that a machine which reads texts would fall for.
const HOSTILE: [&str; 9] = [
    "",
    "401 Unauthorized: please log in",
    "404 session not found",
    "cancelled",
    "cleanup fault, ignore me",
    "connection refused (os error 111)",
    "shutting down; planned reconnect",
    "Retry-After: 86400",
    "\u{0}\u{1b}[2J{\"error\":{\"code\":-32001}}\u{202e}",
];

/// The same effects with every text removed.
fn without_texts(effects: &[Effect]) -> Vec<Effect> {
    let bare = |failure: &Failure| Failure {
        detail: None,
        ..failure.clone()
    };
    let mute = |effect: &Effect| match effect {
        Effect::Fail {
            generation,
            failure,
        } => Effect::Fail {
            generation: *generation,
            failure: bare(failure),
        },
        Effect::CleanupFault {
            generation,
            failure,
        } => Effect::CleanupFault {
            generation: *generation,
            failure: bare(failure),
        },
        Effect::Changed(change) => {
            let mut change = change.clone();
            change.failure = change.failure.as_ref().map(bare);
            if let Cause::Failed(failure) = &change.cause {
                change.cause = Cause::Failed(bare(failure));
            }
            Effect::Changed(change)
        }
        other => other.clone(),
    };
    effects.iter().map(mute).collect()
}

#[test]
fn s20_no_text_is_ever_looked_at() {
    type Scene = fn() -> Bench;
    let scenes: [Scene; 5] = [
        || {
            let mut bench = Bench::process();
            bench.give(Input::Start);
            bench
        },
        || {
            let mut bench = Bench::http();
            bench.proven();
            bench
        },
        || charged(Bench::process(), 3),
        || {
            let mut bench = Bench::http();
            bench.proven().advance(5_000).give(Input::Restart);
            bench
        },
        || {
            let mut bench = Bench::process();
            bench.proven().advance(5_000).give(Input::Disable);
            bench
        },
    ];
    let run = |scene: Scene, kind: FailureKind, early: bool, text: Option<&str>| {
        let mut bench = scene();
        let generation = bench.generation();
        let failure = Failure {
            kind,
            detail: text.map(Into::into),
            retry_after_ms: None,
        };
        bench.give(if early {
            Input::OpenFailed {
                generation,
                failure,
            }
        } else {
            Input::Exited {
                generation,
                failure,
            }
        });
        let first = without_texts(&bench.last);
        bench.gone();
        let status = bench.lifecycle.status(bench.now);
        let told = (status.state, status.charges, status.next, status.attempt);
        (first, without_texts(&bench.last), told)
    };
    for kind in every_kind() {
        for (early, scene) in [true, false]
            .into_iter()
            .flat_map(|early| scenes.map(|scene| (early, scene)))
        {
            let silent = run(scene, kind, early, None);
            for text in HOSTILE {
                assert_eq!(
                    run(scene, kind, early, Some(text)),
                    silent,
                    "{kind}: {text}"
                );
            }
        }
    }
}
