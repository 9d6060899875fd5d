//! Starts each server once and looks at how long it takes, what it speaks and what it writes.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mainstay::config::{Config, Severity, Startup, Transport};
use mainstay::{Manager, ServerStatus};
use serde_json::Value;

use super::{Area, Health};
use crate::cli::doctor::DoctorArgs;
use crate::cli::human::duration;
use crate::cli::output::Output;
use crate::commands::config::plural;
use crate::commands::local;
use crate::exit::Stop;

/// More tools than many apps take.
const TOOLS_MANY: u64 = 128;

/// What a start told.
struct Started {
    status: ServerStatus,
    took: Duration,
}

/// Takes over what the running Mainstay knows, and starts the others.
pub(super) async fn look(
    config: &Config,
    args: &DoctorArgs,
    health: &mut Health,
    output: Output,
) -> Result<(), Stop> {
    let running = from_running(health);
    let mut mine = config.clone();
    let mut there = HashSet::new();
    for server in mine.servers.iter().filter(|server| server.enabled) {
        let is_there = match &server.transport {
            Transport::Stdio { .. } => mainstay::preflight::find_program(server).await.is_ok(),
            Transport::Http { .. } => true,
            Transport::Broken { .. } => false,
        };
        if is_there && !running.contains(&server.name) {
            there.insert(server.name.clone());
        }
    }
    mine.servers.retain(|server| there.contains(&server.name));
    for server in &mut mine.servers {
        server.startup = Startup::Eager;
    }
    if mine.servers.is_empty() {
        too_many_tools(health);
        return Ok(());
    }
    let wait = Duration::from_secs(args.timeout);
    let started = local::with_manager(mine, output, async |manager| {
        let handles = manager.servers();
        let all = handles
            .iter()
            .map(|handle| start(&manager, handle.name(), wait));
        Ok(join_all(all).await)
    })
    .await?;
    let slow = Duration::from_secs(args.slow);
    for started in started.into_iter().flatten() {
        judge(config, started, wait, slow, health);
    }
    too_many_tools(health);
    Ok(())
}

/// One server: how it ended up, and how long that took from the moment it was its turn.
async fn start(manager: &Manager, name: &str, wait: Duration) -> Option<Started> {
    let handle = manager.server(name)?;
    let mut began = Instant::now();
    let its_turn =
        handle.wait_until(|status| status.progress.is_some() || status.state != "connecting");
    // Waiting for the turn is no fault of the server; it has a limit all the same.
    if tokio::time::timeout(wait, its_turn).await.is_ok() {
        began = Instant::now();
    }
    let status = local::settled(manager, name, wait).await?;
    Some(Started {
        status,
        took: began.elapsed(),
    })
}

fn judge(config: &Config, started: Started, wait: Duration, slow: Duration, health: &mut Health) {
    let Started { status, took } = started;
    let name = status.name.clone();
    let is_connected = status.state == "connected";
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if let Some(seen) = health.seen(&name) {
        seen.state = if is_connected { "connected" } else { "down" };
        seen.start_ms = is_connected.then_some(ms);
        seen.era = status.era.map(str::to_owned);
        seen.protocol = status.protocol.map(str::to_owned);
        seen.tools = is_connected.then_some(status.tools as u64);
        seen.noise = Some(status.counts.noise);
        seen.transport = status.transport;
    }
    if !is_connected {
        let why = local::why_down(&status, wait);
        health.add(
            Severity::Error,
            Area::Start,
            &name,
            why.to_string(),
            why.hint.unwrap_or_default(),
        );
        return;
    }
    if took > slow {
        slow_start(config, &name, ms, health);
    }
    judge_contents(&status, health);
}

/// A start that takes long, and what may help.
fn slow_start(config: &Config, name: &str, ms: u64, health: &mut Health) {
    let is_runner = config.server(name).is_some_and(|server| {
        ["npx", "uvx", "bunx", "pnpx", "docker"]
            .iter()
            .any(|runner| server.target().ends_with(runner))
    });
    let remedy = if is_runner {
        "install the package and name its program in `command`: then nothing is looked up or downloaded at a start"
    } else {
        "see on its stderr what it does at its start; `startup: \"lazy\"` keeps the start from holding up others"
    };
    health.add(
        Severity::Warning,
        Area::Start,
        name,
        format!("its start took {}", duration(ms)),
        remedy,
    );
}

