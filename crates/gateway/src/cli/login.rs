//! `mainstay login`, `logout` and `auth` on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{SocketArg, env};

/// What is read when no Mainstay is running.
#[derive(Debug, Clone, Args)]
pub(crate) struct AloneArgs {
    /// The configuration file, if no Mainstay is running. Default: ./mcp.json, then the user's configuration directory.
    #[arg(long, short = 'c', value_name = "FILE", env = env::CONFIG)]
    pub(crate) config: Option<PathBuf>,
    /// Where sign-ins are kept, if no Mainstay is running. Default: the user's state directory.
    #[arg(long, value_name = "DIR", env = env::STATE_DIR)]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay login github                  opens the browser, and waits until you have signed in
  mainstay login github --no-browser     prints the link; paste the address at which the browser ended
  mainstay login github --device         prints a code to type on any other device
  mainstay login github --json           one line with the link, one with how it ended

A running Mainstay keeps the sign-in and uses it at once; without one it is kept for the next.
Nothing but this command and the button of the dashboard ever opens a browser.

Exit codes: 6 no such server, 80 the sign-in did not come about, 130 interrupted.")]
pub(crate) struct LoginArgs {
    /// The server's name in the configuration.
    pub(crate) name: String,
    /// Open no browser: print the link, and take the address at which it ended from stdin.
    #[arg(long)]
    pub(crate) no_browser: bool,
    /// Sign in on another device, with a code. Not every server offers it.
    #[arg(long, conflicts_with = "no_browser")]
    pub(crate) device: bool,
    /// Give up after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
    /// Print one JSON object per line: the link, and how it ended.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) alone: AloneArgs,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay logout github
  mainstay logout github --revoke        also tells the authorization server that its tokens are not needed any more")]
pub(crate) struct LogoutArgs {
    /// The server's name in the configuration.
    pub(crate) name: String,
    /// Also ask the authorization server to revoke the tokens, if it can.
    #[arg(long)]
    pub(crate) revoke: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) alone: AloneArgs,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay auth status
  mainstay auth status github --json")]
pub(crate) struct AuthArgs {
    #[command(subcommand)]
    pub(crate) command: AuthCommand,
}

impl AuthArgs {
    /// Whether JSON is wanted.
    pub(crate) fn prints_json(&self) -> bool {
        match &self.command {
            AuthCommand::Status(args) => args.json,
        }
    }
}

/// What there is to ask.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Show which servers are signed in to, until when, and which need it.
    Status(AuthStatusArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay auth status
  mainstay auth status github            exit code 81 if it needs a sign-in
  mainstay auth status --json | jq '.signIns[] | select(.state == \"needed\").server'")]
pub(crate) struct AuthStatusArgs {
    /// Only this server.
    pub(crate) name: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) alone: AloneArgs,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}
