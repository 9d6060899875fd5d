//! Planned replacements and lost sessions.

use super::*;

#[test]
fn law_2_an_exclusive_server_opens_again_only_after_the_old_one_is_gone() {
    let mut bench = Bench::process();
    bench.proven().advance(5_000).give(Input::Restart);
    assert_eq!(
        bench.effects(),
        [
            Effect::Fence { generation: G1 },
            Effect::Stop {
                generation: G1,
                how: StopStep::Drain
            }
        ]
    );
    bench.give(Input::Drained { generation: G1 });
    assert_eq!(bench.stops(), [(G1, StopStep::Close)]);
    assert_eq!(bench.opens.len(), 1);
    bench.gone();
    assert_eq!(
        (bench.word(), bench.opens.len(), bench.charges()),
        (StateWord::Connecting, 2, 0)
    );
}

#[test]
fn law_2_an_exited_exclusive_server_is_swept_before_the_next_open() {
    let mut bench = Bench::process();
    bench.proven().advance(5_000).exited();
    let failure = Failure::from(FailureKind::Exited {
        code: Some(1),
        signal: None,
    });
    assert_eq!(
        bench.effects(),
        [
            Effect::Fence { generation: G1 },
            Effect::Fail {
                generation: G1,
                failure
            },
            Effect::Stop {
                generation: G1,
                how: StopStep::Kill
            },
        ]
    );
    assert_eq!(bench.opens.len(), 1);
    bench.gone();
    assert_eq!(bench.opens.len(), 2);
}

#[test]
fn law_2_f215_an_http_server_is_replaced_with_overlap() {
    for order in [Input::Restart, Input::Replace] {
        let mut bench = Bench::http();
        bench.proven().advance(5_000).give(order);
        assert_eq!(
            bench.effects(),
            [
                Effect::RequestOpen {
                    generation: G2,
                    mode: OpenMode::Fresh
                },
                Effect::Open {
                    generation: G2,
                    mode: OpenMode::Fresh
                },
            ],
            "the old one serves on"
        );
        assert_eq!(
            (bench.word(), bench.generation()),
            (StateWord::Connected, G1)
        );
        assert_eq!(bench.lifecycle.status(bench.now).marks.successor, Some(G2));
        bench.opened();
        assert_eq!(
            bench.effects(),
            [
                Effect::Accept { generation: G2 },
                Effect::Publish { generation: G2 },
                Effect::Fence { generation: G1 },
                Effect::Stop {
                    generation: G1,
                    how: StopStep::Drain
                },
            ]
        );
        assert_eq!((bench.generation(), bench.charges()), (G2, 0));
        let last = bench.transitions.last().expect("a record");
        assert_eq!((last.from_generation, last.generation), (G1, G2));
        assert_eq!(bench.lifecycle.status(bench.now).marks.retiring, Some(G1));
        bench.give(Input::Drained { generation: G1 });
        assert_eq!(bench.stops(), [(G1, StopStep::Close)]);
        bench.give(Input::Gone { generation: G1 });
        assert_eq!(bench.lifecycle.status(bench.now).marks.retiring, None);
    }
}

#[test]
fn law_2_a_failing_replacement_leaves_the_old_one_running() {
    let mut bench = Bench::http();
    bench.proven().advance(5_000).give(Input::Replace);
    for charges in 1..=6 {
        let generation = bench.lifecycle.opening().expect("an open").generation;
        bench.open_failed(FailureKind::Unreachable);
        assert_eq!(
            (bench.word(), bench.generation(), bench.charges()),
            (StateWord::Connected, G1, charges)
        );
        assert_eq!(bench.stops(), [(generation, StopStep::Close)]);
        bench.give(Input::Gone { generation }).served();
        assert_eq!(
            bench.charges(),
            charges,
            "the old one's health says nothing about the replacement"
        );
        let status = bench.lifecycle.status(bench.now);
        assert!(status.marks.degraded && status.cause.is_some());
        let waited = status
            .next_attempt
            .expect("another attempt")
            .since(bench.now);
        if charges == 6 {
            assert_eq!(
                waited, 300_000,
                "out of budget: as slowly as a parked server"
            );
        } else {
            while bench.lifecycle.opening().is_none() {
                bench.wake();
            }
        }
    }
    bench.advance(1_000).give(Input::Poke(Poke::Credentials));
    assert!(
        bench.lifecycle.opening().is_some(),
        "new credentials may help"
    );
    bench.opened();
    assert!(!bench.lifecycle.status(bench.now).marks.degraded);
}

#[test]
fn a_replacement_that_needs_a_human_waits_for_one() {
    let mut bench = Bench::http();
    bench
        .proven()
        .advance(5_000)
        .give(Input::Replace)
        .open_failed(FailureKind::BadConfig);
    bench.give(Input::Gone { generation: G2 });
    assert_eq!(bench.lifecycle.status(bench.now).next_attempt, None);
    bench.advance(5_000).give(Input::Replace);
    assert!(bench.lifecycle.opening().is_some());
}

