//! The misbehaving server behaves unless told otherwise, and each flag does what it says. What the flags do to a
//! process (exits, signals, floods) is seen in the tests of processes.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first surprise, helpers included"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn a_legacy_conversation() {
    let mut server = Server::start(&[]);
    for (asked, answered) in [("2025-06-18", "2025-06-18"), ("1999-01-01", "2025-11-25")] {
        let result = server.result("initialize", json!({"protocolVersion": asked}));
        assert_eq!(result["protocolVersion"], answered);
        assert_eq!(result["serverInfo"]["name"], "misbehave");
    }
    server.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    assert_eq!(server.result("ping", json!({})), json!({}));
    let tools = server.result("tools/list", json!({}))["tools"].clone();
    assert!(
        tools
            .as_array()
            .unwrap()
            .iter()
            .all(|tool| tool["inputSchema"]["type"] == "object")
    );
    assert_eq!(server.call("echo", json!({"text": "hallo"})), "hallo");
    assert_eq!(server.call("big", json!({"bytes": 100_000})).len(), 100_000);
    assert_eq!(server.error("server/discover", json!({}))["code"], -32601);
    assert_eq!(
        server.error("tools/call", json!({"name": "nobody"}))["code"],
        -32602
    );
    assert_eq!(server.end(), Some(0));
}

#[test]
fn a_modern_conversation() {
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    let mut server = Server::start(&["--era", "modern"]);
    let result = server.result("server/discover", json!({"_meta": meta}));
    assert_eq!(result["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(result["resultType"], "complete");
    assert_eq!(
        result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
        "misbehave"
    );
    assert_eq!(
        server.result("tools/list", json!({"_meta": meta}))["ttlMs"],
        0
    );
    assert_eq!(server.error("tools/list", json!({}))["code"], -32602);
    let wrong = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "1999-01-01"}});
    assert_eq!(server.error("tools/list", wrong)["code"], -32022);
    assert_eq!(
        server.error("initialize", json!({"_meta": meta}))["code"],
        -32601
    );
    assert_eq!(server.end(), Some(0));
}

#[test]
fn both_eras_at_once() {
    let mut server = Server::start(&["--era", "both"]);
    assert_eq!(
        server.result("initialize", json!({}))["protocolVersion"],
        "2025-11-25"
    );
    assert_eq!(
        server.result("server/discover", json!({}))["resultType"],
        "complete"
    );
    assert_eq!(server.result("ping", json!({}))["resultType"], "complete");
}

#[test]
fn calls_run_side_by_side_and_can_be_cancelled() {
    let mut server = Server::start(&[]);
    server.request(
        1,
        "tools/call",
        json!({"name": "slow", "arguments": {"ms": 600_000}}),
    );
    server.request(
        2,
        "tools/call",
        json!({"name": "slow", "arguments": {"ms": 1}}),
    );
    assert_eq!(server.hear()["id"], 2);
    let cancelled = json!({"requestId": 1});
    server
        .say(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled}));
    server.request(3, "ping", json!({}));
    assert_eq!(server.hear()["id"], 3, "no answer to a cancelled call");
    assert_eq!(server.end(), Some(0));
    assert!(server.ledger().contains(&"cancelled 1".to_owned()));
}

#[test]
fn progress_is_reported_before_the_answer() {
    let mut server = Server::start(&[]);
    let params =
        json!({"name": "progress", "arguments": {"steps": 3}, "_meta": {"progressToken": "t"}});
    server.request(1, "tools/call", params);
    for step in 1..=3 {
        let report = server.hear();
        assert_eq!(
            report["params"],
            json!({"progressToken": "t", "progress": step, "total": 3})
        );
    }
    assert_eq!(server.hear()["id"], 1);
}

