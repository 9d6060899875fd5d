//! What the demo proves in the end: the counts, the ledgers, the recoveries, and the verdict.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Serialize;

use super::breaks::BreakKind;
use super::outcome::{Failed, Outcome};
use super::traffic;
use crate::exit::Exit;

/// The object that `--json` prints. The names are part of the interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// How long it ran.
    pub(super) elapsed_ms: u64,
    /// Whether somebody ended it early.
    pub(super) interrupted: bool,
    /// The calls of all servers.
    pub(super) calls: Calls,
    /// Calls that a server executed more than once. Must be 0.
    pub(super) executed_twice: u64,
    /// Calls that were answered although no server executed them. Must be 0.
    pub(super) answered_not_executed: u64,
    /// Breaks that were survived.
    pub(super) recovered: u64,
    /// Breaks that were not. Must be 0.
    pub(super) not_recovered: u64,
    /// One entry per server.
    pub(super) servers: Vec<ServerReport>,
}

/// Calls by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Calls {
    /// All of them.
    pub(super) made: u64,
    /// With a result.
    pub(super) answered: u64,
    /// Without one, by class.
    pub(super) failed: Failed,
}

/// What happened at one server.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerReport {
    /// Its name.
    pub(super) name: String,
    /// `stdio` or `http`.
    pub(super) transport: &'static str,
    /// The MCP revision it speaks.
    pub(super) protocol: &'static str,
    /// The era of the client that called it.
    pub(super) client: &'static str,
    /// Its calls.
    pub(super) calls: Calls,
    /// Calls it executed more than once.
    pub(super) executed_twice: u64,
    /// Calls that were answered although it did not execute them.
    pub(super) answered_not_executed: u64,
    /// Calls whose outcome was unknown and that it did execute.
    pub(super) unknown_executed: u64,
    /// What was done to it.
    pub(super) breaks: Vec<BreakReport>,
}

/// One break.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BreakReport {
    /// What was done.
    #[serde(rename = "break")]
    pub(super) kind: BreakKind,
    /// When, since the start.
    pub(super) at_ms: u64,
    /// From the break to the next answered call; absent if there was none.
    pub(super) recovered_ms: Option<u64>,
    /// The server's generation before the break.
    pub(super) generation_before: u64,
    /// Its generation when it answered again; the same if its connection survived.
    pub(super) generation_after: u64,
    /// Ended by the user before it could recover: counts neither way.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) abandoned: bool,
}

