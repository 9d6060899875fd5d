//! The files of the journal: how they are called, which one is written, and which have to go.
//!
//! A file is `STARTED-PID-NUMBER.jsonl`, so that names in order are files in order. Whoever writes one holds its lock, so
//! that several processes can share a directory: each writes files of its own, and only removes files that nobody writes.
//! With several of them, the bounds are exceeded by one file for each process beyond the first.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::catalog::unix_ms;

/// A line is at most this long; what would be longer is lost.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;

const EXTENSION: &str = "jsonl";

/// How much there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    bytes: u64,
    files: usize,
    segment_bytes: u64,
}

impl Bounds {
    pub(super) fn new(bytes: u64, files: usize) -> Self {
        let bytes = bytes.max(super::BYTES_MIN);
        // A file must hold a line, and there must be one to remove while another is written.
        let most = usize::try_from(bytes / LINE_BYTES_MAX as u64).unwrap_or(usize::MAX);
        let files = files.clamp(2, most.max(2));
        Self {
            bytes,
            files,
            segment_bytes: bytes / files as u64,
        }
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// When it was begun, in milliseconds since 1970.
    pub(super) started_unix_ms: u64,
    pub(super) path: PathBuf,
}

/// All files of a journal, oldest first. A directory that is not there has none.
pub(super) fn all(dir: &Path) -> io::Result<Vec<Segment>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found: Vec<Segment> = entries
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            if path.extension() != Some(OsStr::new(EXTENSION)) {
                return None;
            }
            let started = path
                .file_name()?
                .to_str()?
                .split_once('-')?
                .0
                .parse()
                .ok()?;
            Some(Segment {
                started_unix_ms: started,
                path,
            })
        })
        .collect();
    found.sort();
    Ok(found)
}

/// The file that is written.
#[derive(Debug)]
pub(super) struct Open {
    file: File,
    path: PathBuf,
    /// What of it is whole.
    bytes: u64,
    bounds: Bounds,
}

impl Open {
    /// Goes on with the newest file, if nobody writes it and it has room; otherwise begins one.
    pub(super) fn newest(dir: &Path, bounds: Bounds) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        if let Some(segment) = all(dir)?.pop()
            && let Some(open) = Self::go_on(&segment.path, bounds)
        {
            make_room(dir, bounds, &open.path)?;
            return Ok(open);
        }
        Self::begin(dir, bounds)
    }

    /// Goes on with a file. A line that a crash tore is ended, so that it spoils no other.
    fn go_on(path: &Path, bounds: Bounds) -> Option<Self> {
        let mut file = OpenOptions::new().read(true).write(true).open(path).ok()?;
        // Held until the file is closed, also by a crash.
        file.try_lock().ok()?;
        let bytes = file.seek(SeekFrom::End(0)).ok()?;
        if bytes >= bounds.segment_bytes {
            return None;
        }
        let mut open = Self {
            file,
            path: path.to_owned(),
            bytes,
            bounds,
        };
        if bytes > 0 {
            let mut last = [0];
            open.file.seek(SeekFrom::End(-1)).ok()?;
            open.file.read_exact(&mut last).ok()?;
            if last != *b"\n" {
                open.write(b"\n").ok()?;
            }
        }
        Some(open)
    }

    /// Begins a file, and removes the oldest until there is room for it.
    fn begin(dir: &Path, bounds: Bounds) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        make_room(dir, bounds, Path::new(""))?;
        let (started, pid) = (unix_ms(), std::process::id());
        let mut last = None;
        // Two of one process within one millisecond have different numbers.
        for number in 0..1_000 {
            let path = dir.join(format!("{started:013}-{pid}-{number:03}.{EXTENSION}"));
            let mut options = OpenOptions::new();
            match options.write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    // Where locks are not to be had, another process may remove the file early; nothing else happens.
                    let _ = file.try_lock();
                    return Ok(Self {
                        file,
                        path,
                        bytes: 0,
                        bounds,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("no name is free")))
    }

    /// The next file, when this one has no room for so many bytes.
    pub(super) fn for_bytes(self, bytes: usize) -> io::Result<Self> {
        if self.bytes + bytes as u64 <= self.bounds.segment_bytes {
            return Ok(self);
        }
        let bounds = self.bounds;
        let dir = self.path.parent().unwrap_or(Path::new("")).to_owned();
        // Closed first: it may be the one that has to go.
        drop(self);
        Self::begin(&dir, bounds)
    }

    /// How much more fits into this file.
    pub(super) fn room(&self) -> u64 {
        self.bounds.segment_bytes.saturating_sub(self.bytes)
    }

    /// Adds whole lines. If that fails, no part of them stays.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = self
            .file
            .seek(SeekFrom::Start(self.bytes))
            .and_then(|_| self.file.write_all(lines));
        match written {
            Ok(()) => {
                self.bytes += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What cannot be taken back is a torn line, which readers skip.
                let _ = self.file.set_len(self.bytes);
                Err(error)
            }
        }
    }

    /// Whether it is still where it was: somebody may have removed the directory.
    pub(super) fn is_there(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let there = fs::metadata(&self.path);
        let ours = self.file.metadata();
        there.is_ok_and(|there| ours.is_ok_and(|ours| there.ino() == ours.ino()))
    }
}

/// Removes the oldest files that nobody writes, until one more full file fits beside the rest. `own` is written, and counts
/// as that one if it is there.
fn make_room(dir: &Path, bounds: Bounds, own: &Path) -> io::Result<()> {
    let mut others = all(dir)?;
    others.retain(|segment| segment.path != own);
    let size = |segment: &Segment| fs::metadata(&segment.path).map_or(0, |meta| meta.len());
    let mut bytes: u64 = others.iter().map(size).sum();
    let mut files = others.len();
    for segment in &others {
        if bytes + bounds.segment_bytes <= bounds.bytes && files < bounds.files {
            break;
        }
        let Ok(file) = File::open(&segment.path) else {
            continue;
        };
        if matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) {
            continue;
        }
        let freed = size(segment);
        if fs::remove_file(&segment.path).is_ok() {
            bytes = bytes.saturating_sub(freed);
            files -= 1;
        }
    }
    Ok(())
}
