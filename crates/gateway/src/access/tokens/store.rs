//! The file of tokens: read, judged and written whole, by one process at a time.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PREFIX;

/// The files in the state directory.
const FILE: &str = "access-tokens.json";
const LOCK: &str = "access-tokens.lock";
const USES: &str = "access-tokens-used.json";

/// Prefix of files that are being written; the catalog store, which shares the directory, sweeps old ones.
const UNFINISHED: &str = ".unfinished-";

/// The format of the file. One with another is not touched.
const VERSION: u32 = 1;

/// Random bytes in a token, and in what it is revoked by.
const TOKEN_BYTES: usize = 32;
const ID_BYTES: usize = 6;

/// Most tokens, and the longest file that is read.
const TOKENS_MAX: usize = 10_000;
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Longest name of a token, group or scope, in bytes, and most groups and scopes of one token.
const NAME_BYTES_MAX: usize = 64;
const WORD_BYTES_MAX: usize = 128;
const WORDS_MAX: usize = 64;

/// How long another process may hold the lock.
const LOCK_MAX: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What cannot be used any more is forgotten after this long.
const FORGET_MS: u64 = 90 * 24 * 60 * 60 * 1_000;

/// Why tokens cannot be read or changed. What was there before is then still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read or written. The cause is in `source()`.
    #[error("cannot {action} {}", path.display())]
    Unusable {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not one of tokens.
    #[error(
        "{} is damaged ({why}), and is left as it is; move it away and create the tokens anew with `mainstay token create`",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody else could have put tokens into the file.
    #[error(
        "{} can be changed by other users of this machine, so no token in it is trusted; if all in it are yours, run \
         `chmod 600` on it",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// Another process holds the lock and does not let go.
    #[error("another process has been changing {} for too long; try again", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A token that is asked for makes no sense.
    #[error("{0}")]
    Senseless(String),
    /// There is a valid token of that name.
    #[error(
        "there is a token named `{0}` already; revoke it first with `mainstay token revoke {0}`, or take another name"
    )]
    Taken(String),
    /// There are as many as are kept.
    #[error(
        "there are {TOKENS_MAX} tokens already, and no more are kept; revoke those that nobody uses"
    )]
    TooMany,
    /// Nothing has that name.
    #[error("no valid token is named `{name}`; {}", if known.is_empty() { "there is none".to_owned() } else { format!("there are: {}", known.join(", ")) })]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
}

/// One token, as the file has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kept {
    pub(super) id: String,
    pub(super) name: String,
    /// SHA-256 of the token, in Base64.
    pub(super) digest: String,
    #[serde(default)]
    pub(super) groups: Vec<String>,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    pub(super) created_unix_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_unix_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revoked_unix_ms: Option<u64>,
}

impl Kept {
    pub(super) fn state(&self, now_unix_ms: u64) -> TokenState {
        if self.revoked_unix_ms.is_some() {
            TokenState::Revoked
        } else if self.expires_unix_ms.is_some_and(|end| end <= now_unix_ms) {
            TokenState::Expired
        } else {
            TokenState::Valid
        }
    }

    fn is_forgotten(&self, now_unix_ms: u64) -> bool {
        let ended = self.revoked_unix_ms.or(self.expires_unix_ms);
        ended.is_some_and(|ended| ended.saturating_add(FORGET_MS) < now_unix_ms)
    }
}

/// The whole file.
#[derive(Debug, Serialize, Deserialize)]
struct Whole {
    version: u32,
    tokens: Vec<Kept>,
}

/// When tokens were used last, by their ids.
pub(super) type Uses = std::collections::BTreeMap<String, u64>;

/// What a token is asked for with.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewToken {
    /// Its name: who will use it. Callers with it are known as `token:NAME`.
    pub name: String,
    /// The groups that its callers belong to. `admin` may use the dashboard and the admin API.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The scopes that its callers have.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// When it ends, in milliseconds since 1970. Default: never by itself.
    #[serde(default)]
    pub expires_unix_ms: Option<u64>,
}

/// Whether a token is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TokenState {
    /// It is.
    Valid,
    /// Not any more, by itself.
    Expired,
    /// Not any more, because somebody said so.
    Revoked,
}

/// What is told of a token. Never the token.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenInfo {
    /// What it can be revoked by, beside its name.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is taken.
    pub state: TokenState,
    /// The groups of its callers.
    pub groups: Vec<String>,
    /// The scopes of its callers.
    pub scopes: Vec<String>,
    /// When it was made, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_unix_ms: Option<u64>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_unix_ms: Option<u64>,
    /// When it was used last, to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_unix_ms: Option<u64>,
}

