//! `mainstay approvals`: the calls that wait for the operator, and the operator's word.

use serde_json::{Value, json};

use super::client::{ANSWER_MAX, AdminClient, segment};
use super::paths;
use crate::cli::approvals::{ApprovalsAction, ApprovalsArgs, DecideArgs, ListArgs};
use crate::cli::human::now_unix_ms;
use crate::cli::output::Output;
use crate::exit::{Exit, Stop};

/// Shows the calls that wait, or decides about one.
///
/// # Errors
/// Exit 5 when no Mainstay is running, 6 when no call of that id waits.
pub(crate) async fn run(args: ApprovalsArgs, output: Output) -> Result<Exit, Stop> {
    let list = ListArgs {
        json: args.json,
        socket: args.socket,
    };
    match args.action {
        None => show(list, output).await,
        Some(ApprovalsAction::List(list)) => show(list, output).await,
        Some(ApprovalsAction::Allow(args)) => decide(args, true, output).await,
        Some(ApprovalsAction::Deny(args)) => decide(args, false, output).await,
    }
}

async fn show(args: ListArgs, output: Output) -> Result<Exit, Stop> {
    let client = AdminClient::new(paths::socket(args.socket.socket.as_deref())?);
    let list = client.get("/api/v1/approvals").await?.ok()?;
    if args.json {
        output.json(&list)?;
        return Ok(Exit::Ok);
    }
    let waiting = list["approvals"].as_array().cloned().unwrap_or_default();
    if waiting.is_empty() {
        output.note("no call waits for approval");
    }
    for call in &waiting {
        output.line(&text(call, now_unix_ms()))?;
    }
    Ok(Exit::Ok)
}

/// One call, with all that one must know to decide.
fn text(call: &Value, now: u64) -> String {
    let of = |key: &str| call[key].as_str().unwrap_or_default();
    let who = match of("principal") {
        "" => "this machine's user",
        who => who,
    };
    let left_ms = call["untilUnixMs"]
        .as_u64()
        .unwrap_or(now)
        .saturating_sub(now);
    format!(
        "{}  {} of {}, by {who} at {} (rule {}), {} s left\n    {}",
        of("id"),
        of("tool"),
        of("server"),
        of("endpoint"),
        of("rule"),
        left_ms.div_ceil(1_000),
        of("arguments")
    )
}

async fn decide(args: DecideArgs, allow: bool, output: Output) -> Result<Exit, Stop> {
    let client = AdminClient::new(paths::socket(args.list.socket.socket.as_deref())?);
    let path = format!("/api/v1/approvals/{}", segment(&args.id));
    let decided = client
        .post(&path, Some(json!({ "allow": allow })), ANSWER_MAX)
        .await?
        .ok()?;
    if args.list.json {
        output.json(&decided)?;
        return Ok(Exit::Ok);
    }
    let word = if allow { "allowed" } else { "denied" };
    let of = |key: &str| decided[key].as_str().unwrap_or_default();
    output.line(&format!("{word}: {} of {}", of("tool"), of("server")))?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_waits_is_shown_with_its_arguments() {
        let call = json!({ "id": "1a-2", "server": "files", "tool": "delete", "endpoint": "/mcp", "rule": "careful",
            "principal": "token:ci", "arguments": "{\"path\":\"/x\"}", "untilUnixMs": 5_500 });
        let text = text(&call, 1_000);
        for part in [
            "1a-2",
            "delete of files",
            "token:ci",
            "careful",
            "5 s left",
            "{\"path\":\"/x\"}",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
