//! A user with a home of their own, the Mainstay that runs there, and apps that speak over pipes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

pub(crate) const MAINSTAY: &str = env!("CARGO_BIN_EXE_mainstay");
/// Generous: the machine may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const MODERN: &str = "2026-07-28";

#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The stdio server of the test kit; built once if it is not there yet.
fn misbehave() -> String {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let target = std::env::current_exe().unwrap();
        let target = target.ancestors().nth(2).unwrap();
        let path = target.join("misbehave");
        if !path.exists() {
            let built = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--package", "mainstay-testkit"])
                .args(["--bin", "misbehave"])
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .env("CARGO_TARGET_DIR", target.parent().unwrap())
                .status()
                .unwrap();
            assert!(built.success());
        }
        path
    });
    path.to_str().unwrap().to_owned()
}

pub(crate) fn pid(raw: u64) -> Pid {
    Pid::from_raw(i32::try_from(raw).unwrap()).unwrap()
}

pub(crate) fn is_alive(raw: u64) -> bool {
    test_kill_process(pid(raw)).is_ok() && !is_zombie(raw)
}

/// Whether all of it is dead and only waits to be reaped. A leader is that long before its other threads are gone, and
/// with them what they hold open.
fn is_zombie(raw: u64) -> bool {
    let dead = fs::read_to_string(format!("/proc/{raw}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().unwrap().trim().starts_with('Z'));
    let threads = fs::read_dir(format!("/proc/{raw}/task")).map_or(0, Iterator::count);
    dead && threads <= 1
}

/// A user with an empty home directory. When it goes, so does the Mainstay that runs there.
pub(crate) struct User {
    home: tempfile::TempDir,
}

impl Drop for User {
    fn drop(&mut self) {
        // Several: one that is just being started is not seen by the first look.
        for _ in 0..3 {
            if let Some(pid) = self.mainstay() {
                self.kill(pid, Signal::KILL);
            }
        }
    }
}

impl User {
    /// With one server `kit` of the test kit that keeps a ledger, and a free port.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(flags: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let user = Self { home };
        fs::create_dir_all(user.path("run")).unwrap();
        let ledger = user.path("ledger").to_str().unwrap().to_owned();
        let args = [&["--ledger", &ledger], flags].concat();
        user.config(&json!({
            "mainstay": { "listen": "127.0.0.1:0" },
            "mcpServers": { "kit": { "command": misbehave(), "args": args } },
        }));
        user
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn config(&self, config: &Value) {
        fs::write(self.path("mcp.json"), config.to_string()).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(MAINSTAY);
        command
            .args(args)
            .current_dir(self.home.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(args).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    /// What the running Mainstay says about itself.
    pub(crate) fn status(&self) -> Option<Value> {
        let (code, out, _) = self.run(&["status", "--json"]);
        (code == Some(0)).then(|| serde_json::from_str(&out).unwrap())
    }

    /// The process of the running Mainstay.
    pub(crate) fn mainstay(&self) -> Option<u64> {
        self.status()?["pid"].as_u64()
    }

    /// Ends a process and waits until it is gone.
    pub(crate) fn kill(&self, process: u64, signal: Signal) {
        let _gone = kill_process(pid(process), signal);
        wait_until("the end of a process", || !is_alive(process));
    }

    /// A Mainstay in the foreground, as a service manager would run it.
    pub(crate) fn serve(&self, args: &[&str]) -> Serving {
        let mut child = self
            .command(&[&["serve"], args].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut ready).unwrap();
        assert!(ready.contains("http://"), "{ready}");
        let from = ready.find("http://").unwrap() + "http://".len();
        let address = ready[from..].split('/').next().unwrap().to_owned();
        Serving {
            child,
            address,
            _stdout: stdout,
        }
    }

    /// An app, and the relay that it runs.
    pub(crate) fn app(&self, args: &[&str]) -> App {
        App::new(self.command(&[&["stdio"], args].concat()))
    }

    /// How often a marker was executed.
    pub(crate) fn executed(&self, marker: &str) -> usize {
        let ledger = fs::read_to_string(self.path("ledger")).unwrap_or_default();
        let end = format!(" marker {marker}");
        ledger.lines().filter(|line| line.ends_with(&end)).count()
    }

    pub(crate) fn ledger(&self) -> String {
        fs::read_to_string(self.path("ledger")).unwrap_or_default()
    }
}

/// A foreground `mainstay serve`; killed when the test ends in any way.
pub(crate) struct Serving {
    child: Child,
    address: String,
    _stdout: BufReader<std::process::ChildStdout>,
}

impl Serving {
    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(mut self) {
        kill_process(pid(u64::from(self.child.id())), Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// One app that speaks to its own `mainstay stdio`.
pub(crate) struct App {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    /// What came and was not asked for yet.
    seen: Vec<Value>,
    stderr: Arc<Mutex<String>>,
    threads: Vec<JoinHandle<()>>,
    next: u64,
}

impl Drop for App {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

impl App {
    pub(crate) fn new(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut pipe = BufReader::new(child.stderr.take().unwrap());
        let stderr = Arc::new(Mutex::new(String::new()));
        let said = Arc::clone(&stderr);
        let threads = vec![
            std::thread::spawn(move || {
                for line in stdout.lines() {
                    let Ok(line) = line else { return };
                    // Nothing but messages may be on stdout.
                    let message = serde_json::from_str(&line)
                        .unwrap_or_else(|error| panic!("{error} in {line:?}"));
                    if sender.send(message).is_err() {
                        return;
                    }
                }
            }),
            std::thread::spawn(move || {
                let mut line = String::new();
                while pipe.read_line(&mut line).is_ok_and(|read| read > 0) {
                    said.lock().unwrap().push_str(&std::mem::take(&mut line));
                }
            }),
        ];
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
            seen: Vec::new(),
            stderr,
            threads,
            next: 100,
        }
    }

    pub(crate) fn pid(&self) -> u64 {
        u64::from(self.child.id())
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    /// The next message for which this holds; the others stay.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut looked = 0;
        loop {
            if let Some(at) = self.seen[looked..].iter().position(&mut wanted) {
                return self.seen.remove(looked + at);
            }
            looked = self.seen.len();
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(message) => self.seen.push(message),
                Err(why @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => panic!(
                    "waited in vain for {what} ({why}): {:#?}\n{}",
                    self.seen,
                    self.stderr()
                ),
            }
        }
    }

    #[track_caller]
    pub(crate) fn answer(&mut self, id: &Value) -> Value {
        self.wait_for(&format!("the answer to {id}"), |message| {
            message["id"] == *id && message.get("method").is_none()
        })
    }

    #[track_caller]
    pub(crate) fn notification(&mut self, method: &str) -> Value {
        self.wait_for(method, |message| message["method"] == method)
    }

    /// Messages that came and that nobody asked for.
    pub(crate) fn rest(&mut self) -> Vec<Value> {
        self.seen.extend(self.lines.try_iter());
        std::mem::take(&mut self.seen)
    }

    pub(crate) fn id(&mut self) -> Value {
        self.next += 1;
        json!(self.next)
    }

    /// Sends a request and returns its id.
    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> Value {
        let id = self.id();
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    /// A request of the legacy era and its answer.
    #[track_caller]
    pub(crate) fn legacy(&mut self, method: &str, params: &Value) -> Value {
        let id = self.ask(method, params);
        self.answer(&id)
    }

    /// A request of the modern era and its answer.
    #[track_caller]
    pub(crate) fn modern(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, &stamped(params));
        self.answer(&id)
    }

    /// Opens the legacy session.
    #[track_caller]
    pub(crate) fn open(&mut self) -> Value {
        let opened = self.legacy(
            "initialize",
            &json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": { "name": "app", "version": "1" },
            }),
        );
        assert!(
            opened["result"]["serverInfo"]["name"].is_string(),
            "{opened}"
        );
        self.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        opened
    }

    /// Closes stdin and waits for the end.
    pub(crate) fn leave(mut self) -> (ExitStatus, Vec<Value>, String) {
        self.stdin = None;
        let status = self.ended();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        let rest = self.rest();
        (status, rest, self.stderr())
    }

    /// Waits for the end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait_until("the end of `mainstay stdio`", || {
            self.child.try_wait().unwrap().is_some()
        });
        self.child.wait().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(self.pid()), signal).unwrap();
    }

    /// Says that there is nothing more to come.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }
}

/// What a modern request carries.
pub(crate) fn stamped(mut params: Value) -> Value {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = MODERN.into();
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    params
}

pub(crate) fn tool(name: &str, arguments: Value) -> Value {
    json!({ "name": name, "arguments": arguments })
}

/// Reads what is left of a pipe.
pub(crate) fn drain(pipe: impl Read) -> String {
    std::io::read_to_string(pipe).unwrap()
}
