//! `mainstay restart`, `enable` and `disable`: orders to the running Mainstay.

use super::client::{ANSWER_MAX, AdminClient, segment};
use super::paths;
use crate::cli::OperateArgs;
use crate::cli::output::Output;
use crate::exit::{Exit, Stop};

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// A new connection, from every state.
    Restart,
    /// Let it connect.
    Enable,
    /// Stop and unpublish it.
    Disable,
}

impl Order {
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Enable => "enable",
            Self::Disable => "disable",
        }
    }

    pub(crate) fn done(self) -> &'static str {
        match self {
            Self::Restart => "is being restarted",
            Self::Enable => "is enabled",
            Self::Disable => "is disabled",
        }
    }
}

/// Gives the order and says what came of it.
///
/// # Errors
/// Exit 5 when no Mainstay is running, 6 when it has no such server.
pub(crate) async fn run(order: Order, args: OperateArgs, output: Output) -> Result<Exit, Stop> {
    let client = AdminClient::new(paths::socket(args.socket.socket.as_deref())?);
    let path = format!("/api/v1/servers/{}/{}", segment(&args.name), order.verb());
    let status = client.post(&path, None, ANSWER_MAX).await?.ok()?;
    if args.json {
        output.json(&status)?;
        return Ok(Exit::Ok);
    }
    let now = status["word"]
        .as_str()
        .map(|word| format!(" (now: {word})"))
        .unwrap_or_default();
    output.line(&format!("server `{}` {}{now}", args.name, order.done()))?;
    Ok(Exit::Ok)
}
