//! Notices the exit of a leader at once, without traffic and without polling (law 13), and leaves it unreaped.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ExitInfo;
use super::group::Leader;

/// What wakes us: the process's own descriptor, or the signal that tells of any child.
#[derive(Debug)]
pub(super) enum ExitWatch {
    #[cfg(target_os = "linux")]
    Descriptor(tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>),
    Signal(Signal),
}

impl ExitWatch {
    /// Must be called within a tokio runtime.
    pub(super) fn new(leader: &Leader) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{PidfdFlags, pidfd_open};

            // The leader is unreaped, so its id cannot mean somebody else. Kernels before 5.3 and some sandboxes do
            // not know the call.
            if let Ok(descriptor) = pidfd_open(leader.pid(), PidfdFlags::empty()) {
                return super::raw::readable(descriptor).map(Self::Descriptor);
            }
        }
        let _ = leader;
        Self::by_signal()
    }

    fn by_signal() -> io::Result<Self> {
        signal(SignalKind::child()).map(Self::Signal)
    }

    /// Resolves when the leader has exited. Cancel-safe: what it waits for does not go away.
    pub(super) async fn exited(&mut self, leader: &Leader) -> ExitInfo {
        loop {
            if let Some(info) = leader.peek() {
                return info;
            }
            match self {
                #[cfg(target_os = "linux")]
                Self::Descriptor(descriptor) => {
                    if let Ok(mut ready) = descriptor.readable().await
                        && leader.peek().is_none()
                    {
                        ready.clear_ready();
                    }
                }
                // Subscribed before the look above, so no exit falls between the two.
                Self::Signal(signal) => {
                    signal.recv().await;
                }
            }
        }
    }
}
