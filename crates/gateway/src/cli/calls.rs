//! `mainstay calls` on the command line.

use clap::{Args, ValueEnum};

use super::SocketArg;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay calls
  mainstay calls -f --server github --tool create_issue
  mainstay calls --since 1h --outcome unknown --outcome tool-error
  mainstay calls --since 1h --json | jq 'select(.servedMs > 1000)'

With -f it goes on when Mainstay is restarted, and says what was missed. Arguments are shown only if the configuration
has them recorded (`mainstay.journal.arguments`).")]
pub(crate) struct CallsArgs {
    /// Keep printing calls as they end until interrupted.
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// From when on: a time ago (`10m`, `2h 30m`, `3 days`), a time of day, or a moment. Default: the last calls.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only calls of this server. May be repeated.
    #[arg(long, short = 's', value_name = "NAME")]
    pub(crate) server: Vec<String>,
    /// Only calls of this tool, by the server's own name or by the one that clients see. May be repeated.
    #[arg(long, short = 't', value_name = "TOOL")]
    pub(crate) tool: Vec<String>,
    /// Only calls that ended like this. May be repeated.
    #[arg(long, short = 'o', value_enum, value_name = "OUTCOME")]
    pub(crate) outcome: Vec<Outcome>,
    /// How many of the last calls to print first, unless --since is given.
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) lines: u32,
    /// Print one JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Outcome {
    /// The server answered with a result.
    Answered,
    /// The tool ran and reported an error of its own.
    ToolError,
    /// The server answered with an error.
    ServerError,
    /// It was never sent.
    Refused,
    /// The server provably did not run it.
    Rejected,
    /// It was sent and no answer came: it may have run.
    Unknown,
    /// Its caller left.
    Cancelled,
}

impl Outcome {
    /// The word of the API for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::ToolError => "toolError",
            Self::ServerError => "serverError",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
            Self::Cancelled => "cancelled",
        }
    }
}
