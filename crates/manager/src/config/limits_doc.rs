//! `docs/limits.md`: every limit, its default, its setting, and what happens when it is exceeded. The table is here; the
//! defaults are those of the schema, and the fixed numbers are read from the sources.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::schema::{json_schema, tests::check_in};

/// A limit that is a setting.
struct Row {
    /// Its path; a server's own keys have no prefix, and stand under `mainstay.defaults` too.
    key: &'static str,
    /// What happens when it is exceeded: to the call concerned, and to everything else.
    exceeded: &'static str,
    /// Where it is counted: a counter of the server's status, an event, or both.
    counted: &'static str,
}

const fn row(key: &'static str, exceeded: &'static str, counted: &'static str) -> Row {
    Row {
        key,
        exceeded,
        counted,
    }
}

const SIZES: &[Row] = &[
    row(
        "mainstay.limits.messageBytes",
        "The rest of the message is skipped, its id is looked for meanwhile. The call it answers ends as *unknown* with the \
         size and the limit; without an id all calls in flight on a stdio server do. A request of the server is answered with \
         an error. A client's request is answered with an error (HTTP 413). The connection stands.",
        "`oversized`, event `limitExceeded`",
    ),
    row(
        "mainstay.limits.eventBytes",
        "The same, for one event of a stream.",
        "`oversized`, event `limitExceeded`",
    ),
    row(
        "mainstay.limits.depth",
        "The same, for the nesting of a message.",
        "`oversized`, event `limitExceeded`",
    ),
    row(
        "mainstay.limits.pages",
        "The listing fails; the last good catalog stays.",
        "failure `listing-failed` in status and events",
    ),
    row(
        "mainstay.limits.stderrBytes",
        "The oldest bytes are forgotten; stderr is read on, so the server never waits.",
        "the first line shown begins with `…`",
    ),
];

const QUEUES: &[Row] = &[
    row(
        "concurrency",
        "The call waits, within its patience (`edgePatienceMs`), then it is *refused*: nothing was sent.",
        "`refused`",
    ),
    row(
        "connections.max",
        "The one that was idle longest makes room; if none is idle, the call is *refused*: nothing was sent.",
        "`refused`, event `limitExceeded`",
    ),
    row(
        "connections.perUser",
        "The user's own one that was idle longest makes room; if none is idle, the call is *refused*: nothing was sent.",
        "`refused`",
    ),
    row(
        "connections.callsPerUser",
        "The call waits, within its patience (`edgePatienceMs`), then it is *refused*: nothing was sent. Nobody else waits.",
        "`refused`",
    ),
    row(
        "connections.lanes",
        "The call waits for its turn, within its deadline, then it is *refused*: nothing was sent.",
        "`refused`",
    ),
    row(
        "mainstay.limits.queuedLines",
        "The call waits for room within its own deadline, then it is *refused*: nothing was sent.",
        "`refused`",
    ),
    row(
        "mainstay.limits.notices",
        "A cancel notice, or our answer to a request of the server, is dropped. Calls are not concerned.",
        "`noticesLost`, event `limitExceeded`",
    ),
    row(
        "mainstay.limits.events",
        "The oldest event is forgotten; a listener that is further behind is told how many it missed. Of calls, four times as \
         many are kept.",
        "the listener is told",
    ),
    row(
        "mainstay.journal.bytes",
        "The oldest file of the journal is removed.",
        "the first record that is left",
    ),
    row(
        "mainstay.journal.files",
        "The same.",
        "the first record that is left",
    ),
    row(
        "mainstay.limits.sessions",
        "The session that was idle longest makes room if it was idle for a minute; otherwise the new one is refused (HTTP 503).",
        "the client is told",
    ),
    row(
        "mainstay.limits.subscriptions",
        "Subscribing to a further resource is refused, with the setting.",
        "the program that embeds Mainstay is told",
    ),
    row(
        "mainstay.startGate",
        "The start waits; its deadlines begin when it is let through.",
        "phase `queued` in the status",
    ),
];

