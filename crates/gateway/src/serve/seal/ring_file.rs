//! The key ring on disk: `keys.json`, readable by its owner alone, replaced atomically.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::{KEY_ID_BYTES, KEYS_MAX, SealError};

pub(super) const KEY_BYTES: usize = 32;

const NAME: &str = "keys.json";
/// Largest file that is read, in bytes. A full ring has less than 4 KiB.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Prefix of files that are being written; the catalog store, which shares the directory, sweeps old ones.
const UNFINISHED: &str = ".unfinished-";

/// One key of a ring.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct StoredKey {
    pub(super) id: [u8; KEY_ID_BYTES],
    pub(super) secret: [u8; KEY_BYTES],
    pub(super) made_at_unix_ms: u64,
    /// When a former key can no longer be read with; none for the current one.
    pub(super) until_unix_ms: Option<u64>,
}

impl StoredKey {
    pub(super) fn is_readable(&self, now_unix_ms: u64) -> bool {
        self.until_unix_ms.is_none_or(|until| now_unix_ms < until)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    version: u32,
    /// The current one first.
    keys: Vec<KeyBody>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyBody {
    id: String,
    secret: String,
    made_at_unix_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    until_unix_ms: Option<u64>,
}

/// The ring of a directory; `None` if there is none, or none that can be understood: that one is put aside.
pub(super) fn load(dir: &Path) -> Result<Option<Vec<StoredKey>>, SealError> {
    let path = dir.join(NAME);
    let bytes = match read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&path, "read")(error)),
    };
    match parse(&bytes) {
        Some(ring) => Ok(Some(ring)),
        None => {
            let aside = dir.join(format!("keys.damaged-{}.json", super::now_ms()));
            fs::rename(&path, &aside).map_err(failed(&path, "put aside"))?;
            tracing::warn!(
                file = %path.display(),
                aside = %aside.display(),
                "the key ring is damaged and was put aside; sessions of clients from before are lost"
            );
            Ok(None)
        }
    }
}

/// Makes a ring of one key, unless another process was faster: then the ring is that one.
pub(super) fn create(dir: &Path, key: &StoredKey) -> Result<Vec<StoredKey>, SealError> {
    let path = dir.join(NAME);
    let ring = vec![key.clone()];
    fs::create_dir_all(dir).map_err(failed(dir, "make the directory of"))?;
    let file = written(dir, &ring).map_err(failed(&path, "write"))?;
    match file.persist_noclobber(&path) {
        Ok(_) => Ok(ring),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
            load(dir)?.ok_or_else(|| failed(&path, "read")(error.error))
        }
        Err(error) => Err(failed(&path, "write")(error.error)),
    }
}

/// Replaces the ring. Atomic: after a crash at any moment there is the old one or the new one.
pub(super) fn save(dir: &Path, ring: &[StoredKey]) -> Result<(), SealError> {
    let path = dir.join(NAME);
    let file = written(dir, ring).map_err(failed(&path, "write"))?;
    file.persist(&path)
        .map_err(|error| failed(&path, "write")(error.error))?;
    Ok(())
}

fn written(dir: &Path, ring: &[StoredKey]) -> io::Result<tempfile::NamedTempFile> {
    let body = Body {
        version: 1,
        keys: ring
            .iter()
            .map(|key| KeyBody {
                id: URL_SAFE_NO_PAD.encode(key.id),
                secret: URL_SAFE_NO_PAD.encode(key.secret),
                made_at_unix_ms: key.made_at_unix_ms,
                until_unix_ms: key.until_unix_ms,
            })
            .collect(),
    };
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(dir)?;
    serde_json::to_writer_pretty(&mut file, &body)?;
    file.write_all(b"\n")?;
    // The content must be on the disk before the name points to it, or a power cut leaves an empty file.
    file.as_file().sync_all()?;
    Ok(file)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    // Keys that others could read are closed to them, whoever opened them.
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "the key ring was readable by others");
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Option<Vec<StoredKey>> {
    let body: Body = serde_json::from_slice(bytes).ok()?;
    if body.version != 1 || body.keys.is_empty() || body.keys.len() > KEYS_MAX {
        return None;
    }
    let key = |key: &KeyBody| {
        Some(StoredKey {
            id: URL_SAFE_NO_PAD.decode(&key.id).ok()?.try_into().ok()?,
            secret: URL_SAFE_NO_PAD.decode(&key.secret).ok()?.try_into().ok()?,
            made_at_unix_ms: key.made_at_unix_ms,
            until_unix_ms: key.until_unix_ms,
        })
    };
    body.keys.iter().map(key).collect()
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> SealError {
    let path: PathBuf = path.to_owned();
    move |source| SealError::File {
        path,
        action,
        source,
    }
}
