//! What `chaos run` prints: a table for people, one object for programs, and the exit code of both.

use serde::Serialize;

use super::scenario::seconds;
use super::target::Kind;
use super::verdict::{Report, Verdict};
use crate::cli::chaos::ChaosEra;
use crate::cli::output::{Output, Paint};
use crate::cli::table::{Sheet, terminal_width};
use crate::exit::Exit;

/// Everything that was found out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    version: &'static str,
    target: String,
    era: &'static str,
    survived: usize,
    run: usize,
    /// Scenarios that were asked for and do not apply to such a target.
    not_applicable: usize,
    scenarios: Vec<Report>,
}

impl Summary {
    /// Counts.
    pub(super) fn new(
        kind: &Kind,
        era: ChaosEra,
        scenarios: Vec<Report>,
        not_applicable: usize,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            target: kind.name(),
            era: match era {
                ChaosEra::Legacy => "legacy",
                ChaosEra::Modern => "modern",
            },
            survived: scenarios
                .iter()
                .filter(|report| report.verdict == Verdict::Survived)
                .count(),
            run: scenarios.len(),
            not_applicable,
            scenarios,
        }
    }

    /// How the process ends.
    pub(super) fn exit(&self) -> Exit {
        let down = |report: &Report| report.verdict == Verdict::NoTarget;
        if self.survived == self.run {
            Exit::Ok
        } else if self.scenarios.iter().all(down) {
            Exit::TargetDown
        } else {
            Exit::NotSurvived
        }
    }
}

/// The table and one line below it.
pub(super) fn table(summary: &Summary, output: Output) -> String {
    let mut sheet = Sheet::new(&[
        "SCENARIO", "VERDICT", "SLOWEST", "ANSWERED", "RAN", "STARTS", "NOTES",
    ]);
    for report in &summary.scenarios {
        let paint = match report.verdict {
            Verdict::Survived => Paint::Good,
            Verdict::Slow | Verdict::TypedError => Paint::Warn,
            Verdict::FailedCall
            | Verdict::Storm
            | Verdict::LostTools
            | Verdict::Hang
            | Verdict::LeakedProcess
            | Verdict::WrongAnswer
            | Verdict::ExecutedTwice
            | Verdict::NoTarget => Paint::Bad,
        };
        let plain = |text: String| (text, Paint::Plain);
        sheet.row(vec![
            plain(report.name.to_owned()),
            (report.verdict.word().to_owned(), paint),
            plain(seconds(report.slowest_ms)),
            plain(format!("{}/{}", report.answered, report.calls)),
            plain(report.executions.to_string()),
            plain(report.starts.to_string()),
            (report.notes.join("; "), Paint::Dim),
        ]);
    }
    let width = output.is_terminal().then(terminal_width);
    let skipped = match summary.not_applicable {
        0 => String::new(),
        some => format!(", {some} do not apply to such a target"),
    };
    format!(
        "{}\n\n{} of {} scenarios survived by {}{skipped}",
        sheet.render(width, output.color()),
        summary.survived,
        summary.run,
        summary.target,
    )
}
