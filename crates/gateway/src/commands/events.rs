//! `mainstay events`: what happened, and what happens.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::client::AdminClient;
use super::records::{Kind, Query, at};
use super::{describe, paths};
use crate::cli::EventsArgs;
use crate::cli::human::{self, now_unix_ms};
use crate::cli::output::{Output, Paint};
use crate::cli::table::{plain, terminal_width, wrap};
use crate::exit::{Exit, Stop};

/// Prints what happened, and with `--follow` what happens until interrupted.
///
/// # Errors
/// Exit 2 for a `--since` that is no time, 5 when no Mainstay is running, 6 when it has no such server.
pub(crate) async fn run(args: EventsArgs, output: Output) -> Result<Exit, Stop> {
    let query = Query {
        since: Query::since(args.since.as_deref())?,
        client: AdminClient::new(paths::socket(args.socket.socket.as_deref())?),
        kind: Kind::Events,
        last: usize::try_from(args.lines).unwrap_or(usize::MAX),
        servers: &args.server,
        holds: &|_| true,
    };
    query.known().await?;
    let mut told = Told::default();
    if args.follow {
        let show = |event: &Value| print(&mut told, event, true, args.json, output);
        return query.follow(output, show).await;
    }
    let events = query.past(output).await?;
    if events.is_empty() && !args.json {
        output.note("nothing happened in that time");
    }
    for event in &events {
        print(&mut told, event, false, args.json, output)?;
    }
    Ok(Exit::Ok)
}

/// One event as a line. Of what happens now the time counts, of what happened how long ago it was.
fn print(
    told: &mut Told,
    event: &Value,
    live: bool,
    as_json: bool,
    output: Output,
) -> Result<(), Stop> {
    if as_json {
        return output.line(&event.to_string());
    }
    let width = output.is_terminal().then(terminal_width);
    let event = told.shortened(event);
    for line in lines(&event, live, now_unix_ms(), width, output.color()) {
        output.line(&line)?;
    }
    Ok(())
}

/// What was told last of each server. One failure takes a server through several states: its words are told once.
#[derive(Debug, Default)]
pub(crate) struct Told(BTreeMap<String, String>);

impl Told {
    /// The event without the words that were the last ones about its server.
    pub(crate) fn shortened<'v>(&mut self, event: &'v Value) -> Cow<'v, Value> {
        let server = event["server"].as_str().unwrap_or_default();
        let Some(detail) = event["detail"].as_str() else {
            return Cow::Borrowed(event);
        };
        if self.0.get(server).is_some_and(|last| last == detail) {
            let mut event = event.clone();
            event["detail"] = Value::Null;
            return Cow::Owned(event);
        }
        self.0.insert(server.to_owned(), detail.to_owned());
        Cow::Borrowed(event)
    }
}

/// An event in words, broken at the width.
pub(crate) fn lines(
    event: &Value,
    live: bool,
    now: u64,
    width: Option<u16>,
    color: bool,
) -> Vec<String> {
    let when = at(event).map(|at| {
        if live {
            human::clock(at, now)
        } else {
            format!("{}  {:>11}", human::clock(at, now), human::since(at, now))
        }
    });
    let when = when.unwrap_or_default();
    // On a narrow screen, the time of day is enough.
    let when = match width {
        Some(width) if width < 60 => when.split("  ").next().unwrap_or_default().to_owned(),
        Some(_) | None => when,
    };
    let server = event["server"].as_str().unwrap_or("mainstay");
    let text = plain(&describe::happened(event));
    let lines = wrap(&format!("{when}  {server}  {text}"), width, 4);
    let paint = match event["to"].as_str() {
        Some(to) => super::view::state_paint(to),
        None => Paint::Plain,
    };
    let painted = format!(
        "{}  {}",
        Paint::Dim.on(&when, color),
        paint.on(server, color)
    );
    let bare = format!("{when}  {server}");
    lines
        .into_iter()
        .enumerate()
        .map(|(at, line)| match line.strip_prefix(&bare) {
            Some(rest) if at == 0 => format!("{painted}{rest}"),
            Some(_) | None => line,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_is_told_once() {
        let mut told = Told::default();
        let event = |server, detail| json!({ "server": server, "type": "transition", "from": "a", "to": "b", "detail": detail });
        let mut words = |event: &Value| describe::happened(&told.shortened(event));
        assert_eq!(words(&event("x", "killed")), "a -> b: killed");
        assert_eq!(words(&event("x", "killed")), "a -> b");
        assert_eq!(words(&event("y", "killed")), "a -> b: killed");
        assert_eq!(words(&event("x", "starved")), "a -> b: starved");
    }

    #[test]
    fn an_event_is_one_line_that_says_when_who_and_what() {
        let event = json!({ "atUnixMs": 1_795_299_303_000_u64, "server": "time", "generation": 2, "type": "transition",
            "from": "connected", "to": "backoff", "cause": "failed", "detail": "killed by signal 9", "nextInMs": 400 });
        let now = 1_795_299_303_000 + 185_000;
        let past = lines(&event, false, now, None, false);
        assert_eq!(past.len(), 1);
        assert!(
            past[0].contains("  3 min ago  time  connected -> backoff"),
            "{past:?}"
        );
        let live = lines(&event, true, now, None, false);
        assert!(!live[0].contains("ago"), "{live:?}");
        for width in [40, 80] {
            let narrow = lines(&event, false, now, Some(width), false);
            assert!(
                narrow
                    .iter()
                    .all(|line| line.chars().count() <= usize::from(width)),
                "{narrow:#?}"
            );
        }
        assert!(lines(&event, true, now, None, true)[0].contains("\x1b[31mtime\x1b[0m"));
    }
}
