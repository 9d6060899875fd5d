//! Defects planted around the real machine, to show that the explorer finds them.
//!
//! Each one perturbs what goes in, what comes out or what is remembered, the way a real mistake in the machine would.
//! Production code knows nothing of them.

use mainstay_core::event::Transition;
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::ids::Generation;
use mainstay_core::lifecycle::{
    Effect, Effects, Input, Lifecycle, Poke, Proof, State, StateWord, StopStep, Why,
};
use mainstay_core::policy::Policy;
use mainstay_core::time::Time;

/// One way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// An exit is believed whichever generation it comes from.
    StaleExitBelieved,
    /// A success is believed whichever generation it comes from.
    StaleOpenBelieved,
    /// A proof is believed whichever generation it comes from.
    StaleProofBelieved,
    /// Disabling forgets to unpublish.
    RetractForgotten,
    /// A generation is stopped without being fenced first.
    FenceForgotten,
    /// Calls on a dead generation are not told.
    FailForgotten,
    /// A grant opens twice.
    OpenTwice,
    /// The generation is not increased.
    GenerationReused,
    /// Whatever was killed is taken to be gone.
    KillMeansGone,
    /// A process that exited is taken to be gone, grandchildren or not.
    ExitMeansGone,
    /// A connect deadline forgets the runtime it gives up.
    TimeoutForgetsRuntime,
    /// A restart is charged.
    RestartCharged,
    /// One attempt too many.
    BudgetOffByOne,
    /// A handshake counts as proof of health.
    HandshakeProves,
    /// No minimum interval between two opens.
    IntervalForgotten,
    /// Shutdown is only a disable.
    ShutdownIsDisable,
    /// Disable queues behind whatever is being stopped.
    DisableQueues,
    /// Enable revives what was shut down.
    EnableRevives,
    /// A change is recorded twice.
    RecordedTwice,
    /// Signs of life extend connecting without limit.
    LifeExtendsTotal,
    /// Draining has no deadline.
    DrainWithoutDeadline,
    /// Parked is for ever.
    ParkedIsDead,
    /// A grant is lost.
    GrantLost,
    /// Nobody notices that the machine slept.
    SleepUnnoticed,
    /// A wake-up makes everything that is due fire.
    WakeFires,
    /// A changed network makes everybody try in the same instant.
    NetworkRevivesAtOnce,
    /// What an old generation raises while it is closed is blamed on the one that serves.
    NoiseBlamed,
}

/// All of them.
pub const ALL: [Defect; 27] = [
    Defect::StaleExitBelieved,
    Defect::StaleOpenBelieved,
    Defect::StaleProofBelieved,
    Defect::RetractForgotten,
    Defect::FenceForgotten,
    Defect::FailForgotten,
    Defect::OpenTwice,
    Defect::GenerationReused,
    Defect::KillMeansGone,
    Defect::ExitMeansGone,
    Defect::TimeoutForgetsRuntime,
    Defect::RestartCharged,
    Defect::BudgetOffByOne,
    Defect::HandshakeProves,
    Defect::IntervalForgotten,
    Defect::ShutdownIsDisable,
    Defect::DisableQueues,
    Defect::EnableRevives,
    Defect::RecordedTwice,
    Defect::LifeExtendsTotal,
    Defect::DrainWithoutDeadline,
    Defect::ParkedIsDead,
    Defect::GrantLost,
    Defect::SleepUnnoticed,
    Defect::WakeFires,
    Defect::NetworkRevivesAtOnce,
    Defect::NoiseBlamed,
];

/// One step of the real machine, with the defect around it.
pub(super) fn step(
    defect: Option<Defect>,
    lifecycle: &mut Lifecycle,
    policy: &Policy,
    now: Time,
    input: Input,
    out: &mut Effects,
) {
    let Some(defect) = defect else {
        return lifecycle.step(policy, now, input, out);
    };
    let before = lifecycle.clone();
    let policy = &defect.policy(policy);
    if defect == Defect::RestartCharged
        && input == Input::Restart
        && let State::Connected(connected) = lifecycle.state()
    {
        let generation = connected.generation;
        let failure = Failure::new(FailureKind::StreamClosed);
        return lifecycle.step(
            policy,
            now,
            Input::Exited {
                generation,
                failure,
            },
            out,
        );
    }
    let Some(input) = defect.input(lifecycle, input) else {
        return;
    };
    lifecycle.step(policy, now, input.clone(), out);
    if let Some(more) = defect.more(&before, lifecycle, &input, out) {
        let first: Vec<Effect> = out.drain().collect();
        lifecycle.step(policy, now, more, out);
        one_record(first, out);
    }
    if defect == Defect::GenerationReused {
        reuse(lifecycle, now, out);
    }
    defect.effects(out);
}

/// The machine's next deadline, with the defect around it.
pub(super) fn next_deadline(defect: Option<Defect>, lifecycle: &Lifecycle) -> Option<(Time, Why)> {
    let forgotten = defect == Some(Defect::DrainWithoutDeadline)
        && lifecycle.state().word() == StateWord::Draining;
    if forgotten {
        None
    } else {
        lifecycle.next_deadline()
    }
}

