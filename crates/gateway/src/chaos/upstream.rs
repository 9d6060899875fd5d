//! The misbehaving servers of a scenario: what the target is told about them, and what is done to them.
//!
//! Stdio servers are the target's own children: here is only what they wrote down. HTTP servers are ours: real processes,
//! started, killed and started again.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use mainstay_testkit::script::Transport;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::ledger::Account;
use super::processes;
use super::scenario::Act;
use crate::exit::Stop;

/// A child on a busy machine may need this long to print its address.
const START_MAX: Duration = Duration::from_secs(20);
/// A killed process is gone within this time, or something is badly wrong.
const GONE_MAX: Duration = Duration::from_secs(10);

/// One upstream of a scenario.
#[derive(Debug)]
pub(super) struct Upstream {
    name: String,
    script: &'static str,
    program: PathBuf,
    ledger: PathBuf,
    launched: bool,
    http: Option<Http>,
    /// A frozen server that will be let go.
    thaw: Option<JoinHandle<()>>,
}

/// The process of an HTTP server.
#[derive(Debug)]
struct Http {
    transport: Transport,
    path: &'static str,
    port: u16,
    child: Option<Child>,
    /// The server on its way back.
    returning: Option<JoinHandle<Result<Child, Stop>>>,
}

impl Upstream {
    /// Prepares a server in `dir`. An HTTP server gets its port; it is started by `start`.
    pub(super) fn prepare(
        name: &str,
        script: &'static str,
        transport: Transport,
        launched: bool,
        dir: &Path,
    ) -> Result<Self, Stop> {
        let program = std::env::current_exe()
            .map_err(|error| Stop::unexpected("cannot find this program's own file", error))?;
        let http = match transport {
            Transport::Stdio => None,
            Transport::Http | Transport::Sse => Some(Http {
                port: processes::free_port()?,
                path: transport.path().unwrap_or_default(),
                transport,
                child: None,
                returning: None,
            }),
        };
        Ok(Self {
            name: name.to_owned(),
            script,
            program,
            ledger: dir.join(format!("{name}.ledger")),
            launched,
            http,
            thaw: None,
        })
    }

    /// Its name in the target's configuration.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The command line of a stdio server.
    pub(super) fn command(&self) -> Option<Vec<String>> {
        if self.http.is_some() {
            return None;
        }
        let direct = [
            self.program.display().to_string(),
            "chaos".to_owned(),
            "serve".to_owned(),
            "--stdio".to_owned(),
            "--script".to_owned(),
            self.script.to_owned(),
            "--ledger".to_owned(),
            self.ledger.display().to_string(),
        ];
        if !self.launched {
            return Some(direct.to_vec());
        }
        // Two shells that stay: something comes after the command in each.
        let twice = r#"/bin/sh -c '"$@"; exit $?' inner "$@"; exit $?"#;
        let shells = ["/bin/sh", "-c", twice, "outer"].map(str::to_owned);
        Some(shells.into_iter().chain(direct).collect())
    }

    /// The endpoint of an HTTP server.
    pub(super) fn url(&self) -> Option<String> {
        let http = self.http.as_ref()?;
        Some(format!("http://127.0.0.1:{}{}", http.port, http.path))
    }

    /// Its entry in `mcpServers`.
    pub(super) fn entry(&self) -> Value {
        let kind = self.http.as_ref().map(|http| http.transport.word());
        match (self.url(), self.command()) {
            (Some(url), _) => json!({ "type": kind, "url": url }),
            (None, Some(command)) => json!({ "command": command[0], "args": command[1..] }),
            (None, None) => Value::Null,
        }
    }

    /// What it wrote down so far.
    pub(super) fn account(&self) -> Result<Account, Stop> {
        Account::read(&self.ledger)
            .map_err(|error| Stop::unexpected("cannot read a ledger of a scenario", error))
    }

    /// Starts an HTTP server, after so many milliseconds if that is more than none; stdio servers are the target's.
    pub(super) async fn start(&mut self, after_ms: u64) -> Result<(), Stop> {
        self.come_back(after_ms);
        if after_ms == 0 {
            self.settle().await?;
        }
        Ok(())
    }

