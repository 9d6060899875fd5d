//! Whether the programs of servers are there for the child, and which versions run them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use mainstay::config::{Config, ServerConfig, Severity, Template, Transport};
use mainstay::preflight;
use mainstay_core::failure::FailureKind;
use tokio::process::Command;

use super::{Area, Health, Runtime};

/// How long a program may take to say its version.
const VERSION_WAIT: Duration = Duration::from_secs(10);
/// Bytes of what it says that are looked at.
const VERSION_CHARS_MAX: usize = 60;
/// Where a Mainstay that was not started from a terminal looks.
const PATH_OF_SERVICES: [&str; 5] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// A program that runs servers: how it says its version, and the oldest that is of use.
struct Known {
    name: &'static str,
    args: &'static [&'static str],
    /// What else it needs on the same search path.
    needs: &'static [&'static str],
    oldest: Option<(u32, u32)>,
    remedy: &'static str,
}

const KNOWN: [Known; 12] = [
    known(
        "node",
        &["--version"],
        &[],
        Some((18, 0)),
        "install a current Node.js",
    ),
    known(
        "npx",
        &["--version"],
        &["node"],
        None,
        "install Node.js, which brings it",
    ),
    known(
        "npm",
        &["--version"],
        &["node"],
        None,
        "install Node.js, which brings it",
    ),
    known("pnpm", &["--version"], &["node"], None, "install pnpm"),
    known("bun", &["--version"], &[], None, "install Bun"),
    known(
        "bunx",
        &["--version"],
        &[],
        None,
        "install Bun, which brings it",
    ),
    known("deno", &["--version"], &[], None, "install Deno"),
    known(
        "uvx",
        &["--version"],
        &[],
        None,
        "install uv, which brings it",
    ),
    known("uv", &["--version"], &[], None, "install uv"),
    known(
        "python3",
        &["--version"],
        &[],
        Some((3, 10)),
        "install a current Python",
    ),
    known(
        "python",
        &["--version"],
        &[],
        Some((3, 10)),
        "install a current Python",
    ),
    known(
        "docker",
        &["version", "--format", "{{.Server.Version}}"],
        &[],
        None,
        "start the Docker daemon, and check that you may use it",
    ),
];

const fn known(
    name: &'static str,
    args: &'static [&'static str],
    needs: &'static [&'static str],
    oldest: Option<(u32, u32)>,
    remedy: &'static str,
) -> Known {
    Known {
        name,
        args,
        needs,
        oldest,
        remedy,
    }
}

