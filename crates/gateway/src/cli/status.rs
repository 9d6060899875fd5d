//! `mainstay status` on the command line.

use clap::Args;

use super::SocketArg;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay status
  mainstay status filesystem             everything about one server
  mainstay status --watch                drawn again and again, until Ctrl-C
  mainstay status --json | jq '.servers[] | select(.state != \"connected\")'
  mainstay status --watch --json         one document per line, whenever something changed

In a narrow terminal the less important columns are left out; piped, nothing is.")]
pub(crate) struct StatusArgs {
    /// Show everything about this server: why, since when, what comes next, what to do, its timeline and its calls.
    pub(crate) server: Option<String>,
    /// Print one JSON object; with --watch one per line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep showing it: redrawn in place in a terminal, a new block whenever something changed when piped.
    #[arg(long, short = 'w')]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}