#[test]
fn the_death_of_the_old_one_during_its_replacement_is_not_charged() {
    let mut bench = Bench::http();
    bench.proven().advance(5_000).give(Input::Restart).exited();
    assert_eq!(
        (bench.word(), bench.generation(), bench.charges()),
        (StateWord::Connecting, G2, 0)
    );
    assert_eq!(bench.stops(), [(G1, StopStep::Kill)]);
    bench.opened();
    assert_eq!((bench.word(), bench.opens.len()), (StateWord::Connected, 2));
}

#[test]
fn restarting_during_a_replacement_begins_it_anew() {
    let mut bench = Bench::http();
    bench
        .proven()
        .advance(5_000)
        .give(Input::Replace)
        .advance(5_000)
        .give(Input::Replace);
    assert_eq!(bench.stops(), [(G2, StopStep::Close)]);
    assert_eq!(bench.lifecycle.status(bench.now).marks.successor, Some(G3));
    let before = bench.lifecycle.clone();
    bench.give(Input::Opened { generation: G2 });
    assert_eq!(bench.lifecycle, before, "the old config is never published");
}

#[test]
fn s17_s02_law_7_a_week_of_session_renewals_leaves_no_charge() {
    let mut bench = Bench::http();
    bench.proven();
    for round in 1..=3_360_u64 {
        // Three minutes of little traffic, then the keepalive finds the session gone.
        bench
            .sleep(59_000)
            .served()
            .sleep(59_000)
            .served()
            .sleep(60_000);
        let generation = bench.generation();
        bench.give(Input::SessionLost { generation });
        assert_eq!(
            (bench.word(), bench.generation()),
            (StateWord::Connecting, Generation(round + 1))
        );
        bench.opened();
        // The old session cannot be deleted properly: noise.
        let noise = Failure::from(FailureKind::CleanupFault);
        bench
            .give(Input::Exited {
                generation,
                failure: noise,
            })
            .give(Input::Gone { generation });
        assert_eq!((bench.word(), bench.charges()), (StateWord::Connected, 0));
    }
    assert_eq!(bench.opens.len(), 3_361);
    assert_eq!(bench.lifecycle.status(bench.now).cause, None);
}

#[test]
fn s17_law_7_keepalive_verdicts_of_a_week_leave_no_charge_behind() {
    let mut bench = Bench::http();
    bench.proven();
    for _ in 0..3_360 {
        while bench.word() == StateWord::Connected {
            bench.wake();
        }
        bench.gone().opened();
        assert!(bench.charges() <= 1);
        bench.served();
        assert_eq!(bench.charges(), 0);
    }
}

#[test]
fn s02_s10_s14_law_7_planned_reconnects_of_a_process_are_never_charged() {
    let mut bench = Bench::process();
    bench.proven();
    for round in 0..60_u64 {
        bench.advance(5_000).give(if round % 2 == 0 {
            Input::Restart
        } else {
            Input::Replace
        });
        // Calls do not finish in time: each gets a prompt, typed end.
        let generation = bench.generation();
        bench.wake();
        assert_eq!(
            bench.effects(),
            [
                Effect::Fail {
                    generation,
                    failure: FailureKind::Stopped.into()
                },
                Effect::Stop {
                    generation,
                    how: StopStep::Close
                },
            ]
        );
        bench
            .give(Input::Exited {
                generation,
                failure: FailureKind::CleanupFault.into(),
            })
            .gone();
        assert_eq!(
            (bench.word(), bench.charges()),
            (StateWord::Connecting, 0),
            "no delay left from before"
        );
        bench.opened();
    }
}

#[test]
fn law_26_a_lost_session_takes_the_fast_path() {
    let mut bench = Bench::http();
    bench
        .proven()
        .advance(5_000)
        .give(Input::SessionLost { generation: G1 });
    assert_eq!(
        bench.effects(),
        [
            Effect::Fence { generation: G1 },
            Effect::Stop {
                generation: G1,
                how: StopStep::Drain
            },
            Effect::RequestOpen {
                generation: G2,
                mode: OpenMode::Renewal
            },
            Effect::Open {
                generation: G2,
                mode: OpenMode::Renewal
            },
        ],
        "at once, and nothing is failed: refused calls are sent again"
    );
    // Parallel calls notice the same loss.
    for _ in 0..8 {
        bench.give(Input::SessionLost { generation: G1 });
        assert!(
            bench.last.is_empty(),
            "one renewal for any number of calls (F108)"
        );
    }
    bench.opened();
    assert_eq!((bench.word(), bench.charges()), (StateWord::Connected, 0));
    assert_eq!(
        bench.lifecycle.status(bench.now).marks.retiring,
        Some(G1),
        "the old one delays nobody"
    );
}

