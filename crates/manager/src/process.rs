//! Child processes: the one place that spawns, groups, watches, signals and reaps them.
//!
//! A server's process is the leader of its own process group (law 29). Its death is noticed by watching the process, not
//! by waiting for the end of a pipe (law 13), and it stays unreaped until the whole group is swept, so that the group id
//! cannot come to mean somebody else's processes meanwhile (F67). [`Guardian`] ends every group if this program dies in
//! a way that leaves it no chance to do so itself (F66).
//!
//! This module must not decide anything: when to stop, how long to wait between the steps and what an exit means is the
//! owner's business. It knows nothing of MCP, and it never prints.
//!
//! Known limit: a descendant that leaves the group (`setsid`, `setpgid`) has left our reach. It is not hunted down, on
//! purpose: leaving the session is how a program says that something (a browser, a build daemon, an agent that others use)
//! is meant to outlive it, and the ways to find it again are not sound: parents are lost with the first exit in between, an
//! inherited variable marks what others merely started through it, and adopting orphans as their subreaper would take them
//! from the program that embeds us. What can be known for sure is that somebody still holds the pipes of a group that is
//! gone; [`PipeId::holders`] says who, so that people are told.

mod census;
mod env;
mod error;
mod group;
mod guardian;
mod launch;
mod pipes;
mod raw;
mod reaper;
mod resolve;
mod sandbox;
mod stderr;
pub(crate) mod tree;
mod watch;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::watch::Receiver;

pub(crate) use self::env::AUTHORITIES;
pub use self::env::{EnvPolicy, child_env};
pub use self::error::{GuardianError, SpawnError};
pub use self::guardian::Guardian;
pub use self::pipes::PipeId;
pub use self::sandbox::{Backend, Network, Program, Sandbox, Unfenced, system_paths, usual_paths};
pub use self::stderr::{StderrRing, escape_line};
pub use self::tree::ProcessStatus;

use self::group::Group;
#[cfg(target_os = "linux")]
pub(crate) use self::raw::readable;
use self::stderr::StderrPipe;
use self::watch::ExitWatch;

/// How much of a server's stderr is kept unless the owner says otherwise, in bytes (64 KiB).
pub const STDERR_BYTES_DEFAULT: usize = 64 * 1024;

/// What to start and with which surroundings.
#[derive(Clone)]
pub struct SpawnSpec {
    /// The program: a path if it contains a slash (a relative one is relative to `cwd`), otherwise a name that is
    /// looked up in the `PATH` of `env` (F1). Never goes through a shell (F240).
    pub program: OsString,
    /// Its arguments, each passed on as it is.
    pub args: Vec<OsString>,
    /// The complete environment; nothing is added and nothing of ours is inherited. See [`child_env`].
    pub env: Vec<(OsString, OsString)>,
    /// The working directory; `None` means ours. Checked before anything is started (F3).
    pub cwd: Option<PathBuf>,
    /// How much of stderr the ring keeps, in bytes; see [`STDERR_BYTES_DEFAULT`].
    pub stderr_bytes_max: usize,
    /// What it may touch; `None`: whatever we may.
    pub sandbox: Option<Arc<Sandbox>>,
}

/// Names of variables only: values may be secrets (law 31), and so may arguments.
impl fmt::Debug for SpawnSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnSpec")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field(
                "env",
                &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            )
            .field("cwd", &self.cwd)
            .field("stderr_bytes_max", &self.stderr_bytes_max)
            .field("sandbox", &self.sandbox)
            .finish()
    }
}

/// A running child and the two pipes to it. stderr is already being drained.
#[derive(Debug)]
pub struct Spawned {
    /// The child's stdin; dropping it is the first step of a polite stop.
    pub stdin: ChildStdin,
    /// The child's stdout. Its end says nothing about the process, and the process's end says nothing about it (F62, F63).
    pub stdout: ChildStdout,
    /// The last bytes of the child's stderr; outlives the process.
    pub stderr: Arc<StderrRing>,
    /// What fences it, for people; `None`: nothing.
    pub fence: Option<String>,
    /// The process itself. Dropping the last handle kills the group.
    pub process: Arc<Process>,
}

/// How a leader ended. Both are `None` only if somebody else in this program reaped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ExitInfo {
    /// The exit code, if it exited by itself.
    pub code: Option<i32>,
    /// The number of the signal that ended it, if one did.
    pub signal: Option<i32>,
}

impl fmt::Display for ExitInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => write!(f, "unknown exit status"),
        }
    }
}

