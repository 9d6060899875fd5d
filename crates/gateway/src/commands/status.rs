//! `mainstay status`: what every server is doing.

use std::time::Duration;

use serde_json::Value;

use super::client::{AdminClient, segment};
use super::signals::Signals;
use super::{describe, paths};
use crate::cli::StatusArgs;
use crate::cli::output::{Output, Paint};
use crate::cli::table::{Sheet, duration, terminal_width};
use crate::exit::{Exit, Stop};

const PATH: &str = "/api/v1/status";
/// How often a watched table is drawn again without any event.
const REDRAW: Duration = Duration::from_secs(1);

/// Shows the status once, or again and again.
///
/// # Errors
/// Exit 5 when no Mainstay is running.
pub(crate) async fn run(args: StatusArgs, output: Output) -> Result<Exit, Stop> {
    let client = AdminClient::new(paths::socket(args.socket.socket.as_deref())?);
    if args.watch {
        return watch(&client, &args, output).await;
    }
    if let Some(name) = &args.server {
        return one(&client, name, &args, output).await;
    }
    let status = client.get(PATH).await?.ok()?;
    if args.json {
        output.json(&status)?;
        return Ok(Exit::Ok);
    }
    let width = output.is_terminal().then(terminal_width);
    output.line(&table(&status, width, output.color()))?;
    for server in servers(&status) {
        for line in details(server, output.color()) {
            output.line(&line)?;
        }
    }
    Ok(Exit::Ok)
}

/// Shows everything about one server.
async fn one(
    client: &AdminClient,
    name: &str,
    args: &StatusArgs,
    output: Output,
) -> Result<Exit, Stop> {
    let reply = client
        .get(&format!("/api/v1/servers/{}", segment(name)))
        .await?;
    let detail = reply.ok()?;
    if args.json {
        output.json(&detail)?;
        return Ok(Exit::Ok);
    }
    for line in describe::page(&detail, output.color()) {
        output.line(&line)?;
    }
    Ok(Exit::Ok)
}

/// Shows it until interrupted: redrawn in a terminal, one line per event or one object per change otherwise.
async fn watch(client: &AdminClient, args: &StatusArgs, output: Output) -> Result<Exit, Stop> {
    let mut signals = Signals::listen()?;
    let mut events = client.stream("/api/v1/events").await?;
    let mut tick = tokio::time::interval(REDRAW);
    let redraws = output.is_terminal() && !args.json;
    let mut drawn = 0;
    let mut shown = Value::Null;
    loop {
        let event = tokio::select! {
            // Cancel-safe: a signal stays pending in its stream.
            () = signals.next() => return Ok(Exit::Ok),
            // Cancel-safe: what was read of an event before is kept; see there.
            event = events.next_event() => match event? {
                Some(event) => Some(event),
                None => return Err(Stop::new(Exit::NotRunning, "the running Mainstay has ended")),
            },
            // Cancel-safe: a tick stays due.
            _ = tick.tick() => None,
        };
        match event {
            Some(event) if !redraws && !args.json => output.line(&describe::event_line(&event))?,
            Some(_) | None if args.json => {
                let status = client.get(PATH).await?.ok()?;
                // Ages change with every look; only what happened is a change.
                let gist = gist(&status);
                if gist != shown {
                    shown = gist;
                    output.line(&status.to_string())?;
                }
            }
            Some(_) | None if redraws => {
                let status = client.get(PATH).await?.ok()?;
                let text = table(&status, Some(terminal_width()), output.color());
                let up = if drawn > 0 {
                    format!("\x1b[{drawn}A")
                } else {
                    String::new()
                };
                drawn = text.lines().count();
                output.raw(&format!("{up}\x1b[J{text}\n"))?;
            }
            Some(_) | None => {}
        }
    }
}

/// The servers in an answer.
pub(super) fn servers(status: &Value) -> &[Value] {
    status["servers"].as_array().map_or(&[], Vec::as_slice)
}

/// What changes when something happens, as opposed to what changes with time.
fn gist(status: &Value) -> Value {
    let gist = servers(status).iter().map(|server| {
        serde_json::json!([
            server["name"],
            server["state"],
            server["generation"],
            server["lastFailure"]["kind"],
            server["tools"],
            server["word"]
        ])
    });
    gist.collect()
}

