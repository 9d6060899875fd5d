//! `mainstay logs`: what a server wrote to stderr last.

use serde_json::{Value, json};

use super::client::{AdminClient, segment};
use super::paths;
use super::signals::Signals;
use crate::cli::LogsArgs;
use crate::cli::output::Output;
use crate::exit::{Exit, Stop};

/// Prints the last lines, and with `--follow` every new one until interrupted.
///
/// # Errors
/// Exit 5 when no Mainstay is running, 6 when it has no such server.
pub(crate) async fn run(args: LogsArgs, output: Output) -> Result<Exit, Stop> {
    let client = AdminClient::new(paths::socket(args.socket.socket.as_deref())?);
    let path = format!(
        "/api/v1/servers/{}/logs?lines={}",
        segment(&args.name),
        args.lines
    );
    if args.follow {
        return follow(&client, &path, &args, output).await;
    }
    let answer = client.get(&path).await?.ok()?;
    let lines = answer["lines"].as_array().cloned().unwrap_or_default();
    if lines.is_empty() && !args.json {
        output.note(&format!(
            "server `{}` has written nothing to stderr",
            args.name
        ));
    }
    for line in lines {
        print(line.as_str().unwrap_or_default(), args.json, output)?;
    }
    Ok(Exit::Ok)
}

async fn follow(
    client: &AdminClient,
    path: &str,
    args: &LogsArgs,
    output: Output,
) -> Result<Exit, Stop> {
    let mut signals = Signals::listen()?;
    let mut lines = client.stream(&format!("{path}&follow=1")).await?;
    loop {
        tokio::select! {
            // Cancel-safe: a signal stays pending in its stream.
            () = signals.next() => return Ok(Exit::Ok),
            // Cancel-safe: what was read of an event before is kept; see there.
            event = lines.next_event() => match event? {
                Some(line) => print(&line_of(&line), args.json, output)?,
                None => return Err(Stop::new(Exit::NotRunning, "the running Mainstay has ended")),
            },
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

fn print(line: &str, as_json: bool, output: Output) -> Result<(), Stop> {
    if as_json {
        output.line(&json!({ "line": line }).to_string())
    } else {
        output.line(line)
    }
}
