//! What really happened in the simulated world: the ledger that the tests use as their oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use super::fake;
use super::script::{Rng, Script};
use crate::driver::opener::{Job, Opener};
use crate::slot::Slot;

/// One connection of a server, as the ledger calls it: `server`, or `server#2` for a further one.
pub(crate) fn title(slot: &Slot) -> String {
    match &slot.beside {
        Some(beside) => format!("{}#{}", slot.name, beside.number),
        None => slot.name.to_string(),
    }
}

/// Which script a generation of a server follows.
type Plan = Box<dyn Fn(&str, u64, &mut Rng) -> Script + Send + Sync>;

/// The world of one run.
pub(crate) struct World {
    plan: Plan,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rng: u64,
    /// From now on everybody is healthy, whatever the plan says.
    calm: bool,
    /// Fakes whose task lives.
    tasks: usize,
    /// Process groups that exist, by server.
    groups: BTreeMap<String, BTreeSet<u64>>,
    /// Every open, in order.
    opens: Vec<Open>,
    /// What must not have happened.
    violations: Vec<String>,
    /// How often each marked call was executed.
    executed: BTreeMap<u64, u32>,
    /// Reports on their way, late.
    late: JoinSet<()>,
}

/// One open.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) at: Instant,
    pub(crate) name: String,
    pub(crate) generation: u64,
}

/// An opener of fakes.
pub(crate) struct Fakes(pub(crate) Arc<World>);

impl Opener for Fakes {
    fn keep(&self, job: Job) -> BoxFuture<'static, ()> {
        let script = self.0.script(&job);
        fake::keep(Arc::clone(&self.0), job, script).boxed()
    }
}

/// A task of a fake, counted until it is dropped.
pub(crate) struct Task(Arc<World>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.lock().tasks -= 1;
    }
}

impl World {
    pub(crate) fn new(
        seed: u64,
        plan: impl Fn(&str, u64, &mut Rng) -> Script + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            plan: Box::new(plan),
            state: Mutex::new(State {
                rng: seed,
                ..State::default()
            }),
        })
    }

    pub(crate) fn opener(self: &Arc<Self>) -> Box<dyn Opener> {
        Box::new(Fakes(Arc::clone(self)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws from the world's own randomness.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        let mut state = self.lock();
        let mut rng = Rng(state.rng);
        let drawn = draw(&mut rng);
        state.rng = rng.0;
        drawn
    }

    fn script(&self, job: &Job) -> Script {
        let calm = self.lock().calm;
        if calm {
            return Script::default();
        }
        self.draw(|rng| (self.plan)(&job.slot.name, job.generation.0, rng))
    }

    /// All connections that are opened from now on are healthy.
    pub(crate) fn calm_down(&self) {
        self.lock().calm = true;
    }

    pub(crate) fn task(self: &Arc<Self>) -> Task {
        self.lock().tasks += 1;
        Task(Arc::clone(self))
    }

    /// A group comes to life. Laws 2, 3, 10 and 6 are checked here, where they cannot be talked around. A panic would be
    /// the keeper's own accident, so violations are noted and fail the test later.
    pub(crate) fn spawned(&self, job: &Job, exclusive: bool) {
        let (name, generation) = (title(&job.slot), job.generation.0);
        let mut state = self.lock();
        let mut wrong = Vec::new();
        if job.slot.view.borrow().shutting_down {
            wrong.push("F71, F224: opened during a shutdown".to_owned());
        }
        if let Some(last) = state.opens.iter().rev().find(|open| open.name == name) {
            if last.generation >= generation {
                wrong.push("law 3: generations only grow".to_owned());
            }
            let gap = last.at.elapsed();
            let interval = Duration::from_millis(job.config.restart.open_interval_ms);
            if gap + Duration::from_millis(1) < interval {
                wrong.push(format!("law 10: opened again after {gap:?}"));
            }
        }
        state.opens.push(Open {
            at: Instant::now(),
            name: name.clone(),
            generation,
        });
        let living = state.groups.entry(name.clone()).or_default();
        if exclusive && !living.is_empty() {
            wrong.push(format!("law 2: opened while {living:?} still lives"));
        }
        living.insert(generation);
        if job.slot.beside.is_some() {
            let beside = format!("{}#", job.slot.name);
            let all = state.groups.iter().filter(|(_, groups)| !groups.is_empty());
            let count = all.filter(|(name, _)| name.starts_with(&beside)).count();
            if count > job.config.connections.max {
                wrong.push(format!("{count} connections at the same time"));
            }
        }
        let wrong = wrong
            .into_iter()
            .map(|words| format!("{name} {generation}: {words}"));
        state.violations.extend(wrong);
    }

    /// Whether every open so far was lawful.
    pub(crate) fn assert_lawful(&self) {
        let violations = self.lock().violations.clone();
        assert!(violations.is_empty(), "{violations:#?}");
    }

    /// A group has ceased to exist.
    pub(crate) fn gone(&self, name: &str, generation: u64) {
        if let Some(groups) = self.lock().groups.get_mut(name) {
            groups.remove(&generation);
        }
    }

    /// Servers of which a group exists.
    pub(crate) fn survivors(&self) -> Vec<String> {
        let state = self.lock();
        let alive = state.groups.iter().filter(|(_, groups)| !groups.is_empty());
        alive.map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn executed(&self, marker: u64) {
        *self.lock().executed.entry(marker).or_default() += 1;
    }

    /// How often a marked call was executed.
    pub(crate) fn executions(&self, marker: u64) -> u32 {
        self.lock().executed.get(&marker).copied().unwrap_or(0)
    }

    /// How often a server was opened.
    pub(crate) fn opens(&self, name: &str) -> usize {
        self.all_opens()
            .iter()
            .filter(|open| open.name == name)
            .count()
    }

    pub(crate) fn all_opens(&self) -> Vec<Open> {
        self.lock().opens.clone()
    }

    /// Something that happens later, whoever is gone by then.
    pub(crate) fn later(&self, what: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.lock();
        while state.late.try_join_next().is_some() {}
        state.late.spawn(what);
    }

    /// Late reports are late no more: they never come.
    pub(crate) async fn forget_the_late(&self) {
        let mut late = std::mem::take(&mut self.lock().late);
        late.shutdown().await;
    }

    /// How many fakes are running.
    pub(crate) fn tasks(&self) -> usize {
        self.lock().tasks
    }
}
