//! What was recorded, on the command line: `events`, `calls`, `logs`, and how they go on when Mainstay is restarted.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::Value;

use super::{Ended, User, kill_process, pid, running, wait_until};

/// A command that goes on printing; killed when the test ends in any way.
struct Following {
    child: Child,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
}

impl Following {
    fn start(user: &User, args: &[&str]) -> Self {
        let mut child = user
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = collect(child.stdout.take().unwrap());
        let err = collect(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    fn out(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    #[track_caller]
    fn prints(&self, part: &str) {
        let what = format!("{part:?} in {}", self.out());
        wait_until(&what, || self.out().contains(part));
    }

    #[track_caller]
    fn notes(&self, part: &str) {
        wait_until(part, || self.err.lock().unwrap().contains(part));
    }

    /// Ctrl-C, and a good end.
    #[track_caller]
    fn interrupted(mut self) -> String {
        kill_process(pid(u64::from(self.child.id())), Signal::INT).unwrap();
        wait_until("the end", || self.child.try_wait().unwrap().is_some());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        self.out()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn collect(stream: impl std::io::Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let kept = text.clone();
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while matches!(stream.read_line(&mut line), Ok(1..)) {
            kept.lock().unwrap().push_str(&line);
            line.clear();
        }
    });
    text
}

/// One JSON document per line.
#[track_caller]
fn documents(text: &str) -> Vec<Value> {
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(parse).collect()
}

#[test]
fn f235_events_tell_what_happened_to_whom_and_go_on_when_mainstay_is_restarted() {
    let (user, serving) = running();
    let following = Following::start(&user, &["events", "--follow", "--server", "demo"]);
    following.prints("demo  connecting -> connected, generation 1");
    kill_process(
        pid(user.server("demo")["pid"].as_u64().unwrap()),
        Signal::KILL,
    )
    .unwrap();
    following.prints("connecting -> connected, generation 2");
    let past = user.run(&["events", "--server", "demo", "--json"]).exit(0);
    let events = documents(&past.out);
    assert!(
        events.iter().all(|event| event["server"] == "demo"),
        "{past:#?}"
    );
    assert!(
        events.iter().any(|event| event["to"] == "backoff"
            && event["detail"].as_str().unwrap().contains("signal 9")),
        "{past:#?}"
    );
    let last = user.run(&["events", "-n", "1", "--json"]).exit(0);
    assert_eq!(documents(&last.out).len(), 1);
    let since = user.run(&["events", "--since", "10m"]).exit(0);
    assert!(
        since
            .out
            .contains("demo  connected -> draining, generation 1: ended by signal 9"),
        "{since:#?}"
    );
    // Killed, not stopped: nobody says goodbye.
    serving.signal(Signal::KILL);
    serving.ended();
    following.notes("the running Mainstay has ended; waiting");
    let before = following.out().len();
    let _again = user.serve(&[]);
    following.notes("Mainstay is back after");
    wait_until("the events of the new one", || {
        following.out()[before..].contains("connecting -> connected, generation 1")
    });
    let all = following.interrupted();
    assert!(!all.contains("chatty"), "{all}");
    // What happened before the restart is no longer in memory, but in the journal.
    let since = user
        .run(&["events", "--since", "10m", "--server", "demo"])
        .exit(0);
    assert!(
        since
            .out
            .contains("connected -> draining, generation 1: ended by signal 9"),
        "{since:#?}"
    );
    assert_eq!(
        since
            .out
            .matches("connecting -> connected, generation 1")
            .count(),
        2,
        "{since:#?}"
    );
    let lines: Vec<&str> = all
        .lines()
        .filter(|line| line.contains("connected -> draining, generation 1"))
        .collect();
    assert_eq!(lines.len(), 1, "told once, whatever came again: {all}");
}

#[test]
fn law_19_calls_tell_who_what_how_and_how_long() {
    let (user, _serving) = running();
    let following = Following::start(
        &user,
        // Since before it began, so that it does not matter which of the processes is quicker.
        &["calls", "-f", "--since", "5m", "--json", "--tool", "add"],
    );
    user.run(&["call", "demo", "add", r#"{"a":40,"b":2}"#])
        .exit(0);
    user.run(&[
        "call",
        "demo",
        "echo",
        r#"{"text":"x","marker":"two\nlines"}"#,
    ])
    .exit(20);
    user.run(&["disable", "chatty"]).exit(0);
    user.run(&["call", "chatty", "add", "{}"]).exit(22);
    following.prints("refused");
    let told = documents(&following.interrupted());
    let gist: Vec<(&str, &str)> = told
        .iter()
        .map(|call| {
            (
                call["server"].as_str().unwrap(),
                call["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(gist, [("demo", "answered"), ("chatty", "refused")]);
    assert!(
        told[0]["servedMs"].is_u64() && told[0]["queuedMs"].is_u64(),
        "{told:#?}"
    );
    assert!(
        told.iter().all(|call| call["arguments"].is_null()),
        "{told:#?}"
    );
    let failed = user
        .run(&["calls", "--outcome", "tool-error", "--outcome", "refused"])
        .exit(0);
    let rows: Vec<&str> = failed.out.lines().skip(1).collect();
    assert_eq!(rows.len(), 2, "{failed:#?}");
    assert!(
        rows[0].contains("tool error") && rows[1].contains("refused"),
        "{failed:#?}"
    );
    let none = user
        .run(&["calls", "--server", "demo", "--tool", "nothing"])
        .exit(0);
    assert_eq!(
        (none.out.as_str(), none.err.contains("no such call")),
        ("", true),
        "{none:#?}"
    );
    // The same calls are in the picture of the server.
    let page = user.run(&["status", "demo"]).exit(0);
    for part in [
        "failures      1 tool",
        "last calls    ",
        "add, answered in",
        "echo, tool error in",
    ] {
        assert!(page.out.contains(part), "{part:?} is missing: {page:#?}");
    }
}

#[test]
fn logs_of_several_have_names_and_go_on_when_mainstay_is_restarted() {
    let (user, serving) = running();
    let all = user.run(&["logs"]).exit(0);
    assert_eq!(all.out, "chatty | one\nchatty | two\n");
    let two = user
        .run(&["logs", "demo", "chatty", "-n", "1", "--json"])
        .exit(0);
    assert_eq!(
        documents(&two.out),
        [serde_json::json!({ "server": "chatty", "line": "two" })]
    );
    let following = Following::start(&user, &["logs", "-f", "-n", "1"]);
    following.prints("chatty | two\n");
    serving.signal(Signal::TERM);
    serving.ended().exit(0);
    following.notes("waiting for it to come back");
    let _again = user.serve(&[]);
    following.prints("chatty | two\nchatty | one\nchatty | two\n");
    following.interrupted();
}

#[test]
fn watched_status_prints_blocks_and_documents_where_there_is_no_terminal() {
    let (user, _serving) = running();
    let blocks = Following::start(&user, &["status", "--watch"]);
    let lines = Following::start(&user, &["status", "demo", "--watch", "--json"]);
    blocks.prints("2 servers: 2 connected");
    lines.prints("\"generation\":1");
    kill_process(
        pid(user.server("demo")["pid"].as_u64().unwrap()),
        Signal::KILL,
    )
    .unwrap();
    wait_until("the next generation", || {
        let documents = documents(&lines.out());
        documents.last().is_some_and(|last| {
            last["status"]["generation"] == 2 && last["status"]["state"] == "connected"
        })
    });
    wait_until("the next block", || {
        blocks.out().matches("SERVER").count() > 1
    });
    let text = blocks.interrupted();
    assert!(!text.contains('\x1b'), "{text}");
    lines.interrupted();
}

#[test]
fn times_and_names_that_make_no_sense_are_told_with_their_remedy() {
    let (user, _serving) = running();
    for command in ["events", "calls"] {
        user.run(&[command, "--since", "soon"]).exit(2).says(&[
            "`soon` is no time",
            "hint:",
            "--since 10m",
        ]);
        user.run(&[command, "--server", "nobody"])
            .exit(6)
            .says(&["nobody", "chatty"]);
    }
    user.run(&["calls", "--outcome", "good"])
        .exit(2)
        .says(&["tool-error"]);
    user.run(&["logs", "demo", "nobody"])
        .exit(6)
        .says(&["nobody"]);
    let nobody = User::new();
    for command in [
        &["events"][..],
        &["calls", "-f"],
        &["logs"],
        &["status", "--watch"],
    ] {
        let ended: Ended = nobody.run(command).exit(5);
        ended.says(&["no Mainstay is running", "hint:"]);
    }
}
