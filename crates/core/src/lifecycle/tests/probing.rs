//! Keepalive and suspicion.

use super::*;

#[test]
fn law_14_a_quiet_link_is_probed_and_several_misses_are_needed() {
    let mut bench = Bench::http();
    bench.proven();
    assert_eq!(
        bench.lifecycle.next_deadline(),
        Some((bench.now + 60_000, Why::KeepaliveIdle))
    );
    bench.wake();
    assert_eq!(
        bench.effects(),
        [Effect::Probe {
            generation: G1,
            since: bench.now.back(60_000)
        }]
    );
    for _ in 0..2 {
        bench
            .advance(10_000)
            .give(Input::ProbeMissed { generation: G1 });
        assert_eq!(bench.word(), StateWord::Connected);
        assert!(bench.lifecycle.status(bench.now).marks.degraded);
        assert_eq!(bench.wake(), Why::KeepaliveIdle);
        assert_eq!(
            bench.effects(),
            [Effect::Probe {
                generation: G1,
                since: bench.now.back(10_000)
            }]
        );
    }
    bench
        .advance(10_000)
        .give(Input::ProbeMissed { generation: G1 });
    let failure = Failure::from(FailureKind::ProbeFailed);
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
                how: StopStep::Close
            },
        ]
    );
    assert_eq!((bench.word(), bench.charges()), (StateWord::Draining, 1));
}

#[test]
fn law_14_a_probe_that_nobody_reports_on_is_missed_by_our_own_clock() {
    let mut bench = Bench::http();
    bench.proven();
    bench.wake();
    for _ in 0..2 {
        assert_eq!(bench.wake(), Why::ProbeDeadline);
        assert_eq!(bench.effects().len(), 1, "probed again");
    }
    assert_eq!(bench.wake(), Why::ProbeDeadline);
    assert_eq!(bench.word(), StateWord::Draining);
}

#[test]
fn law_14_traffic_and_answers_end_the_suspicion() {
    let mut bench = Bench::http();
    bench.proven();
    bench.wake();
    bench
        .advance(10_000)
        .give(Input::ProbeMissed { generation: G1 });
    bench.wake();
    let at = bench.advance(4_000).now;
    bench.give(Input::Traffic { generation: G1, at });
    assert_eq!(
        bench.lifecycle.next_deadline(),
        Some((bench.now + 60_000, Why::KeepaliveIdle))
    );
    assert!(!bench.lifecycle.status(bench.now).marks.degraded);
    bench.wake();
    bench.give(Input::Proof {
        generation: G1,
        proof: Proof::ProbeAnswered,
    });
    assert_eq!(
        bench.lifecycle.next_deadline(),
        Some((bench.now + 60_000, Why::KeepaliveIdle))
    );
}

#[test]
fn law_14_a_busy_link_is_never_probed() {
    let mut bench = Bench::http();
    bench.proven();
    for _ in 0..100 {
        bench.sleep(50_000).served();
    }
    assert!(bench.last.is_empty());
    assert_eq!(bench.opens.len(), 1);
}

#[test]
fn old_traffic_does_not_make_probing_loop() {
    let mut bench = Bench::http();
    bench.proven();
    bench.wake();
    bench.give(Input::Traffic {
        generation: G1,
        at: Time::ZERO,
    });
    let (at, _) = bench.lifecycle.next_deadline().expect("armed");
    assert!(at > bench.now);
}

#[test]
fn law_15_suspicion_leads_to_a_probe_even_without_keepalive_and_only_its_failure_to_a_restart() {
    let mut bench = Bench::process();
    bench.proven().give(Input::Suspect { generation: G1 });
    assert_eq!(
        bench.effects(),
        [Effect::Probe {
            generation: G1,
            since: bench.now
        }]
    );
    bench
        .give(Input::Suspect { generation: G1 })
        .give(Input::Suspect { generation: G1 });
    assert!(
        bench.effects().is_empty(),
        "one probe per connection (F238)"
    );
    bench.give(Input::Proof {
        generation: G1,
        proof: Proof::ProbeAnswered,
    });
    assert_eq!(
        (bench.word(), bench.lifecycle.next_deadline()),
        (StateWord::Connected, None)
    );

    bench.give(Input::Suspect { generation: G1 });
    bench
        .advance(10_000)
        .give(Input::ProbeMissed { generation: G1 });
    assert_eq!(bench.word(), StateWord::Connected, "one miss is not enough");
    bench.wake();
    bench
        .advance(10_000)
        .give(Input::ProbeMissed { generation: G1 });
    assert_eq!((bench.word(), bench.charges()), (StateWord::Draining, 1));
}

#[test]
fn probes_that_fail_at_once_are_spread_over_time() {
    let mut bench = Bench::http();
    bench.proven();
    bench.wake();
    let began = bench.now;
    while bench.word() == StateWord::Connected {
        bench.give(Input::ProbeMissed { generation: G1 });
        if bench.word() == StateWord::Connected {
            bench.wake();
        }
    }
    assert!(bench.now.since(began) >= 20_000);
}

#[test]
fn f229_a_network_change_makes_an_http_link_prove_itself() {
    let mut bench = Bench::http();
    bench.proven().advance(20).give(Input::Poke(Poke::Network));
    assert!(bench.effects().is_empty(), "not all servers at once (F226)");
    let changed_at = bench.now;
    assert_eq!(bench.wake(), Why::SuspicionProbe);
    assert!(bench.now.since(changed_at) <= bench.policy.wake.spread_ms);
    assert_eq!(
        bench.effects(),
        [Effect::Probe {
            generation: G1,
            since: changed_at
        }],
        "what was heard before does not count"
    );
    let mut pipe = Bench::process();
    pipe.proven().give(Input::Poke(Poke::Network));
    assert!(pipe.effects().is_empty(), "pipes do not care");
}

#[test]
fn a_patched_policy_watches_by_the_new_numbers() {
    let mut bench = Bench::process();
    bench.proven();
    bench.policy.keepalive = Policy::for_http().keepalive;
    bench.policy.idle_shutdown_ms = Some(90_000);
    bench.give(Input::Poke(Poke::Config));
    assert_eq!(
        bench.lifecycle.next_deadline(),
        Some((bench.now + 60_000, Why::KeepaliveIdle))
    );
    assert_eq!(
        (bench.word(), bench.generation()),
        (StateWord::Connected, G1),
        "and the connection stays"
    );
}
