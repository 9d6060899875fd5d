//! `mainstay service`: `serve` from login on, as a unit of the user's systemd or an agent of launchd.
//!
//! Writes one file and talks to the system's own tool. Must not need an administrator.

mod text;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;

use self::text::{LABEL, Service};
use super::client::AdminClient;
use super::{config, install, paths};
use crate::cli::output::{Output, Paint};
use crate::cli::service::{
    ServiceArgs, ServiceChangeArgs, ServiceCommand, ServiceInstallArgs, ServiceStatusArgs,
};
use crate::edit::file::{Backup, EditFile, take_away};
use crate::exit::{Exit, Stop};

const UNIT: &str = "mainstay.service";
/// The system's tool may wait for a service to stop.
const TOOL_MAX: Duration = Duration::from_secs(90);

/// Does what is asked for.
///
/// # Errors
/// Exit 3 or 4 for the configuration, 6 when it is not installed, 10 when its file cannot be written, 11 when it cannot be
/// started or does not run.
pub(crate) async fn run(args: ServiceArgs, output: Output) -> Result<Exit, Stop> {
    let system = System::here()?;
    match args.command {
        ServiceCommand::Install(args) => system.install(&args, output).await,
        ServiceCommand::Uninstall(args) => system.uninstall(&args, output).await,
        ServiceCommand::Status(args) => system.status(&args, output).await,
    }
}

/// What starts services here.
#[derive(Debug)]
struct System {
    macos: bool,
    file: PathBuf,
    log: PathBuf,
}

/// What the system's tool said.
enum Said {
    Done(String),
    Failed(String),
    /// There is no such tool.
    Missing,
}

impl System {
    fn here() -> Result<Self, Stop> {
        let dirs = directories::BaseDirs::new().ok_or_else(|| {
            Stop::new(
                Exit::Unexpected,
                "there is no place for a service: this user has no home directory",
            )
            .hint("set HOME")
        })?;
        let macos = cfg!(target_os = "macos");
        let library = dirs.home_dir().join("Library");
        Ok(Self {
            macos,
            file: if macos {
                library.join("LaunchAgents").join(format!("{LABEL}.plist"))
            } else {
                dirs.config_dir().join("systemd").join("user").join(UNIT)
            },
            log: library.join("Logs").join("mainstay.log"),
        })
    }

    /// What to type when the tool could not be used.
    fn by_hand(&self) -> String {
        if self.macos {
            format!("launchctl bootstrap gui/$(id -u) {}", self.file.display())
        } else {
            format!("systemctl --user daemon-reload && systemctl --user enable --now {UNIT}")
        }
    }

    fn text(&self, args: &ServiceInstallArgs) -> Result<String, Stop> {
        let file = config::find(args.config.config.as_deref())?;
        config::load(Some(&file))?;
        let file = std::path::absolute(&file).unwrap_or(file);
        let variables = super::own::new_place()
            .and_then(|place| Some(place.parent()?.join("env")))
            .unwrap_or_default();
        let word = |path: &Path| match path.to_str() {
            Some(text) if !text.contains(['\n', '\r']) => Ok(text.to_owned()),
            Some(_) | None => Err(Stop::new(
                Exit::Usage,
                format!("no service's file can say the path {}", path.display()),
            )
            .hint("give it a name without line breaks, in Unicode")),
        };
        let path = std::env::var("PATH").unwrap_or_default();
        let service = Service {
            program: &install::program()?,
            config: &word(&file)?,
            path: path.lines().next().unwrap_or_default(),
            variables: &word(&variables)?,
            log: &self.log,
        };
        Ok(if self.macos {
            service.launchd()
        } else {
            service.systemd()
        })
    }

    async fn install(&self, args: &ServiceInstallArgs, output: Output) -> Result<Exit, Stop> {
        let text = self.text(args)?;
        let path = self.file.display().to_string();
        if args.dry_run {
            if args.json {
                output.json(&json!({ "file": path, "text": text, "dryRun": true }))?;
            } else {
                output.note(&format!("would write {path}:"));
                output.raw(&text)?;
            }
            return Ok(Exit::Ok);
        }
        let file = EditFile::open(&self.file)?;
        file.write(&text, Backup::Last(".mainstay.bak"))?;
        let started = match args.no_start {
            true => None,
            false => Some(self.start().await),
        };
        let running = matches!(started, Some(Ok(())));
        if args.json {
            output.json(&json!({ "file": path, "started": running }))?;
        } else {
            output.line(&format!("wrote {path}"))?;
        }
        match started {
            None => output.note(&format!("start it with: {}", self.by_hand())),
            Some(Err(stop)) => return Err(stop),
            Some(Ok(())) if args.json => {}
            Some(Ok(())) => {
                output.line(&Paint::Good.on("started", output.color()))?;
                if !self.macos {
                    output.note(
                        "it ends when you log out; to keep it: loginctl enable-linger; its log: journalctl --user -u mainstay",
                    );
                }
            }
        }
        Ok(Exit::Ok)
    }

