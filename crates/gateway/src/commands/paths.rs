//! Where things are when nobody says so: the local socket and the state directory.

use std::path::{Path, PathBuf};

use mainstay::config::{Config, find_default};
use mainstay::store::Store;

use crate::exit::{Exit, Stop};

const SOCKET_NAME: &str = "mainstay.sock";

/// The socket to look for a running Mainstay at: as told, else as the default configuration says, else the default.
///
/// # Errors
/// When the user has neither a runtime nor a state directory.
pub(crate) fn socket(told: Option<&Path>) -> Result<PathBuf, Stop> {
    if let Some(path) = told {
        return Ok(path.to_owned());
    }
    let configured = find_default(None)
        .ok()
        .and_then(|path| Config::load(&path).ok());
    match configured.and_then(|loaded| loaded.config.gateway.socket) {
        Some(path) => Ok(path),
        None => default_socket(),
    }
}

/// The socket that `serve` opens when neither the command line nor the configuration names one.
pub(crate) fn default_socket() -> Result<PathBuf, Stop> {
    let runtime = directories::ProjectDirs::from("", "", "mainstay")
        .and_then(|dirs| dirs.runtime_dir().map(Path::to_owned))
        .filter(|dir| dir.parent().is_some_and(Path::is_dir));
    runtime
        .or_else(Store::default_dir)
        .map(|dir| dir.join(SOCKET_NAME))
        .ok_or_else(|| {
            Stop::new(
                Exit::Unexpected,
                "there is no place for the local socket: this user has no home directory",
            )
            .hint("name one with --socket")
        })
}