/// A child process and its group. All methods may be called at any time, in any order and from any thread.
///
/// The owner's duty after an exit is one call of [`Process::kill`]: only that sweeps what the leader left behind (F65)
/// and lets the leader be reaped. Dropping the last handle does the same, synchronously (F75).
#[derive(Debug)]
pub struct Process {
    group: Arc<Group>,
}

impl Process {
    /// The leader's process id, which is the group's id as well.
    pub fn pid(&self) -> u32 {
        self.group.id()
    }

    /// Becomes `Some` as soon as the leader has exited, whether or not descendants live on or hold its pipes (law 13,
    /// F62). What the leader had written to stderr is in the ring by then.
    pub fn exited(&self) -> Receiver<Option<ExitInfo>> {
        self.group.exited()
    }

    /// Sends TERM to the group. No effect once the process is gone.
    pub fn terminate(&self) {
        self.group.terminate();
    }

    /// Sends KILL to the group now, and again to whatever is left of it when the leader has exited (F65, F70).
    /// Idempotent; no effect once the process is gone.
    pub fn kill(&self) {
        self.group.sweep();
    }

    /// Waits until the leader is reaped and no member of the group lives. Level-triggered and cancel-safe. It can only
    /// come true after [`Process::kill`]; it has no deadline of its own, because a process that the kernel cannot end
    /// (uninterruptible sleep, another user's) is not gone, whatever we wish.
    pub async fn gone(&self) {
        // The sender lives in the group that we hold, so the wait cannot fail.
        let _ = self.group.gone().wait_for(|gone| *gone).await;
    }

    /// Whether [`Process::gone`] has come true.
    pub fn is_gone(&self) -> bool {
        *self.group.gone().borrow()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left who could ask for it: a dropped handle must not become a leaked process. The background
        // reaper owns the child and finishes the work.
        self.group.sweep();
    }
}

/// The file that [`spawn`] would execute, without starting anything (F1, F3). Blocks on the file system.
///
/// # Errors
/// As [`spawn`], as far as it can be known beforehand.
pub fn find_program(spec: &SpawnSpec) -> Result<PathBuf, SpawnError> {
    resolve::resolve(spec)
}

/// The files that make up what is started: the program, and the script that it is given if it is an interpreter.
/// Blocks on the file system.
///
/// # Errors
/// As [`find_program`].
pub fn program_files(spec: &SpawnSpec) -> Result<Vec<PathBuf>, SpawnError> {
    let file = resolve::resolve(spec)?;
    let cwd = spec.cwd.clone().unwrap_or_else(|| PathBuf::from("."));
    let program = Program {
        file: &file,
        args: &spec.args,
        cwd: &cwd,
        is_cwd_declared: spec.cwd.is_some(),
        home: None,
    };
    let script = program.script();
    Ok(std::iter::once(file.clone()).chain(script).collect())
}

/// Starts a child in its own process group, registered with the guardian before its first instruction (F66).
///
/// Must be called within a tokio runtime. Cancel-safe: if the future is dropped, a child that was started meanwhile is
/// killed and reaped (F22). Without a deadline of its own (the start of a program on a dead network mount may hang).
///
/// # Errors
///
/// See [`SpawnError`]; nothing is left running after any of them.
pub async fn spawn(spec: SpawnSpec, guardian: &Guardian) -> Result<Spawned, SpawnError> {
    let program = spec.program.clone();
    let stderr_bytes_max = spec.stderr_bytes_max;
    let fresh = guardian.launch(spec).await?;
    let other = |source| SpawnError::other(&program, source);
    let launch::Fresh {
        leader,
        stdin,
        stdout,
        stderr,
        fence,
    } = fresh;
    let group = Arc::clone(leader.group());
    let stderr = StderrPipe::new(stderr, stderr_bytes_max).map_err(other)?;
    let ring = Arc::clone(stderr.ring());
    let watch = ExitWatch::new(&leader).map_err(other)?;
    let stdin = ChildStdin::from_std(stdin).map_err(other)?;
    let stdout = ChildStdout::from_std(stdout).map_err(other)?;
    let stderr = Arc::new(stderr);
    tokio::spawn(Arc::clone(&stderr).drain(group.gone()));
    tokio::spawn(reaper::reap(leader, watch, stderr));
    Ok(Spawned {
        stdin,
        stdout,
        stderr: ring,
        fence,
        process: Arc::new(Process { group }),
    })
}
