//! Looking back: what the audit log on disk holds, and whether it is as it was written. Blocking.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde_json::Value;
use serde_json::value::RawValue;

use super::chain::{Finding, Follow, Link};
use super::files::{self, LINE_BYTES_MAX};

/// More records are never given at once.
pub const RECORDS_MAX: usize = 10_000;

/// What is looked for. The default is everything.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only from then on, in milliseconds since 1970.
    pub since: Option<u64>,
    /// Only up to then.
    pub until: Option<u64>,
    /// Only what this principal did, by its name or its label.
    pub principal: Option<String>,
    /// Only what is about this server.
    pub server: Option<String>,
    /// Only records of this kind.
    pub kind: Option<String>,
    /// How many at most.
    pub limit: usize,
}

/// Records, the newest that fit.
#[derive(Debug)]
pub struct Page {
    /// The oldest first.
    pub records: Vec<Box<RawValue>>,
    /// There are more that fit.
    pub truncated: bool,
}

impl Query {
    fn fits(&self, record: &Value) -> bool {
        let at = record["atUnixMs"].as_u64().unwrap_or(0);
        let is = |wanted: &Option<String>, found: &[&Value]| {
            wanted
                .as_deref()
                .is_none_or(|wanted| found.iter().any(|found| *found == wanted))
        };
        self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at <= until)
            && is(
                &self.principal,
                &[&record["who"]["principal"], &record["who"]["label"]],
            )
            && is(&self.server, &[&record["server"]])
            && is(&self.kind, &[&record["kind"]])
    }
}

/// Reads the records that fit. Lines that are none are passed over: [`verify`] tells of them.
///
/// # Errors
/// The files cannot be read.
pub fn read(path: &Path, query: &Query) -> io::Result<Page> {
    let limit = query.limit.min(RECORDS_MAX);
    let mut found: Vec<Box<RawValue>> = Vec::new();
    let mut truncated = false;
    // The newest file first; within a file the oldest line is first.
    for file in files::all(path)?.iter().rev() {
        let mut here = std::collections::VecDeque::new();
        let room = limit - found.len();
        let mut begun_before = false;
        each_line(file, |_, line| {
            let Ok(value) = serde_json::from_str::<Value>(line) else {
                return;
            };
            let at = value["atUnixMs"].as_u64();
            begun_before |= query.since.zip(at).is_some_and(|(since, at)| at < since);
            if query.fits(&value)
                && let Ok(raw) = RawValue::from_string(line.to_owned())
            {
                here.push_back(raw);
                if here.len() > room {
                    here.pop_front();
                    truncated = true;
                }
            }
        })?;
        let mut all: Vec<_> = here.into();
        all.append(&mut found);
        found = all;
        if truncated || begun_before {
            break;
        }
    }
    Ok(Page {
        records: found,
        truncated,
    })
}

/// What came of a look at the whole chain.
#[derive(Debug)]
pub struct Verified {
    /// Lines that were read.
    pub lines: u64,
    /// Files that were read.
    pub files: usize,
    /// The last line.
    pub last: Option<Link>,
    /// What is not as it was written.
    pub findings: Vec<Finding>,
}

impl Verified {
    /// Whether all of it is as it was written, traces of crashes aside.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.iter().all(|finding| finding.harmless)
    }
}

/// Looks at every line of every file of a log.
///
/// # Errors
/// The files cannot be read, or there are none.
pub fn verify(path: &Path) -> io::Result<Verified> {
    // What is written meanwhile is noted first: it may not have been read.
    let head = files::head(path);
    let all = files::all(path)?;
    if all.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "there is no such log",
        ));
    }
    let mut follow = Follow::default();
    for file in &all {
        let name = file.display().to_string();
        each_line(file, |number, line| follow.next(&name, number, line))?;
    }
    follow.end(&path.display().to_string(), head.as_ref());
    Ok(Verified {
        lines: follow.lines,
        files: all.len(),
        last: follow.last().cloned(),
        findings: follow.findings,
    })
}

/// Calls with every line and its number, counted from 1. One that is too long is given as far as it was read.
fn each_line(path: &Path, mut line: impl FnMut(u64, &str)) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut bytes = Vec::new();
    let mut number = 0;
    loop {
        bytes.clear();
        let room = LINE_BYTES_MAX as u64 + 1;
        if reader.by_ref().take(room).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(());
        }
        number += 1;
        // Never mended on the way: other bytes are another line, and what is no text is none that was written here.
        let text = std::str::from_utf8(&bytes).unwrap_or("\u{fffd}");
        line(number, text.trim_end_matches('\n'));
    }
}
