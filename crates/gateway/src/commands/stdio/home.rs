//! Where the running Mainstay is: reaching it, waiting for it, starting it, and noticing that it is another one.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use mainstay_gateway::serve::local;
use tokio::time::Instant;

use super::link::{Connection, Link};
use super::start::Starter;
use crate::exit::{Exit, Stop};

/// First and longest pause between two looks for somebody who listens.
const LOOK_FIRST: Duration = Duration::from_millis(10);
const LOOK_LONGEST: Duration = Duration::from_millis(200);

/// A Mainstay that was not started by a relay is likely to be started again by whoever did (a service manager, a
/// person): they get this long before we do it.
const OTHERS_FIRST: Duration = Duration::from_secs(5);

/// The running Mainstay, whichever process that is.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) link: Link,
    starter: Option<Starter>,
    patience: Duration,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    instance: Option<HeaderValue>,
    /// Grows with every process that answers.
    epoch: u64,
    /// A relay started it, so a relay may start it again at once.
    background: bool,
    /// Since when nobody listens.
    away_since: Option<Instant>,
}

/// Whether looking for Mainstay may start it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    Start,
    Wait,
}

impl Home {
    pub(super) fn new(link: Link, starter: Option<Starter>, patience: Duration) -> Self {
        Self {
            link,
            starter,
            patience,
            known: Mutex::new(Known::default()),
        }
    }

    /// How long a message waits for a Mainstay that is away.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// A connection, waited for until `deadline`. Cancel-safe: what was started goes on.
    ///
    /// # Errors
    /// Nobody listens by then, or it cannot be started, or it is somebody else's.
    pub(super) async fn connect(&self, may: May, deadline: Instant) -> Result<Connection, Stop> {
        let began = Instant::now();
        let mut pause = LOOK_FIRST;
        loop {
            match self.link.connect().await {
                Ok(connection) => {
                    self.known().away_since = None;
                    return Ok(connection);
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(self.foreign(error));
                }
                Err(_nobody) => {}
            }
            if may == May::Start {
                self.start_if_due().await?;
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(self.nobody(began.elapsed()));
            }
            tokio::time::sleep(pause.min(deadline - now)).await;
            pause = (pause * 2).min(LOOK_LONGEST);
        }
    }

    async fn start_if_due(&self) -> Result<(), Stop> {
        let Some(starter) = &self.starter else {
            return Ok(());
        };
        let ours_to_start = {
            let mut known = self.known();
            let away = *known.away_since.get_or_insert_with(Instant::now);
            known.instance.is_none() || known.background || away.elapsed() >= OTHERS_FIRST
        };
        if ours_to_start {
            starter.start_if_needed().await?;
        }
        Ok(())
    }

    /// Takes note of who answered. Returns the epoch of that process, and whether it began just now.
    pub(super) fn heard(&self, headers: &HeaderMap) -> (u64, bool) {
        let mut known = self.known();
        let Some(instance) = headers.get(local::INSTANCE) else {
            return (known.epoch, false);
        };
        known.background = headers.contains_key(local::BACKGROUND);
        if known.instance.as_ref() == Some(instance) {
            return (known.epoch, false);
        }
        let moved = known.instance.replace(instance.clone()).is_some();
        if moved {
            known.epoch += 1;
        }
        (known.epoch, moved)
    }

    /// The epoch of the process that answered last.
    pub(super) fn epoch(&self) -> u64 {
        self.known().epoch
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nobody(&self, waited: Duration) -> Stop {
        let at = self.link.socket().display();
        let stop = Stop::new(
            Exit::NotRunning,
            format!(
                "no Mainstay is running at {at}; waited {} s",
                waited.as_secs()
            ),
        );
        match &self.starter {
            Some(starter) => stop.hint(format!("its log is {}", starter.log().display())),
            None => stop.hint(
                "start it with `mainstay serve`, leave out --no-start, or name its socket with --socket",
            ),
        }
    }

    fn foreign(&self, error: io::Error) -> Stop {
        let at = self.link.socket().display();
        Stop::unexpected(&format!("the socket {at} belongs to somebody else"), error)
            .hint("name your own Mainstay's socket with --socket")
    }
}
