//! `mainstay calls`: who called which tool, how it ended and how long it took.

use serde_json::Value;

use super::client::AdminClient;
use super::paths;
use super::records::{Kind, Query, at};
use crate::cli::CallsArgs;
use crate::cli::human::{self, now_unix_ms};
use crate::cli::output::{Output, Paint};
use crate::cli::table::{Column, Field, Sheet, plain, terminal_width};
use crate::exit::{Exit, Stop};

const COLUMNS: [Column; 11] = [
    Column::new("TIME", 1),
    Column::elastic("SERVER", 0),
    Column::elastic("TOOL", 0),
    Column::new("OUTCOME", 0),
    Column::elastic("CLIENT", 5),
    Column::new("QUEUED", 4),
    Column::new("SERVED", 2),
    Column::new("BYTES", 6),
    Column::new("TRIES", 8),
    Column::new("TRACE", 7),
    Column::elastic("WHY", 3),
];

/// Prints calls that were made, and with `--follow` calls as they end until interrupted.
///
/// # Errors
/// Exit 2 for a `--since` that is no time, 5 when no Mainstay is running, 6 when it has no such server.
pub(crate) async fn run(args: CallsArgs, output: Output) -> Result<Exit, Stop> {
    let holds = |call: &Value| wanted(call, &args);
    let query = Query {
        since: Query::since(args.since.as_deref())?,
        client: AdminClient::new(paths::socket(args.socket.socket.as_deref())?),
        kind: Kind::Calls,
        last: usize::try_from(args.lines).unwrap_or(usize::MAX),
        servers: &args.server,
        holds: &holds,
    };
    query.known().await?;
    let width = || output.is_terminal().then(terminal_width);
    if args.follow {
        let show = |call: &Value| {
            if args.json {
                output.line(&call.to_string())
            } else {
                output.line(&line(call, now_unix_ms(), width(), output.color()))
            }
        };
        return query.follow(output, show).await;
    }
    let calls = query.past(output).await?;
    if args.json {
        for call in &calls {
            output.line(&call.to_string())?;
        }
    } else if calls.is_empty() {
        output.note("no such call was made in that time");
    } else {
        output.line(&table(&calls, now_unix_ms(), width(), output.color()))?;
    }
    Ok(Exit::Ok)
}

/// Whether it is one of those that were asked for.
fn wanted(call: &Value, args: &CallsArgs) -> bool {
    let is_tool =
        |tool: &String| [&call["tool"], &call["exposed"]].contains(&&Value::from(tool.as_str()));
    let is_outcome = |outcome: &crate::cli::calls::Outcome| call["outcome"] == outcome.word();
    (args.tool.is_empty() || args.tool.iter().any(is_tool))
        && (args.outcome.is_empty() || args.outcome.iter().any(is_outcome))
}

/// Calls as a table, with those arguments that were recorded below their call's line.
pub(crate) fn table(calls: &[Value], now: u64, width: Option<u16>, color: bool) -> String {
    let mut sheet = Sheet::ranked(&COLUMNS);
    for call in calls {
        let at = at(call).unwrap_or(now);
        sheet.row(row(call, &human::clock(at, now)));
    }
    sheet.render(width, color)
}

/// One call as a line of a growing list, in columns that nearly always fit.
fn line(call: &Value, now: u64, width: Option<u16>, color: bool) -> String {
    const WIDTHS: [usize; 11] = [8, 12, 20, 11, 16, 7, 7, 17, 1, 8, 0];
    let fields = row(call, &human::clock(at(call).unwrap_or(now), now));
    let mut text = String::new();
    let mut used = 0;
    for ((field, paint), at_least) in fields.into_iter().zip(WIDTHS) {
        let shown = format!("{:at_least$}", plain(&field));
        let wide = unicode_width::UnicodeWidthStr::width(shown.as_str());
        // What does not fit is left out, beginning with what is last.
        if width.is_some_and(|width| used + wide > usize::from(width)) {
            break;
        }
        used += wide + 2;
        text.push_str(&paint.on(&shown, color));
        text.push_str("  ");
    }
    text.trim_end().to_owned()
}

