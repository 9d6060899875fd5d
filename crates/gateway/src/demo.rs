//! `mainstay demo`: Mainstay at work, with three bundled servers that are broken on purpose.
//!
//! The gateway is the real one, in this process; the servers are real processes, the client speaks real HTTP, and what
//! is broken is really broken. Whether a call ran twice is read from the servers' own ledgers.

mod board;
mod breaks;
mod children;
mod client;
mod outcome;
mod report;
mod scene;
pub(crate) mod server;
mod traffic;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay::{Event, EventKind};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::board::{Board, Row};
use self::breaks::{BreakKind, Victim};
use self::client::Era;
use self::report::{BreakReport, Calls, Report, ServerReport};
use self::scene::Scene;
use self::traffic::Tally;
use crate::cli::DemoArgs;
use crate::cli::output::Output;
use crate::commands::serve::{self, Doors};
use crate::commands::signals::Signals;
use crate::exit::{Exit, Stop};

/// How often the table is drawn again.
const REDRAW: Duration = Duration::from_millis(200);
/// Between a recovery and the next break, even if the schedule is late.
const BREATHER: Duration = Duration::from_millis(500);
/// A server that has not answered this long after its break is lost.
const RECOVERY_MAX: Duration = Duration::from_secs(20);

/// Runs the demo.
///
/// # Errors
/// When it cannot even begin: no port, no temporary directory, no child processes.
pub(crate) async fn run(args: DemoArgs, output: Output) -> Result<Exit, Stop> {
    let mut signals = Signals::listen()?;
    let listener =
        crate::commands::doors::listen(&mainstay_gateway::GatewaySettings::new(args.listen))
            .await?;
    let address = listener
        .local_addr()
        .map_err(|error| Stop::unexpected("cannot read the listener's address", error))?;
    let scene = Scene::set().await?;
    let doors = Doors::open(scene.gateway(address), listener, None);
    let title = format!("Mainstay demo: three servers behind http://{address}/mcp");
    let mut show = Show::new(
        scene,
        Board::new(output, args.json, title, args.seconds),
        address,
        args.seconds,
    );
    show.board.open()?;
    // Cancel-safe: what is dropped by an early end is the breaking and the drawing; `finish` still counts everything.
    let (played, interrupted) = tokio::select! {
        // Cancel-safe: an interrupted show is finished by `finish` below, from what it had reached.
        played = show.play() => (played, false),
        // Cancel-safe: a signal that was not taken stays pending.
        () = signals.next() => (Ok(()), true),
    };
    let closed = show.board.close();
    let report = show.finish(interrupted, doors, &mut signals, output).await;
    played.and(closed)?;
    let report = report?;
    if args.json {
        output.json(&report)?
    } else {
        output.line(&report.summary())?
    }
    Ok(report.exit())
}

/// A running demo.
struct Show {
    scene: Scene,
    board: Board,
    began: Instant,
    seconds: u64,
    tallies: [Arc<Tally>; 3],
    clients: JoinSet<Result<(), Stop>>,
    ending: CancellationToken,
    breaks: [Vec<BreakReport>; 3],
}

/// The era of the client that calls each server: every crossing of eras occurs.
const ERAS: [Era; 3] = [Era::Legacy, Era::Modern, Era::Legacy];

impl Show {
    fn new(scene: Scene, board: Board, gateway: SocketAddr, seconds: u64) -> Self {
        let tallies: [Arc<Tally>; 3] = Default::default();
        let mut clients = JoinSet::new();
        let ending = CancellationToken::new();
        for (victim, era) in Victim::ALL.into_iter().zip(ERAS) {
            let (tally, ending) = (Arc::clone(&tallies[victim.index()]), ending.clone());
            clients.spawn(async move {
                traffic::run(gateway, victim.name(), era, &tally, &ending).await
            });
        }
        Self {
            scene,
            board,
            began: Instant::now(),
            seconds,
            tallies,
            clients,
            ending,
            breaks: Default::default(),
        }
    }

