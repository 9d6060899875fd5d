//! The hostile phase: what a server, a network, an operator and a machine can do to a fleet, all at once.

use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::fleet::FleetInput;
use mainstay_core::ids::{Generation, SlotId};
use mainstay_core::lifecycle::{Input, Phase, Poke, Proof, StopStep};
use mainstay_core::time::Time;

use super::Broke;
use super::dice::Dice;
use super::perform::runtime;
use super::world::{Mail, World, policy};

impl World {
    /// One step of the hostile phase.
    pub(super) fn something_happens(&mut self, dice: &mut Dice) -> Result<(), Broke> {
        if self.ended {
            return Ok(());
        }
        match dice.below(1_000) {
            0..=699 => self.time_passes(dice),
            700..=799 => self.somebody_orders(dice),
            800..=839 => self.something_lies(dice),
            840..=899 => self.something_breaks(dice),
            900..=919 => self.config_changes(dice),
            920..=939 => self.machine_sleeps(dice),
            940..=954 => self.give(dice, FleetInput::NetworkChanged),
            955..=969 => self.many_die(dice),
            // The driver is late: whatever is due waits.
            970..=994 => {
                self.now = self.now + dice.below(3_000);
                Ok(())
            }
            995..=997 => self.give(dice, FleetInput::Timeout),
            998 if dice.percent(30) => {
                let impatient = dice.percent(30);
                self.give(dice, FleetInput::Shutdown { impatient })
            }
            _ if self.places.len() < 8 => self.add(dice),
            _ => self.removes(dice),
        }
    }

    /// The next thing that is due: a message arrives, or a deadline fires.
    pub(super) fn time_passes(&mut self, dice: &mut Dice) -> Result<(), Broke> {
        let mail = self.mail.first_key_value().map(|((at, _), _)| *at);
        let deadline = self.next_deadline();
        match (mail, deadline) {
            (Some(mail), deadline) if deadline.is_none_or(|at| mail <= at) => self.deliver(dice),
            (_, Some(at)) => {
                self.now = self.now.max(at);
                self.give(dice, FleetInput::Timeout)
            }
            (_, None) => {
                self.now = self.now + 1_000;
                Ok(())
            }
        }
    }

    fn anybody(&self, dice: &mut Dice) -> SlotId {
        let slots: Vec<SlotId> = self.places.keys().copied().collect();
        if slots.is_empty() {
            SlotId(0)
        } else {
            dice.pick(&slots)
        }
    }

    fn say(&mut self, dice: &mut Dice, slot: SlotId, input: Input) -> Result<(), Broke> {
        self.give(dice, FleetInput::Slot { slot, input })
    }

    fn somebody_orders(&mut self, dice: &mut Dice) -> Result<(), Broke> {
        let slot = self.anybody(dice);
        let order = dice.pick(&[
            Input::Start,
            Input::Enable,
            Input::Enable,
            Input::Disable,
            Input::Restart,
            Input::Wanted,
            Input::Wanted,
            Input::Wanted,
            Input::Poke(Poke::Credentials),
            Input::Poke(Poke::Config),
            Input::Poke(Poke::Network),
        ]);
        if matches!(order, Input::Poke(Poke::Network)) {
            return self.give(dice, FleetInput::NetworkChanged);
        }
        self.say(dice, slot, order)
    }

    /// Messages from generations of the past, of the future, and of nobody; and the fleet's own words from outside.
    fn something_lies(&mut self, dice: &mut Dice) -> Result<(), Broke> {
        let slot = self.anybody(dice);
        let generation = if dice.percent(50) {
            Generation(dice.below(12))
        } else {
            let highest = self.places.get(&slot).map(|place| place.model.highest);
            highest.unwrap_or_default().next()
        };
        let lie = match dice.below(14) {
            0 => Input::Granted { generation },
            1 => Input::Stagger,
            2 => Input::Opened { generation },
            3 => Input::Gone {
                // What exists cannot be gone: its keeper speaks the truth about that.
                generation: self.not_running(slot, generation),
            },
            4 => Input::Drained { generation },
            5 => Input::SessionLost { generation },
            6 => Input::ServerClosing { generation },
            7 => Input::ProbeMissed { generation },
            8 => Input::Suspect { generation },
            9 => Input::Life { generation },
            10 => Input::Proof {
                generation: self.not_running(slot, generation),
                proof: Proof::ServedCall,
            },
            11 => Input::Traffic {
                generation,
                at: Time(dice.below(self.now.0 + 1)),
            },
            12 => Input::OpenFailed {
                generation,
                failure: failure(dice),
            },
            _ => Input::Exited {
                generation,
                failure: failure(dice),
            },
        };
        self.say(dice, slot, lie)
    }

