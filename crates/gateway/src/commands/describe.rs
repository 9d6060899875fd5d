//! One server in full, and events as lines: what somebody needs who was woken up by it. What, since when, why, what
//! happens next and when, what to do.
//!
//! Reads the admin API's answers; must not know more than they say.

use serde_json::Value;

use super::config::plural;
use super::status::state_paint;
use crate::cli::output::Paint;
use crate::cli::table::duration;

/// Hidden items and tool names that are shown one by one.
const SHOWN_MAX: usize = 10;

/// The page of one server: `status` and the events of its detail.
pub(super) fn page(detail: &Value, color: bool) -> Vec<String> {
    let server = &detail["status"];
    let mut page = Page {
        lines: vec![headline(server, color)],
        color,
    };
    page.row("transport", &transport(server));
    if let Some(health) = health(server) {
        page.row("health", &health);
    }
    page.row("calls", &calls(server));
    page.row("catalog", &catalog(server));
    let hidden = detail["catalog"]["hidden"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    for item in hidden.iter().take(SHOWN_MAX) {
        page.row(
            "hidden",
            &format!("{}: {}", text(item, "name"), text(item, "reason")),
        );
    }
    if hidden.len() > SHOWN_MAX {
        page.row("", &format!("and {} more", hidden.len() - SHOWN_MAX));
    }
    let why = text(&server["lastFailure"], "detail");
    let problems = texts(server, "problems");
    if server["lastFailure"].is_object() {
        // The problems of an entry are told below, each on its own.
        let why = if problems.is_empty() {
            why
        } else {
            text(&server["lastFailure"], "kind")
        };
        let ago = number(&server["lastFailure"], "agoMs");
        page.row("last failure", &format!("{} ago: {why}", duration(ago)));
    }
    if let Some(next) = next(server) {
        page.row("next", &next);
    }
    for problem in problems {
        page.row("problem", &problem.replace('\n', "\n                "));
    }
    // The failure may have quoted them already.
    for line in texts(server, "stderrTail") {
        if !why.contains(&line) {
            page.row("stderr", &line);
        }
    }
    for line in remedy(server) {
        page.row("to do", &line);
    }
    let events = detail["events"].as_array().map_or(&[][..], Vec::as_slice);
    let newest = events.len().saturating_sub(SHOWN_MAX);
    let now_ms = now_unix_ms();
    let mut told = "";
    for event in events.iter().skip(newest) {
        let ago = now_ms.saturating_sub(number(event, "atUnixMs"));
        let mut words = happened(event);
        // One failure takes a server through several states: its words are told once.
        let detail = text(event, "detail");
        if !detail.is_empty() && detail == told {
            words = words.replacen(&format!(": {detail}"), "", 1);
        }
        told = detail;
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        page.row("event", &format!("{} ago: {words}", duration(ago)));
    }
    page.lines
}

struct Page {
    lines: Vec<String>,
    color: bool,
}

impl Page {
    fn row(&mut self, name: &str, words: &str) {
        // Repeated names are left out: the eye finds the blocks.
        let label = format!("  {name:<12}  ");
        let is_again = name.is_empty()
            || self
                .lines
                .iter()
                .rev()
                .find(|line| !line.starts_with("                "))
                .is_some_and(|line| line.contains(label.trim_end()) && !label.trim().is_empty());
        let label = if is_again {
            " ".repeat(16)
        } else {
            Paint::Dim.on(&label, self.color)
        };
        self.lines.push(format!("{label}{words}"));
    }
}

fn headline(server: &Value, color: bool) -> String {
    let state = text(server, "state");
    let mut line = format!(
        "{}: {} for {}",
        Paint::Bold.on(text(server, "name"), color),
        state_paint(state).on(state, color),
        duration(number(server, "sinceMs"))
    );
    line.push_str(&format!(", generation {}", number(server, "generation")));
    if let Some(label) = server["label"].as_str() {
        line.push_str(&format!(" ({label})"));
    }
    line
}

fn transport(server: &Value) -> String {
    let mut parts = vec![text(server, "transport").to_owned()];
    parts.extend(
        server["protocol"]
            .as_str()
            .map(|word| format!("MCP {word}")),
    );
    parts.extend(server["pid"].as_u64().map(|pid| format!("pid {pid}")));
    if server["required"] == true {
        parts.push("required".to_owned());
    }
    parts.join(", ")
}

fn health(server: &Value) -> Option<String> {
    let mut parts = Vec::new();
    match text(server, "state") {
        "connected" => {
            if text(server, "word") != "connected" {
                parts.push(text(server, "word").to_owned());
            }
            parts.push(if server["proven"] == true {
                "proven".to_owned()
            } else {
                "not proven yet".to_owned()
            });
            parts.extend(
                server["lifeAgeMs"]
                    .as_u64()
                    .map(|age| format!("last heard {} ago", duration(age))),
            );
        }
        "connecting" => parts.push(text(server, "word").to_owned()),
        // Why it is at rest is the last failure, or no question at all.
        _resting => {}
    }
    let charges = number(server, "charges");
    if charges > 0 {
        parts.push(format!(
            "{charges} {} since the last proof of health",
            plural(usize::try_from(charges).unwrap_or(usize::MAX), "failure")
        ));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn calls(server: &Value) -> String {
    let counts = &server["counts"];
    let mut parts = vec![format!("{} answered", number(counts, "answered"))];
    for (key, words) in [
        ("refused", "refused"),
        ("rejected", "rejected"),
        ("unknown", "with unknown outcome"),
        ("resent", "sent again"),
        ("limitsExceeded", "limits exceeded"),
    ] {
        let count = number(counts, key);
        if count > 0 {
            parts.push(format!("{count} {words}"));
        }
    }
    parts.push(format!("{} in flight", number(server, "inFlight")));
    let waiting = number(server, "waiting");
    if waiting > 0 {
        parts.push(format!("{waiting} waiting"));
    }
    parts.join(", ")
}

fn catalog(server: &Value) -> String {
    let count = |key: &str, word: &str| {
        let count = usize::try_from(number(server, key)).unwrap_or(usize::MAX);
        format!("{count} {}", plural(count, word))
    };
    let mut line = [
        count("tools", "tool"),
        count("prompts", "prompt"),
        count("resources", "resource"),
    ]
    .join(", ");
    match server["catalogAgeMs"].as_u64() {
        Some(age) => line.push_str(&format!(", listed {} ago", duration(age))),
        None => line.push_str(", never listed"),
    }
    if server["catalogRemembered"] == true {
        line.push_str(", remembered from before and not confirmed yet");
    } else if text(server, "state") != "connected" && server["catalogAgeMs"].is_u64() {
        line.push_str(", shown while the server is away");
    }
    line
}

/// What the clock does next, in words.
pub(super) fn next(server: &Value) -> Option<String> {
    if let Some(ms) = server["nextAttemptInMs"].as_u64() {
        return Some(format!("attempt in {}", duration(ms)));
    }
    match text(server, "state") {
        "parked" => Some("nothing: it is not tried again by itself".to_owned()),
        "disabled" => Some("nothing, until it is enabled".to_owned()),
        "idle" => Some("starts with the first call".to_owned()),
        _running => {
            let next = &server["next"];
            let why = next["why"].as_str()?.replace('-', " ");
            Some(format!("{why} in {}", duration(number(next, "inMs"))))
        }
    }
}

/// Whether failures of this kind end in a remedy of their own, which is better than the general hint.
pub(super) fn says_remedy(kind: &str) -> bool {
    matches!(
        kind,
        "spawn-not-found" | "cwd-missing" | "spawn-denied" | "spawn-failed" | "bad-config"
    )
}

/// What a human can do about a server that is not what it should be.
pub(super) fn remedy(server: &Value) -> Vec<String> {
    let name = text(server, "name");
    let failure = &server["lastFailure"];
    let own = server["hint"]
        .as_str()
        .or(failure["hint"].as_str())
        .unwrap_or_default();
    // The words of these failures end in their own, better remedy.
    let says_it_itself = says_remedy(text(failure, "kind"));
    let mut lines = Vec::new();
    match text(server, "state") {
        "parked" | "backoff" => {
            if !own.is_empty() && !says_it_itself {
                lines.push(own.to_owned());
            }
            if text(server, "state") == "parked" {
                lines.push(format!("once that is done: mainstay restart {name}"));
            }
        }
        "disabled" => lines.push(format!("mainstay enable {name}")),
        _running => {}
    }
    lines
}

/// An event as a line for people; one that is not understood is shown as it came.
pub(super) fn event_line(event: &str) -> String {
    match serde_json::from_str::<Value>(event) {
        Ok(value) if value["type"].is_string() && value["server"].is_string() => {
            format!("{}: {}", text(&value, "server"), happened(&value))
        }
        Ok(_) | Err(_) => event.to_owned(),
    }
}

/// What an event says, without the server's name.
fn happened(event: &Value) -> String {
    let soon = |key: &str| duration(number(event, key));
    match text(event, "type") {
        "transition" => transition(event),
        "published" => {
            let tools = usize::try_from(number(event, "tools")).unwrap_or(usize::MAX);
            format!("published {tools} {}", plural(tools, "tool"))
        }
        "retracted" => "unpublished".to_owned(),
        "diedTogether" => format!(
            "died within {} of others ({}): look for one cause",
            soon("withinMs"),
            texts(event, "servers").join(", ")
        ),
        "toolsChanged" => {
            let mut parts = Vec::new();
            for key in ["added", "removed", "changed"] {
                let names = texts(event, key);
                if !names.is_empty() {
                    parts.push(format!("{key}: {}", names.join(", ")));
                }
            }
            format!("its tools are different now ({})", parts.join("; "))
        }
        "callMetToolChange" => format!(
            "a call met the changed tool `{}` and was {}",
            text(event, "tool"),
            if event["refused"] == true {
                "refused"
            } else {
                "made"
            }
        ),
        "listingFailed" => format!(
            "listing again failed ({}); what it listed last stays, next try in {}",
            text(event, "detail"),
            soon("nextInMs")
        ),
        "emptyListing" if event["believed"] == true => {
            "still lists nothing, and is shown like that".to_owned()
        }
        "emptyListing" => format!(
            "lists nothing; not believed yet, looked at again in {}",
            soon("nextInMs")
        ),
        "listingLoop" => format!(
            "announced {} changes that were none; it is listed at most every {} now",
            event["listings"],
            soon("intervalMs")
        ),
        "limitExceeded" => format!(
            "limit `{}` exceeded ({} times so far): {}",
            text(event, "limit"),
            event["count"],
            text(event, "detail")
        ),
        "replacementFailed" => {
            let next = event["nextInMs"]
                .as_u64()
                .map(|ms| format!(", next try in {}", duration(ms)))
                .unwrap_or_default();
            format!(
                "its replacement, generation {}, could not be opened ({}); the old connection serves on{next}",
                event["generation"],
                text(event, "detail")
            )
        }
        _unknown => event.to_string(),
    }
}

fn transition(event: &Value) -> String {
    let mut line = format!(
        "{} -> {}, generation {}",
        text(event, "from"),
        text(event, "to"),
        event["generation"]
    );
    if let Some(phase) = event["phase"].as_str() {
        line.push_str(&format!(", failed at {phase}"));
    }
    if let Some(detail) = event["detail"].as_str() {
        line.push_str(&format!(": {detail}"));
    }
    let to = text(event, "to");
    if let (Some(ms), "backoff" | "parked") = (event["nextInMs"].as_u64(), to) {
        line.push_str(&format!("; next attempt in {}", duration(ms)));
    }
    line
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_default()
}

pub(super) fn texts(value: &Value, key: &str) -> Vec<String> {
    value[key]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn now_unix_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_lines() {
        let event = json!({ "atUnixMs": 1, "server": "time", "generation": 2, "type": "transition", "from": "connecting",
            "to": "backoff", "detail": "killed", "phase": "greet", "nextInMs": 400 });
        assert_eq!(
            event_line(&event.to_string()),
            "time: connecting -> backoff, generation 2, failed at greet: killed; next attempt in 0.4s"
        );
        assert_eq!(event_line("{\"type\":\"new\"}"), "{\"type\":\"new\"}");
        let event = json!({ "server": "a", "type": "limitExceeded", "limit": "waiting", "count": 7, "detail": "full" });
        assert_eq!(
            event_line(&event.to_string()),
            "a: limit `waiting` exceeded (7 times so far): full"
        );
    }

    #[test]
    fn a_page_says_what_since_when_why_what_next_and_what_to_do() {
        let detail = json!({
            "status": { "name": "db", "state": "parked", "word": "parked: ended before it was ready with code 3", "sinceMs": 65_000,
                "generation": 6, "transport": "stdio", "charges": 6, "tools": 2, "catalogAgeMs": 90_000, "counts": { "answered": 3 },
                "lastFailure": { "kind": "exited-early", "detail": "ended before it was ready with code 3; last on stderr: bye", "hint": "run it by hand", "agoMs": 65_000 },
                "nextAttemptInMs": 240_000, "stderrTail": ["no such table", "bye"] },
            "events": []
        });
        let page = page(&detail, false).join("\n");
        for part in [
            "db: parked for 1m 5s, generation 6",
            "1m 5s ago: ended before it was ready with code 3; last on stderr: bye",
            "stderr        no such table\n",
            "6 failures since the last proof of health",
            "attempt in 4m 0s",
            "to do         run it by hand",
            "mainstay restart db",
            "shown while the server is away",
        ] {
            assert!(page.contains(part), "{part:?} is missing in\n{page}");
        }
        assert_eq!(page.matches("run it by hand").count(), 1, "{page}");
    }

    #[test]
    fn a_remedy_is_told_once() {
        let server = json!({ "name": "x", "state": "parked", "hint": "check `command`",
            "lastFailure": { "kind": "spawn-not-found", "detail": "command not found: install it", "hint": "check `command`" } });
        assert_eq!(remedy(&server), ["once that is done: mainstay restart x"]);
    }
}
