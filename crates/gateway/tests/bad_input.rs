//! Every command in every bad situation: it ends, with a documented exit code, a short message that names the next step,
//! and never with a panic or with what only a programmer understands.
//!
//! The commands come from the command tree itself, through the manual pages that are made from it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const MAINSTAY: &str = env!("CARGO_BIN_EXE_mainstay");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/exit-codes.md");
/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);
/// A message that is longer than this is not short. The example of a configuration is the longest thing said.
const LINES_MAX: usize = 40;

/// A user with a home directory and nothing in it.
struct User {
    root: tempfile::TempDir,
    variables: Vec<(String, PathBuf)>,
}

impl User {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for dir in ["home", "run", "here"] {
            fs::create_dir(root.path().join(dir)).unwrap();
        }
        Self {
            root,
            variables: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn set(mut self, name: &str, value: impl Into<PathBuf>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// The command in this user's environment, by way of another program if there is one.
    fn command(&self, through: &[&str], args: &[String]) -> Command {
        let mut words = through.iter().map(|word| (*word).to_owned());
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(MAINSTAY);
                command
            }
            None => Command::new(MAINSTAY),
        };
        command
            .args(args)
            .current_dir(self.path("here"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // So that whatever it starts can be ended with it.
            .process_group(0);
        command
    }

    fn run(&self, args: &[String]) -> Ended {
        Ended::of(args, self.command(&[], args))
    }

    /// In a terminal of 40 columns; both streams are one then.
    fn narrow(&self, args: &[String]) -> Ended {
        let words: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
        let line = format!("stty cols 40 rows 20; exec {MAINSTAY} {}", words.join(" "));
        let mut command = self.command(&[], &[]);
        let variables: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        command = Command::new("script");
        command
            .args(["-qec", &line, "/dev/null"])
            .current_dir(self.path("here"))
            .env_clear()
            .envs(variables)
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        Ended::of(args, command)
    }
}

/// How a command ended.
#[derive(Debug)]
#[expect(
    dead_code,
    reason = "some fields are there to be printed when a test fails"
)]
struct Ended {
    args: Vec<String>,
    code: Option<i32>,
    out: String,
    err: String,
    /// It had to be ended.
    ended: bool,
}

impl Ended {
    fn of(args: &[String], mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let group = rustix::process::Pid::from_child(&child);
        let deadline = Instant::now() + PATIENCE;
        let mut ended = false;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                ended = true;
                let _gone =
                    rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().unwrap();
        Self {
            args: args.to_vec(),
            code: status.code(),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            err: String::from_utf8_lossy(&stderr).into_owned(),
            ended,
        }
    }

    /// What holds in every situation.
    #[track_caller]
    fn is_decent(&self, codes: &BTreeSet<i32>) -> &Self {
        assert!(!self.ended, "it did not end: {self:#?}");
        let code = self.code.unwrap_or(-1);
        assert!(
            codes.contains(&code),
            "exit code {code} is not documented: {self:#?}"
        );
        for said in [&self.out, &self.err] {
            for word in [
                "panicked",
                "RUST_BACKTRACE",
                "Os {",
                "Custom {",
                "Some(",
                "Err(",
                "kind:",
            ] {
                assert!(!said.contains(word), "{word:?} was said: {self:#?}");
            }
        }
        self
    }

    /// It failed, said why, and said what to do.
    #[track_caller]
    fn fails_well(&self, codes: &BTreeSet<i32>) -> &Self {
        self.is_decent(codes);
        assert_ne!(self.code, Some(0), "{self:#?}");
        let said = format!("{}{}", self.out, self.err);
        assert!(!said.trim().is_empty(), "nothing was said: {self:#?}");
        assert!(
            said.lines().count() <= LINES_MAX,
            "that is too much: {self:#?}"
        );
        let next = ["hint:", "--help", "\"hint\"", "Usage:"];
        let has_next = next.iter().any(|word| said.contains(word));
        assert!(has_next, "no next step is named: {self:#?}");
        self
    }
}

