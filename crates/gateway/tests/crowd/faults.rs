//! Five servers of both eras and both transports, and what happens to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mainstay::config::{Scope, ServerConfig};
use mainstay::{ClientFace, Principal};
use mainstay_testkit::http_server::{Eras, HttpServer, Script};
use mainstay_wire::Era;
use tempfile::TempDir;
use tokio::time::Instant;

use super::plant::Seeded;
use super::support::{World, stdio};

/// The names of the servers; the first two speak over pipes.
pub(crate) const NAMES: [&str; 5] = ["pipe-old", "pipe-new", "http-old", "http-new", "http-both"];

/// Whose connections they have, in the crowd of several users.
const SCOPES: [Scope; 5] = [
    Scope::User,
    Scope::Shared,
    Scope::User,
    Scope::User,
    Scope::Session,
];

/// Everybody: nobody in particular, and three users.
pub(crate) const PEOPLE: [Option<&str>; 4] = [None, Some("ann"), Some("bob"), Some("carl")];

/// Which of them a client is, of which everything that it sends says the number (`c12-345`).
fn owner(marker: &str) -> Option<&'static str> {
    let number = marker.strip_prefix('c')?.split('-').next()?;
    who(number.parse().unwrap())
}

/// Which of them a client is: both eras are spoken by each.
pub(crate) fn who(number: u64) -> Option<&'static str> {
    PEOPLE[usize::try_from(number / 2).unwrap() % PEOPLE.len()]
}

pub(crate) struct Servers {
    /// Whether there are several users.
    people: bool,
    http: Vec<HttpServer>,
    ledgers: TempDir,
}

impl Servers {
    pub(crate) async fn start(people: bool) -> Self {
        let mut http = Vec::new();
        for eras in [Eras::Legacy, Eras::Modern, Eras::Dual] {
            let mut script = Script::legacy();
            script.eras = eras;
            script.extra_tools = vec!["inquire".to_owned()];
            http.push(HttpServer::start(script).await.unwrap());
        }
        Self {
            people,
            http,
            ledgers: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn configs(&self) -> Vec<ServerConfig> {
        let mut configs: Vec<ServerConfig> = [("pipe-old", "legacy"), ("pipe-new", "modern")]
            .into_iter()
            .map(|(name, era)| {
                let ledger = self.ledgers.path().join(name);
                stdio(
                    name,
                    &["--asks", "--era", era, "--ledger", ledger.to_str().unwrap()],
                )
            })
            .collect();
        for (name, server) in NAMES[2..].iter().zip(&self.http) {
            configs.push(ServerConfig::http(*name, server.url()));
        }
        for (config, scope) in configs.iter_mut().zip(SCOPES) {
            // It is part of the game that they die.
            config.restart.budget = u32::MAX;
            if self.people {
                config.scope = scope;
            }
            if config.scope == Scope::User {
                config.connections.max = 256;
            }
        }
        configs
    }

    /// Sees to it that everybody was listed everything once: from then on nothing of it may be missing (law 22).
    pub(crate) async fn are_known_to_everybody(&self, world: &World, capabilities: &str) {
        for (name, principal) in NAMES
            .into_iter()
            .flat_map(|name| PEOPLE.map(|principal| (name, principal)))
        {
            let server = world.manager.server(name).unwrap();
            for era in [Era::Legacy, Era::Modern] {
                let face = ClientFace {
                    capabilities: capabilities.into(),
                    principal: principal.and_then(Principal::new),
                    era: Some(era),
                    ..ClientFace::default()
                };
                server.learn(&face).await.unwrap();
            }
        }
    }

    /// What was done for one user was done on connections on which nothing was ever done for another (F256). Asked of the
    /// servers, of which none knows that there are users.
    pub(crate) fn judge_isolation(&self, seed: u64) {
        let mut served: BTreeMap<(&str, String), BTreeSet<Option<&str>>> = BTreeMap::new();
        let text = std::fs::read_to_string(self.ledgers.path().join(NAMES[0])).unwrap();
        for (pid, marker) in text.lines().filter_map(|line| line.split_once(" marker ")) {
            let by = (NAMES[0], pid.to_owned());
            served.entry(by).or_default().insert(owner(marker));
        }
        for call in self.http[0].ledger().seen_of("tools/call") {
            let body: serde_json::Value = serde_json::from_str(&call.body).unwrap();
            let arguments = &body["params"]["arguments"];
            let token = arguments["marker"].as_str().or(arguments["text"].as_str());
            if let (Some(session), Some(token)) = (call.header("mcp-session-id"), token) {
                let by = (NAMES[2], session.to_owned());
                served.entry(by).or_default().insert(owner(token));
            }
        }
        for (by, whose) in &served {
            assert_eq!(whose.len(), 1, "seed {seed}: {by:?} served {whose:?}");
        }
        for name in [NAMES[0], NAMES[2]] {
            let of_server = served.iter().filter(|((of, _), _)| *of == name);
            let everybody: BTreeSet<_> = of_server.flat_map(|(_, whose)| whose).collect();
            assert_eq!(
                everybody.len(),
                PEOPLE.len(),
                "seed {seed}: {name}: {everybody:?}"
            );
        }
    }

    /// How often each marker was executed, over all servers.
    pub(crate) fn markers(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for server in &self.http {
            for (marker, times) in server.ledger().counts().markers {
                *all.entry(marker).or_default() += times;
            }
        }
        for name in &NAMES[..2] {
            let ledger =
                std::fs::read_to_string(self.ledgers.path().join(name)).unwrap_or_default();
            for marker in ledger
                .lines()
                .filter_map(|line| line.split_once(" marker "))
            {
                *all.entry(marker.1.to_owned()).or_default() += 1;
            }
        }
        all
    }

    /// Breaks something now and then until `deadline`, and leaves everything in order.
    pub(crate) async fn break_until(&mut self, world: &World, deadline: Instant, mut seed: Seeded) {
        loop {
            let pause = Duration::from_millis(200 + seed.next() % 600);
            if Instant::now() + pause >= deadline {
                tokio::time::sleep_until(deadline).await;
                return;
            }
            tokio::time::sleep(pause).await;
            match seed.pick(6) {
                0 | 1 => {
                    let name = NAMES[seed.pick(2)];
                    let crash = mainstay::Request::new(
                        "tools/call",
                        Some(r#"{"name":"crash","arguments":{}}"#),
                    );
                    let principal = PEOPLE[seed.pick(PEOPLE.len())].filter(|_| self.people);
                    let options = mainstay::CallOptions {
                        total: Some(Duration::from_secs(2)),
                        principal: principal.and_then(Principal::new),
                        ..Default::default()
                    };
                    // How it dies is what it is for.
                    drop(
                        world
                            .manager
                            .server(name)
                            .unwrap()
                            .request(crash, options)
                            .await,
                    );
                }
                2 => self.http[0].forget_sessions(),
                3 => self.http[2].forget_sessions(),
                4 => {
                    let at = seed.pick(self.http.len());
                    self.http[at].stop().await;
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    self.http[at].start_again().await.unwrap();
                }
                _ => self.http[seed.pick(3)].end_streams(),
            }
        }
    }
}
