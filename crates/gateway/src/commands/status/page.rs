//! The page of all servers: what is wrong with the configuration, one line per server, and what is wrong with whom.
//!
//! A pure function of the admin API's answer and of the width; without a width nothing is left out.

use serde_json::Value;

use crate::cli::human::{self, ago, duration};
use crate::cli::output::Paint;
use crate::cli::table::{Paper, Sheet, wrap};
use crate::commands::describe;
use crate::commands::view::{COLUMNS, View, footer, servers};

/// The whole page.
pub(super) fn lines(status: &Value, width: Option<u16>, color: bool) -> Vec<String> {
    let mut lines = config_problems(status, width, color);
    lines.extend(journal_problem(status, width, color));
    lines.extend(table(status, width, color).lines().map(str::to_owned));
    lines.extend(
        wrap(&footer(status), width, 2)
            .iter()
            .map(|line| Paint::Dim.on(line, color)),
    );
    for server in servers(status) {
        lines.extend(problems(View(server), width, color));
    }
    lines
}

/// The table of all servers.
pub(super) fn table(status: &Value, width: Option<u16>, color: bool) -> String {
    let mut sheet = Sheet::ranked(&COLUMNS);
    for server in servers(status) {
        sheet.row(View(server).row(width));
    }
    sheet.render(width, color)
}

/// What became of the last attempt to load the configuration, if it was refused or left something to say.
fn config_problems(status: &Value, width: Option<u16>, color: bool) -> Vec<String> {
    let reload = &status["config"]["lastReload"];
    let problems = reload["problems"].as_array().map_or(&[][..], Vec::as_slice);
    let is_refused = reload["ok"] == false;
    if !is_refused && problems.is_empty() {
        return Vec::new();
    }
    let when = reload["atUnixMs"]
        .as_u64()
        .map(|at| human::since(at, human::now_unix_ms()));
    let when = when.unwrap_or_default();
    let path = status["config"]["path"]
        .as_str()
        .unwrap_or("the configuration");
    let mut paper = Paper::new(width, color);
    let mut say = |paint: Paint, head: &str, text: &str| paper.say(paint, head, text, 2);
    if is_refused {
        let what =
            format!("{path} was refused {when}; what was loaded before it is still in force");
        say(Paint::Bad, "configuration: ", &what);
    } else {
        say(
            Paint::Warn,
            "configuration: ",
            &format!("{path}, loaded {when}"),
        );
    }
    for problem in problems {
        let (text, remedy) = problem_words(problem);
        say(Paint::Plain, "  ", &text);
        if let Some(remedy) = remedy {
            say(Paint::Bold, "hint: ", &remedy);
        }
    }
    paper.lines.push(String::new());
    paper.lines
}

/// That what happens is not kept, although it should be; and that calls wait for whoever looks.
fn journal_problem(status: &Value, width: Option<u16>, color: bool) -> Vec<String> {
    let mut paper = Paper::new(width, color);
    if let Some(problem) = status["journal"]["problem"].as_str() {
        let text = format!("nothing can be kept on disk: {problem}");
        paper.say(Paint::Warn, "journal: ", &text, 2);
        paper.lines.push(String::new());
    }
    if let Some(problem) = status["audit"]["problem"].as_str() {
        let so = match status["audit"]["required"] == true {
            true => "calls are refused until it can",
            false => "what happens now is not recorded",
        };
        let text = format!("the log cannot be written, and {so}: {problem}");
        paper.say(Paint::Bad, "audit: ", &text, 2);
        paper.lines.push(String::new());
    }
    if let Some(waiting) = status["approvals"].as_u64().filter(|waiting| *waiting > 0) {
        let text = format!("{waiting} waiting; see `mainstay approvals`");
        paper.say(Paint::Warn, "approvals: ", &text, 2);
        paper.lines.push(String::new());
    }
    paper.lines
}

