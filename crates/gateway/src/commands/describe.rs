//! One server in full, and events as lines: what somebody needs who was woken up by it. What, since when, why, what
//! happens next and when, what to do.
//!
//! Reads the admin API's answers; must not know more than they say.

mod signin;

use serde_json::Value;

use super::calls;
use super::config::plural;
use super::view::View;
use crate::cli::human::{self, ago, duration, now_unix_ms};
use crate::cli::output::Paint;
use crate::cli::table::{plain, wrap};

/// Hidden items, events and calls that are shown one by one.
const SHOWN_MAX: usize = 10;

/// Below this width, what does not fit goes on directly below its name instead of beside it.
const BESIDE: u16 = 60;

/// The page of one server: its status, its timeline, its last calls.
pub(super) fn page(detail: &Value, width: Option<u16>, color: bool) -> Vec<String> {
    let server = &detail["status"];
    let mut page = Page {
        lines: wrap(&headline(server), width, 2),
        width,
        color,
        last: "",
    };
    page.paint_headline(server);
    if let Some(progress) = progress(server) {
        page.row("progress", &progress);
    }
    page.row("transport", &transport(server));
    if let Some(words) = signin::words(server) {
        page.row("sign-in", &words);
    }
    if let Some(process) = process(server) {
        page.row("process", &process);
    }
    if let Some(health) = health(server) {
        page.row("health", &health);
    }
    page.row("calls", &calls(server));
    if let Some(latency) = latency(server) {
        page.row("latency", &latency);
    }
    let failures = View(server).failure_classes();
    if !failures.is_empty() {
        page.row("failures", &failures);
    }
    page.row("catalog", &catalog(server));
    if let Some(pending) = View(server).pending() {
        let name = text(server, "name");
        page.row(
            "approval",
            &format!("{pending}: mainstay tools diff {name}"),
        );
    }
    hidden(&mut page, detail);
    connections(&mut page, server);
    if let Some(origin) = origin(detail) {
        page.row("configured", &origin);
    }
    suspicious(&mut page, server);
    trouble(&mut page, server);
    timeline(&mut page, detail);
    last_calls(&mut page, detail);
    page.lines
}

/// What can mislead in its listing, and what fences its process.
fn suspicious(page: &mut Page, server: &Value) {
    if let Some(sandbox) = server["sandbox"].as_str() {
        page.row("sandbox", sandbox);
    }
    let found = list(server, "suspicious");
    for one in found.iter().take(SHOWN_MAX) {
        page.row(
            "suspicious",
            &format!("{}: {}", text(one, "where"), text(one, "text")),
        );
    }
    if found.len() > SHOWN_MAX {
        page.row(
            "suspicious",
            &format!("and {} more", found.len() - SHOWN_MAX),
        );
    }
}

fn hidden(page: &mut Page, detail: &Value) {
    let hidden = list(&detail["catalog"], "hidden");
    for item in hidden.iter().take(SHOWN_MAX) {
        page.row(
            "hidden",
            &format!("{}: {}", text(item, "name"), text(item, "reason")),
        );
    }
    if hidden.len() > SHOWN_MAX {
        page.row("hidden", &format!("and {} more", hidden.len() - SHOWN_MAX));
    }
}

/// The connections beside the shared one.
fn connections(page: &mut Page, server: &Value) {
    let all = list(server, "connections");
    for one in all.iter().take(SHOWN_MAX) {
        let mut line = format!("{} {}", number(one, "number"), text(one, "state"));
        let capabilities = texts(one, "capabilities");
        let whose = if one["session"] == true {
            "one session".to_owned()
        } else {
            format!("clients with {}", capabilities.join(", "))
        };
        line.push_str(&format!(
            ", for {whose}, generation {}",
            number(one, "generation")
        ));
        if let Some(pid) = one["pid"].as_u64() {
            line.push_str(&format!(", pid {pid}"));
        }
        match one["idleMs"].as_u64() {
            Some(idle) => line.push_str(&format!(", unused for {}", duration(idle))),
            None => line.push_str(&format!(", {} in flight", number(one, "inFlight"))),
        }
        if let Some(failure) = one["lastFailure"].as_str() {
            line.push_str(&format!("; last failure: {failure}"));
        }
        page.row("connection", &line);
    }
    if all.len() > SHOWN_MAX {
        page.row("connection", &format!("and {} more", all.len() - SHOWN_MAX));
    }
}

