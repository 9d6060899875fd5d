//! `${secret:…}`: the keyring of the operating system (Secret Service, Keychain, Credential Manager).
//!
//! Its calls block, and for as long as somebody does not answer a dialog; they run on threads of their own, of which there are
//! only a few.

use std::time::Duration;

use super::LOOKUP_MAX;

/// Under which name the keyring keeps what is ours.
pub const SERVICE: &str = "mainstay";

/// Why the keyring could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// There is none here, or it cannot be reached.
    #[error(
        "no keyring can be reached ({0}); start one (on Linux a Secret Service such as GNOME Keyring or KWallet, on the same \
         D-Bus session), or use `${{file:…}}` or `${{cmd:…}}` in place of `${{secret:…}}`"
    )]
    Absent(String),
    /// It is locked, and was not unlocked.
    #[error("the keyring is locked ({0}); unlock it, and the server starts at its next attempt")]
    Locked(String),
    /// It did not answer.
    #[error("the keyring did not answer within {wait_ms} ms; unlock it, or answer its dialog")]
    Late {
        /// How long it was waited for, in milliseconds.
        wait_ms: u64,
    },
    /// It refused.
    #[error("the keyring refused: {0}")]
    Refused(String),
    /// This program was built without it.
    #[error(
        "this program was built without the keyring (feature `keyring`); use `${{file:…}}` or `${{cmd:…}}`"
    )]
    NotBuilt,
}

/// A secret; `None` when there is none of that name. Cancel-safe.
///
/// # Errors
/// When the keyring cannot be asked.
pub async fn get(name: &str) -> Result<Option<String>, KeyringError> {
    let name = name.to_owned();
    with(LOOKUP_MAX, move || real::get(&name)).await
}

/// Keeps a secret, in place of one of the same name.
///
/// # Errors
/// When the keyring cannot be asked, or refuses.
pub async fn set(name: &str, value: &str) -> Result<(), KeyringError> {
    crate::secrets::hide(value);
    let (name, value) = (name.to_owned(), value.to_owned());
    with(LOOKUP_MAX, move || real::set(&name, &value)).await
}

/// Keeps something beside the secrets that is none itself, such as the list of their names.
///
/// # Errors
/// When the keyring cannot be asked, or refuses.
pub async fn set_names(name: &str, value: &str) -> Result<(), KeyringError> {
    let (name, value) = (name.to_owned(), value.to_owned());
    with(LOOKUP_MAX, move || real::set(&name, &value)).await
}

/// Forgets a secret; whether there was one.
///
/// # Errors
/// When the keyring cannot be asked, or refuses.
pub async fn delete(name: &str) -> Result<bool, KeyringError> {
    let name = name.to_owned();
    with(LOOKUP_MAX, move || real::delete(&name)).await
}

#[cfg(feature = "keyring")]
async fn with<T: Send + 'static>(
    wait: Duration,
    work: impl FnOnce() -> Result<T, KeyringError> + Send + 'static,
) -> Result<T, KeyringError> {
    /// A keyring whose dialog nobody answers must not take all threads.
    static LANE: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(8);
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let done = super::aside(&LANE, wait, work).await;
    done.unwrap_or(Err(KeyringError::Late { wait_ms }))
}

#[cfg(not(feature = "keyring"))]
async fn with<T>(
    _wait: Duration,
    work: impl FnOnce() -> Result<T, KeyringError>,
) -> Result<T, KeyringError> {
    std::future::ready(work()).await
}

#[cfg(feature = "keyring")]
mod real {
    use keyring::{Entry, Error};

    use super::{KeyringError, SERVICE};

    fn entry(name: &str) -> Result<Entry, KeyringError> {
        if let Err(error) = Entry::store_status() {
            return Err(KeyringError::Absent(error.to_string()));
        }
        Entry::new(SERVICE, name).map_err(|error| trouble(&error))
    }

    fn trouble(error: &Error) -> KeyringError {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the errors of another crate, which has more with every release"
        )]
        match error {
            Error::NoStorageAccess(why) => KeyringError::Locked(why.to_string()),
            Error::NoDefaultStore => KeyringError::Absent(error.to_string()),
            // What they carry may be the secret itself.
            Error::BadEncoding(_) | Error::BadDataFormat(..) => {
                KeyringError::Refused("what it holds is no text in UTF-8".to_owned())
            }
            other => KeyringError::Refused(other.to_string()),
        }
    }

    pub(super) fn get(name: &str) -> Result<Option<String>, KeyringError> {
        match entry(name)?.get_password() {
            Ok(value) => Ok(Some(value)),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(trouble(&error)),
        }
    }

    pub(super) fn set(name: &str, value: &str) -> Result<(), KeyringError> {
        entry(name)?
            .set_password(value)
            .map_err(|error| trouble(&error))
    }

    pub(super) fn delete(name: &str) -> Result<bool, KeyringError> {
        match entry(name)?.delete_credential() {
            Ok(()) => Ok(true),
            Err(Error::NoEntry) => Ok(false),
            Err(error) => Err(trouble(&error)),
        }
    }
}

#[cfg(not(feature = "keyring"))]
mod real {
    use super::KeyringError;

    pub(super) fn get(_name: &str) -> Result<Option<String>, KeyringError> {
        Err(KeyringError::NotBuilt)
    }

    pub(super) fn set(_name: &str, _value: &str) -> Result<(), KeyringError> {
        Err(KeyringError::NotBuilt)
    }

    pub(super) fn delete(_name: &str) -> Result<bool, KeyringError> {
        Err(KeyringError::NotBuilt)
    }
}