    fn not_running(&self, slot: SlotId, generation: Generation) -> Generation {
        let runs = self.places.get(&slot).is_some_and(|place| {
            place
                .runtimes
                .iter()
                .any(|runtime| runtime.generation == generation)
        });
        if runs { Generation::NONE } else { generation }
    }

    /// Something that serves, or is being opened, breaks.
    fn something_breaks(&mut self, dice: &mut Dice) -> Result<(), Broke> {
        let slot = self.anybody(dice);
        let Some(generation) = self.places.get(&slot).and_then(|place| {
            let last = place.runtimes.last()?;
            Some(last.generation)
        }) else {
            return Ok(());
        };
        let input = match dice.below(6) {
            0 | 1 => Input::Exited {
                generation,
                failure: failure(dice),
            },
            2 => Input::SessionLost { generation },
            3 => Input::ServerClosing { generation },
            4 => Input::Suspect { generation },
            _ => {
                self.send(0, Mail::End(slot, generation));
                return Ok(());
            }
        };
        self.say(dice, slot, input)
    }

    /// Something outside kills what serves, here and there and everywhere.
    fn many_die(&mut self, dice: &mut Dice) -> Result<(), Broke> {
        let serving: Vec<(SlotId, Generation)> = self
            .places
            .iter()
            .filter_map(|(slot, place)| Some((*slot, place.model.accepting?)))
            .collect();
        for (slot, generation) in serving {
            let failure = FailureKind::Exited {
                code: None,
                signal: Some(9),
            };
            let exited = Input::Exited {
                generation,
                failure: failure.into(),
            };
            let after_ms = dice.below(800);
            self.send(after_ms, Mail::Word(slot, exited));
            self.send(after_ms, Mail::End(slot, generation));
        }
        Ok(())
    }

    fn config_changes(&mut self, dice: &mut Dice) -> Result<(), Broke> {
        let slot = self.anybody(dice);
        let mut new = policy(dice);
        let Some(place) = self.places.get_mut(&slot) else {
            return Ok(());
        };
        let patch = dice.percent(50);
        if patch {
            // What changes the nature of a server is never a patch.
            new.exclusive = place.policy.exclusive;
        }
        place.policy = new.clone();
        place.model.forget_renewals();
        let policy = self.as_given(&new);
        self.give(
            dice,
            if patch {
                FleetInput::Patch { slot, policy }
            } else {
                FleetInput::Replace { slot, policy }
            },
        )
    }

    /// The machine sleeps, and its clock stands still or goes on.
    fn machine_sleeps(&mut self, dice: &mut Dice) -> Result<(), Broke> {
        let slept_ms = 1_000 + dice.below(7_200_000);
        if dice.percent(50) {
            return self.give(
                dice,
                FleetInput::Woke {
                    asleep_ms: slept_ms,
                },
            );
        }
        self.now = self.now + slept_ms;
        self.give(dice, FleetInput::Woke { asleep_ms: 0 })
    }

    fn removes(&mut self, dice: &mut Dice) -> Result<(), Broke> {
        let slot = self.anybody(dice);
        if let Some(place) = self.places.get_mut(&slot) {
            place.removing = true;
            place.model.shut = true;
        }
        self.give(dice, FleetInput::Remove { slot })
    }

    /// A hostile network: late, twice, or never.
    pub(super) fn mail(&mut self, dice: &mut Dice, slot: SlotId, after_ms: u64, input: Input) {
        let late_ms = match dice.below(100) {
            _ if self.kind => 0,
            0..=3 => return,
            4..=13 => dice.below(20_000),
            _ => dice.below(20),
        };
        if !self.kind && dice.percent(5) {
            let again_ms = after_ms + dice.below(10_000);
            self.send(again_ms, Mail::Word(slot, input.clone()));
        }
        self.send(after_ms + late_ms, Mail::Word(slot, input));
    }

    /// A runtime begins to open.
    pub(super) fn begins(&mut self, dice: &mut Dice, slot: SlotId, generation: Generation) {
        let after_ms = if dice.percent(80) {
            dice.below(500)
        } else {
            dice.below(9_000)
        };
        let fate = if self.kind { 0 } else { dice.below(100) };
        for phase in [Phase::Greet, Phase::List] {
            if fate < 90 && dice.percent(70) {
                let begun_ms = dice.below(after_ms + 1);
                self.mail(dice, slot, begun_ms, Input::Phase { generation, phase });
            }
        }
        match fate {
            0..=54 => {
                // A kind server is quick as well.
                let after_ms = if self.kind {
                    after_ms.min(500)
                } else {
                    after_ms
                };
                self.mail(dice, slot, after_ms, Input::Opened { generation });
            }
            55..=84 => {
                let failure = failure(dice);
                let failed = Input::OpenFailed {
                    generation,
                    failure,
                };
                self.mail(dice, slot, after_ms, failed);
                if dice.percent(30) {
                    self.send(after_ms + dice.below(100), Mail::End(slot, generation));
                }
            }
            85..=92 => self.send(after_ms, Mail::End(slot, generation)),
            // It hangs.
            _ => {}
        }
    }

