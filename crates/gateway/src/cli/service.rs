//! `mainstay service`: what it takes.

use clap::{Args, Subcommand};

use super::{ConfigArg, SocketArg};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay service install
  mainstay service install --dry-run     print the file, write and start nothing
  mainstay service status
  mainstay service uninstall

Linux: a unit of your own systemd. macOS: an agent of launchd. Neither needs an administrator.")]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    pub(crate) command: ServiceCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Write the service's file, and start it now and at every login.
    Install(ServiceInstallArgs),
    /// Stop the service and take its file away.
    Uninstall(ServiceChangeArgs),
    /// Show whether it is installed and runs.
    Status(ServiceStatusArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay service install --config ~/mcp.json")]
pub(crate) struct ServiceInstallArgs {
    /// Print the file, and write and start nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write the file, and do not start the service.
    #[arg(long)]
    pub(crate) no_start: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay service uninstall --dry-run")]
pub(crate) struct ServiceChangeArgs {
    /// Say what would be stopped and taken away, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay service status --json

Exit codes: 0 it runs, 6 it is not installed, 11 it is installed and does not run.")]
pub(crate) struct ServiceStatusArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}

impl ServiceArgs {
    /// Whether JSON was asked for.
    pub(crate) fn prints_json(&self) -> bool {
        match &self.command {
            ServiceCommand::Install(args) => args.json,
            ServiceCommand::Uninstall(args) => args.json,
            ServiceCommand::Status(args) => args.json,
        }
    }
}
