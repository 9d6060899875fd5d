//! The arguments of `mainstay import`.

use std::path::PathBuf;

use clap::Args;

use super::ConfigArg;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay import --dry-run              what would be taken over, and from where
  mainstay import
  mainstay import --app cursor --app zed
  mainstay import --from ~/backup/mcp.json --config mcp.json
  mainstay import --prefer claude-code   of servers that share a name, only those of this app

Every server is written once; nothing that is in the configuration is overwritten, and its comments and order stay. Secrets
become references such as ${GITHUB_TOKEN}; the output says which variables to set, and where their values are.

Exit codes: 0 everything was taken over, 70 a file or an entry could not be used (the others were taken over).")]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// Only show what would be written.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Read this file instead of those of the apps; its form is found out. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Vec<PathBuf>,
    /// Only this app, such as `claude-desktop`, `vscode` or `codex`. May be repeated.
    #[arg(long, value_name = "APP")]
    pub(crate) app: Vec<String>,
    /// Of different servers with the same name, take only the one of this app, under that name.
    #[arg(long, value_name = "APP")]
    pub(crate) prefer: Option<String>,
    /// Copy secrets into the configuration instead of referring to them.
    #[arg(long)]
    pub(crate) keep_secrets: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
