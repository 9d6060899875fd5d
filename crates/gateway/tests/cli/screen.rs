//! What people see in a terminal: `status`, `status --watch`, `top`, and starts that take long. With real servers, killed.

use rustix::process::Signal;
use serde_json::json;

use super::pty::Pty;
use super::{MAINSTAY, User, demo_server, kill_process, pid, running, wait_until};

/// A server that takes its time and talks about it, as package runners do, until the file is there.
fn runner(go: &std::path::Path) -> serde_json::Value {
    let script = "echo 'fetching 3 of 8' >&2; while [ ! -e \"$1\" ]; do sleep 0.1; done; exec \"$0\" demo-server stdio";
    json!({ "command": "sh", "args": ["-c", script, MAINSTAY, go] })
}

#[test]
fn status_fits_every_terminal_and_is_coloured_only_where_colour_is_wanted() {
    let (user, _serving) = running();
    for (columns, has, lacks) in [
        (40, "SINCE", "MEMORY"),
        (80, "CALLS", "PROTOCOL"),
        (200, "legacy 2025-11-25", "…"),
    ] {
        let pty = Pty::start(&user, &["status"], (columns, 50));
        pty.shows(&["2 servers: 2 connected", "demo", has]);
        let raw = pty.raw();
        let text = pty.ended(0);
        assert!(!text.contains(lacks), "{text}");
        assert!(raw.contains("\x1b["), "a terminal gets colour: {raw:?}");
        // A line that is too long would go on on the next: there are no more lines than were written.
        let lines = text.lines().filter(|line| !line.is_empty()).count();
        assert_eq!(lines, raw.trim_end().lines().count(), "{text}");
    }
    let pty = Pty::start(&user, &["status", "--color", "never"], (80, 50));
    pty.shows(&["2 servers: 2 connected"]);
    assert!(!pty.raw().contains("\x1b["), "{:?}", pty.raw());
    let piped = user.run(&["status"]).exit(0);
    assert!(
        !piped.out.contains("\x1b[") && !piped.out.contains('…'),
        "{piped:#?}"
    );
    assert!(
        piped.out.contains("legacy 2025-11-25"),
        "piped, no column is left out: {piped:#?}"
    );
}

#[test]
fn f235_watched_status_shows_a_killed_server_in_place_and_gives_the_terminal_back() {
    let (user, _serving) = running();
    let mut pty = Pty::start(&user, &["status", "--watch"], (120, 30));
    pty.shows(&["demo", "connected", "2 servers: 2 connected"]);
    let server = user.server("demo");
    kill_process(pid(server["pid"].as_u64().unwrap()), Signal::KILL).unwrap();
    pty.shows(&["ended by signal 9"]);
    assert_eq!(
        pty.text().matches("SERVER").count(),
        1,
        "drawn in place:\n{}",
        pty.text()
    );
    pty.resize(40, 12);
    wait_until("the narrow page", || {
        let text = pty.text();
        text.contains("SERVER") && !text.contains("PROTOCOL")
    });
    pty.press("\x03");
    let left = pty.ended(0);
    assert!(left.contains("SERVER"), "what was seen last stays: {left}");
}