/// The table of all servers.
fn table(status: &Value, width: Option<u16>, color: bool) -> String {
    let mut sheet = Sheet::new(&["SERVER", "STATE", "GEN", "SINCE", "TOOLS", "CALLS", "NOTE"]);
    for server in servers(status) {
        let text = |key: &str| server[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| server[key].as_u64().unwrap_or_default();
        let state = text("state");
        let paint = state_paint(&state);
        sheet.row(vec![
            (text("name"), Paint::Bold),
            (state, paint),
            (number("generation").to_string(), Paint::Plain),
            (duration(number("sinceMs")), Paint::Plain),
            (number("tools").to_string(), Paint::Plain),
            (
                server["counts"]["answered"]
                    .as_u64()
                    .unwrap_or_default()
                    .to_string(),
                Paint::Plain,
            ),
            (note(server), Paint::Dim),
        ]);
    }
    let text = sheet.render(width, color);
    if servers(status).is_empty() {
        format!("{text}\nno servers are configured")
    } else {
        text
    }
}

/// How a state looks: good, in between, or broken.
pub(crate) fn state_paint(state: &str) -> Paint {
    match state {
        "connected" => Paint::Good,
        "parked" | "backoff" => Paint::Bad,
        "disabled" | "idle" => Paint::Dim,
        _in_between => Paint::Warn,
    }
}

/// What one would ask next about a server: the cause while it is down, what it speaks while it is up.
fn note(server: &Value) -> String {
    let state = server["state"].as_str().unwrap_or_default();
    if state == "connected" {
        let mut parts = vec![server["transport"].as_str().unwrap_or_default().to_owned()];
        parts.extend(server["protocol"].as_str().map(str::to_owned));
        parts.extend(server["pid"].as_u64().map(|pid| format!("pid {pid}")));
        parts.extend(
            server["lifeAgeMs"]
                .as_u64()
                .map(|age| format!("heard {} ago", duration(age))),
        );
        let word = server["word"].as_str().unwrap_or_default();
        if word != state {
            parts.insert(0, word.to_owned());
        } else if let Some(failure) = server["lastFailure"]["detail"].as_str() {
            let ago = server["lastFailure"]["agoMs"].as_u64().unwrap_or_default();
            parts.push(format!("{} ago: {failure}", duration(ago)));
        }
        return parts.join(", ");
    }
    let kind = server["lastFailure"]["kind"]
        .as_str()
        .filter(|_| matches!(state, "parked" | "backoff"));
    let word = kind.or(server["word"].as_str()).unwrap_or_default();
    match server["nextAttemptInMs"].as_u64() {
        Some(ms) => format!("{word}; next attempt in {}", duration(ms)),
        None => word.to_owned(),
    }
}

/// What helps with a server that is down: why, its last words and the remedy, below the table.
fn details(server: &Value, color: bool) -> Vec<String> {
    let state = server["state"].as_str().unwrap_or_default();
    if !matches!(state, "parked" | "backoff") {
        return Vec::new();
    }
    let name = server["name"].as_str().unwrap_or_default();
    let problems = describe::texts(server, "problems");
    let word = server["word"].as_str().unwrap_or_default();
    // The problems of an entry say all that its state says, and where.
    let word = if problems.is_empty() { word } else { state };
    let since = duration(server["sinceMs"].as_u64().unwrap_or_default());
    let mut lines = vec![
        String::new(),
        format!("{}: {word} (for {since})", Paint::Bold.on(name, color)),
    ];
    lines.extend(
        problems
            .iter()
            .map(|problem| format!("  {}", problem.replace('\n', "\n  "))),
    );
    // The failure may have quoted them already.
    lines.extend(
        describe::texts(server, "stderrTail")
            .into_iter()
            .filter(|line| !word.contains(line.as_str()))
            .map(|line| format!("  stderr: {line}")),
    );
    if let Some(next) = describe::next(server) {
        lines.push(format!("  next: {next}"));
    }
    lines.extend(
        describe::remedy(server)
            .into_iter()
            .map(|remedy| format!("{} {remedy}", Paint::Bold.on("hint:", color))),
    );
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> Value {
        json!({ "servers": [
            { "name": "time", "state": "connected", "word": "connected", "generation": 3, "sinceMs": 65_000, "tools": 2,
              "counts": { "answered": 41 }, "transport": "stdio", "protocol": "2025-11-25", "pid": 4242,
              "lastFailure": { "kind": "exited", "detail": "killed by signal 9", "hint": "", "agoMs": 66_000 } },
            { "name": "typo", "state": "parked", "word": "parked: program not found", "generation": 1, "sinceMs": 400,
              "tools": 0, "counts": { "answered": 0 }, "lastFailure": { "kind": "spawn-not-found" }, "stderrTail": ["last words"], "hint": "install it" }
        ] })
    }

    #[test]
    fn the_table_says_what_and_why() {
        let text = table(&status(), Some(100), false);
        assert!(text.contains("time    connected  3    1m 5s  2      41     stdio, 2025-11-25, pid 4242, 1m 6s ago: killed"), "{text}");
        assert!(
            text.contains("typo    parked     1    0.4s   0      0      spawn-not-found"),
            "{text}"
        );
        assert!(details(&status()["servers"][0], false).is_empty());
        let down = details(&status()["servers"][1], false).join("\n");
        assert!(
            down.contains("stderr: last words")
                && down.ends_with("hint: once that is done: mainstay restart typo"),
            "{down}"
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
