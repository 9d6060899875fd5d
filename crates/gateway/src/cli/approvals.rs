//! `mainstay approvals` on the command line.

use clap::{Args, Subcommand};

use super::SocketArg;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  mainstay approvals
  mainstay approvals allow 3f2a-1
  mainstay approvals deny 3f2a-2

Calls wait here where a rule of `mainstay.policy` says `\"action\": \"approve\"` and the operator decides. A word holds for that
one call with those arguments."
)]
pub(crate) struct ApprovalsArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
    #[command(subcommand)]
    pub(crate) action: Option<ApprovalsAction>,
}

impl ApprovalsArgs {
    pub(crate) fn prints_json(&self) -> bool {
        match &self.action {
            None => self.json,
            Some(
                ApprovalsAction::List(args)
                | ApprovalsAction::Allow(DecideArgs { list: args, .. })
                | ApprovalsAction::Deny(DecideArgs { list: args, .. }),
            ) => args.json,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalsAction {
    /// Show the calls that wait, which is also what happens without a word.
    List(ListArgs),
    /// Let a call be made.
    Allow(DecideArgs),
    /// Refuse a call.
    Deny(DecideArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}

#[derive(Debug, Args)]
pub(crate) struct DecideArgs {
    /// The id, as the list shows it.
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}
