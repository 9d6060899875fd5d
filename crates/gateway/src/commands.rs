//! What each command does. One file per command; `client` reaches the running Mainstay, `local` does without one.

mod add;
mod approvals;
mod audit;
mod auth;
mod call;
mod calls;
mod check;
mod client;
mod completions;
mod config;
mod describe;
mod doctor;
pub(crate) mod doors;
mod edit;
mod events;
mod follow;
mod import;
mod install;
mod local;
mod login;
mod logs;
mod operate;
pub(crate) mod own;
mod paths;
mod policy;
mod progress;
mod records;
mod reload;
mod remove;
mod replay;
mod secret;
pub(crate) mod serve;
mod service;
pub(crate) mod signals;
mod status;
mod stdio;
mod stop;
mod token;
mod tools;
#[cfg(feature = "top")]
mod top;
pub(crate) mod view;

use self::operate::Order;
use crate::cli::Command;
use crate::cli::output::Output;
use crate::demo;
use crate::exit::{Exit, Stop};

/// Does what the command line asks for.
///
/// # Errors
/// Every failure carries its own exit code, message and remedy.
pub(crate) async fn run(command: Command, output: Output) -> Result<Exit, Stop> {
    match command {
        Command::Serve(args) => serve::run(args, output).await,
        Command::Stdio(args) => stdio::run(args, output).await,
        Command::Status(args) => status::run(args, output).await,
        Command::Tools(args) => tools::run(args, output).await,
        Command::Call(args) => call::run(args, output).await,
        Command::Restart(args) => operate::run(Order::Restart, args, output).await,
        Command::Enable(args) => operate::run(Order::Enable, args, output).await,
        Command::Disable(args) => operate::run(Order::Disable, args, output).await,
        Command::Reload(args) => reload::run(args, output).await,
        Command::Stop(args) => stop::run(args, output).await,
        Command::Logs(args) => logs::run(args, output).await,
        Command::Events(args) => events::run(args, output).await,
        Command::Calls(args) => calls::run(args, output).await,
        #[cfg(feature = "top")]
        Command::Top(args) => top::run(args, output).await,
        Command::Login(args) => login::run(args, output).await,
        Command::Logout(args) => login::logout(args, output).await,
        Command::Auth(args) => auth::run(args, output).await,
        Command::Token(args) => token::run(args, output).await,
        Command::Audit(args) => audit::run(args, output).await,
        Command::Approvals(args) => approvals::run(args, output).await,
        Command::Policy(args) => policy::run(args, output),
        Command::Check(args) => check::run(args, output).await,
        Command::Doctor(args) => doctor::run(args, output).await,
        Command::Import(args) => import::run(&args, output),
        Command::Replay(args) => replay::run(args, output).await,
        Command::Add(args) => add::run(args, output).await,
        Command::Remove(args) => remove::run(args, output).await,
        Command::Secret(args) => secret::run(args, output).await,
        Command::Edit(args) => edit::run(args, output).await,
        Command::Install(args) => install::run(&args, output),
        Command::Uninstall(args) => install::uninstall(&args, output),
        Command::Service(args) => service::run(args, output).await,
        Command::Completions(args) => completions::shell(&args, output),
        Command::Man(args) => completions::man(&args, output),
        Command::Demo(args) => demo::run(args, output).await,
        Command::DemoServer(args) => demo::server::run(args.kind).await.map(|()| Exit::Ok),
        #[cfg(feature = "chaos")]
        Command::Chaos(args) => crate::chaos::run(args, output).await,
    }
}
