//! Ends every registered process group when this program dies, in whatever way (law 29, F66).
//!
//! A helper process waits on a pipe that only we hold. It is a few lines of POSIX shell, so it needs no binary of its
//! own and no cooperation. Each child registers its own group between fork and exec, so there is no moment at which it runs
//! and nobody knows it; the group is forgotten before its leader is reaped, so the helper never knows an id that could mean
//! somebody else (F67). On Linux the kernel ends the leaders as well.
//!
//! The guardian must not be used to stop servers while we live: that is the owner's business, with manners.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::sync::{mpsc, oneshot, watch};

use super::launch::{self, Fresh, Order};
use super::{GuardianError, SpawnError, SpawnSpec, raw};

const SHELL: &str = "/bin/sh";

/// `add` twice is `add` once, `del` of an unknown group is nothing. A torn last line is not executed: `read` fails on it.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM TSTP TTIN TTOU
groups=' '
while read -r verb group; do
    case "$verb $groups" in
        "add "*" $group "*) ;;
        "add "*) groups="$groups$group " ;;
        "del "*" $group "*)
            before=${groups%%" $group "*}
            after=${groups#*" $group "}
            groups="$before $after"
            ;;
    esac
done
for group in $groups; do
    kill -s KILL -- "-$group"
done
"#;

/// The shortest time between two starts of the helper; it doubles while helpers do not last.
const RESTART_MS_MIN: u64 = 1_000;

/// The longest, and how long a helper must last to count as sound.
const RESTART_MS_MAX: u64 = 60_000;

/// Starts children and sees to it that none outlives this program. Cheap to clone; all clones are the same guardian.
///
/// It lasts until the last clone is dropped and the last child is gone. One per program is enough.
#[derive(Debug, Clone)]
pub struct Guardian {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    roster: Arc<Roster>,
    orders: mpsc::Sender<Order>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.roster.close();
    }
}

impl Guardian {
    /// Starts the helper and the threads that children are started from. Needs no runtime. Without `/bin/sh` it warns
    /// once and does without the helper: then only the leaders end with us, and only on Linux.
    ///
    /// # Errors
    ///
    /// If the system gives us no threads.
    pub fn start() -> Result<Self, GuardianError> {
        let roster = Arc::new(Roster::default());
        let kept = Arc::clone(&roster);
        // The first helper is there before the first child is.
        let helper = start_helper(&mut roster.lock());
        thread::Builder::new()
            .name("mainstay-guard".to_owned())
            .spawn(move || keep(&kept, helper))
            .inspect_err(|_| {
                roster.close();
            })?;
        // From here on, dropping `inner` closes the roster.
        let orders = launch::start_threads().inspect_err(|_| roster.close())?;
        Ok(Self {
            inner: Arc::new(Inner { roster, orders }),
        })
    }

    /// The helper's process id, if it runs at the moment. For tests and for `status`.
    pub fn helper_pid(&self) -> Option<u32> {
        self.inner
            .roster
            .lock()
            .helper
            .map(|pid| pid.as_raw_pid().unsigned_abs())
    }

    /// Drops this clone and waits until the helper has ended; only comes true when every other clone is dropped and
    /// every child is gone. Cancel-safe.
    pub async fn ended(self) {
        let mut ended = self.inner.roster.ended.subscribe();
        drop(self);
        // A sender that is dropped has ended too.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    pub(super) async fn launch(&self, spec: SpawnSpec) -> Result<Fresh, SpawnError> {
        let program = spec.program.clone();
        let (outcome, fresh) = oneshot::channel();
        let order = Order {
            spec,
            guardian: self.clone(),
            outcome,
        };
        let no_thread = || {
            SpawnError::other(
                &program,
                io::Error::other("the threads that start children have ended"),
            )
        };
        self.inner
            .orders
            .send(order)
            .await
            .map_err(|_| no_thread())?;
        fresh.await.map_err(|_| no_thread())?
    }

