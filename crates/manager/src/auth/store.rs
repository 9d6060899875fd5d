//! Grants on disk: one file each, for this user alone, replaced atomically, and a lock per account that every process of
//! this user respects.
//!
//! This module keeps bytes. It does not decide which grant is good, and does not know the time. What is wrong with one file
//! is told with its path and a remedy, never makes another file unusable, and deletes nothing: a damaged file is put aside.
//! All functions but [`GrantStore::lock`] block on the file system.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::grant::{
    ClientAuth, ClientIdentity, ClientSource, Grant, GrantKey, Secret, Tokens, digest_of,
};
use crate::principal::Principal;
use crate::store;

/// First word of every file. A change of the format that older versions cannot read changes the number.
const FORMAT: &str = "mainstay-grant-1";

/// Largest file that is read, in bytes. Tokens have some kilobytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a file is filled with before anything is asked of an issuer, so that a full disk is met before a token is spent.
const PADDING_BYTES: usize = 64 * 1024;

/// Most files of one account that are looked at.
const GRANTS_MAX: usize = 32;

/// The pause between two attempts to get a lock.
const LOCK_POLL: Duration = Duration::from_millis(20);
const LOCK_POLL_MAX: Duration = Duration::from_millis(250);

/// Whose grants: those for one resource and one principal, at whichever issuer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Holder {
    /// The canonical URL of the server.
    pub(crate) resource: Box<str>,
    /// For whom.
    pub(crate) principal: Option<Principal>,
}

impl Holder {
    fn digest(&self) -> String {
        let principal = self.principal.as_ref().map(Principal::name);
        digest_of(&[Some(&self.resource), principal])
    }

    /// Whether a grant is this holder's.
    fn holds(&self, key: &GrantKey) -> bool {
        key.resource == self.resource && key.principal == self.principal
    }
}

/// What is wrong with a file or directory of credentials: which, what was tried, what came, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreFault {
    /// A file or directory cannot be read or written.
    #[error("cannot {action} {}: {source}; {remedy}", path.display())]
    Unusable {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A file is not what we wrote. It was put aside.
    #[error("the stored credentials in {} cannot be used: {why}{}; sign in again", path.display(), aside_words(.aside))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it is now; `None`: it could not be moved.
        aside: Option<PathBuf>,
        /// What is wrong.
        why: String,
    },
    /// A file belongs to somebody else: what is in it may be anybody's.
    #[error("the stored credentials in {} belong to another user of this machine and are not used; remove the file, or make it yours", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another process holds the lock.
    #[error("another Mainstay has been changing the credentials in {} for more than {waited_ms} ms; end it if it hangs", path.display())]
    Locked {
        /// The lock's file.
        path: PathBuf,
        /// How long we waited.
        waited_ms: u64,
    },
}

fn aside_words(aside: &Option<PathBuf>) -> String {
    let kept = aside.as_ref();
    kept.map_or_else(String::new, |aside| {
        format!(" (it was kept as {})", aside.display())
    })
}

/// The directory of all grants of this user. Cheap to clone. Shared by any number of processes.
#[derive(Debug, Clone)]
pub(crate) struct GrantStore {
    dir: Arc<Path>,
}

/// The right to change the grants of one holder. Given back when dropped, and by the system when we die.
#[derive(Debug)]
pub(crate) struct GrantLock(#[expect(dead_code, reason = "held, not used")] Option<File>);

/// A place on disk for a grant that is about to come.
#[derive(Debug)]
pub(crate) struct Prepared {
    file: tempfile::NamedTempFile,
    dir: Arc<Path>,
}

/// What is stored of one holder.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// The grants, in no particular order.
    pub(crate) grants: Vec<Grant>,
    /// What else is there and cannot be used.
    pub(crate) faults: Vec<StoreFault>,
}

