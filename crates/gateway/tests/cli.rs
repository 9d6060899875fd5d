//! The real binary, used as people use it: exit codes, words and streams, for good input and for bad.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

#[cfg(target_os = "linux")]
#[path = "cli/pty.rs"]
mod pty;
#[path = "cli/records.rs"]
mod records;
#[cfg(target_os = "linux")]
#[path = "cli/screen.rs"]
mod screen;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

const MAINSTAY: &str = env!("CARGO_BIN_EXE_mainstay");
/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A user with an empty home directory.
struct User {
    home: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes `mcp.json`.
    fn config(&self, text: impl ToString) -> &Self {
        fs::write(self.path("mcp.json"), text.to_string()).unwrap();
        self
    }

    fn command(&self, args: &[&str]) -> Command {
        self.program(MAINSTAY, args)
    }

    /// Any program, as this user runs it.
    fn program(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.home.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        fs::create_dir_all(self.path("run")).unwrap();
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args).output().unwrap())
    }

    /// Starts `mainstay serve` on a free port and waits until it says that it listens.
    fn serve(&self, args: &[&str]) -> Serving {
        let mut command = self.command(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = collected(child.stderr.take().unwrap());
        let mut ready = String::new();
        stdout.read_line(&mut ready).unwrap();
        Serving {
            child,
            ready,
            stdout: Some(stdout),
            stderr,
            ended: false,
        }
    }

    /// The status of one server of the running Mainstay.
    fn server(&self, name: &str) -> Value {
        let status = self.run(&["status", "--json"]).exit(0).json();
        let servers = status["servers"].as_array().unwrap().clone();
        servers
            .into_iter()
            .find(|server| server["name"] == name)
            .unwrap()
    }
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn exit(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "stderr lacks {word:?}: {self:#?}");
        }
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A running `mainstay serve`; killed when the test ends in any way.
struct Serving {
    child: Child,
    ready: String,
    stdout: Option<BufReader<ChildStdout>>,
    /// What it wrote to stderr, and the thread that reads it.
    stderr: (Arc<Mutex<Vec<u8>>>, JoinHandle<()>),
    ended: bool,
}

/// Reads a stream to its end, beside the test.
fn collected(mut stream: impl Read + Send + 'static) -> (Arc<Mutex<Vec<u8>>>, JoinHandle<()>) {
    let text = Arc::new(Mutex::new(Vec::new()));
    let kept = text.clone();
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 4_096];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            kept.lock().unwrap().extend_from_slice(&bytes[..count]);
        }
    });
    (text, reader)
}

impl Serving {
    fn address(&self) -> &str {
        let from = self.ready.find("http://").unwrap() + "http://".len();
        let rest = &self.ready[from..];
        &rest[..rest.find('/').unwrap()]
    }

    /// What it wrote to stderr so far.
    fn told(&self) -> String {
        String::from_utf8_lossy(&self.stderr.0.lock().unwrap()).into_owned()
    }

    /// Waits until it has written that to stderr.
    #[track_caller]
    fn hears(&self, part: &str) {
        wait_until(part, || self.told().contains(part));
    }

    fn signal(&self, signal: Signal) {
        kill_process(pid(u64::from(self.child.id())), signal).unwrap();
    }

