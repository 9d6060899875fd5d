//! Charges, backoff, parking and revival.

use super::*;

/// Fails every attempt until the server is parked.
fn fail_until_parked(bench: &mut Bench, kind: FailureKind) {
    bench.give(Input::Start);
    while bench.word() != StateWord::Parked {
        match bench.word() {
            StateWord::Connecting => {
                bench.open_failed(kind).gone();
            }
            StateWord::Backoff => {
                bench.wake();
            }
            other => panic!("unexpected state {other}"),
        }
    }
}

#[test]
fn s03_law_9_genuine_failures_park_after_exactly_budget_plus_one_attempts() {
    for budget in [0, 1, 5] {
        let mut bench = Bench::new(Policy {
            budget,
            ..Policy::for_process()
        });
        fail_until_parked(&mut bench, FailureKind::Unreachable);
        assert_eq!(bench.opens.len() as u32, budget + 1);
    }
}

#[test]
fn s04_noise_before_first_readiness_follows_the_same_ladder() {
    let mut bench = Bench::process();
    fail_until_parked(&mut bench, FailureKind::CleanupFault);
    assert_eq!(bench.opens.len(), 6);
}

#[test]
fn s13_law_9_connecting_and_dropping_for_ever_parks_too() {
    let mut bench = Bench::process();
    bench.give(Input::Start);
    while bench.word() != StateWord::Parked {
        match bench.word() {
            StateWord::Connecting => {
                bench.opened().advance(10).exited().gone();
            }
            StateWord::Backoff => {
                bench.wake();
            }
            other => panic!("unexpected state {other}"),
        }
    }
    assert_eq!(bench.opens.len(), 6);
}

#[test]
fn s09_law_10_there_is_a_minimum_interval_between_any_two_opens() {
    // Opens that fail at once, restarts, toggles and network changes, all as fast as possible.
    let mut bench = Bench::new(Policy {
        budget: 1_000,
        ..Policy::for_process()
    });
    bench.give(Input::Start);
    for round in 0..400 {
        match bench.word() {
            StateWord::Connecting => bench.open_failed(FailureKind::SpawnFailed).gone(),
            _ => match round % 5 {
                0 => bench.give(Input::Restart),
                1 => bench.give(Input::Disable).give(Input::Enable),
                2 => bench.give(Input::Poke(Poke::Network)),
                3 => bench.give(Input::Replace),
                _ => bench.advance(130).give(Input::Timeout),
            },
        };
    }
    assert!(bench.opens.len() > 5);
    for pair in bench.opens.windows(2) {
        assert!(pair[1].0.since(pair[0].0) >= 1_000, "{pair:?}");
    }
}

#[test]
fn s09_a_shutdown_during_instant_failures_is_honoured_at_once() {
    let mut bench = Bench::process();
    bench
        .give(Input::Start)
        .open_failed(FailureKind::SpawnFailed)
        .gone();
    assert_eq!(bench.word(), StateWord::Backoff);
    bench.give(Input::Shutdown { impatient: false });
    assert!(bench.lifecycle.is_shut_down());
    assert_eq!(bench.lifecycle.next_deadline(), None);
}

#[test]
fn law_10_backoff_grows_within_its_bounds_and_honours_retry_after() {
    let mut bench = Bench::process();
    bench.give(Input::Start);
    for charges in 1..=5 {
        bench
            .advance(5_000)
            .open_failed(FailureKind::Unreachable)
            .gone();
        let (until, why) = bench
            .lifecycle
            .next_deadline()
            .map_or((bench.now, Why::Retry), |next| next);
        assert_eq!((why, bench.charges()), (Why::Retry, charges));
        assert!(until.since(bench.now) <= 250 << (charges - 1));
        if bench.word() == StateWord::Backoff {
            bench.wake();
        }
    }

    let mut bench = Bench::process();
    bench.give(Input::Start);
    let failure = Failure::from(FailureKind::RateLimited).with_retry_after_ms(3_600_000);
    bench
        .give(Input::OpenFailed {
            generation: G1,
            failure,
        })
        .gone();
    assert_eq!(
        bench.lifecycle.next_deadline(),
        Some((bench.now + 600_000, Why::Retry)),
        "clamped (F103)"
    );
    bench.give(Input::Poke(Poke::Network));
    assert_eq!(
        bench.word(),
        StateWord::Backoff,
        "a network change does not override the server's wish"
    );
    bench.advance(2_000).give(Input::Restart);
    assert_eq!(bench.word(), StateWord::Connecting, "an operator does");
}

