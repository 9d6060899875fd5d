//! The token of whoever uses the dashboard or the admin API from another machine.
//!
//! Random, in one file of the state directory that only its owner can read, made when it is first asked for. It is
//! compared in constant time and never shown: not in an answer, not in a log.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use tokio::sync::OnceCell;

/// The file in the state directory.
const FILE: &str = "dashboard-token";

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;

/// Shorter ones, which somebody must have written by hand, are not used.
const LENGTH_MIN: usize = 32;

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1_024;

/// Prefix of files that are being written; the catalog store, which shares the directory, sweeps old ones.
const UNFINISHED: &str = ".unfinished-";

/// Keeps the token.
pub(crate) struct Keeper {
    dir: Option<PathBuf>,
    token: OnceCell<Option<Token>>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// A token, as what it takes to recognise it.
struct Token {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl Token {
    fn of(text: &str, seed: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, seed);
        let tag = hmac::sign(&key, text.as_bytes());
        Self { key, tag }
    }
}

impl Keeper {
    /// Keeps it in a directory; without one there is no token, and nothing that needs one is let in.
    pub(crate) fn new(dir: Option<&Path>) -> Self {
        Self {
            dir: dir.map(Path::to_owned),
            token: OnceCell::new(),
        }
    }

    /// Whether this is the token. Constant-time.
    pub(crate) async fn knows(&self, told: &str) -> bool {
        self.token().await.is_some_and(|token| {
            hmac::verify(&token.key, told.as_bytes(), token.tag.as_ref()).is_ok()
        })
    }

    /// Makes the token if there is none yet.
    pub(crate) async fn prepare(&self) {
        let _made = self.token().await;
    }

    async fn token(&self) -> Option<&Token> {
        let made = self.token.get_or_init(|| async {
            let dir = self.dir.clone()?;
            let shown = dir.join(FILE);
            let kept = tokio::task::spawn_blocking(move || kept(&dir)).await;
            let text = match kept {
                Ok(Ok(text)) => text,
                Ok(Err(error)) => {
                    tracing::warn!(%error, file = %shown.display(), "there is no token for the dashboard");
                    return None;
                }
                Err(_panicked_or_ending) => return None,
            };
            let mut seed = [0_u8; TOKEN_BYTES];
            getrandom::fill(&mut seed).ok()?;
            Some(Token::of(&text, &seed))
        });
        made.await.as_ref()
    }
}

/// The token of a directory, made if there is none. Blocks for a moment.
fn kept(dir: &Path) -> io::Result<String> {
    let path = dir.join(FILE);
    match read(&path) {
        Ok(text) if text.len() >= LENGTH_MIN => return Ok(text),
        Ok(_too_short) => {
            tracing::warn!(file = %path.display(), "the token is too short to be one, and is replaced");
            fs::remove_file(&path)?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let text = URL_SAFE_NO_PAD.encode(bytes);
    fs::create_dir_all(dir)?;
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(dir)?;
    writeln!(file, "{text}")?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(&path) {
        Ok(_) => Ok(text),
        // Another process was faster: then it is that one.
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => read(&path),
        Err(error) => Err(error.error),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    // What others could read is closed to them.
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "the token of the dashboard was readable by others");
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn law_32_the_token_is_random_kept_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = kept(dir.path()).unwrap();
        assert_eq!(kept(dir.path()).unwrap(), first);
        let path = dir.path().join(FILE);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let keeper = Keeper::new(Some(dir.path()));
        assert!(keeper.knows(&first).await);
        for wrong in ["", "x", &first[1..], &format!("{first}x")] {
            assert!(!keeper.knows(wrong).await, "{wrong}");
        }
        assert!(!format!("{keeper:?}").contains(&first));
        // One that anybody could read is closed; one that anybody could guess is replaced.
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(kept(dir.path()).unwrap(), first);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::write(&path, "secret\n").unwrap();
        assert!(kept(dir.path()).unwrap().len() >= LENGTH_MIN);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(kept(other.path()).unwrap(), first);
    }

    #[tokio::test]
    async fn law_32_without_a_place_for_it_nothing_passes() {
        assert!(!Keeper::new(None).knows("").await);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(!Keeper::new(Some(&file)).knows("").await);
    }
}