/// The documented exit codes.
fn codes() -> BTreeSet<i32> {
    let page = fs::read_to_string(PAGE).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let codes: BTreeSet<i32> = rows
        .filter_map(|row| row.split(' ').next()?.parse().ok())
        .collect();
    assert!(codes.len() > 20, "{page}");
    codes
}

/// Every command that does something, in words: `["service", "install"]`.
fn commands() -> Vec<Vec<String>> {
    let user = User::new();
    let dir = user.path("man");
    let args = ["man", "--out", &dir.display().to_string()].map(str::to_owned);
    user.run(&args).is_decent(&codes());
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| {
            name.strip_prefix("mainstay-")?
                .strip_suffix(".1")
                .map(str::to_owned)
        })
        .collect();
    names.sort();
    assert!(names.len() > 20, "{names:?}");
    let is_group = |name: &String| {
        let inner = format!("{name}-");
        names.iter().any(|other| other.starts_with(&inner))
    };
    let leaves = names.iter().filter(|name| !is_group(name));
    let split = |name: &String| name.split('-').map(str::to_owned).collect();
    leaves.map(split).collect()
}

/// What a command needs to get past its command line. A command that is not here needs nothing.
fn arguments(command: &[String]) -> Vec<String> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let more: &[&str] = match words.as_slice() {
        ["add"] => &["time", "--no-try", "--", "true"],
        ["remove" | "restart" | "enable" | "disable" | "logs"] => &["time"],
        ["call"] => &["time", "now"],
        ["replay"] => &["nowhere.jsonl", "--url", "http://127.0.0.1:9"],
        ["install" | "uninstall"] => &["codex"],
        ["completions"] => &["bash"],
        ["serve"] => &["--listen", "127.0.0.1:0"],
        ["demo"] => &["--seconds", "3"],
        ["chaos", "show"] => &["nothing"],
        ["stdio"] => &["--no-start", "--patience", "1"],
        ["tools", "approve"] => &["time"],
        _ => &[],
    };
    let more = more.iter().map(|word| (*word).to_owned());
    command.iter().cloned().chain(more).collect()
}

/// Commands that go on until somebody ends them, or that need nobody and no file: bad situations do not concern them.
fn goes_its_own_way(command: &[String]) -> bool {
    matches!(
        command.first().map(String::as_str),
        Some("demo" | "chaos" | "completions" | "man" | "help")
    )
}

/// Commands that ask a running Mainstay, and nobody else.
fn asks_the_running_one(command: &[String]) -> bool {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    matches!(
        words.as_slice(),
        ["status" | "restart" | "enable" | "disable" | "stop" | "logs" | "reload"]
    )
}

#[test]
fn wrong_arguments_are_told_with_what_would_be_right() {
    let codes = codes();
    let user = User::new();
    for mut command in commands() {
        command.push("--no-such-option".to_owned());
        let ended = user.run(&command);
        ended.fails_well(&codes);
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.err.contains("--no-such-option"), "{ended:#?}");
        command.push("--json".to_owned());
        let ended = user.run(&command);
        let error: serde_json::Value =
            serde_json::from_str(&ended.err).unwrap_or_else(|error| panic!("{error}: {ended:#?}"));
        assert_eq!(error["error"]["kind"], "usage", "{ended:#?}");
    }
}

#[test]
fn nobody_there_and_nothing_configured() {
    let codes = codes();
    for command in commands()
        .into_iter()
        .filter(|command| !goes_its_own_way(command))
    {
        let user = User::new();
        let ended = user.run(&arguments(&command));
        ended.is_decent(&codes);
        if ended.code != Some(0) {
            ended.fails_well(&codes);
        }
        if asks_the_running_one(&command) {
            assert_eq!(ended.code, Some(5), "{ended:#?}");
        }
    }
}

