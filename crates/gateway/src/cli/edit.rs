//! `mainstay edit`: what it takes.

use clap::Args;

use super::{ConfigArg, SocketArg};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay edit
  mainstay edit github                   at that server's entry
  EDITOR='code --wait' mainstay edit

Opens a copy in $VISUAL, else $EDITOR, else the usual editor of this machine. Only a valid configuration is written; the
former one is kept beside it.")]
pub(crate) struct EditArgs {
    /// The server to begin at.
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}