impl TokenInfo {
    fn of(kept: &Kept, uses: &Uses, now_unix_ms: u64) -> Self {
        Self {
            id: kept.id.clone(),
            name: kept.name.clone(),
            state: kept.state(now_unix_ms),
            groups: kept.groups.clone(),
            scopes: kept.scopes.clone(),
            created_unix_ms: kept.created_unix_ms,
            expires_unix_ms: kept.expires_unix_ms,
            revoked_unix_ms: kept.revoked_unix_ms,
            last_used_unix_ms: uses.get(&kept.id).copied(),
        }
    }
}

/// A token that was just made: the only moment at which it is known.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// The token itself. It is not kept and never shown again.
    pub token: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub info: TokenInfo,
}

impl std::fmt::Debug for Created {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Created")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// What a file is recognised by: another file, or another text in it, has another stamp.
pub(super) type Stamp = (u64, u64, i64, i64, u64);

/// The tokens of one state directory. Every method blocks on the file system.
#[derive(Debug, Clone)]
pub struct TokenStore {
    dir: PathBuf,
}

impl TokenStore {
    /// The tokens of a state directory. Touches nothing yet.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// Makes a token.
    ///
    /// # Errors
    /// [`TokenError`]; then there is none.
    pub fn create(&self, new: &NewToken) -> Result<Created, TokenError> {
        let now = unix_ms();
        check(new, now)?;
        let token = format!(
            "{PREFIX}{}",
            URL_SAFE_NO_PAD.encode(self.random::<TOKEN_BYTES>()?)
        );
        let id = self.random::<ID_BYTES>()?;
        let kept = Kept {
            id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
            name: new.name.clone(),
            digest: URL_SAFE_NO_PAD.encode(digest_of(&token)),
            groups: new.groups.clone(),
            scopes: new.scopes.clone(),
            created_unix_ms: now,
            expires_unix_ms: new.expires_unix_ms,
            revoked_unix_ms: None,
        };
        let info = TokenInfo::of(&kept, &Uses::new(), now);
        self.change(|tokens| {
            tokens.retain(|known| !known.is_forgotten(now));
            let is_same =
                |known: &Kept| known.name == kept.name && known.state(now) == TokenState::Valid;
            if tokens.iter().any(is_same) {
                return Err(TokenError::Taken(kept.name.clone()));
            }
            if tokens.len() >= TOKENS_MAX {
                return Err(TokenError::TooMany);
            }
            tokens.push(kept);
            Ok(())
        })?;
        Ok(Created { token, info })
    }

    /// All tokens that are remembered, oldest first.
    ///
    /// # Errors
    /// [`TokenError`] when the file cannot be used.
    pub fn list(&self) -> Result<Vec<TokenInfo>, TokenError> {
        let (now, uses) = (unix_ms(), self.uses());
        let (tokens, _stamp) = self.read()?;
        let infos = tokens.iter().map(|kept| TokenInfo::of(kept, &uses, now));
        Ok(infos.collect())
    }

    /// Revokes a token by its name or id. One that is revoked already stays so.
    ///
    /// # Errors
    /// [`TokenError::Unknown`] when there is none, and what keeps the file from being written.
    pub fn revoke(&self, name: &str) -> Result<TokenInfo, TokenError> {
        let (now, uses) = (unix_ms(), self.uses());
        self.change(|tokens| {
            let by_id = tokens.iter().position(|kept| kept.id == name);
            let by_name = tokens
                .iter()
                .rposition(|kept| kept.name == name && kept.state(now) == TokenState::Valid);
            let found = by_id.or(by_name).and_then(|at| tokens.get_mut(at));
            let Some(kept) = found else {
                let valid = tokens
                    .iter()
                    .filter(|kept| kept.state(now) == TokenState::Valid);
                return Err(TokenError::Unknown {
                    name: name.chars().take(NAME_BYTES_MAX).collect(),
                    known: valid.map(|kept| kept.name.clone()).collect(),
                });
            };
            kept.revoked_unix_ms.get_or_insert(now);
            Ok(TokenInfo::of(kept, &uses, now))
        })
    }

    /// Whether there is a token that would be taken now.
    ///
    /// # Errors
    /// [`TokenError`] when the file cannot be used.
    pub fn has_valid(&self) -> Result<bool, TokenError> {
        let now = unix_ms();
        let (tokens, _stamp) = self.read()?;
        Ok(tokens
            .iter()
            .any(|kept| kept.state(now) == TokenState::Valid))
    }