impl ServerReport {
    /// Adds what the server's ledger says about how often each call was executed.
    ///
    /// # Errors
    /// When the ledger cannot be read. A server that never wrote one has executed nothing.
    pub(super) fn read_ledger(&mut self, ledger: &Path, outcomes: &[Outcome]) -> io::Result<()> {
        let mut executed = vec![0_u8; outcomes.len()];
        let mut strange = BTreeMap::<String, u64>::new();
        let lines = match File::open(ledger) {
            Ok(file) => Some(BufReader::new(file).lines()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        for line in lines.into_iter().flatten() {
            let line = line?;
            match traffic::number(&self.name, &line).and_then(|n| executed.get_mut(n)) {
                Some(times) => *times = times.saturating_add(1),
                // A call that was abandoned at the end has no outcome; it still must not run twice.
                None => *strange.entry(line).or_default() += 1,
            }
        }
        let twice = executed.iter().filter(|times| **times > 1).count()
            + strange.values().filter(|times| **times > 1).count();
        let with = |outcome: Outcome, ran: bool| {
            outcomes
                .iter()
                .zip(&executed)
                .filter(|(ended, times)| **ended == outcome && (**times > 0) == ran)
                .count() as u64
        };
        self.executed_twice = twice as u64;
        self.answered_not_executed = with(Outcome::Answered, false);
        self.unknown_executed = with(Outcome::Unknown, true);
        Ok(())
    }
}

impl Report {
    /// Adds up the servers.
    pub(super) fn new(elapsed_ms: u64, interrupted: bool, servers: Vec<ServerReport>) -> Self {
        let breaks = || {
            servers
                .iter()
                .flat_map(|server| &server.breaks)
                .filter(|broken| !broken.abandoned)
        };
        let calls = servers.iter().fold(Calls::default(), |sum, server| Calls {
            made: sum.made + server.calls.made,
            answered: sum.answered + server.calls.answered,
            failed: sum.failed.plus(server.calls.failed),
        });
        Self {
            elapsed_ms,
            interrupted,
            calls,
            executed_twice: servers.iter().map(|server| server.executed_twice).sum(),
            answered_not_executed: servers
                .iter()
                .map(|server| server.answered_not_executed)
                .sum(),
            recovered: breaks()
                .filter(|broken| broken.recovered_ms.is_some())
                .count() as u64,
            not_recovered: breaks()
                .filter(|broken| broken.recovered_ms.is_none())
                .count() as u64,
            servers,
        }
    }

    /// How the demo ends.
    pub(super) fn exit(&self) -> Exit {
        if self.executed_twice > 0 || self.answered_not_executed > 0 {
            Exit::DemoWrong
        } else if self.not_recovered > 0 || self.calls.answered == 0 {
            Exit::DemoUnrecovered
        } else {
            Exit::Ok
        }
    }

    /// The summary for people: a few lines, the verdict last.
    pub(super) fn summary(&self) -> String {
        let mut text = String::new();
        for server in &self.servers {
            for broken in &server.breaks {
                let outcome = match broken.recovered_ms {
                    Some(ms) => format!("answered again after {}", seconds(ms)),
                    None if broken.abandoned => "not awaited".to_owned(),
                    None => "DID NOT COME BACK".to_owned(),
                };
                text.push_str(&format!(
                    "{:<10} {:<8} {outcome}\n",
                    server.name,
                    broken.kind.word()
                ));
            }
        }
        let times: Vec<u64> = self
            .servers
            .iter()
            .flat_map(|server| &server.breaks)
            .filter_map(|broken| broken.recovered_ms)
            .collect();
        let slowest = times
            .iter()
            .max()
            .map(|ms| format!(" (slowest {})", seconds(*ms)))
            .unwrap_or_default();
        text.push_str(&format!(
            "{} calls answered, {} failed ({}); {} executed twice; {} of {} breaks recovered{slowest}",
            self.calls.answered,
            self.calls.failed.total(),
            self.calls.failed.words(),
            self.executed_twice,
            self.recovered,
            self.recovered + self.not_recovered,
        ));
        if self.answered_not_executed > 0 {
            text.push_str(&format!(
                "; {} answered but never executed",
                self.answered_not_executed
            ));
        }
        text
    }
}

/// `0.31 s`
pub(super) fn seconds(ms: u64) -> String {
    format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(breaks: Vec<BreakReport>) -> ServerReport {
        ServerReport {
            name: "stdio".to_owned(),
            transport: "stdio",
            protocol: "2025-11-25",
            client: "legacy",
            calls: Calls {
                made: 3,
                answered: 2,
                failed: Failed {
                    unknown: 1,
                    ..Failed::default()
                },
            },
            executed_twice: 0,
            answered_not_executed: 0,
            unknown_executed: 0,
            breaks,
        }
    }

    fn broken(recovered_ms: Option<u64>) -> BreakReport {
        BreakReport {
            kind: BreakKind::Kill,
            at_ms: 2_000,
            recovered_ms,
            generation_before: 1,
            generation_after: 2,
            abandoned: false,
        }
    }

    #[test]
    fn the_ledger_finds_what_ran_twice_and_what_never_ran() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let outcomes = [
            Outcome::Answered,
            Outcome::Unknown,
            Outcome::Answered,
            Outcome::Unknown,
        ];
        std::fs::write(&path, "stdio-0\nstdio-1\nstdio-0\nstdio-9\n").unwrap();
        let mut server = server(vec![]);
        server.read_ledger(&path, &outcomes).unwrap();
        assert_eq!(
            (
                server.executed_twice,
                server.answered_not_executed,
                server.unknown_executed
            ),
            (1, 1, 1)
        );
        std::fs::write(&path, "stdio-0\nstdio-2\nstdio-9\nstdio-9\n").unwrap();
        server.read_ledger(&path, &outcomes).unwrap();
        assert_eq!(
            (
                server.executed_twice,
                server.answered_not_executed,
                server.unknown_executed
            ),
            (1, 0, 0)
        );
        server
            .read_ledger(&dir.path().join("absent"), &outcomes)
            .unwrap();
        assert_eq!(
            (server.executed_twice, server.answered_not_executed),
            (0, 2)
        );
    }

    #[test]
    fn the_verdict_follows_from_the_worst() {
        let good = Report::new(
            30_000,
            false,
            vec![server(vec![broken(Some(310)), broken(Some(1_200))])],
        );
        assert_eq!(good.exit(), Exit::Ok);
        assert!(good.summary().ends_with(
            "2 calls answered, 1 failed (1 outcome unknown); 0 executed twice; 2 of 2 breaks recovered (slowest 1.20 s)"
        ));
        let lost = Report::new(
            30_000,
            false,
            vec![server(vec![broken(Some(310)), broken(None)])],
        );
        assert_eq!(
            (lost.exit(), lost.not_recovered),
            (Exit::DemoUnrecovered, 1)
        );
        let abandoned = BreakReport {
            abandoned: true,
            ..broken(None)
        };
        assert_eq!(
            Report::new(1, true, vec![server(vec![abandoned])]).exit(),
            Exit::Ok
        );
        let mut twice = server(vec![broken(None)]);
        twice.executed_twice = 1;
        assert_eq!(
            Report::new(30_000, false, vec![twice]).exit(),
            Exit::DemoWrong
        );
    }
}
