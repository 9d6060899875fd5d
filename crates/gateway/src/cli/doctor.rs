//! The arguments of `mainstay doctor`.

use std::path::PathBuf;

use clap::Args;

use super::{ConfigArg, SocketArg, env};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay doctor                        look at everything; starts each server once
  mainstay doctor --no-start
  mainstay doctor --config mcp.json --json | jq '.findings[] | select(.severity == \"error\")'

It changes nothing. Servers that a running Mainstay has connected are not started a second time.

Exit codes: 0 nothing worse than a note was found, 71 a warning or an error was.")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
    /// Where last good catalogs are kept. Default: the configuration's, else the user's state directory.
    #[arg(long, value_name = "DIR", env = env::STATE_DIR)]
    pub(crate) state_dir: Option<PathBuf>,
    /// Do not start any server.
    #[arg(long)]
    pub(crate) no_start: bool,
    /// Give up on a server after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
    /// A start that takes longer than this many seconds is slow.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) slow: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
