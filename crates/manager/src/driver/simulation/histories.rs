//! Random histories: people, calls and trouble of every kind at once; then peace, in which everything has to heal; then a
//! shutdown at whatever moment it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_core::lifecycle::status::StateWord;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::dropping::polled_at_most;
use super::*;
use crate::error::Refusal;
use crate::events::{Event, EventKind};
use crate::runtime::Runtime;
use crate::runtime::leases::Lease;

const SERVERS: [&str; 4] = ["pipes", "posts", "lazy", "quick"];

/// One run of a seed.
struct History {
    world: Arc<World>,
    stage: Arc<Stage>,
    markers: AtomicU64,
    /// Calls that ended, by server.
    ended: std::sync::Mutex<BTreeMap<&'static str, u64>>,
    /// Calls that must never have been executed.
    refused: std::sync::Mutex<Vec<u64>>,
}

fn servers() -> [ServerConfig; 4] {
    let mut posts = ServerConfig::http("posts", "http://127.0.0.1:1/mcp");
    if let Some(keepalive) = &mut posts.keepalive {
        keepalive.idle_ms = 5_000;
        keepalive.timeout_ms = 1_000;
    }
    let mut lazy = ServerConfig::stdio("lazy", "fake");
    lazy.startup = crate::config::Startup::Lazy;
    lazy.idle_shutdown_ms = Some(4_000);
    let mut quick = ServerConfig::http("quick", "http://127.0.0.1:1/mcp");
    quick.restart.open_interval_ms = 50;
    quick.restart.budget = 2;
    quick.drain_ms = 0;
    [ServerConfig::stdio("pipes", "fake"), posts, lazy, quick]
}

impl History {
    async fn start(seed: u64) -> Arc<Self> {
        let world = World::new(seed, |_, _, rng| Script::drawn(rng));
        let stage = Stage::start(world.opener(), seed, servers()).await;
        Arc::new(Self {
            world,
            stage: Arc::new(stage),
            markers: AtomicU64::new(1),
            ended: Default::default(),
            refused: Default::default(),
        })
    }

    /// One call, perhaps abandoned. Checks law 16 and law 17 by what the far end saw.
    async fn call(self: Arc<Self>, name: &'static str, polls: usize, total_ms: u64) {
        let marker = self.markers.fetch_add(1, Ordering::Relaxed);
        let server = self.stage.server(name);
        let total = Duration::from_millis(total_ms);
        let began = Instant::now();
        let ending = call(&server, marker, total, total.min(Duration::from_secs(15)));
        let Some(outcome) = polled_at_most(polls, ending).await else {
            assert!(self.world.executions(marker) <= 1, "law 16: never twice");
            return;
        };
        let took = began.elapsed();
        assert!(
            took <= total + Duration::from_millis(5),
            "law 17: a call with {total:?} took {took:?}: {outcome:?}"
        );
        *self.ended.lock().unwrap().entry(name).or_default() += 1;
        let executions = self.world.executions(marker);
        match &outcome {
            Ok(_) => assert_eq!(executions, 1, "law 16: answered means executed once"),
            Err(CallError::Refused(_)) => {
                assert_eq!(
                    executions, 0,
                    "law 16: refused means never sent: {outcome:?}"
                );
                self.refused.lock().unwrap().push(marker);
            }
            Err(CallError::Rejected(_)) => assert_eq!(executions, 0, "law 16: rejected"),
            Err(CallError::Unknown(_)) => assert!(executions <= 1, "law 16: never twice"),
        }
    }

    /// The operator of one server: one order after the other, some abandoned half-way.
    async fn operate(self: Arc<Self>, name: &'static str, seed: u64) {
        let mut rng = Rng(seed);
        let server = self.stage.server(name);
        loop {
            sleep(Duration::from_millis(rng.below(20_000))).await;
            let polls = if rng.percent(30) {
                usize::try_from(rng.below(3)).unwrap()
            } else {
                usize::MAX
            };
            match rng.below(3) {
                0 => {
                    polled_at_most(polls, server.restart()).await;
                }
                1 => {
                    if let Some(Ok(())) = polled_at_most(polls, server.disable()).await {
                        self.stays_away(name, rng.below(30_000)).await;
                    }
                }
                _ => {
                    polled_at_most(polls, server.enable()).await;
                }
            }
        }
    }