    /// The helper's line, for a child that is about to register itself; `None` while there is no helper.
    pub(super) fn line(&self) -> Option<OwnedFd> {
        let state = self.inner.roster.lock();
        // Without a descriptor to spare the child is registered a moment later, by us.
        state.line.as_ref()?.as_fd().try_clone_to_owned().ok()
    }

    pub(super) fn add(&self, group: u32) {
        let mut state = self.inner.roster.lock();
        state.groups.insert(group);
        state.write("add", group);
    }

    pub(super) fn remove(&self, group: u32) {
        let mut state = self.inner.roster.lock();
        state.groups.remove(&group);
        state.write("del", group);
    }
}

/// The registered groups and the way to the helper.
#[derive(Debug, Default)]
struct Roster {
    state: Mutex<State>,
    /// Signalled when `closed` becomes true.
    closing: Condvar,
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// Every group that is ours; a new helper gets them all.
    groups: BTreeSet<u32>,
    line: Option<ChildStdin>,
    /// Set as long as the helper is unreaped.
    helper: Option<Pid>,
    closed: bool,
}

impl Roster {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        // End of file: the helper kills what is registered (normally nothing) and ends.
        state.line = None;
        self.closing.notify_all();
    }

    /// Waits until closed or until the time is over; whether it is closed.
    fn closed_within(&self, limit: Duration) -> bool {
        let waited = self
            .closing
            .wait_timeout_while(self.lock(), limit, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }
}

impl State {
    /// One line, whole or not at all: far below what a pipe takes atomically. Never blocks.
    fn write(&mut self, verb: &str, group: u32) {
        let Some(line) = &self.line else { return };
        let text = format!("{verb} {group}\n");
        match rustix::io::write(line.as_fd(), text.as_bytes()) {
            Ok(_) => {}
            // It has ended; its successor gets the whole roster.
            Err(Errno::PIPE) => self.line = None,
            // Stopped or worse: thousands of lines unread. Away with it, the successor gets the whole roster. KILL
            // first: at the end of the pipe it would kill what it knows.
            Err(error) => {
                tracing::warn!(%error, "the guardian of child processes does not read; replacing it");
                if let Some(helper) = self.helper {
                    // It fails only if the helper has ended already, which is what we want.
                    let _ = kill_process(helper, Signal::KILL);
                }
                self.line = None;
            }
        }
    }
}

/// Watches over the helper for as long as the guardian lasts; sleeps all that time.
fn keep(roster: &Roster, first: io::Result<Child>) {
    let mut helper = first;
    let mut pause_ms = RESTART_MS_MIN;
    loop {
        let started = Instant::now();
        match helper {
            Ok(child) => wait_and_reap(roster, &child),
            Err(error) => {
                let hint = "if this program is killed, descendants of servers may survive";
                tracing::warn!(%error, shell = SHELL, "no guardian of child processes; {hint}");
                if error.kind() == io::ErrorKind::NotFound {
                    while !roster.closed_within(Duration::from_secs(3_600)) {}
                }
            }
        }
        if started.elapsed() >= Duration::from_millis(RESTART_MS_MAX) {
            pause_ms = RESTART_MS_MIN;
        }
        let pause = Duration::from_millis(pause_ms).saturating_sub(started.elapsed());
        pause_ms = (pause_ms * 2).min(RESTART_MS_MAX);
        if roster.closed_within(pause) {
            break;
        }
        let mut state = roster.lock();
        tracing::warn!(
            groups = state.groups.len(),
            "the guardian of child processes has ended; starting another"
        );
        helper = start_helper(&mut state);
    }
    roster.ended.send_replace(true);
}

/// Starts a helper and registers every group with it.
fn start_helper(state: &mut State) -> io::Result<Child> {
    let mut command = Command::new(SHELL);
    command
        .args(["-c", SCRIPT, "mainstay-guardian"])
        .env_clear()
        .current_dir("/");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    raw::own_session(&mut command);
    let mut child = command.spawn()?;
    state.helper = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    state.line = child.stdin.take();
    if let Some(line) = &state.line {
        rustix::io::ioctl_fionbio(line, true)?;
    }
    for group in state.groups.clone() {
        state.write("add", group);
    }
    Ok(child)
}

