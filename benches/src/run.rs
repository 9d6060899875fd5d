//! Starts the parts, runs the rounds, ends the parts.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::load::{Way, burst};
use crate::report::{Scenario, print};
use crate::{Failure, RunArgs};

/// Name, method, tool, requests in flight.
type Case = (&'static str, &'static str, Option<&'static str>, usize);

const CASES: &[Case] = &[
    ("small call, 1 in flight", "tools/call", Some("small"), 1),
    ("small calls, 8 in flight", "tools/call", Some("small"), 8),
    ("small calls, 64 in flight", "tools/call", Some("small"), 64),
    (
        "64 KiB results, 8 in flight",
        "tools/call",
        Some("kib64"),
        8,
    ),
    ("1 MiB results, 8 in flight", "tools/call", Some("mib1"), 8),
    ("2,000 tools listed, 8 in fl.", "tools/list", None, 8),
];

/// Measures everything and prints it.
pub(crate) async fn run(args: RunArgs) -> Result<(), Failure> {
    let own = std::env::current_exe()?;
    let (mut server, server_at) = start(Command::new(&own).arg("serve-http")).await?;
    let (mut relay, relay_at) = start(Command::new(&own).args(["relay", &server_at])).await?;
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("mcp.json");
    std::fs::write(
        &config,
        serde_json::json!({"mcpServers": {
            "http": {"url": format!("http://{server_at}/mcp")},
            "stdio": {"command": own, "args": ["serve-stdio"]},
        }})
        .to_string(),
    )?;
    // The port is free when we ask; nobody else on a benchmark machine is in a hurry to take it.
    let listen = TcpListener::bind("127.0.0.1:0")
        .await?
        .local_addr()?
        .to_string();
    let mut mainstay = Command::new(&args.mainstay)
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .args(["--listen", &listen])
        .arg("--state-dir")
        .arg(dir.path())
        .arg("--socket")
        .arg(dir.path().join("mainstay.sock"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    until_listening(&listen).await?;
    let way = |name, address: &str, path: &str| Way {
        name,
        address: address.to_owned(),
        path: path.to_owned(),
    };
    let ways = [
        way("direct", &server_at, "/mcp"),
        way("relay", &relay_at, "/mcp"),
        way("mainstay http", &listen, "/servers/http/mcp"),
        way("mainstay stdio", &listen, "/servers/stdio/mcp"),
    ];
    let mut rows = Vec::new();
    for case in CASES.iter().filter(|case| {
        args.only
            .as_ref()
            .is_none_or(|only| case.0.contains(only.as_str()))
    }) {
        rows.extend(measure(case, &ways, &args).await?.rows());
    }
    print(&rows, args.json)?;
    if let Some(pid) = mainstay.id()
        && !args.json
    {
        println!(
            "\nmainstay after the run: {} KiB resident",
            resident_kib(pid).unwrap_or(0)
        );
    }
    for child in [&mut mainstay, &mut relay, &mut server] {
        child.kill().await?;
    }
    Ok(())
}

async fn measure(case: &Case, ways: &[Way], args: &RunArgs) -> Result<Scenario, Failure> {
    let (name, method, tool, in_flight) = *case;
    let mut scenario = Scenario {
        name: name.to_owned(),
        ways: ways.iter().map(|way| (way.name, Vec::new())).collect(),
    };
    // The first round warms up and is thrown away.
    for round in 0..=args.rounds {
        for (index, way) in ways.iter().enumerate() {
            let lasts = Duration::from_millis(if round == 0 { 150 } else { args.burst_ms });
            let measured = burst(way, method, tool, in_flight, lasts)
                .await
                .map_err(|error| format!("{name}, {}: {error}", way.name))?;
            if round > 0
                && let Some((_, bursts)) = scenario.ways.get_mut(index)
            {
                bursts.push(measured);
            }
        }
    }
    Ok(scenario)
}

/// Starts a part that prints its address first.
async fn start(command: &mut Command) -> Result<(Child, String), Failure> {
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).await?;
    Ok((child, line.trim().to_owned()))
}

async fn until_listening(address: &str) -> Result<(), Failure> {
    for _ in 0..200 {
        if TcpStream::connect(address).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("nothing listens on {address} after ten seconds").into())
}

fn resident_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
