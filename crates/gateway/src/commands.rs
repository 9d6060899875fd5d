//! What each command does. One file per command; `client` reaches the running Mainstay.

pub(crate) mod client;

use crate::cli::Command;
use crate::cli::output::Output;
use crate::demo;
use crate::exit::{Exit, Stop};

/// Does what the command line asks for.
///
/// # Errors
/// Every failure carries its own exit code, message and remedy.
pub(crate) async fn run(command: Command, output: Output) -> Result<Exit, Stop> {
    match command {
        Command::DemoServer(args) => demo::server::run(args.kind).await.map(|()| Exit::Ok),
        _ => Err(Stop::silent(Exit::Unexpected)),
    }
}
