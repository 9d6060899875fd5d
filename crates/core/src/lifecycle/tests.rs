//! Tests of single histories. The explorer in the test kit covers all of them at once; these say what is meant.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "tests pick out the variants they look at"
)]

use super::state::DisabledBy;
use super::*;
use crate::failure::FailureKind;

mod budget;
mod probing;
mod replacing;
mod statements;
mod stopping;
mod waking;

/// A lifecycle with its clock and a record of everything it asked for.
struct Bench {
    lifecycle: Lifecycle,
    policy: Policy,
    now: Time,
    /// Effects of the last input.
    last: Vec<Effect>,
    transitions: Vec<Transition>,
    opens: Vec<(Time, Generation)>,
    /// A planted defect: what the machine hears instead of what was said.
    spoil: fn(&Lifecycle, Input) -> Input,
}

impl Bench {
    fn new(policy: Policy) -> Bench {
        Bench {
            lifecycle: Lifecycle::new(7, Start::Enabled),
            policy,
            now: Time(1_000_000),
            last: Vec::new(),
            transitions: Vec::new(),
            opens: Vec::new(),
            spoil: |_, input| input,
        }
    }

    fn process() -> Bench {
        Bench::new(Policy::for_process())
    }

    fn http() -> Bench {
        Bench::new(Policy::for_http())
    }

    /// Gives an input and grants whatever is requested in return.
    fn give(&mut self, input: Input) -> &mut Bench {
        self.give_queued(input);
        let requested: Vec<Generation> = self
            .last
            .iter()
            .filter_map(|effect| match effect {
                Effect::RequestOpen { generation, .. } => Some(*generation),
                _ => None,
            })
            .collect();
        for generation in requested {
            let before = std::mem::take(&mut self.last);
            self.give_queued(Input::Granted { generation });
            self.last.splice(0..0, before);
        }
        self
    }

    /// Gives an input and leaves requests in the queue of the gate.
    fn give_queued(&mut self, input: Input) -> &mut Bench {
        let mut effects = Effects::new();
        let input = (self.spoil)(&self.lifecycle, input);
        self.lifecycle
            .step(&self.policy, self.now, input, &mut effects);
        self.last = effects.drain().collect();
        for effect in &self.last {
            match effect {
                Effect::Changed(transition) => self.transitions.push(transition.clone()),
                Effect::Open { generation, .. } => self.opens.push((self.now, *generation)),
                _ => {}
            }
        }
        self
    }

    fn advance(&mut self, ms: u64) -> &mut Bench {
        self.now = self.now + ms;
        self
    }

    /// Jumps to the next deadline and lets it fire.
    fn wake(&mut self) -> Why {
        let (at, why) = self.lifecycle.next_deadline().expect("a deadline");
        self.now = self.now.max(at);
        self.give(Input::Timeout);
        why
    }

    /// Lets time pass, firing every deadline on the way.
    fn sleep(&mut self, ms: u64) -> &mut Bench {
        let end = self.now + ms;
        while self
            .lifecycle
            .next_deadline()
            .is_some_and(|(at, _)| at <= end)
        {
            self.wake();
        }
        self.now = end;
        self
    }

    fn generation(&self) -> Generation {
        self.lifecycle.generation()
    }

    fn word(&self) -> StateWord {
        self.lifecycle.state().word()
    }

    fn charges(&self) -> u32 {
        self.lifecycle.status(self.now).charges
    }

    fn opened(&mut self) -> &mut Bench {
        let generation = self
            .lifecycle
            .opening()
            .expect("an open under way")
            .generation;
        self.give(Input::Opened { generation })
    }

    fn open_failed(&mut self, kind: FailureKind) -> &mut Bench {
        let generation = self
            .lifecycle
            .opening()
            .expect("an open under way")
            .generation;
        self.give(Input::OpenFailed {
            generation,
            failure: kind.into(),
        })
    }

    fn exited(&mut self) -> &mut Bench {
        let generation = self.generation();
        let failure = FailureKind::Exited {
            code: Some(1),
            signal: None,
        }
        .into();
        self.give(Input::Exited {
            generation,
            failure,
        })
    }

    fn gone(&mut self) -> &mut Bench {
        let generation = self.generation();
        self.give(Input::Gone { generation })
    }

    fn served(&mut self) -> &mut Bench {
        let generation = self.generation();
        self.give(Input::Proof {
            generation,
            proof: Proof::ServedCall,
        })
    }

    /// Started, opened, and proven.
    fn proven(&mut self) -> &mut Bench {
        self.give(Input::Start).opened().served()
    }

