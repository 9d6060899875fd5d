//! The background task that owns a child from its start until nothing is left of it.

use std::sync::Arc;

use super::census::{Census, census};
use super::group::{Leader, poll_pauses};
use super::stderr::StderrPipe;
use super::watch::ExitWatch;

/// Publishes the exit at once, waits until the owner wants the rest swept, sweeps, reaps.
///
/// If the runtime drops this task, the leader's destructor kills and a thread finishes.
pub(super) async fn reap(leader: Leader, mut watch: ExitWatch, stderr: Arc<StderrPipe>) {
    let info = watch.exited(&leader).await;
    // The last words of the leader, for whoever explains its death.
    stderr.catch_up();
    leader.publish_exit(info);
    // Cannot fail: the sender lives in the group that the leader holds.
    let _ = leader
        .group()
        .sweep_wanted()
        .wait_for(|wanted| *wanted)
        .await;
    let pid = leader.pid();
    for pause in poll_pauses() {
        leader.group().kill();
        // Reading all of /proc may take milliseconds on a busy machine: not on a thread that serves calls.
        let found = tokio::task::spawn_blocking(move || census(pid))
            .await
            .unwrap_or(Census::Unknown);
        if !pause.goes_on(found) {
            break;
        }
        tokio::time::sleep(pause.length).await;
    }
    leader.release();
}
