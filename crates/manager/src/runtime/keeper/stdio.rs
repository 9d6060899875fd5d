//! The keeper of a child process: spawn, greet, list, watch, and the escalating stop, whatever the pipes do.

mod greet;
mod hints;
mod start;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::lifecycle::effect::StopStep;
use mainstay_core::lifecycle::input::{Input, Phase};
use mainstay_wire::envelope::Message;
use mainstay_wire::revision::Era;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::{Orders, Setup, list_and_report, probe, restore, runtime, send_notices};
use crate::config::Transport;
use crate::process::{self, PipeId, Spawned};
use crate::runtime::catalog::Listing;
use crate::runtime::refresh::refresh;
use crate::runtime::stdio::{StdioLink, read_lines, write_lines};
use crate::runtime::{Link, Runtime};
use crate::settings;

pub(crate) use self::hints::MissingModule;

/// How long after the end of stdout we wait for the exit that explains it, and after the exit for the last lines. No
/// setting: it bounds how late a death is told (law 13), and nothing is lost by it but words.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Output on stderr is reported as life at most this often. No setting: it bounds what a chatty server costs the driver.
const LIFE_INTERVAL: Duration = Duration::from_secs(1);

/// How many stderr lines are looked at for a known cause: a stack trace comes after it.
const HINT_LINES: usize = 40;

/// How many stderr lines go into a failure. No setting: `logs` shows all that is kept.
const TAIL_LINES: usize = 5;

/// See [`super::keep`].
pub(super) async fn keep(setup: Setup) {
    let generation = setup.generation;
    let (spawned, home) = match spawn(&setup).await {
        Ok(spawned) => spawned,
        Err(failure) => {
            return setup
                .reports
                .input(Input::OpenFailed {
                    generation,
                    failure,
                })
                .await;
        }
    };
    let Spawned {
        stdin,
        stdout,
        stderr,
        fence,
        process,
    } = spawned;
    let pid = process.pid();
    let pipe = PipeId::of(&stdout);
    setup.slot.set_process(pid, Arc::clone(&stderr), fence);
    let (link, lines) = StdioLink::new(setup.caps.queued_lines);
    let closing = link.closing();
    let (runtime, notices) = runtime(&setup, Link::Stdio(link));
    let writer = tokio::spawn(write_lines(stdin, lines, closing.clone()));
    let reader = tokio::spawn(read_lines(
        stdout,
        Arc::clone(&runtime),
        setup.link_limits(),
    ));
    setup.remains.end_by({
        // What a panic of this keeper would leave: the group and the two tasks on its pipes.
        let (process, runtime, slot) = (
            Arc::clone(&process),
            Arc::clone(&runtime),
            Arc::clone(&setup.slot),
        );
        let tasks = [reader.abort_handle(), writer.abort_handle()];
        move || {
            tasks.iter().for_each(tokio::task::AbortHandle::abort);
            runtime.fail(Failure::new(FailureKind::Internal));
            slot.clear_process(process.pid());
            process.kill();
            let process = Arc::clone(&process);
            Box::pin(async move { process.gone().await })
        }
    });
    let child = Child {
        setup: &setup,
        runtime: &runtime,
        stderr,
        process: &process,
        opened: AtomicBool::new(false),
        probing: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
        pipe,
    };
    child.live(reader, notices).await;
    // Whatever still waits on this generation learns now that it is over.
    runtime.fail(runtime.failure());
    closing.cancel();
    // The pipes may be held open by a process that left the group; neither task is worth waiting for.
    writer.abort();
    setup.slot.clear_process(pid);
    // Nothing of the group is left that could still write there.
    drop(home);
}

/// Starts the process. What comes with it is its home, if that goes with it.
async fn spawn(setup: &Setup) -> Result<(Spawned, Option<TempDir>), Failure> {
    let start = start::ready(setup).await?;
    let spawned = process::spawn(start.spec, &setup.guardian).await;
    let spawned = spawned.map_err(|error| settings::spawn_failure(&error))?;
    Ok((spawned, start.home))
}

