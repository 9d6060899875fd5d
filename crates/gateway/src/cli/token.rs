//! `mainstay token`: what it takes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ConfigArg, SocketArg, env};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay token create ci --expires 90d            prints the token, this once
  mainstay token create ann --group admin           may use the dashboard and the admin API from elsewhere
  mainstay token list
  mainstay token revoke ci

A client sends it as `Authorization: Bearer TOKEN`. A running Mainstay takes a new token, and refuses a revoked one, from the
next request on.")]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

impl TokenArgs {
    /// Whether JSON was asked for.
    pub(crate) fn prints_json(&self) -> bool {
        match &self.command {
            TokenCommand::Create(args) => args.json,
            TokenCommand::List(args) => args.json,
            TokenCommand::Revoke(args) => args.json,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token for a client, and print it this once.
    Create(TokenCreateArgs),
    /// List the tokens: names, groups, when they end, when they were used last.
    List(TokenListArgs),
    /// Revoke a token: it is worth nothing from the next request on.
    Revoke(TokenRevokeArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay token create ci --expires 90d
  mainstay token create ann --group admin --group ops
  TOKEN=$(mainstay token create ci)")]
pub(crate) struct TokenCreateArgs {
    /// Who will use it. Its callers are known as token:NAME.
    pub(crate) name: String,
    /// A group that its callers belong to. May be repeated. `admin` may use the dashboard and the admin API.
    #[arg(long, short = 'g', value_name = "GROUP")]
    pub(crate) group: Vec<String>,
    /// A scope that its callers have. May be repeated.
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Vec<String>,
    /// When it ends by itself: after a time (`90d`, `12h`, `2 weeks`). Default: never.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) at: TokensAt,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay token list --json")]
pub(crate) struct TokenListArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) at: TokensAt,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay token revoke ci")]
pub(crate) struct TokenRevokeArgs {
    /// Its name, or its id from `mainstay token list`.
    pub(crate) name: String,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) at: TokensAt,
}

/// Where the tokens are: with the running Mainstay, else in the state directory.
#[derive(Debug, Clone, Args)]
pub(crate) struct TokensAt {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
    /// The state directory whose tokens are meant. Default: that of the running Mainstay, else the configuration's.
    #[arg(long, value_name = "DIR", env = env::STATE_DIR)]
    pub(crate) state_dir: Option<PathBuf>,
}
