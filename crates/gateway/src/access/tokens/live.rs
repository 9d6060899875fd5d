//! The tokens of a running Mainstay: as the file has them now.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mainstay::Principal;
use ring::hmac;

use super::store::{Kept, Stamp, TokenState, TokenStore, Uses, digest_of, unix_ms};
use crate::serve::caller::{By, Caller, Ended};

/// To when a use is remembered.
const USE_MS: u64 = 60_000;

/// What a token is to us.
pub(crate) enum Known {
    /// Its caller.
    Caller(Arc<Caller>),
    /// It was one.
    Ended(TokenState),
    /// It is none.
    Unknown,
}

/// The tokens of a state directory, for many requests at a time.
pub(crate) struct Tokens {
    store: TokenStore,
    /// Of this process: what is looked up is nothing that the sender of a token could know or aim at.
    key: hmac::Key,
    live: ArcSwap<Live>,
    /// Held while the file is read.
    turn: tokio::sync::Mutex<()>,
    is_used: AtomicBool,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// What the file said when it was read.
#[derive(Default)]
struct Live {
    stamp: Option<Stamp>,
    by_tag: HashMap<Box<[u8]>, Entry>,
}

struct Entry {
    tag: hmac::Tag,
    kept: Kept,
    caller: Arc<Caller>,
    used_unix_ms: AtomicU64,
}

impl Tokens {
    /// The tokens of a directory, as they are now. Blocks for a moment. A file that cannot be used is told, and holds none.
    pub(crate) fn new(store: TokenStore) -> Option<Self> {
        let mut seed = [0_u8; 32];
        getrandom::fill(&mut seed).ok()?;
        let tokens = Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &seed),
            live: ArcSwap::default(),
            turn: tokio::sync::Mutex::default(),
            is_used: AtomicBool::new(false),
            store,
        };
        tokens.load();
        Some(tokens)
    }

    /// Whether there is a token that would be taken now.
    pub(crate) fn any_valid(&self) -> bool {
        let now = unix_ms();
        let live = self.live.load();
        live.by_tag
            .values()
            .any(|entry| entry.kept.state(now) == TokenState::Valid)
    }

    /// Whose token this is, as the file says now.
    pub(crate) async fn know(self: &Arc<Self>, token: &str) -> Known {
        self.refresh().await;
        let digest = digest_of(token);
        let tag = hmac::sign(&self.key, &digest);
        let live = self.live.load();
        let Some(entry) = live.by_tag.get(tag.as_ref()) else {
            return Known::Unknown;
        };
        // In constant time, though what was compared above is nothing that anybody outside could choose.
        if hmac::verify(&self.key, &digest, entry.tag.as_ref()).is_err() {
            return Known::Unknown;
        }
        let now = unix_ms();
        match entry.kept.state(now) {
            TokenState::Valid => {
                let minute = now - now % USE_MS;
                if entry.used_unix_ms.swap(minute, Ordering::Relaxed) != minute {
                    self.is_used.store(true, Ordering::Relaxed);
                }
                Known::Caller(Arc::clone(&entry.caller))
            }
            ended @ (TokenState::Expired | TokenState::Revoked) => Known::Ended(ended),
        }
    }

    /// Reads the file anew if it is not the one that was read: a revoked token is worth nothing from the next request on.
    pub(crate) async fn refresh(self: &Arc<Self>) {
        if self.store.stamp() == self.live.load().stamp {
            return;
        }
        let _turn = self.turn.lock().await;
        if self.store.stamp() == self.live.load().stamp {
            return;
        }
        let this = Arc::clone(self);
        // A panic in there has been logged, and what was read before stays.
        let _read = tokio::task::spawn_blocking(move || this.load()).await;
    }

    fn load(&self) {
        let before = self.live.load_full();
        let (kept, stamp) = match self.store.read() {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "the tokens of clients cannot be read; those read before stay in force");
                // Told once for each state of the file.
                let stamp = self.store.stamp();
                let live = self.entries(before.kept(), &before, stamp);
                self.live.store(Arc::new(live));
                return;
            }
        };
        let live = self.entries(kept, &before, stamp);
        let now = unix_ms();
        let gone = before.by_tag.iter().filter(|(tag, entry)| {
            let kept = live.by_tag.get(*tag);
            let is_same = kept.is_some_and(|kept| {
                kept.kept.state(now) == TokenState::Valid
                    && Arc::ptr_eq(&kept.caller, &entry.caller)
            });
            !is_same
        });
        let gone: Vec<_> = gone.map(|(_, entry)| Arc::clone(&entry.caller)).collect();
        self.live.store(Arc::new(live));
        // What is open in their names ends (F212).
        gone.iter().for_each(|caller| caller.ended.end());
    }

    fn entries(&self, kept: Vec<Kept>, before: &Live, stamp: Option<Stamp>) -> Live {
        let mut uses = self.store.uses();
        uses.extend(before.uses());
        let mut by_tag = HashMap::with_capacity(kept.len());
        for kept in kept {
            let Ok(digest) = URL_SAFE_NO_PAD.decode(&kept.digest) else {
                tracing::warn!(
                    token = kept.name,
                    "the digest of a token is damaged; it is not taken"
                );
                continue;
            };
            let Some(caller) = caller(&kept) else {
                tracing::warn!("the name of a token is damaged; it is not taken");
                continue;
            };
            let tag = hmac::sign(&self.key, &digest);
            // The same caller as before, if nothing of it changed: whoever waits for its end hears of it.
            let known = before.by_tag.get(tag.as_ref()).map(|entry| &entry.caller);
            let caller = match known {
                Some(known) if **known == *caller => Arc::clone(known),
                Some(_) | None => caller,
            };
            let used = uses.get(&kept.id).copied().unwrap_or(0);
            let entry = Entry {
                tag,
                caller,
                used_unix_ms: AtomicU64::new(used),
                kept,
            };
            by_tag.insert(tag.as_ref().into(), entry);
        }
        Live { stamp, by_tag }
    }

    /// Writes down when tokens were used last, if any was since the last time. Blocks for a moment.
    pub(crate) fn remember(&self) {
        if !self.is_used.swap(false, Ordering::Relaxed) {
            return;
        }
        let uses: Uses = self.live.load().uses().collect();
        if let Err(error) = self.store.remember_uses(&uses) {
            tracing::debug!(%error, "when tokens were used is not written down");
        }
    }

    /// The file.
    pub(crate) fn store(&self) -> &TokenStore {
        &self.store
    }
}

