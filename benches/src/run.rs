//! Starts the parts, runs the rounds, ends the parts.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::fixture::Era;
use crate::load::{Asked, Way, burst, fan_out};
use crate::report::{Scenario, print};
use crate::{Failure, RunArgs};

/// What is measured.
struct Case {
    name: &'static str,
    load: Load,
    /// The ways by name; the first of them is what the others are compared with.
    ways: &'static [&'static str],
}

/// How it is measured.
#[derive(Clone, Copy)]
enum Load {
    /// So many clients that ask again and again.
    Calls(Asked, usize),
    /// The same, and every client holds its push stream open.
    Sessions(Asked, usize),
    /// So many listeners that are told one change.
    FanOut(usize),
}

const SMALL: Asked = Asked::Call("tools/call", Some("small"));
const ONE_ERA: &[&str] = &["direct", "relay", "mainstay http", "mainstay stdio"];
const CROSSING: &[&str] = &[
    "direct",
    "modern > modern",
    "modern > legacy",
    "legacy > modern",
    "legacy > legacy",
];
const LISTENING: &[&str] = &["direct legacy", "legacy > legacy", "modern > legacy"];

const CASES: &[Case] = &[
    case("small call, 1 in flight", Load::Calls(SMALL, 1), ONE_ERA),
    case("small calls, 8 in flight", Load::Calls(SMALL, 8), ONE_ERA),
    case("small calls, 64 in flight", Load::Calls(SMALL, 64), ONE_ERA),
    case(
        "64 KiB results, 8 in flight",
        Load::Calls(Asked::Call("tools/call", Some("kib64")), 8),
        ONE_ERA,
    ),
    case(
        "1 MiB results, 8 in flight",
        Load::Calls(Asked::Call("tools/call", Some("mib1")), 8),
        ONE_ERA,
    ),
    case(
        "2,000 tools listed, 8 in fl.",
        Load::Calls(Asked::Call("tools/list", None), 8),
        ONE_ERA,
    ),
    case("era crossing, 8 in flight", Load::Calls(SMALL, 8), CROSSING),
    case(
        "questions, 8 in flight",
        Load::Calls(Asked::Question, 8),
        &[
            "direct legacy",
            "direct",
            "legacy > legacy",
            "modern > legacy",
            "legacy > modern",
            "modern > modern",
        ],
    ),
    case(
        "200 sessions, each calling",
        Load::Sessions(SMALL, 200),
        &["direct legacy", "legacy > legacy", "legacy > modern"],
    ),
    case("change told to 1,000", Load::FanOut(1_000), LISTENING),
];

const fn case(name: &'static str, load: Load, ways: &'static [&'static str]) -> Case {
    Case { name, load, ways }
}

/// Measures everything and prints it.
pub(crate) async fn run(args: RunArgs) -> Result<(), Failure> {
    let own = std::env::current_exe()?;
    let (mut server, server_at) = start(Command::new(&own).arg("serve-http")).await?;
    let legacy = ["serve-http", "--era", "legacy"];
    let (mut legacy, legacy_at) = start(Command::new(&own).args(legacy)).await?;
    let (mut relay, relay_at) = start(Command::new(&own).args(["relay", &server_at])).await?;
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("mcp.json");
    std::fs::write(
        &config,
        serde_json::json!({"mcpServers": {
            "http": {"url": format!("http://{server_at}/mcp")},
            "stdio": {"command": own, "args": ["serve-stdio"]},
            "legacy": {"url": format!("http://{legacy_at}/mcp")},
        }, "mainstay": {
            // Questions are asked as fast as they are answered here; the limit is there for servers that flood their clients.
            "limits": {"requestsPerSecond": 1_000_000},
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
    let ways = ways(&server_at, &relay_at, &legacy_at, &listen);
    let mut rows = Vec::new();
    for case in CASES.iter().filter(|case| {
        args.only
            .as_ref()
            .is_none_or(|only| case.name.contains(only.as_str()))
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
    for child in [&mut mainstay, &mut relay, &mut server, &mut legacy] {
        child.kill().await?;
    }
    Ok(())
}

/// All ways to the tool. `A > B` is a client of one era and a server of the other behind Mainstay.
fn ways(server_at: &str, relay_at: &str, legacy_at: &str, listen: &str) -> Vec<Way> {
    let way = |name, address: &str, path: &str, era| Way {
        name,
        address: address.to_owned(),
        path: path.to_owned(),
        era,
    };
    vec![
        way("direct", server_at, "/mcp", Era::Modern),
        way("relay", relay_at, "/mcp", Era::Modern),
        way("mainstay http", listen, "/servers/http/mcp", Era::Modern),
        way("mainstay stdio", listen, "/servers/stdio/mcp", Era::Modern),
        way("direct legacy", legacy_at, "/mcp", Era::Legacy),
        way("modern > modern", listen, "/servers/http/mcp", Era::Modern),
        way(
            "modern > legacy",
            listen,
            "/servers/legacy/mcp",
            Era::Modern,
        ),
        way("legacy > modern", listen, "/servers/http/mcp", Era::Legacy),
        way(
            "legacy > legacy",
            listen,
            "/servers/legacy/mcp",
            Era::Legacy,
        ),
    ]
}

async fn measure(case: &Case, ways: &[Way], args: &RunArgs) -> Result<Scenario, Failure> {
    let find = |name: &&str| ways.iter().find(|way| way.name == *name);
    let ways: Vec<&Way> = case.ways.iter().filter_map(find).collect();
    let mut scenario = Scenario {
        name: case.name.to_owned(),
        ways: ways.iter().map(|way| (way.name, Vec::new())).collect(),
    };
    // The first round warms up and is thrown away.
    for round in 0..=args.rounds {
        for (index, way) in ways.iter().enumerate() {
            let lasts = Duration::from_millis(if round == 0 { 150 } else { args.burst_ms });
            let measuring = async {
                match case.load {
                    Load::Calls(asked, clients) => burst(way, asked, clients, false, lasts).await,
                    Load::Sessions(asked, clients) => burst(way, asked, clients, true, lasts).await,
                    Load::FanOut(listeners) => fan_out(way, listeners).await,
                }
            };
            let measured = measuring
                .await
                .map_err(|error| format!("{}, {}: {error}", case.name, way.name))?;
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