    /// What the file is recognised by now; `None`: there is none.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        fs::metadata(self.path()).ok().map(|found| stamp(&found))
    }

    /// Everything that is kept. No file is no tokens.
    pub(super) fn read(&self) -> Result<(Vec<Kept>, Option<Stamp>), TokenError> {
        let path = self.path();
        let unreadable = |source| TokenError::Unusable {
            action: "read",
            path: path.clone(),
            source,
        };
        let damaged = |why: String| TokenError::Damaged {
            path: path.clone(),
            why,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), None)),
            Err(error) => return Err(unreadable(error)),
        };
        let found = file.metadata().map_err(unreadable)?;
        let own = rustix::process::geteuid().as_raw();
        if found.mode() & 0o022 != 0 || (found.uid() != own && found.uid() != 0) {
            return Err(TokenError::Exposed { path });
        }
        if found.len() > FILE_BYTES_MAX {
            return Err(damaged(format!("it is longer than {FILE_BYTES_MAX} bytes")));
        }
        let mut text = String::new();
        let mut limited = (&file).take(FILE_BYTES_MAX);
        match limited.read_to_string(&mut text) {
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(damaged("it is no text".to_owned()));
            }
            read => read.map_err(unreadable)?,
        };
        let whole: Whole =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if whole.version != VERSION {
            let why = format!("its version is {}, not {VERSION}", whole.version);
            return Err(damaged(why));
        }
        Ok((whole.tokens, Some(stamp(&found))))
    }

    /// Changes what is kept, with nobody else doing so meanwhile.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Kept>) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let unusable = |action, path: &Path| {
            let path = path.to_owned();
            move |source| TokenError::Unusable {
                action,
                path,
                source,
            }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(unusable("make the state directory", &self.dir))?;
        let _lock = self.lock()?;
        let (mut tokens, _stamp) = self.read()?;
        let done = change(&mut tokens)?;
        let whole = Whole {
            version: VERSION,
            tokens,
        };
        let path = self.path();
        self.write(&path, &whole)
            .map_err(unusable("write", &path))?;
        Ok(done)
    }

    /// Atomic: after a crash at any moment there is the old text or the new one.
    fn write(&self, path: &Path, content: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string_pretty(content)?;
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.dir)?;
        writeln!(file, "{text}")?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(&self.dir)?.sync_all()
    }

    fn lock(&self) -> Result<File, TokenError> {
        let path = self.dir.join(LOCK);
        let unusable = |source| TokenError::Unusable {
            action: "lock",
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unusable)?;
        let deadline = Instant::now() + LOCK_MAX;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(TokenError::Busy { path: self.path() });
                }
            }
        }
    }

    /// When tokens were used last. What cannot be read is not known.
    pub(super) fn uses(&self) -> Uses {
        let read = || -> io::Result<Uses> {
            let mut text = String::new();
            let file = File::open(self.dir.join(USES))?;
            file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
            Ok(serde_json::from_str(&text)?)
        };
        read().unwrap_or_default()
    }

    /// Remembers when tokens were used last.
    pub(super) fn remember_uses(&self, uses: &Uses) -> io::Result<()> {
        let mut all = self.uses();
        for (id, at) in uses {
            let known = all.entry(id.clone()).or_default();
            *known = (*known).max(*at);
        }
        self.write(&self.dir.join(USES), &all)
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], TokenError> {
        let mut bytes = [0_u8; N];
        getrandom::fill(&mut bytes).map_err(|error| TokenError::Unusable {
            action: "get random bytes for",
            path: self.path(),
            source: io::Error::other(error),
        })?;
        Ok(bytes)
    }
}

fn stamp(found: &fs::Metadata) -> Stamp {
    (
        found.dev(),
        found.ino(),
        found.mtime(),
        found.mtime_nsec(),
        found.len(),
    )
}

/// What is kept of a token.
pub(super) fn digest_of(token: &str) -> [u8; digest::SHA256_OUTPUT_LEN] {
    let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    bytes
}