    /// A runtime serves from now on.
    pub(super) fn serves(&mut self, dice: &mut Dice, slot: SlotId, generation: Generation) {
        if self.kind || dice.percent(60) {
            let served = Input::Proof {
                generation,
                proof: Proof::ServedCall,
            };
            let after_ms = dice.below(3_000);
            self.mail(dice, slot, after_ms, served);
        }
        if self.kind {
            return;
        }
        if self.places.get(&slot).is_some_and(|place| place.forgetful) {
            let served = Input::Proof {
                generation,
                proof: Proof::ServedCall,
            };
            self.send(1, Mail::Word(slot, served));
            let lost_ms = 2 + dice.below(100);
            return self.send(lost_ms, Mail::Word(slot, Input::SessionLost { generation }));
        }
        let after_ms = if dice.percent(50) {
            dice.below(1_000)
        } else {
            dice.below(90_000)
        };
        let end = match dice.below(100) {
            0..=39 => Input::Exited {
                generation,
                failure: failure(dice),
            },
            40..=54 => Input::SessionLost { generation },
            55..=62 => Input::ServerClosing { generation },
            63..=70 => {
                return self.send(after_ms, Mail::End(slot, generation));
            }
            _ => return,
        };
        if matches!(end, Input::Exited { .. }) && dice.percent(50) {
            self.send(after_ms + dice.below(50), Mail::End(slot, generation));
        }
        self.mail(dice, slot, after_ms, end);
    }

    /// A runtime is told to stop.
    pub(super) fn is_stopped(
        &mut self,
        dice: &mut Dice,
        slot: SlotId,
        generation: Generation,
        how: StopStep,
    ) {
        let obeys = match how {
            StopStep::Drain => {
                if self.kind || dice.percent(70) {
                    let after_ms = dice.below(2_000);
                    self.mail(dice, slot, after_ms, Input::Drained { generation });
                }
                return;
            }
            StopStep::Close | StopStep::Terminate => 60,
            StopStep::Kill => 85,
        };
        if !self.kind && dice.percent(30) {
            let noise = Input::Exited {
                generation,
                failure: failure(dice),
            };
            self.mail(dice, slot, 0, noise);
        }
        if self.kind || dice.percent(obeys) {
            let after_ms = dice.below(300);
            self.send(after_ms, Mail::End(slot, generation));
        }
    }

    /// A runtime is probed. `fresh`: nothing that was heard before counts.
    pub(super) fn is_probed(
        &mut self,
        dice: &mut Dice,
        slot: SlotId,
        generation: Generation,
        fresh: bool,
    ) {
        let answer = Input::Proof {
            generation,
            proof: Proof::ProbeAnswered,
        };
        let (after_ms, input) = match if self.kind { 0 } else { dice.below(100) } {
            0..=54 => (dice.below(100), answer),
            55..=64 if !fresh => {
                let at = self.now.back(dice.below(10_000));
                (0, Input::Traffic { generation, at })
            }
            55..=89 => (2_000, Input::ProbeMissed { generation }),
            _ => return,
        };
        self.mail(dice, slot, after_ms, input);
    }

    /// A runtime is to be fenced if nobody uses it.
    pub(super) fn is_asked(&mut self, dice: &mut Dice, slot: SlotId, generation: Generation) {
        let now = self.now;
        let Some(place) = self.places.get_mut(&slot) else {
            return;
        };
        if dice.percent(50) {
            if place.model.accepting == Some(generation) {
                place.model.accepting = None;
            }
            if let Some(runtime) = runtime(&mut place.runtimes, generation) {
                runtime.leases = false;
            }
            self.send(0, Mail::Word(slot, Input::Unused { generation }));
        } else {
            let at = now.back(dice.below(5_000));
            self.mail(dice, slot, 0, Input::Traffic { generation, at });
        }
    }
}

/// Something that can go wrong.
fn failure(dice: &mut Dice) -> Failure {
    let kind = dice.pick(&[
        FailureKind::Unreachable,
        FailureKind::Unreachable,
        FailureKind::StreamClosed,
        FailureKind::StreamClosed,
        FailureKind::Exited {
            code: Some(1),
            signal: None,
        },
        FailureKind::ProtocolError,
        FailureKind::RateLimited,
        FailureKind::SessionLost,
        FailureKind::CleanupFault,
        FailureKind::NeedsLogin,
    ]);
    let failure = Failure::new(kind);
    match kind {
        FailureKind::RateLimited => {
            failure.with_retry_after_ms(dice.pick(&[0, 5_000, 3_600_000_000]))
        }
        _ => failure,
    }
}
