//! Measures what Mainstay costs: the same calls sent directly, through a bare TCP relay, and through Mainstay, in turn in
//! one run, so that the ratios hold on a noisy machine.
//!
//! Every part is a process of its own, as in real use. Numbers are for a person to read; nothing here is a test.

#![expect(clippy::print_stdout, reason = "a report is what this program is for")]

mod fixture;
mod http;
mod load;
mod relay;
mod report;
mod run;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measures Mainstay against going direct and against a bare TCP relay.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the measurements and print the ratios.
    Run(RunArgs),
    /// The upstream: a minimal MCP server over HTTP. Prints its address.
    ServeHttp {
        /// The era that it speaks.
        #[arg(long, value_enum, default_value = "modern")]
        era: fixture::Era,
    },
    /// The upstream: a minimal MCP server over stdio.
    ServeStdio,
    /// The floor of any proxy: copies bytes to the given address. Prints its own.
    Relay {
        /// Where to.
        to: String,
    },
}

/// What to measure and how long.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RunArgs {
    /// The mainstay binary.
    #[arg(long, default_value = "target/release/mainstay")]
    mainstay: PathBuf,
    /// Rounds; every round measures every way once.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Milliseconds of load for one way in one round.
    #[arg(long, default_value_t = 400)]
    burst_ms: u64,
    /// Only scenarios whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match cli.command {
                Command::Run(args) => run::run(args).await,
                Command::ServeHttp { era } => fixture::web::serve(era).await,
                Command::ServeStdio => fixture::serve_stdio().await,
                Command::Relay { to } => relay::serve(to).await,
            }
        }),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            println!("mainstay-bench: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Whatever went wrong; a benchmark only ever reports it.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
