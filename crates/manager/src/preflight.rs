//! What can be known about a server without starting it.

use std::ffi::OsString;
use std::path::PathBuf;

use mainstay_core::failure::{Failure, FailureKind};

use crate::config::ServerConfig;
use crate::process::{self, SpawnSpec};
use crate::settings;

/// Finds the program of a stdio server as its start would: references resolved, on the child's own `PATH`, from the
/// child's own working directory (F1, F3).
///
/// # Errors
/// The failure that the start would end with: a reference without a value, a missing program or working directory. For
/// a server that is no process, [`FailureKind::BadConfig`].
pub fn find_program(server: &ServerConfig) -> Result<PathBuf, Failure> {
    let resolved = settings::resolve_command(server)?;
    let spec = SpawnSpec {
        program: OsString::from(resolved.command),
        args: resolved.args.into_iter().map(OsString::from).collect(),
        env: settings::child_env(server, &resolved.env),
        cwd: resolved.cwd.map(Into::into),
        stderr_bytes_max: 0,
    };
    process::find_program(&spec).map_err(|error| {
        let kind = match &error {
            process::SpawnError::NotFound { .. } => FailureKind::SpawnNotFound,
            process::SpawnError::CwdMissing { .. } => FailureKind::CwdMissing,
            process::SpawnError::Denied { .. } => FailureKind::SpawnDenied,
            process::SpawnError::Other { .. } => FailureKind::SpawnFailed,
        };
        Failure::new(kind).with_detail(error.to_string())
    })
}
