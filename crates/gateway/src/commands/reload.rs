//! `mainstay reload`: asks the running Mainstay to read its file again, and shows what that takes.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::AdminClient;
use super::paths;
use crate::cli::ReloadArgs;
use crate::cli::output::{Output, Paint};
use crate::exit::{Exit, Stop};

/// A slow disk may hold it up, and other reloads.
const RELOAD_MAX: Duration = Duration::from_secs(60);

/// Reloads, or tells what a reload would do.
///
/// # Errors
/// Exit 5 when no Mainstay is running, 3 when the file is not to be loaded.
pub(crate) async fn run(args: ReloadArgs, output: Output) -> Result<Exit, Stop> {
    let client = AdminClient::new(paths::socket(args.socket.socket.as_deref())?);
    let body = json!({ "dryRun": args.dry_run });
    let reply = client
        .post("/api/v1/reload", Some(body), RELOAD_MAX)
        .await?;
    // A refused file is an answer with an account, everything else an error.
    let answer = if reply.body["problems"].is_array() {
        reply.body
    } else {
        reply.ok()?
    };
    let ok = answer["ok"] == true;
    if args.json {
        output.json(&answer)?;
        return Ok(if ok { Exit::Ok } else { Exit::ConfigInvalid });
    }
    for problem in answer["problems"].as_array().into_iter().flatten() {
        output.note(&problem_text(problem, output.color_err()));
    }
    if !ok {
        return Err(Stop::new(
            Exit::ConfigInvalid,
            "the configuration was not loaded; what was loaded before stays in force",
        )
        .hint("mend the file; `mainstay reload --dry-run` tells whether it can be loaded"));
    }
    if let Some(text) = answer["plan"]["text"].as_str() {
        output.line(text)?;
    }
    if args.dry_run {
        output.note("nothing was changed; `mainstay reload` does it");
    }
    Ok(Exit::Ok)
}

fn problem_text(problem: &Value, color: bool) -> String {
    let text = |key: &str| problem[key].as_str().unwrap_or_default();
    let mut line = String::new();
    if let Some(file) = problem["file"].as_str() {
        line = format!("{file}:{}:{}: ", problem["line"], problem["column"]);
    }
    let severity = text("severity");
    let paint = match severity {
        "error" => Paint::Bad,
        "warning" => Paint::Warn,
        _ => Paint::Dim,
    };
    line.push_str(&paint.on(&format!("{severity}:"), color));
    line.push(' ');
    line.push_str(text("message"));
    match (problem["path"].as_str(), problem["server"].as_str()) {
        (Some(path), _) if !path.is_empty() => line.push_str(&format!(" (at {path})")),
        (None, Some(server)) => line.push_str(&format!(" (server `{server}`)")),
        _ => {}
    }
    if !text("remedy").is_empty() {
        let hint = Paint::Bold.on("hint:", color);
        line.push_str(&format!("\n{hint} {}", text("remedy")));
    }
    line
}
