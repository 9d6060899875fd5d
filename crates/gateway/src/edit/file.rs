//! Files that are edited: read whole, written whole or not at all.
//!
//! A write goes to a new file in the same directory, reaches the disk and takes the old one's place in one step, so that a
//! full disk, a crash or a reader in between never meets half a file. Links are followed: the file they lead to is
//! replaced, and they stay. Mode and owner stay as they were.

use std::fs::{self, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::FILE_BYTES_MAX;
use crate::exit::{Exit, Stop};

/// Of a file that did not exist: it may come to hold secrets.
const NEW_MODE: u32 = 0o600;
/// Most links that are followed.
const LINKS_MAX: usize = 40;

/// A file as it was when it was read.
#[derive(Debug)]
pub(crate) struct EditFile {
    told: PathBuf,
    target: PathBuf,
    before: Option<Before>,
}

#[derive(Debug)]
struct Before {
    text: String,
    metadata: Metadata,
}

/// Whether and where the former text is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backup {
    /// Beside the file, under its name with this at the end; replaces an older one.
    Last(&'static str),
    /// Beside the file, under its name with this at the end; with a number if there is one already.
    New(&'static str),
    /// Not at all.
    None,
}

impl EditFile {
    /// Reads it. One that does not exist is an empty text.
    ///
    /// # Errors
    /// Exit 3 when it cannot be read, is no text, or is too large.
    pub(crate) fn open(path: &Path) -> Result<Self, Stop> {
        let target = follow(path).map_err(|error| unreadable(path, error))?;
        let before = match fs::File::open(&target) {
            Ok(file) => Some(read(path, file)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unreadable(path, error)),
        };
        Ok(Self {
            told: path.to_owned(),
            target,
            before,
        })
    }

    /// Its text; empty when there is no file.
    pub(crate) fn text(&self) -> &str {
        self.before.as_ref().map_or("", |before| &before.text)
    }

    /// Whether there is a file.
    pub(crate) fn exists(&self) -> bool {
        self.before.is_some()
    }

    /// Where it is, as it was named.
    pub(crate) fn path(&self) -> &Path {
        &self.told
    }

    /// Puts `text` in its place, and says where the former text is kept. Nothing is written if it is the same.
    ///
    /// # Errors
    /// Exit 10 when it cannot be written, or has been changed by somebody since it was read; it is as it was then.
    pub(crate) fn write(&self, text: &str, backup: Backup) -> Result<Option<PathBuf>, Stop> {
        if self.exists() && text == self.text() {
            return Ok(None);
        }
        let unwritable = |error| unwritable(&self.told, error);
        if let Some(dir) = parent(&self.target) {
            make_dir(dir).map_err(unwritable)?;
        }
        let kept = self.keep(backup)?;
        let metadata = self.before.as_ref().map(|before| &before.metadata);
        let fresh = prepare(&self.target, text, metadata).map_err(unwritable)?;
        self.unchanged()?;
        fresh
            .persist(&self.target)
            .map_err(|error| unwritable(error.error))?;
        sync_dir(&self.target);
        Ok(kept)
    }

    /// Keeps the former text beside the file, and says where. A file that does not exist has none.
    ///
    /// # Errors
    /// Exit 10.
    pub(crate) fn keep(&self, backup: Backup) -> Result<Option<PathBuf>, Stop> {
        let Some(before) = &self.before else {
            return Ok(None);
        };
        let keep = || -> io::Result<Option<PathBuf>> {
            let path = match backup {
                Backup::None => return Ok(None),
                Backup::Last(end) => with_end(&self.target, end),
                Backup::New(end) => unused(&self.target, end)?,
            };
            let fresh = prepare(&path, &before.text, Some(&before.metadata))?;
            fresh.persist(&path).map_err(|error| error.error)?;
            Ok(Some(path))
        };
        keep().map_err(|error| unwritable(&self.told, error))
    }

    /// Somebody else (the app itself, an editor) may have written it meanwhile.
    fn unchanged(&self) -> Result<(), Stop> {
        let now = fs::read(&self.target).ok();
        let before = self.before.as_ref().map(|before| before.text.as_bytes());
        if now.as_deref() == before {
            return Ok(());
        }
        Err(Stop::new(
            Exit::NotWritable,
            format!(
                "{} was changed by another program meanwhile; it is left as it is",
                self.told.display()
            ),
        )
        .hint("run the command again"))
    }
}

fn read(path: &Path, file: fs::File) -> Result<Before, Stop> {
    let metadata = file.metadata().map_err(|error| unreadable(path, error))?;
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file that is too long is told from one that fits exactly.
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, error))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Stop::new(
            Exit::ConfigInvalid,
            format!("{} has more than {FILE_BYTES_MAX} bytes", path.display()),
        )
        .hint("check that this is a configuration file"));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        Stop::new(
            Exit::ConfigInvalid,
            format!("{} is not UTF-8 text", path.display()),
        )
        .hint("save the file with the encoding UTF-8")
    })?;
    Ok(Before { text, metadata })
}

fn unreadable(path: &Path, error: io::Error) -> Stop {
    Stop::new(
        Exit::ConfigInvalid,
        format!("cannot read {}", path.display()),
    )
    .because(error)
    .hint("check that it is a file and that you may read it")
}

