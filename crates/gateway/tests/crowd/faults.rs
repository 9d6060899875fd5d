//! Five servers of both eras and both transports, and what happens to them.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{Eras, HttpServer, Script};
use tempfile::TempDir;
use tokio::time::Instant;

use super::plant::Seeded;
use super::support::{World, stdio};

/// The names of the servers; the first two speak over pipes.
pub(crate) const NAMES: [&str; 5] = ["pipe-old", "pipe-new", "http-old", "http-new", "http-both"];

pub(crate) struct Servers {
    http: Vec<HttpServer>,
    ledgers: TempDir,
}

impl Servers {
    pub(crate) async fn start() -> Self {
        let mut http = Vec::new();
        for eras in [Eras::Legacy, Eras::Modern, Eras::Dual] {
            let mut script = Script::legacy();
            script.eras = eras;
            script.extra_tools = vec!["inquire".to_owned()];
            http.push(HttpServer::start(script).await.unwrap());
        }
        Self {
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
        for config in &mut configs {
            // It is part of the game that they die.
            config.restart.budget = u32::MAX;
        }
        configs
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
                    let options = mainstay::CallOptions {
                        total: Some(Duration::from_secs(2)),
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