    /// Does it, and returns when it is done; what takes time by itself goes on in the background.
    pub(super) async fn act(&mut self, act: Act) -> Result<(), Stop> {
        self.settle().await?;
        match act {
            Act::Kill => {
                self.kill().await?;
                self.start(0).await
            }
            Act::Redeploy(down_ms) => {
                self.kill().await?;
                self.start(down_ms.max(1)).await
            }
            Act::Freeze(ms) => {
                let pid = self.pid()?;
                processes::signal(pid, Signal::STOP)
                    .map_err(|error| Stop::unexpected("cannot stop an upstream", error))?;
                self.thaw = Some(tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    // It may have been killed meanwhile: then there is nothing to let go.
                    let _gone = processes::signal(pid, Signal::CONT);
                }));
                Ok(())
            }
            Act::Forget => self.control("/forget").await,
            Act::EndStreams => self.control("/end-streams").await,
            Act::TellChanged(times) => {
                for _ in 0..times {
                    self.control("/changed").await?;
                }
                Ok(())
            }
        }
    }

    /// Ends it, if it is ours to end.
    pub(super) async fn end(&mut self) {
        if let Some(thaw) = self.thaw.take() {
            thaw.abort();
        }
        // A server on its way back dies with its task; one that is up is killed.
        if let Some(http) = self.http.as_mut() {
            if let Some(returning) = http.returning.take() {
                returning.abort();
                let _ended = returning.await;
            }
            if let Some(mut child) = http.child.take() {
                let _already_gone = child.kill().await;
            }
        }
    }

    fn come_back(&mut self, after_ms: u64) {
        let (program, script, ledger) = (self.program.clone(), self.script, self.ledger.clone());
        if let Some(http) = self.http.as_mut() {
            let port = http.port;
            http.returning = Some(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                spawn(&program, script, &ledger, port).await
            }));
        }
    }

    /// Waits for a server that is on its way back.
    async fn settle(&mut self) -> Result<(), Stop> {
        if let Some(http) = self.http.as_mut()
            && let Some(returning) = http.returning.take()
        {
            let child = returning
                .await
                .map_err(|error| Stop::unexpected("cannot start an upstream", error))??;
            http.child = Some(child);
        }
        Ok(())
    }

    fn pid(&self) -> Result<u32, Stop> {
        let pid = match &self.http {
            Some(http) => http.child.as_ref().and_then(Child::id),
            None => self.account()?.starts.last().copied(),
        };
        pid.ok_or_else(|| {
            Stop::unexpected(
                "cannot break an upstream",
                format!("`{}` does not run", self.name),
            )
        })
    }

    async fn kill(&mut self) -> Result<(), Stop> {
        let pid = self.pid()?;
        if let Some(child) = self.http.as_mut().and_then(|http| http.child.as_mut()) {
            return child
                .kill()
                .await
                .map_err(|error| Stop::unexpected("cannot kill an upstream", error));
        }
        // One that left by itself this very moment is as gone as a killed one.
        let _gone = processes::signal(pid, Signal::KILL);
        if processes::all_gone(&[pid], GONE_MAX).await?.is_empty() {
            Ok(())
        } else {
            Err(Stop::unexpected(
                "cannot kill an upstream",
                format!("process {pid} is still there"),
            ))
        }
    }

    async fn control(&self, path: &str) -> Result<(), Stop> {
        let failed = |why: String| Stop::unexpected("cannot reach an upstream's control", why);
        let Some(http) = &self.http else {
            return Err(failed(format!("`{}` is a stdio server", self.name)));
        };
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let request = Request::post(format!("http://127.0.0.1:{}{path}", http.port))
            .body(Full::default())
            .map_err(|error| failed(error.to_string()))?;
        let answered = tokio::time::timeout(START_MAX, client.request(request))
            .await
            .map_err(|_late| failed("no answer in time".to_owned()))?
            .map_err(|error| failed(error.to_string()))?;
        if answered.status().is_success() {
            Ok(())
        } else {
            Err(failed(format!("HTTP {}", answered.status())))
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // A scenario that is cut off must not leave tasks behind; the processes die with their handles.
        if let Some(thaw) = self.thaw.take() {
            thaw.abort();
        }
        if let Some(returning) = self.http.as_mut().and_then(|http| http.returning.take()) {
            returning.abort();
        }
    }
}

async fn spawn(program: &Path, script: &str, ledger: &Path, port: u16) -> Result<Child, Stop> {
    let failed =
        |why: String| Stop::unexpected(&format!("cannot start the upstream `{script}`"), why);
    let mut child = Command::new(program)
        .args(["chaos", "serve", "--lifeline", "--script", script])
        .args(["--listen", &format!("127.0.0.1:{port}"), "--ledger"])
        .arg(ledger)
        // Its stdin is its lifeline: it closes with us, whatever happens to us.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
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
        .map_err(|_late| failed("it did not listen in time".to_owned()))?
        .map_err(|error| failed(error.to_string()))?;
    if line.is_empty() {
        return Err(failed("it left without listening".to_owned()));
    }
    Ok(child)
}