/// Looks for every program, and asks those that run servers for their versions.
pub(super) async fn look(config: &Config, health: &mut Health) {
    let mut runtimes: BTreeMap<PathBuf, (&'static Known, BTreeSet<String>)> = BTreeMap::new();
    let mut only_here: BTreeSet<String> = BTreeSet::new();
    for server in config.servers.iter().filter(|server| server.enabled) {
        let Transport::Stdio { command, .. } = &server.transport else {
            continue;
        };
        let path = match preflight::find_program(server).await {
            Ok(path) => path,
            // Told where secrets are looked up.
            Err(failure) if failure.kind == FailureKind::SecretUnavailable => continue,
            Err(failure) => {
                let remedy = failure.kind.hint();
                health.add(
                    Severity::Error,
                    Area::Program,
                    &server.name,
                    failure.to_string(),
                    remedy,
                );
                continue;
            }
        };
        if let Some(seen) = health.seen(&server.name) {
            seen.program = Some(path.display().to_string());
        }
        let is_searched = !command.raw().contains('/');
        if is_searched
            && !PATH_OF_SERVICES
                .iter()
                .any(|dir| path.parent() == Some(Path::new(dir)))
        {
            only_here.insert(command.raw().to_owned());
        }
        let name = Path::new(command.raw())
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some(known) = KNOWN.iter().find(|known| known.name == name) else {
            continue;
        };
        runtimes
            .entry(path)
            .or_insert_with(|| (known, BTreeSet::new()))
            .1
            .insert(server.name.clone());
        for need in known.needs {
            needed(server, need, &mut runtimes, health).await;
        }
    }
    if !only_here.is_empty() {
        let all: Vec<String> = only_here.into_iter().collect();
        health.add(
            Severity::Note,
            Area::Program,
            all.join(", "),
            "found on the PATH of this terminal; a Mainstay that an app or the system starts may have a shorter one",
            "if they are not found there, give full paths in `command`, or set PATH in the `env` of the servers",
        );
    }
    let asked = runtimes
        .into_iter()
        .map(|(path, (known, servers))| async move {
            let version = version(&path, known.args).await;
            (path, known, servers, version)
        });
    for (path, known, servers, version) in join_all(asked).await {
        judge(path, known, &servers, version, health);
    }
}

/// What a runner needs beside itself: `npx` is a script that `node` runs.
async fn needed(
    server: &ServerConfig,
    need: &str,
    runtimes: &mut BTreeMap<PathBuf, (&'static Known, BTreeSet<String>)>,
    health: &mut Health,
) {
    let mut other = server.clone();
    if let Transport::Stdio { command, args, .. } = &mut other.transport {
        *command = Template::new(need);
        args.clear();
    }
    match preflight::find_program(&other).await {
        Ok(path) => {
            if let Some(known) = KNOWN.iter().find(|known| known.name == need) {
                runtimes
                    .entry(path)
                    .or_insert_with(|| (known, BTreeSet::new()))
                    .1
                    .insert(server.name.clone());
            }
        }
        Err(_) => health.add(
            Severity::Error,
            Area::Runtime,
            &server.name,
            format!("its program needs `{need}`, which is not on its PATH"),
            format!("install `{need}`, or add its directory to PATH in the server's `env`"),
        ),
    }
}

fn judge(
    path: PathBuf,
    known: &'static Known,
    servers: &BTreeSet<String>,
    version: Result<String, String>,
    health: &mut Health,
) {
    let place: Vec<&str> = servers.iter().map(String::as_str).collect();
    let place = place.join(", ");
    match version {
        Ok(version) => {
            let old = known
                .oldest
                .filter(|oldest| numbers(&version).is_some_and(|found| found < *oldest));
            if let Some((major, minor)) = old {
                health.add(
                    Severity::Warning,
                    Area::Runtime,
                    place,
                    format!(
                        "{} is version {version}; many servers need {major}.{minor} or newer",
                        path.display()
                    ),
                    known.remedy,
                );
            }
            health.runtimes.push(Runtime {
                program: known.name.to_owned(),
                path,
                version,
            });
        }
        Err(why) => health.add(
            Severity::Error,
            Area::Runtime,
            place,
            format!("{} is there, but does not work: {why}", path.display()),
            known.remedy,
        ),
    }
}

/// What a program says about its version.
async fn version(path: &Path, args: &[&str]) -> Result<String, String> {
    let child = Command::new(path)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(VERSION_WAIT, child).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_late) => {
            return Err(format!(
                "it did not say its version within {} s",
                VERSION_WAIT.as_secs()
            ));
        }
    };
    let line = |bytes: &[u8]| -> String {
        let text = String::from_utf8_lossy(bytes);
        let line = text
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default();
        line.trim().chars().take(VERSION_CHARS_MAX).collect()
    };
    // Some say it on stderr.
    let said = Some(line(&output.stdout))
        .filter(|line| !line.is_empty())
        .unwrap_or_else(|| line(&output.stderr));
    if output.status.success() {
        Ok(said)
    } else if said.is_empty() {
        Err(format!("it ended with {}", output.status))
    } else {
        Err(said)
    }
}

/// `v20.11.1`, `Python 3.12.1` and the like: the first two numbers.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let from = version.find(|c: char| c.is_ascii_digit())?;
    let mut parts = version[from..].split(|c: char| !c.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    Some((
        major,
        parts
            .next()
            .and_then(|minor| minor.parse().ok())
            .unwrap_or(0),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_however_they_are_said() {
        for (text, expected) in [
            ("v20.11.1", Some((20, 11))),
            ("Python 3.9.2", Some((3, 9))),
            ("uvx 0.5.1 (abc 2024)", Some((0, 5))),
            ("10", Some((10, 0))),
            ("unknown", None),
        ] {
            assert_eq!(numbers(text), expected, "{text}");
        }
    }
}
