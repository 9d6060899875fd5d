//! `mainstay stdio`: one app over stdin and stdout, through the running Mainstay.
//!
//! A thin relay: every line becomes a request to the local socket, answers and events become lines. It holds no server
//! and no state that a restart of Mainstay could lose: if that is replaced under it, it finds the next one.

mod asks;
mod exchange;
mod home;
mod legacy;
mod link;
mod notices;
mod out;
mod pushes;
mod relay;
mod start;

use std::path::PathBuf;
use std::time::Duration;

use mainstay::config::{Config, find_default};
use mainstay::store::Store;
use mainstay_wire::Limits;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::home::{Home, May};
use self::link::Link;
use self::relay::Relay;
use self::start::Starter;
use super::client::{AdminClient, segment};
use super::signals::Signals;
use super::{config, paths};
use crate::cli::StdioArgs;
use crate::cli::output::Output;
use crate::exit::{Exit, Stop};

/// Calls in flight get this long when the client closes its end.
const FINISH: Duration = Duration::from_secs(10);

/// And this long when we are told to leave.
const FINISH_HURRIED: Duration = Duration::from_millis(500);

/// What is on its way to stdout gets this long.
const WRITE_OUT: Duration = Duration::from_secs(5);

/// Serves one client until it closes stdin or stdout, or a signal comes.
///
/// # Errors
/// No Mainstay can be reached or started, or it has no server of the name asked for. Later troubles are told to the
/// client as errors of its calls.
pub(crate) async fn run(args: StdioArgs, output: Output) -> Result<Exit, Stop> {
    let mut signals = Signals::listen()?;
    let plan = Plan::of(&args)?;
    let limits = plan.limits;
    let home = tokio::select! {
        // Cancel-safe: nothing is in flight yet.
        home = attach(plan, &args) => home?,
        // Cancel-safe: a signal stays pending in its stream.
        () = signals.next() => return Ok(Exit::Ok),
    };
    let closed = CancellationToken::new();
    let out = out::start(closed.clone());
    let relay = Relay::start(home, out.clone(), output);
    let finish = tokio::select! {
        // Cancel-safe: nothing is read any more after this.
        read = relay.read(tokio::io::stdin(), limits) => {
            if let Err(error) = read {
                output.warn(&format!("stdin cannot be read: {error}"), None);
            }
            FINISH
        }
        // Cancel-safe: a token holds nothing.
        () = closed.cancelled() => Duration::ZERO,
        // Cancel-safe: a signal stays pending in its stream.
        () = signals.next() => FINISH_HURRIED,
    };
    tokio::select! {
        // Cancel-safe: what is left ends with the process.
        () = relay.end(finish) => {}
        () = signals.next() => {}
    }
    if tokio::time::timeout(WRITE_OUT, out.flush()).await.is_err() {
        output.warn(
            "the client does not read; left with messages unwritten",
            None,
        );
    }
    Ok(Exit::Ok)
}

/// What was asked for, and what the configuration says about it.
struct Plan {
    socket: PathBuf,
    limits: Limits,
    /// How to start a Mainstay; the reason, if it cannot be. `None`: it must not be started.
    starter: Option<Result<Starter, Stop>>,
}

impl Plan {
    fn of(args: &StdioArgs) -> Result<Self, Stop> {
        let file = find_default(args.config.config.as_deref()).ok();
        let file = file.and_then(|path| std::path::absolute(path).ok());
        let loaded = file.as_deref().and_then(|path| Config::load(path).ok());
        let gateway = loaded.map(|loaded| loaded.config.gateway);
        let configured = gateway.as_ref().and_then(|gateway| gateway.socket.clone());
        let socket = match args.socket.socket.clone().or(configured) {
            Some(socket) => std::path::absolute(&socket).unwrap_or(socket),
            None => paths::default_socket()?,
        };
        let state_dir = gateway
            .as_ref()
            .and_then(|gateway| gateway.state_dir.clone())
            .or_else(|| std::env::var_os(crate::cli::env::STATE_DIR).map(PathBuf::from))
            .or_else(Store::default_dir);
        let starter = (!args.no_start).then(|| {
            // Read again for its errors: they are nobody's business while a Mainstay runs.
            config::load(args.config.config.as_deref())?;
            match (file, state_dir) {
                (Some(file), Some(dir)) => Ok(Starter::new(file, socket.clone(), &dir)),
                (_, None) | (None, _) => Err(Stop::new(
                    Exit::Unexpected,
                    "there is no place for the log of a Mainstay in the background",
                )
                .hint("start it yourself with `mainstay serve`")),
            }
        });
        let limits = gateway.map_or_else(Limits::default, |gateway| Limits {
            message_bytes_max: gateway.limits.message_bytes,
            depth_max: gateway.limits.depth,
        });
        Ok(Self {
            socket,
            limits,
            starter,
        })
    }
}

/// Finds the running Mainstay or starts one.
async fn attach(plan: Plan, args: &StdioArgs) -> Result<Home, Stop> {
    let path = match (&args.server, &args.profile) {
        (Some(server), _) => format!("/servers/{}/mcp", segment(server)),
        (None, Some(profile)) => format!("/profiles/{}/mcp", segment(profile)),
        (None, None) => "/mcp".to_owned(),
    };
    let link = Link::new(plan.socket.clone(), path);
    let starter = match plan.starter {
        Some(Ok(starter)) => Some(starter),
        // It matters only if there is nothing to attach to.
        Some(Err(stop)) => {
            if link.connect().await.is_err() {
                return Err(stop);
            }
            None
        }
        None => None,
    };
    let home = Home::new(link, starter, Duration::from_secs(args.patience));
    let deadline = Instant::now() + home.patience();
    drop(home.connect(May::Start, deadline).await?);
    if let Some(profile) = &args.profile {
        let known = AdminClient::new(plan.socket)
            .get("/api/v1/profiles")
            .await?;
        is_profile(profile, &known.ok()?)?;
    } else if let Some(server) = &args.server {
        let admin = AdminClient::new(plan.socket);
        let path = format!("/api/v1/servers/{}", segment(server));
        admin.get(&path).await?.ok()?;
    }
    Ok(home)
}

/// Says which profiles there are if this is none of them.
fn is_profile(name: &str, known: &serde_json::Value) -> Result<(), Stop> {
    let profiles = known["profiles"].as_array().into_iter().flatten();
    let names: Vec<&str> = profiles
        .filter_map(|profile| profile["name"].as_str())
        .collect();
    if names.contains(&name) {
        return Ok(());
    }
    let hint = match names.as_slice() {
        [] => "there are none; define one under `mainstay.profiles` in the config".to_owned(),
        names => format!("configured are: {}", names.join(", ")),
    };
    Err(Stop::new(Exit::NotFound, format!("no profile is named `{name}`")).hint(hint))
}
