//! What should be true of one server, kept by simple rules of its own: the reference that the fleet is compared with.
//!
//! It knows what was said to the fleet and what really exists. It must not ask the fleet for anything but its status.

use std::collections::VecDeque;

use mainstay_core::event::Transition;
use mainstay_core::failure::{Blame, Failure, FailureKind};
use mainstay_core::ids::Generation;
use mainstay_core::lifecycle::{Input, Poke, StateWord, Status};
use mainstay_core::policy::Policy;
use mainstay_core::time::Time;

use super::{Broke, law};

/// What one slot heard in a step.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    /// Nothing of its own.
    Nothing,
    /// Something said to it.
    Said(Input),
    /// A changed config: patched, or replaced.
    Config,
}

/// Whether the sleep would be blamed for a failure now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slept {
    Until(Time),
    /// The rules here are too simple to tell.
    Unknown,
}

/// One server, as it should be.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// State and generation after the last recorded change.
    pub(super) at: (StateWord, Generation),
    pub(super) disabled: bool,
    pub(super) shut: bool,
    pub(super) published: bool,
    pub(super) accepting: Option<Generation>,
    pub(super) highest: Generation,
    /// When the accepting generation last began to last.
    lasting_since: Time,
    /// How long that has to be to prove its health: what the config said then.
    stable_ms: u64,
    /// A generation is asked whether it still lives.
    pub(super) probing: bool,
    open_allowed_at: Time,
    /// The last open without a charge left, and the wait after it.
    last_trial: Option<(Time, u64)>,
    /// It is where it is because of no failure: only the interval between two opens keeps it waiting.
    waits_for_no_failure: bool,
    retry_not_before: Time,
    slept: Slept,
    poked: bool,
    renewals: VecDeque<Time>,
}

impl Model {
    pub(super) fn new(disabled: bool) -> Model {
        Model {
            at: (StateWord::Disabled, Generation::NONE),
            disabled,
            shut: false,
            published: false,
            accepting: None,
            highest: Generation::NONE,
            lasting_since: Time::ZERO,
            stable_ms: 0,
            probing: false,
            open_allowed_at: Time::ZERO,
            last_trial: None,
            waits_for_no_failure: true,
            retry_not_before: Time::ZERO,
            slept: Slept::Until(Time::ZERO),
            poked: false,
            renewals: VecDeque::new(),
        }
    }

    /// What the input means, before the fleet hears of it.
    pub(super) fn hears(&mut self, policy: &Policy, now: Time, before: &Status, heard: &Heard) {
        let forget = match heard {
            Heard::Config => {
                self.poked |= before.state == StateWord::Connecting;
                true
            }
            Heard::Said(Input::Disable) => {
                self.disabled = true;
                true
            }
            Heard::Said(Input::Enable) => {
                let was = std::mem::take(&mut self.disabled);
                was || before.state == StateWord::Draining
            }
            Heard::Said(Input::Restart | Input::Replace) => true,
            Heard::Said(Input::Poke(Poke::Credentials | Poke::Config)) => {
                self.poked |= before.state == StateWord::Connecting;
                true
            }
            Heard::Said(Input::Shutdown { .. }) => {
                self.shut = true;
                true
            }
            Heard::Said(Input::Woke { asleep_ms }) => {
                self.retry_not_before = self.retry_not_before.back(*asleep_ms);
                self.last_trial = None;
                self.lasting_since = now;
                self.stable_ms = policy.stable_ms;
                if !matches!(before.state, StateWord::Disabled | StateWord::Idle) {
                    self.slept = Slept::Until(now + policy.wake.grace_ms);
                }
                false
            }
            Heard::Said(_) | Heard::Nothing => false,
        };
        if forget {
            self.retry_not_before = Time::ZERO;
            self.last_trial = None;
            self.unsure(now);
        }
    }

    /// Whether the sleep is still to blame depends on more than is known here; that it is not, stays known.
    fn unsure(&mut self, now: Time) {
        if !matches!(self.slept, Slept::Until(until) if until <= now) {
            self.slept = Slept::Unknown;
        }
    }

    /// A change was recorded.
    pub(super) fn changed(&mut self, change: &Transition) -> Result<(), Broke> {
        law!(
            (change.from, change.from_generation) == self.at,
            "a record begins in {} {} although the last one ended in {} {} (F235)",
            change.from,
            change.from_generation.0,
            self.at.0,
            self.at.1.0
        );
        let to = (change.to, change.generation);
        law!(to != self.at, "a record of no change (F235, F236)");
        self.at = to;
        self.waits_for_no_failure = change.failure.is_none();
        Ok(())
    }