#[test]
fn tools_change_and_it_says_so() {
    let mut server = Server::start(&[]);
    server.request(
        1,
        "tools/call",
        json!({"name": "set_tools", "arguments": {"names": ["a", "slow"]}}),
    );
    assert_eq!(server.hear()["method"], "notifications/tools/list_changed");
    assert_eq!(server.hear()["id"], 1);
    let names: Vec<_> = server.result("tools/list", json!({}))["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].clone())
        .collect();
    assert_eq!(names, ["a", "slow"]);
    assert_eq!(server.call("a", json!({"text": "x"})), "x");
    assert_eq!(
        server.error("tools/call", json!({"name": "echo"}))["code"],
        -32602
    );
}

#[test]
fn the_ledger_counts_executions() {
    let mut server = Server::start(&["--exit-after-calls", "2", "--exit-code", "4"]);
    server.result("initialize", json!({"protocolVersion": "2025-06-18"}));
    server.result("tools/list", json!({}));
    server.call("add_marker", json!({"marker": "m 1"}));
    server.call("echo", json!({}));
    assert_eq!(server.child.wait().unwrap().code(), Some(4));
    let expected = [
        "spawn -",
        "initialize 2025-06-18",
        "list tools/list",
        "call add_marker",
        "marker m 1",
        "call echo",
    ];
    assert_eq!(server.ledger(), expected);
}

#[test]
fn it_exits_where_it_is_told_to() {
    for (point, method) in [
        ("initialize", "initialize"),
        ("list", "tools/list"),
        ("call", "tools/call"),
    ] {
        let mut server = Server::start(&["--exit-at", point, "--exit-code", "6"]);
        assert_eq!(server.result("ping", json!({})), json!({}));
        server.request(9, method, json!({"name": "echo"}));
        assert_eq!(server.rest(), "");
        assert_eq!(server.child.wait().unwrap().code(), Some(6));
    }
    let mut server = Server::start(&[]);
    server.request(
        9,
        "tools/call",
        json!({"name": "crash", "arguments": {"code": 5}}),
    );
    assert_eq!(server.rest(), "");
    assert_eq!(server.child.wait().unwrap().code(), Some(5));
}

#[test]
fn it_makes_noise_before_anything_else() {
    let mut server = Server::start(&["--noise-text", "2", "--noise-json", "1"]);
    server.request(1, "ping", json!({}));
    assert!(server.stdin.as_mut().unwrap().flush().is_ok());
    drop(server.stdin.take());
    let text = server.rest();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(serde_json::from_str::<Value>(lines[0]).is_err());
    assert!(
        serde_json::from_str::<Value>(lines[2])
            .unwrap()
            .get("jsonrpc")
            .is_none()
    );
    assert_eq!(serde_json::from_str::<Value>(lines[3]).unwrap()["id"], 1);
}

#[test]
fn garbage_is_never_a_message() {
    let mut server = Server::start(&["--garbage"]);
    server.request(1, "ping", json!({}));
    drop(server.stdin.take());
    let mut rest = Vec::new();
    server.stdout.read_to_end(&mut rest).unwrap();
    let mut lines = rest.split(|byte| *byte == b'\n');
    assert!(rest.len() > 20 && lines.all(|line| serde_json::from_slice::<Value>(line).is_err()));
}

#[test]
fn answers_can_be_wrong_in_many_ways() {
    let answers = |flags: &[&str]| {
        let mut server = Server::start(flags);
        server.request(
            1,
            "tools/call",
            json!({"name": "echo", "arguments": {"text": "x"}}),
        );
        let first = server.hear_line();
        drop(server.stdin.take());
        (first, server.rest())
    };
    assert!(answers(&["--id-as", "string"]).0.contains(r#""id":"1""#));
    assert!(answers(&["--id-as", "float"]).0.contains(r#""id":1.0"#));
    assert!(!answers(&["--id-as", "wrong"]).0.contains(r#""id":1,"#));
    let (first, second) = answers(&["--duplicate-answers"]);
    assert_eq!(first, second);
    assert!(answers(&["--big-result", "5000"]).0.len() > 5_000);
    assert!(
        !answers(&["--exit-after-calls", "1", "--no-final-newline"])
            .0
            .ends_with('\n')
    );
    assert!(answers(&["--one-byte-writes"]).0.ends_with("}\n"));
}

#[test]
fn it_stays_silent_and_stops_reading_and_closes() {
    let mut silent = Server::start(&["--never-answer", "ping"]);
    silent.request(1, "ping", json!({}));
    silent.request(2, "tools/list", json!({}));
    assert_eq!(silent.hear()["id"], 2);

    let mut deaf = Server::start(&["--stop-reading-after", "1"]);
    deaf.request(1, "ping", json!({}));
    assert_eq!(deaf.hear()["id"], 1);
    deaf.request(2, "ping", json!({}));
    drop(deaf.stdin.take());
    assert!(
        deaf.child.try_wait().unwrap().is_none(),
        "it lives on, deaf to the end of stdin too"
    );

    let mut mute = Server::start(&["--close-stdout-after", "1", "--ignore-eof"]);
    assert_eq!(mute.call("echo", json!({"text": "x"})), "x");
    assert_eq!(mute.rest(), "");
    assert!(
        mute.child.try_wait().unwrap().is_none(),
        "it lives on without its stdout"
    );
}

#[test]
fn it_exits_on_and_after_any_method_with_last_words() {
    for (flag, expected) in [("--exit-on", ""), ("--exit-after", "\"id\":9")] {
        let mut server = Server::start(&[flag, "ping", "--exit-code", "3", "--last-words", "bye"]);
        server.request(9, "ping", json!({}));
        assert!(server.rest().contains(expected));
        assert_eq!(server.child.wait().unwrap().code(), Some(3));
    }
    let mut server = Server::start(&["--exit-after-ms", "20", "--exit-code", "4"]);
    assert_eq!(server.rest(), "");
    assert_eq!(server.child.wait().unwrap().code(), Some(4));
}

#[test]
fn unknown_methods_are_refused_ignored_or_deadly() {
    let mut server = Server::start(&["--unknown-code", "-1"]);
    assert_eq!(server.error("nonsense", json!({}))["code"], -1);
    let mut server = Server::start(&["--silent-on-unknown"]);
    server.request(1, "nonsense", json!({}));
    assert_eq!(server.result("ping", json!({})), json!({}));
    let mut server = Server::start(&["--crash-on-unknown", "--exit-code", "8"]);
    server.request(1, "nonsense", json!({}));
    assert_eq!(server.rest(), "");
    assert_eq!(server.child.wait().unwrap().code(), Some(8));
}

#[test]
fn it_is_late_chatty_and_strict() {
    let mut server = Server::start(&["--late", "ping:50", "--late", "tools/list:1"]);
    server.request(1, "ping", json!({}));
    server.request(2, "tools/list", json!({}));
    assert_eq!(
        [server.hear()["id"].clone(), server.hear()["id"].clone()],
        [2, 1]
    );
    let mut server = Server::start(&["--chatter", "--strict-init", "--claim-version", "v"]);
    assert_eq!(server.error("tools/list", json!({}))["code"], -32002);
    server.request(1, "initialize", json!({}));
    assert_eq!(server.hear()["method"], "notifications/message");
    assert_eq!(server.hear()["method"], "ping");
    assert_eq!(server.hear()["result"]["protocolVersion"], "v");
    server.say(&json!({"jsonrpc": "2.0", "id": "early", "result": {}}));
    server.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    assert!(server.result("tools/list", json!({})).is_object());
    assert_eq!(server.end(), Some(0));
    for event in [
        "too-early tools/list",
        "answer result \"early\"",
        "initialized -",
        "eof -",
    ] {
        assert!(server.ledger().contains(&event.to_owned()), "{event}");
    }
}

#[test]
fn lines_are_broken_as_told() {
    let answer = |flags: &[&str]| {
        let mut server = Server::start(flags);
        server.request(1, "tools/call", json!({"name": "echo", "arguments": {}}));
        // Calls are answered beside the reader: the end of stdin must not overtake them. What comes first may be noise.
        let mut said = String::new();
        while !flags.contains(&"0") && !said.contains("result") && !said.contains("\"id\":1") {
            let line = server.hear_line();
            if line.is_empty() {
                break;
            }
            said.push_str(&line);
        }
        drop(server.stdin.take());
        said + &server.rest()
    };
    let both: Value = serde_json::from_str(&answer(&["--malformed", "both"])).unwrap();
    assert!(both.get("result").is_some() && both.get("error").is_some());
    let neither = answer(&["--malformed", "neither"]);
    let neither: Value = serde_json::from_str(&neither).unwrap();
    assert!(neither.get("result").is_none() && neither.get("error").is_none());
    assert!(answer(&["--malformed", "pretty"]).lines().count() > 3);
    assert_eq!(
        answer(&["--malformed", "two"]).matches("jsonrpc").count(),
        2
    );
    assert!(!answer(&["--malformed", "half"]).ends_with('\n'));
    assert!(answer(&["--malformed", "huge"]).len() > 100_000);
    assert!(answer(&["--bom", "--crlf"]).starts_with('\u{feff}'));
    assert!(answer(&["--bom", "--crlf"]).ends_with("}\r\n"));
    assert!(answer(&["--long-line", "5000"]).starts_with(&"n".repeat(5000)));
    assert_eq!(answer(&["--noise-between", "2"]).lines().count(), 5);
    assert_eq!(answer(&["--foreign-error"]).lines().count(), 2);
    assert_eq!(answer(&["--stop-writing-after", "0"]), "");
}

#[test]
fn it_stops_itself_and_writes_signals_into_its_ledger() {
    let mut server = Server::start(&["--stop-self-after", "1", "--ignore-term"]);
    assert_eq!(server.result("ping", json!({})), json!({}));
    let pid = server.child.id();
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().chars().next()
    };
    until(|| state() == Some('T'));
    for name in ["CONT", "TERM"] {
        let sent = Command::new("kill")
            .args(["-s", name, &pid.to_string()])
            .status();
        assert!(sent.unwrap().success());
        until(|| server.ledger().contains(&format!("signal {name}")));
    }
    assert_eq!(server.result("ping", json!({})), json!({}), "deaf to TERM");
    assert_eq!(server.end(), Some(0));
}

fn until(so: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !so() {
        assert!(started.elapsed().as_secs() < 60, "waited too long");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn a_wrong_flag_is_refused_with_the_list_of_all() {
    for flags in [
        &["--nonsense", "1"][..],
        &["--noise-text", "many"],
        &["--exit-at"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_misbehave"))
            .args(flags)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains(flags[0]) && said.contains("--never-answer METHOD"),
            "{said}"
        );
    }
}

/// One server, killed at the end of its test.
struct Server {
    dir: TempDir,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

impl Server {
    fn start(flags: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_misbehave"));
        command
            .args(["--ledger", "ledger"])
            .args(flags)
            .current_dir(dir.path());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self {
            dir,
            child,
            stdin,
            stdout,
        }
    }

    fn say(&mut self, message: &Value) {
        writeln!(self.stdin.as_ref().unwrap(), "{message}").unwrap();
    }

    fn request(&mut self, id: u32, method: &str, params: Value) {
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
    }

    fn hear_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    fn hear(&mut self) -> Value {
        serde_json::from_str(&self.hear_line()).unwrap()
    }

    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        rest
    }

    fn result(&mut self, method: &str, params: Value) -> Value {
        self.request(7, method, params);
        let answer = self.hear();
        assert!(
            answer["id"] == 7 && answer.get("error").is_none(),
            "{answer}"
        );
        answer["result"].clone()
    }

    fn error(&mut self, method: &str, params: Value) -> Value {
        self.request(8, method, params);
        let answer = self.hear();
        assert!(
            answer["id"] == 8 && answer.get("result").is_none(),
            "{answer}"
        );
        answer["error"].clone()
    }

    fn call(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.result("tools/call", json!({"name": tool, "arguments": arguments}));
        result["content"][0]["text"].as_str().unwrap().to_owned()
    }

    /// Closes stdin and waits for the exit code.
    fn end(&mut self) -> Option<i32> {
        drop(self.stdin.take());
        self.child.wait().unwrap().code()
    }

    /// The ledger's lines without the process id.
    fn ledger(&self) -> Vec<String> {
        let path: PathBuf = self.dir.path().join("ledger");
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }
}
