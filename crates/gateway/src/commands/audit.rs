//! `mainstay audit`: who did what, and whether the log of it is as it was written.

use std::path::PathBuf;

use mainstay_gateway::audit::read::{Verified, verify};
use serde_json::{Value, json};

use super::calls::{outcome_paint, outcome_words};
use super::client::{AdminClient, segment};
use super::paths;
use super::records::{Query, at};
use crate::cli::audit::{AuditAction, AuditArgs, VerifyArgs};
use crate::cli::human::{self, now_unix_ms};
use crate::cli::output::{Output, Paint};
use crate::cli::table::{Column, Field, Sheet, terminal_width};
use crate::exit::{Exit, Stop};

const COLUMNS: [Column; 6] = [
    Column::new("TIME", 1),
    Column::elastic("WHO", 0),
    Column::elastic("WHAT", 0),
    Column::new("DECISION", 0),
    Column::elastic("RULE", 3),
    Column::new("OUTCOME", 0),
];

/// Shows the last records, or looks whether all is as it was written.
///
/// # Errors
/// Exit 5 when no Mainstay is running, 6 when it keeps no log, 72 when the log is not as it was written.
pub(crate) async fn run(args: AuditArgs, output: Output) -> Result<Exit, Stop> {
    if let Some(AuditAction::Verify(args)) = args.action {
        return verified(args, output).await;
    }
    let client = AdminClient::new(paths::socket(args.socket.socket.as_deref())?);
    let mut path = format!("/api/v1/audit?limit={}", args.lines);
    if let Some(since) = Query::since(args.since.as_deref())? {
        path.push_str(&format!("&since={since}"));
    }
    for (key, value) in [("principal", &args.principal), ("server", &args.server)] {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={}", segment(value)));
        }
    }
    let page = client.get(&path).await?.ok()?;
    let records = page["records"].as_array().cloned().unwrap_or_default();
    if args.json {
        for record in &records {
            output.line(&record.to_string())?;
        }
    } else if records.is_empty() {
        output.note("nothing of that kind is recorded");
    } else {
        let width = output.is_terminal().then(terminal_width);
        output.line(&table(&records, now_unix_ms(), width, output.color()))?;
    }
    if let Some(problem) = page["status"]["problem"].as_str() {
        output.warn(
            &format!("the audit log cannot be written: {problem}"),
            Some("it is tried again by itself; see to the disk and the file's permissions"),
        );
    }
    Ok(Exit::Ok)
}

fn table(records: &[Value], now: u64, width: Option<u16>, color: bool) -> String {
    let mut sheet = Sheet::ranked(&COLUMNS);
    for record in records {
        let at = at(record).unwrap_or(now);
        sheet.row(row(record, &human::clock(at, now)));
    }
    sheet.render(width, color)
}

fn row(record: &Value, when: &str) -> Vec<Field> {
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let who = &record["who"];
    let name = who["principal"].as_str().or(who["by"].as_str());
    let what = match record["kind"].as_str().unwrap_or_default() {
        "audit" => format!("audit log {}", text("event")),
        "config" => "configuration".to_owned(),
        _ if record["exposed"].is_string() => match text("method").as_str() {
            "tools/call" => format!("{} {}", text("server"), text("exposed")),
            method => format!("{} {method} {}", text("server"), text("exposed")),
        },
        _ => text("method"),
    };
    let decision = match text("reason") {
        reason if reason.is_empty() => text("decision"),
        reason => reason,
    };
    let refused = text("decision") != "allow" && !text("decision").is_empty();
    let outcome = text("outcome");
    let paint = if refused { Paint::Bad } else { Paint::Plain };
    let of_call = record["kind"] == "call";
    vec![
        (when.to_owned(), Paint::Dim),
        (name.unwrap_or_default().to_owned(), Paint::Plain),
        (what, Paint::Bold),
        (decision, paint),
        (text("rule"), Paint::Plain),
        (
            outcome_words(&outcome),
            if of_call {
                outcome_paint(&outcome)
            } else {
                Paint::Plain
            },
        ),
    ]
}

async fn verified(args: VerifyArgs, output: Output) -> Result<Exit, Stop> {
    let file = match args.file {
        Some(file) => file,
        None => {
            let client = AdminClient::new(paths::socket(args.socket.socket.as_deref())?);
            let page = client.get("/api/v1/audit?limit=1").await?.ok()?;
            PathBuf::from(page["status"]["path"].as_str().unwrap_or_default())
        }
    };
    let found = verify(&file).map_err(|error| {
        Stop::new(
            Exit::NotFound,
            format!("there is no audit log to read at {}", file.display()),
        )
        .because(error)
        .hint("name its current file, such as STATE_DIR/audit/audit.jsonl")
    })?;
    let exit = if found.is_whole() {
        Exit::Ok
    } else {
        Exit::AuditBroken
    };
    if args.json {
        output.json(&summary(&file.display().to_string(), &found))?;
        return Ok(exit);
    }
    for finding in &found.findings {
        let mark = if finding.harmless { "note" } else { "WRONG" };
        output.line(&format!(
            "{mark}: {}:{}: {}",
            finding.file, finding.line, finding.what
        ))?;
    }
    let last = found.last.as_ref();
    let last = last.map_or("nothing".to_owned(), |last| {
        format!("line {} with hash {}", last.seq, last.hash)
    });
    let verdict = if found.is_whole() {
        "all is as it was written"
    } else {
        "it is NOT as it was written"
    };
    output.line(&format!(
        "{} lines in {} files: {verdict}; the last is {last}",
        found.lines, found.files
    ))?;
    Ok(exit)
}

fn summary(file: &str, found: &Verified) -> Value {
    json!({
        "file": file,
        "whole": found.is_whole(),
        "lines": found.lines,
        "files": found.files,
        "last": found.last,
        "findings": found.findings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_who_what_and_how_it_was_decided() {
        let records = [
            json!({ "kind": "call", "atUnixMs": 1, "who": { "principal": "token:ci", "by": "token" }, "method": "tools/call",
                "server": "github", "exposed": "github__delete", "decision": "refuse", "reason": "readOnly", "rule": "r1", "outcome": "refused" }),
            json!({ "kind": "operator", "atUnixMs": 2, "who": { "by": "socket" }, "method": "POST /api/v1/reload", "outcome": "200" }),
            json!({ "kind": "audit", "atUnixMs": 3, "event": "started" }),
        ];
        let text = table(&records, 10, None, false);
        for (line, part) in [
            (1, "token:ci"),
            (1, "github github__delete"),
            (1, "readOnly"),
            (1, "r1"),
            (2, "socket"),
            (2, "POST /api/v1/reload"),
            (3, "audit log started"),
        ] {
            let line = text.lines().nth(line).unwrap();
            assert!(line.contains(part), "{part} is missing in {line}");
        }
    }
}
