//! Scripts are read as they are meant, and what makes no sense is told with its place and its remedy.

use std::collections::BTreeSet;

use super::*;
use crate::http_server::{Eras, Fault, GetPolicy, LostDialect};

fn parse(text: &str) -> Result<Chaos, Problem> {
    Chaos::parse("t", "t.chaos", text)
}

fn http(lines: &str) -> (http_server::Script, Vec<Step>) {
    let chaos = parse(&format!("about: a\ntransport: http\n{lines}")).expect("a good script");
    match chaos.server {
        Server::Http { script, steps } => (*script, steps),
        Server::Stdio(_) => panic!("that is no http script"),
    }
}

#[track_caller]
fn refused(text: &str, place: &str, words: &[&str]) {
    let problem = parse(text).expect_err("a bad script");
    assert!(problem.to_string().starts_with(place), "{problem}");
    let told = format!("{problem} {}", problem.hint);
    for word in words {
        assert!(told.contains(word), "{told:?} lacks {word:?}");
    }
}

#[test]
fn every_script_of_the_library_makes_sense_and_every_file_is_in_it() {
    for (name, text) in LIBRARY {
        let chaos =
            Chaos::find(name).unwrap_or_else(|problem| panic!("{problem}: {}", problem.hint));
        assert_eq!((chaos.name.as_str(), chaos.text.as_str()), (*name, *text));
        assert!(
            !chaos.about.ends_with('.') && chaos.about.len() < 100,
            "{name}: {}",
            chaos.about
        );
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().replace(".chaos", ""))
        .collect();
    assert_eq!(
        files,
        names().map(str::to_owned).collect(),
        "the list in library.rs is stale"
    );
    let both = |transport| {
        let of = |name| Chaos::find(name).is_ok_and(|chaos| chaos.transport == transport);
        names().filter(|name| of(name)).count()
    };
    assert!(LIBRARY.len() >= 30 && both(Transport::Stdio) >= 12 && both(Transport::Http) >= 12);
}

#[test]
fn stdio_settings_are_flags_and_lives_differ() {
    let chaos = parse(
        "# c\nabout: a\nfaults: F1, F2\ntransport: stdio\n\nexit-code: 3\nlife 1-2 exit-at: initialize\nlife 4- ignore-term: yes\nlife 3 era: both\n",
    )
    .expect("a good script");
    assert_eq!(chaos.faults, ["F1", "F2"]);
    let Server::Stdio(lives) = chaos.server else {
        panic!("that is a stdio script")
    };
    assert!(!lives.are_alike());
    let early = ["--exit-code", "3", "--exit-at", "initialize"];
    assert_eq!(lives.flags(1), early);
    assert_eq!(lives.flags(2), early);
    assert_eq!(lives.flags(3), ["--exit-code", "3", "--era", "both"]);
    assert_eq!(lives.flags(4), ["--exit-code", "3", "--ignore-term"]);
    assert_eq!(lives.flags(9), lives.flags(4));
}

#[test]
fn http_settings_are_members_of_the_servers_own_script() {
    let (script, steps) = http(
        "eras: legacy\nlost: bad-request\nsessions: no\npage-size: 2\nget-retry-ms: 9\nextra-tools: a b\nversion: 2025-06-18\nheaders: X-Env=a\nget: not-allowed\nevery 3 calls: forget-sessions\nafter 20 ms: restart 1000\n",
    );
    assert_eq!(
        (script.eras, script.lost, script.sessions),
        (Eras::Legacy, LostDialect::BadRequest, false)
    );
    assert_eq!(
        (script.page_size, script.get_retry_ms, script.get),
        (2, Some(9), GetPolicy::NotAllowed)
    );
    assert_eq!(
        (script.extra_tools.len(), script.version.as_deref()),
        (2, Some("2025-06-18"))
    );
    assert_eq!(script.headers["X-Env"], "a");
    let step = |when, again, action| Step {
        when,
        again,
        action,
    };
    assert_eq!(
        steps,
        [
            step(When::Calls(3), true, Action::ForgetSessions),
            step(When::Ms(20), false, Action::Restart(1000)),
        ]
    );
}

