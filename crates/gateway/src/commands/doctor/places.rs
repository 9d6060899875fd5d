//! The port, the socket, and who may read and write what.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use mainstay::config::{Config, Severity};
use mainstay::store::Store;
use serde_json::Value;

use super::{Area, Finding, Health, ask_status, entries};
use crate::cli::doctor::DoctorArgs;
use crate::commands::client::AdminClient;

/// Bits of a mode: others may write, others may read.
const WRITE: u32 = 0o022;
const READ: u32 = 0o044;

/// The local socket: who is behind it, if anybody. What the running Mainstay says is returned.
pub(super) async fn socket(path: &Path, findings: &mut Vec<Finding>) -> Option<Value> {
    let mut add = |severity, message: String, remedy: &str| {
        findings.push(Finding {
            severity,
            area: Area::Socket,
            place: path.display().to_string(),
            message,
            remedy: remedy.to_owned(),
        });
    };
    let found = std::fs::symlink_metadata(path).ok()?;
    if !found.file_type().is_socket() {
        add(
            Severity::Error,
            "there is a file where the local socket should be, and it is no socket".to_owned(),
            "move it away, or name another place with `mainstay.socket`",
        );
        return None;
    }
    let client = AdminClient::new(path.to_owned());
    if !client.is_running().await {
        add(
            Severity::Warning,
            "the socket of a Mainstay that has gone: nobody answers on it".to_owned(),
            "nothing needs to be done: the next `mainstay serve` takes its place; delete it if there is none",
        );
        return None;
    }
    let Some(status) = ask_status(&client).await else {
        add(
            Severity::Error,
            "somebody listens on the socket and does not answer".to_owned(),
            "look at the log of the running Mainstay; stop it with `mainstay stop` and start it again",
        );
        return None;
    };
    let version = status["version"].as_str().unwrap_or_default();
    if !version.is_empty() && version != env!("CARGO_PKG_VERSION") {
        add(
            Severity::Warning,
            format!(
                "the running Mainstay is version {version}, this command is {}",
                env!("CARGO_PKG_VERSION")
            ),
            "start it again: `mainstay stop`, then as before",
        );
    }
    let failed = status
        .pointer("/config/lastReload")
        .filter(|reload| reload["ok"] == false);
    if failed.is_some() {
        add(
            Severity::Warning,
            "the running Mainstay refused the last change of its configuration and goes on with the one before".to_owned(),
            "mend the file; `mainstay check` says what is wrong with it",
        );
    }
    Some(status)
}

/// The port to listen on.
pub(super) async fn listen(config: &Config, health: &mut Health) {
    let address = config.gateway.listen;
    if address.port() == 0 || health.running.is_some() {
        return;
    }
    match tokio::net::TcpListener::bind(address).await {
        Ok(listener) => drop(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let owner = owner_of(address)
                .map(|owner| format!(", by {owner}"))
                .unwrap_or_default();
            health.add(
                Severity::Error,
                Area::Listen,
                address.to_string(),
                format!("the port is taken{owner}"),
                "end that program, or listen elsewhere: `mainstay.listen`, or `serve --listen 127.0.0.1:0` for a free port",
            );
        }
        Err(error) => health.add(
            Severity::Error,
            Area::Listen,
            address.to_string(),
            format!("cannot listen there: {error}"),
            "use 127.0.0.1 or [::1] and a port above 1023",
        ),
    }
}

/// Who listens on a port, where the system says so.
#[cfg(target_os = "linux")]
fn owner_of(address: SocketAddr) -> Option<String> {
    let wanted = format!(":{:04X}", address.port());
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| {
            let text = std::fs::read_to_string(table).ok()?;
            text.lines().skip(1).find_map(|line| {
                let fields: Vec<&str> = line.split_ascii_whitespace().collect();
                // State 0A is LISTEN.
                let is_it = fields.get(1)?.ends_with(&wanted) && *fields.get(3)? == "0A";
                is_it
                    .then(|| fields.get(9).map(|inode| (*inode).to_owned()))
                    .flatten()
            })
        })?;
    let link = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let descriptors = std::fs::read_dir(process.path().join("fd")).ok()?;
        let holds = descriptors.flatten().any(|one| {
            std::fs::read_link(one.path()).is_ok_and(|to| to.as_os_str() == link.as_str())
        });
        holds.then(|| {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            format!("`{}` (process {pid})", name.trim())
        })
    })
}

#[cfg(not(target_os = "linux"))]
fn owner_of(_address: SocketAddr) -> Option<String> {
    None
}

/// Who may read and write the configuration, the state and the directory of the socket.
pub(super) fn permissions(
    config: &Config,
    args: &DoctorArgs,
    socket: Option<&Path>,
    health: &mut Health,
) {
    if let Some(file) = &config.source {
        configuration(file, config, health);
    }
    let state = args
        .state_dir
        .clone()
        .or_else(|| config.gateway.state_dir.clone())
        .or_else(Store::default_dir);
    if let Some(state) = state.filter(|state| state.exists()) {
        directory(&state, "the state directory", Severity::Warning, health);
        if let Err(error) = Store::open(&state) {
            health.add(
                Severity::Warning,
                Area::Permissions,
                state.display().to_string(),
                format!("the state directory cannot be used: {error}"),
                "make it yours, or name another one with `mainstay.stateDir`; without it catalogs are not remembered",
            );
        }
    }
    if let Some(parent) = socket
        .and_then(Path::parent)
        .filter(|parent| parent.exists())
    {
        directory(
            parent,
            "the directory of the local socket",
            Severity::Error,
            health,
        );
    }
}

fn configuration(file: &Path, config: &Config, health: &mut Health) {
    let Ok(found) = std::fs::metadata(file) else {
        return;
    };
    let place = file.display().to_string();
    let mode = found.mode();
    if mode & WRITE != 0 {
        health.add(
            Severity::Warning,
            Area::Permissions,
            &place,
            "others may write the configuration: they can have programs started in your name",
            format!("chmod go-w '{place}'"),
        );
    }
    if mode & READ != 0 && !entries::literal_secrets(config).is_empty() {
        health.add(
            Severity::Warning,
            Area::Permissions,
            &place,
            "others may read the configuration, and there are secrets in it",
            format!("chmod 600 '{place}', and better: put the secrets into environment variables"),
        );
    }
    if found.uid() != rustix::process::geteuid().as_raw() && found.uid() != 0 {
        health.add(
            Severity::Warning,
            Area::Permissions,
            &place,
            "the configuration belongs to another user",
            "make a copy that is yours",
        );
    }
}

/// A directory that only this user should be able to write to.
fn directory(path: &Path, what: &str, severity: Severity, health: &mut Health) {
    let Ok(found) = std::fs::metadata(path) else {
        return;
    };
    let place = path.display().to_string();
    // In a directory with the sticky bit others cannot replace what is ours.
    let is_sticky = found.mode() & 0o1000 != 0;
    if found.mode() & WRITE != 0 && !is_sticky {
        health.add(
            severity,
            Area::Permissions,
            &place,
            format!("others may write to {what}"),
            format!("chmod 700 '{place}'"),
        );
    }
}
