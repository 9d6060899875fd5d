//! `chaos serve`, `list` and `show`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::support::{chaos, command};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;

/// A stdio server that a test talks to.
struct Stdio1 {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Stdio1 {
    fn start(folder: &tempfile::TempDir, args: &[&str]) -> Self {
        let mut child = command(folder.path(), &[&["serve", "--stdio"], args].concat())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// Sends a line and reads one; `None` at the end.
    fn ask(&mut self, line: &str) -> Option<Value> {
        // It may be gone already, which is what some tests are about.
        let _ = writeln!(self.child.stdin.as_mut().unwrap(), "{line}");
        let mut answer = String::new();
        self.out.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).ok()
    }

    fn end(mut self) -> Option<i32> {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().code()
    }
}

fn call(id: u64, marker: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "add_marker", "arguments": {"marker": marker}}}).to_string()
}

#[test]
fn a_script_is_served_over_stdio_and_every_execution_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    let args = [
        "--script",
        "crash-loop",
        "--ledger",
        ledger.to_str().unwrap(),
    ];
    let mut server = Stdio1::start(&folder, &args);
    assert_eq!(server.ask(INITIALIZE).unwrap()["id"], 0);
    for id in 1..=3 {
        assert_eq!(server.ask(&call(id, "m")).unwrap()["id"], id);
    }
    assert_eq!(
        server.ask(&call(4, "n")),
        None,
        "it leaves after three calls"
    );
    assert_eq!(server.end(), Some(1));
    let ledger = fs::read_to_string(ledger).unwrap();
    let count = |word: &str| ledger.lines().filter(|line| line.contains(word)).count();
    assert_eq!(
        (
            count(" spawn "),
            count(" initialize "),
            count(" marker m"),
            count(" marker n")
        ),
        (1, 1, 3, 0),
        "{ledger}"
    );
}

#[test]
fn a_server_behaves_otherwise_in_another_life() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    let args = [
        "--script",
        "dies-in-handshake",
        "--ledger",
        ledger.to_str().unwrap(),
    ];
    for life in 1..=3 {
        let mut server = Stdio1::start(&folder, &args);
        let answered = server.ask(INITIALIZE).is_some();
        assert_eq!(answered, life == 3, "life {life}");
        assert_eq!(server.end(), Some(if life == 3 { 0 } else { 1 }));
    }
    chaos(&["serve", "--stdio", "--script", "dies-in-handshake"])
        .exit(2)
        .says(&["from start to start", "--ledger"]);
}

#[test]
fn a_child_of_a_script_is_a_child_of_this_program() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    let args = [
        "--script",
        "leaves-a-child",
        "--ledger",
        ledger.to_str().unwrap(),
    ];
    let mut server = Stdio1::start(&folder, &args);
    server.ask(INITIALIZE);
    server.ask(&call(1, "a"));
    server.ask(&call(2, "b"));
    assert_eq!(server.end(), Some(0));
    let ledger = fs::read_to_string(ledger).unwrap();
    let child = ledger
        .lines()
        .find_map(|line| line.split_once(" grandchild "))
        .unwrap()
        .1;
    let pid = rustix::process::Pid::from_raw(child.trim().parse().unwrap()).unwrap();
    // It lives, and holds the pipes; it is ours to end.
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_script_is_served_over_http_until_its_stdin_ends() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    let args = [
        "serve",
        "--script",
        "forgets-sessions",
        "--listen",
        "127.0.0.1:0",
        "--lifeline",
        "--ledger",
        ledger.to_str().unwrap(),
    ];
    let mut child = command(folder.path(), &args)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut url)
        .unwrap();
    let address = url
        .trim()
        .strip_prefix("http://")
        .unwrap()
        .strip_suffix("/mcp")
        .unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "POST /mcp HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{INITIALIZE}", INITIALIZE.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("mcp-session-id"), "{answer}");
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let ledger = fs::read_to_string(ledger).unwrap();
    assert!(
        ledger.contains(" spawn ") && ledger.contains(" initialize "),
        "{ledger}"
    );
}

#[test]
fn bad_scripts_and_bad_flags_are_told_with_their_place_and_their_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let mine = folder.path().join("mine.chaos");
    fs::write(
        &mine,
        "# c\nabout: mine\ntransport: stdio\nexit-afer-calls: 3\n",
    )
    .unwrap();
    let mine = mine.to_str().unwrap();
    let place = format!("{mine}:4: ");
    chaos(&["serve", "--stdio", "--script", mine])
        .exit(2)
        .says(&[&place, "did you mean `exit-after-calls`"]);
    chaos(&["serve", "--stdio", "--script", "crash-lop"])
        .exit(6)
        .says(&["crash-loop"]);
    chaos(&["serve", "--stdio", "--script", "honest-http"])
        .exit(2)
        .says(&["for http", "--listen"]);
    chaos(&["serve", "--listen", "127.0.0.1:0", "--script", "crash-loop"])
        .exit(2)
        .says(&["for stdio", "--stdio"]);
    chaos(&["serve", "--listen", "0.0.0.0:0", "--script", "honest-http"])
        .exit(9)
        .says(&["loopback"]);
    chaos(&["serve", "--script", "honest-http"])
        .exit(2)
        .says(&["--stdio|--listen"]);
    chaos(&["run"]).exit(2).says(&["--preset"]);
    chaos(&["run", "--preset", "mainstay", "--only", "nothing*"])
        .exit(6)
        .says(&["chaos list"]);
    chaos(&["run", "--preset", "direct", "--only", "stdio-control"])
        .exit(2)
        .says(&["applies"]);
    chaos(&["run", "--target-command", "gateway"])
        .exit(2)
        .says(&["{config}"]);
    chaos(&["run", "--target-command", "a 'b {config}"])
        .exit(2)
        .says(&["quote"]);
    chaos(&["run", "--target", "https://x/mcp"])
        .exit(2)
        .says(&["plain http"]);
}

#[test]
fn scripts_and_scenarios_are_listed_and_shown() {
    let listed = chaos(&["list", "--json"]).exit(0).json();
    assert!(listed["scripts"].as_array().unwrap().len() >= 30);
    assert!(listed["scenarios"].as_array().unwrap().len() >= 30);
    let table = chaos(&["list"]).exit(0).out;
    assert!(
        table.contains("crash-loop") && table.contains("http-session-lost"),
        "{table}"
    );
    assert!(
        chaos(&["show", "crash-loop"])
            .exit(0)
            .out
            .contains("exit-after-calls: 3")
    );
    assert!(
        chaos(&["show", "stdio-killed-in-call"])
            .exit(0)
            .out
            .contains("runs at most once")
    );
    chaos(&["show", "nothing"]).exit(6);
}
