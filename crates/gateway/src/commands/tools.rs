//! `mainstay tools`: the tools of all servers, or of one; and what is approved of them.

mod pins;

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::call::running;
use super::client::AdminClient;
use super::{config, local};
use crate::cli::output::{Output, Paint};
use crate::cli::table::{Sheet, terminal_width};
use crate::cli::tools::{ToolsAction, ToolsArgs};
use crate::exit::{Exit, Stop};

/// One tool, as listed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    /// The server it belongs to.
    server: String,
    /// Its own name.
    name: String,
    /// Its name at `/mcp`.
    exposed: String,
    /// What the server says about it.
    tool: Value,
}

/// What was found: the tools, and the servers that could not say.
#[derive(Debug, Default, Serialize)]
struct Found {
    tools: Vec<Listed>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unavailable: Vec<Unavailable>,
}

/// A server without a listing.
#[derive(Debug, Serialize)]
struct Unavailable {
    server: String,
    why: String,
}

/// Lists them: from the running Mainstay if there is one, else by starting the servers in this process.
///
/// # Errors
/// Exit 6 when there is no such server, 25 when the one that was asked for did not start.
pub(crate) async fn run(args: ToolsArgs, output: Output) -> Result<Exit, Stop> {
    match args.action {
        Some(ToolsAction::Diff(args)) => return pins::diff(args, output).await,
        Some(ToolsAction::Approve(args)) => return pins::approve(args, output).await,
        None => {}
    }
    let mut found = match running(&args.reach).await? {
        Some(client) => remote(&client, args.server.as_deref()).await?,
        None => in_process(&args, output).await?,
    };
    found
        .tools
        .sort_by(|a, b| (&a.server, &a.name).cmp(&(&b.server, &b.name)));
    if args.json {
        output.json(&found)?;
        return Ok(Exit::Ok);
    }
    let mut sheet = Sheet::new(&["SERVER", "TOOL", "DESCRIPTION"]);
    for listed in &found.tools {
        let description = first_sentence(listed.tool["description"].as_str().unwrap_or_default());
        sheet.row(vec![
            (listed.server.clone(), Paint::Plain),
            (listed.name.clone(), Paint::Bold),
            (description, Paint::Dim),
        ]);
    }
    output.line(&sheet.render(output.is_terminal().then(terminal_width), output.color()))?;
    for missing in &found.unavailable {
        output.warn(
            &format!("no tools of `{}`: {}", missing.server, missing.why),
            None,
        );
    }
    if found.tools.is_empty() && found.unavailable.is_empty() {
        output.note("there are no tools");
    }
    Ok(Exit::Ok)
}

async fn remote(client: &AdminClient, server: Option<&str>) -> Result<Found, Stop> {
    let answer = client.get("/api/v1/tools").await?.ok()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let tools: Vec<Listed> = answer["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| Listed {
            server: text(&entry["server"]),
            name: text(&entry["name"]),
            exposed: text(&entry["exposed"]),
            tool: entry["tool"].clone(),
        })
        .collect();
    let Some(name) = server else {
        return Ok(Found {
            tools,
            unavailable: Vec::new(),
        });
    };
    let tools: Vec<Listed> = tools
        .into_iter()
        .filter(|listed| listed.server == name)
        .collect();
    if tools.is_empty() {
        // Nothing of that server: does it exist at all?
        let status = client.get("/api/v1/status").await?.ok()?;
        let known = super::view::servers(&status)
            .iter()
            .filter_map(|server| server["name"].as_str());
        if !known.clone().any(|known| known == name) {
            return Err(local::no_server(name, known));
        }
    }
    Ok(Found {
        tools,
        unavailable: Vec::new(),
    })
}

async fn in_process(args: &ToolsArgs, output: Output) -> Result<Found, Stop> {
    let mut config = local::load(args.reach.config.as_deref(), args.server.as_deref(), output)?;
    config
        .servers
        .retain(|server| server.enabled && !server.is_broken());
    let wait = Duration::from_secs(args.reach.timeout);
    if args.server.is_none() {
        let count = config.servers.len();
        output.note(&format!(
            "no Mainstay is running: starting {count} {} to ask",
            config::plural(count, "server")
        ));
    }
    local::with_manager(config, output, async |manager| {
        let mut found = Found::default();
        let handles = manager.servers();
        let settled = handles
            .iter()
            .map(|handle| local::settled(&manager, handle.name(), wait));
        let settled = futures_util::future::join_all(settled).await;
        for status in settled
            .into_iter()
            .flatten()
            .filter(|status| status.state != "connected")
        {
            let why = local::why_down(&status, wait);
            if args.server.is_some() {
                return Err(why);
            }
            found.unavailable.push(Unavailable {
                server: status.name.clone(),
                why: why.to_string(),
            });
        }
        for handle in &handles {
            for item in handle
                .catalog()
                .iter()
                .flat_map(|catalog| &catalog.tools.items)
            {
                let tool = serde_json::from_slice(&item.raw)
                    .map_err(|error| Stop::unexpected("a listed tool is not JSON", error))?;
                found.tools.push(Listed {
                    server: handle.name().to_owned(),
                    name: item.name.clone(),
                    exposed: mainstay_core::catalog::exposed_name(handle.name(), &item.name),
                    tool,
                });
            }
        }
        Ok(found)
    })
    .await
}

/// The beginning of a description, on one line.
fn first_sentence(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    match line.split_once(". ") {
        Some((sentence, _)) => format!("{sentence}."),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_one_sentence() {
        assert_eq!(first_sentence(" Adds. Then more.\nAnd more"), "Adds.");
        assert_eq!(first_sentence("Tells the time"), "Tells the time");
        assert_eq!(first_sentence(""), "");
    }
}
