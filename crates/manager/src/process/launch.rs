//! Starts children on long-lived threads of their own.
//!
//! Two reasons: a child is tied to the thread that forked it (the kernel's parent-death signal means the thread), and
//! exec may hang on a dead mount. Several threads, so that one hanging start delays no other server's (law 27).

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::pipe::PipeFlags;
use rustix::process::Pid;
use tokio::sync::{mpsc, oneshot};

use super::group::Leader;
use super::sandbox::Fence;
use super::{Guardian, SpawnError, SpawnSpec, raw, resolve};

/// How many starts may be under way at once. A start takes about a millisecond unless it hangs.
const THREADS: usize = 4;

/// Starts that wait for a thread; beyond that the callers wait. Each entry is one caller of `spawn`.
const ORDERS_MAX: usize = 64;

/// A child that runs, with its pipes not yet known to any runtime.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) leader: Leader,
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
    /// What fences it, for people.
    pub(super) fence: Option<String>,
}

/// One start and where its outcome goes. If nobody takes the outcome, it is dropped, and that kills the child (F22).
pub(super) struct Order {
    pub(super) spec: SpawnSpec,
    pub(super) guardian: Guardian,
    pub(super) outcome: oneshot::Sender<Result<Fresh, SpawnError>>,
}

/// Starts the threads. They end when the last sender is dropped.
pub(super) fn start_threads() -> io::Result<mpsc::Sender<Order>> {
    let (sender, receiver) = mpsc::channel(ORDERS_MAX);
    let receiver = Arc::new(Mutex::new(receiver));
    for number in 0..THREADS {
        let receiver = Arc::clone(&receiver);
        let name = format!("mainstay-spawn-{number}");
        thread::Builder::new()
            .name(name)
            .spawn(move || serve(&receiver))?;
    }
    Ok(sender)
}

fn serve(orders: &Mutex<mpsc::Receiver<Order>>) {
    loop {
        // The lock is held while waiting: the other idle threads queue for the lock instead of the channel.
        let order = orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocking_recv();
        let Some(Order {
            spec,
            guardian,
            outcome,
        }) = order
        else {
            return;
        };
        // Nobody waits any more: then do not even start.
        if !outcome.is_closed() {
            // An outcome that nobody takes is dropped here, and its leader with it.
            let _ = outcome.send(launch(&spec, guardian));
        }
    }
}

fn launch(spec: &SpawnSpec, guardian: Guardian) -> Result<Fresh, SpawnError> {
    let program = resolve::resolve(spec)?;
    let (mut child, fence) = start(spec, &program, &guardian)?;
    let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (Some(leader), Some(stdin), Some(stdout), Some(stderr)) = (
        leader,
        child.stdin.take(),
        child.stdout.take(),
        child.stderr.take(),
    ) else {
        // Cannot happen with three piped streams; but a child without a keeper must not stay.
        let _ = child.kill().and_then(|()| child.wait());
        return Err(SpawnError::other(
            &spec.program,
            io::Error::other("the child came without its pipes"),
        ));
    };
    Ok(Fresh {
        leader: Leader::new(leader, guardian),
        stdin,
        stdout,
        stderr,
        fence,
    })
}

/// Starts the program as the leader of a group that registers itself with the guardian.
pub(super) fn start(
    spec: &SpawnSpec,
    program: &Path,
    guardian: &Guardian,
) -> Result<(Child, Option<String>), SpawnError> {
    let fence = fence(spec, program)?;
    let other = |source| SpawnError::other(&spec.program, source);
    let (forks, fork) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|error| other(error.into()))?;
    let wrapper = fence.as_ref().and_then(|fence| fence.wrapper.as_ref());
    let mut command = match wrapper {
        Some((wrapper, before)) => {
            let mut command = Command::new(wrapper);
            command.args(before);
            command
        }
        None => Command::new(program),
    };
    command
        .args(&spec.args)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)));
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    raw::tie_to_parent(&mut command, guardian.line(), fork);
    let words = fence.as_ref().map(|fence| fence.words.clone());
    #[cfg(target_os = "linux")]
    if let Some(fence) = fence {
        raw::fence_in(&mut command, fence);
    }
    let started = spawn_unless_being_written(&mut command);
    let child = started.map_err(|source| {
        // Whoever was forked is gone, and reaped; what it said to the guardian must not stay said (F67).
        let mut id = [0; 4];
        while let Ok(4) = rustix::io::read(&forks, &mut id) {
            guardian.remove(u32::from_ne_bytes(id));
        }
        if source.kind() == io::ErrorKind::NotFound {
            resolve::missing_interpreter(program)
        } else if source.kind() == io::ErrorKind::PermissionDenied && words.is_some() {
            let program = program.display();
            let words = format!("{program} or what it needs to run may not be executed in it");
            SpawnError::unfenced(&spec.program, words)
        } else if source.kind() == io::ErrorKind::PermissionDenied {
            SpawnError::Denied {
                path: program.to_owned(),
                source,
            }
        } else {
            SpawnError::other(&spec.program, source)
        }
    })?;
    Ok((child, words))
}

/// The fence that is declared. What cannot be had is an error, unless the owner can do without.
fn fence(spec: &SpawnSpec, program: &Path) -> Result<Option<Fence>, SpawnError> {
    let Some(sandbox) = &spec.sandbox else {
        return Ok(None);
    };
    match sandbox.prepare(program, spec.cwd.as_deref()) {
        Ok(fence) => Ok(Some(fence)),
        Err(missing) if sandbox.require => {
            Err(SpawnError::unfenced(&spec.program, missing.to_string()))
        }
        Err(missing) => {
            let program = spec.program.display().to_string();
            tracing::warn!(program, %missing, "started without its sandbox, as the config allows");
            Ok(None)
        }
    }
}

/// A program that is being installed at this very moment is busy; usually for milliseconds.
fn spawn_unless_being_written(command: &mut Command) -> io::Result<Child> {
    for pause_ms in [5, 20, 80] {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                thread::sleep(Duration::from_millis(pause_ms));
            }
            outcome => return outcome,
        }
    }
    command.spawn()
}
