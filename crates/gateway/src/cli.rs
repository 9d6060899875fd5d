//! The command line: every command, flag and environment variable, with examples. Parsing only.
//!
//! Must not do any work: `commands` does it.

pub(crate) mod add;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod calls;
#[cfg(feature = "chaos")]
pub(crate) mod chaos;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod edit;
pub(crate) mod env;
pub(crate) mod events;
pub(crate) mod human;
pub(crate) mod import;
pub(crate) mod install;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod output;
pub(crate) mod policy;
#[cfg(test)]
mod reference;
pub(crate) mod reload;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod token;
pub(crate) mod tools;
#[cfg(feature = "top")]
pub(crate) mod top;
pub(crate) mod wrap;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::calls::CallsArgs;
pub(crate) use self::events::EventsArgs;
pub(crate) use self::logs::LogsArgs;
pub(crate) use self::reload::ReloadArgs;
pub(crate) use self::status::StatusArgs;

/// Keeps MCP servers standing: one endpoint for all of them, supervised.
#[derive(Debug, Parser)]
#[command(
    name = "mainstay",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(
    max_term_width = 100,
    after_help = "\
Examples:
  mainstay demo                        see it work, with three bundled servers that get broken on purpose
  mainstay serve --config mcp.json     serve your servers on http://127.0.0.1:8808/mcp
  mainstay status                      what every server is doing, and why
  mainstay call time get_current_time '{\"timezone\":\"Europe/Berlin\"}'

Exit codes are listed in docs/exit-codes.md. Data goes to stdout, everything else to stderr."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command has.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// When to use colour. `auto` looks at the terminal and at NO_COLOR.
    #[arg(long, value_enum, default_value_t = ColorWhen::Auto, global = true, value_name = "WHEN")]
    pub(crate) color: ColorWhen,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve all configured servers on one endpoint, until told to stop.
    Serve(ServeArgs),
    /// Serve one app over stdin and stdout: attaches to the running Mainstay, or starts one.
    Stdio(StdioArgs),
    /// Show what every server is doing: state, generation, last failure, what comes next.
    Status(StatusArgs),
    /// Watch and operate all servers full-screen: states, events, logs, calls, and what to do on keys.
    #[cfg(feature = "top")]
    Top(top::TopArgs),
    /// List the tools of all servers, or of one.
    Tools(tools::ToolsArgs),
    /// Call one tool and print its answer.
    Call(CallArgs),
    /// Restart a server. Works from every state, parked included.
    Restart(OperateArgs),
    /// Enable a server that was disabled.
    Enable(OperateArgs),
    /// Disable a server: it is stopped and its tools are unpublished.
    Disable(OperateArgs),
    /// Read the configuration file again and make it true, while servers run; --dry-run only tells.
    Reload(ReloadArgs),
    /// End the running Mainstay and all of its servers.
    Stop(StopArgs),
    /// Show what servers wrote to stderr last.
    Logs(LogsArgs),
    /// Show what happened: every change of every server, with its reason.
    Events(EventsArgs),
    /// Show the calls that were made: who, which tool, how it ended, how long it took.
    Calls(CallsArgs),
    /// Sign in to a server that wants it: in the browser, with a pasted address, or with a code.
    Login(login::LoginArgs),
    /// Sign out of a server.
    Logout(login::LogoutArgs),
    /// Show which servers are signed in to.
    Auth(login::AuthArgs),
    /// Make, list and revoke the tokens by which clients say who they are.
    Token(token::TokenArgs),
    /// Show who did what, by which rule, and how it ended; and whether the log of it was touched.
    Audit(audit::AuditArgs),
    /// Show the calls that wait for the operator to approve them, and allow or deny them.
    Approvals(approvals::ApprovalsArgs),
    /// Explain what the rules of the configuration decide.
    Policy(policy::PolicyArgs),
    /// Check a configuration without serving it.
    Check(CheckArgs),
    /// Look for what is wrong with a set-up, and say what to do about it.
    Doctor(doctor::DoctorArgs),
    /// Add a server to the configuration, after trying it.
    Add(add::AddArgs),
    /// Take a server out of the configuration.
    Remove(add::RemoveArgs),
    /// Keep secrets in the keyring of the operating system, for `${secret:NAME}` in the configuration.
    Secret(secret::SecretArgs),
    /// Edit the configuration; only a valid one is written.
    Edit(edit::EditArgs),
    /// Point apps at Mainstay, by one entry in their own configuration.
    Install(install::InstallArgs),
    /// Undo what `install` did to an app.
    Uninstall(install::UninstallArgs),
    /// Let Mainstay run in the background from login on.
    Service(service::ServiceArgs),
    /// Print the completions for a shell.
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write a page for every command.
    Man(completions::ManArgs),
    /// Take over the MCP servers of the apps on this machine.
    Import(import::ImportArgs),
    /// Say again what the clients of a recording said, and tell how the answers differ.
    Replay(ReplayArgs),
    /// See Mainstay work: three bundled servers, called all the time and broken on purpose.
    Demo(DemoArgs),
    /// One of the demo's servers (internal).
    #[command(hide = true)]
    DemoServer(DemoServerArgs),
    /// Break things on purpose: misbehaving servers, and a test of what a gateway survives.
    #[cfg(feature = "chaos")]
    Chaos(chaos::ChaosArgs),
}

