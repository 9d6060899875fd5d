//! `mainstay remove`: takes a server out of the configuration.

use serde_json::json;

use super::own::{Own, Running};
use super::{config, local};
use crate::cli::add::RemoveArgs;
use crate::cli::output::Output;
use crate::edit::Change;
use crate::exit::{Exit, Stop};

/// Removes it.
///
/// # Errors
/// Exit 4 when there is no configuration, 6 when it has no such server, 3 and 10 when it cannot be changed.
pub(crate) async fn run(args: RemoveArgs, output: Output) -> Result<Exit, Stop> {
    let path = config::find(args.config.config.as_deref())?;
    let own = Own::open(&path)?;
    if !own.servers().any(|name| name == args.name) {
        return Err(local::no_server(&args.name, own.servers()));
    }
    let text = own.changed(&[Change::remove(own.path_of(&args.name))])?;
    own.meaning(&text)?;
    let backup = own.write(&text)?;
    let running = Running::ask(&path, args.socket.socket.as_deref()).await;
    if args.json {
        output.json(&json!({
            "name": args.name,
            "file": path.display().to_string(),
            "backup": backup.map(|path| path.display().to_string()),
            "running": running.word(),
        }))?;
        return Ok(Exit::Ok);
    }
    output.line(&format!("removed `{}` from {}", args.name, path.display()))?;
    if let Some(backup) = backup {
        output.note(&format!("the former text is in {}", backup.display()));
    }
    running.tell(output);
    Ok(Exit::Ok)
}