    /// Waits for the end; what it wrote since it was ready comes along.
    fn ended(mut self) -> Ended {
        wait_until("the end of `mainstay serve`", || {
            self.child.try_wait().unwrap().is_some()
        });
        self.ended = true;
        let code = self.child.wait().unwrap().code();
        let mut out = String::new();
        if let Some(mut rest) = self.stdout.take() {
            rest.read_to_string(&mut out).unwrap();
        }
        // What is in the pipe is read soon; a stray child may hold its other end open.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.stderr.1.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let err = self.told();
        Ended { code, out, err }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.ended {
            let _gone = self.child.kill();
            let _gone = self.child.wait();
        }
    }
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pid(raw: u64) -> Pid {
    Pid::from_raw(i32::try_from(raw).unwrap()).unwrap()
}

fn demo_server() -> Value {
    json!({ "command": MAINSTAY, "args": ["demo-server", "stdio"] })
}

#[test]
fn nothing_to_do_is_a_usage_error_and_help_is_not() {
    let user = User::new();
    user.run(&[]).exit(2).says(&["Usage:", "Examples:"]);
    user.run(&["serv"]).exit(2).says(&["serve"]);
    user.run(&["demo", "--seconds", "many"]).exit(2);
    for command in [
        "serve", "stdio", "status", "tools", "call", "restart", "enable", "disable", "stop",
        "logs", "check", "demo", "events", "calls", "top",
    ] {
        let help = user.run(&[command, "--help"]).exit(0);
        assert!(help.out.contains("Examples:"), "{help:#?}");
    }
}

#[test]
fn no_config_is_told_with_a_working_example() {
    let user = User::new();
    for command in ["serve", "check"] {
        let ended = user
            .run(&[command])
            .exit(4)
            .says(&["./mcp.json", "hint: save this as mcp.json"]);
        // The example is the rest of the message: it must work as it stands.
        let example = &ended.err[ended.err.find("\n{").unwrap()..];
        let other = User::new();
        let checked = other.config(example).run(&["check", "--json"]).json();
        assert_eq!(checked["problems"], json!([]), "{checked:#}");
    }
    user.run(&["serve", "--config", "elsewhere.json"])
        .exit(4)
        .says(&["elsewhere.json", "hint: check the path"]);
    user.run(&["call", "time", "now"]).exit(4);
}

#[test]
fn a_config_that_cannot_be_read_names_file_line_and_column() {
    let user = User::new();
    user.config("{\n  \"mcpServers\": {\n    \"a\": oops\n  }\n}");
    user.run(&["serve"])
        .exit(3)
        .says(&["mcp.json:3:10: error:", "hint:"]);
    user.config("[]")
        .run(&["check"])
        .exit(3)
        .says(&["mcp.json:1:1: error:"]);
    fs::write(user.path("mcp.json"), [0xff, 0xfe, 0x00]).unwrap();
    user.run(&["serve"]).exit(3).says(&["mcp.json"]);
    fs::remove_file(user.path("mcp.json")).unwrap();
    fs::create_dir(user.path("mcp.json")).unwrap();
    user.run(&["serve"]).exit(3).says(&["mcp.json", "hint:"]);
}

#[test]
fn every_problem_of_a_config_is_told_at_once_with_its_place_and_remedy() {
    let user = User::new();
    user.config(
        r#"{
  "mcpServers": {
    "both": { "command": "x", "url": "http://localhost/" },
    "type": { "command": 7 },
    "unset": { "command": "x", "env": { "TOKEN": "${NOBODY_SETS_THIS}" } },
    "typo": { "comand": "x" },
    "twice": { "command": "x" },
    "twice": { "command": "y" }
  }
}"#,
    );
    let places = [
        "mcp.json:3:",
        "mcp.json:4:",
        "mcp.json:5:",
        "mcp.json:6:",
        "mcp.json:8:",
    ];
    let ended = user.run(&["check"]).exit(3).says(&places).says(&[
        "NOBODY_SETS_THIS",
        "`command`",
        "hint:",
    ]);
    assert!(
        !ended.err.contains("help:"),
        "a remedy that does not begin with `hint:`: {ended:#?}"
    );
    let checked = user.run(&["check", "--json"]).exit(3).json();
    assert_eq!(checked["ok"], false);
    let unset = checked["problems"]
        .as_array()
        .unwrap()
        .iter()
        .find(|problem| problem["server"] == "unset")
        .unwrap();
    assert_eq!(
        (unset["line"].as_u64(), unset["path"].as_str()),
        (Some(5), Some("mcpServers.unset.env.TOKEN"))
    );
    assert!(!unset["remedy"].as_str().unwrap().is_empty());
}