/// A problem of the configuration: where and what, and what to do.
fn problem_words(problem: &Value) -> (String, Option<String>) {
    let Some(message) = problem["message"].as_str() else {
        return (problem.as_str().unwrap_or_default().to_owned(), None);
    };
    let mut place = String::new();
    if let Some(file) = problem["file"].as_str() {
        place.push_str(file);
        for key in ["line", "column"] {
            if let Some(number) = problem[key].as_u64() {
                place.push_str(&format!(":{number}"));
            }
        }
        place.push_str(": ");
    }
    let severity = problem["severity"].as_str().unwrap_or("error");
    let remedy = problem["remedy"]
        .as_str()
        .filter(|remedy| !remedy.is_empty());
    (
        format!("{place}{severity}: {message}"),
        remedy.map(str::to_owned),
    )
}

/// What helps with a server that is down: why, its last words and the remedy, below the table.
fn problems(server: View<'_>, width: Option<u16>, color: bool) -> Vec<String> {
    let Some(headline) = headline(server) else {
        return Vec::new();
    };
    let mut paper = Paper::new(width, color);
    paper.lines.push(String::new());
    let mut say = |paint: Paint, head: &str, text: &str| paper.say(paint, head, text, 2);
    say(Paint::Bold, server.name(), &format!(": {headline}"));
    if server.is_down() {
        for problem in describe::texts(server.0, "problems") {
            say(Paint::Plain, "  ", &problem.replace('\n', "\n  "));
        }
        // The failure may have quoted them already.
        for line in describe::texts(server.0, "stderrTail") {
            if !headline.contains(line.as_str()) {
                say(Paint::Dim, "  stderr: ", &line);
            }
        }
        if let Some(next) = describe::next(server.0) {
            say(Paint::Plain, "  next: ", &next);
        }
    }
    for remedy in describe::remedy(server.0) {
        say(Paint::Bold, "hint: ", &remedy);
    }
    if server.pending().is_some() {
        say(
            Paint::Bold,
            "hint: ",
            &format!("mainstay tools diff {}", server.name()),
        );
    }
    paper.lines
}

/// What is wrong, in one line; `None` if nothing is.
fn headline(server: View<'_>) -> Option<String> {
    if !server.is_down() {
        return server.pending();
    }
    let word = server.0["word"].as_str().unwrap_or_default();
    // The problems of an entry say all that its state says, and where.
    let word = if describe::texts(server.0, "problems").is_empty() {
        word
    } else {
        server.state()
    };
    let mut line = format!("{word} (for {})", duration(server.since_ms()));
    if let Some(heard) = server.0["lifeAgeMs"].as_u64() {
        line.push_str(&format!(", heard {}", ago(heard)));
    }
    Some(line)
}

