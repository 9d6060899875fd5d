//! `mainstay logs`: what servers wrote to stderr last, and what they write.

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::{AdminClient, segment};
use super::follow::{Follower, Heard};
use super::paths;
use super::signals::Signals;
use super::view::{View, servers};
use crate::cli::LogsArgs;
use crate::cli::human;
use crate::cli::output::{Output, Paint};
use crate::exit::{Exit, Stop};

/// Lines of all servers that wait to be printed.
const WAITING_MAX: usize = 256;

/// Lines of a server's new process that are asked for after Mainstay was restarted: all that are kept.
const AGAIN_LINES: u32 = 10_000;

/// Prints the last lines, and with `--follow` every new one until interrupted.
///
/// # Errors
/// Exit 5 when no Mainstay is running, 6 when it has no such server.
pub(crate) async fn run(args: LogsArgs, output: Output) -> Result<Exit, Stop> {
    let client = AdminClient::new(paths::socket(args.socket.socket.as_deref())?);
    let names = if args.names.is_empty() {
        let status = client.get("/api/v1/status").await?.ok()?;
        let names = servers(&status)
            .iter()
            .map(|server| View(server).name().to_owned());
        names.collect()
    } else {
        args.names.clone()
    };
    let printer = Printer {
        prefix: if args.names.len() == 1 {
            None
        } else {
            names.iter().map(|name| name.chars().count()).max()
        },
        as_json: args.json,
        output,
    };
    if args.follow {
        return follow(&client, &names, args.lines, printer).await;
    }
    let mut is_empty = true;
    for (at, name) in names.iter().enumerate() {
        let answer = client.get(&path(name, args.lines)).await?.ok()?;
        for line in answer["lines"].as_array().into_iter().flatten() {
            is_empty = false;
            printer.print(at, name, line.as_str().unwrap_or_default())?;
        }
    }
    if is_empty && !args.json {
        output.note(&match names.as_slice() {
            [] => "no servers are configured".to_owned(),
            [name] => format!("server `{name}` has written nothing to stderr"),
            many => format!(
                "none of {} servers has written anything to stderr",
                many.len()
            ),
        });
    }
    Ok(Exit::Ok)
}

fn path(name: &str, lines: u32) -> String {
    format!("/api/v1/servers/{}/logs?lines={lines}", segment(name))
}

/// Follows all of them at once; one that is no longer there ends alone.
async fn follow(
    client: &AdminClient,
    names: &[String],
    lines: u32,
    printer: Printer,
) -> Result<Exit, Stop> {
    let mut signals = Signals::listen()?;
    let (heard, mut hears) = mpsc::channel(WAITING_MAX);
    // Aborted when this function is left.
    let mut tasks = JoinSet::new();
    for (at, name) in names.iter().enumerate() {
        let path = format!("{}&follow=1", path(name, lines));
        let mut follower = Follower::open(client.clone(), path).await?;
        follower.again(format!("{}&follow=1", self::path(name, AGAIN_LINES)));
        let heard = heard.clone();
        tasks.spawn(async move {
            loop {
                let next = follower.next().await;
                let is_last = next.is_err();
                if heard.send((at, next)).await.is_err() || is_last {
                    return;
                }
            }
        });
    }
    drop(heard);
    let mut is_gone = false;
    loop {
        let (at, next) = tokio::select! {
            // Cancel-safe: a signal stays pending in its stream.
            () = signals.next() => return Ok(Exit::Ok),
            // Cancel-safe: a channel keeps what was not received.
            next = hears.recv() => match next {
                Some(next) => next,
                None => return Ok(Exit::Ok),
            },
        };
        let name = &names[at];
        match next {
            Ok(Heard::Data(event)) => printer.print(at, name, &line_of(&event))?,
            // All of them notice; it is told once.
            Ok(Heard::Gone) if !std::mem::replace(&mut is_gone, true) => {
                printer
                    .output
                    .note("the running Mainstay has ended; waiting for it to come back");
            }
            Ok(Heard::Back(away)) if std::mem::replace(&mut is_gone, false) => {
                let away = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
                printer.output.note(&format!(
                    "Mainstay is back after {}; last words of the processes before may be missing",
                    human::span(away)
                ));
            }
            Ok(Heard::Gone | Heard::Back(_)) => {}
            Err(stop) if names.len() == 1 => return Err(stop),
            Err(stop) => printer.output.warn(&stop.to_string(), None),
        }
    }
}

/// The line in an event: an object with `line`, or the bare text.
fn line_of(event: &str) -> String {
    match serde_json::from_str::<Value>(event) {
        Ok(value) => value["line"]
            .as_str()
            .or(value.as_str())
            .map_or_else(|| event.to_owned(), str::to_owned),
        Err(_bare) => event.to_owned(),
    }
}

/// How lines are printed.
#[derive(Debug, Clone, Copy)]
struct Printer {
    /// With each server's name before its lines, in so many columns.
    prefix: Option<usize>,
    as_json: bool,
    output: Output,
}

impl Printer {
    fn print(self, at: usize, name: &str, line: &str) -> Result<(), Stop> {
        if self.as_json {
            return self
                .output
                .line(&json!({ "server": name, "line": line }).to_string());
        }
        match self.prefix {
            None => self.output.line(line),
            Some(width) => {
                let name = format!("{name:width$} |");
                let name = Paint::nth(at).on(&name, self.output.color());
                self.output.line(&format!("{name} {line}"))
            }
        }
    }
}
