//! The keeper of a child process: spawn, greet, list, watch, and the escalating stop, whatever the pipes do.

use std::ffi::OsString;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::lifecycle::effect::StopStep;
use mainstay_core::lifecycle::input::{Input, Phase};
use mainstay_wire::revision::{Era, Revision};
use mainstay_wire::views::{DiscoverResult, ErrorView, InitializeResult};
use mainstay_wire::{codes, method};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Orders, Setup, list_and_report, probe, refresh, runtime, send_notices};
use crate::process::{self, SpawnSpec, Spawned};
use crate::request::Request;
use crate::runtime::era::EraHint;
use crate::runtime::greeting::{Greeting, OUR_CAPABILITIES, our_info};
use crate::runtime::stdio::{StdioLink, read_lines, write_lines};
use crate::runtime::{Cut, Limits, Link, Miss, Runtime};

/// How long after the end of stdout we wait for the exit that explains it, and after the exit for the last lines.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Output on stderr is reported as life at most this often.
const LIFE_INTERVAL: Duration = Duration::from_secs(1);

/// How many stderr lines go into a failure.
const TAIL_LINES: usize = 5;

/// See [`super::keep`].
pub(super) async fn keep(setup: Setup) {
    let generation = setup.generation;
    let spawned = match spawn(&setup).await {
        Ok(spawned) => spawned,
        Err(failure) => return setup.reports.input(Input::OpenFailed { generation, failure }).await,
    };
    let Spawned { stdin, stdout, stderr, process } = spawned;
    let pid = process.pid();
    setup.slot.set_process(pid, Arc::clone(&stderr));
    let (link, lines) = StdioLink::new();
    let closing = link.closing();
    let (runtime, notices) = runtime(&setup, Link::Stdio(link));
    let writer = tokio::spawn(write_lines(stdin, lines, closing.clone()));
    let reader = tokio::spawn(read_lines(stdout, Arc::clone(&runtime), setup.limits));
    let child = Child { setup: &setup, runtime: &runtime, stderr, process: &process, opened: AtomicBool::new(false), probing: AtomicBool::new(false) };
    child.live(reader, notices).await;
    // Whatever still waits on this generation learns now that it is over.
    runtime.fail(runtime.failure());
    closing.cancel();
    // The pipes may be held open by a process that left the group; neither task is worth waiting for.
    writer.abort();
    setup.slot.clear_process(pid);
}

async fn spawn(setup: &Setup) -> Result<Spawned, Failure> {
    let resolved = setup.config.resolve_stdio().map_err(|problem| {
        Failure::new(FailureKind::BadConfig).with_detail(problem.to_string())
    })?;
    let spec = SpawnSpec {
        program: OsString::from(resolved.command),
        args: resolved.args.into_iter().map(OsString::from).collect(),
        env: process::child_env(std::env::vars_os(), &resolved.env, setup.config.env_policy),
        cwd: resolved.cwd.map(Into::into),
        stderr_bytes_max: setup.stderr_bytes_max,
    };
    process::spawn(spec, &setup.guardian).await.map_err(|error| {
        let kind = match &error {
            process::SpawnError::NotFound { .. } => FailureKind::SpawnNotFound,
            process::SpawnError::CwdMissing { .. } => FailureKind::CwdMissing,
            process::SpawnError::Denied { .. } => FailureKind::SpawnDenied,
            process::SpawnError::Other { .. } => FailureKind::SpawnFailed,
        };
        Failure::new(kind).with_detail(error.to_string())
    })
}

/// One living child and what is known about it.
struct Child<'a> {
    setup: &'a Setup,
    runtime: &'a Arc<Runtime>,
    stderr: Arc<process::StderrRing>,
    process: &'a process::Process,
    opened: AtomicBool,
    probing: AtomicBool,
}