impl Live {
    fn kept(&self) -> Vec<Kept> {
        self.by_tag
            .values()
            .map(|entry| entry.kept.clone())
            .collect()
    }

    fn uses(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let used = |entry: &Entry| {
            let at = entry.used_unix_ms.load(Ordering::Relaxed);
            (at > 0).then(|| (entry.kept.id.clone(), at))
        };
        self.by_tag.values().filter_map(used)
    }
}

fn caller(kept: &Kept) -> Option<Arc<Caller>> {
    let shared = |words: &[String]| words.iter().map(|word| word.as_str().into()).collect();
    Some(Arc::new(Caller {
        principal: Some(Principal::new(&format!("token:{}", kept.name))?),
        by: By::Token,
        label: Some(kept.name.as_str().into()),
        groups: shared(&kept.groups),
        scopes: shared(&kept.scopes),
        claims: std::collections::BTreeMap::new(),
        until_unix_ms: kept.expires_unix_ms,
        ended: Ended::default(),
        subject: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tokens::NewToken;

    fn new(name: &str) -> NewToken {
        NewToken {
            name: name.to_owned(),
            groups: vec!["ops".to_owned()],
            ..NewToken::default()
        }
    }

    async fn name(tokens: &Arc<Tokens>, token: &str) -> Option<String> {
        match tokens.know(token).await {
            Known::Caller(caller) => caller.principal.as_ref().map(ToString::to_string),
            Known::Ended(_) | Known::Unknown => None,
        }
    }

    #[tokio::test]
    async fn law_32_a_running_mainstay_takes_tokens_as_the_file_has_them_now() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::new(dir.path());
        let tokens = Arc::new(Tokens::new(store.clone()).unwrap());
        assert!(!tokens.any_valid());
        let ci = store.create(&new("ci")).unwrap().token;
        assert_eq!(name(&tokens, &ci).await.as_deref(), Some("token:ci"));
        for wrong in ["", "mst_", &ci[..46], &format!("{ci}x"), &ci.to_uppercase()] {
            assert_eq!(name(&tokens, wrong).await, None, "{wrong}");
        }
        // Damage is told; what was valid stays valid.
        let good = std::fs::read(store.path()).unwrap();
        std::fs::write(store.path(), b"{").unwrap();
        assert_eq!(name(&tokens, &ci).await.as_deref(), Some("token:ci"));
        std::fs::write(store.path(), &good).unwrap();
        store.revoke("ci").unwrap();
        assert!(matches!(
            tokens.know(&ci).await,
            Known::Ended(TokenState::Revoked)
        ));
        tokens.remember();
        assert!(store.list().unwrap()[0].last_used_unix_ms.is_some());
        std::fs::remove_file(store.path()).unwrap();
        assert!(matches!(tokens.know(&ci).await, Known::Unknown));
    }
}
