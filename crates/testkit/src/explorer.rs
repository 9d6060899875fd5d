//! Explores every reachable state of the real lifecycle, breadth first, and checks the laws on every edge.
//!
//! A [`world::World`] owns what exists in reality: live runtimes, leases, the published catalog, the queue of the start
//! gate. On every edge the world does something (an order, a message of any live or dead generation, or the next
//! deadline), the real machine decides, and the world performs the effects while it checks them. Worlds are normalised
//! (time relative to now, generations relative to each other), so that their number is finite.
//!
//! To show that the checks can fail, [`defect::Defect`]s are planted around the machine; each must be found.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a model looks at the variants it models"
)]

pub mod atlas;
pub mod defect;
mod laws;
pub mod world;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use mainstay_core::policy::Policy;

use self::atlas::Atlas;
use self::defect::Defect;
use self::world::{Action, Violation, World};

/// What is explored: a start and the policies it runs under.
#[derive(Clone, Debug)]
pub struct Setup {
    /// For the report.
    pub name: &'static str,
    /// The policy before and after a config change; the world switches between them with every `Replace`.
    pub policies: Vec<Policy>,
    /// Seeds of the jitter that are tried whenever a delay is drawn.
    pub seeds: Vec<u64>,
    /// Actions that are left out, to keep the number of worlds small.
    pub without: Vec<&'static str>,
}

/// The outcome of an exploration.
#[derive(Debug)]
pub struct Report {
    /// Distinct worlds.
    pub worlds: usize,
    /// Edges taken, stale messages included.
    pub transitions: u64,
    /// Wall time.
    pub took: Duration,
    /// What was seen, for the generated state table.
    pub atlas: Atlas,
    /// The first broken law, with the shortest way to it.
    pub violation: Option<Trace>,
}

/// The shortest way to a violation.
#[derive(Debug)]
pub struct Trace {
    /// The actions from the start, the last one breaks the law.
    pub actions: Vec<Action>,
    /// What was broken.
    pub violation: Violation,
}

impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} after {} steps: ", self.violation, self.actions.len())?;
        for (index, action) in self.actions.iter().enumerate() {
            write!(f, "{}{action}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Explores everything that is reachable from the start of `setup`, or stops at the first broken law.
#[must_use]
pub fn explore(setup: &Setup, defect: Option<Defect>) -> Report {
    let began = Instant::now();
    let start = World::new(setup);
    let mut seen = Seen::new();
    let mut parents: Vec<Option<(u32, Action)>> = vec![None];
    let mut frontier = VecDeque::from([(0_u32, start.clone())]);
    let mut transitions = 0_u64;
    let mut atlas = Atlas::default();
    let mut violation = None;
    seen.insert(&start);

    'search: while let Some((index, world)) = frontier.pop_front() {
        for action in world.actions(setup) {
            transitions += 1;
            let outcome = match world.take(setup, &action, defect) {
                Ok(outcome) => outcome,
                Err(broken) => {
                    violation = Some(trace(&parents, index, action, broken));
                    break 'search;
                }
            };
            atlas.record(&action, &outcome);
            let next = outcome.world;
            if seen.insert(&next) {
                let number = u32::try_from(parents.len()).unwrap_or(u32::MAX);
                parents.push(Some((index, action)));
                frontier.push_back((number, next));
            }
        }
        match world.check_at_rest(setup, defect) {
            Ok(edges) => transitions += edges,
            Err((action, broken)) => {
                violation = Some(trace(&parents, index, action, broken));
                break 'search;
            }
        }
    }
    Report {
        worlds: parents.len(),
        transitions,
        took: began.elapsed(),
        atlas,
        violation,
    }
}

fn trace(
    parents: &[Option<(u32, Action)>],
    from: u32,
    last: Action,
    violation: Violation,
) -> Trace {
    let mut actions = vec![last];
    let mut at = from;
    while let Some(Some((parent, action))) = parents.get(at as usize) {
        actions.push(action.clone());
        at = *parent;
    }
    actions.reverse();
    Trace { actions, violation }
}

/// Replays a trace and describes the machine after every action, for whoever has to find out why.
#[must_use]
pub fn replay(setup: &Setup, defect: Option<Defect>, trace: &Trace) -> String {
    let mut world = World::new(setup);
    let mut story = String::new();
    for action in &trace.actions {
        match world.take(setup, action, defect) {
            Ok(outcome) => world = outcome.world,
            Err(violation) => {
                story.push_str(&format!("{action}\n    {violation}\n"));
                break;
            }
        }
        story.push_str(&format!("{action}\n    {world:?}\n"));
    }
    story
}

/// The worlds seen so far, by two independent 64-bit hashes: keeping the worlds themselves would cost gigabytes, and two
/// of them share 128 bits with a probability that can be neglected.
struct Seen {
    keys: [RandomState; 2],
    hashes: HashMap<u64, Vec<u64>>,
}

impl Seen {
    fn new() -> Seen {
        Seen {
            keys: [RandomState::new(), RandomState::new()],
            hashes: HashMap::new(),
        }
    }

    fn insert(&mut self, world: &World) -> bool {
        let [first, second] = [&self.keys[0], &self.keys[1]].map(|key| key.hash_one(world));
        let bucket = self.hashes.entry(first).or_default();
        let new = !bucket.contains(&second);
        if new {
            bucket.push(second);
        }
        new
    }
}