impl Defect {
    fn policy(self, policy: &Policy) -> Policy {
        let mut policy = policy.clone();
        match self {
            Defect::BudgetOffByOne => policy.budget += 1,
            Defect::IntervalForgotten => policy.open_interval_ms = 0,
            Defect::LifeExtendsTotal => policy.connect.total_ms *= 10,
            Defect::ParkedIsDead => policy.parked_probe_ms = None,
            _ => {}
        }
        policy
    }

    fn input(self, lifecycle: &Lifecycle, input: Input) -> Option<Input> {
        let known = |generation: Generation| lifecycle.knows(generation);
        let main = lifecycle.state().generation();
        let opening = lifecycle.opening().map(|opening| opening.generation);
        let stopped = matches!(lifecycle.state(), State::Draining(_));
        Some(match (self, input) {
            (
                Defect::StaleExitBelieved,
                Input::Exited {
                    generation,
                    failure,
                },
            ) if !known(generation) => Input::Exited {
                generation: main.unwrap_or(generation),
                failure,
            },
            (Defect::StaleOpenBelieved, Input::Opened { generation }) => Input::Opened {
                generation: opening.unwrap_or(generation),
            },
            (Defect::StaleProofBelieved, Input::Proof { generation, proof }) => Input::Proof {
                generation: main.unwrap_or(generation),
                proof,
            },
            (Defect::ShutdownIsDisable, Input::Shutdown { .. }) => Input::Disable,
            (Defect::DisableQueues, Input::Disable) if stopped => return None,
            (Defect::GrantLost, Input::Granted { .. })
            | (Defect::SleepUnnoticed, Input::Woke { .. }) => return None,
            (Defect::WakeFires, Input::Woke { .. }) => Input::Timeout,
            (Defect::NetworkRevivesAtOnce, Input::Poke(Poke::Network)) => Input::Poke(Poke::Config),
            (
                Defect::NoiseBlamed,
                Input::Exited {
                    generation,
                    failure,
                },
            ) if known(generation) && opening != Some(generation) => Input::Exited {
                generation: main.unwrap_or(generation),
                failure,
            },
            (_, input) => input,
        })
    }

    /// A further input that the defective machine gives itself.
    fn more(
        self,
        before: &Lifecycle,
        after: &mut Lifecycle,
        input: &Input,
        out: &Effects,
    ) -> Option<Input> {
        let State::Draining(draining) = after.state() else {
            return match (self, input, after.state()) {
                (
                    Defect::HandshakeProves,
                    Input::Opened { generation },
                    State::Connected(connected),
                ) if *generation == connected.generation => Some(Input::Proof {
                    generation: connected.generation,
                    proof: Proof::ProbeAnswered,
                }),
                (Defect::EnableRevives, Input::Enable, State::Disabled(_)) => {
                    *after = Lifecycle::new(0, mainstay_core::lifecycle::Start::Enabled);
                    Some(Input::Start)
                }
                _ => None,
            };
        };
        let generation = draining.stopping.generation;
        let killed = Effect::Stop {
            generation,
            how: StopStep::Kill,
        };
        let gone = match self {
            Defect::KillMeansGone => {
                *input == Input::Timeout && out.iter().any(|effect| *effect == killed)
            }
            Defect::ExitMeansGone => matches!(input, Input::Exited { .. }),
            Defect::TimeoutForgetsRuntime => {
                *input == Input::Timeout && before.state().word() == StateWord::Connecting
            }
            _ => false,
        };
        gone.then_some(Input::Gone { generation })
    }

    fn effects(self, out: &mut Effects) {
        let effects: Vec<Effect> = out.drain().collect();
        for effect in effects {
            let copies = match (self, &effect) {
                (Defect::RetractForgotten, Effect::Retract)
                | (Defect::FenceForgotten, Effect::Fence { .. })
                | (Defect::FailForgotten, Effect::Fail { .. }) => 0,
                (Defect::OpenTwice, Effect::Open { .. })
                | (Defect::RecordedTwice, Effect::Changed(_)) => 2,
                _ => 1,
            };
            (0..copies).for_each(|_| out.push(effect.clone()));
        }
    }
}

/// Makes two steps look like one: the effects of both, and one record from the state before to the state after.
fn one_record(first: Vec<Effect>, out: &mut Effects) {
    let mut effects = first;
    effects.extend(out.drain());
    let mut record: Option<Transition> = None;
    for effect in effects {
        match effect {
            Effect::Changed(change) => {
                record = Some(match record {
                    Some(Transition {
                        from,
                        from_generation,
                        ..
                    }) => Transition {
                        from,
                        from_generation,
                        ..change
                    },
                    None => change,
                });
            }
            other => out.push(other),
        }
    }
    if let Some(change) = record {
        out.push(Effect::Changed(change));
    }
}

/// Takes back the last increase of the generation.
fn reuse(lifecycle: &mut Lifecycle, now: Time, out: &mut Effects) {
    let effects: Vec<Effect> = out.drain().collect();
    for effect in effects {
        out.push(match effect {
            Effect::RequestOpen { generation, mode } if generation.0 > 1 => {
                let reused = Generation(generation.0 - 1);
                let rename = |old: Generation| if old == generation { reused } else { old };
                *lifecycle = lifecycle.normalised(now, now, &rename, 0);
                Effect::RequestOpen {
                    generation: reused,
                    mode,
                }
            }
            other => other,
        });
    }
}
