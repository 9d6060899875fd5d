//! `mainstay add` and `mainstay remove`: what they take.

use clap::Args;

use super::{ConfigArg, SocketArg};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay add time -- uvx mcp-server-time
  mainstay add files -- npx -y @modelcontextprotocol/server-filesystem ~/notes
  mainstay add github https://api.githubcopilot.com/mcp/ --header 'Authorization: Bearer ${GITHUB_TOKEN}'
  mainstay add search --env 'BRAVE_API_KEY=${BRAVE_API_KEY}' -- npx -y @brave/brave-search-mcp-server

The server is started (or asked) first, and written only if it answers. Secrets belong into the environment: `${NAME}` in
quotes is written as it stands and filled in at every start.")]
pub(crate) struct AddArgs {
    /// The name to give it: its tools will be called NAME__TOOL.
    pub(crate) name: String,
    /// The address of a server that speaks HTTP.
    #[arg(value_name = "URL")]
    pub(crate) target: Vec<String>,
    /// The program of a server that speaks over stdin and stdout, and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// A header to send with every request: `Name: value`. May be repeated.
    #[arg(long, short = 'H', value_name = "HEADER")]
    pub(crate) header: Vec<String>,
    /// A variable for the program: `NAME=value`. May be repeated.
    #[arg(long, short = 'e', value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// The directory to start the program in.
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// Write it without trying it.
    #[arg(long)]
    pub(crate) no_try: bool,
    /// Write it even if it does not answer, and in place of one of that name.
    #[arg(long)]
    pub(crate) force: bool,
    /// Give up trying after this many seconds; a first start may have to download the server.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay remove time
  mainstay remove time --config ~/.config/mainstay/mcp.json --json

To stop a server and keep its entry: `mainstay disable NAME`.")]
pub(crate) struct RemoveArgs {
    /// The server's name in the configuration.
    pub(crate) name: String,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}
