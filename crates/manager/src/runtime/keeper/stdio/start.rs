//! What is started, and what it may touch: references resolved, the program found and compared with what was approved, the
//! sandbox put together. Everything here blocks on the file system.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_core::failure::{Failure, FailureKind};
use tempfile::TempDir;

use super::super::Setup;
use crate::config::{SandboxSettings, ServerConfig, Template, Transport};
use crate::pins::{Pins, Unapproved};
use crate::process::{self, Network, Program, Sandbox, SpawnSpec};
use crate::settings::{self, bad_config, spawn_failure};
use crate::store;

/// Where a sandboxed program keeps what is its own, below its private folder.
const HOME: &str = "home";
const TMP: &str = "tmp";

/// Variables that name folders in the home directory which the program cannot reach.
const FOLDERS: [&str; 5] = [
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];

/// A start that is ready.
pub(super) struct Start {
    pub(super) spec: SpawnSpec,
    /// A home that goes with the process.
    pub(super) home: Option<TempDir>,
}

/// Gets a start ready, on a thread that may block.
pub(super) async fn ready(setup: &Setup) -> Result<Start, Failure> {
    let config = Arc::clone(&setup.config);
    let pins = Arc::clone(&setup.slot.pins);
    let stderr_bytes_max = setup.stderr_bytes_max;
    // A connection of one client or one user is nobody else's, and neither are its files.
    let beside = setup.slot.beside.as_ref();
    let is_own =
        beside.is_some_and(|beside| beside.key.client.is_some() || beside.key.principal.is_some());
    let resolved = settings::look_up_command(&config, Some(&setup.guardian)).await?;
    let spec = settings::spawn_spec(&config, resolved, stderr_bytes_max);
    let work = move || prepare(&config, spec, &pins, is_own);
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_panic| Err(Failure::new(FailureKind::Internal)))
}

fn prepare(
    config: &ServerConfig,
    mut spec: SpawnSpec,
    pins: &Pins,
    is_own: bool,
) -> Result<Start, Failure> {
    if config.guard.pin_program {
        check_program(config, pins, &spec)?;
    }
    let mut home = None;
    if let Some(settings) = &config.sandbox {
        let private = match settings.own_home {
            true => Some(private_folder(config, pins, is_own, &mut home)?),
            false => None,
        };
        let sandbox = sandbox(config, settings, &spec, private.as_deref())?;
        if let Some(private) = &private {
            move_in(config, &mut spec, private);
        }
        spec.sandbox = Some(Arc::new(sandbox));
    }
    Ok(Start { spec, home })
}

/// F259: the program that is about to be started is the one that was approved.
fn check_program(config: &ServerConfig, pins: &Pins, spec: &SpawnSpec) -> Result<(), Failure> {
    let files = process::program_files(spec).map_err(|error| spawn_failure(&error))?;
    pins.check_program(&files).map_err(|error| {
        let detail = match error {
            Unapproved::Changed(words) => words,
            Unapproved::Unknown(words) => {
                let name = &config.name;
                format!(
                    "{words}; `mainstay tools approve {name} --program` approves it as it is now"
                )
            }
        };
        Failure::new(FailureKind::ProgramChanged).with_detail(detail)
    })
}

/// The folder that is the program's alone: kept where there is a state directory and the connection is everybody's.
fn private_folder(
    config: &ServerConfig,
    pins: &Pins,
    is_own: bool,
    home: &mut Option<TempDir>,
) -> Result<PathBuf, Failure> {
    let unusable = |error: std::io::Error| {
        let words = format!("the folder for its sandbox cannot be made: {error}");
        Failure::new(FailureKind::SpawnFailed).with_detail(words)
    };
    let folder = match pins.state_dir().filter(|_| !is_own) {
        Some(dir) => store::folder_of(dir, "sandbox", &config.name),
        None => {
            let dir = tempfile::Builder::new()
                .prefix("mainstay-sandbox-")
                .tempdir();
            home.insert(dir.map_err(unusable)?).path().to_owned()
        }
    };
    for part in [HOME, TMP] {
        store::create_private(&folder.join(part)).map_err(unusable)?;
    }
    Ok(folder)
}

/// The environment of a program whose home is elsewhere. What the entry declares stays.
fn move_in(config: &ServerConfig, spec: &mut SpawnSpec, private: &Path) {
    let declared = |name: &str| match &config.transport {
        Transport::Stdio { env, .. } => env.iter().any(|(own, _)| own == name),
        Transport::Http { .. } | Transport::Broken { .. } => false,
    };
    spec.env.retain(|(name, _)| {
        let name = name.to_str().unwrap_or_default();
        !FOLDERS.contains(&name) || declared(name)
    });
    for (name, part) in [("HOME", HOME), ("TMPDIR", TMP)] {
        if !declared(name) {
            spec.env.retain(|(own, _)| own != name);
            spec.env.push((name.into(), private.join(part).into()));
        }
    }
}

fn sandbox(
    config: &ServerConfig,
    settings: &SandboxSettings,
    spec: &SpawnSpec,
    private: Option<&Path>,
) -> Result<Sandbox, Failure> {
    let file = process::find_program(spec).map_err(|error| spawn_failure(&error))?;
    let here = std::env::current_dir().map_err(|error| {
        bad_config(format!("Mainstay's own working directory is gone: {error}"))
    })?;
    let cwd = here.join(spec.cwd.as_deref().unwrap_or(Path::new("")));
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let program = Program {
        file: &here.join(file),
        args: &spec.args,
        cwd: &cwd,
        is_cwd_declared: spec.cwd.is_some(),
        home: home.as_deref(),
    };
    let mut read_if_there = Vec::new();
    if settings.usual {
        read_if_there = process::usual_paths(&program);
        read_if_there.extend(authorities(&spec.env));
    }
    let declared = |paths: &[Template]| -> Result<Vec<PathBuf>, Failure> {
        let path = |path| declared_path(path, home.as_deref(), &here);
        paths.iter().map(path).collect()
    };
    let mut write = declared(&settings.write)?;
    write.extend(private.map(Path::to_owned));
    if let (Network::Ports { .. }, Transport::Stdio { .. }) = (&settings.network, &config.transport)
    {
        tracing::debug!(server = %config.name, "only TCP is limited to ports");
    }
    Ok(Sandbox {
        read: declared(&settings.read)?,
        write,
        read_if_there,
        network: settings.network.clone(),
        unix_sockets: settings.unix_sockets,
        backend: settings.backend,
        require: settings.require,
    })
}

/// The certificates that the environment names.
fn authorities(env: &[(OsString, OsString)]) -> impl Iterator<Item = PathBuf> {
    let named = env.iter().filter(|(name, _)| {
        process::AUTHORITIES
            .iter()
            .any(|known| name == OsStr::new(known))
    });
    named.map(|(_, value)| PathBuf::from(value))
}

/// A declared path: absolute, of the home directory, or relative to the file that it stands in.
fn declared_path(
    template: &Template,
    home: Option<&Path>,
    here: &Path,
) -> Result<PathBuf, Failure> {
    let path = settings::beside(template)?;
    let text = settings::resolve(template)?;
    let below = match text.as_str() {
        "~" => Some(""),
        other => other.strip_prefix("~/"),
    };
    match (below, home) {
        (None, _) => Ok(here.join(path)),
        (Some(below), Some(home)) => Ok(home.join(below)),
        (Some(_), None) => Err(bad_config(format!(
            "`{text}` in `sandbox` means the home directory, and `HOME` is not set"
        ))),
    }
}
