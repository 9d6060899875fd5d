//! What `install` did to an app's file, so that `uninstall` can undo it. No secrets: those are in the backup.

use std::path::{Path, PathBuf};

use mainstay::store::Store;
use serde::{Deserialize, Serialize};

use crate::edit::file::{put, take_away};
use crate::exit::{Exit, Stop};

/// Of this form; a later form has another number.
const VERSION: u32 = 1;

/// One app that uses Mainstay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    version: u32,
    /// The app's id.
    pub(crate) app: String,
    /// Its file.
    pub(crate) file: PathBuf,
    /// The keys that lead to our entry.
    pub(crate) path: Vec<String>,
    /// The file as it was; `None`: there was none.
    pub(crate) backup: Option<PathBuf>,
    /// The digest of what was written; what has another one was changed since.
    pub(crate) digest: String,
    /// Whether the backup is the file without anything of ours. Not so if it was changed between two installations.
    pub(crate) whole: bool,
    /// The servers that were taken out; the backup has them.
    pub(crate) removed: Vec<String>,
}

impl Record {
    /// A new one.
    pub(crate) fn new(app: &str, file: &Path, path: Vec<String>) -> Self {
        Self {
            version: VERSION,
            app: app.to_owned(),
            file: file.to_owned(),
            path,
            backup: None,
            digest: String::new(),
            whole: true,
            removed: Vec::new(),
        }
    }
}

/// The directory of the records.
#[derive(Debug)]
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    /// As told, else in the user's state directory.
    ///
    /// # Errors
    /// When this user has none.
    pub(crate) fn at(told: Option<&Path>) -> Result<Self, Stop> {
        let dir = told.map(Path::to_owned).or_else(Store::default_dir);
        let dir = dir.ok_or_else(|| {
            Stop::new(
                Exit::Unexpected,
                "there is no place to remember what is installed: this user has no home directory",
            )
            .hint("name one with --state-dir")
        })?;
        Ok(Self {
            dir: dir.join("installed"),
        })
    }

    fn file(&self, app: &str) -> PathBuf {
        self.dir.join(format!("{app}.json"))
    }

    /// That of an app. One that cannot be read is as good as none: everything can be undone without it, but less exactly.
    pub(crate) fn get(&self, app: &str) -> Option<Record> {
        let text = std::fs::read_to_string(self.file(app)).ok()?;
        let record: Record = serde_json::from_str(&text).ok()?;
        (record.version == VERSION && !record.path.is_empty()).then_some(record)
    }

    /// Keeps it.
    ///
    /// # Errors
    /// Exit 10.
    pub(crate) fn put(&self, record: &Record) -> Result<(), Stop> {
        let text = serde_json::to_string_pretty(record)
            .map_err(|error| Stop::unexpected("cannot render the record", error))?;
        put(&self.file(&record.app), &text)
    }

    /// Forgets it.
    ///
    /// # Errors
    /// Exit 10.
    pub(crate) fn forget(&self, app: &str) -> Result<(), Stop> {
        take_away(&self.file(app))
    }
}

/// The digest of a text.
pub(crate) fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