    /// The last effects without the record of the change.
    fn effects(&self) -> Vec<Effect> {
        self.last
            .iter()
            .filter(|effect| !matches!(effect, Effect::Changed(_)))
            .cloned()
            .collect()
    }

    fn stops(&self) -> Vec<(Generation, StopStep)> {
        self.last
            .iter()
            .filter_map(|effect| match effect {
                Effect::Stop { generation, how } => Some((*generation, *how)),
                _ => None,
            })
            .collect()
    }
}

const G1: Generation = Generation(1);
const G2: Generation = Generation(2);
const G3: Generation = Generation(3);

#[test]
fn a_start_goes_through_the_gate_and_ends_published() {
    let mut bench = Bench::process();
    bench.give_queued(Input::Start);
    assert_eq!(
        bench.effects(),
        [Effect::RequestOpen {
            generation: G1,
            mode: OpenMode::Fresh
        }]
    );
    assert_eq!(bench.lifecycle.status(bench.now).phase, Some(Phase::Queued));
    assert_eq!(
        bench.lifecycle.next_deadline(),
        None,
        "queueing has no deadline of its own (F6)"
    );

    bench
        .advance(500_000)
        .give_queued(Input::Granted { generation: G1 });
    assert_eq!(
        bench.effects(),
        [Effect::Open {
            generation: G1,
            mode: OpenMode::Fresh
        }]
    );
    assert_eq!(
        bench.lifecycle.next_deadline(),
        Some((bench.now + 30_000, Why::SpawnDeadline))
    );

    bench.opened();
    assert_eq!(
        bench.effects(),
        [
            Effect::Accept { generation: G1 },
            Effect::Publish { generation: G1 }
        ]
    );
    let words: Vec<(StateWord, StateWord)> =
        bench.transitions.iter().map(|t| (t.from, t.to)).collect();
    assert_eq!(
        words,
        [
            (StateWord::Disabled, StateWord::Connecting),
            (StateWord::Connecting, StateWord::Connected)
        ]
    );
}

#[test]
fn phases_have_their_own_deadlines_and_life_never_extends_the_total_f4() {
    let mut bench = Bench::process();
    bench.give(Input::Start);
    let total_ends = bench.now + 60_000;
    bench.advance(100).give(Input::Phase {
        generation: G1,
        phase: Phase::List,
    });
    assert_eq!(
        bench.lifecycle.next_deadline(),
        Some((bench.now + 30_000, Why::ListDeadline))
    );
    bench.give(Input::Phase {
        generation: G1,
        phase: Phase::Greet,
    });
    assert_eq!(
        bench.lifecycle.status(bench.now).phase,
        Some(Phase::List),
        "phases never go back"
    );
    for _ in 0..5 {
        bench.advance(10_000).give(Input::Life { generation: G1 });
    }
    assert_eq!(
        bench.lifecycle.next_deadline(),
        Some((total_ends, Why::ConnectDeadline))
    );
    bench.wake();
    assert_eq!(bench.stops(), [(G1, StopStep::Close)], "gentle first (F5)");
    let cause = bench.lifecycle.status(bench.now).cause.expect("a cause");
    assert_eq!(cause.kind, FailureKind::ConnectTimeout(Phase::List));
}

#[test]
fn lazy_servers_wait_for_a_call_f25() {
    let mut bench = Bench::new(Policy {
        lazy: true,
        ..Policy::for_process()
    });
    bench.give(Input::Start);
    assert_eq!(
        (bench.word(), bench.lifecycle.next_deadline()),
        (StateWord::Idle, None)
    );
    bench
        .give(Input::Enable)
        .give(Input::Replace)
        .give(Input::Poke(Poke::Config));
    assert_eq!(bench.word(), StateWord::Idle);
    bench.give(Input::Wanted);
    assert_eq!(bench.word(), StateWord::Connecting);
}

#[test]
fn idle_shutdown_happens_only_when_the_driver_has_fenced_an_unused_generation_f24() {
    let mut bench = Bench::new(Policy {
        idle_shutdown_ms: Some(5_000),
        ..Policy::for_process()
    });
    bench.proven();
    let asked_at = bench.now + 5_000;
    assert_eq!(bench.wake(), Why::IdleLimit);
    assert_eq!(
        bench.effects(),
        [Effect::FenceIfUnused {
            generation: G1,
            since: asked_at.back(5_000)
        }]
    );
    // A call is running.
    bench.give(Input::Traffic {
        generation: G1,
        at: bench.now,
    });
    assert_eq!(
        bench.lifecycle.next_deadline(),
        Some((bench.now + 5_000, Why::IdleLimit))
    );
    bench.wake();
    bench.give(Input::Unused { generation: G1 });
    assert_eq!(bench.stops(), [(G1, StopStep::Close)]);
    bench.gone();
    assert_eq!(bench.word(), StateWord::Idle);
    bench.give(Input::Enable);
    assert_eq!(
        bench.word(),
        StateWord::Idle,
        "enable is idempotent (law 5)"
    );
    bench.give(Input::Wanted);
    assert_eq!((bench.word(), bench.charges()), (StateWord::Connecting, 0));
}

