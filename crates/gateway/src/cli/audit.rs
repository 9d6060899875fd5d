//! `mainstay audit` on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::SocketArg;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  mainstay audit
  mainstay audit --since 1h --principal token:ci
  mainstay audit --server github --json | jq 'select(.decision != \"allow\")'
  mainstay audit verify                  whether any line was changed or is missing

The log is kept with `mainstay.audit` in the configuration. It holds digests of arguments, never arguments."
)]
pub(crate) struct AuditArgs {
    /// From when on: a time ago (`10m`, `2h 30m`, `3 days`), a time of day, or a moment.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only what this principal did, by its name (`token:ci`) or its label.
    #[arg(long, short = 'p', value_name = "NAME")]
    pub(crate) principal: Option<String>,
    /// Only what is about this server.
    #[arg(long, short = 's', value_name = "NAME")]
    pub(crate) server: Option<String>,
    /// How many of the last records to print.
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) lines: u32,
    /// Print one JSON object per line, as it stands in the log.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
    #[command(subcommand)]
    pub(crate) action: Option<AuditAction>,
}

impl AuditArgs {
    pub(crate) fn prints_json(&self) -> bool {
        match &self.action {
            None => self.json,
            Some(AuditAction::Verify(args)) => args.json,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditAction {
    /// Look at every line of the log: whether any was changed, or is missing.
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay audit verify
  mainstay audit verify /var/lib/mainstay/audit/audit.jsonl

Every line holds the hash of the one before it. Whoever may write the files can make a whole new chain: keep the last hash that
this prints elsewhere to notice that, too. Exit codes: 0 all is as it was written, 72 it is not.")]
pub(crate) struct VerifyArgs {
    /// The log's current file; those before it are found beside it. Default: the one of the running Mainstay.
    pub(crate) file: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}
