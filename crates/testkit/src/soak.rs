//! The soak: thousands of crashes and lost sessions under one manager, and a count of what is left afterwards.
//!
//! Every cycle breaks a real server under a connected client and calls it again. Descriptors, tasks, child processes and
//! resident memory are measured after a warm-up and again at the end; growth is a leak (F11, F68, F230, F231).

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mainstay::config::{Config, ServerConfig};
use mainstay::{Manager, ServerHandle};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// How long one step may take; reached only by a failing run.
const PATIENCE: Duration = Duration::from_secs(60);

/// What this process holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    /// Open descriptors.
    pub descriptors: usize,
    /// Tasks of the runtime that are alive.
    pub tasks: usize,
    /// Child processes, zombies included.
    pub children: usize,
    /// Resident memory, in KiB.
    pub resident_kib: u64,
}

impl Holdings {
    /// Looks now. Linux only: it reads `/proc`.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn now() -> std::io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let resident_kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or_default();
        Ok(Self {
            descriptors: std::fs::read_dir("/proc/self/fd")?.count(),
            tasks: tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks(),
            children: children()?,
            resident_kib,
        })
    }

    /// What grew beyond what a busy process may vary by: 8 descriptors or tasks, no child, 4 MiB.
    #[must_use]
    pub fn leaks_since(self, baseline: Self) -> Vec<String> {
        let mut leaks = Vec::new();
        let mut check = |what: &str, now: u64, then: u64, slack: u64| {
            if now > then + slack {
                leaks.push(format!("{what}: {then} before, {now} after"));
            }
        };
        check(
            "descriptors",
            self.descriptors as u64,
            baseline.descriptors as u64,
            8,
        );
        check("tasks", self.tasks as u64, baseline.tasks as u64, 8);
        check(
            "child processes",
            self.children as u64,
            baseline.children as u64,
            0,
        );
        check(
            "resident KiB",
            self.resident_kib,
            baseline.resident_kib,
            4096,
        );
        leaks
    }
}

fn children() -> std::io::Result<usize> {
    let me = std::process::id();
    let mut count = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        // A process may end while we look.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let parent = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1)?.parse::<u32>().ok());
        count += usize::from(parent == Some(me));
    }
    Ok(count)
}

/// What a soak found.
#[derive(Debug, Clone)]
pub struct Report {
    /// Cycles that were run.
    pub cycles: u64,
    /// Calls that were answered.
    pub answered: u64,
    /// After the warm-up.
    pub before: Holdings,
    /// At the end, the servers still connected.
    pub after: Holdings,
    /// Everything that is wrong; empty if nothing is.
    pub wrong: Vec<String>,
}

/// Kills a stdio server after every call, as often as said, and calls it again. `program` is the misbehaving server;
/// `progress` hears of every cycle.
///
/// # Errors
/// A call that was not answered, or a server that did not come back within a minute.
pub async fn crashes(
    program: &Path,
    cycles: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let ledger = folder.path().join("ledger").display().to_string();
    let mut config = ServerConfig::stdio("soak", &*program.to_string_lossy())
        .args(["--ledger".to_owned(), ledger.clone()]);
    config.restart.open_interval_ms = 1;
    let manager = Manager::builder()
        .config(Config::from_servers([config]))
        .start()
        .await?;
    let server = manager.server("soak").ok_or("not configured")?;
    let warm_up = (cycles / 10).max(5);
    let mut before = None;
    for cycle in 0..cycles {
        if cycle == warm_up {
            before = Some(settled(&server).await?);
        }
        answered(&server).await?;
        let status = server.status();
        let pid = status
            .pid
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
            .ok_or("a connected server without a process")?;
        kill_process(pid, Signal::KILL)?;
        let next = status.generation + 1;
        within(
            server.wait_until(|status| status.generation >= next && status.state == "connected"),
        )
        .await?;
        progress(cycle + 1);
    }
    answered(&server).await?;
    let after = settled(&server).await?;
    let before = before.unwrap_or(after);
    let mut wrong = after.leaks_since(before);
    let text = std::fs::read_to_string(&ledger)?;
    let spawns = text.lines().filter(|line| line.contains(" spawn ")).count() as u64;
    if spawns != cycles + 1 {
        wrong.push(format!("{spawns} processes for {cycles} crashes"));
    }
    if server.status().charges > 0 {
        wrong.push(format!(
            "{} failures are still charged after a served call",
            server.status().charges
        ));
    }
    manager.shutdown().await;
    Ok(Report {
        cycles,
        answered: cycles + 1,
        before,
        after,
        wrong,
    })
}

