//! What was recorded, for `events` and `calls` alike: from the memory of the running Mainstay, from its journal on disk,
//! and as it happens.
//!
//! Knows when a record was made and whose it is; what it says is the commands' business.

use std::collections::VecDeque;

use serde_json::Value;

use super::client::{AdminClient, segment};
use super::follow::{Follower, Heard};
use super::signals::Signals;
use crate::cli::human::{self, now_unix_ms};
use crate::cli::output::Output;
use crate::exit::{Exit, Stop};

/// Records that one answer of the journal holds at most.
const JOURNAL_MAX: usize = 10_000;
/// Records of the memory that are asked for when it may hold what is looked for: more than it keeps.
const MEMORY_MAX: usize = 100_000;
/// Records that a follower knows again after a restart.
const KNOWN_MAX: usize = 1_024;

/// Which records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What happened.
    Events,
    /// Calls that were made.
    Calls,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Calls => "calls",
        }
    }

    /// The live ones, after the last `recent`.
    pub(super) fn stream(self, recent: usize) -> String {
        match self {
            Self::Events => format!("/api/v1/events?recent={recent}"),
            Self::Calls => format!("/api/v1/calls?recent={recent}&follow=1"),
        }
    }

    /// The last `recent` in one answer.
    fn memory(self, recent: usize) -> String {
        match self {
            Self::Events => format!("/api/v1/events?recent={recent}&follow=0"),
            Self::Calls => format!("/api/v1/calls?recent={recent}"),
        }
    }
}

/// What is looked for.
pub(super) struct Query<'q> {
    pub(super) client: AdminClient,
    pub(super) kind: Kind,
    /// From when on, in milliseconds since 1970.
    pub(super) since: Option<u64>,
    /// How many of the last ones, without `since`.
    pub(super) last: usize,
    /// Only those of these servers; empty: of all.
    pub(super) servers: &'q [String],
    /// What else must hold.
    pub(super) holds: &'q (dyn Fn(&Value) -> bool + Sync),
}

