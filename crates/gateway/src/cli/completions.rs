//! `mainstay completions` and `mainstay man`: what they take.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay completions bash > ~/.local/share/bash-completion/completions/mainstay
  mainstay completions zsh > ~/.zfunc/_mainstay
  mainstay completions fish > ~/.config/fish/completions/mainstay.fish")]
pub(crate) struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay man | man -l -
  mainstay man --out ~/.local/share/man/man1     a page for every command: man mainstay-serve")]
pub(crate) struct ManArgs {
    /// Write a page for every command into this directory instead of printing the first.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