fn check(new: &NewToken, now_unix_ms: u64) -> Result<(), TokenError> {
    let senseless = |why: String| Err(TokenError::Senseless(why));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
    let name = new.name.as_str();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_plain) {
        return senseless(format!(
            "the name of a token has 1 to {NAME_BYTES_MAX} letters, digits and the signs . _ - @ +"
        ));
    }
    if name.starts_with('-') {
        return senseless("the name of a token does not begin with `-`".to_owned());
    }
    for (what, words) in [("group", &new.groups), ("scope", &new.scopes)] {
        let is_word = |word: &String| {
            let fits = !word.is_empty() && word.len() <= WORD_BYTES_MAX;
            fits && !word.chars().any(|c| c.is_control() || c.is_whitespace())
        };
        if words.len() > WORDS_MAX || !words.iter().all(is_word) {
            return senseless(format!(
                "a token has at most {WORDS_MAX} {what}s, each of 1 to {WORD_BYTES_MAX} bytes without spaces"
            ));
        }
    }
    if new.expires_unix_ms.is_some_and(|end| end <= now_unix_ms) {
        return senseless("a token that ends in the past is of no use".to_owned());
    }
    Ok(())
}

/// Milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str) -> NewToken {
        NewToken {
            name: name.to_owned(),
            groups: vec!["ops".to_owned()],
            ..NewToken::default()
        }
    }

    #[test]
    fn law_31_a_token_is_shown_once_and_kept_as_a_digest_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::new(&dir.path().join("state"));
        let created = store.create(&new("ci")).unwrap();
        assert!(created.token.starts_with(PREFIX) && created.token.len() == 47);
        assert_ne!(store.create(&new("other")).unwrap().token, created.token);
        let text = fs::read_to_string(store.path()).unwrap();
        assert!(!text.contains(&created.token[PREFIX.len()..]), "{text}");
        assert!(!format!("{created:?}").contains(&created.token));
        for path in [store.path(), store.dir.join(LOCK)] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(matches!(
            store.create(&new("ci")),
            Err(TokenError::Taken(_))
        ));
        let revoked = store.revoke("ci").unwrap();
        assert_eq!(revoked.state, TokenState::Revoked);
        // Its name is free again, and its successor is another token.
        let again = store.create(&new("ci")).unwrap();
        assert_ne!(again.info.id, created.info.id);
        assert_eq!(store.revoke(&again.info.id).unwrap().id, again.info.id);
        let Err(TokenError::Unknown { known, .. }) = store.revoke("ci") else {
            panic!("revoked twice");
        };
        assert_eq!(known, ["other"]);
        let states: Vec<_> = store.list().unwrap().iter().map(|one| one.state).collect();
        assert_eq!(
            states,
            [TokenState::Revoked, TokenState::Valid, TokenState::Revoked]
        );
    }

    #[test]
    fn law_31_a_file_that_cannot_be_trusted_is_left_alone_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::new(dir.path());
        store.create(&new("ci")).unwrap();
        let good = fs::read_to_string(store.path()).unwrap();
        for (text, word) in [
            (&good[..good.len() / 2], "damaged"),
            ("", "damaged"),
            ("<html>", "damaged"),
            ("{\"version\":2,\"tokens\":[]}", "version is 2"),
        ] {
            fs::write(store.path(), text).unwrap();
            let error = store.create(&new("more")).unwrap_err().to_string();
            assert!(
                error.contains(word) && error.contains("access-tokens.json"),
                "{error}"
            );
            assert_eq!(fs::read_to_string(store.path()).unwrap(), text);
        }
        fs::write(store.path(), &good).unwrap();
        fs::set_permissions(store.path(), Permissions::from_mode(0o666)).unwrap();
        let error = store.list().unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn senseless_tokens_are_refused_with_words() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::new(dir.path());
        let named = |name: &str| new(name);
        let grouped = |group: &str| NewToken {
            groups: vec![group.to_owned()],
            ..new("ci")
        };
        let past = NewToken {
            expires_unix_ms: Some(1),
            ..new("ci")
        };
        for wrong in [
            named(""),
            named("a b"),
            named("../x"),
            named("-x"),
            named(&"x".repeat(65)),
            grouped(""),
            grouped("a\nb"),
            past,
        ] {
            let error = store.create(&wrong).unwrap_err();
            assert!(
                matches!(error, TokenError::Senseless(_)),
                "{wrong:?}: {error}"
            );
        }
        assert!(!store.path().exists());
    }

    #[test]
    fn several_processes_lose_none_of_each_others_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::new(dir.path());
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    for one in 0..5 {
                        store.create(&new(&format!("t{worker}-{one}"))).unwrap();
                    }
                });
            }
        });
        assert_eq!(store.list().unwrap().len(), 40);
    }
}
