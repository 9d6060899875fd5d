//! Ctrl-C and its relatives: the first stops gracefully, the second hurries, the third leaves at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Stop;

/// The signals that ask us to end. From its creation on they no longer end the process by themselves.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Held so that a closed terminal does not end us.
    hangup: Option<Signal>,
}

/// The signals that ask us to read the configuration file again.
#[derive(Debug)]
pub(crate) struct Hangups(Signal);

impl Hangups {
    /// Waits for the next one. Cancel-safe: a signal is not lost, though several may count as one.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // There will be none any more.
            std::future::pending().await
        }
    }
}

impl Signals {
    /// Starts to listen.
    pub(crate) fn listen() -> Result<Self, Stop> {
        let listen = |kind| {
            signal(kind).map_err(|error| Stop::unexpected("cannot listen for signals", error))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: Some(listen(SignalKind::hangup())?),
        })
    }

    /// The signals that ask for a reload, for whoever does that. `None`: somebody else has them.
    pub(crate) fn hangups(&mut self) -> Option<Hangups> {
        self.hangup.take().map(Hangups)
    }

    /// Waits for the next one. Cancel-safe: a signal is not lost, though several may count as one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            // Cancel-safe: an undelivered signal stays pending in its stream.
            _ = self.interrupt.recv() => {}
            // Cancel-safe: as above.
            _ = self.terminate.recv() => {}
        }
    }
}
