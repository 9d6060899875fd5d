//! Wake-ups of the machine, changes of its network, and deaths in company.

use super::*;
use crate::lifecycle::state::Keepalive;

const HOUR_MS: u64 = 3_600_000;

/// A clock that stood still while the machine slept (Linux, macOS), and one that went on.
fn sleeps() -> [(u64, u64); 2] {
    [(0, HOUR_MS), (HOUR_MS, 0)]
}

impl Bench {
    fn suspend(&mut self, (counted_ms, asleep_ms): (u64, u64)) -> &mut Bench {
        self.advance(counted_ms).give(Input::Woke { asleep_ms });
        assert!(self.last.is_empty(), "waking up does nothing by itself");
        let due = self.lifecycle.next_deadline();
        assert!(due.is_none_or(|(at, _)| at > self.now), "{due:?} is due");
        self
    }
}

#[test]
fn law_12_f225_a_sleep_while_connecting_or_stopping_costs_no_deadline() {
    for sleep in sleeps() {
        let mut bench = Bench::process();
        bench.give(Input::Start).advance(29_000).suspend(sleep);
        assert_eq!(
            bench.lifecycle.next_deadline(),
            Some((bench.now + 30_000, Why::SpawnDeadline))
        );
        bench.opened();
        assert_eq!((bench.word(), bench.charges()), (StateWord::Connected, 0));

        bench.advance(5_000).give(Input::Restart);
        bench.advance(9_000).suspend(sleep);
        assert_eq!(
            bench.lifecycle.next_deadline(),
            Some((bench.now + 10_000, Why::DrainDeadline)),
            "calls may finish after the sleep"
        );
    }
}

#[test]
fn law_12_f225_a_connected_http_server_is_probed_within_the_spread() {
    for sleep in sleeps() {
        let mut bench = Bench::http();
        bench.proven().advance(30_000).suspend(sleep);
        let woke_at = bench.now;
        assert_eq!(bench.wake(), Why::SuspicionProbe);
        assert!((1..=5_000).contains(&bench.now.since(woke_at)));
        let expected = Effect::Probe {
            generation: G1,
            since: woke_at,
        };
        assert_eq!(bench.effects(), [expected], "old traffic proves nothing");
        bench.give(Input::Proof {
            generation: G1,
            proof: Proof::ProbeAnswered,
        });
        assert_eq!(
            (bench.word(), bench.generation()),
            (StateWord::Connected, G1)
        );
    }
}

#[test]
fn law_12_misses_from_before_the_sleep_do_not_count() {
    for sleep in sleeps() {
        for mut bench in [Bench::http(), Bench::process()] {
            bench.proven().give(Input::Suspect { generation: G1 });
            bench
                .advance(10_000)
                .give(Input::ProbeMissed { generation: G1 });
            bench.wake();
            bench.suspend(sleep);
            // The probe that the sleep interrupted is reported at last.
            bench.give(Input::ProbeMissed { generation: G1 });
            let State::Connected(connected) = bench.lifecycle.state() else {
                panic!("declared dead by a sleep");
            };
            assert!(matches!(connected.keepalive, Keepalive::Suspected { .. }));
            bench.wake();
            assert_eq!(bench.effects().len(), 1, "probed");
            assert!(!bench.lifecycle.status(bench.now).marks.degraded);
        }
    }
}

#[test]
fn law_12_a_quiet_process_is_left_alone() {
    for sleep in sleeps() {
        let mut bench = Bench::process();
        bench.proven().suspend(sleep);
        assert_eq!(bench.lifecycle.next_deadline(), None, "it is watched");
    }
}

#[test]
fn law_12_a_sleep_is_no_stable_minute_and_no_idle_time() {
    for sleep in sleeps() {
        let mut bench = Bench::new(Policy {
            idle_shutdown_ms: Some(600_000),
            ..Policy::for_process()
        });
        bench.give(Input::Start).opened().suspend(sleep);
        assert!(!bench.lifecycle.status(bench.now).proven);
        assert_eq!(
            bench.lifecycle.next_deadline(),
            Some((bench.now + 60_000, Why::Stable))
        );
        bench.served();
        assert_eq!(
            bench.lifecycle.next_deadline(),
            Some((bench.now + 600_000, Why::IdleLimit))
        );
    }
}

#[test]
fn law_12_what_the_sleep_broke_is_charged_to_nobody_and_only_once() {
    for sleep in sleeps() {
        for mut bench in [Bench::http(), Bench::process()] {
            bench.proven().suspend(sleep).exited().gone();
            assert_eq!(
                (bench.word(), bench.charges()),
                (StateWord::Backoff, 0),
                "not charged, and not all at once"
            );
            bench.sleep(5_000);
            assert_eq!(bench.word(), StateWord::Connecting);
            bench.open_failed(FailureKind::Unreachable).gone();
            assert_eq!(bench.charges(), 1, "the sleep is to blame once");
        }
        // After the grace it is the server's.
        let mut bench = Bench::process();
        bench.proven().suspend(sleep).sleep(60_000);
        bench.exited();
        assert_eq!(bench.charges(), 1);
        // Proof ends it.
        let mut bench = Bench::process();
        bench.proven().suspend(sleep).served().exited();
        assert_eq!(bench.charges(), 1);
    }
}

#[test]
fn law_12_f227_a_login_that_is_needed_after_a_sleep_is_needed() {
    let mut bench = Bench::http();
    bench.proven().suspend((0, HOUR_MS));
    bench
        .give(Input::Exited {
            generation: G1,
            failure: FailureKind::NeedsLogin.into(),
        })
        .gone();
    assert_eq!(bench.word(), StateWord::Parked);
    assert_eq!(bench.lifecycle.next_deadline(), None);
}

