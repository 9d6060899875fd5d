//! What can be known about a server without starting it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_core::failure::{Failure, FailureKind};

use crate::config::{ServerConfig, process_env};
use crate::process;
use crate::runtime::http::reach;
use crate::settings;
use crate::vault;

/// Finds the program of a stdio server as its start would: references resolved, on the child's own `PATH`, from the
/// child's own working directory (F1, F3). What is kept elsewhere is looked up, which may take seconds. Cancel-safe.
///
/// # Errors
/// The failure that the start would end with: a reference without a value, a missing program or working directory. For
/// a server that is no process, [`FailureKind::BadConfig`].
pub async fn find_program(server: &ServerConfig) -> Result<PathBuf, Failure> {
    let resolved = settings::look_up_command(server, None).await?;
    let spec = settings::spawn_spec(server, resolved, 0);
    process::find_program(&spec).map_err(|error| settings::spawn_failure(&error))
}

/// The files that `pinProgram` compares: the program, and the script that it is given if it is an interpreter.
///
/// # Errors
/// As [`find_program`].
pub(crate) async fn program_files(server: &ServerConfig) -> Result<Vec<PathBuf>, Failure> {
    let resolved = settings::look_up_command(server, None).await?;
    let spec = settings::spawn_spec(server, resolved, 0);
    let look = move || process::program_files(&spec);
    match tokio::task::spawn_blocking(look).await {
        Ok(files) => files.map_err(|error| settings::spawn_failure(&error)),
        Err(_panicked) => Err(Failure::new(FailureKind::Internal)),
    }
}

/// Whether the address of an HTTP server can be reached, the way that its link would go: name, connection, TLS, proxy, and
/// any HTTP answer. Speaks no MCP and sends no header of the entry. `wait`: for all of it together. Cancel-safe.
///
/// # Errors
/// Why there was no answer, without anything that the entry keeps secret (law 31). For a server that is no address,
/// [`FailureKind::BadConfig`].
pub async fn reach(server: &ServerConfig, wait: Duration) -> Result<u16, Failure> {
    let endpoint = settings::look_up_endpoint(server, None).await?;
    reach::reach(&endpoint.url, &endpoint.route, wait).await
}

/// One value that an entry refers to and that is kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The reference; of a command only the program.
    pub reference: String,
    /// Why it cannot be looked up, and what to do.
    pub problem: Option<String>,
    /// What is worth a word although it can: a file that everybody can read.
    pub note: Option<String>,
}

/// Looks up everything that an entry refers to and that is kept elsewhere: files, the keyring, commands of password
/// managers. `wait`: for each, side by side. Shows no value. Cancel-safe.
pub async fn kept(server: &ServerConfig, wait: Duration) -> Vec<Kept> {
    let mut lookups = Vec::new();
    for template in server.templates() {
        // A variable without a value is a problem of the configuration, and told there.
        lookups.extend(template.lookups(&process_env).unwrap_or_default());
    }
    let mut seen = HashSet::new();
    lookups.retain(|lookup| seen.insert(lookup.clone()));
    let told = vault::inspect(lookups, None, wait).await;
    let told = told.into_iter().map(|(lookup, found)| Kept {
        reference: lookup.to_string(),
        problem: found.as_ref().err().map(ToString::to_string),
        note: found.ok().flatten(),
    });
    told.collect()
}