#[test]
fn law_15_f102_a_server_that_says_when_to_come_back_is_never_charged_and_never_parked() {
    let mut bench = Bench::new(Policy {
        budget: 0,
        ..Policy::for_process()
    });
    bench.give(Input::Start);
    for attempt in 1..=20 {
        let failure = Failure::from(FailureKind::RateLimited).with_retry_after_ms(5_000);
        bench
            .give(Input::OpenFailed {
                generation: Generation(attempt),
                failure,
            })
            .gone();
        assert_eq!((bench.word(), bench.charges()), (StateWord::Backoff, 0));
        let (until, why) = bench.lifecycle.next_deadline().unwrap();
        assert_eq!((until.since(bench.now), why), (5_000, Why::Retry));
        bench.wake();
    }
    // One that only says that it is too much is a failure like others: nothing else would slow us down.
    bench
        .give(Input::OpenFailed {
            generation: Generation(21),
            failure: FailureKind::RateLimited.into(),
        })
        .gone();
    assert_eq!(bench.word(), StateWord::Parked);
}

#[test]
fn law_7_a_proven_connection_that_dies_is_charged_once_and_reopened_at_once() {
    let mut bench = Bench::process();
    bench.proven().advance(3_600_000).exited();
    assert_eq!(bench.charges(), 1);
    bench.gone();
    assert_eq!(
        (bench.word(), bench.generation()),
        (StateWord::Connecting, G2)
    );
    bench.opened();
    assert_eq!(bench.charges(), 1, "a handshake proves nothing (S-12)");
    bench.served();
    assert_eq!(bench.charges(), 0);
}

#[test]
fn s12_law_9_each_kind_of_proof_resets_the_budget() {
    let flapping = || {
        let mut bench = Bench::process();
        bench.give(Input::Start).opened().exited().gone();
        bench.wake();
        bench.opened();
        assert_eq!(bench.charges(), 1);
        bench
    };
    let mut by_call = flapping();
    by_call.served();
    assert_eq!(by_call.charges(), 0);
    let mut by_probe = flapping();
    let generation = by_probe.generation();
    by_probe.give(Input::Proof {
        generation,
        proof: Proof::ProbeAnswered,
    });
    assert_eq!(by_probe.charges(), 0);
    let mut by_time = flapping();
    by_time.sleep(59_999);
    assert_eq!(by_time.charges(), 1);
    by_time.sleep(1);
    assert_eq!(
        (
            by_time.charges(),
            by_time.lifecycle.status(by_time.now).proven
        ),
        (0, true)
    );
    let mut by_traffic = flapping();
    let generation = by_traffic.generation();
    by_traffic.give(Input::Traffic {
        generation,
        at: by_traffic.now,
    });
    assert_eq!(by_traffic.charges(), 1, "bytes are life, not proof");
}

#[test]
fn s11_planned_reconnects_do_not_erase_earlier_failures() {
    // Genuine failures with a planned reconnect between them: the budget still runs out.
    let mut bench = Bench::http();
    bench.give(Input::Start).opened();
    let mut genuine = 0;
    while bench.word() != StateWord::Parked {
        match bench.word() {
            StateWord::Connected => {
                let generation = bench.generation();
                bench.give(Input::ServerClosing { generation });
                bench.advance(2_000).exited().gone();
                genuine += 1;
            }
            StateWord::Connecting => {
                bench.opened();
            }
            _ => {
                bench.wake();
            }
        }
    }
    assert_eq!(genuine, 6);
}

#[test]
fn law_11_f203_f204_what_needs_a_human_parks_at_once_and_is_never_probed() {
    for kind in [
        FailureKind::SpawnNotFound,
        FailureKind::CwdMissing,
        FailureKind::BadConfig,
        FailureKind::NeedsLogin,
        FailureKind::Forbidden,
        FailureKind::VersionMismatch,
    ] {
        let mut bench = Bench::process();
        bench.give(Input::Start).open_failed(kind).gone();
        assert_eq!((bench.word(), bench.charges()), (StateWord::Parked, 0));
        assert_eq!(bench.lifecycle.next_deadline(), None);
        bench
            .advance(3_600_000)
            .give(Input::Wanted)
            .give(Input::Poke(Poke::Network));
        assert_eq!(
            bench.word(),
            StateWord::Parked,
            "no call and no network change can help"
        );
        for cure in [
            Input::Poke(Poke::Credentials),
            Input::Poke(Poke::Config),
            Input::Replace,
            Input::Restart,
        ] {
            let mut cured = Bench {
                lifecycle: bench.lifecycle.clone(),
                now: bench.now,
                ..Bench::process()
            };
            cured.give(cure);
            assert_eq!(cured.word(), StateWord::Connecting);
        }
    }
}

#[test]
fn law_11_a_login_needed_in_mid_life_parks_without_a_charge() {
    let mut bench = Bench::http();
    bench
        .proven()
        .give(Input::Exited {
            generation: G1,
            failure: FailureKind::NeedsLogin.into(),
        })
        .gone();
    assert_eq!((bench.word(), bench.charges()), (StateWord::Parked, 0));
}