/// One living child and what is known about it.
struct Child<'a> {
    setup: &'a Setup,
    runtime: &'a Arc<Runtime>,
    stderr: Arc<process::StderrRing>,
    process: &'a process::Process,
    opened: AtomicBool,
    /// A question has been asked that a strict old server may die of, and was not answered.
    probing: AtomicBool,
    /// Its end was ordered: what it does from now on says nothing about it.
    stopping: AtomicBool,
    /// Its stdout.
    pipe: Option<PipeId>,
}

/// What can happen to a living child.
enum Happening {
    /// The leader has exited, whatever its descendants do (law 13).
    Exited(Option<process::ExitInfo>),
    /// Its stdout has ended.
    Ended(Failure),
    /// Opening failed.
    OpenFailed(Failure),
    /// The last lease of the fenced generation has gone.
    Drained,
    /// The driver has ordered something; `false`: the driver is gone.
    Ordered(bool),
    /// Nothing is left of the group.
    Gone,
}

/// What has happened already, so that nothing is reported twice (F236).
#[derive(Default)]
struct Seen {
    dead: bool,
    ended: bool,
    open_failed: bool,
    drained: bool,
    obeyed: Orders,
}

impl Child<'_> {
    /// Lives until nothing of the group is left.
    async fn live(&self, mut reader: JoinHandle<Failure>, notices: mpsc::Receiver<Message>) {
        let mut work = pin!(self.work());
        let mut saying = pin!(send_notices(self.runtime, notices));
        let mut life = pin!(self.report_life());
        let mut drained = pin!(self.runtime.leases.drained());
        let mut gone = pin!(self.process.gone());
        let mut exited = self.process.exited();
        let mut orders = self.setup.orders.clone();
        let mut seen = Seen::default();
        loop {
            let draining = seen.obeyed.stop == Some(StopStep::Drain);
            let happening = tokio::select! {
                // Cancel-safe: exit information is a level.
                info = exit_of(&mut exited), if !seen.dead => Happening::Exited(info),
                // Cancel-safe: a join handle is polled again; finished only once, see the guard.
                ended = &mut reader, if !seen.ended => {
                    Happening::Ended(ended.unwrap_or_else(|_panic| Failure::new(FailureKind::Internal)))
                }
                // Cancel-safe: pinned and polled on; it ends only when opening failed.
                failure = &mut work, if !seen.open_failed => Happening::OpenFailed(failure),
                // Cancel-safe: pinned; neither of the two ends while the runtime lives.
                () = &mut saying => continue,
                () = &mut life => continue,
                // Cancel-safe: level-triggered.
                () = &mut drained, if draining && !seen.drained => Happening::Drained,
                // Cancel-safe: a watch is a level.
                changed = orders.changed() => Happening::Ordered(changed.is_ok()),
                // Cancel-safe: level-triggered.
                () = &mut gone => Happening::Gone,
            };
            if self
                .handle(happening, &mut seen, &mut reader, &mut orders)
                .await
            {
                break;
            }
        }
        if !seen.ended
            && tokio::time::timeout(LAST_WORDS, &mut reader).await.is_err()
            && self.process.is_gone()
        {
            self.report_escape().await;
        }
        reader.abort();
    }

    /// The group is gone, and somebody still holds its stdout: a process that has left the group. It cannot be ended
    /// safely, so people are told.
    async fn report_escape(&self) {
        let pipe = self.pipe;
        let look = move || pipe.map(PipeId::holders).unwrap_or_default();
        let pids = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        self.setup
            .slot
            .counters
            .escaped(self.setup.generation.0, pids);
    }

    /// Deals with one happening; `true` when nothing is left to happen.
    async fn handle(
        &self,
        happening: Happening,
        seen: &mut Seen,
        reader: &mut JoinHandle<Failure>,
        orders: &mut watch::Receiver<Orders>,
    ) -> bool {
        let generation = self.setup.generation;
        match happening {
            Happening::Exited(info) => {
                seen.dead = true;
                // Law 29: sweep the group after the leader is gone; its last words may still be in the pipe (F49).
                self.process.kill();
                if !seen.ended {
                    seen.ended = tokio::time::timeout(LAST_WORDS, reader).await.is_ok();
                }
                self.report_death(self.exit_failure(info.as_ref())).await;
            }
            Happening::Ended(failure) => {
                seen.ended = true;
                // The end of stdout usually means that the process is ending: give its exit the first word. If it lives on
                // without stdout, it is dead for us all the same (F63).
                if !seen.dead && !self.is_about_to_exit().await {
                    seen.dead = true;
                    self.report_death(self.explain(failure)).await;
                }
            }
            Happening::OpenFailed(failure) => {
                seen.open_failed = true;
                // A death explains a failed opening better than the opening does.
                if !seen.dead && !self.is_about_to_exit().await {
                    let failure = self.explain(failure);
                    self.setup
                        .reports
                        .input(Input::OpenFailed {
                            generation,
                            failure,
                        })
                        .await;
                }
            }
            Happening::Drained => {
                seen.drained = true;
                self.setup
                    .reports
                    .input(Input::Drained { generation })
                    .await;
            }
            Happening::Ordered(driver_lives) => {
                let mut wanted = orders.borrow_and_update().clone();
                if !driver_lives {
                    // A driver that is gone can order nothing any more; then the group must not outlive it.
                    wanted.stop = Some(StopStep::Kill);
                    wanted.kills += 1;
                }
                self.obey(&seen.obeyed, &wanted);
                seen.obeyed = wanted;
                if !driver_lives {
                    self.process.gone().await;
                    return true;
                }
            }
            Happening::Gone => {
                if !seen.dead {
                    // The two levels rose together.
                    let info = *self.process.exited().borrow();
                    self.report_death(self.exit_failure(info.as_ref())).await;
                }
                return true;
            }
        }
        false
    }

    /// Opens, and then works until it is dropped. Returns only if opening failed.
    async fn work(&self) -> Failure {
        let doubted = match self.open().await {
            Ok(doubted) => doubted,
            Err(failure) => return failure,
        };
        tokio::join!(
            refresh(self.setup, self.runtime, doubted),
            probe(self.setup, self.runtime),
            restore(&self.setup.slot.events, self.runtime)
        );
        self.runtime.failure()
    }

    /// Whether the leader exits within the time that last words take.
    async fn is_about_to_exit(&self) -> bool {
        let mut exited = self.process.exited();
        tokio::time::timeout(LAST_WORDS, exit_of(&mut exited))
            .await
            .is_ok()
    }

    fn obey(&self, before: &Orders, wanted: &Orders) {
        if before.stop == wanted.stop && before.kills == wanted.kills {
            return;
        }
        if !self.stopping.swap(true, Ordering::AcqRel) {
            self.doubt_the_era();
        }
        match wanted.stop {
            None | Some(StopStep::Drain) => {}
            Some(StopStep::Close) => self.close(),
            Some(StopStep::Terminate) => {
                self.close();
                self.process.terminate();
            }
            Some(StopStep::Kill) => {
                self.close();
                if before.stop != wanted.stop && self.process.exited().borrow().is_none() {
                    let (server, pid) = (&self.setup.slot.name, self.process.pid());
                    tracing::warn!(%server, pid, "the process did not end when it was asked to; killing it");
                    self.setup.slot.counters.forced_kill();
                }
                self.process.kill();
            }
        }
    }

    /// F32: a server that greets as modern and then does not list is tried as a legacy one the next time.
    fn doubt_the_era(&self) {
        let is_modern = self
            .runtime
            .greeting()
            .is_some_and(|greeting| greeting.revision.era() == Era::Modern);
        if is_modern
            && !self.opened.load(Ordering::Acquire)
            && settings::fixed_era(&self.setup.config).is_none()
        {
            self.setup.slot.era.set(Some(Era::Legacy));
        }
    }

    fn close(&self) {
        if let Link::Stdio(link) = self.runtime.link() {
            link.close();
        }
    }

    async fn open(&self) -> Result<Option<Listing>, Failure> {
        let generation = self.setup.generation;
        self.setup
            .reports
            .input(Input::Phase {
                generation,
                phase: Phase::Greet,
            })
            .await;
        let greeting = self.greet().await?;
        self.runtime.greeted(greeting.clone());
        let doubted = list_and_report(self.setup, self.runtime, &greeting).await?;
        self.opened.store(true, Ordering::Release);
        self.setup.slot.missing_module.started();
        Ok(doubted)
    }

    /// Tells the driver how the child died: once, by what it interrupted.
    async fn report_death(&self, failure: Failure) {
        let generation = self.setup.generation;
        if self.opened.load(Ordering::Acquire) {
            self.setup
                .reports
                .input(Input::Exited {
                    generation,
                    failure,
                })
                .await;
            return;
        }
        if self.stopping.load(Ordering::Acquire) {
            // It ends because it was told to.
        } else if self.probing.load(Ordering::Acquire) {
            // F28: a strict old server may die of an unknown method. The next start does not probe; the one charge goes
            // with the first proof.
            self.setup.slot.era.set(Some(Era::Legacy));
        } else if self.setup.slot.era.get().is_some() {
            // F139: what is remembered may be what kills it.
            self.setup.slot.era.set(None);
        }
        self.setup
            .reports
            .input(Input::OpenFailed {
                generation,
                failure,
            })
            .await;
    }

    fn exit_failure(&self, info: Option<&process::ExitInfo>) -> Failure {
        let (code, signal) = info.map_or((None, None), |info| (info.code, info.signal));
        let kind = if self.opened.load(Ordering::Acquire) {
            FailureKind::Exited { code, signal }
        } else {
            FailureKind::ExitedEarly { code, signal }
        };
        let early = !self.opened.load(Ordering::Acquire);
        let hint = early.then(|| self.hint()).flatten();
        let failure = self.explain(Failure::new(kind));
        let Some(hint) = hint else { return failure };
        let words = failure.detail.as_deref().unwrap_or_default();
        let detail = format!("{words}; {hint}");
        failure.with_detail(detail)
    }

    /// What a start that failed tells those who know such starts (F5, F7).
    fn hint(&self) -> Option<String> {
        let command = match &self.setup.config.transport {
            Transport::Stdio { command, .. } => command.raw(),
            Transport::Http { .. } | Transport::Broken { .. } => "",
        };
        let tail = self.stderr.tail(HINT_LINES);
        self.setup.slot.missing_module.failed(&tail, command)
    }

    /// Attaches the stderr tail (law 30).
    fn explain(&self, failure: Failure) -> Failure {
        let tail = self.stderr.tail(TAIL_LINES);
        if tail.is_empty() {
            return failure;
        }
        let own = failure
            .detail
            .as_deref()
            .map(|detail| format!("{detail}; "))
            .unwrap_or_default();
        failure.with_detail(format!("{own}last on stderr: {}", tail.join(" | ")))
    }

    /// While connecting, output on stderr is life: package runners download for minutes (F4).
    async fn report_life(&self) {
        let mut bytes = self.stderr.subscribe();
        while !self.opened.load(Ordering::Acquire) && bytes.changed().await.is_ok() {
            self.setup
                .reports
                .input(Input::Life {
                    generation: self.setup.generation,
                })
                .await;
            // Often enough for a phase that is set to be short.
            let phase = Duration::from_millis(self.setup.config.timeouts.greet_ms);
            tokio::time::sleep(LIFE_INTERVAL.min(phase / 4)).await;
        }
        std::future::pending().await
    }
}

/// Waits for the exit of the leader. Cancel-safe, level-triggered.
async fn exit_of(
    exited: &mut watch::Receiver<Option<process::ExitInfo>>,
) -> Option<process::ExitInfo> {
    exited
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|info| *info)
}