fn unwritable(path: &Path, error: io::Error) -> Stop {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let kind = error.kind();
    let hint = if [StorageFull, QuotaExceeded, FileTooLarge].contains(&kind) {
        "free some space there, then run the command again"
    } else if kind == ReadOnlyFilesystem {
        "it is on a disk that cannot be written"
    } else {
        "check that you may write to the directory that it is in"
    };
    Stop::new(
        Exit::NotWritable,
        format!("cannot write {}; nothing is changed", path.display()),
    )
    .because(error)
    .hint(hint)
}

/// Writes a file of ours whole or not at all, for this user alone, and makes its directory.
///
/// # Errors
/// Exit 10; what was there before is still there.
pub(crate) fn put(path: &Path, text: &str) -> Result<(), Stop> {
    put_as(path, text, NEW_MODE)
}

/// The same for a file that others may read.
///
/// # Errors
/// As [`put`].
pub(crate) fn put_for_all(path: &Path, text: &str) -> Result<(), Stop> {
    put_as(path, text, 0o644)
}

fn put_as(path: &Path, text: &str, mode: u32) -> Result<(), Stop> {
    let write = || {
        if let Some(dir) = parent(path) {
            make_dir(dir)?;
        }
        let fresh = prepare(path, text, None)?;
        fresh
            .as_file()
            .set_permissions(Permissions::from_mode(mode))?;
        fresh.persist(path).map_err(|error| error.error)?;
        sync_dir(path);
        Ok(())
    };
    write().map_err(|error| unwritable(path, error))
}

/// Takes a file away; one that is not there is fine.
///
/// # Errors
/// Exit 10.
pub(crate) fn take_away(path: &Path) -> Result<(), Stop> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unwritable(path, error)),
    }
}

/// A finished file beside `path` that only needs to take its place. It is gone if that does not happen.
fn prepare(
    path: &Path,
    text: &str,
    like: Option<&Metadata>,
) -> io::Result<tempfile::NamedTempFile> {
    let dir = parent(path).unwrap_or(Path::new("."));
    let mut fresh = tempfile::Builder::new()
        .prefix(".mainstay-")
        .tempfile_in(dir)?;
    fresh.write_all(text.as_bytes())?;
    let file = fresh.as_file();
    let mode = like.map_or(NEW_MODE, |like| like.permissions().mode() & 0o7777);
    if let Some(like) = like {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
            // Only an administrator can give files away; then they must stay their owner's.
            let _not_ours = std::os::unix::fs::fchown(file, Some(like.uid()), Some(like.gid()));
        }
    }
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()?;
    Ok(fresh)
}

/// The new name is on the disk, too. A file system that cannot say so has kept its word as well as it can.
fn sync_dir(path: &Path) {
    let dir = parent(path).unwrap_or(Path::new("."));
    let _best_effort = fs::File::open(dir).and_then(|dir| dir.sync_all());
}

fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

fn parent(path: &Path) -> Option<&Path> {
    path.parent().filter(|dir| !dir.as_os_str().is_empty())
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// The first of `path` + `end`, `path` + `end` + `.2`, … that does not exist.
fn unused(path: &Path, end: &str) -> io::Result<PathBuf> {
    const TRIED_MAX: u32 = 1_000;
    for number in 1..=TRIED_MAX {
        let end = match number {
            1 => end.to_owned(),
            more => format!("{end}.{more}"),
        };
        let candidate = with_end(path, &end);
        if fs::symlink_metadata(&candidate).is_err() {
            return Ok(candidate);
        }
    }
    Err(io::Error::other("there are too many backups beside it"))
}

/// Where a path leads, through links; the file itself need not exist.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(to) => path = parent(&path).map_or(to.clone(), |dir| dir.join(&to)),
            // It is no link, or it is not there.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many links lead from one to the next"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_write_follows_links_keeps_the_mode_and_leaves_a_backup() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real.json");
        let link = dir.path().join("link.json");
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.json", &link).unwrap();
        let file = EditFile::open(&link).unwrap();
        let kept = file.write("new", Backup::New(".kept")).unwrap().unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(mode(&real), 0o640);
        assert_eq!(fs::read_to_string(&kept).unwrap(), "old");
        assert_eq!(mode(&kept), 0o640);
        let again = EditFile::open(&link).unwrap();
        let second = again.write("newer", Backup::New(".kept")).unwrap().unwrap();
        assert_ne!(kept, second);
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 4, "nothing unfinished is left");
    }

    #[test]
    fn a_file_that_somebody_changed_meanwhile_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        fs::write(&path, "old").unwrap();
        let file = EditFile::open(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        let stop = file.write("ours", Backup::None).unwrap_err();
        assert_eq!(stop.exit, Exit::NotWritable);
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        // One that appeared is not overwritten, either.
        let path = dir.path().join("b.json");
        let file = EditFile::open(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        file.write("ours", Backup::None).unwrap_err();
    }

    #[test]
    fn a_new_file_is_for_this_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep").join("a.json");
        let file = EditFile::open(&path).unwrap();
        assert!(!file.exists());
        assert_eq!(file.write("{}", Backup::New(".kept")).unwrap(), None);
        assert_eq!(mode(&path), NEW_MODE);
    }

    #[test]
    fn a_place_that_cannot_be_written_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let stop = put(&dir.path().join("file").join("a.json"), "x").unwrap_err();
        assert_eq!(stop.exit, Exit::NotWritable);
        assert!(stop.hint.is_some());
    }
}
