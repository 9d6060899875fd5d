//! What operators have approved of a server's program (`pinProgram`, F259): the digest of the file that is started, and of
//! the script that an interpreter is given.
//!
//! What is found at the first start is taken as approved. From then on a file with other content is not started, wherever
//! the name that is configured leads, until somebody approves it. Looked at right before each start: between the look and
//! the start there are milliseconds, and the file is where its owner can write. Blocks on the disk.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{PinError, locked};
use crate::catalog::unix_ms;
use crate::store::{self, hex};

/// First word of every file.
const FORMAT: &str = "mainstay-program-1";

/// A file that is executed, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgramFile {
    /// Where it lies, links followed.
    pub path: PathBuf,
    /// The digest of its content: `sha256:…`.
    pub digest: String,
}

/// The program of a server as it was approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovedProgram {
    /// The server.
    pub server: String,
    /// When, in milliseconds since 1970.
    pub approved_at_unix_ms: u64,
    /// The program, and the script that it is given if it is an interpreter.
    pub files: Vec<ProgramFile>,
}

/// The record of one server's program.
#[derive(Debug, Default)]
pub(crate) struct ProgramPin(Mutex<Option<ApprovedProgram>>);

/// Why a program is not started.
#[derive(Debug)]
pub(crate) enum Unapproved {
    /// It is not what was approved.
    Changed(String),
    /// It cannot be known.
    Unknown(String),
}

/// What these files are now.
///
/// # Errors
/// What the system says of the first that cannot be read.
pub(crate) fn look(paths: &[PathBuf]) -> io::Result<Vec<ProgramFile>> {
    paths.iter().map(|path| file(path)).collect()
}

fn file(path: &Path) -> io::Result<ProgramFile> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let path = std::fs::canonicalize(path).map_err(named)?;
    let mut content = File::open(&path).map_err(named)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => digest.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(named(error)),
        }
    }
    let digest = format!("sha256:{}", hex(&digest.finalize()));
    Ok(ProgramFile { path, digest })
}

impl ProgramPin {
    /// Whether these files are the approved ones; the first ever are.
    pub(crate) fn check(
        &self,
        server: &str,
        dir: Option<&Path>,
        paths: &[PathBuf],
    ) -> Result<(), Unapproved> {
        let found = look(paths).map_err(|error| Unapproved::Unknown(error.to_string()))?;
        let mut record = locked(&self.0);
        let known = match &*record {
            Some(known) => Some(known.clone()),
            None => read(server, dir).map_err(|error| {
                Unapproved::Unknown(format!(
                    "the record of what was approved cannot be read: {error}"
                ))
            })?,
        };
        let Some(known) = known else {
            let approved = approved(server, found);
            if let Err(error) = write(dir, &approved) {
                tracing::error!(server, %error, "what was approved of its program is forgotten when Mainstay ends");
            }
            *record = Some(approved);
            return Ok(());
        };
        *record = Some(known.clone());
        let digests = |files: &[ProgramFile]| -> Vec<String> {
            files.iter().map(|file| file.digest.clone()).collect()
        };
        if digests(&known.files) == digests(&found) {
            return Ok(());
        }
        Err(Unapproved::Changed(difference(&known, &found)))
    }

    /// Approves these files.
    pub(crate) fn approve(
        &self,
        server: &str,
        dir: Option<&Path>,
        paths: &[PathBuf],
    ) -> Result<ApprovedProgram, PinError> {
        let unwritable = |source| PinError::Unwritable {
            server: server.into(),
            source: Arc::new(source),
        };
        let found = look(paths).map_err(|source| PinError::NoProgram {
            server: server.into(),
            why: source.to_string(),
        })?;
        let approved = approved(server, found);
        let mut record = locked(&self.0);
        write(dir, &approved).map_err(unwritable)?;
        *record = Some(approved.clone());
        Ok(approved)
    }
}

fn approved(server: &str, files: Vec<ProgramFile>) -> ApprovedProgram {
    ApprovedProgram {
        server: server.to_owned(),
        approved_at_unix_ms: unix_ms(),
        files,
    }
}

fn difference(known: &ApprovedProgram, found: &[ProgramFile]) -> String {
    let short = |file: &ProgramFile| {
        let digest: String = file.digest.chars().take(19).collect();
        format!("{} ({digest}…)", file.path.display())
    };
    let list = |files: &[ProgramFile]| files.iter().map(short).collect::<Vec<_>>().join(" with ");
    let (before, now) = (list(&known.files), list(found));
    let server = &known.server;
    format!(
        "approved is {before}, and there is {now}; if you know why it changed, `mainstay tools approve {server} --program` approves it and starts the server"
    )
}

fn path(dir: &Path, server: &str) -> PathBuf {
    store::file_of(dir, "program", server)
}

/// `None`: never seen. A record that cannot be used is an error, and never counts as that.
fn read(server: &str, dir: Option<&Path>) -> io::Result<Option<ApprovedProgram>> {
    let Some(dir) = dir else { return Ok(None) };
    let path = path(dir, server);
    let bytes = match store::read_bounded(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let record: ApprovedProgram = serde_json::from_slice(store::checked(&bytes, FORMAT)?)?;
    if record.server != server {
        let words = "it is the record of another server";
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    Ok(Some(record))
}

fn write(dir: Option<&Path>, approved: &ApprovedProgram) -> io::Result<()> {
    let Some(dir) = dir else { return Ok(()) };
    let body = serde_json::to_vec(approved)?;
    store::replace(dir, &path(dir, &approved.server), FORMAT, &body)
}