#[test]
fn http_faults_are_planned_in_order() {
    let (script, _) = http(
        "on tools/call 2 times: pass\non any: status status=503 Retry-After=2 body={\"id\": $ID}\non initialize always: resume retry-ms=50 twice=true\non GET 2 times: reset\non GET always: text\n",
    );
    let planned: Vec<_> = script
        .plan
        .iter()
        .map(|plan| (plan.method.as_deref(), plan.times, plan.fault.clone()))
        .collect();
    let unavailable = Fault::Status {
        status: 503,
        headers: vec![("Retry-After".to_owned(), "2".to_owned())],
        body: "{\"id\": $ID}".to_owned(),
    };
    let resume = Fault::Resume {
        retry_ms: 50,
        twice: true,
        empty: false,
    };
    assert_eq!(
        planned,
        [
            (Some("tools/call"), 2, Fault::Pass),
            (None, 1, unavailable),
            (Some("initialize"), u64::MAX, resume),
        ]
    );
    assert_eq!((script.get, script.get_plan.len()), (GetPolicy::Text, 2));
}

#[test]
fn what_makes_no_sense_is_told_with_its_line_and_its_remedy() {
    let head = "about: a\ntransport: stdio\n";
    let line = |line: &str| format!("{head}{line}\n");
    refused(
        &line("exit-afer-calls: 3"),
        "t.chaos:3: ",
        &["exit-afer-calls", "did you mean `exit-after-calls`"],
    );
    refused(
        &line("exit-after-calls: three"),
        "t.chaos:3: ",
        &["number", "three"],
    );
    refused(
        &line("exit-at: lunch"),
        "t.chaos:3: ",
        &["start, initialize, list or call"],
    );
    refused(&line("ignore-term: 1"), "t.chaos:3: ", &["write `yes`"]);
    refused(
        &line("life 0 ignore-term: yes"),
        "t.chaos:3: ",
        &["first start is life 1"],
    );
    refused(
        &line("nonsense"),
        "t.chaos:3: ",
        &["no colon", "KEY: VALUE"],
    );
    refused(&line("on GET: reset"), "t.chaos:3: ", &["transport: http"]);
    refused("transport: stdio", "t.chaos: ", &["about"]);
    refused("about: a", "t.chaos: ", &["transport"]);
    refused(
        "about: a\nfaults: 62\ntransport: stdio",
        "t.chaos:2: ",
        &["F62"],
    );
    refused(
        "about: a\ntransport: pigeon",
        "t.chaos:2: ",
        &["pigeon", "stdio, http or sse"],
    );
}

#[test]
fn what_makes_no_sense_in_an_http_script_is_told_in_the_words_of_scripts() {
    let line = |line: &str| format!("about: a\ntransport: http\n{line}\n");
    refused(
        &line("frame: sse"),
        "t.chaos:3: ",
        &["did you mean `framing`"],
    );
    refused(
        &line("framing: morse"),
        "t.chaos:3: ",
        &["morse", "sse-byte-by-byte"],
    );
    refused(&line("sessions: maybe"), "t.chaos:3: ", &["yes or no"]);
    refused(
        &line("on tools/call: explode"),
        "t.chaos:3: ",
        &["explode", "never-answer"],
    );
    refused(&line("on tools/call 2: pass"), "t.chaos:3: ", &["3 times"]);
    refused(
        &line("on GET: sing"),
        "t.chaos:3: ",
        &["sing", "not-allowed"],
    );
    refused(
        &line("every 0 calls: forget-sessions"),
        "t.chaos:3: ",
        &["above zero"],
    );
    refused(
        &line("after lunch: forget-sessions"),
        "t.chaos:3: ",
        &["after 3 calls"],
    );
    refused(
        &line("after 3 calls: explode"),
        "t.chaos:3: ",
        &["restart MS"],
    );
}

#[test]
fn a_script_of_ones_own_is_found_by_its_path_and_a_wrong_name_gets_a_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.chaos");
    std::fs::write(&path, "about: mine\ntransport: stdio\nexit-at: lunch\n").expect("written");
    let path = path.display().to_string();
    let problem = Chaos::find(&path).expect_err("a bad script");
    assert!(
        problem.to_string().starts_with(&format!("{path}:3: ")),
        "{problem}"
    );
    let problem = Chaos::find("crash-lop").expect_err("no such script");
    assert!(problem.hint.contains("`crash-loop`"), "{}", problem.hint);
}
