//! Embeds Mainstay: starts one stdio server, calls a tool, kills the server and calls again through the same handle.
//!
//! `cargo run -p mainstay --example embed -- COMMAND [ARG ...] -- TOOL [JSON]`
//! for example `cargo run -p mainstay --example embed -- uvx mcp-server-time -- get_current_time '{"timezone":"UTC"}'`

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks"
)]

use mainstay::Manager;
use mainstay::config::{Config, ServerConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let command = words
        .next()
        .ok_or("usage: embed COMMAND [ARG ...] -- TOOL [JSON]")?;
    let args: Vec<String> = words.by_ref().take_while(|word| word != "--").collect();
    let tool = words.next().ok_or("which tool?")?;
    let arguments = words
        .next()
        .map(|json| serde_json::from_str(&json))
        .transpose()?;

    let config = Config::from_servers([
        ServerConfig::stdio("server", command.as_str()).args(args.iter().map(String::as_str))
    ]);
    let manager = Manager::builder().config(config).start().await?;
    // The handle stays valid for ever, whatever happens to the process behind it.
    let server = manager.server("server").ok_or("not configured")?;

    let answer = server.call(&tool, arguments.as_ref()).await?;
    println!(
        "generation {}: {}",
        answer.generation.0,
        answer.result().unwrap_or("an error")
    );

    if let Some(pid) = server.status().pid {
        std::process::Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status()?;
    }
    server
        .wait_until(|status| status.state != "connected" || status.generation > 1)
        .await;

    // Waits for the new process and is answered by it.
    let answer = server.call(&tool, arguments.as_ref()).await?;
    println!(
        "generation {}: {}",
        answer.generation.0,
        answer.result().unwrap_or("an error")
    );
    for event in manager.recent_events() {
        eprintln!("{} {:?}", event.server, event.kind);
    }
    manager.shutdown().await;
    Ok(())
}
