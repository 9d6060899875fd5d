//! `chaos run` against Mainstay, against proxies that heal nothing, and against nothing.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::naive;
use crate::support::{Ended, chaos, command, processes_of, wait_until};

/// Runs these scenarios and returns the verdict on each, with the notes.
fn verdicts(ended: &Ended) -> BTreeMap<String, (String, String)> {
    let report: Value = ended.json();
    let scenarios = report["scenarios"].as_array().unwrap().iter();
    scenarios
        .map(|scenario| {
            let text = |key: &str| scenario[key].as_str().unwrap().to_owned();
            (
                text("name"),
                (text("verdict"), scenario["notes"].to_string()),
            )
        })
        .collect()
}

fn run(target: &[&str], scenarios: &[&str]) -> Ended {
    let mut args = vec!["run", "--json"];
    args.extend(target);
    for scenario in scenarios {
        args.extend(["--only", scenario]);
    }
    chaos(&args)
}

#[track_caller]
fn assert_verdicts(ended: &Ended, wanted: &[(&str, &str)]) {
    let verdicts = verdicts(ended);
    assert_eq!(verdicts.len(), wanted.len(), "{ended:#?}");
    for (name, verdict) in wanted {
        let (found, notes) = &verdicts[*name];
        assert_eq!(found, verdict, "{name}: {notes}");
    }
}

#[test]
fn f60_f66_f70_mainstay_survives_what_happens_to_processes() {
    let scenarios = [
        "stdio-control",
        "stdio-killed-idle",
        "stdio-killed-in-call",
        "stdio-crash-loop",
        "stdio-dies-in-handshake",
        "stdio-closes-stdout",
        "stdio-child-holds-pipes",
        "stdio-launcher",
        "stdio-will-not-leave",
        "stdio-target-killed",
        "neighbour-silent-stdio",
    ];
    let ended = run(&["--preset", "mainstay"], &scenarios).exit(0);
    assert_verdicts(&ended, &scenarios.map(|name| (name, "survived")));
    assert_eq!(ended.err, "", "one object and nothing else");
}

#[test]
fn f87_f105_mainstay_survives_what_happens_to_http_servers() {
    let scenarios = [
        "http-control",
        "http-stateless-control",
        "http-redeployed",
        "http-redeployed-in-call",
        "http-late",
        "http-session-lost-together",
        "http-session-lost-400",
        "http-connection-dropped",
        "http-stream-breaks",
        "http-push-flaps",
        "http-push-resets",
    ];
    let ended = run(&["--preset", "mainstay"], &scenarios).exit(0);
    assert_verdicts(&ended, &scenarios.map(|name| (name, "survived")));
}

#[test]
fn a_relay_that_heals_nothing_is_found_out() {
    let wanted = [
        ("stdio-control", "survived"),
        ("http-control", "survived"),
        ("stdio-killed-idle", "lost-tools"),
        ("stdio-crash-loop", "lost-tools"),
        ("stdio-killed-in-call", "lost-tools"),
        ("stdio-target-killed", "leaked-process"),
        ("stdio-will-not-leave", "leaked-process"),
        ("http-session-lost", "lost-tools"),
        ("http-connection-dropped", "failed-call"),
        ("http-stream-breaks", "failed-call"),
    ];
    let target = naive::command("relay");
    let ended = run(
        &["--target-command", &target],
        &wanted.map(|(name, _)| name),
    )
    .exit(50);
    assert_verdicts(&ended, &wanted);
}

#[test]
fn law_16_a_proxy_that_sends_again_is_caught_executing_twice() {
    let wanted = [
        ("stdio-control", "survived"),
        ("stdio-killed-in-call", "executed-twice"),
        ("http-ran-then-404", "executed-twice"),
    ];
    let target = naive::command("retry");
    let ended = run(
        &["--target-command", &target],
        &wanted.map(|(name, _)| name),
    )
    .exit(50);
    assert_verdicts(&ended, &wanted);
    let scenarios = ended.json()["scenarios"].clone();
    let caught = scenarios
        .as_array()
        .unwrap()
        .iter()
        .find(|scenario| scenario["name"] == "stdio-killed-in-call")
        .unwrap()
        .clone();
    assert!(
        caught["executions"].as_u64() > caught["calls"].as_u64(),
        "{caught:#}"
    );
}

#[test]
fn without_a_gateway_little_is_survived_and_scenarios_that_do_not_apply_are_left_out() {
    let ended = run(
        &["--preset", "direct"],
        &["http-control", "http-session-lost", "stdio-control"],
    )
    .exit(50);
    assert_verdicts(
        &ended,
        &[
            ("http-control", "survived"),
            ("http-session-lost", "lost-tools"),
        ],
    );
    assert_eq!(ended.json()["notApplicable"], 1);
}

#[test]
fn a_target_that_does_not_serve_is_told_with_its_last_words() {
    let target = "sh -c 'echo no such luck >&2; exit 3' {config}";
    let ended = run(&["--target-command", target], &["stdio-control"]).exit(51);
    let (verdict, notes) = &verdicts(&ended)["stdio-control"];
    assert_eq!(verdict, "no-target");
    assert!(
        notes.contains("no such luck") && notes.contains("exit status: 3"),
        "{notes}"
    );
    chaos(&[
        "run",
        "--target-command",
        "/nowhere/at/all {config}",
        "--only",
        "stdio-control",
    ])
    .exit(51)
    .says(&["/nowhere/at/all", "--target-command"]);
}

#[test]
fn law_6_an_interrupted_run_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = command(
        temporary.path(),
        &[
            "run", "--preset", "mainstay", "--only", "stdio-*", "--jobs", "8",
        ],
    )
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("[1/"));
    assert!(
        !processes_of(temporary.path()).is_empty(),
        "how processes are found does not work here"
    );
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(lines.last().unwrap().contains("interrupted"));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    wait_until("the end of every process", || {
        processes_of(temporary.path()).is_empty()
    });
}

#[test]
fn a_target_that_runs_already_gets_its_configuration_and_is_tested() {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (work, url) = (
        folder.path().join("work"),
        format!("http://127.0.0.1:{port}/mcp"),
    );
    let mut run = command(
        folder.path(),
        &[
            "run",
            "--json",
            "--target",
            &url,
            "--workdir",
            work.to_str().unwrap(),
            "--only",
            "stdio-killed-idle",
            "--only",
            "http-session-lost",
        ],
    )
    .spawn()
    .unwrap();
    let mut told = String::new();
    BufReader::new(run.stderr.as_mut().unwrap())
        .read_line(&mut told)
        .unwrap();
    let config = work.join("mcp.json");
    assert!(told.contains("mcp.json") && config.exists(), "{told}");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut target = std::process::Command::new(crate::support::MAINSTAY)
        .args([
            "serve",
            "--config",
            config.to_str().unwrap(),
            "--listen",
            &format!("127.0.0.1:{port}"),
        ])
        .args(["--socket", &path("socket"), "--state-dir", &path("state")])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let output = run.wait_with_output().unwrap();
    let pid = Pid::from_raw(i32::try_from(target.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    target.wait().unwrap();
    let ended = Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
    .exit(0);
    assert_verdicts(
        &ended,
        &[
            ("stdio-killed-idle", "survived"),
            ("http-session-lost", "survived"),
        ],
    );
}