#[test]
fn law_26_an_old_session_that_will_not_go_delays_nothing_until_too_many_pile_up() {
    let mut bench = Bench::http();
    bench.policy.renewals.retiring_max = 2;
    bench.proven();
    for _ in 0..2 {
        let generation = bench.advance(5_000).generation();
        bench
            .give(Input::SessionLost { generation })
            .opened()
            .served();
    }
    let generation = bench.advance(1_000).generation();
    bench.give(Input::SessionLost { generation });
    assert_eq!(bench.word(), StateWord::Draining, "a limit on everything");
    bench.gone();
    assert_eq!((bench.word(), bench.charges()), (StateWord::Connecting, 0));
}

#[test]
fn s13_law_9_sessions_lost_before_proof_are_charged_and_park() {
    let mut bench = Bench::http();
    bench.give(Input::Start);
    while bench.word() != StateWord::Parked {
        if bench.word() == StateWord::Connecting {
            bench.opened();
            let generation = bench.generation();
            bench
                .give(Input::SessionLost { generation })
                .give(Input::Gone { generation });
        } else {
            bench.wake();
        }
    }
    assert_eq!(bench.opens.len(), 6);
}

#[test]
fn f107_too_many_renewals_are_failures_of_their_own_kind() {
    let mut bench = Bench::http();
    bench.proven();
    for round in 0..12 {
        let generation = bench.advance(1_500).generation();
        bench
            .give(Input::SessionLost { generation })
            .give(Input::Gone { generation });
        assert_eq!(bench.charges(), u32::from(round >= 10));
        let cause = bench.lifecycle.status(bench.now).cause;
        assert_eq!(
            cause.map(|cause| cause.kind.word()),
            (round >= 10).then_some("session-unstable")
        );
        if bench.word() == StateWord::Backoff {
            bench.wake();
        }
        bench.opened().served();
    }
    assert!(
        FailureKind::SessionUnstable
            .hint()
            .contains("sticky routing")
    );
}

#[test]
fn f107_a_balancer_without_affinity_causes_a_bounded_number_of_renewals_per_minute() {
    // Every new session serves one call, and the next call meets a replica that does not know it.
    let mut bench = Bench::http();
    bench.policy.open_interval_ms = 1;
    bench.policy.backoff.cap_ms = 1_000_000;
    bench.proven();
    let end = bench.now + 600_000;
    let mut renewals: Vec<Time> = Vec::new();
    while bench.now < end {
        let generation = bench.advance(5).generation();
        bench
            .give(Input::SessionLost { generation })
            .give(Input::Gone { generation });
        if bench.word() == StateWord::Backoff {
            bench.wake();
        }
        renewals.push(bench.now);
        bench.opened().served();
    }
    let most = renewals
        .iter()
        .map(|from| {
            let within = |at: &&Time| **at >= *from && at.since(*from) < 60_000;
            renewals.iter().filter(within).count()
        })
        .max();
    // Ten are free, and the waits of the others double: two windows can meet in one minute.
    assert!(
        most.is_some_and(|most| (10..=60).contains(&most)),
        "{most:?}"
    );
}

#[test]
fn s18_a_reconnect_announced_by_the_server_is_not_charged() {
    let mut http = Bench::http();
    http.proven();
    for _ in 0..50 {
        let generation = http.advance(10_000).generation();
        http.give(Input::ServerClosing { generation })
            .give(Input::ServerClosing { generation });
        // It closes before the replacement is there.
        http.exited()
            .opened()
            .give(Input::Gone { generation })
            .served();
        assert_eq!((http.word(), http.charges()), (StateWord::Connected, 0));
    }
    assert_eq!(http.opens.len(), 51);

    let mut process = Bench::process();
    process
        .proven()
        .advance(5_000)
        .give(Input::ServerClosing { generation: G1 });
    assert_eq!(process.word(), StateWord::Draining);
    process.exited().gone();
    assert_eq!(
        (process.word(), process.charges()),
        (StateWord::Connecting, 0)
    );
}

#[test]
fn a_server_that_becomes_a_process_waits_for_its_http_self_to_end() {
    let mut bench = Bench::http();
    bench.proven().advance(5_000).give(Input::Restart).opened();
    // Generation 1 retires; now the config turns the server into a process.
    bench.advance(5_000).policy = Policy::for_process();
    bench.give(Input::Replace);
    assert_eq!(bench.stops(), [(G2, StopStep::Drain)]);
    bench.give(Input::Gone { generation: G2 });
    assert_eq!(
        (bench.word(), bench.generation()),
        (StateWord::Draining, G1)
    );
    assert_eq!(bench.opens.len(), 2);
    bench.gone();
    assert_eq!(
        (bench.word(), bench.opens.len()),
        (StateWord::Connecting, 3)
    );
}