#[test]
fn law_11_a_parked_server_probes_itself_one_attempt_at_a_time() {
    let mut bench = Bench::process();
    fail_until_parked(&mut bench, FailureKind::Unreachable);
    for round in 1..=3 {
        assert_eq!(
            bench.lifecycle.next_deadline(),
            Some((bench.now + 300_000, Why::ParkedProbe))
        );
        bench.wake();
        assert_eq!(bench.word(), StateWord::Connecting);
        bench.open_failed(FailureKind::Unreachable).gone();
        assert_eq!(
            (bench.word(), bench.opens.len()),
            (StateWord::Parked, 6 + round),
            "no backoff ladder"
        );
    }
    bench.wake();
    bench.opened().exited().gone();
    assert_eq!(
        bench.word(),
        StateWord::Parked,
        "a handshake does not refill the budget"
    );
    bench.wake();
    bench.opened().served().exited().gone();
    assert_ne!(bench.word(), StateWord::Parked, "proof does");
}

#[test]
fn law_11_a_call_causes_at_most_one_attempt_per_interval() {
    let mut bench = Bench::process();
    fail_until_parked(&mut bench, FailureKind::Unreachable);
    let before = bench.opens.len();
    for _ in 0..100 {
        bench
            .give(Input::Wanted)
            .give(Input::Poke(Poke::Network))
            .advance(99);
    }
    assert_eq!(
        bench.opens.len(),
        before,
        "within ten seconds of being parked nothing is tried"
    );
    bench.advance(1_000).give(Input::Wanted).give(Input::Wanted);
    assert_eq!(bench.opens.len(), before + 1);
    bench
        .open_failed(FailureKind::Unreachable)
        .gone()
        .give(Input::Wanted);
    assert_eq!(
        (bench.word(), bench.opens.len()),
        (StateWord::Parked, before + 1)
    );
}

#[test]
fn credentials_that_arrive_during_a_failing_attempt_are_not_lost() {
    let mut bench = Bench::http();
    bench
        .give(Input::Start)
        .give(Input::Poke(Poke::Credentials));
    bench.open_failed(FailureKind::NeedsLogin).gone();
    assert_eq!(
        bench.word(),
        StateWord::Backoff,
        "not parked: the attempt used what has been replaced"
    );
    bench.wake();
    bench.open_failed(FailureKind::NeedsLogin).gone();
    assert_eq!(bench.word(), StateWord::Parked, "once");

    let mut bench = Bench::http();
    bench
        .give(Input::Start)
        .open_failed(FailureKind::NeedsLogin);
    bench.give(Input::Poke(Poke::Credentials)).gone();
    assert_eq!(bench.word(), StateWord::Backoff);
}

#[test]
fn s01_s15_law_4_faults_of_closing_neither_charge_nor_mask() {
    let mut bench = Bench::process();
    bench.proven().exited();
    let charges = bench.charges();
    for kind in [
        FailureKind::CleanupFault,
        FailureKind::NeedsLogin,
        FailureKind::StreamClosed,
    ] {
        bench.give(Input::Exited {
            generation: G1,
            failure: kind.into(),
        });
        bench.give(Input::OpenFailed {
            generation: G1,
            failure: kind.into(),
        });
    }
    assert_eq!(bench.charges(), charges);
    let cause = bench.lifecycle.status(bench.now).cause.expect("a cause");
    assert_eq!(
        cause.kind,
        FailureKind::Exited {
            code: Some(1),
            signal: None
        },
        "the first real failure stays"
    );
}

#[test]
fn law_11_a_network_change_during_the_last_teardown_brings_the_probe_forward() {
    let mut bench = Bench::new(Policy {
        budget: 0,
        ..Policy::for_http()
    });
    bench
        .give(Input::Start)
        .open_failed(FailureKind::Unreachable);
    bench.give(Input::Poke(Poke::Network)).gone();
    assert_eq!(
        bench.lifecycle.next_deadline(),
        Some((bench.now + 10_000, Why::ParkedProbe))
    );
}

#[test]
fn a_network_change_during_a_teardown_skips_the_wait_after_it() {
    let mut bench = Bench::process();
    bench.policy.backoff.base_ms = 1_000_000;
    bench.policy.backoff.cap_ms = 1_000_000;
    bench.give(Input::Start).advance(2_000);
    bench.open_failed(FailureKind::Unreachable);
    bench.give(Input::Poke(Poke::Network)).gone();
    assert_eq!((bench.word(), bench.charges()), (StateWord::Backoff, 1));
    bench.sleep(bench.policy.wake.spread_ms);
    assert_eq!(bench.word(), StateWord::Connecting);
}