impl Query<'_> {
    /// Reads `--since`.
    ///
    /// # Errors
    /// Exit 2 for what is no time.
    pub(super) fn since(text: Option<&str>) -> Result<Option<u64>, Stop> {
        text.map(|text| human::parse_since(text, now_unix_ms()))
            .transpose()
            .map_err(|why| {
                Stop::new(Exit::Usage, why).hint("for example --since 10m, or --since 22:15")
            })
    }

    /// Checks the names of servers. Those of the past may be gone by now.
    ///
    /// # Errors
    /// Exit 5 when no Mainstay is running, 6 for a server that is not there and is not looked for in the past.
    pub(super) async fn known(&self) -> Result<(), Stop> {
        for name in self.servers {
            let path = format!("/api/v1/servers/{}", segment(name));
            let reply = self.client.get(&path).await?;
            if self.since.is_none() {
                reply.ok()?;
            }
        }
        Ok(())
    }

    fn wanted(&self, record: &Value) -> bool {
        let server = record["server"].as_str().unwrap_or_default();
        (self.servers.is_empty() || self.servers.iter().any(|name| name == server))
            && self
                .since
                .is_none_or(|since| at(record).is_none_or(|at| at >= since))
            && (self.holds)(record)
    }

    /// What is looked for and was recorded by now, the oldest first.
    ///
    /// # Errors
    /// Exit 5 when no Mainstay is running.
    pub(super) async fn past(&self, output: Output) -> Result<Vec<Value>, Stop> {
        let mut records = self.memory().await?;
        if let Some(since) = self.since {
            let reaches_back = records.first().and_then(at).is_some_and(|at| at < since);
            if !reaches_back {
                records = self.with_journal(records, since, output).await?;
            }
        }
        records.retain(|record| self.wanted(record));
        if self.since.is_none() {
            records.drain(..records.len().saturating_sub(self.last));
        }
        Ok(records)
    }

    async fn memory(&self) -> Result<Vec<Value>, Stop> {
        let mut answer = self.client.get(&self.kind.memory(MEMORY_MAX)).await?.ok()?;
        Ok(listed(answer[self.kind.word()].take()))
    }

    /// Adds what the journal on disk has beyond `records`.
    async fn with_journal(
        &self,
        records: Vec<Value>,
        since: u64,
        output: Output,
    ) -> Result<Vec<Value>, Stop> {
        let mut path = format!(
            "/api/v1/journal?kind={}&since={since}&limit={JOURNAL_MAX}",
            self.kind.word()
        );
        if let [server] = self.servers {
            path.push_str(&format!("&server={}", segment(server)));
        }
        let reply = self.client.get(&path).await?;
        if !reply.status.is_success() {
            // Not kept: what is in memory is all there is.
            let word = self.kind.word();
            output.warn(
                &format!("{word} from before this Mainstay's start are not kept"),
                Some("give it a --state-dir, and do not switch off `mainstay.journal`"),
            );
            return Ok(records);
        }
        let mut body = reply.body;
        if body["truncated"] == true {
            output.warn(
                &format!(
                    "there are more than {JOURNAL_MAX} {}; some are left out",
                    self.kind.word()
                ),
                Some("ask for less with a later --since or with --server"),
            );
        }
        let mut all = listed(body["records"].take());
        let kept: Vec<String> = all.iter().map(identity).collect();
        all.extend(
            records
                .into_iter()
                .filter(|record| !kept.contains(&identity(record))),
        );
        all.sort_by_key(|record| at(record).unwrap_or_default());
        Ok(all)
    }

    /// What was recorded, and then what is recorded, until interrupted.
    ///
    /// # Errors
    /// Exit 5 when no Mainstay is running at the start. Later one that ends is waited for.
    pub(super) async fn follow(
        &self,
        output: Output,
        mut show: impl FnMut(&Value) -> Result<(), Stop>,
    ) -> Result<Exit, Stop> {
        let mut signals = Signals::listen()?;
        // Subscribed first: what happens while the past is read is known again.
        let mut follower =
            Follower::open(self.client.clone(), self.kind.stream(KNOWN_MAX / 2)).await?;
        let mut known = Known::default();
        let past = self.past(output).await?;
        let from = past.first().and_then(at).unwrap_or(u64::MAX);
        for record in past {
            known.is_new(&record);
            show(&record)?;
        }
        // Of the stream's own past, nothing that was left out just now.
        let mut begins = from.min(now_unix_ms());
        loop {
            let heard = tokio::select! {
                // Cancel-safe: a signal stays pending in its stream.
                () = signals.next() => return Ok(Exit::Ok),
                // Cancel-safe: see there.
                heard = follower.next() => heard?,
            };
            match heard {
                Heard::Data(text) => {
                    let Ok(record) = serde_json::from_str::<Value>(&text) else {
                        continue;
                    };
                    if record["type"] == "lagged" {
                        let missed = record["missed"].as_u64().unwrap_or_default();
                        output.warn(&format!("{missed} {} were missed: they came faster than they could be printed", self.kind.word()), None);
                    } else if at(&record).is_none_or(|at| at >= begins)
                        && self.wanted(&record)
                        && known.is_new(&record)
                    {
                        show(&record)?;
                    }
                }
                Heard::Gone => {
                    output.note("the running Mainstay has ended; waiting for it to come back");
                    begins = known.newest.unwrap_or(begins);
                    follower.again(self.kind.stream(KNOWN_MAX / 2));
                }
                Heard::Back(away) => {
                    let away_ms = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
                    let told = self.missed(begins, &mut known, &mut show).await?;
                    output.note(&format!(
                        "Mainstay is back after {}; {told}",
                        human::span(away_ms)
                    ));
                }
            }
        }
    }

    /// What the journal has of the time in which nobody listened; says what became of it.
    async fn missed(
        &self,
        since: u64,
        known: &mut Known,
        show: &mut impl FnMut(&Value) -> Result<(), Stop>,
    ) -> Result<String, Stop> {
        let path = format!(
            "/api/v1/journal?kind={}&since={since}&limit={JOURNAL_MAX}",
            self.kind.word()
        );
        let word = self.kind.word();
        let reply = match self.client.get(&path).await {
            Ok(reply) if reply.status.is_success() => reply,
            Ok(_) | Err(_) => {
                return Ok(format!(
                    "{word} of the time before it came back were missed"
                ));
            }
        };
        let mut count = 0;
        for record in reply.body["records"].as_array().into_iter().flatten() {
            if self.wanted(record) && known.is_new(record) {
                show(record)?;
                count += 1;
            }
        }
        Ok(match count {
            0 => format!("no {word} were missed"),
            count => format!("{count} {word} of the meantime are shown above"),
        })
    }
}

/// When a record was made, in milliseconds since 1970.
pub(super) fn at(record: &Value) -> Option<u64> {
    record["atUnixMs"].as_u64()
}

/// What makes two records the same, whatever the journal adds to them.
pub(super) fn identity(record: &Value) -> String {
    const KEYS: [&str; 14] = [
        "atUnixMs",
        "server",
        "connection",
        "generation",
        "type",
        "from",
        "to",
        "version",
        "detail",
        "method",
        "tool",
        "traceId",
        "queuedMs",
        "servedMs",
    ];
    let parts: Vec<String> = KEYS.iter().map(|key| record[*key].to_string()).collect();
    parts.join("\n")
}

/// The newest records, so that none is shown twice.
#[derive(Debug, Default)]
struct Known {
    records: VecDeque<String>,
    newest: Option<u64>,
}

impl Known {
    /// Whether it was not seen before; from now on it was.
    fn is_new(&mut self, record: &Value) -> bool {
        let identity = identity(record);
        if self.records.contains(&identity) {
            return false;
        }
        if self.records.len() >= KNOWN_MAX {
            self.records.pop_front();
        }
        self.records.push_back(identity);
        self.newest = self.newest.max(at(record));
        true
    }
}

/// The members of a list; none of anything else.
fn listed(value: Value) -> Vec<Value> {
    if let Value::Array(all) = value {
        return all;
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_known_again_whatever_the_journal_adds() {
        let mut known = Known::default();
        let record = json!({ "atUnixMs": 5, "server": "a", "type": "transition", "to": "parked" });
        assert!(known.is_new(&record));
        let mut read = record.clone();
        read["v"] = 1.into();
        assert!(!known.is_new(&read));
        read["to"] = "backoff".into();
        assert!(known.is_new(&read));
        assert_eq!(known.newest, Some(5));
    }
}
