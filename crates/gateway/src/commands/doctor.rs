//! `mainstay doctor`: looks at everything that a set-up depends on, and says of each thing that is wrong what to do.
//!
//! Every check is in a file of its own and only adds findings. Must not change anything: the servers that it starts are
//! stopped again, and nothing is repaired.

mod entries;
mod network;
mod places;
mod processes;
mod programs;
mod report;
mod starts;

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::time::Duration;

use mainstay::config::{Config, Loaded, Problem, Severity, find_default};
use serde_json::Value;

use super::client::AdminClient;
use super::{config, paths};
use crate::cli::doctor::DoctorArgs;
use crate::cli::output::{Output, Paint};
use crate::exit::{Exit, Stop};

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    /// The text of the configuration.
    Config,
    /// Variables that it refers to.
    Environment,
    /// Secrets that it refers to: files, the keyring, commands of password managers.
    Secrets,
    /// Servers that are there twice, here or in apps.
    Duplicates,
    /// Programs of servers.
    Program,
    /// What runs them.
    Runtime,
    /// Addresses of servers, TLS included.
    Network,
    /// The port to listen on.
    Listen,
    /// Who may read and write what.
    Permissions,
    /// The local socket and the Mainstay behind it.
    Socket,
    /// Starts of servers, and what they said.
    Start,
    /// What servers write to stdout.
    Stdout,
    /// What servers list.
    Listing,
    /// Processes that nobody owns.
    Processes,
}

impl Area {
    fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Environment => "environment",
            Self::Secrets => "secrets",
            Self::Duplicates => "duplicates",
            Self::Program => "program",
            Self::Runtime => "runtime",
            Self::Network => "network",
            Self::Listen => "listen",
            Self::Permissions => "permissions",
            Self::Socket => "socket",
            Self::Start => "start",
            Self::Stdout => "stdout",
            Self::Listing => "listing",
            Self::Processes => "processes",
        }
    }
}

/// One thing that is wrong, or worth knowing.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) area: Area,
    /// The server, the file or the address that it is about.
    pub(super) place: String,
    pub(super) message: String,
    /// What to do about it.
    pub(super) remedy: String,
}

/// What is known about one server.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) transport: &'static str,
    /// `connected`, `down`, `not started`, `disabled` or `broken`.
    pub(super) state: &'static str,
    pub(super) program: Option<String>,
    pub(super) http_status: Option<u16>,
    pub(super) start_ms: Option<u64>,
    pub(super) era: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) tools: Option<u64>,
    pub(super) noise: Option<u64>,
}

/// A program that runs servers.
#[derive(Debug, Clone)]
pub(super) struct Runtime {
    pub(super) program: String,
    pub(super) path: PathBuf,
    pub(super) version: String,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) file: Option<PathBuf>,
    pub(super) findings: Vec<Finding>,
    pub(super) servers: Vec<Seen>,
    pub(super) runtimes: Vec<Runtime>,
    /// What the running Mainstay says of itself, if one runs.
    pub(super) running: Option<Value>,
}

impl Health {
    pub(super) fn add(
        &mut self,
        severity: Severity,
        area: Area,
        place: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.findings.push(Finding {
            severity,
            area,
            place: place.into(),
            message: message.into(),
            remedy: remedy.into(),
        });
    }

    fn problem(&mut self, area: Area, problem: &Problem) {
        let place = match &problem.origin {
            Some(at) => format!(
                "{}:{}:{} {}",
                at.file.display(),
                at.line,
                at.column,
                at.path
            ),
            None => problem.server.as_deref().unwrap_or_default().to_owned(),
        };
        let place = place.trim_end().to_owned();
        self.add(
            problem.severity,
            area,
            place,
            &problem.message,
            &problem.remedy,
        );
    }

    pub(super) fn seen(&mut self, name: &str) -> Option<&mut Seen> {
        self.servers.iter_mut().find(|seen| seen.name == name)
    }

    fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

/// Looks at everything.
///
/// # Errors
/// Only what keeps it from looking: a signal, or a stdout that cannot be written. What is wrong is a finding.
pub(crate) async fn run(args: DoctorArgs, output: Output) -> Result<Exit, Stop> {
    let mut health = Health::default();
    let step = |what: &str| {
        if stderr().is_terminal() {
            output.note(&Paint::Dim.on(&format!("{what} …"), output.color_err()));
        }
    };
    step("reading the configuration");
    let loaded = read(&args, &mut health);
    let socket = match &loaded {
        Some(loaded) => args
            .socket
            .socket
            .clone()
            .or_else(|| loaded.config.gateway.socket.clone())
            .map_or_else(paths::default_socket, Ok),
        None => paths::socket(args.socket.socket.as_deref()),
    };
    if let Ok(socket) = &socket {
        step("looking for a running Mainstay");
        health.running = places::socket(socket, &mut health.findings).await;
    }
    if let Some(loaded) = &loaded {
        let all = &loaded.config;
        entries::look(all, &mut health);
        step("looking up secrets");
        entries::secrets_kept(all, Duration::from_secs(args.timeout), &mut health).await;
        step("looking for programs and what runs them");
        programs::look(all, &mut health).await;
        step("reaching addresses");
        network::look(all, Duration::from_secs(args.timeout), &mut health).await;
        places::listen(all, &mut health).await;
        places::permissions(all, &args, socket.as_deref().ok(), &mut health);
        processes::look(all, &mut health);
        if args.no_start {
            starts::from_running(&mut health);
        } else {
            step("starting each server once");
            starts::look(all, &args, &mut health, output).await?;
        }
    }
    health
        .findings
        .sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    if args.json {
        output.json(&report::json(&health))?;
    } else {
        report::tell(&health, output)?;
    }
    Ok(match health.worst() {
        Some(Severity::Error | Severity::Warning) => Exit::DoctorFindings,
        Some(Severity::Note) | None => Exit::Ok,
    })
}

/// The configuration, as far as there is one; what is wrong with it becomes findings.
fn read(args: &DoctorArgs, health: &mut Health) -> Option<Loaded> {
    let path = match find_default(args.config.config.as_deref()) {
        Ok(path) => path,
        Err(none) => {
            let searched: Vec<String> = none
                .searched
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            health.add(
                Severity::Error,
                Area::Config,
                searched.join(", "),
                "there is no configuration",
                "take over the servers of your apps with `mainstay import`, or name a file with --config",
            );
            return None;
        }
    };
    health.file = Some(path.clone());
    let without_env = std::fs::read_to_string(&path)
        .ok()
        .and_then(|text| Config::parse(&text, &path).ok());
    match Config::load(&path) {
        Ok(loaded) => {
            let before = without_env
                .map(|loaded| loaded.problems)
                .unwrap_or_default();
            for problem in &loaded.problems {
                let is_text = before.contains(problem);
                health.problem(
                    if is_text {
                        Area::Config
                    } else {
                        Area::Environment
                    },
                    problem,
                );
            }
            Some(loaded)
        }
        Err(error) => {
            for problem in error.problems() {
                health.problem(Area::Config, problem);
            }
            if error.problems().is_empty() {
                let stop = config::refused(&error);
                let place = path.display().to_string();
                let hint = stop.hint.clone().unwrap_or_default();
                health.add(Severity::Error, Area::Config, place, stop.to_string(), hint);
            }
            None
        }
    }
}

/// The running Mainstay on a socket, if it answers.
pub(super) async fn ask_status(client: &AdminClient) -> Option<Value> {
    client.get("/api/v1/status").await.ok()?.ok().ok()
}
