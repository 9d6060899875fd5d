//! What a fake connection does, as data; drawn from a seed or written by a test.

use mainstay_core::failure::FailureKind;
use mainstay_core::lifecycle::effect::StopStep;

/// A small generator that replays.
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The whole life of one fake.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// How long each of the three phases of opening takes.
    pub(crate) phase_ms: u64,
    pub(crate) opening: Opening,
    /// How long it lives once it is open.
    pub(crate) life_ms: Option<u64>,
    pub(crate) end: End,
    pub(crate) calls: Calls,
    pub(crate) obeys: Obeys,
    /// Orders are heard this much late.
    pub(crate) deaf_ms: u64,
    /// How long its processes need to be gone once they are killed or have exited.
    pub(crate) remains_ms: u64,
    pub(crate) wire: Wire,
}

/// How opening ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    Well,
    Fails(FailureKind),
    Hangs,
    Panics,
}

/// How a life ends that nobody ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Exits,
    LosesSession,
    Announces,
    Panics,
    /// It goes without a word.
    Vanishes,
    /// It stays and answers nothing any more.
    FallsSilent,
}

/// What it does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calls {
    Answers {
        ms: u64,
    },
    AnswersTwice {
        ms: u64,
    },
    Refuses,
    Ignores,
    DiesOf,
    /// Does not even read.
    Clogs,
}

/// Which stop ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Obeys {
    /// The first step that it listens to. `None`: none.
    pub(crate) step: Option<StopStep>,
    /// How many kills it takes, if it comes to that.
    pub(crate) kills: u64,
    /// How long it takes to obey.
    pub(crate) ms: u64,
}

/// What happens to its reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) lose_percent: u64,
    pub(crate) double_percent: u64,
    pub(crate) delay_percent: u64,
    pub(crate) delay_ms_max: u64,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            phase_ms: 10,
            opening: Opening::Well,
            life_ms: None,
            end: End::Exits,
            calls: Calls::Answers { ms: 5 },
            obeys: Obeys {
                step: Some(StopStep::Close),
                kills: 1,
                ms: 1,
            },
            deaf_ms: 0,
            remains_ms: 5,
            wire: Wire::default(),
        }
    }
}

impl Script {
    /// A life full of trouble. It always ends when it is killed often enough.
    pub(crate) fn drawn(rng: &mut Rng) -> Self {
        let kinds = [
            FailureKind::Unreachable,
            FailureKind::SpawnFailed,
            FailureKind::RateLimited,
            FailureKind::NeedsLogin,
        ];
        let opening = match rng.below(10) {
            0 => Opening::Fails(kinds[usize::try_from(rng.below(4)).unwrap()]),
            1 => Opening::Hangs,
            2 => Opening::Panics,
            _ => Opening::Well,
        };
        let end = match rng.below(6) {
            0 => End::Exits,
            1 => End::LosesSession,
            2 => End::Announces,
            3 => End::Panics,
            4 => End::Vanishes,
            _ => End::FallsSilent,
        };
        let calls = match rng.below(9) {
            0 => Calls::AnswersTwice { ms: rng.below(500) },
            1 => Calls::Refuses,
            2 => Calls::Ignores,
            3 => Calls::DiesOf,
            4 => Calls::Clogs,
            _ => Calls::Answers {
                ms: rng.below(3_000),
            },
        };
        let steps = [StopStep::Close, StopStep::Terminate, StopStep::Kill];
        let step = steps[usize::try_from(rng.below(3)).unwrap()];
        Self {
            phase_ms: rng.below(2_000),
            opening,
            life_ms: rng.percent(60).then(|| rng.below(60_000)),
            end,
            calls,
            obeys: Obeys {
                step: Some(step),
                kills: if rng.percent(85) { 1 } else { 1 + rng.below(3) },
                ms: rng.below(400),
            },
            deaf_ms: if rng.percent(15) { rng.below(2_000) } else { 0 },
            remains_ms: if rng.percent(80) {
                rng.below(400)
            } else {
                rng.below(4_000)
            },
            wire: Wire {
                lose_percent: [0, 0, 10, 30][usize::try_from(rng.below(4)).unwrap()],
                double_percent: rng.below(30),
                delay_percent: rng.below(40),
                delay_ms_max: 1 + rng.below(5_000),
            },
        }
    }
}
