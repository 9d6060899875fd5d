//! The demo, run as people run it: it must prove what it claims, and leave nothing behind however it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(90);

/// The demo with a temporary directory of its own, by whose name its processes are known.
fn demo(temporary: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command
        .arg("demo")
        .args(args)
        .env("TMPDIR", temporary)
        .stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The command lines of all processes that name this directory.
fn processes_of(temporary: &Path) -> Vec<String> {
    let listed = Command::new("ps")
        .args(["-A", "-ww", "-o", "pid=,args="])
        .output()
        .unwrap();
    let name = temporary.display().to_string();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    text.lines()
        .filter(|line| line.contains(&name))
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(
        Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(),
        signal,
    )
    .unwrap();
}

#[test]
fn law_16_everything_breaks_everything_comes_back_and_nothing_runs_twice() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(temporary.path(), &["--seconds", "20", "--json"])
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    assert_eq!(
        (out.lines().count(), err.as_str()),
        (1, ""),
        "one object and nothing else: {out}\n{err}"
    );
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["executedTwice"], 0, "{report:#}");
    assert_eq!(report["answeredNotExecuted"], 0, "{report:#}");
    assert_eq!(report["notRecovered"], 0, "{report:#}");
    assert!(
        report["calls"]["answered"].as_u64() > Some(100),
        "{report:#}"
    );
    // Whatever happens to a server, the gateway answers, and a failure is never put in the server's mouth.
    for impossible in ["noAnswer", "toolError", "serverError"] {
        assert_eq!(report["calls"]["failed"][impossible], 0, "{report:#}");
    }
    for (server, kind) in [
        ("stdio", "kill"),
        ("sessions", "restart"),
        ("stateless", "restart"),
        ("stdio", "hang"),
        ("sessions", "hang"),
        ("stateless", "hang"),
    ] {
        let servers = report["servers"].as_array().unwrap();
        let breaks = &servers
            .iter()
            .find(|entry| entry["name"] == server)
            .unwrap()["breaks"];
        let found = breaks
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["break"] == kind)
            .unwrap();
        // It was really broken: a frozen or absent HTTP server answers nobody, a stdio server is another process now.
        let broken_ms = match (server, kind) {
            ("stdio", _) => 0,
            (_, "hang") => 2_500,
            _ => 500,
        };
        assert!(
            found["recoveredMs"].as_u64() >= Some(broken_ms),
            "{server} {kind}: {report:#}"
        );
        let grew = found["generationAfter"].as_u64() > found["generationBefore"].as_u64();
        assert!(grew || server != "stdio", "{server} {kind}: {report:#}");
    }
    assert_eq!(processes_of(temporary.path()), Vec::<String>::new());
    assert_eq!(
        temporary.path().read_dir().unwrap().count(),
        0,
        "the temporary directory is not empty"
    );
}

#[test]
fn law_6_an_interrupted_demo_counts_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = demo(temporary.path(), &["--seconds", "600"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let broken = lines
        .by_ref()
        .map(Result::unwrap)
        .find(|line| line.contains("break"));
    assert!(broken.is_some_and(|line| line.contains("stdio") && !line.contains('\x1b')));
    assert!(
        !processes_of(temporary.path()).is_empty(),
        "how processes are found does not work here"
    );
    signal(&child, Signal::INT);
    let last = lines.map(Result::unwrap).last().unwrap();
    assert!(last.contains("0 executed twice"), "{last}");
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
    assert_eq!(processes_of(temporary.path()), Vec::<String>::new());
    assert_eq!(
        temporary.path().read_dir().unwrap().count(),
        0,
        "the temporary directory is not empty"
    );
}

#[test]
fn law_29_a_killed_demo_takes_its_servers_along_even_frozen_ones() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = demo(temporary.path(), &["--seconds", "600"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    lines
        .find(|line| line.contains("connecting -> connected"))
        .unwrap();
    wait_until("three servers", || {
        processes_of(temporary.path()).len() == 3
    });
    let servers = processes_of(temporary.path());
    let frozen = servers
        .iter()
        .find(|line| line.contains("http-stateless"))
        .unwrap();
    let pid = frozen.split_whitespace().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    wait_until("the end of every server", || {
        processes_of(temporary.path()).is_empty()
    });
}
