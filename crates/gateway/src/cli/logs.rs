//! `mainstay logs` on the command line.

use clap::Args;

use super::SocketArg;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay logs github
  mainstay logs github -f --lines 200
  mainstay logs github files -f          each line with its server's name
  mainstay logs -f                       of all servers

With -f it goes on with the server's next process, and when Mainstay itself is restarted.")]
pub(crate) struct LogsArgs {
    /// The servers' names in the configuration. Default: all servers.
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Keep printing new lines until interrupted.
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// How many of the last lines of each server to print first.
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) lines: u32,
    /// Print one JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}
