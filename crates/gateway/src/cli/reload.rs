//! `mainstay reload`: its arguments.

use clap::Args;

use super::SocketArg;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay reload --dry-run    what would be done, and what is wrong with the file
  mainstay reload              do it

Mainstay also reads its file again when it changes (setting mainstay.watch) and on the signal HUP.")]
pub(crate) struct ReloadArgs {
    /// Only tell what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the answer of the running Mainstay as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}
