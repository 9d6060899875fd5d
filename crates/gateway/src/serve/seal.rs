//! Sealing: what Mainstay hands to clients and wants back unchanged, such as the state inside a session id.
//!
//! A sealed text is encrypted and authenticated (AES-256-GCM, a random nonce for each), names the key it was sealed with,
//! and is bound to its purpose: a session id never passes for the state of a request. The keys are in one file of the
//! state directory, so that texts outlive a restart; a new key replaces an old one from time to time, and the old ones
//! are kept for reading. Nothing here knows what is sealed, and no error or log line ever shows a key or a payload.

mod ring_file;

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use self::ring_file::{KEY_BYTES, StoredKey};

/// The format of a sealed text, its first byte.
const VERSION: u8 = 1;
/// Version and key id, readable without a key and authenticated with everything else.
const HEAD_BYTES: usize = 1 + KEY_ID_BYTES;
const KEY_ID_BYTES: usize = 4;
const TAG_BYTES: usize = 16;
/// Keys in one ring, the current one included. The oldest go first.
const KEYS_MAX: usize = 16;
/// A current key older than this is replaced when the ring is opened or [refreshed](Sealer::refresh): 30 days.
const ROTATE_AFTER_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// How long a former key can still be read with: 90 days, so that even a session that is always in use survives.
const KEEP_MS: u64 = 90 * 24 * 60 * 60 * 1_000;

/// What a text is sealed for. A text of one purpose cannot be unsealed for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The id of a legacy session.
    Session,
    /// The `requestState` of an input-required result.
    RequestState,
    /// A server's own `requestState`, as a user carries it.
    ServerState,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Session => b"mainstay session",
            Self::RequestState => b"mainstay request state",
            Self::ServerState => b"mainstay server state",
        }
    }
}

/// Why something could not be sealed, or a key ring not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random(#[source] getrandom::Error),
    /// There is no key at all, because none could be made at the start.
    #[error("there is no key to seal with")]
    NoKey,
    /// The cipher refused: the payload is larger than any limit of ours admits.
    #[error("the cipher refused the payload")]
    Cipher,
    /// The key ring could not be read or written. The cause is in `source()`.
    #[error(
        "cannot {action} the key ring {}\n    help: make its directory one that this user may read and write, or name \
         another with `--state-dir`",
        path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Seals and unseals. Shared by everything that does.
pub(crate) struct Sealer {
    /// The current key first.
    keys: RwLock<Vec<Key>>,
    /// The directory of the key ring; none for keys that live as long as this process.
    dir: Option<PathBuf>,
}

struct Key {
    stored: StoredKey,
    cipher: LessSafeKey,
}

impl Key {
    fn new(stored: StoredKey) -> Option<Self> {
        let unbound = UnboundKey::new(&AES_256_GCM, &stored.secret).ok()?;
        Some(Self {
            stored,
            cipher: LessSafeKey::new(unbound),
        })
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("dir", &self.dir).finish()
    }
}