#[test]
fn a_call_during_an_idle_shutdown_brings_the_server_back() {
    let mut bench = Bench::new(Policy {
        idle_shutdown_ms: Some(5_000),
        ..Policy::for_process()
    });
    bench
        .proven()
        .advance(2_000)
        .give(Input::Unused { generation: G1 });
    bench.give(Input::Wanted).gone();
    assert_eq!(
        (bench.word(), bench.generation()),
        (StateWord::Connecting, G2)
    );
}

#[test]
fn law_3_stale_messages_change_nothing_f146_f147() {
    let mut bench = Bench::process();
    bench.proven().advance(60_000).exited().gone().opened();
    assert_eq!(bench.generation(), G2);
    let before = bench.lifecycle.clone();
    let failure = Failure::from(FailureKind::StreamClosed);
    for generation in [Generation::NONE, G1, G3] {
        for input in [
            Input::Granted { generation },
            Input::Phase {
                generation,
                phase: Phase::List,
            },
            Input::Life { generation },
            Input::Opened { generation },
            Input::OpenFailed {
                generation,
                failure: failure.clone(),
            },
            Input::Exited {
                generation,
                failure: failure.clone(),
            },
            Input::SessionLost { generation },
            Input::ServerClosing { generation },
            Input::Drained { generation },
            Input::Gone { generation },
            Input::Proof {
                generation,
                proof: Proof::ServedCall,
            },
            Input::Traffic {
                generation,
                at: bench.now,
            },
            Input::ProbeMissed { generation },
            Input::Suspect { generation },
            Input::Unused { generation },
        ] {
            bench.give(input);
            assert!(bench.last.is_empty() && bench.lifecycle == before);
        }
    }
}

#[test]
fn one_change_one_record_f235_f236() {
    let mut bench = Bench::process();
    bench.proven().exited();
    // The exit, the end of the stream and the failing close all report the same death.
    bench.exited();
    bench.give(Input::Exited {
        generation: G1,
        failure: FailureKind::StreamClosed.into(),
    });
    bench.give(Input::OpenFailed {
        generation: G1,
        failure: FailureKind::CleanupFault.into(),
    });
    bench.gone();
    let ends: Vec<&Transition> = bench
        .transitions
        .iter()
        .filter(|t| t.from == StateWord::Connected && t.from_generation == G1)
        .collect();
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0].cause.word(), "failed");
    for pair in bench.transitions.windows(2) {
        assert_eq!(
            (pair[0].to, pair[0].generation),
            (pair[1].from, pair[1].from_generation),
            "no gap in the record"
        );
    }
}

#[test]
fn equal_seeds_and_inputs_give_equal_histories() {
    let run = |seed: u64| {
        let mut bench = Bench::process();
        bench.lifecycle = Lifecycle::new(seed, Start::Enabled);
        bench.give(Input::Start);
        for _ in 0..4 {
            bench.open_failed(FailureKind::Unreachable).gone();
            bench.wake();
        }
        bench.opens
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2), "jitter differs between slots");
}

#[test]
fn status_tells_state_cause_hint_and_next_step() {
    let mut bench = Bench::process();
    bench
        .give(Input::Start)
        .open_failed(FailureKind::SpawnNotFound)
        .gone();
    let status = bench.lifecycle.status(bench.now);
    assert_eq!(status.state, StateWord::Parked);
    assert_eq!(
        status.cause.as_ref().map(|cause| cause.kind),
        Some(FailureKind::SpawnNotFound)
    );
    assert_eq!(status.hint, Some(FailureKind::SpawnNotFound.hint()));
    assert_eq!(
        (status.next, status.next_attempt, status.opens),
        (None, None, 1)
    );
}

#[test]
fn nothing_happens_before_start_except_that_it_may_be_disabled() {
    for input in [
        Input::Wanted,
        Input::Restart,
        Input::Replace,
        Input::Poke(Poke::Network),
        Input::Timeout,
    ] {
        let mut bench = Bench::process();
        let before = bench.lifecycle.clone();
        bench.give(input);
        assert!(bench.last.is_empty() && bench.lifecycle == before);
    }
    let mut bench = Bench::process();
    bench.give(Input::Disable).give(Input::Start);
    assert_eq!(
        *bench.lifecycle.state(),
        State::Disabled(DisabledBy::Operator)
    );
}
