//! `mainstay install` and `mainstay uninstall`: what they take.

use clap::Args;

use super::{ConfigArg, env};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay install --list                which apps are here, and which of them use Mainstay
  mainstay install cursor claude-code
  mainstay install --all --dry-run       what would change, and nothing changes
  mainstay install cursor --replace      and take out the servers that Mainstay has by now (see `mainstay import`)

One entry is added to the app's own file; its comments and its order stay, and the former file is kept beside it.
`mainstay uninstall APP` puts everything back. Restart the app afterwards.")]
pub(crate) struct InstallArgs {
    /// The apps, by the names that --list shows.
    #[arg(value_name = "APP", required_unless_present_any = ["all", "list"])]
    pub(crate) apps: Vec<String>,
    /// All apps that are found on this machine.
    #[arg(long, conflicts_with_all = ["apps", "list"])]
    pub(crate) all: bool,
    /// Show the apps, where their files are, and whether they use Mainstay.
    #[arg(long, conflicts_with = "apps")]
    pub(crate) list: bool,
    /// Also take out of the app the servers that Mainstay has.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Point the app at the address of a running Mainstay instead of `mainstay stdio`.
    #[arg(long)]
    pub(crate) http: bool,
    /// Give the app this profile of the configuration instead of everything.
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    #[command(flatten)]
    pub(crate) state: StateArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay uninstall cursor
  mainstay uninstall --all --dry-run

A file that is as `install` left it becomes what it was before. In one that has changed since, only what `install` did is
undone.")]
pub(crate) struct UninstallArgs {
    /// The apps.
    #[arg(value_name = "APP", required_unless_present = "all")]
    pub(crate) apps: Vec<String>,
    /// All apps that use Mainstay.
    #[arg(long, conflicts_with = "apps")]
    pub(crate) all: bool,
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) state: StateArg,
}

/// Where it is remembered what was installed.
#[derive(Debug, Clone, Args)]
pub(crate) struct StateArg {
    /// Where it is remembered what was installed. Default: the user's state directory.
    #[arg(long, value_name = "DIR", env = env::STATE_DIR)]
    pub(crate) state_dir: Option<std::path::PathBuf>,
}