impl GrantStore {
    /// Opens `auth` within the state directory, makes it if needed, and sees to it that it is ours alone.
    ///
    /// # Errors
    /// [`StoreFault::Unusable`] or [`StoreFault::Foreign`].
    pub(crate) fn open(state_dir: &Path) -> Result<Self, StoreFault> {
        let dir = state_dir.join("auth");
        store::create_private(&dir).map_err(unusable("create the directory", &dir))?;
        own(&dir, 0o700)?;
        store::sweep(&dir).map_err(unusable("read the directory", &dir))?;
        Ok(Self { dir: dir.into() })
    }

    /// What is stored of this holder.
    pub(crate) fn load(&self, holder: &Holder) -> Stored {
        let mut stored = Stored::default();
        let prefix = format!("grant-{}-", holder.digest());
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) => {
                let fault = unusable("read the directory", &self.dir)(error);
                stored.faults.push(fault);
                return stored;
            }
        };
        let named = entries.filter_map(Result::ok).filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(&prefix) && name.ends_with(".json")
        });
        for entry in named.take(GRANTS_MAX) {
            match self.read(&entry.path(), holder) {
                Ok(grant) => stored.grants.extend(grant),
                Err(fault) => stored.faults.push(fault),
            }
        }
        stored
    }

    fn read(&self, path: &Path, holder: &Holder) -> Result<Option<Grant>, StoreFault> {
        let file = match File::open(path) {
            Ok(file) => file,
            // Somebody signed out in this moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable("read the stored credentials", path)(error)),
        };
        own(path, 0o600)?;
        let mut bytes = Vec::new();
        (&file)
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(unusable("read the stored credentials", path))?;
        let parsed = match bytes.len() as u64 > FILE_BYTES_MAX {
            true => Err("the file is too large".to_owned()),
            false => parse(&bytes),
        };
        match parsed {
            Ok(grant) if holder.holds(&grant.key) && self.path(&grant.key) == path => {
                Ok(Some(grant))
            }
            Ok(_) => Err(put_aside(
                path,
                "it is about another server or person".to_owned(),
            )),
            Err(why) => Err(put_aside(path, why)),
        }
    }

    /// Takes room on the disk for a grant: what can fail does so before a token is spent.
    ///
    /// # Errors
    /// [`StoreFault::Unusable`].
    pub(crate) fn prepare(&self) -> Result<Prepared, StoreFault> {
        let write = || {
            let mut file = store::unfinished(&self.dir)?;
            file.write_all(&[b' '; PADDING_BYTES])?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        Ok(Prepared {
            file: write().map_err(unwritable(&self.dir))?,
            dir: Arc::clone(&self.dir),
        })
    }

    /// Keeps a grant, without any room taken before.
    ///
    /// # Errors
    /// [`StoreFault::Unusable`]; what was stored before is untouched.
    pub(crate) fn save(&self, grant: &Grant) -> Result<(), StoreFault> {
        self.prepare()?.keep(grant)
    }

    /// Forgets a grant. That there was none is no error.
    ///
    /// # Errors
    /// [`StoreFault::Unusable`].
    pub(crate) fn remove(&self, key: &GrantKey) -> Result<(), StoreFault> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(unusable("remove the stored credentials", &path)(error))
            }
            Ok(()) | Err(_) => sync_dir(&self.dir).map_err(unwritable(&self.dir)),
        }
    }

    /// Waits for the right to change what is stored of this holder, at most until `deadline`. Never blocks the runtime;
    /// cancel-safe.
    ///
    /// # Errors
    /// [`StoreFault::Locked`] when the time is over, [`StoreFault::Unusable`] where the file cannot be made.
    pub(crate) async fn lock(
        &self,
        holder: &Holder,
        within: Duration,
    ) -> Result<GrantLock, StoreFault> {
        let path = self.dir.join(format!("lock-{}", holder.digest()));
        let begun = Instant::now();
        // Never removed by anybody: a lock on a file without a name would keep nobody out.
        let file = open_lock(path.clone()).await?;
        let mut pause = LOCK_POLL;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(GrantLock(Some(file))),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(path = %path.display(), %error, "this file system knows no locks: only one Mainstay may use these credentials");
                    return Ok(GrantLock(None));
                }
            }
            if begun.elapsed() >= within {
                let waited_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                return Err(StoreFault::Locked { path, waited_ms });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOCK_POLL_MAX);
        }
    }

    /// Changes whenever a file is stored or removed by anybody.
    pub(crate) fn changed_at(&self) -> Option<SystemTime> {
        fs::metadata(&self.dir)
            .and_then(|data| data.modified())
            .ok()
    }

    fn path(&self, key: &GrantKey) -> PathBuf {
        let holder = Holder {
            resource: key.resource.clone(),
            principal: key.principal.clone(),
        };
        let (holder, key) = (holder.digest(), key.digest());
        self.dir.join(format!("grant-{holder}-{key}.json"))
    }
}

