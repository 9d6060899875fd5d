//! Where the tests of processes keep their children, and how they look at them.

use std::ffi::OsString;
use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mainstay::process::{
    EnvPolicy, ExitInfo, Guardian, Process, STDERR_BYTES_DEFAULT, SpawnSpec, Spawned, child_env,
    spawn,
};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

pub(crate) const MISBEHAVE: &str = env!("CARGO_BIN_EXE_misbehave");

/// Set for a test that runs in its own process; being one of our variables, it must never reach a child.
pub(crate) const ALONE: &str = "MAINSTAY_TEST_ALONE";

/// How long anything may take on the slowest machine. Reached only by a failing test.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const INITIALIZE: &[u8] =
    b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-06-18\"}}\n";
pub(crate) const PING: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n";

/// No process at all.
pub(crate) const NOBODY: [u32; 0] = [];

/// A guardian and a folder in which children leave their ids.
pub(crate) struct Yard {
    pub(crate) dir: Folder,
    pub(crate) guardian: Guardian,
}

pub(crate) enum Folder {
    Own(TempDir),
    Borrowed(PathBuf),
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Own(dir) => dir.path(),
            Self::Borrowed(path) => path,
        }
    }
}

impl Yard {
    pub(crate) fn new() -> Self {
        Self {
            dir: Folder::Own(TempDir::new().unwrap()),
            guardian: Guardian::start().unwrap(),
        }
    }

    /// In a folder that belongs to somebody else, who outlives us.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self {
            dir: Folder::Borrowed(folder.to_owned()),
            guardian: Guardian::start().unwrap(),
        }
    }

    pub(crate) fn spec(&self, program: &str, args: &[&str]) -> SpawnSpec {
        SpawnSpec {
            program: program.into(),
            args: args.iter().map(OsString::from).collect(),
            env: child_env(std::env::vars_os(), &[], EnvPolicy::Basic),
            cwd: Some(self.dir.path().to_owned()),
            stderr_bytes_max: STDERR_BYTES_DEFAULT,
            sandbox: None,
        }
    }

    pub(crate) async fn shell(&self, script: &str) -> Spawned {
        within(
            "a shell to start",
            spawn(self.spec("sh", &["-c", script]), &self.guardian),
        )
        .await
        .unwrap()
    }

    pub(crate) async fn misbehave(&self, flags: &[&str]) -> Spawned {
        let args = [&["--ledger", "ledger"], flags].concat();
        within(
            "misbehave to start",
            spawn(self.spec(MISBEHAVE, &args), &self.guardian),
        )
        .await
        .unwrap()
    }

    /// The owner's duty.
    pub(crate) async fn bury(&self, server: &mut Spawned) {
        server.process.kill();
        within("the group to be gone", server.process.gone()).await;
        assert!(server.process.is_gone());
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        pids_in(&self.dir.path().join("pids"))
    }

    pub(crate) fn living(&self) -> Vec<u32> {
        self.pids().into_iter().filter(|pid| lives(*pid)).collect()
    }

    pub(crate) async fn until_pids(&self, count: usize) {
        until("all ids to be written", || self.pids().len() == count).await;
    }

    /// The ids in the ledger's lines of this event.
    pub(crate) fn ledger(&self, event: &str) -> Vec<u32> {
        ledger_of(&self.dir.path().join("ledger"), event)
    }
}

pub(crate) fn pids_in(file: &Path) -> Vec<u32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .map(|line| line.parse().unwrap())
        .collect()
}

/// Of `spawn` the process's own id, of everything else the id in the detail.
pub(crate) fn ledger_of(file: &Path, event: &str) -> Vec<u32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| line.splitn(3, ' ').collect::<Vec<_>>());
    let found = lines.filter(|line| line[1] == event);
    found
        .map(|line| line[if event == "spawn" { 0 } else { 2 }].parse().unwrap())
        .collect()
}

pub(crate) fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

pub(crate) async fn exit_of(process: &Process) -> ExitInfo {
    within("the exit", process.exited().wait_for(Option::is_some))
        .await
        .unwrap()
        .unwrap()
}

/// One line to the server, one line back.
pub(crate) async fn ask(server: &mut Spawned, request: &[u8]) -> String {
    within("the request to be taken", server.stdin.write_all(request))
        .await
        .unwrap();
    let mut answer = String::new();
    let mut reader = tokio::io::BufReader::new(&mut server.stdout);
    within("an answer", reader.read_line(&mut answer))
        .await
        .unwrap();
    answer
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// Level-triggered: looks until it is so.
pub(crate) async fn until(what: &str, so: impl Fn() -> bool) {
    within(what, async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// The letter that the kernel gives a process; `None` if there is no such process.
pub(crate) fn state_of(pid: u32) -> Option<char> {
    stat_of(pid)?.first()?.chars().next()
}

pub(crate) fn lives(pid: u32) -> bool {
    state_of(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The fields after the name: state, parent, group and so on.
pub(crate) fn stat_of(pid: u32) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(
        line.rsplit_once(')')?
            .1
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    )
}

/// Every child of ours, zombies included.
pub(crate) fn children() -> Vec<u32> {
    children_of(std::process::id())
}

pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let names = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let all = names.filter_map(|name| name.parse::<u32>().ok());
    all.filter(|pid| stat_of(*pid).is_some_and(|fields| fields[1] == parent.to_string()))
        .collect()
}

pub(crate) fn signal(pid: u32, name: &str) {
    assert!(
        Command::new("kill")
            .args(["-s", name, &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

/// Runs the body in a process of its own: the first time this starts the same test again, alone, and judges its end.
pub(crate) fn alone(name: &str, body: impl Future<Output = ()>) {
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(body);
    }
    let dir = TempDir::new().unwrap();
    let done = myself(name, dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// This very test, in a process of its own, with a folder of its own.
pub(crate) fn myself(name: &str, folder: &Path) -> Command {
    let program: PathBuf = std::env::current_exe().unwrap();
    fs::create_dir_all(folder).unwrap();
    let mut command = Command::new(program);
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, folder)
        .stdin(Stdio::null());
    command
}