    async fn start(&self) -> Result<(), Stop> {
        let orders: Vec<Vec<String>> = if self.macos {
            let domain = domain();
            // An older one of the same label is in the way; none is fine.
            let _gone = self
                .tool(&["bootout".into(), format!("{domain}/{LABEL}")])
                .await;
            vec![vec![
                "bootstrap".into(),
                domain,
                self.file.display().to_string(),
            ]]
        } else {
            // Restarted, so that a new program or another configuration counts.
            vec![
                vec!["daemon-reload".into()],
                vec!["enable".into(), UNIT.into()],
                vec!["restart".into(), UNIT.into()],
            ]
        };
        for order in orders {
            match self.tool(&order).await {
                Said::Done(_) => {}
                said @ (Said::Failed(_) | Said::Missing) => return Err(self.not_started(said)),
            }
        }
        Ok(())
    }

    fn not_started(&self, said: Said) -> Stop {
        let tool = if self.macos {
            "launchctl"
        } else {
            "systemctl --user"
        };
        let why = match said {
            Said::Missing => format!("there is no {tool} here"),
            Said::Failed(words) | Said::Done(words) => format!("{tool} says: {words}"),
        };
        Stop::new(
            Exit::ServiceDown,
            format!(
                "the service's file is written, but the service is not started: {why}"
            ),
        )
        .hint(format!(
            "log in to a session of your own (not `su` or `sudo`), then: {}; without one, run `mainstay serve`",
            self.by_hand()
        ))
    }

    async fn uninstall(&self, args: &ServiceChangeArgs, output: Output) -> Result<Exit, Stop> {
        self.must_be_there()?;
        let path = self.file.display().to_string();
        if args.dry_run {
            if args.json {
                output.json(&json!({ "file": path, "dryRun": true }))?;
            } else {
                output.line(&format!("would stop the service and remove {path}"))?;
            }
            return Ok(Exit::Ok);
        }
        let said = if self.macos {
            self.tool(&["bootout".into(), format!("{}/{LABEL}", domain())])
                .await
        } else {
            self.tool(&["disable".into(), "--now".into(), UNIT.into()])
                .await
        };
        take_away(&self.file)?;
        if !self.macos {
            let _nobody_to_tell = self.tool(&["daemon-reload".into()]).await;
        }
        let stopped = matches!(said, Said::Done(_));
        if args.json {
            output.json(&json!({ "file": path, "stopped": stopped }))?;
            return Ok(Exit::Ok);
        }
        output.line(&format!("removed {path}"))?;
        if let Said::Failed(words) = said {
            output.warn(
                &format!("it could not be stopped: {words}"),
                Some("if it still runs: mainstay stop"),
            );
        }
        Ok(Exit::Ok)
    }

    fn must_be_there(&self) -> Result<(), Stop> {
        if self.file.exists() {
            return Ok(());
        }
        Err(Stop::new(
            Exit::NotFound,
            format!(
                "no service is installed: there is no {}",
                self.file.display()
            ),
        )
        .hint("install it with `mainstay service install`"))
    }

    async fn status(&self, args: &ServiceStatusArgs, output: Output) -> Result<Exit, Stop> {
        self.must_be_there()?;
        let (state, active) = self.state().await;
        let socket = paths::socket(args.socket.socket.as_deref())?;
        let answers = AdminClient::new(socket).is_running().await;
        let exit = if active { Exit::Ok } else { Exit::ServiceDown };
        if args.json {
            output.json(&json!({
                "file": self.file.display().to_string(),
                "state": state,
                "running": active,
                "answers": answers,
            }))?;
            return Ok(exit);
        }
        let paint = if active { Paint::Good } else { Paint::Bad };
        output.line(&format!("service: {}", paint.on(&state, output.color())))?;
        output.line(&format!("file: {}", self.file.display()))?;
        output.line(match answers {
            true => "a Mainstay answers: see `mainstay status`",
            false => "no Mainstay answers on the local socket",
        })?;
        if !active {
            output.hint(&format!("start it with: {}", self.by_hand()));
        }
        Ok(exit)
    }

    /// In the words of the system, and whether it runs.
    async fn state(&self) -> (String, bool) {
        let order = if self.macos {
            vec!["print".into(), format!("{}/{LABEL}", domain())]
        } else {
            vec!["is-active".into(), UNIT.into()]
        };
        match self.tool(&order).await {
            Said::Done(words) if self.macos => {
                let running = words.contains("state = running");
                let word = if running { "running" } else { "not running" };
                (word.to_owned(), running)
            }
            Said::Done(words) => (words, true),
            Said::Failed(_) if self.macos => ("not loaded".to_owned(), false),
            Said::Failed(words) => (words, false),
            Said::Missing => ("unknown: the system's tool is not here".to_owned(), false),
        }
    }

    async fn tool(&self, order: &[String]) -> Said {
        let mut command = if self.macos {
            Command::new("launchctl")
        } else {
            let mut command = Command::new("systemctl");
            command.args(["--user", "--no-ask-password"]);
            command
        };
        command
            .args(order)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        let ended = match tokio::time::timeout(TOOL_MAX, command.output()).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return Said::Missing,
            Ok(Err(error)) => return Said::Failed(error.to_string()),
            Err(_) => {
                return Said::Failed(format!("nothing within {} s", TOOL_MAX.as_secs()));
            }
        };
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let (out, err) = (words(&ended.stdout), words(&ended.stderr));
        if ended.status.success() {
            return Said::Done(out);
        }
        Said::Failed(match (out.is_empty(), err.is_empty()) {
            (_, false) => err,
            (false, true) => out,
            (true, true) => ended.status.to_string(),
        })
    }
}

/// The domain of launchd that this user's session is.
fn domain() -> String {
    format!("gui/{}", rustix::process::getuid().as_raw())
}