impl Prepared {
    /// Puts the grant into the place of the one before, or of none: after a crash at any moment there is one of the two,
    /// and when this returns it outlives a power cut.
    ///
    /// # Errors
    /// [`StoreFault::Unusable`]; what was stored before is untouched.
    pub(crate) fn keep(mut self, grant: &Grant) -> Result<(), StoreFault> {
        let path = GrantStore {
            dir: Arc::clone(&self.dir),
        }
        .path(&grant.key);
        let text = serde_json::to_vec(&Body::of(grant))
            .map_err(io::Error::other)
            .map_err(unwritable(&path))?;
        let head = store::head(FORMAT, &text);
        let mut write = || {
            self.file.rewind()?;
            self.file.write_all(head.as_bytes())?;
            self.file.write_all(&text)?;
            let length = head.len() + text.len();
            self.file.as_file().set_len(length as u64)?;
            // The content must be on the disk before the name points to it, or a power cut leaves an empty file.
            self.file.as_file().sync_all()
        };
        write().map_err(unwritable(&path))?;
        self.file
            .persist(&path)
            .map_err(|error| unwritable(&path)(error.error))?;
        // And the name must be before anybody uses what it points to (F201).
        sync_dir(&self.dir).map_err(unwritable(&path))
    }
}

async fn open_lock(path: PathBuf) -> Result<File, StoreFault> {
    let opening = tokio::task::spawn_blocking(move || {
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options
            .open(&path)
            .map_err(unusable("make the lock", &path))
    });
    opening.await.unwrap_or_else(|error| {
        Err(StoreFault::Unusable {
            action: "make the lock",
            path: PathBuf::new(),
            remedy: "report this as a defect of Mainstay",
            source: Arc::new(io::Error::other(error)),
        })
    })
}

#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_dir: &Path) -> io::Result<()> {
    Ok(())
}

/// Sees to it that a file or directory is ours, and ours alone. One that others may read is made private again, and told:
/// what is in it still works, and may have been seen.
#[cfg(unix)]
fn own(path: &Path, mode: u32) -> Result<(), StoreFault> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let data = fs::metadata(path).map_err(unusable("look at", path))?;
    if data.uid() != rustix::process::geteuid().as_raw() {
        return Err(StoreFault::Foreign {
            path: path.to_owned(),
        });
    }
    if data.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{:o}", data.mode() & 0o777), "others could read these credentials; they are private again: sign in anew if that matters");
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(unusable("make private", path))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn own(_path: &Path, _mode: u32) -> Result<(), StoreFault> {
    Ok(())
}

/// Keeps a damaged file for whoever wants to look at it, out of the way.
fn put_aside(path: &Path, why: String) -> StoreFault {
    let aside = path.with_extension("damaged");
    let aside = fs::rename(path, &aside).ok().map(|()| aside);
    let path = path.to_owned();
    let fault = StoreFault::Damaged { path, aside, why };
    tracing::warn!(%fault, "stored credentials cannot be used");
    fault
}

fn unusable<'p>(action: &'static str, path: &'p Path) -> impl Fn(io::Error) -> StoreFault + 'p {
    move |source| StoreFault::Unusable {
        action,
        path: path.to_owned(),
        remedy: "make it a place that this user may read and write, or sign in again",
        source: Arc::new(source),
    }
}

