//! What can be known about a server without starting it.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_core::failure::Failure;

use crate::config::ServerConfig;
use crate::process;
use crate::runtime::http::reach;
use crate::settings;

/// Finds the program of a stdio server as its start would: references resolved, on the child's own `PATH`, from the
/// child's own working directory (F1, F3).
///
/// # Errors
/// The failure that the start would end with: a reference without a value, a missing program or working directory. For
/// a server that is no process, [`FailureKind::BadConfig`](mainstay_core::failure::FailureKind::BadConfig).
pub fn find_program(server: &ServerConfig) -> Result<PathBuf, Failure> {
    let spec = settings::spawn_spec(server, 0)?;
    process::find_program(&spec).map_err(|error| settings::spawn_failure(&error))
}

/// The files that `pinProgram` compares: the program, and the script that it is given if it is an interpreter.
///
/// # Errors
/// As [`find_program`].
pub(crate) fn program_files(server: &ServerConfig) -> Result<Vec<PathBuf>, Failure> {
    let spec = settings::spawn_spec(server, 0)?;
    process::program_files(&spec).map_err(|error| settings::spawn_failure(&error))
}

/// Whether the address of an HTTP server can be reached, the way that its link would go: name, connection, TLS, proxy, and
/// any HTTP answer. Speaks no MCP and sends no header of the entry. `wait`: for all of it together. Cancel-safe.
///
/// # Errors
/// Why there was no answer, without anything that the entry keeps secret (law 31). For a server that is no address,
/// [`FailureKind::BadConfig`](mainstay_core::failure::FailureKind::BadConfig).
pub async fn reach(server: &ServerConfig, wait: Duration) -> Result<u16, Failure> {
    let endpoint = settings::resolve_endpoint(server)?;
    reach::reach(&endpoint.url, &endpoint.route, wait).await
}
