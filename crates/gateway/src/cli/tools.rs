//! The arguments of `mainstay tools`.

use clap::{Args, Subcommand};

use super::{Reach, SocketArg};

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  mainstay tools
  mainstay tools filesystem --json
  mainstay tools --config mcp.json       without a running Mainstay: starts the servers, lists, stops them
  mainstay tools diff                    what pinned servers list otherwise than it was approved
  mainstay tools approve filesystem --all"
)]
pub(crate) struct ToolsArgs {
    /// Only the tools of this server.
    pub(crate) server: Option<String>,
    /// Print one JSON object with the tools as their servers describe them.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(subcommand)]
    pub(crate) action: Option<ToolsAction>,
}

impl ToolsArgs {
    pub(crate) fn prints_json(&self) -> bool {
        match &self.action {
            None => self.json,
            Some(ToolsAction::Diff(args)) => args.json,
            Some(ToolsAction::Approve(args)) => args.json,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ToolsAction {
    /// Show what pinned servers list otherwise than it was approved: it is held back until it is approved.
    Diff(DiffArgs),
    /// Approve tools of a pinned server as they are now.
    Approve(ApproveArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Lines with `-` are what was approved, lines with `+` what the server lists now. Characters that cannot be seen are shown as
\\u escapes.")]
pub(crate) struct DiffArgs {
    /// Only the tools of this server.
    pub(crate) server: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay tools approve github create_issue list_issues
  mainstay tools approve github --all
  mainstay tools approve github --program

Servers are pinned with `tools.pin` in their config entry, their programs with `pinProgram`. What is approved is kept in the state directory.")]
pub(crate) struct ApproveArgs {
    /// The server.
    pub(crate) server: String,
    /// The tools, by the server's own names.
    #[arg(
        required_unless_present_any = ["all", "program"],
        conflicts_with_all = ["all", "program"],
        value_name = "TOOL"
    )]
    pub(crate) tools: Vec<String>,
    /// Everything that waits for approval; also names that are gone.
    #[arg(long)]
    pub(crate) all: bool,
    /// The server's program as it is now (`pinProgram`), instead of tools; the server is started anew.
    #[arg(long, conflicts_with = "all")]
    pub(crate) program: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}
