//! `mainstay chaos serve`: be a misbehaving server, over stdio or HTTP, until told to stop.

use std::path::Path;
use std::process::ExitCode;

use mainstay_testkit::http_server::HttpServer;
use mainstay_testkit::script::{self, Chaos, Server, Step};
use mainstay_testkit::stdio_server;
use tokio::io::AsyncReadExt;

use super::ledger::Account;
use crate::cli::chaos::ChaosServeArgs;
use crate::cli::output::Output;
use crate::commands::signals::Signals;
use crate::exit::{Exit, Stop};

/// What starts the stdio server alone, for the children that some of its flags start.
const PREFIX: &[&str] = &["chaos", "misbehave", "--"];

/// A script, or the end of the command.
pub(super) fn find(name: &str) -> Result<Chaos, Stop> {
    Chaos::find(name).map_err(|problem| {
        let exit = if problem.line.is_some() {
            Exit::Usage
        } else {
            Exit::NotFound
        };
        Stop::new(exit, problem.to_string()).hint(problem.hint)
    })
}

/// Serves on the standard streams. Blocks; must not run inside a runtime.
///
/// # Errors
/// When the script is not found, makes no sense, or is for another transport.
pub(super) fn stdio(args: &ChaosServeArgs) -> Result<ExitCode, Stop> {
    let chaos = find(&args.script)?;
    let Server::Stdio(lives) = &chaos.server else {
        return Err(mismatch(&chaos, "--listen 127.0.0.1:0"));
    };
    let life = match &args.ledger {
        Some(ledger) => {
            let account = Account::read(ledger)
                .map_err(|error| Stop::unexpected("cannot read the ledger", error))?;
            account.starts.len() as u64 + 1
        }
        None if lives.are_alike() => 1,
        None => {
            return Err(Stop::new(
                Exit::Usage,
                format!("`{}` behaves otherwise from start to start", chaos.name),
            )
            .hint("name a --ledger FILE: the starts are counted in it"));
        }
    };
    let mut flags = lives.flags(life);
    if let Some(ledger) = &args.ledger {
        flags.extend(["--ledger".to_owned(), ledger.display().to_string()]);
    }
    Ok(misbehave(flags))
}

/// The stdio server with its own flags.
pub(super) fn misbehave(flags: Vec<String>) -> ExitCode {
    stdio_server::run(PREFIX, flags.into_iter())
}

/// Serves over HTTP until a signal comes, or stdin ends if that is the lifeline.
///
/// # Errors
/// As `stdio`, and when the address cannot be listened on.
pub(super) async fn http(args: ChaosServeArgs, output: Output) -> Result<Exit, Stop> {
    let chaos = find(&args.script)?;
    let Server::Http { script, steps } = chaos.server.clone() else {
        return Err(mismatch(&chaos, "--stdio"));
    };
    let Some(address) = args.listen else {
        return Err(Stop::new(Exit::Usage, "there is no address to listen on")
            .hint("add --listen 127.0.0.1:0"));
    };
    if !address.ip().is_loopback() {
        return Err(Stop::new(
            Exit::ListenRefused,
            format!("{address} is not a loopback address"),
        )
        .hint("listen on 127.0.0.1 or [::1]: whoever reaches it can rewrite its script"));
    }
    let mut signals = Signals::listen()?;
    let mut server = HttpServer::start_on(address, *script)
        .await
        .map_err(|error| {
            Stop::new(Exit::PortInUse, format!("cannot listen on {address}"))
                .because(error)
                .hint("choose another port; port 0 takes a free one")
        })?;
    open_ledger(&server, args.ledger.as_deref())?;
    let path = chaos.transport.path().unwrap_or_default();
    output.line(&format!("http://{}{path}", server.address()))?;
    let ended = tokio::select! {
        // Cancel-safe: the server is stopped right after, whatever the steps had reached.
        ended = happen(&mut server, &steps) => ended,
        // Cancel-safe: a signal stays pending in its stream.
        () = signals.next() => Ok(()),
        // Cancel-safe: what is lost is input that nobody wants.
        () = end_of_stdin(), if args.lifeline => Ok(()),
    };
    server.stop().await;
    ended.map(|()| Exit::Ok)
}

fn open_ledger(server: &HttpServer, ledger: Option<&Path>) -> Result<(), Stop> {
    match ledger {
        Some(ledger) => server.write_ledger_to(ledger).map_err(|error| {
            Stop::unexpected(
                &format!("cannot write the ledger {}", ledger.display()),
                error,
            )
        }),
        None => Ok(()),
    }
}

/// Lets happen what the script says, and then nothing for ever.
async fn happen(server: &mut HttpServer, steps: &[Step]) -> Result<(), Stop> {
    script::play(server, steps)
        .await
        .map_err(|error| Stop::unexpected("cannot listen again after a restart", error))?;
    std::future::pending().await
}

async fn end_of_stdin() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 1024];
    while matches!(stdin.read(&mut ignored).await, Ok(count) if count > 0) {}
}

fn mismatch(chaos: &Chaos, right: &str) -> Stop {
    Stop::new(
        Exit::Usage,
        format!(
            "`{}` is a script for {}",
            chaos.name,
            chaos.transport.word()
        ),
    )
    .hint(format!("use `{right}`"))
}
