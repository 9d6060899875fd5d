//! What `doctor` tells: a table of the servers, the versions, and the findings with their remedies.

use mainstay::config::Severity;
use serde_json::{Value, json};

use super::{Finding, Health, Seen};
use crate::cli::human::duration;
use crate::cli::output::{Output, Paint};
use crate::cli::table::{Sheet, plain, terminal_width};
use crate::cli::wrap::wrap;
use crate::commands::config::plural;
use crate::exit::Stop;

/// As programs read it.
pub(super) fn json(health: &Health) -> Value {
    let findings: Vec<Value> = health
        .findings
        .iter()
        .map(|finding| {
            json!({
                "severity": finding.severity.to_string(),
                "area": finding.area.word(),
                "place": finding.place,
                "message": finding.message,
                "remedy": finding.remedy,
            })
        })
        .collect();
    let servers: Vec<Value> = health
        .servers
        .iter()
        .map(|seen| {
            json!({
                "name": seen.name, "transport": seen.transport, "state": seen.state, "program": seen.program,
                "httpStatus": seen.http_status, "startMs": seen.start_ms, "era": seen.era, "protocol": seen.protocol,
                "tools": seen.tools, "noiseLines": seen.noise,
            })
        })
        .collect();
    let runtimes: Vec<Value> = health
        .runtimes
        .iter()
        .map(|one| json!({ "program": one.program, "path": one.path.display().to_string(), "version": one.version }))
        .collect();
    json!({
        "ok": !health.findings.iter().any(|finding| finding.severity > Severity::Note),
        "file": health.file.as_ref().map(|file| file.display().to_string()),
        "running": health.running.as_ref().map(|status| json!({ "pid": status["pid"], "version": status["version"] })),
        "servers": servers,
        "runtimes": runtimes,
        "findings": findings,
    })
}

/// As people read it.
pub(super) fn tell(health: &Health, output: Output) -> Result<(), Stop> {
    if !health.servers.is_empty() {
        let mut sheet = Sheet::new(&[
            "SERVER",
            "STATE",
            "TRANSPORT",
            "REVISION",
            "TOOLS",
            "START",
            "PROGRAM",
        ]);
        for seen in &health.servers {
            sheet.row(row(seen));
        }
        let width = output.is_terminal().then(terminal_width);
        output.line(&sheet.render(width, output.color()))?;
        output.line("")?;
    }
    if !health.runtimes.is_empty() {
        let all: Vec<String> = health
            .runtimes
            .iter()
            .map(|one| format!("{} {}", one.program, one.version))
            .collect();
        output.line(&plain(&format!("Found: {}", all.join(", "))))?;
        output.line("")?;
    }
    for finding in &health.findings {
        let text = text(finding, output.color());
        let told = output
            .is_terminal()
            .then(|| wrap(&text, usize::from(terminal_width())));
        output.line(&told.unwrap_or(text))?;
    }
    let count = |severity| {
        health
            .findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };
    let (errors, warnings, notes) = (
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Note),
    );
    let summary = if errors + warnings == 0 {
        "nothing is wrong".to_owned()
    } else {
        format!(
            "{errors} {}, {warnings} {}",
            plural(errors, "error"),
            plural(warnings, "warning")
        )
    };
    let notes = if notes == 0 {
        String::new()
    } else {
        format!(", {notes} {}", plural(notes, "note"))
    };
    output.note(&format!("{summary}{notes}"));
    Ok(())
}

fn row(seen: &Seen) -> Vec<(String, Paint)> {
    let paint = match seen.state {
        "connected" => Paint::Good,
        "down" | "broken" => Paint::Bad,
        _ => Paint::Dim,
    };
    let tools = seen
        .tools
        .map(|tools| tools.to_string())
        .unwrap_or_default();
    let start = seen.start_ms.map(duration).unwrap_or_default();
    vec![
        (seen.name.clone(), Paint::Bold),
        (seen.state.to_owned(), paint),
        (seen.transport.to_owned(), Paint::Plain),
        (seen.protocol.clone().unwrap_or_default(), Paint::Plain),
        (tools, Paint::Plain),
        (start, Paint::Plain),
        (seen.program.clone().unwrap_or_default(), Paint::Dim),
    ]
}

fn text(finding: &Finding, color: bool) -> String {
    let paint = match finding.severity {
        Severity::Error => Paint::Bad,
        Severity::Warning => Paint::Warn,
        Severity::Note => Paint::Dim,
    };
    let mut lines = finding.message.lines();
    let mut text = format!(
        "{} {} [{}]: {}",
        paint.on(&format!("{}:", finding.severity), color),
        plain(&finding.place),
        finding.area.word(),
        plain(lines.next().unwrap_or_default())
    );
    for line in lines {
        text.push_str(&format!("\n  {}", plain(line)));
    }
    if !finding.remedy.is_empty() {
        text.push_str(&format!(
            "\n  {} {}",
            Paint::Bold.on("hint:", color),
            plain(&finding.remedy)
        ));
    }
    text
}