impl Sealer {
    /// A sealer for a gateway: with the key ring of `dir` if there is one and it can be used, else with keys of this
    /// process only. What does not work is logged; only what is sealed suffers from it.
    pub(crate) fn for_gateway(dir: Option<&Path>) -> Self {
        let opened = dir.map_or_else(Self::ephemeral, |dir| {
            Self::open(dir).or_else(|error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, ?cause, "sessions of clients will not survive a restart");
                Self::ephemeral()
            })
        });
        opened.unwrap_or_else(|error| {
            tracing::error!(%error, "nothing can be sealed");
            Self {
                keys: RwLock::default(),
                dir: None,
            }
        })
    }

    /// A sealer with a key of this process only.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub(crate) fn ephemeral() -> Result<Self, SealError> {
        Ok(Self {
            keys: RwLock::new(keys(vec![new_key(now_ms())?])),
            dir: None,
        })
    }

    /// A sealer with the key ring `keys.json` of a directory, which is made if there is none. A ring that cannot be
    /// understood is put aside under another name, logged, and replaced. Several processes may share a directory: the
    /// first one makes the ring. Blocks on the file system.
    ///
    /// # Errors
    /// [`SealError::Random`] and [`SealError::File`].
    pub(crate) fn open(dir: &Path) -> Result<Self, SealError> {
        Self::open_at(dir, now_ms())
    }

    fn open_at(dir: &Path, now_ms: u64) -> Result<Self, SealError> {
        let stored = match ring_file::load(dir)? {
            Some(stored) => stored,
            None => ring_file::create(dir, &new_key(now_ms)?)?,
        };
        let sealer = Self {
            keys: RwLock::new(keys(stored)),
            dir: Some(dir.to_owned()),
        };
        sealer.refresh_at(now_ms)?;
        Ok(sealer)
    }

    /// Whether what is sealed now can be read by another process later.
    pub(crate) fn is_durable(&self) -> bool {
        self.dir.is_some()
    }

    /// Seals a payload: URL-safe Base64 without padding, so visible ASCII that fits into a header. 33 bytes plus the
    /// payload, times 4/3.
    ///
    /// # Errors
    /// [`SealError::Random`], [`SealError::NoKey`], [`SealError::Cipher`].
    pub(crate) fn seal(&self, purpose: Purpose, payload: &[u8]) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(SealError::Random)?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.first().ok_or(SealError::NoKey)?;
        let mut text = Vec::with_capacity(HEAD_BYTES + NONCE_LEN + payload.len() + TAG_BYTES);
        text.push(VERSION);
        text.extend_from_slice(&key.stored.id);
        let bound = bound(purpose, &text);
        text.extend_from_slice(&nonce);
        let start = text.len();
        text.extend_from_slice(payload);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key
            .cipher
            .seal_in_place_separate_tag(nonce, Aad::from(bound), &mut text[start..])
            .map_err(|_unspecified| SealError::Cipher)?;
        text.extend_from_slice(tag.as_ref());
        Ok(URL_SAFE_NO_PAD.encode(text))
    }

    /// The payload of a sealed text. `None` for everything that this ring did not seal for this purpose: another key,
    /// another purpose, a changed byte, no sealed text at all. Which of them is nobody's business.
    pub(crate) fn unseal(&self, purpose: Purpose, text: &str) -> Option<Vec<u8>> {
        self.unseal_at(purpose, text, now_ms())
    }

    fn unseal_at(&self, purpose: Purpose, text: &str, now_ms: u64) -> Option<Vec<u8>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let head = bytes.get(..HEAD_BYTES)?;
        if head[0] != VERSION {
            return None;
        }
        let bound = bound(purpose, head);
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        // Ids are four random bytes: two keys may have the same one, and only one of them fits.
        let candidates: Vec<&Key> = keys
            .iter()
            .filter(|key| key.stored.id == head[1..] && key.stored.is_readable(now_ms))
            .collect();
        let nonce: [u8; NONCE_LEN] = bytes
            .get(HEAD_BYTES..HEAD_BYTES + NONCE_LEN)?
            .try_into()
            .ok()?;
        let sealed = bytes.split_off(HEAD_BYTES + NONCE_LEN);
        candidates.into_iter().find_map(|key| {
            let mut sealed = sealed.clone();
            let nonce = Nonce::assume_unique_for_key(nonce);
            let plain = key
                .cipher
                .open_in_place(nonce, Aad::from(&*bound), &mut sealed)
                .ok()?
                .len();
            sealed.truncate(plain);
            Some(sealed)
        })
    }

    /// Makes a new current key. The former ones stay valid for reading for [`KEEP_MS`]; if the new one cannot be stored,
    /// the ring is as it was.
    fn rotate_at(&self, now_ms: u64) -> Result<(), SealError> {
        let fresh = new_key(now_ms)?;
        let mut ring = vec![fresh];
        {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            ring.extend(keys.iter().map(|key| {
                let mut stored = key.stored.clone();
                stored
                    .until_unix_ms
                    .get_or_insert(now_ms.saturating_add(KEEP_MS));
                stored
            }));
        }
        ring.retain(|key| key.is_readable(now_ms));
        ring.truncate(KEYS_MAX);
        // On the disk first: a text sealed with a key that was never stored would not survive a restart.
        if let Some(dir) = &self.dir {
            ring_file::save(dir, &ring)?;
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys(ring);
        Ok(())
    }

    /// Rotates if the current key is old enough. Blocks on the file system when it is.
    ///
    /// # Errors
    /// [`SealError::Random`] and [`SealError::File`]; then the old key stays in use.
    pub(crate) fn refresh(&self) -> Result<(), SealError> {
        self.refresh_at(now_ms())
    }

    fn refresh_at(&self, now_ms: u64) -> Result<(), SealError> {
        let is_old = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            keys.first().is_none_or(|key| {
                now_ms.saturating_sub(key.stored.made_at_unix_ms) >= ROTATE_AFTER_MS
            })
        };
        if is_old {
            self.rotate_at(now_ms)?;
        }
        Ok(())
    }
}

/// What a text is authenticated with besides its payload.
fn bound(purpose: Purpose, head: &[u8]) -> Vec<u8> {
    [head, purpose.label()].concat()
}

fn keys(stored: Vec<StoredKey>) -> Vec<Key> {
    stored.into_iter().filter_map(Key::new).collect()
}

fn new_key(now_ms: u64) -> Result<StoredKey, SealError> {
    let (mut id, mut secret) = ([0; KEY_ID_BYTES], [0; KEY_BYTES]);
    getrandom::fill(&mut id).map_err(SealError::Random)?;
    getrandom::fill(&mut secret).map_err(SealError::Random)?;
    Ok(StoredKey {
        id,
        secret,
        made_at_unix_ms: now_ms,
        until_unix_ms: None,
    })
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