    /// Breaks everything in turn, and shows it, until the time is up.
    async fn play(&mut self) -> Result<(), Stop> {
        let mut events = self.scene.manager.events();
        let everyone_up = async {
            for tally in &self.tallies {
                tally.first_answer().await;
            }
        };
        if tokio::time::timeout(RECOVERY_MAX, everyone_up)
            .await
            .is_err()
        {
            return Err(self.never_up());
        }
        // From here on the clock runs: a slow start must not eat the breaks.
        self.began = Instant::now();
        for (at_ms, victim, kind) in breaks::schedule(self.seconds) {
            let planned = self.began + Duration::from_millis(at_ms);
            self.watch_until(planned.max(Instant::now() + BREATHER), &mut events)
                .await?;
            if self.began.elapsed() >= Duration::from_secs(self.seconds) {
                break;
            }
            self.break_and_await(victim, kind, &mut events).await?;
        }
        self.watch_until(self.began + Duration::from_secs(self.seconds), &mut events)
            .await
    }

    fn never_up(&self) -> Stop {
        let status = self.scene.manager.status();
        let words: Vec<String> = status
            .iter()
            .map(|server| format!("{}: {}", server.name, server.word))
            .collect();
        Stop::new(
            Exit::DemoUnrecovered,
            format!("the demo's servers did not come up: {}", words.join("; ")),
        )
        .hint("if this machine is very slow, try again; otherwise report it with this text")
    }

    async fn break_and_await(
        &mut self,
        victim: Victim,
        kind: BreakKind,
        events: &mut broadcast::Receiver<Event>,
    ) -> Result<(), Stop> {
        let name = victim.name();
        let tally = Arc::clone(&self.tallies[victim.index()]);
        let manager = self.scene.manager.clone();
        let at = Instant::now();
        let at_ms = millis(at - self.began);
        let generation_before = generation(&manager, victim);
        // Entered as abandoned, so that an early end of the demo counts neither way.
        self.breaks[victim.index()].push(BreakReport {
            kind,
            at_ms,
            recovered_ms: None,
            generation_before,
            generation_after: generation_before,
            abandoned: true,
        });
        self.board.action(name, self.scene.announce(victim, kind))?;
        let recovered = {
            let mut breaking = std::pin::pin!(self.scene.perform(victim, kind, &tally));
            let deadline = tokio::time::Instant::now() + RECOVERY_MAX;
            let mut tick = tokio::time::interval(REDRAW);
            let mut performed = false;
            loop {
                tokio::select! {
                    // Cancel-safe: pinned and polled on; finished only once, see the guard.
                    done = &mut breaking, if !performed => { done?; performed = true; }
                    // Cancel-safe: level-triggered.
                    took = tally.recovered(), if performed => break Some(took),
                    // Cancel-safe: a tick stays due.
                    _ = tick.tick() => refresh(&mut self.board, &manager, &self.tallies, &self.breaks)?,
                    // Cancel-safe: an unread event stays queued.
                    event = events.recv() => tell(&self.board, event)?,
                    // Cancel-safe: a deadline holds nothing.
                    () = tokio::time::sleep_until(deadline) => break None,
                }
            }
        };
        let Some(entry) = self.breaks[victim.index()].last_mut() else {
            return Ok(());
        };
        entry.abandoned = false;
        entry.recovered_ms = recovered.map(millis);
        entry.generation_after = generation(&manager, victim);
        let words = match recovered {
            Some(took) => format!(
                "answered again {} after the {}",
                report::seconds(millis(took)),
                kind.word()
            ),
            None => format!("did not answer within {} s", RECOVERY_MAX.as_secs()),
        };
        self.board.outcome(name, &words)
    }

    async fn watch_until(
        &mut self,
        until: Instant,
        events: &mut broadcast::Receiver<Event>,
    ) -> Result<(), Stop> {
        let mut tick = tokio::time::interval(REDRAW);
        loop {
            tokio::select! {
                // Cancel-safe: a deadline holds nothing.
                () = tokio::time::sleep_until(until.into()) => return Ok(()),
                // Cancel-safe: a tick stays due.
                _ = tick.tick() => refresh(&mut self.board, &self.scene.manager, &self.tallies, &self.breaks)?,
                // Cancel-safe: an unread event stays queued.
                event = events.recv() => tell(&self.board, event)?,
                // Cancel-safe: a finished client stays in the set.
                Some(ended) = self.clients.join_next() => ended.unwrap_or_else(|panic| {
                    Err(Stop::unexpected("a client of the demo failed", panic))
                })?,
            }
        }
    }

