//! The demo's stage: three servers, a manager over them, and the means to break them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay::Manager;
use mainstay::config::{Config, Keepalive, ServerConfig};
use mainstay_gateway::serve::{Gateway, GatewaySettings};
use rustix::process::Signal;
use tempfile::TempDir;

use super::breaks::{BreakKind, Victim};
use super::children::{HttpServer, signal};
use super::traffic::Tally;
use crate::exit::Stop;

/// A restarted HTTP server is away for this long, so that callers find its door closed.
const AWAY: Duration = Duration::from_millis(500);
/// A frozen HTTP server is let go after this long: nobody but its owner could do that.
const FROZEN: Duration = Duration::from_millis(2_500);
/// After this long a process that was told to stand still does.
const STANDSTILL: Duration = Duration::from_millis(50);
/// A child that is about to be started again has a process after this long at the latest.
const PROCESS_MAX: Duration = Duration::from_secs(20);

/// The servers, the manager, and the directory of the ledgers. Dropping it leaves no process behind.
pub(super) struct Scene {
    pub(super) manager: Manager,
    sessions: HttpServer,
    stateless: HttpServer,
    dir: TempDir,
}

impl Victim {
    /// How Mainstay reaches it.
    pub(super) fn transport(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::Sessions | Self::Stateless => "http",
        }
    }

    /// The revision it speaks.
    pub(super) fn protocol(self) -> &'static str {
        match self {
            Self::Stdio | Self::Sessions => "2025-11-25",
            Self::Stateless => "2026-07-28",
        }
    }
}

impl Scene {
    /// Starts the HTTP servers, and Mainstay over all three.
    ///
    /// # Errors
    /// When there is no temporary directory, or a process cannot be started.
    pub(super) async fn set() -> Result<Self, Stop> {
        let program = std::env::current_exe()
            .map_err(|error| Stop::unexpected("cannot find this very program", error))?;
        let dir = tempfile::Builder::new()
            .prefix("mainstay-demo-")
            .tempdir()
            .map_err(|error| Stop::unexpected("cannot make a temporary directory", error))?;
        let ledger = |victim: Victim| ledger_in(dir.path(), victim);
        let sessions =
            HttpServer::start(&program, "http-sessions", ledger(Victim::Sessions)).await?;
        let stateless =
            HttpServer::start(&program, "http-stateless", ledger(Victim::Stateless)).await?;
        let stdio = ServerConfig::stdio(Victim::Stdio.name(), literal(&program)).args([
            "demo-server".to_owned(),
            "stdio".to_owned(),
            "--ledger".to_owned(),
            literal(&ledger(Victim::Stdio)),
        ]);
        let servers = [
            stdio,
            ServerConfig::http(Victim::Sessions.name(), sessions.url()),
            ServerConfig::http(Victim::Stateless.name(), stateless.url()),
        ];
        let manager = Manager::builder()
            .config(Config::from_servers(servers.map(impatient)))
            .start()
            .await
            .map_err(|error| Stop::unexpected("cannot start the servers", error))?;
        Ok(Self {
            manager,
            sessions,
            stateless,
            dir,
        })
    }

    /// The gateway over them.
    pub(super) fn gateway(&self, address: SocketAddr) -> Gateway {
        let mut settings = GatewaySettings::default();
        settings.listen = address;
        Gateway::new(self.manager.clone(), settings)
    }

    /// Where a server writes what it executed.
    pub(super) fn ledger(&self, victim: Victim) -> PathBuf {
        ledger_in(self.dir.path(), victim)
    }

    /// What is about to be done, in words.
    pub(super) fn announce(&self, victim: Victim, kind: BreakKind) -> &'static str {
        match (victim, kind) {
            (Victim::Stdio, BreakKind::Kill) => "its process is killed (SIGKILL)",
            (Victim::Stdio, BreakKind::Hang | BreakKind::Restart) => {
                "its process is frozen (SIGSTOP) and stays so"
            }
            (Victim::Sessions, BreakKind::Hang) | (Victim::Stateless, BreakKind::Hang) => {
                "it is frozen (SIGSTOP) for 2.5 s and answers nothing"
            }
            (Victim::Sessions, BreakKind::Kill | BreakKind::Restart) => {
                "it is killed, and back after 0.5 s without its sessions"
            }
            (Victim::Stateless, BreakKind::Kill | BreakKind::Restart) => {
                "it is killed, and back after 0.5 s"
            }
        }
    }

    /// Breaks a server, and marks the moment in its tally. Returns when everything that the demo does is done; whether
    /// the server recovers is Mainstay's part.
    ///
    /// # Errors
    /// When the demo cannot do what it is about to do.
    pub(super) async fn perform(
        &mut self,
        victim: Victim,
        kind: BreakKind,
        tally: &Tally,
    ) -> Result<(), Stop> {
        match victim {
            Victim::Stdio => self.break_stdio(kind, tally).await,
            Victim::Sessions => break_http(&mut self.sessions, kind, tally).await,
            Victim::Stateless => break_http(&mut self.stateless, kind, tally).await,
        }
    }

    async fn break_stdio(&self, kind: BreakKind, tally: &Tally) -> Result<(), Stop> {
        let lost = || Stop::unexpected("cannot break the stdio server", "it has no process");
        let handle = self.manager.server(Victim::Stdio.name()).ok_or_else(lost)?;
        let up = handle.wait_until(|status| status.state == "connected" && status.pid.is_some());
        let status = tokio::time::timeout(PROCESS_MAX, up)
            .await
            .map_err(|_late| lost())?;
        let at = Instant::now();
        match kind {
            BreakKind::Kill => signal(status.pid, Signal::KILL)?,
            BreakKind::Hang | BreakKind::Restart => {
                signal(status.pid, Signal::STOP)?;
                tokio::time::sleep(STANDSTILL).await;
            }
        }
        tally.broken(at);
        Ok(())
    }

    /// Ends the HTTP servers and removes the ledgers' directory only when it is dropped.
    pub(super) async fn strike(&mut self) -> Result<(), Stop> {
        self.sessions.kill().await?;
        self.stateless.kill().await
    }
}

async fn break_http(server: &mut HttpServer, kind: BreakKind, tally: &Tally) -> Result<(), Stop> {
    let at = Instant::now();
    match kind {
        BreakKind::Kill | BreakKind::Restart => {
            server.kill().await?;
            tally.broken(at);
            tokio::time::sleep(AWAY).await;
            server.start_again().await
        }
        BreakKind::Hang => {
            server.freeze()?;
            tokio::time::sleep(STANDSTILL).await;
            tally.broken(at);
            tokio::time::sleep(FROZEN).await;
            server.thaw()
        }
    }
}

fn ledger_in(dir: &Path, victim: Victim) -> PathBuf {
    dir.join(format!("{}.ledger", victim.name()))
}

/// A path as the configuration wants it: what looks like a reference in it is none.
fn literal(path: &Path) -> String {
    path.display().to_string().replace("${", "$${")
}

/// Mainstay waits minutes before it suspects a server; a demo of half a minute cannot. Nothing else differs from a
/// server in a file.
fn impatient(mut server: ServerConfig) -> ServerConfig {
    server.timeouts.call_idle_ms = 2_000;
    let mut keepalive = Keepalive::default();
    keepalive.idle_ms = 500;
    keepalive.timeout_ms = 500;
    keepalive.misses = 2;
    server.keepalive = Some(keepalive);
    server.stop.close_ms = 300;
    server.stop.terminate_ms = 300;
    server
}