#[test]
fn f1_f3_missing_programs_and_directories_are_found_without_starting_anything() {
    let user = User::new();
    let there = user.path("bin");
    fs::create_dir(&there).unwrap();
    let witness = user.path("started");
    fs::write(
        there.join("tool"),
        format!("#!/bin/sh\ntouch {}\n", witness.display()),
    )
    .unwrap();
    let executable = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    fs::set_permissions(there.join("tool"), executable).unwrap();
    user.config(json!({ "mcpServers": {
        "good": { "command": "tool", "env": { "PATH": there } },
        "gone": { "command": "no-such-program-here" },
        "nowhere": { "command": "sh", "cwd": "/no/such/directory" },
        "off": { "command": "no-such-program-here", "enabled": false },
    } }));
    let checked = user.run(&["check", "--json"]).exit(3).json();
    let verdict = |name: &str| {
        let servers = checked["servers"].as_array().unwrap();
        let server = servers
            .iter()
            .find(|server| server["name"] == name)
            .unwrap();
        (
            server["verdict"].as_str().unwrap().to_owned(),
            server["note"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(
        verdict("good"),
        ("ok".to_owned(), there.join("tool").display().to_string())
    );
    assert_eq!(verdict("gone").0, "invalid");
    assert!(verdict("gone").1.contains("no-such-program-here"));
    assert!(verdict("nowhere").1.contains("/no/such/directory"));
    assert_eq!(verdict("off").0, "disabled");
    assert!(!witness.exists(), "checking started the program");
}

#[test]
fn law_27_bad_servers_are_told_apart_and_stop_no_other() {
    let user = User::new();
    user.config(json!({ "mcpServers": {
        "good": demo_server(),
        "garbage": { "command": "sh", "args": ["-c", "echo '<html>'; echo 'my last words' >&2; exit 3"] },
        "silent": { "command": "sh", "args": ["-c", "sleep 600"], "timeouts": { "connectMs": 1500, "greetMs": 1000 } },
    } }));
    let checked = user
        .run(&["check", "--start", "--timeout", "30", "--json"])
        .exit(30)
        .json();
    let note = |name: &str| {
        let servers = checked["servers"].as_array().unwrap();
        let server = servers
            .iter()
            .find(|server| server["name"] == name)
            .unwrap();
        (
            server["verdict"].as_str().unwrap().to_owned(),
            server["note"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(
        note("good"),
        ("ok".to_owned(), "stdio, 2025-11-25, 3 tools".to_owned())
    );
    assert_eq!(note("garbage").0, "down");
    assert!(
        note("garbage").1.contains("my last words"),
        "{}",
        note("garbage").1
    );
    assert_eq!(note("silent").0, "down");
    // The good one works beside them, and says nothing of them.
    let called = user
        .run(&["call", "good", "add", r#"{"a":40,"b":2}"#])
        .exit(0);
    assert_eq!((called.out.as_str(), called.err.as_str()), ("42\n", ""));
}

#[test]
fn law_16_calls_without_a_running_mainstay_say_how_they_ended() {
    let user = User::new();
    user.config(json!({ "mcpServers": {
        "demo": demo_server(),
        "dead": { "command": "sh", "args": ["-c", "echo 'no license' >&2; exit 1"] },
        "broken": { "command": "x", "url": "http://localhost/" },
    } }));
    user.run(&[
        "call",
        "demo",
        "echo",
        r#"{"text":"x","marker":"two\nlines"}"#,
    ])
    .exit(20)
    .says(&["reported this error"]);
    user.run(&["call", "demo", "add", r#"{"a":1}"#])
        .exit(21)
        .says(&["-32602", "`b`"]);
    user.run(&["call", "demo", "ad"])
        .exit(6)
        .says(&["hint: did you mean `add`?"]);
    user.run(&["call", "deno", "add"])
        .exit(6)
        .says(&["hint: did you mean `demo`?"]);
    user.run(&["call", "dead", "add"])
        .exit(25)
        .says(&["no license", "hint:"]);
    user.run(&["call", "broken", "add"])
        .exit(3)
        .says(&["mcp.json:1:"]);
    user.run(&["call", "demo", "add", "a=1"])
        .exit(2)
        .says(&["no JSON", "hint:"]);
    user.run(&["call", "demo", "add", "[1]"])
        .exit(2)
        .says(&["no object"]);
    let tools = user.run(&["tools", "demo", "--json"]).exit(0).json();
    let names: Vec<&str> = tools["tools"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|tool| tool["name"].as_str())
        .collect();
    assert_eq!(names, ["add", "echo", "time"]);
    assert_eq!(tools["tools"][0]["exposed"], "demo__add");
    assert_eq!(tools["tools"][0]["tool"]["inputSchema"]["type"], "object");
}

#[test]
fn arguments_come_from_stdin_too() {
    let user = User::new();
    user.config(json!({ "mcpServers": { "demo": demo_server() } }));
    let mut command = user.command(&["call", "demo", "add", "-", "--json"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(br#"{"a":1,"b":1}"#)
        .unwrap();
    let ended = Ended::of(child.wait_with_output().unwrap()).exit(0);
    assert_eq!(ended.json()["content"][0]["text"], "2");
}

#[test]
fn without_a_running_mainstay_its_commands_say_how_to_start_one() {
    let user = User::new();
    for command in [
        &["status"][..],
        &["restart", "x"],
        &["enable", "x"],
        &["disable", "x"],
        &["logs", "x"],
    ] {
        let ended = user.run(command).exit(5).says(&[
            "no Mainstay is running",
            "hint: start it with `mainstay serve",
        ]);
        assert_eq!(ended.out, "");
    }
    let ended = user.run(&["status", "--json"]).exit(5);
    let error: Value = serde_json::from_str(&ended.err).unwrap();
    assert_eq!(
        (
            error["error"]["kind"].as_str(),
            error["error"]["exitCode"].as_u64()
        ),
        (Some("not-running"), Some(5))
    );
    user.run(&["call", "a", "b", "--socket", "nowhere.sock"])
        .exit(5)
        .says(&["nowhere.sock"]);
}

#[test]
fn law_32_taken_and_foreign_addresses_are_refused() {
    let user = User::new();
    user.config(json!({ "mcpServers": { "demo": demo_server() } }));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    user.run(&["serve", "--listen", &address])
        .exit(7)
        .says(&["is in use", &address, "hint:"]);
    user.run(&["serve", "--listen", "0.0.0.0:0"])
        .exit(9)
        .says(&[
            "0.0.0.0:0 is refused",
            "hint: make a token with `mainstay token create NAME`",
            "or listen on 127.0.0.1",
        ]);
    user.run(&["serve", "--listen", "8808"]).exit(2);
    user.run(&["serve", "--log-level", "a=b=c"])
        .exit(2)
        .says(&["a=b=c", "hint:"]);
}

/// A user with two servers and a running Mainstay; both servers are connected.
fn running() -> (User, Serving) {
    let user = User::new();
    let chatty = "echo one >&2; echo two >&2; exec \"$0\" demo-server stdio";
    user.config(json!({ "mcpServers": {
        "demo": demo_server(),
        "chatty": { "command": "sh", "args": ["-c", chatty, MAINSTAY] },
    } }));
    let serving = user.serve(&[]);
    let is_up = |name| user.server(name)["state"] == "connected";
    wait_until("both servers", || is_up("demo") && is_up("chatty"));
    (user, serving)
}

#[test]
fn the_commands_reach_the_running_mainstay() {
    let (user, serving) = running();
    assert!(
        serving.ready.contains("2 servers at http://127.0.0.1:"),
        "{}",
        serving.ready
    );
    let table = user.run(&["status"]).exit(0);
    let has_header_and_row =
        table.out.starts_with("SERVER") && table.out.contains("demo    connected");
    assert!(has_header_and_row && table.err.is_empty(), "{table:#?}");
    let called = user
        .run(&["call", "demo", "add", r#"{"a":40,"b":2}"#])
        .exit(0);
    assert_eq!(called.out, "42\n");
    let logged = user.run(&["logs", "chatty", "--lines", "1"]).exit(0);
    assert_eq!(logged.out, "two\n");
    let tools = user.run(&["tools", "--json"]).exit(0).json();
    assert_eq!(tools["tools"].as_array().unwrap().len(), 6);
    user.run(&["call", "demo", "sub"]).exit(6);
    for command in ["restart", "tools", "logs", "disable"] {
        user.run(&[command, "nobody"])
            .exit(6)
            .says(&["nobody", "hint:", "chatty"]);
    }
    user.run(&["serve", "--listen", "127.0.0.1:0"])
        .exit(8)
        .says(&["another Mainstay", "hint:"]);
    let address = serving.address();
    let other = ["serve", "--listen", address, "--socket", "other.sock"];
    user.run(&other).exit(7).says(&[address]);
}

#[test]
fn law_6_stop_returns_when_everything_has_ended() {
    let (user, serving) = running();
    let server = pid(user.server("demo")["pid"].as_u64().unwrap());
    let stopped = user.run(&["stop"]).exit(0);
    assert!(stopped.out.contains("has ended"), "{stopped:#?}");
    assert!(
        rustix::process::test_kill_process(server).is_err(),
        "its servers are gone when it says so"
    );
    let ended = serving.ended();
    assert_eq!(ended.code, Some(0));
    assert!(ended.out.contains("mainstay: stopped"), "{ended:#?}");
    user.run(&["stop"]).exit(5);
}

#[test]
fn law_5_orders_are_in_force_when_the_command_returns() {
    let (user, _serving) = running();
    let generation = user.server("demo")["generation"].as_u64().unwrap();
    user.run(&["restart", "demo"]).exit(0);
    wait_until("the next generation", || {
        let demo = user.server("demo");
        demo["state"] == "connected" && demo["generation"].as_u64() > Some(generation)
    });
    user.run(&["disable", "demo"]).exit(0);
    user.run(&["call", "demo", "time"])
        .exit(22)
        .says(&["mainstay enable demo"]);
    user.run(&["enable", "demo"]).exit(0);
    user.run(&["call", "demo", "time"]).exit(0);
}

#[test]
fn law_16_a_call_without_an_answer_may_have_run() {
    let (user, _serving) = running();
    let child = pid(user.server("chatty")["pid"].as_u64().unwrap());
    kill_process(child, Signal::STOP).unwrap();
    let called = user.run(&["call", "chatty", "time", "--timeout", "1"]);
    kill_process(child, Signal::CONT).unwrap();
    called
        .exit(24)
        .says(&["may have run", "hint: look at the tool's effect"]);
}

#[test]
fn law_6_nothing_is_left_after_the_end() {
    let (user, serving) = running();
    let pid_of = |name: &&str| user.server(name)["pid"].as_u64().map(pid);
    let children: Vec<Pid> = ["demo", "chatty"].iter().filter_map(pid_of).collect();
    assert_eq!(children.len(), 2);
    serving.signal(Signal::INT);
    serving.ended().exit(0);
    for child in children {
        assert!(
            test_kill_process(child).is_err(),
            "{child:?} is still there"
        );
    }
    user.run(&["status"]).exit(5);
}

#[test]
fn a_useless_state_directory_and_broken_servers_are_no_reason_not_to_serve() {
    let user = User::new();
    fs::write(user.path("file"), "").unwrap();
    user.config(json!({
        "mcpServers": { "demo": demo_server(), "bad": { "command": 7 } },
        "mainstay": { "socket": user.path("elsewhere.sock") },
    }));
    let serving = user.serve(&["--state-dir", "file/state"]);
    assert!(
        serving.ready.contains("elsewhere.sock"),
        "{}",
        serving.ready
    );
    wait_until("the good server", || {
        user.server("demo")["state"] == "connected"
    });
    assert_eq!(user.server("bad")["state"], "parked");
    serving.signal(Signal::TERM);
    let ended = serving.ended().exit(0).says(&[
        "without remembered catalogs",
        "file/state",
        "hint: name a directory",
    ]);
    let problem = ended
        .err
        .lines()
        .find(|line| line.starts_with("./mcp.json:1:"));
    assert!(
        problem.is_some_and(|line| line.contains("error:")),
        "{ended:#?}"
    );
}

#[test]
fn law_6_f220_a_shutdown_ends_in_time_and_its_last_line_names_whoever_had_to_be_killed() {
    let user = User::new();
    let stubborn = json!({
        "command": "sh", "args": ["-c", "trap '' TERM; while :; do sleep 1; done"],
        // Far longer than the test waits: only the limit for all of them can end it.
        "stop": { "closeMs": 600_000, "terminateMs": 600_000 },
    });
    user.config(json!({
        "mcpServers": { "stubborn": stubborn, "demo": demo_server() },
        "mainstay": { "shutdownMs": 1_000 },
    }));
    let serving = user.serve(&[]);
    wait_until("the process", || user.server("stubborn")["pid"].is_u64());
    wait_until("the good server", || {
        user.server("demo")["state"] == "connected"
    });
    let child = pid(user.server("stubborn")["pid"].as_u64().unwrap());
    serving.signal(Signal::TERM);
    let ended = serving.ended().exit(0);
    assert_eq!(
        ended.out.lines().last(),
        Some("mainstay: stopped; had to be killed: stubborn"),
        "{ended:#?}"
    );
    assert!(
        test_kill_process(child).is_err(),
        "the stubborn child survived"
    );
}

#[test]
fn law_6_f223_a_second_signal_skips_every_grace() {
    let user = User::new();
    let stubborn = "trap '' TERM; while :; do sleep 1; done";
    user.config(json!({ "mcpServers": { "stubborn": {
        "command": "sh", "args": ["-c", stubborn],
        // Far longer than the test waits.
        "stop": { "closeMs": 600_000, "terminateMs": 600_000 },
    } } }));
    let serving = user.serve(&[]);
    wait_until("the process", || user.server("stubborn")["pid"].is_u64());
    let child = pid(user.server("stubborn")["pid"].as_u64().unwrap());
    serving.signal(Signal::INT);
    wait_until("the stop", || {
        user.server("stubborn")["state"] == "draining"
    });
    serving.signal(Signal::INT);
    let ended = serving.ended().exit(0);
    assert!(
        ended.out.contains("had to be killed: stubborn"),
        "{ended:#?}"
    );
    assert!(
        test_kill_process(child).is_err(),
        "the stubborn child survived"
    );
}

#[test]
fn colour_is_there_when_asked_for_and_never_in_a_pipe() {
    let user = User::new();
    user.config(json!({ "mcpServers": { "demo": demo_server() } }));
    assert!(!user.run(&["check"]).exit(0).out.contains('\x1b'));
    assert!(
        user.run(&["check", "--color", "always"])
            .exit(0)
            .out
            .contains('\x1b')
    );
    assert!(
        !user
            .run(&["check", "--color", "never"])
            .exit(0)
            .out
            .contains('\x1b')
    );
    let mut command = user.command(&["status", "--color", "always"]);
    let ended = Ended::of(command.env("NO_COLOR", "1").output().unwrap()).exit(5);
    assert!(
        ended.err.contains("\x1b[31merror:"),
        "an explicit flag outranks NO_COLOR: {ended:#?}"
    );
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let user = User::new();
    user.config(json!({ "mcpServers": { "demo": demo_server() } }));
    let mut child = user
        .command(&["check"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert!(
        !ended.err.contains("panicked") && !ended.err.contains("error:"),
        "{ended:#?}"
    );
    assert_eq!(ended.code, Some(0));
}