impl Command {
    /// Whether the command was asked to print JSON: then its errors are JSON, too.
    pub(crate) fn prints_json(&self) -> bool {
        match self {
            Self::Serve(_) | Self::Stdio(_) | Self::DemoServer(_) => false,
            Self::Status(args) => args.json,
            Self::Tools(args) => args.prints_json(),
            Self::Call(args) => args.json,
            Self::Restart(args) | Self::Enable(args) | Self::Disable(args) => args.json,
            Self::Reload(args) => args.json,
            Self::Stop(args) => args.json,
            Self::Logs(args) => args.json,
            Self::Events(args) => args.json,
            Self::Calls(args) => args.json,
            #[cfg(feature = "top")]
            Self::Top(_) => false,
            Self::Login(args) => args.json,
            Self::Logout(args) => args.json,
            Self::Auth(args) => args.prints_json(),
            Self::Token(args) => args.prints_json(),
            Self::Audit(args) => args.prints_json(),
            Self::Approvals(args) => args.prints_json(),
            Self::Policy(args) => args.prints_json(),
            Self::Check(args) => args.json,
            Self::Doctor(args) => args.json,
            Self::Add(args) => args.json,
            Self::Service(args) => args.prints_json(),
            Self::Install(args) => args.json,
            Self::Uninstall(args) => args.json,
            Self::Remove(args) => args.json,
            Self::Secret(args) => args.prints_json(),
            Self::Edit(_) | Self::Completions(_) | Self::Man(_) => false,
            Self::Import(args) => args.json,
            Self::Replay(args) => args.json,
            Self::Demo(args) => args.json,
            #[cfg(feature = "chaos")]
            Self::Chaos(args) => match &args.command {
                chaos::ChaosCommand::Run(args) => args.json,
                chaos::ChaosCommand::List(args) => args.json,
                chaos::ChaosCommand::Serve(_)
                | chaos::ChaosCommand::Show(_)
                | chaos::ChaosCommand::Misbehave(_) => false,
            },
        }
    }
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigArg {
    /// The configuration file. Default: ./mcp.json, then the user's configuration directory.
    #[arg(long, short = 'c', value_name = "FILE", env = env::CONFIG)]
    pub(crate) config: Option<PathBuf>,
}

/// Where the running Mainstay is.
#[derive(Debug, Clone, Args)]
pub(crate) struct SocketArg {
    /// The local socket of the running Mainstay. Default: in the user's runtime or state directory.
    #[arg(long, value_name = "PATH", env = env::SOCKET)]
    pub(crate) socket: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay serve
  mainstay serve --config ~/.cursor/mcp.json
  mainstay serve --config mcp.json --listen 127.0.0.1:9000 --log-format json
  mainstay serve --record wire.jsonl     keep every message, for `mainstay replay`

Changes of the configuration file are loaded while servers run (see mainstay reload).

Signals: the first SIGINT or SIGTERM stops gracefully, the second skips every grace period, the third leaves at once; SIGHUP
reads the configuration file again.")]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// The address to listen on; elsewhere than on loopback only with a way for clients to say who they are. Port 0 takes a free one. Default: the configuration's, else
    /// 127.0.0.1:8808.
    #[arg(long, value_name = "ADDRESS", env = env::LISTEN)]
    pub(crate) listen: Option<SocketAddr>,
    /// Where last good catalogs are kept. Default: the user's state directory.
    #[arg(long, value_name = "DIR", env = env::STATE_DIR)]
    pub(crate) state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
    /// Write every MCP message to this file as JSON lines, secrets removed, to be read or given to `mainstay replay`.
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// With --record: at this size in MiB the file becomes FILE.1, and a new one begins.
    #[arg(long, value_name = "MIB", default_value_t = 64, requires = "record", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub(crate) record_mib: u64,
    /// Started by a relay: leaves the terminal, and takes a free port if the configured one is taken.
    #[arg(long, hide = true)]
    pub(crate) background: bool,
    /// How log lines on stderr look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    /// What is logged: a level, or a filter such as `info,mainstay=debug`.
    #[arg(long, default_value = "info", value_name = "LEVEL", env = env::LOG)]
    pub(crate) log_level: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay stdio                         what an app runs: all servers over stdin and stdout
  mainstay stdio --config ~/.cursor/mcp.json
  mainstay stdio --server github         one server, its names untouched
  mainstay stdio --no-start              only attach: something else runs `mainstay serve`

In the configuration of an app:
  { \"mcpServers\": { \"mainstay\": { \"command\": \"mainstay\", \"args\": [\"stdio\"] } } }

The Mainstay that it starts is one for all apps and stays when this one leaves. If it is restarted, the app notices a slow
call at worst. SIGINT and SIGTERM end the relay, as the end of its input does.")]
pub(crate) struct StdioArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
    /// Serve this server alone, with its own names, instead of all.
    #[arg(long, value_name = "NAME", conflicts_with = "profile")]
    pub(crate) server: Option<String>,
    /// Serve this profile (`mainstay.profiles`) instead of everything.
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Never start a Mainstay in the background.
    #[arg(long)]
    pub(crate) no_start: bool,
    /// How long messages wait while no Mainstay is there, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) patience: u64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// How `tools` and `call` get at the servers.
#[derive(Debug, Clone, Args)]
pub(crate) struct Reach {
    /// Use this configuration in this very process instead of a running Mainstay.
    #[arg(long, short = 'c', value_name = "FILE", conflicts_with = "socket")]
    pub(crate) config: Option<PathBuf>,
    /// The local socket of the running Mainstay. Default: in the user's runtime or state directory.
    #[arg(long, value_name = "PATH", env = env::SOCKET)]
    pub(crate) socket: Option<PathBuf>,
    /// Give up after this many seconds, the server's start included.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay call time get_current_time '{\"timezone\":\"UTC\"}'
  echo '{\"path\":\"README.md\"}' | mainstay call filesystem read_text_file -
  mainstay call --config mcp.json time get_current_time   without a running Mainstay

Exit codes: 20 the tool reported an error, 21 the server answered with an error, 22 refused (never sent),
23 rejected (provably not run), 24 unknown (sent, no answer: it may have run), 25 the server did not come up.")]
pub(crate) struct CallArgs {
    /// The server's name in the configuration.
    pub(crate) server: String,
    /// The tool's own name at that server.
    pub(crate) tool: String,
    /// The arguments: a JSON object, or `-` to read it from stdin. Default: none.
    #[arg(value_name = "JSON")]
    pub(crate) arguments: Option<String>,
    /// Print the result object as the server sent it.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay restart github
  mainstay disable github
  mainstay enable github --json")]
pub(crate) struct OperateArgs {
    /// The server's name in the configuration.
    pub(crate) name: String,
    /// Print the server's status as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay stop
  mainstay stop --wait-ms 60000 --json")]
pub(crate) struct StopArgs {
    /// How long to wait until it has ended, in milliseconds. It goes on ending after that.
    #[arg(long, default_value_t = 20_000, value_name = "MS")]
    pub(crate) wait_ms: u64,
    /// Print one JSON object with the process id.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay check
  mainstay check --config ~/.cursor/mcp.json
  mainstay check --start --json")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// Also start each enabled server, list its tools, and stop it again.
    #[arg(long)]
    pub(crate) start: bool,
    /// With --start: give up on a server after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay serve --record wire.jsonl     records
  mainstay replay wire.jsonl
  mainstay replay wire.jsonl --url http://127.0.0.1:9000 --ignore serverInfo --json

Exit codes: 0 every answer is as it was, 60 at least one differs.")]
pub(crate) struct ReplayArgs {
    /// The recording.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where to say it: a Mainstay, or with a path the one endpoint for everything.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8808")]
    pub(crate) url: String,
    /// Do not compare members of this name, wherever they are. May be repeated.
    #[arg(long, value_name = "MEMBER")]
    pub(crate) ignore: Vec<String>,
    /// Give up on an answer after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay demo
  mainstay demo --seconds 120
  mainstay demo --json | jq .calls")]
pub(crate) struct DemoArgs {
    /// How long to run.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(3..=86_400))]
    pub(crate) seconds: u64,
    /// Print nothing but one JSON object at the end.
    #[arg(long)]
    pub(crate) json: bool,
    /// The gateway's address; loopback only. Default: a free port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct DemoServerArgs {
    #[command(subcommand)]
    pub(crate) kind: DemoServerKind,
}

/// Which of the demo's servers to be.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum DemoServerKind {
    /// A legacy server on stdin and stdout.
    Stdio(LedgerArg),
    /// A streamable HTTP server with sessions (2025-11-25).
    HttpSessions(HttpServerArgs),
    /// A streamable HTTP server without sessions (2026-07-28).
    HttpStateless(HttpServerArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LedgerArg {
    /// The file that every executed marker is appended to.
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct HttpServerArgs {
    /// The loopback port; 0 takes a free one. The address is printed on stdout.
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// End when stdin closes.
    #[arg(long)]
    pub(crate) lifeline: bool,
    #[command(flatten)]
    pub(crate) ledger: LedgerArg,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_visible_command_has_help_and_examples() {
        for command in Cli::command()
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
        {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "`{name}` has no description");
            let after = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                after.contains("Examples:"),
                "`{name} --help` shows no examples"
            );
            assert!(
                after.contains(&format!("mainstay {name}")),
                "`{name}`'s examples do not use it"
            );
        }
    }
}