#[test]
fn top_shows_a_killed_server_outlives_mainstay_and_gives_the_terminal_back() {
    let (user, serving) = running();
    let mut pty = Pty::start(&user, &["top"], (120, 30));
    pty.shows(&["2 servers: 2 connected", "chatty: connected", "? keys"]);
    // Down to the second server, its log, then its events after it was killed.
    pty.press("G");
    pty.shows(&["of demo"]);
    let server = user.server("demo");
    kill_process(pid(server["pid"].as_u64().unwrap()), Signal::KILL).unwrap();
    pty.press("2");
    pty.shows(&[
        "connected -> draining",
        "ended by signal 9",
        "connecting -> connected, generation 2",
    ]);
    pty.press("g3");
    pty.shows(&["of chatty", "one", "two"]);
    // An order that hurts asks first; then it is given.
    pty.press("d");
    pty.shows(&["disable `chatty`? y/n"]);
    pty.press("x");
    pty.shows(&["left as it is"]);
    assert_eq!(user.server("chatty")["state"], "connected");
    pty.press("dy");
    pty.shows(&["server `chatty` is disabled"]);
    // Its process goes in its own time.
    wait_until("it is gone", || {
        user.server("chatty")["state"] == "disabled"
    });
    user.run(&["call", "demo", "add", r#"{"a":1,"b":2}"#])
        .exit(0);
    pty.press("4");
    pty.shows(&["OUTCOME", "add", "answered"]);
    pty.resize(40, 10);
    pty.shows(&["SERVER", "demo"]);
    pty.resize(120, 30);
    serving.signal(Signal::KILL);
    serving.ended();
    pty.shows(&["no Mainstay is running", "demo"]);
    let _again = user.serve(&[]);
    pty.shows(&["2 servers: 2 connected"]);
    pty.signal(Signal::TERM);
    pty.ended(0);
}

#[test]
fn top_leaves_on_its_keys_and_needs_a_terminal_and_a_mainstay() {
    let user = User::new();
    user.run(&["top"])
        .exit(2)
        .says(&["needs a terminal", "hint:", "status --watch"]);
    let pty = Pty::start(&user, &["top"], (80, 24));
    pty.shows(&["no Mainstay is running", "hint:"]);
    pty.ended(5);
    let (user, _serving) = running();
    for keys in ["q", "\x03"] {
        let mut pty = Pty::start(&user, &["top"], (80, 24));
        pty.shows(&["? keys"]);
        pty.press("?");
        pty.shows(&["restart the server"]);
        pty.press(keys);
        if keys == "q" {
            // Any key closes the help.
            pty.press("q");
        }
        pty.ended(0);
    }
}

#[test]
fn a_start_that_takes_long_is_seen_with_the_last_words_of_its_runner() {
    let user = User::new();
    let go = user.path("go");
    user.config(json!({ "mcpServers": {
        "demo": demo_server(),
        "runner": runner(&go),
    } }));
    let pty = Pty::start(
        &user,
        &["serve", "--listen", "127.0.0.1:0", "--log-level", "warn"],
        (100, 20),
    );
    pty.shows(&[
        "mainstay: 2 servers",
        "runner  greet, ",
        "s: fetching 3 of 8",
    ]);
    // A call that waits for it shows it, too.
    let mut call = Pty::start(
        &user,
        &["call", "runner", "add", r#"{"a":40,"b":2}"#],
        (100, 20),
    );
    call.shows(&["runner  greet, ", "fetching 3 of 8"]);
    std::fs::write(&go, "").unwrap();
    call.shows(&["42"]);
    assert!(
        !call.text().contains("fetching"),
        "nothing of it is left:\n{}",
        call.text()
    );
    call.press("");
    call.ended(0);
    pty.shows(&["2 servers up after"]);
    assert!(
        !pty.text().contains("fetching"),
        "nothing of it is left:\n{}",
        pty.text()
    );
    pty.signal(Signal::TERM);
    let left = pty.ended(0);
    assert!(left.contains("mainstay: stopped"), "{left}");
}

#[test]
fn without_a_terminal_a_start_is_told_in_lines_and_not_at_all_beside_json() {
    let user = User::new();
    let go = user.path("go");
    user.config(json!({ "mcpServers": { "runner": runner(&go) } }));
    for (format, told) in [("text", true), ("json", false)] {
        let _new = std::fs::remove_file(&go);
        let serving = user.serve(&["--log-format", format, "--log-level", "error"]);
        // Longer than the patience of whoever tells it: the status says for how long it has been starting.
        wait_until("a start that takes long", || {
            user.server("runner")["progress"]["sinceMs"].as_u64() > Some(4_500)
        });
        std::fs::write(&go, "").unwrap();
        wait_until("the server", || {
            user.server("runner")["state"] == "connected"
        });
        // The summary comes with the next look; the end of Mainstay ends the looking.
        if told {
            serving.hears("1 server up after");
        }
        serving.signal(Signal::TERM);
        let ended = serving.ended().exit(0);
        let says = ended.err.contains("runner: greet, ") && ended.err.contains("fetching 3 of 8");
        assert_eq!(says, told, "{ended:#?}");
        assert!(!ended.err.contains('\x1b'), "{ended:#?}");
    }
}
