//! Plays one scenario: the client's calls, and what happens to the upstream meanwhile. Judges nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::client::{Client, NoAnswer, Outcome};
use super::ledger::Account;
use super::scenario::{Act, Do, Scenario};
use super::target::Target;
use super::upstream::Upstream;
use crate::cli::chaos::ChaosEra;
use crate::exit::Stop;

/// The pause between two calls: an eager agent.
const PACE: Duration = Duration::from_millis(50);
/// How long a call that is to be caught takes at the server.
const CAUGHT_MS: u64 = 3_000;
/// Between two looks at a target that does not serve yet, or at a ledger.
const LOOK: Duration = Duration::from_millis(50);
/// A greeting or a listing that takes longer is tried again.
const TRY_MAX: Duration = Duration::from_secs(10);

/// What the player needs to know beside the scenario.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The era of the client.
    pub(super) era: ChaosEra,
    /// For the target to serve and to list.
    pub(super) start: Duration,
    /// For one call.
    pub(super) call: Duration,
}

/// One call and how it ended.
#[derive(Debug)]
pub(super) struct Call {
    /// What the server wrote down when it executed it; absent for calls that are not counted.
    pub(super) marker: Option<String>,
    /// Whether an error is a good end.
    pub(super) risky: bool,
    /// How it ended; an answer with a wrong text is `Wrong`.
    pub(super) outcome: Outcome,
    /// Whether the answer was the one that was asked for.
    pub(super) right: bool,
    /// How long that took.
    pub(super) took: Duration,
}

/// A scenario, played.
#[derive(Debug, Default)]
pub(super) struct Played {
    /// The calls, in the order they were made.
    pub(super) calls: Vec<Call>,
    /// Moments at which the tools should have been listed and were not.
    pub(super) lost: Vec<String>,
    /// Why the target never served, or no longer does.
    pub(super) down: Option<String>,
}

/// Plays it.
///
/// # Errors
/// When the upstream cannot be broken: nothing can be said about the target then.
pub(super) async fn play(
    scenario: &Scenario,
    target: &mut Target,
    upstream: &mut Upstream,
    alone: bool,
    patience: Patience,
) -> Result<Played, Stop> {
    let mut played = Played::default();
    let client = match greet(target, patience).await {
        Ok(client) => client,
        Err(NoAnswer(why)) => {
            played.down = Some(why);
            return Ok(played);
        }
    };
    let until = Instant::now() + patience.start;
    let tools = match listed(&client, upstream.name(), alone, until).await {
        Ok(tools) => tools,
        Err(NoAnswer(why)) => {
            played.lost.push(format!("never listed: {why}"));
            return Ok(played);
        }
    };
    let mut player = Player {
        client,
        tools,
        alone,
        patience,
        markers: 0,
        played,
    };
    for step in scenario.steps {
        player.perform(*step, upstream).await?;
    }
    player.look("at the end", upstream.name()).await;
    Ok(player.played)
}