fn unwritable(path: &Path) -> impl Fn(io::Error) -> StoreFault + '_ {
    move |source| StoreFault::Unusable {
        action: "store the credentials in",
        path: path.to_owned(),
        remedy: "make room on the disk, and see that this user may write there",
        source: Arc::new(source),
    }
}

fn parse(bytes: &[u8]) -> Result<Grant, String> {
    let text = store::checked(bytes, FORMAT).map_err(|error| error.to_string())?;
    // What serde says may quote the text, and with it a token (law 31): only the place is told.
    let body: Body = serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("it is not what this version writes (line {line}, column {column})")
    })?;
    body.grant()
}

/// What is written behind the first line. No `Debug`: it holds the secrets in the open.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    issuer: String,
    client_id: String,
    #[serde(default)]
    principal: Option<String>,
    resource: String,
    access: String,
    #[serde(default)]
    refresh: Option<String>,
    #[serde(default)]
    scopes: BTreeSet<String>,
    received_unix_ms: u64,
    #[serde(default)]
    lifetime_ms: Option<u64>,
    #[serde(default)]
    client_secret: Option<String>,
    client_auth: String,
    client_source: String,
    token_endpoint: String,
    #[serde(default)]
    resource_indicator: Option<String>,
    #[serde(default)]
    revocation_endpoint: Option<String>,
    #[serde(default)]
    requested_scopes: BTreeSet<String>,
    by_human: bool,
    granted_unix_ms: u64,
}

impl Body {
    fn of(grant: &Grant) -> Self {
        let Grant {
            key,
            tokens,
            client,
            token_endpoint,
            resource_indicator,
            revocation_endpoint,
            requested_scopes,
            by_human,
            granted_unix_ms,
        } = grant;
        let open = |secret: &Secret| secret.expose().to_owned();
        Self {
            issuer: key.issuer.to_string(),
            client_id: key.client_id.to_string(),
            principal: key.principal.as_ref().map(|who| who.name().to_owned()),
            resource: key.resource.to_string(),
            access: open(&tokens.access),
            refresh: tokens.refresh.as_ref().map(open),
            scopes: tokens.scopes.clone(),
            received_unix_ms: tokens.received_unix_ms,
            lifetime_ms: tokens.lifetime_ms,
            client_secret: client.secret.as_ref().map(open),
            client_auth: client.auth.word().to_owned(),
            client_source: client.source.word().to_owned(),
            token_endpoint: token_endpoint.to_string(),
            resource_indicator: resource_indicator.as_deref().map(str::to_owned),
            revocation_endpoint: revocation_endpoint.as_deref().map(str::to_owned),
            requested_scopes: requested_scopes.clone(),
            by_human: *by_human,
            granted_unix_ms: *granted_unix_ms,
        }
    }

    fn grant(self) -> Result<Grant, String> {
        let principal = match self.principal {
            None => None,
            Some(name) => Some(Principal::new(&name).ok_or("its principal is no name")?),
        };
        if self.access.is_empty() {
            return Err("its token is empty".to_owned());
        }
        Ok(Grant {
            key: GrantKey {
                issuer: self.issuer.into(),
                client_id: self.client_id.as_str().into(),
                principal,
                resource: self.resource.into(),
            },
            tokens: Tokens {
                access: Secret::new(self.access),
                refresh: self.refresh.map(Secret::new),
                scopes: self.scopes,
                received_unix_ms: self.received_unix_ms,
                lifetime_ms: self.lifetime_ms,
            },
            client: ClientIdentity {
                id: self.client_id.into(),
                secret: self.client_secret.map(Secret::new),
                auth: ClientAuth::of(&self.client_auth)
                    .ok_or("its way to prove the client is not known")?,
                source: ClientSource::of(&self.client_source)
                    .ok_or("where its client comes from is not known")?,
            },
            token_endpoint: self.token_endpoint.into(),
            resource_indicator: self.resource_indicator.map(Into::into),
            revocation_endpoint: self.revocation_endpoint.map(Into::into),
            requested_scopes: self.requested_scopes,
            by_human: self.by_human,
            granted_unix_ms: self.granted_unix_ms,
        })
    }
}

#[cfg(test)]
mod tests;