/// Makes an HTTP server forget its session before every call, as often as said. `program` is the misbehaving HTTP server: a
/// process of its own, so that only our own memory is measured.
///
/// # Errors
/// A call that was not answered.
pub async fn sessions(
    program: &Path,
    cycles: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, Box<dyn Error>> {
    let fake = Fake::start(program)?;
    let mut config = ServerConfig::http("soak", fake.url.as_str());
    config.restart.open_interval_ms = 1;
    let manager = Manager::builder()
        .config(Config::from_servers([config]))
        .start()
        .await?;
    let server = manager.server("soak").ok_or("not configured")?;
    answered(&server).await?;
    let warm_up = (cycles / 10).max(5);
    let mut before = None;
    for cycle in 0..cycles {
        if cycle == warm_up {
            before = Some(settled(&server).await?);
        }
        fake.ask("/forget")?;
        answered(&server).await?;
        progress(cycle + 1);
    }
    let after = settled(&server).await?;
    let before = before.unwrap_or(after);
    let mut wrong = after.leaks_since(before);
    let counts: serde_json::Value = serde_json::from_str(&fake.ask("/ledger")?)?;
    let initializes = counts["initializes"].as_u64().unwrap_or_default();
    if initializes != cycles + 1 {
        wrong.push(format!(
            "{initializes} handshakes for {cycles} lost sessions"
        ));
    }
    manager.shutdown().await;
    Ok(Report {
        cycles,
        answered: cycles + 1,
        before,
        after,
        wrong,
    })
}

async fn answered(server: &ServerHandle) -> Result<(), Box<dyn Error>> {
    let arguments = json!({"text": "still there"});
    let answer = within(server.call("echo", Some(&arguments))).await??;
    if answer
        .result()
        .is_some_and(|text| text.contains("still there"))
    {
        Ok(())
    } else {
        Err("an answer without its text".into())
    }
}

async fn within<T>(future: impl Future<Output = T>) -> Result<T, tokio::time::error::Elapsed> {
    tokio::time::timeout(PATIENCE, future).await
}

/// What is held once nothing is on its way any more: the same count several times in a row, or the last one.
async fn settled(server: &ServerHandle) -> Result<Holdings, Box<dyn Error>> {
    let mut last = Holdings::now()?;
    let mut same = 0;
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = Holdings::now()?;
        let equal = (now.descriptors, now.tasks, now.children)
            == (last.descriptors, last.tasks, last.children);
        same = if equal { same + 1 } else { 0 };
        last = now;
        if same >= 10 && server.status().in_flight == 0 {
            break;
        }
    }
    Ok(last)
}

/// A fake HTTP server in a process of its own.
struct Fake {
    child: Child,
    url: String,
}

impl Fake {
    fn start(program: &Path) -> Result<Self, Box<dyn Error>> {
        let script = json!({"eras": "legacy", "get": "notAllowed"}).to_string();
        let mut child = Command::new(program)
            .args(["0", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let mut url = String::new();
        BufReader::new(stdout).read_line(&mut url)?;
        Ok(Self {
            child,
            url: url.trim().to_owned(),
        })
    }

    /// One request to the remote control. Blocking: a few microseconds on loopback.
    fn ask(&self, path: &str) -> Result<String, Box<dyn Error>> {
        let host = self
            .url
            .strip_prefix("http://")
            .and_then(|rest| rest.split('/').next())
            .ok_or("no address")?;
        let verb = if path == "/ledger" { "GET" } else { "POST" };
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{verb} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned());
        body.ok_or_else(|| "no answer from the remote control".into())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // The end of its stdin ends it; this only makes sure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
