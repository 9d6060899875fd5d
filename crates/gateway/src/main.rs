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

use crate::cli::output::Output;
use crate::cli::{Cli, ColorWhen};
use crate::exit::{Exit, Stop};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error),
    };
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

/// The command line makes no sense, or asks for help.
fn not_understood(error: &clap::Error) -> ExitCode {
    let is_help = error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !error.use_stderr() || is_help {
        // Help is wrapped already. A reader that has left is no reason to fail.
        let _gone = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()));
    }
    let output = Output::new(ColorWhen::Auto);
    let text = error.render();
    if std::env::args_os().any(|arg| arg == "--json") {
        let text = text.to_string();
        let mut parts = text.trim().splitn(2, "\n\n");
        let message = parts
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        let stop = Stop::new(Exit::Usage, message);
        output.stop(&stop.hint(parts.next().unwrap_or_default().trim()), true);
    } else if output.color_err() {
        output.note(text.ansi().to_string().trim_end());
    } else {
        output.note(text.to_string().trim_end());
    }
    Exit::Usage.into()
}
