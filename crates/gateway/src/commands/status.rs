//! `mainstay status`: what every server is doing, and why.

mod page;
mod watch;

use serde_json::Value;

use super::client::{AdminClient, segment};
use super::{describe, paths};
use crate::cli::StatusArgs;
use crate::cli::output::Output;
use crate::cli::table::terminal_width;
use crate::exit::{Exit, Stop};

const PATH: &str = "/api/v1/status";

/// Shows the status once, or again and again.
///
/// # Errors
/// Exit 5 when no Mainstay is running, 6 when it has no such server.
pub(crate) async fn run(args: StatusArgs, output: Output) -> Result<Exit, Stop> {
    let client = AdminClient::new(paths::socket(args.socket.socket.as_deref())?);
    let scene = Scene {
        client,
        server: args.server,
    };
    let first = scene.look().await?;
    if args.watch {
        return watch::run(&scene, first, args.json, output).await;
    }
    if args.json {
        output.json(&first)?;
        return Ok(Exit::Ok);
    }
    let width = output.is_terminal().then(terminal_width);
    for line in scene.lines(&first, width, output.color()) {
        output.line(&line)?;
    }
    Ok(Exit::Ok)
}

/// What is looked at: all servers, or one.
#[derive(Debug)]
struct Scene {
    client: AdminClient,
    server: Option<String>,
}

impl Scene {
    /// How it is now.
    async fn look(&self) -> Result<Value, Stop> {
        let Some(name) = &self.server else {
            return self.client.get(PATH).await?.ok();
        };
        let path = format!("/api/v1/servers/{}", segment(name));
        let mut detail = self.client.get(&path).await?.ok()?;
        // Where its entry stands is asked for apart. A Mainstay that does not know is no reason to fail.
        let config = self.client.get("/api/v1/config").await?;
        if config.status.is_success()
            && let Some(entry) = config.body["servers"]
                .as_array()
                .and_then(|servers| servers.iter().find(|server| server["name"] == **name))
        {
            detail["configOrigin"] = entry["origin"].clone();
        }
        Ok(detail)
    }

    /// What is shown of it.
    fn lines(&self, seen: &Value, width: Option<u16>, color: bool) -> Vec<String> {
        match &self.server {
            Some(_) => describe::page(seen, width, color),
            None => page::lines(seen, width, color),
        }
    }

    /// What changes when something happens, as opposed to what changes with time.
    fn gist(&self, seen: &Value) -> Value {
        match &self.server {
            Some(_) => Value::from(vec![page::gist(
                &serde_json::json!({ "servers": [seen["status"]] }),
            )]),
            None => page::gist(seen),
        }
    }
}