/// Where its entry stands.
fn origin(detail: &Value) -> Option<String> {
    let origin = &detail["configOrigin"];
    if let Some(text) = origin.as_str() {
        return Some(text.to_owned());
    }
    let mut text = origin["file"].as_str()?.to_owned();
    for key in ["line", "column"] {
        if let Some(number) = origin[key].as_u64() {
            text.push_str(&format!(":{number}"));
        }
    }
    Some(text)
}

/// Why it is not what it should be, what happens next, and what to do.
fn trouble(page: &mut Page, server: &Value) {
    let why = text(&server["lastFailure"], "detail");
    let problems = texts(server, "problems");
    if server["lastFailure"].is_object() {
        // The problems of an entry are told below, each on its own.
        let why = if problems.is_empty() {
            why
        } else {
            text(&server["lastFailure"], "kind")
        };
        let ago_ms = number(&server["lastFailure"], "agoMs");
        page.row("last failure", &format!("{}: {why}", ago(ago_ms)));
    }
    if let Some(next) = next(server) {
        page.row("next", &next);
    }
    for problem in problems {
        page.row("problem", &problem);
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
}

/// What happened to it. An older Mainstay knows no timeline, but events.
fn timeline(page: &mut Page, detail: &Value) {
    let events = list(detail, "events");
    // Events say more than the timeline does, which goes further back.
    let first = events
        .first()
        .map_or(u64::MAX, |event| number(event, "atUnixMs"));
    let before = list(detail, "timeline")
        .iter()
        .filter(|step| number(step, "atUnixMs") < first);
    let all: Vec<&Value> = before.chain(events).collect();
    let now_ms = now_unix_ms();
    let mut told = "";
    for event in &all[all.len().saturating_sub(SHOWN_MAX)..] {
        let mut words = happened(event);
        // One failure takes a server through several states: its words are told once.
        let detail = text(event, "detail");
        if !detail.is_empty() && detail == told {
            words = words.replacen(&format!(": {detail}"), "", 1);
        }
        told = detail;
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let ago = human::since(number(event, "atUnixMs"), now_ms);
        page.row("timeline", &format!("{ago}: {words}"));
    }
}

fn last_calls(page: &mut Page, detail: &Value) {
    let all = list(detail, "calls");
    let now_ms = now_unix_ms();
    for call in &all[all.len().saturating_sub(SHOWN_MAX)..] {
        let tool = call["tool"].as_str().unwrap_or(text(call, "method"));
        let mut line = format!(
            "{}: {tool}, {}",
            human::since(number(call, "atUnixMs"), now_ms),
            calls::outcome_words(text(call, "outcome"))
        );
        if let Some(ms) = call["servedMs"].as_f64() {
            line.push_str(&format!(" in {}", human::latency(ms)));
        }
        if let Some(ms) = call["queuedMs"].as_f64().filter(|ms| *ms >= 1.0) {
            line.push_str(&format!(" after {} in the queue", human::latency(ms)));
        }
        let client = calls::client(call);
        if !client.is_empty() {
            line.push_str(&format!(", {client}"));
        }
        if let Some(cause) = call["cause"].as_str() {
            line.push_str(&format!(": {cause}"));
        }
        page.row("last calls", &line);
    }
}

struct Page {
    lines: Vec<String>,
    width: Option<u16>,
    color: bool,
    /// The name of the row before.
    last: &'static str,
}

impl Page {
    fn row(&mut self, name: &'static str, words: &str) {
        let beside = self.width.is_none_or(|width| width >= BESIDE);
        let indent = if beside { 16 } else { 4 };
        // Repeated names are left out: the eye finds the blocks.
        let label = if self.last == name {
            " ".repeat(indent)
        } else if beside {
            format!("  {name:<12}  ")
        } else {
            format!("  {name}: ")
        };
        self.last = name;
        let words: Vec<String> = words.split('\n').map(plain).collect();
        let text = words.join(&format!(
            "\n{}",
            if self.width.is_none() {
                " ".repeat(indent)
            } else {
                String::new()
            }
        ));
        let whole = wrap(&format!("{label}{text}"), self.width, indent);
        for (at, line) in whole.into_iter().enumerate() {
            self.lines.push(match line.strip_prefix(&label) {
                Some(rest) if at == 0 => format!("{}{rest}", Paint::Dim.on(&label, self.color)),
                Some(_) | None => line,
            });
        }
    }

    /// Colours the name and the state in the first line.
    fn paint_headline(&mut self, server: &Value) {
        let view = View(server);
        let bare = format!("{}: {}", view.name(), view.state_words());
        if let Some(first) = self.lines.first_mut()
            && let Some(rest) = first.strip_prefix(&bare)
        {
            *first = format!(
                "{}: {}{rest}",
                Paint::Bold.on(view.name(), self.color),
                view.paint().on(&view.state_words(), self.color)
            );
        }
    }
}

fn headline(server: &Value) -> String {
    let view = View(server);
    let mut line = format!(
        "{}: {} for {}, generation {}",
        view.name(),
        view.state_words(),
        duration(view.since_ms()),
        number(server, "generation")
    );
    if let Some(label) = server["label"].as_str() {
        line.push_str(&format!(" ({label})"));
    }
    plain(&line)
}

/// How far a start has come.
fn progress(server: &Value) -> Option<String> {
    let progress = &server["progress"];
    let phase = progress["phase"].as_str()?;
    let mut line = format!("{phase} for {}", duration(number(progress, "sinceMs")));
    if let Some(last) = progress["line"].as_str().filter(|line| !line.is_empty()) {
        line.push_str(&format!(": {last}"));
    }
    Some(line)
}

fn transport(server: &Value) -> String {
    let mut parts = vec![text(server, "transport").to_owned()];
    parts.extend(
        server["protocol"]
            .as_str()
            .map(|word| format!("MCP {word}")),
    );
    parts.extend(server["era"].as_str().map(str::to_owned));
    parts.extend(server["pid"].as_u64().map(|pid| format!("pid {pid}")));
    if server["required"] == true {
        parts.push("required".to_owned());
    }
    parts.join(", ")
}

/// What its processes use.
fn process(server: &Value) -> Option<String> {
    let mut parts = Vec::new();
    let process = &server["process"];
    if let Some(count) = process["processes"].as_u64() {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        parts.push(format!(
            "{count} {}",
            if count == 1 { "process" } else { "processes" }
        ));
    }
    parts.extend(
        View(server)
            .memory()
            .map(|memory| format!("{} of memory", human::bytes(memory))),
    );
    parts.extend(
        View(server)
            .cpu()
            .map(|cpu| format!("{} CPU", human::percent(cpu))),
    );
    parts.extend(
        process["cpuMs"]
            .as_u64()
            .map(|ms| format!("{} CPU time", duration(ms))),
    );
    if let Some(restarts) = View(server).restarts() {
        let word = plural(usize::try_from(restarts).unwrap_or(usize::MAX), "restart");
        parts.push(format!("{restarts} {word}"));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// How long calls take.
fn latency(server: &Value) -> Option<String> {
    let view = View(server);
    let half = view.latency_of("p50Ms")?;
    let mut parts = vec![format!("half of the calls within {}", human::latency(half))];
    if let Some(most) = view.latency_of("p95Ms") {
        parts.push(format!("95 % within {}", human::latency(most)));
    }
    if let Some(queue) = view.latency_of("p50QueueMs") {
        parts.push(format!("in the queue {}", human::latency(queue)));
    }
    if let Some(rate) = view.latency_of("perMinute") {
        parts.push(format!("{rate:.0} per minute"));
    }
    Some(parts.join(", "))
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
    if let Some(login) = signin::remedy(server) {
        lines.push(login);
        return lines;
    }
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

/// What an event says, without the server's name; one that is not understood is shown as it came.
pub(crate) fn happened(event: &Value) -> String {
    let soon = |key: &str| duration(number(event, key));
    match text(event, "type") {
        "transition" => transition(event),
        // A step of the timeline has no type.
        "" if event["to"].is_string() => transition(event),
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
        "serverChanged" => format!(
            "is not what it was: another {}",
            texts(event, "what").join(", ")
        ),
        "configChanged" => config_changed(event),
        "restoreFailed" => format!(
            "could not be told what it was told before ({}): {}",
            text(event, "what"),
            text(event, "detail")
        ),
        "escaped" => format!(
            "left processes behind that are in no group of ours: {}",
            event["pids"]
        ),
        _other => about_tools(event).unwrap_or_else(|| event.to_string()),
    }
}

/// What an edit of the configuration did to a server.
fn config_changed(event: &Value) -> String {
    let what = texts(event, "what").join(", ");
    match text(event, "how") {
        "added" => "is new in the configuration".to_owned(),
        "removed" => "was taken out of the configuration".to_owned(),
        "replaced" => format!("is connected anew, because its configuration changed ({what})"),
        "patched" => format!("its configuration changed ({what}); the connection stays"),
        other => format!("its configuration changed ({other})"),
    }
}

/// What an event about the definitions of tools says, if it is one.
fn about_tools(event: &Value) -> Option<String> {
    let listed = || {
        let parts = ["added", "changed", "removed"]
            .into_iter()
            .filter_map(|key| {
                let names = texts(event, key);
                (!names.is_empty()).then(|| format!("{key}: {}", names.join(", ")))
            });
        parts.collect::<Vec<_>>().join("; ")
    };
    let said = match text(event, "type") {
        "toolsChanged" => format!("its tools are different now ({})", listed()),
        "toolsHeld" => match event["damaged"].as_str() {
            Some(why) => format!("all tools are held back: {why}"),
            None => format!(
                "tools are not as they were approved and are held back ({})",
                listed()
            ),
        },
        "toolsApproved" => format!(
            "{} {} approved{}",
            event["total"],
            plural(
                usize::try_from(number(event, "total")).unwrap_or(usize::MAX),
                "tool"
            ),
            if event["first"] == true {
                ", as first listed"
            } else {
                ""
            }
        ),
        "callMetToolChange" => format!(
            "a call met the changed tool `{}` and was {}",
            text(event, "tool"),
            if event["refused"] == true {
                "refused"
            } else {
                "made"
            }
        ),
        _other => return None,
    };
    Some(said)
}

fn transition(event: &Value) -> String {
    let mut line = format!("{} -> {}", text(event, "from"), text(event, "to"));
    if let Some(generation) = event["generation"].as_u64() {
        line.push_str(&format!(", generation {generation}"));
    }
    if let Some(connection) = event["connection"].as_u64() {
        line.push_str(&format!(", connection {connection}"));
    }
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

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
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
            happened(&event),
            "connecting -> backoff, generation 2, failed at greet: killed; next attempt in 0.4s"
        );
        assert_eq!(happened(&json!({ "type": "new" })), "{\"type\":\"new\"}");
        let event = json!({ "server": "a", "type": "limitExceeded", "limit": "waiting", "count": 7, "detail": "full" });
        assert_eq!(
            happened(&event),
            "limit `waiting` exceeded (7 times so far): full"
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
        let page = page(&detail, None, false).join("\n");
        for part in [
            "db: parked for 1m 5s, generation 6",
            "1 min ago: ended before it was ready with code 3; last on stderr: bye",
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
