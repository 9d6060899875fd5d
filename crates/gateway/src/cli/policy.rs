//! `mainstay policy` on the command line.

use clap::{Args, Subcommand};

use super::ConfigArg;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay policy explain github --tool delete_repo --token ci")]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub(crate) action: PolicyAction,
}

impl PolicyArgs {
    pub(crate) fn prints_json(&self) -> bool {
        match &self.action {
            PolicyAction::Explain(args) => args.json,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyAction {
    /// Say what the rules of a configuration decide about somebody and something, and which rule it is.
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay policy explain github
  mainstay policy explain github --tool delete_repo --token ci
  mainstay policy explain docs --resource docs://intro --group staff --claim dept=it
  mainstay policy explain time --tool get_time --profile desk --json

Reads the file, and asks nothing that runs. Without --token and --principal it is about this machine's user.")]
pub(crate) struct ExplainArgs {
    /// The server.
    pub(crate) server: String,
    /// A tool of it, by its own name or by the one that clients see.
    #[arg(long, value_name = "TOOL", group = "what")]
    pub(crate) tool: Option<String>,
    /// A prompt of it, likewise.
    #[arg(long, value_name = "PROMPT", group = "what")]
    pub(crate) prompt: Option<String>,
    /// A resource of it, by the server's own uri.
    #[arg(long, value_name = "URI", group = "what")]
    pub(crate) resource: Option<String>,
    /// Asked by the holder of the token of this name.
    #[arg(long, value_name = "NAME", conflicts_with = "principal")]
    pub(crate) token: Option<String>,
    /// Asked by this principal, as the audit log names it: `ISSUER|SUBJECT` or `cert:NAME`.
    #[arg(long, value_name = "NAME")]
    pub(crate) principal: Option<String>,
    /// A group of whoever asks. May be repeated.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Vec<String>,
    /// A claim of whoever asks. May be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) claim: Vec<String>,
    /// Asked at the endpoint of this profile.
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArg,
}