    /// Law 5, law 21: once `disable` has returned, and until somebody enables it, nothing brings it back.
    async fn stays_away(&self, name: &str, ms: u64) {
        let slot = self.stage.slot(name);
        let until = Instant::now() + Duration::from_millis(ms);
        let opens = self.world.opens(name);
        while Instant::now() < until {
            assert!(
                !self.stage.is_published(name),
                "law 21: disabled implies unpublished"
            );
            assert!(slot.current.load().is_none(), "law 5: it takes calls");
            let state = slot.view.borrow().status.state;
            assert!(
                matches!(state, StateWord::Disabled | StateWord::Draining),
                "law 5: {name} is {state}"
            );
            assert_eq!(self.world.opens(name), opens, "law 5: it was opened");
            sleep(Duration::from_millis(250)).await;
        }
    }

    /// Everybody does everything for a while.
    async fn trouble(self: &Arc<Self>, seed: u64) {
        let mut rng = Rng(seed ^ 0xdead);
        let mut people = JoinSet::new();
        for (place, name) in SERVERS.into_iter().enumerate() {
            let seed = seed.wrapping_mul(31).wrapping_add(place as u64);
            people.spawn(Arc::clone(self).operate(name, seed));
        }
        let mut calls = JoinSet::new();
        let mut witness = Witness::new(&self.stage);
        for _ in 0..60 {
            sleep(Duration::from_millis(rng.below(4_000))).await;
            for _ in 0..rng.below(4) {
                let name = SERVERS[usize::try_from(rng.below(4)).unwrap()];
                let polls = if rng.percent(20) {
                    usize::try_from(rng.below(6)).unwrap()
                } else {
                    usize::MAX
                };
                calls.spawn(Arc::clone(self).call(name, polls, 1 + rng.below(60_000)));
            }
            witness.look(&self.stage);
            fail_on_panic(&mut calls);
            fail_on_panic(&mut people);
        }
        people.shutdown().await;
        if rng.percent(50) {
            while let Some(call) = calls.join_next().await {
                resume(call);
            }
        } else {
            // The callers leave all at once.
            calls.shutdown().await;
        }
        witness.look(&self.stage);
    }

    /// Property 1: whatever was dropped, lost and broken before, healthy servers are served again.
    async fn heal(self: &Arc<Self>) {
        self.world.calm_down();
        for name in SERVERS {
            let server = self.stage.server(name);
            server.enable().await.unwrap();
            // Works from every state, parked for a human included (law 5).
            server.restart().await.unwrap();
            let began = Instant::now();
            loop {
                let marker = self.markers.fetch_add(1, Ordering::Relaxed);
                let patience = Duration::from_secs(20);
                let outcome = call(&server, marker, patience, patience).await;
                *self.ended.lock().unwrap().entry(name).or_default() += 1;
                if outcome.is_ok_and(|answer| answer.result().is_some()) {
                    break;
                }
                assert!(
                    began.elapsed() < Duration::from_secs(300),
                    "{name} does not heal: {:?}",
                    server.status()
                );
                sleep(Duration::from_secs(1)).await;
            }
            assert!(self.stage.is_published(name));
        }
    }

