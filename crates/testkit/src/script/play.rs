//! Lets happen to an HTTP server what its script says happens by itself.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::{Action, Step, When};
use crate::http_server::HttpServer;

/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// One step, and from where it counts.
struct Pending {
    step: Step,
    since: Instant,
    calls: u64,
}

/// Performs the steps when they are due; ends when none is left. Dropping it leaves the server as it is at that moment,
/// which may be stopped.
///
/// # Errors
/// When the server's port was taken by somebody else during a restart.
pub async fn play(server: &mut HttpServer, steps: &[Step]) -> io::Result<()> {
    let mut pending: Vec<Pending> = steps
        .iter()
        .map(|step| Pending {
            step: *step,
            since: Instant::now(),
            calls: 0,
        })
        .collect();
    while !pending.is_empty() {
        tokio::time::sleep(LOOK).await;
        let calls = server.ledger().counts().calls.values().sum::<u64>();
        let is_due = |entry: &Pending| match entry.step.when {
            When::Calls(count) => calls >= entry.calls.saturating_add(count),
            When::Ms(ms) => entry.since.elapsed() >= Duration::from_millis(ms),
        };
        let Some(at) = pending.iter().position(is_due) else {
            continue;
        };
        perform(server, pending[at].step.action).await?;
        if pending[at].step.again {
            pending[at].since = Instant::now();
            pending[at].calls = calls;
        } else {
            pending.remove(at);
        }
    }
    Ok(())
}

async fn perform(server: &mut HttpServer, action: Action) -> io::Result<()> {
    match action {
        Action::ForgetSessions => server.forget_sessions(),
        Action::EndStreams => server.end_streams(),
        Action::TellChanged => server.tell_changed("tools"),
        Action::Restart(ms) => {
            server.stop().await;
            tokio::time::sleep(Duration::from_millis(ms)).await;
            server.start_again().await?;
        }
    }
    Ok(())
}