    /// The gate let an open through.
    pub(super) fn opens(
        &mut self,
        policy: &Policy,
        now: Time,
        generation: Generation,
        charges: u32,
    ) -> Result<(), Broke> {
        law!(!self.shut, "opens after a shutdown (law 6)");
        law!(!self.disabled, "opens although disabled (law 5)");
        law!(
            generation > self.highest,
            "generation {} comes after {} (law 3)",
            generation.0,
            self.highest.0
        );
        law!(
            now >= self.open_allowed_at,
            "opens before the minimum interval has passed (law 10)"
        );
        law!(
            now >= self.retry_not_before,
            "opens although the server asked to be left alone (F102)"
        );
        if charges > policy.budget {
            let early = self
                .last_trial
                .is_some_and(|(at, wait_ms)| now < at + wait_ms);
            law!(
                !early,
                "out of budget, and tried like one that is not (laws 9, 11)"
            );
            let wait_ms = policy
                .parked_probe_ms
                .map_or(policy.parked_call_interval_ms, |probe_ms| {
                    probe_ms.min(policy.parked_call_interval_ms)
                });
            self.last_trial = Some((now, wait_ms));
        }
        self.highest = generation;
        self.open_allowed_at = now + policy.open_interval_ms.max(1);
        Ok(())
    }

    pub(super) fn accepts(
        &mut self,
        policy: &Policy,
        now: Time,
        generation: Generation,
    ) -> Result<(), Broke> {
        law!(
            !self.disabled && !self.shut,
            "takes calls although it was disabled or shut down (laws 5, 6)"
        );
        self.accepting = Some(generation);
        self.lasting_since = now;
        self.stable_ms = policy.stable_ms;
        self.probing = false;
        Ok(())
    }

    /// Compares what the fleet made of the step with what had to be made of it.
    pub(super) fn judge(
        &mut self,
        policy: &Policy,
        now: Time,
        before: &Status,
        after: &Status,
        heard: &Heard,
        timeout: bool,
    ) -> Result<(), Broke> {
        self.judge_charges(policy, now, before, after, heard, timeout)?;
        law!(
            self.at == (after.state, after.generation),
            "{} {} was never recorded (F235)",
            after.state,
            after.generation.0
        );
        law!(
            after.charges <= before.charges.max(policy.budget + 1),
            "more charges than the budget has"
        );
        if after.state == StateWord::Backoff {
            let until = after.next_attempt.unwrap_or(now);
            law!(
                after.charges <= policy.budget || self.waits_for_no_failure,
                "out of budget, and retried like one that is not (law 9)"
            );
            law!(
                until <= now + super::WAIT_MS_MAX,
                "waits longer than any wait is (law 10)"
            );
        }
        if after.state == StateWord::Parked
            && let Some(cause) = &after.cause
            && cause.kind.blame() == Blame::Human
        {
            law!(
                after.next_attempt.is_none(),
                "tries by itself what needs a human (law 11)"
            );
        }
        if self.disabled {
            law!(
                matches!(after.state, StateWord::Disabled | StateWord::Draining),
                "disabled, but {} (law 5)",
                after.state
            );
            law!(!self.published, "disabled, but published (law 21)");
        }
        law!(
            self.accepting.is_none() || after.state == StateWord::Connected,
            "{} and takes calls (law 2)",
            after.state
        );
        if after.state != StateWord::Connecting {
            self.poked = false;
        }
        Ok(())
    }

    fn judge_charges(
        &mut self,
        policy: &Policy,
        now: Time,
        before: &Status,
        after: &Status,
        heard: &Heard,
        timeout: bool,
    ) -> Result<(), Broke> {
        let (had, has) = (before.charges, after.charges);
        let culprit = culprit(before, heard);
        let served = before.state == StateWord::Connected;
        let proof = served
            && matches!(heard, Heard::Said(Input::Proof { generation, .. }) if *generation == before.generation);
        let stable = served && timeout && !before.proven && after.proven;
        if has > had {
            law!(has == had + 1, "charged {} times at once", has - had);
            let by_clock = timeout && (self.probing || before.phase.is_some() || opens(before));
            let missed = matches!(heard, Heard::Said(Input::ProbeMissed { .. })) && self.probing;
            law!(
                culprit.is_some() || by_clock || missed,
                "charged for nothing that went wrong (laws 4, 7)"
            );
        }
        if has < had {
            // A config that allows fewer failures counts no further than to its own limit.
            law!(
                has == 0 || has == policy.budget + 1,
                "a charge is taken back"
            );
            let cured = match heard {
                Heard::Said(Input::Restart | Input::Replace | Input::Enable | Input::Poke(_))
                | Heard::Config => true,
                Heard::Said(_) | Heard::Nothing => false,
            };
            let lasted = timeout
                && before.state == StateWord::Connected
                && now.since(self.lasting_since) >= self.stable_ms;
            law!(
                has > 0 || proof || cured || lasted || self.poked,
                "forgets failures without proof of health (law 9)"
            );
        }
        if proof || stable || has < had {
            self.last_trial = None;
            self.retry_not_before = Time::ZERO;
            let alone = before.marks.successor.is_none() && !before.marks.degraded;
            if (proof || stable) && alone {
                self.slept = Slept::Until(Time::ZERO);
            } else {
                self.unsure(now);
            }
        }
        let by_itself = timeout || matches!(heard, Heard::Said(Input::ProbeMissed { .. }));
        if by_itself && (before.state != after.state || before.marks != after.marks) {
            self.unsure(now);
        }
        match culprit {
            Some(failure) => self.must_charge(policy, now, before, after, &failure),
            None => Ok(()),
        }
    }

