//! Seeded random histories of a whole fleet, compared with an independent reference of what should be true.
//!
//! Every history has two phases. In the first the world is hostile: messages are delayed, doubled, reordered and lost,
//! runtimes hang, die, lie and will not be killed, operators press everything, the machine sleeps and the config changes;
//! the laws are checked at every step. In the second the world turns kind, and within a bound that follows from the
//! policies every server must be where it belongs: connected, or at rest for a reason.
//!
//! A history is a seed and a number of steps, and each step has dice of its own: any step can be left out and the others
//! stay what they are, which is how a failing history is cut short.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a model looks at the variants it models"
)]

mod chaos;
pub mod defect;
mod dice;
mod kind;
mod model;
mod perform;
mod world;

use std::fmt;

use self::defect::Defect;
use self::dice::Dice;
use self::world::World;

/// No server of these histories ever waits longer than this before an attempt that has a time.
const WAIT_MS_MAX: u64 = 20_000;

/// A broken law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broke(String);

impl fmt::Display for Broke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! law {
    ($holds:expr, $($broken:tt)+) => {
        if !$holds {
            return Err($crate::history::Broke(format!($($broken)+)));
        }
    };
}
use law;

/// What happened in a history, to show that histories are not empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Inputs given to the fleet.
    pub inputs: u64,
    /// Opens begun.
    pub opens: u64,
    /// Generations that served.
    pub served: u64,
    /// Times a server was parked.
    pub parked: u64,
    /// Messages that came too late for their generation.
    pub stale: u64,
    /// Wake-ups.
    pub wakes: u64,
    /// Bursts of deaths that were told.
    pub bursts: u64,
    /// Fleets that were shut down.
    pub shut: u64,
}

impl Seen {
    /// Adds what another history saw.
    pub fn add(&mut self, other: Seen) {
        self.inputs += other.inputs;
        self.opens += other.opens;
        self.served += other.served;
        self.parked += other.parked;
        self.stale += other.stale;
        self.wakes += other.wakes;
        self.bursts += other.bursts;
        self.shut += other.shut;
    }
}

/// A history that broke a law, cut short.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its seed.
    pub seed: u64,
    /// How many of its steps are needed, counted from the first.
    pub steps: usize,
    /// What was broken.
    pub broke: Broke,
    /// The fewest steps that were found to break something, told one by one.
    pub story: Vec<String>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LINES_MAX: usize = 60;
        writeln!(f, "{}", self.broke)?;
        let left_out = self.story.len().saturating_sub(LINES_MAX);
        if left_out > 0 {
            writeln!(f, "  ... {left_out} lines left out ...")?;
        }
        for line in self.story.iter().skip(left_out) {
            writeln!(f, "  {line}")?;
        }
        write!(
            f,
            "again: MAINSTAY_HISTORY_SEED={} MAINSTAY_HISTORY_STEPS={} cargo test -p mainstay-testkit --test history",
            self.seed, self.steps
        )
    }
}

/// Lives through one history.
///
/// # Errors
///
/// The broken law, with the history cut short.
pub fn run(seed: u64, steps: usize, defect: Option<Defect>) -> Result<Seen, Box<Failed>> {
    let all: Vec<usize> = (0..steps).collect();
    match live(seed, &all, defect, None) {
        Ok(seen) => Ok(seen),
        Err(_) => Err(Box::new(cut_short(seed, all, defect))),
    }
}

/// Lives through some steps of a history, and then through its kind end.
fn live(
    seed: u64,
    steps: &[usize],
    defect: Option<Defect>,
    story: Option<&mut Vec<String>>,
) -> Result<Seen, Broke> {
    let mut world = World::new(seed, defect);
    world.tells = story.is_some();
    let outcome = (|| {
        for step in steps {
            let mut dice = Dice::of(seed, *step as u64 + 1);
            world.something_happens(&mut dice)?;
        }
        world.turns_kind(Dice::of(seed, u64::MAX))
    })();
    if let Some(story) = story {
        *story = std::mem::take(&mut world.story);
    }
    outcome.map(|()| world.seen)
}

/// Cuts the tail, then leaves out whatever is not needed, for as long as some law is still broken.
fn cut_short(seed: u64, all: Vec<usize>, defect: Option<Defect>) -> Failed {
    // Shrinking is for whoever reads the failure: it need not be perfect, only quick.
    const TRIES_MAX: usize = 600;
    let breaks = |steps: &[usize]| live(seed, steps, defect, None).is_err();
    let mut tries = 0;
    let mut kept = all;
    // The tail: the fewest first steps that still break something, by halving.
    let (mut enough, mut too_few) = (kept.len(), 0);
    while enough - too_few > 1 && tries < TRIES_MAX {
        tries += 1;
        let half = too_few + (enough - too_few) / 2;
        if breaks(&kept[..half]) {
            enough = half;
        } else {
            too_few = half;
        }
    }
    kept.truncate(enough);
    let steps = enough;
    // The rest: ever smaller pieces.
    let mut piece = kept.len() / 2;
    while piece > 0 && tries < TRIES_MAX {
        let mut from = 0;
        while from < kept.len() && tries < TRIES_MAX {
            tries += 1;
            let mut without = kept.clone();
            without.drain(from..(from + piece).min(kept.len()));
            if breaks(&without) {
                kept = without;
            } else {
                from += piece;
            }
        }
        piece /= 2;
    }
    let mut story = Vec::new();
    let broke = live(seed, &kept, defect, Some(&mut story))
        .err()
        .unwrap_or_else(|| Broke("nothing, the second time".to_owned()));
    Failed {
        seed,
        steps,
        broke,
        story,
    }
}