impl Child<'_> {
    /// Lives until nothing of the group is left.
    async fn live(&self, mut reader: JoinHandle<Failure>, notices: tokio::sync::mpsc::Receiver<mainstay_wire::envelope::Message>) {
        let work = async {
            if let Err(failure) = self.open().await {
                return failure;
            }
            tokio::join!(refresh(self.setup, self.runtime), probe(self.setup, self.runtime));
            self.runtime.failure()
        };
        let mut work = pin!(work);
        let mut saying = pin!(send_notices(self.runtime, notices));
        let mut life = pin!(self.report_life());
        let mut drained = pin!(self.runtime.leases.drained());
        let mut gone = pin!(self.process.gone());
        let mut exited = self.process.exited();
        let mut orders = self.setup.orders.clone();
        let mut obeyed = Orders::default();
        let (mut dead, mut worked, mut told_drained, mut read_out) = (false, false, false, false);
        loop {
            tokio::select! {
                // Cancel-safe: exit information is a level.
                changed = exited.wait_for(Option::is_some), if !dead => {
                    let info = changed.ok().and_then(|info| info.clone());
                    dead = true;
                    // Law 29: sweep the group after the leader is gone; its last words may still be in the pipe (F49).
                    self.process.kill();
                    if !read_out {
                        read_out = tokio::time::timeout(LAST_WORDS, &mut reader).await.is_ok();
                    }
                    self.report_death(Some(self.exit_failure(info.as_ref()))).await;
                }
                // Cancel-safe: a join handle is polled again. Finished only once, see the guard.
                ended = &mut reader, if !read_out => {
                    read_out = true;
                    if !dead {
                        // The end of stdout usually means that the process is ending: give its exit the first word.
                        let mut exit = self.process.exited();
                        let exit = tokio::time::timeout(LAST_WORDS, exit.wait_for(Option::is_some)).await;
                        if exit.is_err() {
                            // F63: alive without stdout is dead for us.
                            dead = true;
                            let failure = ended.unwrap_or_else(|_| Failure::new(FailureKind::Internal));
                            self.report_death(Some(self.explain(failure))).await;
                        }
                    }
                }
                // Cancel-safe: pinned and polled on; it ends only when opening failed.
                failure = &mut work, if !worked => {
                    worked = true;
                    // A death explains a failed opening better than the opening does, and is about to be noticed.
                    if !dead {
                        let mut exit = self.process.exited();
                        if tokio::time::timeout(LAST_WORDS, exit.wait_for(Option::is_some)).await.is_err() {
                            let generation = self.setup.generation;
                            self.setup.reports.input(Input::OpenFailed { generation, failure: self.explain(failure) }).await;
                        }
                    }
                }
                // Cancel-safe: pinned.
                () = &mut saying => {}
                // Cancel-safe: pinned; never ends.
                () = &mut life => {}
                // Cancel-safe: level-triggered.
                () = &mut drained, if !told_drained && obeyed.stop == Some(StopStep::Drain) => {
                    told_drained = true;
                    self.setup.reports.input(Input::Drained { generation: self.setup.generation }).await;
                }
                // Cancel-safe: a watch is a level.
                changed = orders.changed() => {
                    let wanted = orders.borrow_and_update().clone();
                    // A driver that is gone can order nothing any more; then the group must not outlive it.
                    let wanted = if changed.is_err() { Orders { stop: Some(StopStep::Kill), kills: obeyed.kills + 1, ..wanted } } else { wanted };
                    self.obey(&obeyed, &wanted);
                    obeyed = wanted;
                    if changed.is_err() {
                        return gone.await;
                    }
                }
                // Cancel-safe: level-triggered.
                () = &mut gone => break,
            }
        }
        if !dead {
            // Gone without an exit seen first: the two levels rose together.
            let info = self.process.exited().borrow().clone();
            self.report_death(Some(self.exit_failure(info.as_ref()))).await;
        }
        reader.abort();
    }

    fn obey(&self, before: &Orders, wanted: &Orders) {
        if before.stop == wanted.stop && before.kills == wanted.kills {
            return;
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
                self.process.kill();
            }
        }
    }

    fn close(&self) {
        if let Link::Stdio(link) = self.runtime.link() {
            link.close();
        }
    }

    async fn open(&self) -> Result<(), Failure> {
        let generation = self.setup.generation;
        self.setup.reports.input(Input::Phase { generation, phase: Phase::Greet }).await;
        let greeting = self.greet().await?;
        self.runtime.greeted(greeting.clone());
        list_and_report(self.setup, self.runtime, &greeting).await?;
        self.opened.store(true, Ordering::Release);
        Ok(())
    }

    /// Tells the driver how the child died: once, by what it interrupted.
    async fn report_death(&self, failure: Option<Failure>) {
        let generation = self.setup.generation;
        let mut failure = failure.unwrap_or_else(|| Failure::new(FailureKind::StreamClosed));
        if self.opened.load(Ordering::Acquire) {
            self.setup.reports.input(Input::Exited { generation, failure }).await;
            return;
        }
        if self.probing.load(Ordering::Acquire) {
            // F28: a strict old server may die of an unknown method. That is our doing: it is not charged, and the next
            // start does not probe.
            self.setup.slot.era.set(Some(Era::Legacy));
            failure.kind = FailureKind::EraMismatch;
        } else if self.setup.slot.era.get().is_some() {
            // F139: what is remembered may be what kills it.
            self.setup.slot.era.set(None);
        }
        self.setup.reports.input(Input::OpenFailed { generation, failure }).await;
    }

    fn exit_failure(&self, info: Option<&process::ExitInfo>) -> Failure {
        let (code, signal) = info.map_or((None, None), |info| (info.code, info.signal));
        let kind = if self.opened.load(Ordering::Acquire) {
            FailureKind::Exited { code, signal }
        } else {
            FailureKind::ExitedEarly { code, signal }
        };
        self.explain(Failure::new(kind))
    }

    /// Attaches the stderr tail (law 30).
    fn explain(&self, failure: Failure) -> Failure {
        let tail = self.stderr.tail(TAIL_LINES);
        if tail.is_empty() {
            return failure;
        }
        let own = failure.detail.as_deref().map(|detail| format!("{detail}; ")).unwrap_or_default();
        failure.with_detail(format!("{own}last on stderr: {}", tail.join(" | ")))
    }

    /// While connecting, output on stderr is life: package runners download for minutes (F4).
    async fn report_life(&self) {
        let mut bytes = self.stderr.subscribe();
        while !self.opened.load(Ordering::Acquire) && bytes.changed().await.is_ok() {
            self.setup.reports.input(Input::Life { generation: self.setup.generation }).await;
            tokio::time::sleep(LIFE_INTERVAL).await;
        }
        std::future::pending().await
    }

    /// Finds the server's era and greets it (F26 to F30).
    async fn greet(&self) -> Result<Greeting, Failure> {
        let probe = Duration::from_millis(self.setup.config.timeouts.probe_ms);
        let whole = Duration::from_millis(self.setup.config.policy.connect.total_ms);
        match self.setup.slot.era.hint(self.setup.config.fixed_era()) {
            EraHint::Fixed(Era::Modern) => match self.discover(whole).await? {
                Discovered::Modern(greeting) => Ok(*greeting),
                Discovered::Legacy(words) => Err(Failure::new(FailureKind::VersionMismatch)
                    .with_detail(format!("`protocol` is `modern`, but the server answered server/discover with: {words}"))),
            },
            EraHint::Fixed(Era::Legacy) => self.initialize(whole).await.map_err(|(failure, _)| failure),
            EraHint::Remembered(Era::Legacy) => self.initialize_or_discover(whole).await,
            EraHint::Remembered(Era::Modern) => match self.discover(whole).await? {
                Discovered::Modern(greeting) => Ok(*greeting),
                Discovered::Legacy(_) => {
                    self.setup.slot.era.set(None);
                    self.initialize_or_discover(whole).await
                }
            },
            EraHint::Probe => {
                self.probing.store(true, Ordering::Release);
                let discovered = self.discover(probe).await;
                self.probing.store(false, Ordering::Release);
                match discovered? {
                    Discovered::Modern(greeting) => Ok(*greeting),
                    Discovered::Legacy(_) => self.initialize_or_discover(whole).await,
                }
            }
        }
    }

    /// Initializes; a server that an abandoned probe has locked into the modern era says so, and is taken at its word.
    async fn initialize_or_discover(&self, within: Duration) -> Result<Greeting, Failure> {
        match self.initialize(within).await {
            Ok(greeting) => Ok(greeting),
            Err((failure, false)) => Err(failure),
            Err((failure, true)) => match self.discover(within).await? {
                Discovered::Modern(greeting) => Ok(*greeting),
                Discovered::Legacy(_) => Err(failure),
            },
        }
    }

    async fn discover(&self, within: Duration) -> Result<Discovered, Failure> {
        let request = modern_request(method::DISCOVER);
        let limits = Limits { deadline: Instant::now() + within, idle: within };
        let answer = match self.runtime.ask(&request, None, None, limits).await {
            Ok(answer) => answer,
            // Silence means legacy; the answer, should it still come, finds nobody (F27).
            Err(Miss::Lost(Cut::Idle | Cut::Total) | Miss::NotSent(Cut::Idle | Cut::Total)) => {
                return Ok(Discovered::Legacy("silence".to_owned()));
            }
            Err(miss) => return Err(failure_of(miss)),
        };
        if let Some(result) = answer.result() {
            return Ok(match DiscoverResult::parse(result) {
                Ok(view) if view.supports(Revision::LATEST_MODERN) => Discovered::Modern(Box::new(Greeting {
                    revision: Revision::LATEST_MODERN,
                    capabilities: view.capabilities.into(),
                    server_info: view.server_info.map(Into::into),
                    instructions: view.instructions.map(Into::into),
                })),
                Ok(view) => Discovered::Legacy(format!("versions {:?}", view.supported_versions)),
                Err(error) => Discovered::Legacy(error.to_string()),
            });
        }
        let error = answer.error().and_then(ErrorView::parse);
        Ok(Discovered::Legacy(error.map_or_else(|| "an unreadable error".to_owned(), |error| error.to_string())))
    }

    /// The legacy handshake. The flag of the error: the server speaks the modern era only.
    async fn initialize(&self, within: Duration) -> Result<Greeting, (Failure, bool)> {
        let params = format!(
            "{{\"protocolVersion\":\"{}\",\"capabilities\":{OUR_CAPABILITIES},\"clientInfo\":{}}}",
            Revision::LATEST_LEGACY.as_str(),
            our_info()
        );
        let request = Request::new(method::INITIALIZE, Some(&params));
        let limits = Limits { deadline: Instant::now() + within, idle: within };
        let answer = self.runtime.ask(&request, None, None, limits).await.map_err(|miss| (failure_of(miss), false))?;
        let Some(result) = answer.result() else {
            let error = answer.error().and_then(ErrorView::parse);
            let modern_only = error.as_ref().is_some_and(|error| error.code == codes::UNSUPPORTED_PROTOCOL_VERSION);
            let words = error.map_or_else(|| "an unreadable error".to_owned(), |error| error.to_string());
            let failure = Failure::new(FailureKind::ProtocolError).with_detail(format!("initialize was refused: {words}"));
            return Err((failure, modern_only));
        };
        let view = InitializeResult::parse(result).map_err(|error| {
            (Failure::new(FailureKind::ProtocolError).with_detail(format!("initialize: {error}")), false)
        })?;
        let Some(revision) = Revision::parse(&view.protocol_version).filter(|revision| revision.era() == Era::Legacy) else {
            let words = format!("the server wants protocol version `{}`, which Mainstay does not know", view.protocol_version);
            return Err((Failure::new(FailureKind::VersionMismatch).with_detail(words), false));
        };
        self.runtime.notify(mainstay_wire::envelope::Message::notification(method::INITIALIZED, None)).await;
        Ok(Greeting {
            revision,
            capabilities: view.capabilities.into(),
            server_info: view.server_info.map(Into::into),
            instructions: view.instructions.map(Into::into),
        })
    }
}

/// What a probe found.
enum Discovered {
    Modern(Box<Greeting>),
    /// Any other answer, in words, or silence.
    Legacy(String),
}

/// A request with the modern metadata already in it, for servers whose era is not known yet.
fn modern_request(method: &str) -> Request {
    let draft = Greeting { revision: Revision::LATEST_MODERN, capabilities: "{}".into(), server_info: None, instructions: None };
    let meta: Vec<String> = draft.stamp(None).into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    Request::new(method, Some(&format!("{{\"_meta\":{{{}}}}}", meta.join(","))))
}

fn failure_of(miss: Miss) -> Failure {
    match miss {
        Miss::NotSent(Cut::Ended(failure)) | Miss::Rejected(failure) | Miss::Lost(Cut::Ended(failure)) => failure,
        Miss::NotSent(Cut::Idle | Cut::Total) | Miss::Lost(Cut::Idle | Cut::Total) => {
            Failure::new(FailureKind::ConnectTimeout(Phase::Greet))
        }
        Miss::NotSent(Cut::AnswerRefused(why)) | Miss::Lost(Cut::AnswerRefused(why)) => {
            Failure::new(FailureKind::ProtocolError).with_detail(why)
        }
    }
}
