//! The demo's HTTP servers as processes: started, stopped, continued and killed by the demo itself.
//!
//! To Mainstay they are somebody else's servers behind a URL: it neither starts nor kills them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::exit::Stop;

/// A child on a busy machine may need this long to print its address.
const START_MAX: Duration = Duration::from_secs(20);

/// One HTTP server of the demo.
#[derive(Debug)]
pub(super) struct HttpServer {
    program: PathBuf,
    kind: &'static str,
    ledger: PathBuf,
    port: u16,
    child: Child,
}

impl HttpServer {
    /// Starts the server on a free port. `kind` is the hidden subcommand.
    pub(super) async fn start(
        program: &Path,
        kind: &'static str,
        ledger: PathBuf,
    ) -> Result<Self, Stop> {
        let (child, port) = spawn(program, kind, &ledger, 0).await?;
        Ok(Self {
            program: program.to_owned(),
            kind,
            ledger,
            port,
            child,
        })
    }

    /// The server's endpoint; the same after every restart.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    /// Kills the process and waits until it is gone.
    pub(super) async fn kill(&mut self) -> Result<(), Stop> {
        self.child
            .kill()
            .await
            .map_err(|error| Stop::unexpected("cannot kill a demo server", error))
    }

    /// Starts it again on its port; whatever it remembered is lost.
    pub(super) async fn start_again(&mut self) -> Result<(), Stop> {
        (self.child, self.port) = spawn(&self.program, self.kind, &self.ledger, self.port).await?;
        Ok(())
    }

    /// Makes the process stand still: it keeps its port and its connections, and answers nothing.
    pub(super) fn freeze(&self) -> Result<(), Stop> {
        signal(self.child.id(), Signal::STOP)
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) -> Result<(), Stop> {
        signal(self.child.id(), Signal::CONT)
    }
}

/// Sends a signal to a process that is known to exist.
///
/// # Errors
/// When there is no such process any more.
pub(super) fn signal(pid: Option<u32>, signal: Signal) -> Result<(), Stop> {
    let pid = pid
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw);
    let pid =
        pid.ok_or_else(|| Stop::unexpected("cannot signal a demo server", "it has no process"))?;
    kill_process(pid, signal)
        .map_err(|error| Stop::unexpected("cannot signal a demo server", error))
}

async fn spawn(program: &Path, kind: &str, ledger: &Path, port: u16) -> Result<(Child, u16), Stop> {
    let failed =
        |why: String| Stop::unexpected(&format!("cannot start the demo server `{kind}`"), why);
    let mut child = Command::new(program)
        .args([
            "demo-server",
            kind,
            "--lifeline",
            "--port",
            &port.to_string(),
            "--ledger",
        ])
        .arg(ledger)
        // Its stdin is its lifeline: it closes with us, whatever happens to us.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        // A group of its own: Ctrl-C in the terminal is for the demo, and a frozen server that lost us is hung up by
        // the system.
        .process_group(0)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| failed("its stdout is missing".to_owned()))?;
    let mut line = String::new();
    tokio::time::timeout(START_MAX, BufReader::new(stdout).read_line(&mut line))
        .await
        .map_err(|_late| {
            failed(format!(
                "it did not listen within {} s",
                START_MAX.as_secs()
            ))
        })?
        .map_err(|error| failed(error.to_string()))?;
    let port = line
        .trim()
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    Ok((
        child,
        port.ok_or_else(|| failed("it left without listening".to_owned()))?,
    ))
}