#[test]
fn law_12_waiting_servers_are_tried_after_a_sleep_but_not_in_the_same_instant() {
    for sleep in sleeps() {
        let mut waiting = Bench::http();
        waiting.give(Input::Start);
        let failure = Failure::from(FailureKind::RateLimited).with_retry_after_ms(HOUR_MS);
        waiting
            .give(Input::OpenFailed {
                generation: G1,
                failure,
            })
            .gone();
        let mut parked = Bench::new(Policy {
            budget: 0,
            ..Policy::for_http()
        });
        parked
            .give(Input::Start)
            .open_failed(FailureKind::Unreachable)
            .gone();
        for mut bench in [waiting, parked] {
            assert_eq!(bench.suspend(sleep).opens.len(), 1);
            let woke_at = bench.now;
            bench.wake();
            assert_eq!(bench.opens.len(), 2, "{}", bench.word());
            assert!((1..=10_000).contains(&bench.now.since(woke_at)));
        }
    }
}

#[test]
fn law_12_a_parked_server_that_fails_after_a_sleep_gets_one_more_attempt_and_no_ladder() {
    let mut bench = Bench::new(Policy {
        budget: 0,
        ..Policy::for_http()
    });
    bench
        .give(Input::Start)
        .open_failed(FailureKind::Unreachable)
        .gone();
    bench.suspend((0, HOUR_MS)).wake();
    for wait_ms in [10_000, 300_000, 300_000] {
        let failed_at = bench.now;
        bench.open_failed(FailureKind::Unreachable).gone();
        assert_eq!(bench.word(), StateWord::Parked);
        bench.wake();
        assert_eq!(bench.now.since(failed_at), wait_ms);
    }
}

#[test]
fn law_12_what_is_off_stays_off() {
    for order in [Input::Disable, Input::Shutdown { impatient: true }] {
        let mut bench = Bench::process();
        bench.proven().give(order).gone();
        let before = bench.lifecycle.clone();
        bench.suspend((0, HOUR_MS));
        assert_eq!(bench.lifecycle, before);
    }
}

#[test]
fn law_12_a_shutdown_that_is_slept_through_still_escalates() {
    let mut bench = Bench::process();
    bench.proven().give(Input::Shutdown { impatient: false });
    let mut steps = Vec::new();
    while steps.last() != Some(&(G1, StopStep::Kill)) {
        bench.advance(1_000).suspend((0, HOUR_MS));
        bench.wake();
        steps.extend(bench.stops());
    }
    assert_eq!(
        steps.iter().map(|(_, how)| *how).collect::<Vec<_>>(),
        [StopStep::Close, StopStep::Terminate, StopStep::Kill]
    );
}

#[test]
fn f229_a_network_change_revives_what_waits_but_never_later_than_it_would_have_been() {
    let mut bench = Bench::http();
    bench.policy.backoff.base_ms = 1_000_000;
    bench.policy.backoff.cap_ms = 1_000_000;
    bench.give(Input::Start).advance(2_000);
    bench.open_failed(FailureKind::Unreachable).gone();
    let mut last = bench.lifecycle.next_deadline();
    for _ in 0..20 {
        bench.give(Input::Poke(Poke::Network));
        assert!(bench.effects().is_empty());
        let next = bench.lifecycle.next_deadline();
        assert!(next <= last, "a flapping network postpones nothing");
        last = next;
    }
    assert!(last.is_some_and(|(at, _)| at.since(bench.now) <= 5_000));
}

#[test]
fn f77_a_death_in_company_comes_back_later_and_says_so_until_it_has_proven_itself() {
    let mut bench = Bench::process();
    bench.proven().advance(60_000).exited();
    bench.give(Input::Stagger).gone();
    assert_eq!((bench.word(), bench.charges()), (StateWord::Backoff, 1));
    let died_together = |bench: &Bench| bench.lifecycle.status(bench.now).marks.died_together;
    assert!(died_together(&bench));
    bench.wake();
    bench.opened();
    assert!(died_together(&bench), "a handshake proves nothing");
    bench.served();
    assert!(!died_together(&bench));
}

#[test]
fn f153_however_many_wait_for_a_parked_server_one_attempt_is_made() {
    let mut bench = Bench::new(Policy {
        budget: 0,
        ..Policy::for_http()
    });
    bench
        .give(Input::Start)
        .open_failed(FailureKind::Unreachable)
        .gone();
    bench.advance(10_000);
    for _ in 0..100 {
        bench.give(Input::Wanted);
    }
    assert_eq!(
        (bench.opens.len(), bench.word()),
        (2, StateWord::Connecting)
    );
    // The attempt fails: whoever still waits makes no second one before the interval is over.
    bench.open_failed(FailureKind::Unreachable).gone();
    for _ in 0..99 {
        bench.advance(100).give(Input::Wanted).give(Input::Timeout);
    }
    assert_eq!(bench.opens.len(), 2);
}

#[test]
fn f69_opens_of_a_server_that_greets_and_exits_are_bounded_in_any_minute() {
    // (what it does before it exits, most opens in a minute)
    for (serves_a_call, most) in [(false, 6), (true, 61)] {
        let mut bench = Bench::process();
        bench.give(Input::Start);
        let end = bench.now + 300_000;
        while bench.now < end {
            if bench.word() == StateWord::Connecting {
                bench.opened();
                if serves_a_call {
                    bench.served();
                }
                bench.exited().gone();
            } else {
                bench.wake();
            }
        }
        for (from, _) in &bench.opens {
            let within = |at: &Time| *at >= *from && at.since(*from) < 60_000;
            let opens = bench.opens.iter().filter(|(at, _)| within(at)).count();
            assert!(opens <= most, "{opens} opens in a minute");
        }
    }
}
