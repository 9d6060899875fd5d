//! The call ledger: what really happened, for tests that count executions.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// One line per event, `PID EVENT DETAIL`, appended in one write: several processes may share the file.
#[derive(Debug)]
pub(crate) struct Ledger(Option<File>);

impl Ledger {
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let file = path.map(|path| OpenOptions::new().append(true).create(true).open(path));
        file.transpose().map(Self)
    }

    /// `detail` must not contain a newline; it may contain blanks.
    pub(crate) fn write(&self, event: &str, detail: &str) {
        if let Some(mut file) = self.0.as_ref() {
            let line = format!(
                "{} {event} {}\n",
                std::process::id(),
                detail.replace('\n', " ")
            );
            // A ledger that cannot be written must not go unnoticed: the test would count too few.
            if let Err(error) = file.write_all(line.as_bytes()) {
                let _ = writeln!(io::stderr(), "misbehave: ledger: {error}");
                std::process::exit(3);
            }
        }
    }
}