const RATES: &[Row] = &[
    row(
        "mainstay.limits.noiseLines",
        "Nothing: noise is always skipped and never answered. From here on it is an event and a warning with a sample.",
        "`noise`, event `limitExceeded`",
    ),
    row(
        "mainstay.limits.parked",
        "The call ends with an error (-31005): too many wait for input.",
        "the error of the call",
    ),
    row(
        "mainstay.limits.rounds",
        "The call ends with an error that says so, and the server's work is cancelled (F143).",
        "the error of the call, a warning in the log",
    ),
    row(
        "mainstay.limits.requestsPerSecond",
        "The request of the server is answered with an error; one second's worth may come at once.",
        "`overRequests`, event `limitExceeded`",
    ),
    row(
        "mainstay.inputMs",
        "The server hears that nobody answers, and the call is cancelled; its client is told when it comes back.",
        "the error of the client's next request",
    ),
    row(
        "restart.openIntervalMs",
        "The start waits.",
        "state `backoff` with the time of the next attempt",
    ),
    row(
        "restart.budget",
        "The server is parked: calls are *refused* with cause and time of the next attempt.",
        "event `transition` to `parked`",
    ),
    row(
        "restart.parkedCallIntervalMs",
        "The call is *refused* as before, and causes no attempt.",
        "`refused`",
    ),
    row(
        "restart.renewals",
        "Further lost sessions count as failures.",
        "`charges` in the status",
    ),
];

const TIMES: &[Row] = &[
    row(
        "timeouts.callIdleMs",
        "The call ends as *unknown*; the server is told to cancel it and is probed. Progress begins the time anew.",
        "`unknown`",
    ),
    row(
        "timeouts.callTotalMs",
        "The call ends as *unknown*, whatever its progress; the server is told to cancel it.",
        "`unknown`",
    ),
    row(
        "mainstay.edgePatienceMs",
        "A call that waits for a connection is *refused*: nothing was sent.",
        "`refused`",
    ),
    row(
        "timeouts.connectMs",
        "The attempt has failed and is charged; the process is stopped: stdin closed, TERM, KILL.",
        "failure `connect-timeout`",
    ),
    row(
        "timeouts.runnerMs",
        "The same, for a package runner that keeps talking on stderr.",
        "failure `connect-timeout`",
    ),
    row(
        "connections.idleMs",
        "The connection is closed; the next call opens a new one.",
        "`connections` in the status",
    ),
    row(
        "suspicion.misses",
        "The connection is dead and opened anew.",
        "failure `probe-failed`",
    ),
    row(
        "stop.closeMs",
        "TERM to the process group.",
        "step in the status",
    ),
    row(
        "stop.terminateMs",
        "KILL to the process group.",
        "`forcedKills`, and a warning with the process id",
    ),
];

const HEAD: &str = "\
# Limits

Generated from the sources by the tests of `crates/manager`; run them once with `UPDATE_DOCS=1` to renew this page.

Every limit on what a server, a client or a call may cause, its default, and what happens when it is exceeded: the call
concerned gets a typed error, the excess is counted and, where no call can be told, an event. Never a dropped connection, a
silent hang or a dead server.

Settings that begin with `mainstay.` are global; all others belong to a server's entry, or to `mainstay.defaults` for all
servers. Counters are members of `counts` in a server's status. *Refused* means that nothing was sent, *unknown* that the
request was sent and may have run. An event `limitExceeded` comes with the first excess and again from time to time, with the
number so far.
";

const FIXED: &str = "
## Fixed numbers

These are no settings, because nobody can make anything better by changing them: they divide work into pieces, bound what is
shown, or guard against what should not happen. What each is for, in the words of the source:

| where | number | value | what it is for |
|---|---|---|---|
";

