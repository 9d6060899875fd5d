//! `mainstay events` on the command line.

use clap::Args;

use super::SocketArg;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay events
  mainstay events -f --server github
  mainstay events --since 10m
  mainstay events --since '2026-11-21 22:00' --json | jq 'select(.to == \"parked\")'

With -f it goes on when Mainstay is restarted, and says what was missed.")]
pub(crate) struct EventsArgs {
    /// Keep printing what happens until interrupted.
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// From when on: a time ago (`10m`, `2h 30m`, `3 days`), a time of day, or a moment. Default: the last events.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only what happened to this server. May be repeated.
    #[arg(long, short = 's', value_name = "NAME")]
    pub(crate) server: Vec<String>,
    /// How many of the last events to print first, unless --since is given.
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) lines: u32,
    /// Print one JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}
