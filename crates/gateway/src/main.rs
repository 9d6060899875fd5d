//! The `mainstay` command: reads the command line, runs the command, ends with its exit code.

mod apps;
#[cfg(feature = "chaos")]
mod chaos;
mod cli;
mod commands;
mod demo;
mod edit;
mod exit;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::cli::output::Output;
use crate::exit::Stop;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.global.color);
    let json = cli.command.prints_json();
    #[cfg(feature = "chaos")]
    if let Some(ended) = chaos::without_runtime(&cli.command) {
        return ended.unwrap_or_else(|stop| {
            output.stop(&stop, json);
            stop.exit.into()
        });
    }
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Stop::unexpected("cannot start the runtime", error))
        .and_then(|runtime| {
            let ended = runtime.block_on(commands::run(cli.command, output));
            // A thread that still waits for stdin must not hold up the end.
            runtime.shutdown_background();
            ended
        });
    ended
        .unwrap_or_else(|stop| {
            output.stop(&stop, json);
            stop.exit
        })
        .into()
}
