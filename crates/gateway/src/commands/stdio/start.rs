//! Starting Mainstay in the background: `mainstay serve` on its own, in a session of its own, its words in a log file.
//!
//! Two relays that start one at the same moment end with one: the lock of the socket decides, the loser leaves with the
//! exit code for that and is forgotten.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::exit::{Exit, Stop};

/// The log file in the state directory.
const LOG_NAME: &str = "serve.log";

/// A log that is longer than this when Mainstay starts becomes the former one.
const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What is shown of the log of a Mainstay that did not start.
const TAIL_BYTES_MAX: u64 = 2_048;

/// Pause between two starts (law 10).
const BETWEEN_STARTS: Duration = Duration::from_secs(1);

/// How to start one.
#[derive(Debug)]
pub(super) struct Starter {
    config: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    started: Mutex<Option<Started>>,
}

#[derive(Debug)]
struct Started {
    at: Instant,
    /// Where its words begin in the log.
    log_from: u64,
    /// Waits for its end, so that it does not stay behind as a zombie of ours. `None`: its end has been looked at.
    ended: Option<JoinHandle<io::Result<ExitStatus>>>,
}

impl Starter {
    /// A starter for this configuration and this socket; the log goes to `state_dir`.
    pub(super) fn new(config: PathBuf, socket: PathBuf, state_dir: &Path) -> Self {
        Self {
            config,
            socket,
            log: state_dir.join(LOG_NAME),
            started: Mutex::new(None),
        }
    }

    /// Where it writes to.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// Starts one unless the one that was started still runs. Does not wait until it is ready.
    ///
    /// # Errors
    /// It cannot be started, or the last one ended for a reason that another attempt will not change.
    pub(super) async fn start_if_needed(&self) -> Result<(), Stop> {
        let mut started = self.started.lock().await;
        if let Some(last) = started.as_mut() {
            match &mut last.ended {
                Some(ended) if !ended.is_finished() => return Ok(()),
                Some(ended) => {
                    let status = ended.await.map_err(io::Error::other).flatten();
                    last.ended = None;
                    self.judge(status, last.log_from)?;
                }
                None => {}
            }
            if last.at.elapsed() < BETWEEN_STARTS {
                return Ok(());
            }
        }
        *started = Some(self.start().map_err(|error| {
            Stop::unexpected("cannot start Mainstay in the background", error)
                .hint("start it yourself with `mainstay serve`")
        })?);
        Ok(())
    }

    fn start(&self) -> io::Result<Started> {
        let log = self.open_log()?;
        let log_from = log.metadata()?.len();
        let mut command = Command::new(own_program()?);
        command
            .arg("serve")
            .arg("--background")
            .arg("--config")
            .arg(&self.config)
            .arg("--socket")
            .arg(&self.socket)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(false);
        // Not tied to a directory of the app, which may go.
        if let Some(dir) = self.config.parent().filter(|dir| dir.is_dir()) {
            command.current_dir(dir);
        }
        let mut child = command.spawn()?;
        Ok(Started {
            at: Instant::now(),
            log_from,
            ended: Some(tokio::spawn(async move { child.wait().await })),
        })
    }

    fn open_log(&self) -> io::Result<File> {
        if let Some(dir) = self.log.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        if std::fs::metadata(&self.log).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
            std::fs::rename(&self.log, self.log.with_extension("log.1"))?;
        }
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.log)
    }

    /// What the end of one that we started means.
    fn judge(&self, status: io::Result<ExitStatus>, log_from: u64) -> Result<(), Stop> {
        let code = status.ok().and_then(|status| status.code());
        // Another one was quicker, or it served and was ended by somebody: both are worth another look.
        if code == Some(i32::from(Exit::AlreadyRunning.code())) || code.is_none() || code == Some(0)
        {
            return Ok(());
        }
        let exit = Exit::of_code(code).unwrap_or(Exit::Unexpected);
        let tail = self.tail(log_from).unwrap_or_default();
        Err(Stop::new(
            exit,
            format!("Mainstay does not start; it said:\n{}", tail.trim_end()),
        )
        .hint(format!(
            "try `mainstay serve --config {}`; the log is {}",
            self.config.display(),
            self.log.display()
        )))
    }

    fn tail(&self, from: u64) -> io::Result<String> {
        let mut log = File::open(&self.log)?;
        let len = log.metadata()?.len();
        log.seek(SeekFrom::Start(
            from.max(len.saturating_sub(TAIL_BYTES_MAX)).min(len),
        ))?;
        let mut bytes = Vec::new();
        log.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The program that this process runs, or the one that replaced it in an upgrade.
fn own_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let replaced = path
        .to_str()
        .and_then(|path| path.strip_suffix(" (deleted)"))
        .map(PathBuf::from)
        .filter(|path| path.exists());
    Ok(replaced.unwrap_or(path))
}