    /// Ends everything and looks at the accounts.
    async fn finish(self: Arc<Self>, hurried_after: Option<Duration>) {
        let late_call = {
            let (history, stage) = (Arc::clone(&self), Arc::clone(&self.stage));
            tokio::spawn(async move {
                sleep(Duration::from_millis(1)).await;
                let server = stage.server("pipes");
                let limit = Duration::from_secs(30);
                let refused = call(&server, u64::MAX, limit, limit).await;
                // Counted with the others.
                *history.ended.lock().unwrap().entry("pipes").or_default() += 1;
                assert!(
                    matches!(refused, Err(CallError::Refused(Refusal::ShuttingDown))),
                    "F222: {refused:?}"
                );
            })
        };
        let began = Instant::now();
        let ending = self.stage.shut_down();
        tokio::pin!(ending);
        let mut report = None;
        if let Some(after) = hurried_after {
            report = tokio::time::timeout(after, &mut ending).await.ok();
            self.stage.desk.hurry();
        }
        let report = match report {
            Some(report) => report,
            None => ending.await,
        };
        let took = began.elapsed();
        assert!(
            took <= Duration::from_millis(SHUTDOWN_MS),
            "law 6: {took:?}"
        );
        let left = self.world.survivors();
        assert_eq!(
            report.left, left,
            "the report names what could not be ended"
        );
        resume(late_call.await);
        self.world.forget_the_late().await;
        assert_no_task_is_left(&self.world).await;
        for marker in self.refused.lock().unwrap().iter() {
            assert_eq!(self.world.executions(*marker), 0, "law 16: sent after all");
        }
        for name in SERVERS {
            let server = self.stage.server(name);
            let counts = server.status().counts;
            let ended = self.ended.lock().unwrap().get(name).copied().unwrap_or(0);
            let counted = counts.answered + counts.refused + counts.rejected + counts.unknown;
            assert_eq!(counted, ended, "every call is counted once: {counts:?}");
            assert_eq!(counts.opens, self.world.opens(name) as u64);
            assert!(server.restart().await.is_err(), "law 6: nothing comes back");
        }
    }
}

/// Watches what must hold at every moment.
struct Witness {
    current: BTreeMap<&'static str, Option<Arc<Runtime>>>,
    version: u64,
    events: broadcast::Receiver<Event>,
    states: BTreeMap<String, &'static str>,
}

impl Witness {
    fn new(stage: &Stage) -> Self {
        Self {
            current: BTreeMap::new(),
            version: 0,
            events: stage.events.subscribe(),
            states: BTreeMap::new(),
        }
    }

    fn look(&mut self, stage: &Stage) {
        for name in SERVERS {
            let now = stage.slot(name).current.load_full();
            let before = self.current.insert(name, now.clone()).flatten();
            if let Some(before) = before
                && now.as_ref().is_none_or(|now| !Arc::ptr_eq(now, &before))
            {
                assert!(
                    Lease::take(&before).is_none(),
                    "law 2: a former generation of {name} takes leases"
                );
                let newer = now.is_none_or(|now| now.generation > before.generation);
                assert!(newer, "law 3: {name} went back to an older generation");
            }
        }
        let version = stage.shared.current().version;
        assert!(version >= self.version, "law 21: versions only grow");
        self.version = version;
        self.read_events();
    }

    /// F235, F236: every transition is told once, the next begins where the last one ended.
    fn read_events(&mut self) {
        loop {
            match self.events.try_recv() {
                Ok(event) => {
                    let EventKind::Transition { from, to, .. } = event.kind else {
                        continue;
                    };
                    if let Some(last) = self.states.insert(event.server.clone(), to) {
                        assert_eq!(
                            last, from,
                            "F235, F236: {} skipped or repeated",
                            event.server
                        );
                    }
                }
                Err(broadcast::error::TryRecvError::Lagged(_)) => self.states.clear(),
                Err(_) => return,
            }
        }
    }
}

fn fail_on_panic<T: 'static>(tasks: &mut JoinSet<T>) {
    while let Some(ended) = tasks.try_join_next() {
        resume(ended);
    }
}

/// A failed assertion of a task is a failed assertion of the test.
fn resume<T>(ended: Result<T, tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

#[test]
fn law_1_law_2_law_3_law_5_law_10_law_16_law_17_f145_f148_f150_f151_f235_f236_any_history_heals_and_ends()
 {
    for_seeds("any_history_heals_and_ends", 200, |seed| async move {
        let history = History::start(seed).await;
        history.trouble(seed).await;
        history.heal().await;
        history.finish(None).await;
    });
}

#[test]
fn law_6_f71_f72_f76_f220_f222_a_shutdown_in_the_middle_of_any_trouble_ends_in_time_and_leaves_nothing()
 {
    for_seeds(
        "a_shutdown_in_the_middle_of_any_trouble",
        200,
        |seed| async move {
            let history = History::start(seed).await;
            history.trouble(seed).await;
            let hurried_after = (seed % 3 == 0).then(|| Duration::from_millis(seed * 37 % 9_000));
            history.finish(hurried_after).await;
        },
    );
}
