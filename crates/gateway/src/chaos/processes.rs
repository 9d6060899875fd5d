//! Processes by their numbers: signals, whether they are still there, and free ports for those that will be.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Command;
use tokio::time::Instant;

use crate::exit::Stop;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

fn number(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Sends a signal to one process.
pub(super) fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    Ok(kill_process(number(pid)?, signal)?)
}

/// Sends a signal to a whole group.
pub(super) fn signal_group(pid: u32, signal: Signal) -> io::Result<()> {
    Ok(kill_process_group(number(pid)?, signal)?)
}

/// Waits until none of these processes runs; returns those that still do after `patience`, with their command lines.
/// A process that has ended and only waits for its parent to notice counts as gone.
pub(super) async fn all_gone(pids: &[u32], patience: Duration) -> Result<Vec<(u32, String)>, Stop> {
    let deadline = Instant::now() + patience;
    loop {
        let left = running(pids).await?;
        if left.is_empty() || Instant::now() >= deadline {
            return Ok(left);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn running(pids: &[u32]) -> Result<Vec<(u32, String)>, Stop> {
    if pids.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<String> = pids.iter().map(u32::to_string).collect();
    let listed = Command::new("ps")
        .args(["-ww", "-o", "pid=,stat=,args=", "-p", &list.join(",")])
        .output()
        .await
        .map_err(|error| {
            Stop::unexpected("cannot look at processes with `ps`", error)
                .hint("install procps, or put ps on the PATH")
        })?;
    Ok(String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter_map(process)
        .collect())
}

/// One line of `ps`, unless it is of a process that has ended.
fn process(line: &str) -> Option<(u32, String)> {
    let mut words = line.split_whitespace();
    let pid = words.next()?.parse().ok()?;
    let state = words.next()?;
    let command: Vec<&str> = words.collect();
    (!state.starts_with('Z')).then(|| (pid, command.join(" ")))
}

/// Ports below the ones that systems give to outgoing connections, which come and go all the time while a target starts.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// More attempts than any machine needs.
const PORT_TRIES: usize = 200;

/// A port that was free a moment ago, and that nobody else in this process gets.
pub(super) fn free_port() -> Result<u16, Stop> {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let failed = |why: String| Stop::unexpected("cannot find a free port", why);
    for _ in 0..PORT_TRIES {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(|error| failed(error.to_string()))?;
        let port = PORTS.start + u16::from_ne_bytes(random) % (PORTS.end - PORTS.start);
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.insert(port);
            return Ok(port);
        }
    }
    Err(failed(format!(
        "{PORT_TRIES} of the ports {}..{} are taken",
        PORTS.start, PORTS.end
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_do_not_count() {
        assert_eq!(process("  12 S+   a b c"), Some((12, "a b c".to_owned())));
        assert_eq!(process("  12 Zs   [a] <defunct>"), None);
    }

    #[tokio::test]
    async fn a_process_is_seen_while_it_runs_and_not_after() {
        let me = std::process::id();
        let seen = all_gone(&[me], Duration::ZERO).await;
        assert!(seen.is_ok_and(|left| left.len() == 1 && left[0].0 == me));
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let pid = child.id();
        child.wait().expect("it ends");
        let gone = all_gone(&[pid], Duration::from_secs(10)).await;
        assert!(gone.is_ok_and(|left| left.is_empty()));
    }
}
