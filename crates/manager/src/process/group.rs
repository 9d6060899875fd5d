//! A process group and the right to signal it.
//!
//! The group's id is the leader's process id. It stays ours exactly as long as the leader is unreaped; so signalling and
//! reaping exclude each other through one lock, and after the release nothing is ever signalled again (F67).

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid,
};
use tokio::sync::watch;

use super::census::{Census, census};
use super::{ExitInfo, Guardian};

/// What is known and wanted of a group; shared between its handles and its reaper.
#[derive(Debug)]
pub(super) struct Group {
    leader: Pid,
    /// Whether the id is still ours. Held while signalling and while reaping.
    ours: Mutex<bool>,
    exited: watch::Sender<Option<ExitInfo>>,
    sweep: watch::Sender<bool>,
    gone: watch::Sender<bool>,
}

impl Group {
    pub(super) fn id(&self) -> u32 {
        self.leader.as_raw_pid().unsigned_abs()
    }

    pub(super) fn exited(&self) -> watch::Receiver<Option<ExitInfo>> {
        self.exited.subscribe()
    }

    pub(super) fn gone(&self) -> watch::Receiver<bool> {
        self.gone.subscribe()
    }

    /// Becomes true when the owner wants everything that is left of the group killed.
    pub(super) fn sweep_wanted(&self) -> watch::Receiver<bool> {
        self.sweep.subscribe()
    }

    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
        // A stopped process would sit on its TERM for ever (F74).
        self.signal(Signal::CONT);
    }

    /// Kills whatever is there now, and lets the reaper kill again after the leader's exit and finish.
    pub(super) fn sweep(&self) {
        self.kill();
        self.sweep
            .send_if_modified(|wanted| !std::mem::replace(wanted, true));
    }

    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Whether the signal was sent at all: not after the release.
    fn signal(&self, signal: Signal) -> bool {
        let ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        if !*ours {
            return false;
        }
        match kill_process_group(self.leader, signal) {
            // No such process: all members are gone or, on some systems, zombies.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => {
                tracing::debug!(pid = self.id(), ?signal, %error, "could not signal a process group");
            }
        }
        true
    }
}

/// The duty to reap a leader. Exactly one exists per child; dropping it unfinished (the runtime is shutting down, the
/// spawning future was dropped) kills the group at once and finishes on a thread of its own (F22, F75).
#[derive(Debug)]
pub(super) struct Leader {
    group: Arc<Group>,
    /// Keeps the guardian, and the thread that the child is tied to, for as long as the child is there.
    guardian: Guardian,
    released: bool,
}

impl Leader {
    /// Takes charge of a child that was just spawned as the leader of its own group.
    pub(super) fn new(leader: Pid, guardian: Guardian) -> Self {
        let group = Group {
            leader,
            ours: Mutex::new(true),
            exited: watch::Sender::new(None),
            sweep: watch::Sender::new(false),
            gone: watch::Sender::new(false),
        };
        let leader = Self {
            group: Arc::new(group),
            guardian,
            released: false,
        };
        leader.guardian.add(leader.group.id());
        leader
    }

    pub(super) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    pub(super) fn pid(&self) -> Pid {
        self.group.leader
    }

    /// How the leader ended, if it did; leaves it unreaped.
    pub(super) fn peek(&self) -> Option<ExitInfo> {
        self.wait(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG)
    }

    /// Tells everybody who watches.
    pub(super) fn publish_exit(&self, info: ExitInfo) {
        self.group.exited.send_replace(Some(info));
    }