/// Greets until the target answers.
async fn greet(target: &mut Target, patience: Patience) -> Result<Client, NoAnswer> {
    let until = Instant::now() + patience.start;
    loop {
        let connecting = Client::connect(target.url(), patience.era);
        let why = match tokio::time::timeout(TRY_MAX, connecting).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(NoAnswer(why))) => why,
            Err(_late) => format!("no answer to a greeting in {} s", TRY_MAX.as_secs()),
        };
        if let Some(status) = target.ended() {
            return Err(NoAnswer(format!("the target ended by itself: {status}")));
        }
        if Instant::now() >= until {
            return Err(NoAnswer(why));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The target's names of the upstream's two tools.
#[derive(Debug, Clone)]
struct Tools {
    marker: String,
    echo: String,
}

/// Lists until the upstream's tools are there.
async fn listed(
    client: &Client,
    server: &str,
    alone: bool,
    until: Instant,
) -> Result<Tools, NoAnswer> {
    loop {
        let why = match tokio::time::timeout(TRY_MAX, client.tools()).await {
            Ok(Ok(names)) => match find_both(&names, server, alone) {
                Some(tools) => return Ok(tools),
                None => format!("not among {} tools", names.len()),
            },
            Ok(Err(NoAnswer(why))) => why,
            Err(_late) => format!("no answer to tools/list in {} s", TRY_MAX.as_secs()),
        };
        if Instant::now() >= until {
            return Err(NoAnswer(why));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn find_both(names: &[String], server: &str, alone: bool) -> Option<Tools> {
    Some(Tools {
        marker: find(names, server, "add_marker", alone)?,
        echo: find(names, server, "echo", alone)?,
    })
}

/// A target may put the server's name before the tool's, in its own manner: the shortest name that has both is it.
fn find(names: &[String], server: &str, tool: &str, alone: bool) -> Option<String> {
    let plain = |name: &str| -> String {
        let kept = name.chars().filter(|letter| letter.is_ascii_alphanumeric());
        kept.collect::<String>().to_ascii_lowercase()
    };
    let (server, tool) = (plain(server), plain(tool));
    names
        .iter()
        .filter(|name| {
            let name = plain(name);
            name.ends_with(&tool) && (alone || name.contains(&server))
        })
        .min_by_key(|name| name.len())
        .cloned()
}

struct Player {
    client: Client,
    tools: Tools,
    alone: bool,
    patience: Patience,
    markers: usize,
    played: Played,
}

impl Player {
    async fn perform(&mut self, step: Do, upstream: &mut Upstream) -> Result<(), Stop> {
        match step {
            Do::Calls(count) => self.one_by_one(upstream.name(), count, false).await,
            Do::Risky(count) => self.one_by_one(upstream.name(), count, true).await,
            Do::Together(count) => {
                let markers: Vec<String> = (0..count)
                    .map(|_| self.next_marker(upstream.name()))
                    .collect();
                let this = &*self;
                let calls = markers
                    .into_iter()
                    .map(|marker| this.call(marker, 0, false));
                let calls = join_all(calls).await;
                self.played.calls.extend(calls);
            }
            Do::Caught(act) => self.caught(act, upstream).await?,
            Do::Big(bytes) => self.big(bytes).await,
            Do::Act(act) => upstream.act(act).await?,
            Do::Pause(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Do::Listed => self.look("meanwhile", upstream.name()).await,
        }
        Ok(())
    }

    async fn one_by_one(&mut self, server: &str, count: u32, risky: bool) {
        for _ in 0..count {
            let marker = self.next_marker(server);
            let call = self.call(marker, 0, risky).await;
            self.played.calls.push(call);
            tokio::time::sleep(PACE).await;
        }
    }

    /// Calls, waits until the server executes it, and lets something happen.
    async fn caught(&mut self, act: Act, upstream: &mut Upstream) -> Result<(), Stop> {
        let marker = self.next_marker(upstream.name());
        let breaking = async {
            let until = Instant::now() + self.patience.call;
            let runs = |account: &Account| account.markers.contains_key(&marker);
            // A call that never reaches the server is broken too late, and reported by its own outcome.
            while !runs(&upstream.account()?) && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            upstream.act(act).await
        };
        let (call, broken) = tokio::join!(self.call(marker.clone(), CAUGHT_MS, true), breaking);
        broken?;
        self.played.calls.push(call);
        tokio::time::sleep(PACE).await;
        Ok(())
    }

    async fn call(&self, marker: String, ms: u64, risky: bool) -> Call {
        let began = Instant::now();
        let mut arguments = json!({ "marker": marker });
        if ms > 0 {
            arguments["ms"] = ms.into();
        }
        let outcome = self
            .client
            .call(&self.tools.marker, arguments, self.patience.call)
            .await;
        Call {
            right: !matches!(&outcome, Outcome::Answered(text) if *text != marker),
            marker: Some(marker),
            risky,
            outcome,
            took: began.elapsed(),
        }
    }

    async fn big(&mut self, bytes: usize) {
        let began = Instant::now();
        let text = "x".repeat(bytes);
        let arguments = json!({ "text": text });
        let outcome = self
            .client
            .call(&self.tools.echo, arguments, self.patience.call)
            .await;
        self.played.calls.push(Call {
            right: !matches!(&outcome, Outcome::Answered(answer) if *answer != text),
            marker: None,
            risky: false,
            // The text is as long as it was asked to be: nobody wants to read it again.
            outcome: match outcome {
                Outcome::Answered(_) => Outcome::Answered(String::new()),
                other @ (Outcome::Typed(_) | Outcome::Broken(_) | Outcome::Hung) => other,
            },
            took: began.elapsed(),
        });
    }

    /// Notes it if the tools are not listed right now.
    async fn look(&mut self, when: &str, server: &str) {
        let why = match tokio::time::timeout(self.patience.call, self.client.tools()).await {
            Ok(Ok(names)) if find_both(&names, server, self.alone).is_some() => return,
            Ok(Ok(names)) => format!("{} other tools", BTreeSet::from_iter(names).len()),
            Ok(Err(NoAnswer(why))) => why,
            Err(_late) => "no answer to tools/list".to_owned(),
        };
        self.played.lost.push(format!("not listed {when}: {why}"));
    }

    fn next_marker(&mut self, server: &str) -> String {
        self.markers += 1;
        format!("{server}-{}", self.markers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_found_under_the_names_that_targets_give_them() {
        let found = |names: &[&str], alone| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            find(&names, "http-session-lost", "add_marker", alone)
        };
        let is = |name: &str| Some(name.to_owned());
        assert_eq!(found(&["echo", "add_marker"], true), is("add_marker"));
        assert_eq!(found(&["add_marker"], false), None);
        for name in [
            "http-session-lost__add_marker",
            "http_session_lost_add_marker",
            "HttpSessionLost.addMarker",
        ] {
            assert_eq!(
                found(&["http-session-lost-400__add_marker", name], false),
                is(name)
            );
        }
    }
}
