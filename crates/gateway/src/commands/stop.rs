//! `mainstay stop`: asks the running Mainstay to end, as SIGTERM does, and waits until it has.

use std::time::Duration;

use tokio::time::Instant;

use super::client::{ANSWER_MAX, AdminClient};
use super::paths;
use crate::cli::StopArgs;
use crate::cli::output::Output;
use crate::exit::{Exit, Stop};

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Ends the running Mainstay.
///
/// # Errors
/// Exit 5 when none is running, 1 when it does not end in time.
pub(crate) async fn run(args: StopArgs, output: Output) -> Result<Exit, Stop> {
    let client = AdminClient::new(paths::socket(args.socket.socket.as_deref())?);
    let told = client.post("/api/v1/stop", None, ANSWER_MAX).await?.ok()?;
    let until = Instant::now() + Duration::from_millis(args.wait_ms);
    while client.is_running().await {
        if Instant::now() >= until {
            return Err(Stop::new(
                Exit::Unexpected,
                format!("Mainstay did not end within {} ms", args.wait_ms),
            )
            .hint("it may still be waiting for calls; run the command again, or send SIGKILL"));
        }
        tokio::time::sleep(LOOK).await;
    }
    if args.json {
        output.json(&told)?;
    } else {
        output.line(&format!("mainstay (process {}) has ended", told["pid"]))?;
    }
    Ok(Exit::Ok)
}
