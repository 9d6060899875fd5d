//! The command line of `mainstay chaos`. Parsing only.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  mainstay chaos list                                     every misbehaving server and every scenario
  mainstay chaos serve --script crash-loop --stdio        be one of them, for a client under test
  mainstay chaos run --preset mainstay                    see what Mainstay survives
  mainstay chaos run --only 'stdio-*' --target-command 'my-gateway --config {config} --port {port}'

docs/chaos.md describes the scripts, the scenarios and what each asks for."
)]
pub(crate) struct ChaosArgs {
    #[command(subcommand)]
    pub(crate) command: ChaosCommand,
}

/// What to do with the fault kit.
#[derive(Debug, Subcommand)]
pub(crate) enum ChaosCommand {
    /// Run the fault scenarios against a gateway or proxy, and say what it survived.
    Run(Box<ChaosRunArgs>),
    /// Be a misbehaving server, for testing any MCP client.
    Serve(ChaosServeArgs),
    /// List the scripts and the scenarios.
    List(ChaosListArgs),
    /// Print a script, or describe a scenario.
    Show(ChaosShowArgs),
    /// The stdio server itself, with its own flags (internal).
    #[command(hide = true)]
    Misbehave(ChaosMisbehaveArgs),
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true).multiple(true).args(["preset", "target_command", "target"]),
    after_help = "\
Examples:
  mainstay chaos run --preset mainstay
  mainstay chaos run --preset direct                                   no gateway at all, for comparison
  mainstay chaos run --target-command 'my-gateway --config {config} --port {port}'
  mainstay chaos run --target-command 'my-proxy --listen {port} {upstream-url}'      a proxy of one URL
  mainstay chaos run --target-command 'my-bridge --port {port} -- {upstream-command}' --target 'http://127.0.0.1:{port}/mcp'
  mainstay chaos run --target http://127.0.0.1:9000/mcp --workdir chaos  already running: use chaos/mcp.json as its config
  mainstay chaos run --preset mainstay --only 'http-*' --json | jq '.scenarios[] | select(.verdict != \"survived\")'

Placeholders of a target command: {config} the generated mcpServers file, {upstream-url} the URL of the one upstream,
{upstream-command} the command line of the one upstream, {port} a free port, {dir} an empty folder, {mainstay} this
program. The command is split into words as a shell would, and run without a shell. Which scenarios apply follows from
the placeholders: with {upstream-url} those over HTTP, with {upstream-command} those over stdio, with {config} all.

Exit codes: 0 everything that was run was survived, 50 something was not, 51 the target never served."
)]
pub(crate) struct ChaosRunArgs {
    /// A target that needs no further words.
    #[arg(long, value_enum, value_name = "NAME", conflicts_with_all = ["target_command", "target"])]
    pub(crate) preset: Option<ChaosPreset>,
    /// How to start the target: it is started anew for every scenario.
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) target_command: Option<String>,
    /// The MCP endpoint of the target. Without --target-command: it is running already. Default with it:
    /// http://127.0.0.1:{port}/mcp.
    #[arg(long, value_name = "URL")]
    pub(crate) target: Option<String>,
    /// Only the scenarios whose names match; `*` stands for anything. May be repeated.
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<String>,
    /// The revision that the client speaks to the target.
    #[arg(long, value_enum, default_value_t = ChaosEra::Legacy, value_name = "ERA")]
    pub(crate) era: ChaosEra,
    /// A call without an answer after this many seconds hangs.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(6..=600))]
    pub(crate) timeout: u64,
    /// How long the target may take to serve and to list the upstream's tools, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) start_timeout: u64,
    /// How many scenarios run at the same time. A target that is running already gets one at a time.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: u16,
    /// Where configurations, ledgers and the target's output are kept. Default: a temporary folder, removed at the end.
    #[arg(long, value_name = "DIR")]
    pub(crate) workdir: Option<PathBuf>,
    /// Print nothing but one JSON object at the end.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A target that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChaosPreset {
    /// This program's own gateway.
    Mainstay,
    /// Nothing at all: the client talks to the upstream itself (HTTP scenarios only).
    Direct,
}

/// The revision of MCP that the client of `chaos run` speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChaosEra {
    /// 2025-11-25: handshake and session.
    Legacy,
    /// 2026-07-28: no handshake, metadata in every request.
    Modern,
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("face").required(true).args(["stdio", "listen"]),
    after_help = "\
Examples:
  mainstay chaos serve --script crash-loop --stdio
  mainstay chaos serve --script redeploys --listen 127.0.0.1:9000
  mainstay chaos serve --script ./mine.chaos --stdio --ledger /tmp/ledger

The ledger gets one line per event, `PID EVENT DETAIL`: spawn, initialize, list, call, marker, and so on. `marker` is an
execution of the tool add_marker: the same marker twice is a call that ran twice.
`mainstay chaos show NAME` prints a script; a good start for one of your own."
)]
pub(crate) struct ChaosServeArgs {
    /// A script of the kit, or a file.
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) script: String,
    /// Serve on stdin and stdout.
    #[arg(long)]
    pub(crate) stdio: bool,
    /// Serve on this address; loopback only. Port 0 takes a free one. The URL is printed on stdout.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// The file that every event is appended to.
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
    /// With --listen: end when stdin closes.
    #[arg(long, requires = "listen")]
    pub(crate) lifeline: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay chaos list
  mainstay chaos list --json | jq -r '.scenarios[].name'")]
pub(crate) struct ChaosListArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay chaos show crash-loop
  mainstay chaos show crash-loop > mine.chaos
  mainstay chaos show stdio-killed-in-call")]
pub(crate) struct ChaosShowArgs {
    /// A script of the kit, a file, or a scenario.
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ChaosMisbehaveArgs {
    /// Its flags.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) flags: Vec<String>,
}