#[test]
fn s04_the_checked_in_table_of_limits_is_current() {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    let mut page = HEAD.to_owned();
    for (title, rows) in [
        ("Sizes", SIZES),
        ("Queues", QUEUES),
        ("Rates", RATES),
        ("Times", TIMES),
    ] {
        write!(page, "\n## {title}\n\n| setting | what it limits | default | when it is exceeded | counted as |\n|---|---|---|---|---|\n").unwrap();
        for row in rows {
            let (default, what) = described(&schema, row.key);
            writeln!(
                page,
                "| `{}` | {what} | {default} | {} | {} |",
                row.key, row.exceeded, row.counted
            )
            .unwrap();
        }
    }
    page += FIXED;
    for fixed in fixed_numbers() {
        writeln!(page, "{fixed}").unwrap();
    }
    check_in("limits.md", &page);
}

#[test]
fn s04_every_limit_of_the_config_is_in_the_table() {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    let limits = schema["$defs"]["LimitOptions"]["properties"]
        .as_object()
        .unwrap();
    let all = || [SIZES, QUEUES, RATES, TIMES].into_iter().flatten();
    for key in limits.keys() {
        let path = format!("mainstay.limits.{key}");
        assert!(
            all().any(|row| row.key == path),
            "{path} is not in the table of limits"
        );
    }
}

/// The default and the description of a setting, from the schema.
fn described(schema: &Value, key: &str) -> (String, String) {
    let (group, key) = match key.rsplit_once('.') {
        None => ("ServerEntry", key),
        Some(("mainstay", key)) => ("GatewayOptions", key),
        Some(("mainstay.limits", key)) => ("LimitOptions", key),
        Some(("mainstay.journal", key)) => ("JournalOptions", key),
        Some(("timeouts", key)) => ("TimeoutOptions", key),
        Some(("connections", key)) => ("ConnectionOptions", key),
        Some(("restart", key)) => ("RestartOptions", key),
        Some(("suspicion", key)) => ("SuspicionOptions", key),
        Some(("stop", key)) => ("StopOptions", key),
        Some((other, _)) => panic!("no group {other}"),
    };
    let setting = &schema["$defs"][group]["properties"][key];
    let text = setting["description"].as_str();
    let text = text.unwrap_or_else(|| panic!("the schema has no {group}.{key}"));
    let (what, said) = text.split_once(" Default: ").unwrap_or((text, "see there"));
    let default = setting
        .get("default")
        .map_or_else(|| said.trim_end_matches('.').to_owned(), Value::to_string);
    (default, what.replace('\n', " "))
}

/// The constants of the sources that count or time something, each as a line of a table. Those of the config are defaults
/// and bounds of settings, which the schema has.
fn fixed_numbers() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        if name.starts_with("config") || name.contains("tests") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines: Vec<&str> = code.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if let Some((constant, value)) = number(line) {
                let docs: Vec<&str> = lines[..at]
                    .iter()
                    .rev()
                    .map_while(|line| line.trim().strip_prefix("/// "))
                    .collect();
                let mut docs: Vec<&str> = docs.into_iter().rev().collect();
                if docs.is_empty() {
                    docs.push("see the line above");
                }
                found.push(format!(
                    "| `{name}` | `{constant}` | `{value}` | {} |",
                    docs.join(" ").replace('|', "\\|")
                ));
            }
        }
    }
    found
}

/// The name and the value of a constant of a counting type.
fn number(line: &str) -> Option<(&str, &str)> {
    let (declared, value) = line.split_once(" = ")?;
    let (before, kind) = declared.split_once(": ")?;
    let name = before.rsplit_once("const ")?.1;
    let counts = ["usize", "u64", "u32", "Duration"].contains(&kind);
    // A shifted bit is a mark, not a number.
    (counts && value.ends_with(';') && !value.contains("<<"))
        .then(|| (name, value.trim_end_matches(';')))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}