    /// A failure that nobody asked for, of the generation that mattered: it has to be charged (S-03), unless the sleep is
    /// to blame, and then only once.
    fn must_charge(
        &mut self,
        policy: &Policy,
        now: Time,
        before: &Status,
        after: &Status,
        failure: &Failure,
    ) -> Result<(), Broke> {
        let replaced = before.state == StateWord::Connected
            && (before.marks.successor.is_some() || before.marks.degraded);
        if failure.kind.blame() != Blame::Server || replaced || self.poked {
            if self.poked || failure.kind.blame() != Blame::Human {
                self.unsure(now);
            }
            return Ok(());
        }
        if let Some(asked_ms) = failure.retry_after_ms {
            let wait_ms = asked_ms
                .max(policy.backoff.retry_after_ms_min)
                .min(policy.backoff.retry_after_ms_max);
            self.retry_not_before = self.retry_not_before.max(now + wait_ms);
        }
        if failure.kind.is_a_wait() && failure.retry_after_ms.is_some() {
            law!(
                after.charges == before.charges,
                "a server that says when to come back is charged (law 15)"
            );
            return Ok(());
        }
        let charged = (before.charges + 1).min(policy.budget + 1);
        match self.slept {
            Slept::Until(until) if until > now => {
                law!(
                    after.charges == before.charges,
                    "what the sleep broke is charged (law 12)"
                );
                self.slept = Slept::Until(Time::ZERO);
            }
            Slept::Until(_) => law!(
                after.charges == charged,
                "{} is not charged (S-03)",
                failure.kind.word()
            ),
            Slept::Unknown => {
                // Either it was the sleep, which is used up now, or it never was.
                self.slept = Slept::Until(Time::ZERO);
            }
        }
        Ok(())
    }

    /// A session was renewed for nothing.
    pub(super) fn renewed(&mut self, policy: &Policy, now: Time) -> Result<(), Broke> {
        self.renewals.push_back(now);
        while self
            .renewals
            .front()
            .is_some_and(|at| now.since(*at) >= policy.renewals.window_ms)
        {
            self.renewals.pop_front();
        }
        // Fixed windows: two of them can meet in any stretch of one's length.
        let most = usize::try_from(policy.renewals.max)
            .unwrap_or(usize::MAX)
            .saturating_mul(2);
        law!(
            self.renewals.len() <= most,
            "more sessions are renewed than the policy takes for granted (F107)"
        );
        Ok(())
    }

    /// The policies that the renewals were counted by are gone.
    pub(super) fn forget_renewals(&mut self) {
        self.renewals.clear();
    }
}

fn opens(before: &Status) -> bool {
    before.marks.successor.is_some()
}

/// The failure that the generation in question reported of itself, if it did.
fn culprit(before: &Status, heard: &Heard) -> Option<Failure> {
    let Heard::Said(input) = heard else {
        return None;
    };
    let matters = matches!(before.state, StateWord::Connecting | StateWord::Connected)
        && before.phase != Some(mainstay_core::lifecycle::Phase::Queued);
    let generation = input.generation()?;
    let mine = matters && before.generation == generation;
    let successor = before.marks.successor == Some(generation);
    if !mine && !successor {
        return None;
    }
    let replaced = Failure::new(FailureKind::SessionLost);
    match input {
        Input::OpenFailed { failure, .. } | Input::Exited { failure, .. } => {
            // Whether a replacement's failure is charged depends on more than is known here.
            Some(if successor { replaced } else { failure.clone() })
        }
        Input::SessionLost { .. } | Input::Gone { .. } => Some(replaced),
        _ => None,
    }
}