    /// Ends the clients, the servers and the gateway, in this order, and counts.
    async fn finish(
        mut self,
        interrupted: bool,
        doors: Doors,
        signals: &mut Signals,
        output: Output,
    ) -> Result<Report, Stop> {
        let elapsed_ms = millis(self.began.elapsed());
        self.ending.cancel();
        // The clients end between two calls; one that hangs is cut off together with its call.
        let all_ended = async { while self.clients.join_next().await.is_some() {} };
        let _cut_off = tokio::time::timeout(Duration::from_secs(3), all_ended).await;
        self.clients.shutdown().await;
        serve::end(&self.scene.manager, doors, signals, output).await;
        self.scene.strike().await?;
        let servers = Victim::ALL.into_iter().map(|victim| {
            let tally = &self.tallies[victim.index()];
            let counts = tally.counts();
            let failed = counts.failed;
            let mut server = ServerReport {
                name: victim.name().to_owned(),
                transport: victim.transport(),
                protocol: victim.protocol(),
                client: match ERAS[victim.index()] {
                    Era::Legacy => "legacy",
                    Era::Modern => "modern",
                },
                calls: Calls {
                    made: counts.answered + failed.total(),
                    answered: counts.answered,
                    failed,
                },
                executed_twice: 0,
                answered_not_executed: 0,
                unknown_executed: 0,
                breaks: self.breaks[victim.index()].clone(),
            };
            server
                .read_ledger(&self.scene.ledger(victim), &tally.outcomes())
                .map_err(|error| Stop::unexpected("cannot read a ledger", error))?;
            Ok(server)
        });
        Ok(Report::new(
            elapsed_ms,
            interrupted,
            servers.collect::<Result<Vec<_>, Stop>>()?,
        ))
    }
}

/// Shows what is new.
fn refresh(
    board: &mut Board,
    manager: &mainstay::Manager,
    tallies: &[Arc<Tally>; 3],
    breaks: &[Vec<BreakReport>; 3],
) -> Result<(), Stop> {
    for victim in Victim::ALL {
        for failed in tallies[victim.index()].news() {
            board.event("failed", victim.name(), &failed)?;
        }
    }
    board.draw(&rows(manager, tallies, breaks))
}

/// One row per server: its status, and what its client has seen.
fn rows(
    manager: &mainstay::Manager,
    tallies: &[Arc<Tally>; 3],
    breaks: &[Vec<BreakReport>; 3],
) -> Vec<Row> {
    let status = manager.status();
    Victim::ALL
        .into_iter()
        .filter_map(|victim| {
            let server = status.iter().find(|server| server.name == victim.name())?;
            let counts = tallies[victim.index()].counts();
            let recovered = breaks[victim.index()]
                .iter()
                .filter(|broken| broken.recovered_ms.is_some())
                .count();
            Some(Row {
                server: server.name.clone(),
                state: server.state.to_owned(),
                generation: server.generation,
                since_ms: server.since_ms,
                answered: counts.answered,
                failed: counts.failed.total(),
                recoveries: recovered as u64,
                last_failure: server
                    .last_failure
                    .as_ref()
                    .map(|failure| failure.detail.clone())
                    .unwrap_or_default(),
            })
        })
        .collect()
}

/// The newest generation of a server.
fn generation(manager: &mainstay::Manager, victim: Victim) -> u64 {
    manager
        .server(victim.name())
        .map_or(0, |server| server.status().generation)
}

/// Prints a change of state as an event.
fn tell(board: &Board, event: Result<Event, broadcast::error::RecvError>) -> Result<(), Stop> {
    // Lagging loses lines of the show, nothing else; the manager outlives the show.
    let Ok(event) = event else { return Ok(()) };
    match event.kind {
        EventKind::Transition {
            from, to, detail, ..
        } => {
            let why = detail
                .map(|detail| format!(": {detail}"))
                .unwrap_or_default();
            board.event(
                "state",
                &event.server,
                &format!("{from} -> {to}, generation {}{why}", event.generation),
            )
        }
        EventKind::ServerChanged { .. }
        | EventKind::ConfigChanged { .. }
        | EventKind::Published { .. }
        | EventKind::Retracted { .. }
        | EventKind::ToolsChanged { .. }
        | EventKind::CallMetToolChange { .. }
        | EventKind::ListingFailed { .. }
        | EventKind::EmptyListing { .. }
        | EventKind::ListingLoop { .. }
        | EventKind::LimitExceeded { .. }
        | EventKind::ReplacementFailed { .. }
        | EventKind::Escaped { .. }
        | EventKind::ToolsHeld { .. }
        | EventKind::ToolsApproved { .. }
        | EventKind::DiedTogether { .. }
        | EventKind::RestoreFailed { .. } => Ok(()),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