/// What a server that is up writes and lists.
fn judge_contents(status: &ServerStatus, health: &mut Health) {
    let name = &status.name;
    if status.counts.noise > 0 {
        health.add(
            Severity::Warning,
            Area::Stdout,
            name,
            format!(
                "it wrote {} {} to stdout that are no messages; they are skipped here, and other clients may break on them",
                status.counts.noise,
                plural(usize::try_from(status.counts.noise).unwrap_or(usize::MAX), "line")
            ),
            "have it log to stderr: over stdio, stdout belongs to the protocol",
        );
    }
    if status.hidden > 0 {
        health.add(
            Severity::Warning,
            Area::Start,
            name,
            format!(
                "{} of what it lists cannot be used and is hidden",
                status.hidden
            ),
            format!(
                "`mainstay events --server {name}` says what is wrong with it; tell its author"
            ),
        );
    }
    for suspicion in &status.suspicious {
        health.add(
            Severity::Warning,
            Area::Listing,
            name,
            format!("{}: {}", suspicion.place, suspicion.text),
            suspicion.kind.remedy(),
        );
    }
    if status.sandbox.as_deref() == Some("none") {
        health.add(
            Severity::Warning,
            Area::Start,
            name,
            "it runs without the sandbox that its entry asks for, because this machine has none",
            "`\"require\": true` in `sandbox` keeps it from being started then",
        );
    }
    if status.tools == 0 && status.prompts == 0 && status.resources == 0 {
        health.add(
            Severity::Note,
            Area::Start,
            name,
            "it offers nothing: no tools, prompts or resources",
            "check its arguments and the rights of its token",
        );
    }
    if status.transport == "sse" {
        health.add(
            Severity::Note,
            Area::Start,
            name,
            "it speaks the HTTP+SSE transport of 2024-11-05, which is going away",
            "update the server, or use its streamable HTTP address if it has one",
        );
    }
}

fn too_many_tools(health: &mut Health) {
    let tools: u64 = health.servers.iter().filter_map(|seen| seen.tools).sum();
    if tools > TOOLS_MANY {
        health.add(
            Severity::Note,
            Area::Start,
            "all servers",
            format!("together they have {tools} tools; many apps take at most {TOOLS_MANY}"),
            "choose with `tools.include`, make profiles, or set `mainstay.discovery` to \"search\"",
        );
    }
}

/// What the running Mainstay says about the servers that it has. Those that are connected need no further start.
pub(super) fn from_running(health: &mut Health) -> Vec<String> {
    let servers = health
        .running
        .as_ref()
        .and_then(|status| status["servers"].as_array())
        .cloned()
        .unwrap_or_default();
    let mut connected = Vec::new();
    for server in servers {
        let Some(name) = server["name"].as_str() else {
            continue;
        };
        let text = |key: &str| server[key].as_str().map(str::to_owned);
        let state = server["state"].as_str().unwrap_or_default();
        let noise = server.pointer("/counts/noise").and_then(Value::as_u64);
        if let Some(seen) = health.seen(name) {
            seen.era = text("era");
            seen.protocol = text("protocol");
            seen.tools = server["tools"].as_u64();
            seen.noise = noise;
            if state == "connected" {
                seen.state = "connected";
            }
        }
        match state {
            "connected" => {
                connected.push(name.to_owned());
                if let Some(noise) = noise.filter(|noise| *noise > 0) {
                    health.add(
                        Severity::Warning,
                        Area::Stdout,
                        name,
                        format!(
                            "since Mainstay runs it wrote {noise} times to stdout what is no message"
                        ),
                        "have it log to stderr: over stdio, stdout belongs to the protocol",
                    );
                }
            }
            "parked" | "backoff" => {
                let login = server
                    .pointer("/signIn/command")
                    .and_then(Value::as_str)
                    .map(|command| format!("run `{command}`"));
                let why = server
                    .pointer("/lastFailure/detail")
                    .and_then(Value::as_str)
                    .unwrap_or(state);
                health.add(
                    Severity::Error,
                    Area::Start,
                    name,
                    format!(
                        "in the running Mainstay it is {}: {why}",
                        server["word"].as_str().unwrap_or(state)
                    ),
                    login
                        .as_deref()
                        .or(server["hint"].as_str())
                        .unwrap_or("see `mainstay status` and `mainstay logs`"),
                );
            }
            _ => {}
        }
    }
    connected
}
