//! `${file:…}`: the contents of a small file.

use std::fs::{Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{VALUE_BYTES_MAX, aside, text};

/// A file system that hangs must not take all threads.
static LANE: Semaphore = Semaphore::const_new(16);

/// Longer than any file system takes that is not gone.
const WAIT: Duration = Duration::from_secs(20);

/// Reads a file. Cancel-safe.
pub(super) async fn read(path: PathBuf) -> Result<String, String> {
    let shown = path.display().to_string();
    let read = aside(&LANE, WAIT, move || read_now(&path)).await;
    read.unwrap_or_else(|| {
        Err(format!(
            "{shown} could not be read within {} ms; see whether its file system hangs",
            WAIT.as_millis()
        ))
    })
}

fn read_now(path: &Path) -> Result<String, String> {
    let bad = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    // Not blocking, for a pipe would wait for somebody to write.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(bad)?;
    let about = file.metadata().map_err(bad)?;
    if !about.is_file() {
        return Err(format!("{} is no ordinary file", path.display()));
    }
    if let Some(note) = exposure(path, &about) {
        tracing::warn!("{note}");
    }
    let mut bytes = Vec::new();
    file.take(VALUE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(bad)?;
    text(bytes).map_err(|why| format!("{}: {why}", path.display()))
}

/// Whether everybody on this machine can read it, in words.
pub(super) fn exposed(path: &Path) -> Option<String> {
    exposure(path, &std::fs::metadata(path).ok()?)
}

fn exposure(path: &Path, about: &Metadata) -> Option<String> {
    (about.mode() & 0o004 != 0).then(|| {
        format!(
            "{} holds a secret and can be read by everybody on this machine: chmod 600 {0}",
            path.display()
        )
    })
}
