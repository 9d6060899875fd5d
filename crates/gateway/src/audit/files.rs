//! The files of an audit log: the one that is written, those before it, and the note of the last line beside them. Blocking.
//!
//! The current file has the name that was asked for; a full one gets the number of its first line as an ending. All are for
//! their owner alone (0600). A lock beside them keeps a second Mainstay out.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::chain::{self, Link};

/// Longest line that is written or read.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;

/// A path with something behind its name.
fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The note of the last line.
fn head_of(path: &Path) -> PathBuf {
    with(path, ".head")
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// All files of a log, the oldest first.
pub(super) fn all(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = rotated(path)?;
    if path.exists() {
        files.push(path.to_owned());
    }
    Ok(files)
}

/// Those that are full, the oldest first: their numbers have equally many digits.
fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (
        path.parent(),
        path.file_name().and_then(|name| name.to_str()),
    ) else {
        return Ok(Vec::new());
    };
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let entry_name = entry.file_name();
        let number = entry_name.to_str().and_then(|entry| {
            let number = entry.strip_prefix(name)?.strip_prefix('.')?;
            (number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(())
        });
        if number.is_some() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The note of the last line, if there is one that can be read.
pub(super) fn head(path: &Path) -> Option<Link> {
    let text = std::fs::read_to_string(head_of(path)).ok()?;
    serde_json::from_str(&text).ok()
}

/// The file that is written.
#[derive(Debug)]
pub(super) struct Current {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// The first line of the file.
    first: u64,
    /// Held for as long as this is.
    _lock: File,
}

/// What was found when a log was opened.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) current: Current,
    /// Where the chain goes on.
    pub(super) last: Link,
    /// The last line was not written to its end.
    pub(super) torn: bool,
    /// Lines that were noted as written are not there.
    pub(super) gap: bool,
}

impl Current {
    /// Opens the log, or begins one.
    pub(super) fn open(path: &Path) -> io::Result<Found> {
        if path.as_os_str().is_empty() {
            return Err(io::Error::other(
                "there is no state directory; set `mainstay.audit.path`",
            ));
        }
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)?;
        }
        let lock = private()
            .create(true)
            .truncate(false)
            .write(true)
            .open(with(path, ".lock"))?;
        if let Err(error) = lock.try_lock() {
            let other = matches!(error, std::fs::TryLockError::WouldBlock);
            return Err(if other {
                io::Error::other("another Mainstay writes it; give each a file of its own")
            } else {
                io::Error::from(error)
            });
        }
        let mut file = private().create(true).append(true).read(true).open(path)?;
        // One that was made by somebody else may be open to others.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        file.set_permissions(mode)?;
        let mut tail = tail(&mut file)?;
        if tail.torn {
            file.write_all(b"\n")?;
        }
        let bytes = file.metadata()?.len();
        if tail.last.is_none()
            && let Some(before) = rotated(path)?.pop()
        {
            tail.last = self::tail(&mut File::open(before)?)?.last;
        }
        let last = tail.last.unwrap_or_default();
        let gap = head(path).is_some_and(|head| head.seq > last.seq);
        Ok(Found {
            current: Self {
                path: path.to_owned(),
                file,
                bytes,
                first: last.seq + 1,
                _lock: lock,
            },
            last,
            torn: tail.torn,
            gap,
        })
    }

    /// Whether the file is still the one under its name.
    pub(super) fn is_there(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let named = std::fs::metadata(&self.path);
        let own = self.file.metadata();
        matches!((named, own), (Ok(named), Ok(own)) if (named.dev(), named.ino()) == (own.dev(), own.ino()))
    }

    /// Bytes in it.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes whole lines, all or none of them.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(lines) {
            // What is half written is no line: away with it, as far as the disk lets us.
            drop(self.file.set_len(self.bytes));
            return Err(error);
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Notes the last line beside the log. The rename makes it whole or not at all.
    pub(super) fn note(&self, last: &Link) -> io::Result<()> {
        let text = serde_json::to_string(last).map_err(io::Error::other)?;
        let new = with(&self.path, ".head.new");
        let mut file = private()
            .create(true)
            .truncate(true)
            .write(true)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(new, head_of(&self.path))
    }

    /// Lays the file aside and begins the next one. Of those that are full the newest `keep` stay.
    pub(super) fn rotate(&mut self, last: &Link, keep: usize) -> io::Result<()> {
        // Its first line says best which it is: this process may have begun in the middle of it.
        let first = first_seq(&self.path).unwrap_or(self.first);
        std::fs::rename(&self.path, with(&self.path, &format!(".{first:016}")))?;
        self.file = private()
            .create(true)
            .append(true)
            .read(true)
            .open(&self.path)?;
        self.bytes = 0;
        self.first = last.seq + 1;
        let full = rotated(&self.path)?;
        for old in full.iter().rev().skip(keep) {
            std::fs::remove_file(old)?;
        }
        Ok(())
    }
}

fn first_seq(path: &Path) -> Option<u64> {
    let mut beginning = vec![0; LINE_BYTES_MAX];
    let read = File::open(path).ok()?.read(&mut beginning).ok()?;
    let text = String::from_utf8_lossy(beginning.get(..read)?).into_owned();
    let value: serde_json::Value = serde_json::from_str(text.lines().next()?).ok()?;
    value["seq"].as_u64()
}

struct Tail {
    last: Option<Link>,
    torn: bool,
}

/// The last whole line of a file, and whether something is behind it that is none.
fn tail(file: &mut File) -> io::Result<Tail> {
    let bytes = file.metadata()?.len();
    // Two lines of the longest kind are in there, if there are two.
    let from = bytes.saturating_sub(3 * LINE_BYTES_MAX as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let torn = end.last().is_some_and(|byte| *byte != b'\n');
    let text = String::from_utf8_lossy(&end);
    let last = text.lines().rev().find_map(|line| chain::read(line).ok());
    Ok(Tail {
        last: last.map(|whole| whole.link),
        torn,
    })
}
