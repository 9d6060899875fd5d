//! The arguments of `mainstay secret`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay secret set github-token            asks for it, unseen
  pass show github | mainstay secret set github-token
  mainstay secret list
  mainstay secret delete github-token

A server's entry refers to it as `${secret:github-token}`, in `env`, `args`, `headers` and `url`. It is kept by the keyring of
the operating system, and nowhere else. Without one, write `${file:/path}` or `${cmd:op read op://vault/item/field}`.")]
pub(crate) struct SecretArgs {
    #[command(subcommand)]
    pub(crate) action: SecretAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretAction {
    /// Keep a secret, in place of one of the same name. Its value comes from stdin, or is asked for.
    Set(SetArgs),
    /// List the names of the secrets that are kept or referred to. Values are never shown.
    List(ListArgs),
    /// Forget a secret.
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// Its name: letters, digits, `_`, `-`, `.` and `/`.
    pub(crate) name: String,
    /// The configuration in which servers that use it are looked for.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The configuration whose references are listed.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Its name.
    pub(crate) name: String,
}

impl SecretArgs {
    pub(crate) fn prints_json(&self) -> bool {
        match &self.action {
            SecretAction::List(args) => args.json,
            SecretAction::Set(_) | SecretAction::Delete(_) => false,
        }
    }
}