/// What changes when something happens, as opposed to what changes with time.
pub(super) fn gist(status: &Value) -> Value {
    let servers = servers(status).iter().map(|server| {
        serde_json::json!([
            server["name"],
            server["state"],
            server["generation"],
            server["lastFailure"]["kind"],
            server["tools"],
            server["word"],
            server["pendingTools"]
        ])
    });
    let servers: Vec<Value> = servers.collect();
    serde_json::json!([servers, status["config"]["lastReload"]["atUnixMs"]])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> Value {
        json!({
            "version": "1.2.3", "uptimeMs": 7_300_000, "sessions": 2,
            "servers": [
                { "name": "time", "state": "connected", "word": "connected", "generation": 3, "sinceMs": 65_000, "tools": 2,
                  "era": "legacy", "protocol": "2025-11-25", "transport": "stdio", "pid": 4242,
                  "counts": { "answered": 41 }, "calls": { "total": 1_241, "p50Ms": 0.4, "p95Ms": 12.3 },
                  "failures": { "toolError": 3, "refused": 0, "rejected": 0, "unknown": 1 }, "restarts": 2,
                  "process": { "rssBytes": 41_000_000, "cpuPercent": 1.25 },
                  "lastFailure": { "kind": "exited", "detail": "killed by signal 9", "hint": "", "agoMs": 66_000 } },
                { "name": "typo", "state": "parked", "word": "parked: program not found", "generation": 1, "sinceMs": 400,
                  "tools": 0, "counts": { "answered": 0 }, "transport": "stdio", "nextAttemptInMs": 240_000,
                  "lastFailure": { "kind": "spawn-not-found", "detail": "program not found" }, "stderrTail": ["last words"],
                  "hint": "install it" }
            ]
        })
    }

    fn header(width: Option<u16>) -> Vec<String> {
        let table = table(&status(), width, false);
        let first = table.lines().next().unwrap_or_default();
        first.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_table_says_what_and_why() {
        let text = table(&status(), Some(200), false);
        let time = text.lines().nth(1).unwrap();
        for part in [
            "time",
            "connected",
            "1 min",
            "legacy 2025-11-25",
            "stdio",
            "1.2k",
            "0.4 ms/12 ms",
            "3 tool, 1 unknown",
            "39 MiB",
            "1.2 %",
            "1 min ago: killed by signal 9",
        ] {
            assert!(time.contains(part), "{part:?} is missing in\n{text}");
        }
        assert!(text.lines().nth(2).unwrap().contains("in 4 min"), "{text}");
    }

    #[test]
    fn columns_go_in_a_sensible_order_and_nothing_is_ever_wider_than_the_terminal() {
        assert_eq!(header(Some(40)), ["SERVER", "STATE", "SINCE", "NEXT"]);
        assert_eq!(
            header(Some(80)),
            [
                "SERVER", "STATE", "SINCE", "NEXT", "TOOLS", "CALLS", "P50/P95", "FAILED", "MEMORY"
            ]
        );
        assert_eq!(header(Some(200)).len(), COLUMNS.len());
        assert_eq!(header(None).len(), COLUMNS.len());
        for width in 20..240 {
            for line in lines(&status(), Some(width), false) {
                let wide = unicode_width::UnicodeWidthStr::width(line.as_str());
                assert!(wide <= usize::from(width), "{wide} > {width}: {line:?}");
            }
        }
    }

    #[test]
    fn problems_are_told_below_with_their_remedy() {
        let text = lines(&status(), Some(80), false).join("\n");
        for part in [
            "2 servers: 1 connected, 1 parked; Mainstay 1.2.3 up 2 h; 2 sessions",
            "typo: parked: program not found (for 0.4s)",
            "stderr: last words",
            "next: attempt in 4m 0s",
            "hint: once that is done: mainstay restart typo",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        assert!(!text.contains("\ntime: "), "{text}");
    }

    #[test]
    fn a_refused_configuration_is_told_first() {
        let mut status = status();
        status["config"] = json!({ "path": "/home/me/mcp.json", "lastReload": { "atUnixMs": 1, "ok": false, "problems": [
            { "severity": "error", "file": "/home/me/mcp.json", "line": 3, "column": 7, "message": "`comand` is no key", "remedy": "write `command`" }
        ] } });
        let lines = lines(&status, None, false);
        assert!(
            lines[0].starts_with("configuration: /home/me/mcp.json was refused"),
            "{lines:#?}"
        );
        assert_eq!(
            lines[1],
            "  /home/me/mcp.json:3:7: error: `comand` is no key"
        );
        assert_eq!(lines[2], "hint: write `command`");
        assert_ne!(gist(&status), gist(&self::status()));
    }

    #[test]
    fn an_audit_log_that_cannot_be_written_and_calls_that_wait_are_told() {
        let mut status = status();
        assert!(!lines(&status, None, false).join("\n").contains("approvals"));
        status["audit"] = json!({ "required": true, "problem": "no space left" });
        status["approvals"] = json!(2);
        let text = lines(&status, None, false).join("\n");
        assert!(text.contains("audit: the log cannot be written, and calls are refused until it can: no space left"), "{text}");
        assert!(text.contains("approvals: 2 waiting"), "{text}");
    }

    #[test]
    fn a_journal_that_cannot_be_written_is_told() {
        let mut status = status();
        assert!(!lines(&status, None, false).join("\n").contains("journal"));
        status["journal"] =
            json!({ "path": "/x", "problem": "no space left on device", "written": 3, "lost": 9 });
        let text = lines(&status, None, false).join("\n");
        assert!(
            text.starts_with("journal: nothing can be kept on disk: no space left on device\n"),
            "{text}"
        );
    }

    #[test]
    fn only_what_happened_is_a_change() {
        let mut later = status();
        later["servers"][0]["sinceMs"] = 70_000.into();
        assert_eq!(gist(&later), gist(&status()));
        later["servers"][0]["generation"] = 4.into();
        assert_ne!(gist(&later), gist(&status()));
    }
}