#[test]
fn a_dead_socket_and_one_where_something_else_answers() {
    let codes = codes();
    for command in commands()
        .into_iter()
        .filter(|command| !goes_its_own_way(command))
    {
        let user = User::new();
        let dead = user.path("dead.sock");
        drop(UnixListener::bind(&dead).unwrap());
        let user = user.set("MAINSTAY_SOCKET", &dead);
        let ended = user.run(&arguments(&command));
        ended.is_decent(&codes);
        if asks_the_running_one(&command) {
            assert_eq!(ended.code, Some(5), "{ended:#?}");
            ended.fails_well(&codes);
        }
        let other = user.path("other.sock");
        let listener = UnixListener::bind(&other).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((mut stream, _)) => {
                            let _gone = stream.write_all(b"220 mail.example.org ESMTP\r\n");
                            // It listens until the client has had enough, as a mail server would.
                            let _waited = stream.set_read_timeout(Some(Duration::from_secs(10)));
                            while stream.read(&mut [0; 512]).is_ok_and(|count| count > 0) {}
                        }
                        Err(_) => std::thread::sleep(Duration::from_millis(5)),
                    }
                }
            });
            let user = User::new().set("MAINSTAY_SOCKET", &other);
            let ended = user.run(&arguments(&command));
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            ended.is_decent(&codes);
            if asks_the_running_one(&command) {
                ended.fails_well(&codes);
                assert_eq!(ended.code, Some(5), "{ended:#?}");
            }
        });
    }
}

const FUTURE: &str = r#"{
  "$schema": "https://example.org/mainstay-99.json",
  "fleet": { "of": "tomorrow" },
  "mainstay": { "version": 99, "teleport": true },
  "mcpServers": { "time": { "command": "true", "quantum": [1, { "deep": null }], "enabled": false } }
}"#;

#[test]
fn a_configuration_from_the_future_is_read_with_warnings() {
    let codes = codes();
    for command in commands()
        .into_iter()
        .filter(|command| !goes_its_own_way(command))
    {
        // These would serve it, and so go on.
        if matches!(command.first().map(String::as_str), Some("serve")) {
            continue;
        }
        let user = User::new();
        let path = user.file("future.json", FUTURE);
        let user = user.set("MAINSTAY_CONFIG", &path);
        let ended = user.run(&arguments(&command));
        ended.is_decent(&codes);
        assert_ne!(ended.code, Some(3), "it was refused: {ended:#?}");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("teleport"), "{ended:#?}");
    }
    let user = User::new();
    let path = user.file("future.json", FUTURE).display().to_string();
    let ended = user.run(&["check", "--config", &path].map(str::to_owned));
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    for key in ["teleport", "fleet", "quantum", "version"] {
        assert!(ended.err.contains(key), "nothing about {key}: {ended:#?}");
    }
}

#[test]
fn places_that_cannot_be_written() {
    let codes = codes();
    // `serve` goes on without a place to write, with warnings, and so does not end.
    let is_serve = |command: &[String]| command == ["serve"];
    for command in commands()
        .into_iter()
        .filter(|command| !goes_its_own_way(command) && !is_serve(command))
    {
        // Below a file nothing can be made, not even by an administrator.
        let user = User::new();
        let file = user.file("file", "");
        let config = user.file("mcp.json", "{ \"mcpServers\": {} }");
        let user = user
            .set("HOME", file.join("home"))
            .set("XDG_RUNTIME_DIR", file.join("run"))
            .set("MAINSTAY_STATE_DIR", file.join("state"));
        let user = match command.first().map(String::as_str) {
            Some("stdio") => user.set("MAINSTAY_CONFIG", &config),
            Some(_) | None => user,
        };
        let ended = user.run(&arguments(&command));
        ended.is_decent(&codes);
        if ended.code != Some(0) {
            ended.fails_well(&codes);
        }
        let writes = ["add", "install"];
        if writes.contains(&command[0].as_str()) {
            assert_ne!(ended.code, Some(0), "{ended:#?}");
        }
    }
}