/// Between the end of the helper and its reaping nobody may signal its id; so the lock is held while reaping.
fn wait_and_reap(roster: &Roster, child: &Child) {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return;
    };
    let leave_unreaped = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(waitid(WaitId::Pid(pid), leave_unreaped), Err(Errno::INTR)) {}
    let mut state = roster.lock();
    state.helper = None;
    state.line = None;
    // It has ended, so this does not block; it fails only if somebody else reaped it.
    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};

    use super::*;

    fn bystander() -> Child {
        Command::new("sleep")
            .arg("600")
            .process_group(0)
            .spawn()
            .unwrap()
    }

    fn spec(program: &str, args: &[&str]) -> SpawnSpec {
        SpawnSpec {
            program: program.into(),
            args: args.iter().map(Into::into).collect(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            cwd: None,
            stderr_bytes_max: 0,
            sandbox: None,
        }
    }

    /// As if we were killed between the fork and the moment at which we learn the child's id.
    #[tokio::test]
    async fn law_29_f66_a_child_that_we_do_not_know_of_yet_is_known_to_the_guardian() {
        let guardian = Guardian::start().unwrap();
        let spec = spec("sleep", &["600"]);
        let program = super::super::find_program(&spec).unwrap();
        let (mut child, _) = launch::start(&spec, &program, &guardian).unwrap();
        tokio::time::timeout(Duration::from_secs(60), guardian.ended())
            .await
            .unwrap();
        // Comes too late if the helper has killed it.
        rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    /// A guardian whose line ends here instead of in a helper.
    #[test]
    fn f67_a_child_that_could_not_start_is_forgotten_again() {
        let (reader, writer) = std::io::pipe().unwrap();
        let guardian = Guardian {
            inner: Arc::new(Inner {
                roster: Arc::new(Roster::default()),
                orders: mpsc::channel(1).0,
            }),
        };
        guardian.inner.roster.lock().line = Some(ChildStdin::from(OwnedFd::from(writer)));
        let dir = tempfile::tempdir().unwrap();
        let orphan = dir.path().join("orphan");
        std::fs::write(&orphan, "#!/no/such/interpreter\n").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&orphan, executable).unwrap();
        let spec = spec(&orphan.display().to_string(), &[]);
        launch::start(&spec, &orphan, &guardian).unwrap_err();
        drop(guardian);
        let said = std::io::read_to_string(reader).unwrap();
        let id = said.lines().next().unwrap().strip_prefix("add ").unwrap();
        assert_eq!(said, format!("add {id}\ndel {id}\n"));
    }

    /// Groups of processes that the guardian did not start, so that nothing but the helper can have killed them.
    #[tokio::test]
    async fn the_helper_kills_who_is_registered_and_nobody_else_f66_f67() {
        let guardian = Guardian::start().unwrap();
        let mut all: Vec<Child> = std::iter::repeat_with(bystander).take(5).collect();
        for (child, doings) in all.iter().zip(["", "+", "+-", "++-", "+-+"]) {
            for doing in doings.bytes() {
                match doing {
                    b'+' => guardian.add(child.id()),
                    _ => guardian.remove(child.id()),
                }
            }
        }
        tokio::time::timeout(Duration::from_secs(60), guardian.ended())
            .await
            .unwrap();
        // The helper is gone, so whatever it killed has its KILL already: ours comes too late for those.
        let ends = all.iter_mut().map(|child| {
            rustix::process::kill_process(Pid::from_child(child), Signal::TERM).unwrap();
            child.wait().unwrap().signal().unwrap()
        });
        assert_eq!(ends.collect::<Vec<_>>(), [15, 9, 15, 15, 9]);
    }
}