    /// Gives the group's id up and reaps. Only after the leader has exited and the group is empty.
    pub(super) fn release(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        self.released = true;
        // Before the id can be reused, the guardian forgets it.
        self.guardian.remove(self.group.id());
        let mut ours = self
            .group
            .ours
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *ours, false) {
            let reaped = waitid(
                WaitId::Pid(self.pid()),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            );
            if let Err(error) = reaped {
                tracing::debug!(pid = self.group.id(), %error, "could not reap a child");
            }
        }
        drop(ours);
        self.group.gone.send_replace(true);
    }

    fn wait(&self, options: WaitIdOptions) -> Option<ExitInfo> {
        loop {
            match waitid(WaitId::Pid(self.pid()), options) {
                Ok(status) => return status.map(|status| exit_info(&status)),
                Err(Errno::INTR) => {}
                Err(error) => {
                    // Somebody else in this program reaped it, or SIGCHLD is ignored: the id is no longer ours to
                    // signal, and how it ended is lost.
                    *self
                        .group
                        .ours
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner) = false;
                    tracing::warn!(pid = self.group.id(), %error, "a child was reaped by somebody else");
                    return Some(ExitInfo::default());
                }
            }
        }
    }

    /// The whole rest of the work without a runtime: blocks until nothing is left of the group.
    fn bury(mut self) {
        self.group.kill();
        if let Some(info) = self.wait(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            self.publish_exit(info);
        }
        for pause in poll_pauses() {
            self.group.kill();
            if !pause.goes_on(census(self.pid())) {
                break;
            }
            thread::sleep(pause.length);
        }
        self.finish();
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        self.group.sweep();
        let rest = Self {
            group: Arc::clone(&self.group),
            guardian: self.guardian.clone(),
            released: false,
        };
        // `rest` must not come back here if there is no thread for it: the guardian still knows the group then.
        let rest = std::mem::ManuallyDrop::new(rest);
        let undertaker = thread::Builder::new().name("mainstay-reap".to_owned());
        if let Err(error) =
            undertaker.spawn(move || std::mem::ManuallyDrop::into_inner(rest).bury())
        {
            tracing::warn!(pid = self.group.id(), %error, "no thread to reap a killed child");
        }
    }
}

/// One step of the wait for an empty group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    /// How long to wait before looking again.
    pub(super) length: Duration,
    /// Whether a group of which nothing can be seen counts as empty by now.
    patience_is_over: bool,
}

impl Pause {
    pub(super) fn goes_on(self, found: Census) -> bool {
        match found {
            Census::Empty => false,
            Census::Populated => true,
            Census::Unknown => !self.patience_is_over,
        }
    }
}

/// 2 ms doubling to 64 ms, without end: what KILL cannot end is not gone. Where the system does not tell zombies from
/// the living, KILL is trusted after about one second.
pub(super) fn poll_pauses() -> impl Iterator<Item = Pause> {
    (1_u32..).map(|step| Pause {
        length: Duration::from_millis(1 << step.min(6)),
        patience_is_over: step > 20,
    })
}

fn exit_info(status: &WaitIdStatus) -> ExitInfo {
    ExitInfo {
        code: status.exit_status(),
        signal: status.terminating_signal(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{EnvPolicy, SpawnSpec, child_env};
    use super::*;

    /// Otherwise the id might mean somebody else by then. Nothing outside can tell, so it is asked in here.
    #[tokio::test]
    async fn nothing_is_signalled_after_the_release_f67() {
        let guardian = Guardian::start().unwrap();
        let spec = SpawnSpec {
            program: "true".into(),
            args: Vec::new(),
            env: child_env(std::env::vars_os(), &[], EnvPolicy::Basic),
            cwd: None,
            stderr_bytes_max: 0,
            sandbox: None,
        };
        let limit = Duration::from_secs(60);
        let fresh = tokio::time::timeout(limit, guardian.launch(spec))
            .await
            .unwrap()
            .unwrap();
        let group = Arc::clone(fresh.leader.group());
        assert!(group.signal(Signal::KILL));
        drop(fresh);
        let mut gone = group.gone();
        tokio::time::timeout(limit, gone.wait_for(|gone| *gone))
            .await
            .unwrap()
            .unwrap();
        assert!(!group.signal(Signal::KILL));
    }
}
