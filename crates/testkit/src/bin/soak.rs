//! The long soak: `soak [CRASHES [SESSIONS]]` (default 10,000 of each), with progress. See `scripts/soak`.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use mainstay_testkit::soak::{self, Report};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let crashes = number(1)?.unwrap_or(10_000);
    let sessions = number(2)?.unwrap_or(crashes);
    let stdio = beside("misbehave")?;
    let http = beside("misbehave-http")?;
    let started = Instant::now();
    let crashes =
        soak::crashes(&stdio, crashes, &mut |done| tell("crashes", done, crashes)).await?;
    let after_crashes = started.elapsed();
    let sessions = soak::sessions(&http, sessions, &mut |done| {
        tell("lost sessions", done, sessions)
    })
    .await?;
    let mut out = std::io::stdout();
    let mut sound = true;
    for (what, report, time) in [
        ("crashes", crashes, after_crashes),
        ("lost sessions", sessions, started.elapsed() - after_crashes),
    ] {
        let Report {
            cycles,
            answered,
            before,
            after,
            wrong,
        } = report;
        sound &= wrong.is_empty();
        let verdict = if wrong.is_empty() {
            "nothing leaked".to_owned()
        } else {
            wrong.join("; ")
        };
        writeln!(
            out,
            "{cycles} {what} in {} s, {answered} calls answered: {verdict}",
            time.as_secs()
        )?;
        writeln!(out, "  before: {before:?}\n  after:  {after:?}")?;
    }
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn number(argument: usize) -> Result<Option<u64>, std::num::ParseIntError> {
    std::env::args()
        .nth(argument)
        .map(|word| word.parse())
        .transpose()
}

fn tell(what: &str, done: u64, of: u64) {
    if done.is_multiple_of((of / 20).max(1)) {
        // A closed stderr is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{what}: {done} of {of}");
    }
}

/// A program of the same build.
fn beside(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!(
            "{} does not exist; run scripts/soak, which builds it",
            path.display()
        )
        .into())
    }
}
