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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{EnvPolicy, Guardian, SpawnSpec, child_env};
    use super::*;

    /// The way of systems and sandboxes without process descriptors; several children, because the one signal is
    /// shared by all of them.
    #[tokio::test]
    async fn law_13_an_exit_is_noticed_by_signal_too() {
        let guardian = Guardian::start().unwrap();
        let notice = async |code: i32| {
            let spec = SpawnSpec {
                program: "sh".into(),
                args: vec!["-c".into(), format!("read line; exit {code}").into()],
                env: child_env(std::env::vars_os(), &[], EnvPolicy::Basic),
                cwd: None,
                stderr_bytes_max: 0,
                sandbox: None,
            };
            let fresh = guardian.launch(spec).await.unwrap();
            let mut watch = ExitWatch::by_signal().unwrap();
            assert_eq!(fresh.leader.peek(), None);
            drop(fresh.stdin);
            let info = watch.exited(&fresh.leader).await;
            assert_eq!(
                info,
                ExitInfo {
                    code: Some(code),
                    signal: None
                }
            );
        };
        let all = async { tokio::join!(notice(1), notice(2), notice(3)) };
        tokio::time::timeout(Duration::from_secs(60), all)
            .await
            .unwrap();
        // The leaders were dropped unreaped: a thread finishes, then the guardian ends.
        tokio::time::timeout(Duration::from_secs(60), guardian.ended())
            .await
            .unwrap();
    }
}
