//! `mainstay top` on the command line.

use clap::Args;

use super::SocketArg;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay top
  mainstay top --sort calls
  mainstay top --filter git              only servers whose name or state has `git` in it

Keys: arrows choose a server, Tab changes the pane below, r restarts, e enables, d disables, / filters, s sorts, ? shows
all keys, q leaves. It needs a terminal; elsewhere there is `mainstay status --watch`.")]
pub(crate) struct TopArgs {
    /// What to sort by at first.
    #[arg(long, value_enum, default_value_t = Sort::Name, value_name = "COLUMN")]
    pub(crate) sort: Sort,
    /// Show only servers with this in their name, state or transport.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) filter: String,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}

/// What servers are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sort {
    /// By name.
    Name,
    /// What is broken first.
    State,
    /// What changed last first.
    Since,
    /// The most tools first.
    Tools,
    /// The most calls first.
    Calls,
    /// The slowest first.
    Latency,
    /// The most failed calls first.
    Failed,
    /// The most restarts first.
    Restarts,
    /// The most memory first.
    Memory,
    /// The most processor time first.
    Cpu,
}

impl Sort {
    /// All of them, in the order of the key that goes through them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Name,
        Self::State,
        Self::Since,
        Self::Tools,
        Self::Calls,
        Self::Latency,
        Self::Failed,
        Self::Restarts,
        Self::Memory,
        Self::Cpu,
    ];

    /// The title of the column.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Name => "SERVER",
            Self::State => "STATE",
            Self::Since => "SINCE",
            Self::Tools => "TOOLS",
            Self::Calls => "CALLS",
            Self::Latency => "P50/P95",
            Self::Failed => "FAILED",
            Self::Restarts => "RESTARTS",
            Self::Memory => "MEMORY",
            Self::Cpu => "CPU",
        }
    }
}