#[test]
fn a_full_disk() {
    let codes = codes();
    // Where stdout leads.
    for command in [
        vec!["completions", "bash"],
        vec!["man"],
        vec!["check"],
        vec!["install", "--list"],
    ] {
        let user = User::new();
        fs::write(
            user.path("here").join("mcp.json"),
            "{ \"mcpServers\": { \"a\": { \"command\": \"true\" } } }",
        )
        .unwrap();
        let args: Vec<String> = command.into_iter().map(str::to_owned).collect();
        if !Path::new("/dev/full").exists() {
            return;
        }
        let mut full = user.command(&[], &args);
        full.stdout(
            fs::OpenOptions::new()
                .write(true)
                .open("/dev/full")
                .unwrap(),
        );
        let ended = Ended::of(&args, full);
        ended.fails_well(&codes);
        assert!(ended.err.contains("stdout"), "{ended:#?}");
    }
    // Where files are written: no file may grow, as on a disk without room.
    let none = ["sh", "-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""];
    for command in commands()
        .into_iter()
        .filter(|command| !goes_its_own_way(command))
    {
        let user = User::new();
        let text = "{ // mine\n \"mcpServers\": { \"time\": { \"command\": \"true\", \"enabled\": false } } }";
        let path = user.path("here").join("mcp.json");
        fs::write(&path, text).unwrap();
        fs::create_dir(user.path("home/.codex")).unwrap();
        let codex = user.file("home/.codex/config.toml", "# mine\n");
        let args = match command[0].as_str() {
            "add" => ["add", "new", "--no-try", "--", "true"]
                .map(str::to_owned)
                .to_vec(),
            // What it writes beside files is no matter of this test, and it goes on.
            "serve" => continue,
            _ => arguments(&command),
        };
        let ended = Ended::of(&args, user.command(&none, &args));
        ended.is_decent(&codes);
        if ended.code != Some(0) {
            ended.fails_well(&codes);
        }
        if ["add", "remove", "install"].contains(&command[0].as_str()) {
            assert_eq!(ended.code, Some(10), "{ended:#?}");
            assert!(ended.err.contains("nothing is changed"), "{ended:#?}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "{ended:#?}");
        assert_eq!(
            fs::read_to_string(&codex).unwrap(),
            "# mine\n",
            "{ended:#?}"
        );
        let left = fs::read_dir(user.path("here")).unwrap().count();
        assert_eq!(left, 1, "something unfinished is left: {ended:#?}");
    }
}

/// Without the sequences that colour and move.
fn visible(line: &str) -> String {
    let mut text = String::new();
    let mut hidden = false;
    for c in line.chars() {
        match (hidden, c) {
            (false, '\x1b') => hidden = true,
            (true, c) => hidden = !c.is_ascii_alphabetic(),
            (false, c) if c.is_control() => {}
            (false, c) => text.push(c),
        }
    }
    text
}

#[test]
#[cfg(target_os = "linux")]
fn a_terminal_of_forty_columns_and_one_without_colour() {
    let codes = codes();
    for command in commands()
        .into_iter()
        .filter(|command| !goes_its_own_way(command))
    {
        let mut wrong = command.clone();
        wrong.push("--no-such-option".to_owned());
        for args in [wrong, arguments(&command)] {
            // An editor and a full screen take the terminal for themselves.
            if ["edit", "top"].contains(&args[0].as_str()) && args.len() == 1 {
                continue;
            }
            let user = User::new();
            let ended = user.narrow(&args);
            ended.is_decent(&codes);
            if ended.code != Some(0) {
                ended.fails_well(&codes);
                // The example of a configuration is there to be copied.
                let message = ended.out.split("\r\n\r\n{").next().unwrap();
                for line in message.lines().map(visible) {
                    let is_wide = line.chars().count() > 40 && line.trim().contains(' ');
                    assert!(!is_wide, "{line:?} is too wide: {ended:#?}");
                }
            }
            let plain = User::new().set("NO_COLOR", "1").narrow(&args);
            assert!(!plain.out.contains("\x1b["), "{plain:#?}");
        }
    }
}
