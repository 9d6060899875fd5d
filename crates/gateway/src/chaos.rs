//! `mainstay chaos`: the fault kit as a tool, for testing any MCP client, gateway or proxy.
//!
//! `serve` is a misbehaving server of the test kit, driven by a script. `run` puts a target between such servers and a
//! plain client, breaks things, and judges the target by what the client saw and what the servers wrote down. Nothing here
//! reaches into Mainstay's own gateway: it is tested like any other target, from outside.

mod client;
mod events;
mod ledger;
#[cfg(test)]
mod page;
mod play;
mod processes;
mod report;
mod run;
mod scenario;
mod scenarios;
mod serve;
mod target;
mod upstream;
mod verdict;

use std::process::ExitCode;

use mainstay_testkit::script::{LIBRARY, names};
use serde_json::json;

use self::scenarios::SCENARIOS;
use crate::cli::Command;
use crate::cli::chaos::{ChaosArgs, ChaosCommand, ChaosListArgs, ChaosShowArgs};
use crate::cli::output::{Output, Paint};
use crate::cli::table::{Sheet, terminal_width};
use crate::exit::{Exit, Stop};

/// Runs what has to be a plain process: the stdio servers, which are started by the hundred and must not have a runtime.
pub(crate) fn without_runtime(command: &Command) -> Option<Result<ExitCode, Stop>> {
    let Command::Chaos(args) = command else {
        return None;
    };
    match &args.command {
        ChaosCommand::Serve(args) if args.stdio => Some(serve::stdio(args)),
        ChaosCommand::Misbehave(args) => Some(Ok(serve::misbehave(args.flags.clone()))),
        ChaosCommand::Serve(_)
        | ChaosCommand::Run(_)
        | ChaosCommand::List(_)
        | ChaosCommand::Show(_) => None,
    }
}

/// Does what the command line asks for.
///
/// # Errors
/// Every failure carries its own exit code, message and remedy.
pub(crate) async fn run(args: ChaosArgs, output: Output) -> Result<Exit, Stop> {
    match args.command {
        ChaosCommand::Run(args) => run::run(*args, output).await,
        ChaosCommand::Serve(args) => serve::http(args, output).await,
        ChaosCommand::List(args) => list(&args, output),
        ChaosCommand::Show(args) => show(&args, output),
        // Runs before there is a runtime.
        ChaosCommand::Misbehave(_) => Ok(Exit::Ok),
    }
}

fn list(args: &ChaosListArgs, output: Output) -> Result<Exit, Stop> {
    let mut scripts = Vec::with_capacity(LIBRARY.len());
    for name in names() {
        scripts.push(serve::find(name)?);
    }
    if args.json {
        let scripts: Vec<_> = scripts
            .iter()
            .map(|script| {
                json!({ "name": script.name, "transport": script.transport.word(),
                    "about": script.about, "faults": script.faults })
            })
            .collect();
        let scenarios: Vec<_> = SCENARIOS
            .iter()
            .map(|scenario| {
                let faults: Vec<_> = scenario.faults.split_whitespace().collect();
                json!({ "name": scenario.name, "script": scenario.script, "about": scenario.about,
                    "criterion": scenario.criterion(), "faults": faults })
            })
            .collect();
        output.json(&json!({ "scripts": scripts, "scenarios": scenarios }))?;
        return Ok(Exit::Ok);
    }
    let width = output.is_terminal().then(terminal_width);
    let mut sheet = Sheet::new(&["SCRIPT", "FOR", "WHAT THE SERVER DOES"]);
    for script in &scripts {
        sheet.row(vec![
            (script.name.clone(), Paint::Bold),
            (script.transport.word().to_owned(), Paint::Plain),
            (script.about.clone(), Paint::Plain),
        ]);
    }
    let scripts = sheet.render(width, output.color());
    let mut sheet = Sheet::new(&["SCENARIO", "SCRIPT", "WHAT HAPPENS"]);
    for scenario in SCENARIOS {
        sheet.row(vec![
            (scenario.name.to_owned(), Paint::Bold),
            (scenario.script.to_owned(), Paint::Plain),
            (scenario.about.to_owned(), Paint::Plain),
        ]);
    }
    output.line(&format!(
        "{scripts}\n\n{}",
        sheet.render(width, output.color())
    ))?;
    Ok(Exit::Ok)
}

fn show(args: &ChaosShowArgs, output: Output) -> Result<Exit, Stop> {
    let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == args.name) else {
        let script = serve::find(&args.name)?;
        output.raw(&script.text)?;
        return Ok(Exit::Ok);
    };
    let mut text = format!("{}: {}\n", scenario.name, scenario.about);
    if !scenario.faults.is_empty() {
        text.push_str(&format!("faults: {}\n", scenario.faults));
    }
    text.push_str(&format!("script: {}\n", scenario.script));
    if let Some(neighbour) = scenario.neighbour() {
        text.push_str(&format!("neighbour: {neighbour}\n"));
    }
    text.push_str(&format!("asked: {}\n", scenario.criterion()));
    output.raw(&text)?;
    Ok(Exit::Ok)
}