fn row(call: &Value, when: &str) -> Vec<Field> {
    let text = |key: &str| call[key].as_str().unwrap_or_default().to_owned();
    let plain = |text: String| (text, Paint::Plain);
    let method = text("method");
    let tool = match text("tool") {
        tool if tool.is_empty() => method,
        tool if method.is_empty() || method == "tools/call" => tool,
        tool => format!("{method} {tool}"),
    };
    let time = |key: &str| plain(call[key].as_f64().map(human::latency).unwrap_or_default());
    let size = |key: &str| call[key].as_u64().map(human::bytes);
    let bytes = match (size("requestBytes"), size("resultBytes")) {
        (Some(sent), Some(got)) => format!("{sent} > {got}"),
        (one, other) => one.or(other).unwrap_or_default(),
    };
    let tries = call["attempts"].as_u64().filter(|tries| *tries > 1);
    let mut why = text("cause");
    if let Some(arguments) = call.get("arguments").filter(|given| !given.is_null()) {
        let given = arguments.to_string();
        why = if why.is_empty() {
            given
        } else {
            format!("{why}; {given}")
        };
    }
    vec![
        (when.to_owned(), Paint::Dim),
        plain(text("server")),
        (tool, Paint::Bold),
        (
            outcome_words(&text("outcome")),
            outcome_paint(&text("outcome")),
        ),
        plain(client(call)),
        time("queuedMs"),
        time("servedMs"),
        plain(bytes),
        plain(tries.map(|tries| tries.to_string()).unwrap_or_default()),
        (short(&text("traceId")), Paint::Dim),
        plain(why),
    ]
}

/// Who called: the client by the name that it gave, and where it came in if that is not the one endpoint for all.
pub(crate) fn client(call: &Value) -> String {
    let endpoint = call["endpoint"].as_str().unwrap_or_default();
    let client = &call["client"];
    let name = client.as_str().or(client["name"].as_str());
    let version = client["version"].as_str().unwrap_or_default();
    match name {
        Some(name) if version.is_empty() => name.to_owned(),
        Some(name) => format!("{name} {version}"),
        None => endpoint.to_owned(),
    }
}

/// So much of a trace id finds it again.
fn short(trace: &str) -> String {
    trace.chars().take(8).collect()
}

/// An outcome as people say it.
pub(crate) fn outcome_words(outcome: &str) -> String {
    match outcome {
        "toolError" => "tool error".to_owned(),
        "serverError" => "error".to_owned(),
        other => other.to_owned(),
    }
}

/// How an outcome looks.
pub(crate) fn outcome_paint(outcome: &str) -> Paint {
    match outcome {
        "answered" => Paint::Good,
        "toolError" | "serverError" | "cancelled" => Paint::Warn,
        _not_answered => Paint::Bad,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn calls() -> Vec<Value> {
        vec![
            json!({ "atUnixMs": 1_795_299_303_000_u64, "server": "github", "generation": 3, "method": "tools/call",
                "tool": "create_issue", "exposed": "github__create_issue", "client": { "name": "claude", "version": "1.2" },
                "endpoint": "/mcp", "outcome": "answered", "queuedMs": 0, "servedMs": 132, "requestBytes": 84,
                "resultBytes": 2_048, "attempts": 1, "traceId": "4bf92f3577b34da6a3ce929d0e0e4736" }),
            json!({ "atUnixMs": 1_795_299_303_500_u64, "server": "files", "method": "resources/read", "endpoint": "/servers/files/mcp",
                "outcome": "refused", "cause": "parked: program not found", "queuedMs": 15_000, "attempts": 0 }),
        ]
    }

    #[test]
    fn a_call_says_who_what_how_and_how_long() {
        let text = table(&calls(), 1_795_299_304_000, None, false);
        for part in [
            "create_issue",
            "answered",
            "claude 1.2",
            "<1 ms",
            "132 ms",
            "84 B > 2.0 KiB",
            "4bf92f35",
        ] {
            assert!(
                text.lines().nth(1).unwrap().contains(part),
                "{part:?} is missing in\n{text}"
            );
        }
        for part in [
            "resources/read",
            "refused",
            "/servers/files/mcp",
            "15.0 s",
            "parked: program not found",
        ] {
            assert!(
                text.lines().nth(2).unwrap().contains(part),
                "{part:?} is missing in\n{text}"
            );
        }
        assert!(!text.contains("TRIES"), "nobody was tried twice:\n{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [40, 80, 200] {
            let table = table(&calls(), 1_795_299_304_000, Some(width), false);
            let lines: Vec<String> = calls()
                .iter()
                .map(|call| line(call, 1_795_299_304_000, Some(width), false))
                .collect();
            for line in table.lines().chain(lines.iter().map(String::as_str)) {
                assert!(
                    line.chars().count() <= usize::from(width),
                    "{width}: {line:?}"
                );
            }
            assert!(table.contains("OUTCOME"), "{table}");
        }
    }

    #[test]
    fn recorded_arguments_are_shown() {
        let mut call = calls().remove(0);
        call["arguments"] = json!({ "title": "x" });
        assert!(line(&call, 0, None, false).ends_with(r#"{"title":"x"}"#));
    }
}
