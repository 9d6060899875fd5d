//! `mainstay tools diff` and `mainstay tools approve`: what was approved of pinned servers' tools, and what they are now.

use serde_json::{Value, json};

use crate::cli::human;
use crate::cli::output::{Output, Paint};
use crate::cli::table::plain;
use crate::cli::tools::{ApproveArgs, DiffArgs};
use crate::commands::client::{ANSWER_MAX, AdminClient, segment};
use crate::commands::paths;
use crate::exit::{Exit, Stop};

/// Shows what waits for approval.
///
/// # Errors
/// Exit 5 when no Mainstay is running, 6 when it has no such server.
pub(crate) async fn diff(args: DiffArgs, output: Output) -> Result<Exit, Stop> {
    let client = AdminClient::new(paths::socket(args.socket.socket.as_deref())?);
    let path = match &args.server {
        Some(server) => format!("/api/v1/tools/changes?server={}", segment(server)),
        None => "/api/v1/tools/changes".to_owned(),
    };
    let answer = client.get(&path).await?.ok()?;
    if args.json {
        output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let changes: Vec<&Value> = answer["changes"].as_array().into_iter().flatten().collect();
    let now = human::now_unix_ms();
    for change in &changes {
        output.line(&headline(change, now, output.color()))?;
        for line in change["diff"].as_array().into_iter().flatten() {
            let line = line.as_str().unwrap_or_default();
            let paint = match line.as_bytes().first() {
                Some(b'-') => Paint::Bad,
                Some(b'+') => Paint::Good,
                Some(_) | None => Paint::Dim,
            };
            output.line(&paint.on(&format!("  {}", plain(line)), output.color()))?;
        }
        output.line("")?;
    }
    if changes.is_empty() {
        output.note("nothing waits for approval");
    } else {
        output.hint("approve with `mainstay tools approve SERVER TOOL…`, or `--all`");
    }
    Ok(Exit::Ok)
}

/// One line above a difference.
fn headline(change: &Value, now: u64, color: bool) -> String {
    let text = |key: &str| plain(change[key].as_str().unwrap_or_default());
    let what = match change["kind"].as_str() {
        Some("added") => "is new, and held back",
        Some("removed") => "is gone",
        _changed => "has changed, and is held back",
    };
    let seen = change["seenAtUnixMs"].as_u64().unwrap_or(now);
    let why = match change["damaged"].as_str() {
        Some(why) => format!(
            "; the record of what was approved cannot be used: {}",
            plain(why)
        ),
        None => String::new(),
    };
    format!(
        "{} {} {what} ({}){why}",
        plain(&text("server")),
        Paint::Bold.on(&text("tool"), color),
        human::since(seen, now),
    )
}

/// Approves tools as they are now.
///
/// # Errors
/// Exit 5 when no Mainstay is running, 6 when it has no such server or tool, 1 when they are not pinned or it cannot be kept.
pub(crate) async fn approve(args: ApproveArgs, output: Output) -> Result<Exit, Stop> {
    let client = AdminClient::new(paths::socket(args.socket.socket.as_deref())?);
    let path = format!("/api/v1/servers/{}/approve", segment(&args.server));
    let body = if args.program {
        json!({ "program": true })
    } else if args.all {
        json!({})
    } else {
        json!({ "tools": args.tools })
    };
    let answer = client.post(&path, Some(body), ANSWER_MAX).await?.ok()?;
    if args.json {
        output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    if args.program {
        let files = answer["program"]["files"].as_array().into_iter().flatten();
        for file in files {
            let text = |key: &str| plain(file[key].as_str().unwrap_or_default());
            output.line(&format!("approved: {} {}", text("path"), text("digest")))?;
        }
        return Ok(Exit::Ok);
    }
    let names: Vec<String> = answer["approved"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| Some(plain(name.as_str()?)))
        .collect();
    if names.is_empty() {
        output.note(&format!("nothing of `{}` waited for approval", args.server));
    } else {
        output.line(&format!(
            "approved of `{}`: {}",
            args.server,
            names.join(", ")
        ))?;
    }
    Ok(Exit::Ok)
}
