//! Judges a scenario that was played: what the client saw against what the upstream wrote down.

use std::collections::BTreeSet;

use serde::Serialize;

use super::client::Outcome;
use super::ledger::Account;
use super::play::{Call, Played};
use super::scenario::{Scenario, seconds};

/// What became of a scenario, from good to bad. Where several are true, the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// Everything that was asked for.
    Survived,
    /// Survived, but too slowly.
    Slow,
    /// A call that had to be answered ended in an error of MCP.
    TypedError,
    /// A call ended in something that no MCP client can use.
    FailedCall,
    /// More starts, handshakes, listings or streams than asked for.
    Storm,
    /// Tools were not listed that should have been.
    LostTools,
    /// A call had no end.
    Hang,
    /// A process outlived the target.
    LeakedProcess,
    /// An answer was not the answer to its call, or answered a call that never ran.
    WrongAnswer,
    /// A call ran twice.
    ExecutedTwice,
    /// The target never served, or ended by itself.
    NoTarget,
}

impl Verdict {
    /// Every verdict, from good to bad.
    #[cfg(test)]
    pub(super) const ALL: [Self; 11] = [
        Self::Survived,
        Self::Slow,
        Self::TypedError,
        Self::FailedCall,
        Self::Storm,
        Self::LostTools,
        Self::Hang,
        Self::LeakedProcess,
        Self::WrongAnswer,
        Self::ExecutedTwice,
        Self::NoTarget,
    ];

    /// The word for people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Survived => "survived",
            Self::Slow => "slow",
            Self::TypedError => "typed error",
            Self::FailedCall => "failed call",
            Self::Storm => "storm",
            Self::LostTools => "lost tools",
            Self::Hang => "hang",
            Self::LeakedProcess => "leaked process",
            Self::WrongAnswer => "wrong answer",
            Self::ExecutedTwice => "executed twice",
            Self::NoTarget => "no target",
        }
    }

    /// What it means: one table cell.
    #[cfg(test)]
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Survived => "Everything that the scenario asks for.",
            Self::Slow => "As survived, but a call took longer than the scenario allows.",
            Self::TypedError => {
                "A call that had to be answered ended in an error that MCP has a form for."
            }
            Self::FailedCall => {
                "A call ended in something no MCP client can use: a broken connection, an HTTP error, no JSON."
            }
            Self::Storm => {
                "More starts, handshakes, listings or stream requests reached the upstream than the scenario allows."
            }
            Self::LostTools => "The upstream's tools were not listed when they should have been.",
            Self::Hang => "A call had no end within `--timeout`.",
            Self::LeakedProcess => {
                "A process of the upstream outlived the target, or the target itself would not end."
            }
            Self::WrongAnswer => {
                "An answer belonged to another call, or a call was answered that never ran."
            }
            Self::ExecutedTwice => "The upstream ran one call more than once.",
            Self::NoTarget => "The target never served, or ended by itself.",
        }
    }
}

/// A scenario, judged.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) name: &'static str,
    pub(super) verdict: Verdict,
    /// What is asked for.
    pub(super) criterion: String,
    /// Calls made.
    pub(super) calls: usize,
    /// Calls answered.
    pub(super) answered: usize,
    /// Executions at the upstream, of counted calls.
    pub(super) executions: usize,
    /// The slowest call, in milliseconds.
    pub(super) slowest_ms: u64,
    /// Processes of the upstream that were started.
    pub(super) starts: usize,
    /// `initialize` requests that the upstream got.
    pub(super) handshakes: usize,
    /// Listings (pages) that the upstream got.
    pub(super) listings: usize,
    /// GET and `subscriptions/listen` requests that the upstream got.
    pub(super) stream_requests: usize,
    /// What went wrong, in words.
    pub(super) notes: Vec<String>,
}

/// The findings so far.
struct Findings {
    verdict: Verdict,
    notes: Vec<String>,
}

impl Findings {
    fn add(&mut self, verdict: Verdict, note: String) {
        // The worst is told first.
        if verdict > self.verdict {
            self.notes.insert(0, note);
        } else {
            self.notes.push(note);
        }
        self.verdict = self.verdict.max(verdict);
    }
}

/// Judges. `leaked` describes the processes that outlived the target.
pub(super) fn judge(
    scenario: &Scenario,
    played: &Played,
    account: &Account,
    leaked: &[String],
) -> Report {
    let mut findings = Findings {
        verdict: Verdict::Survived,
        notes: Vec::new(),
    };
    if let Some(why) = &played.down {
        findings.add(Verdict::NoTarget, why.clone());
    }
    for call in &played.calls {
        judge_call(scenario, call, account, &mut findings);
    }
    for lost in &played.lost {
        findings.add(Verdict::LostTools, lost.clone());
    }
    for process in leaked {
        findings.add(Verdict::LeakedProcess, process.clone());
    }
    let limits = [
        (scenario.limits.starts_max, account.starts.len(), "starts"),
        (
            scenario.limits.greetings_max,
            account.greetings,
            "handshakes",
        ),
        (scenario.limits.lists_max, account.lists, "listings"),
        (
            scenario.limits.streams_max,
            account.streams,
            "stream requests",
        ),
    ];
    for (limit, count, what) in limits {
        if let Some(limit) = limit.filter(|limit| count > *limit) {
            findings.add(Verdict::Storm, format!("{count} {what}, more than {limit}"));
        }
    }
    // Many calls often end for one reason.
    let mut told = BTreeSet::new();
    findings.notes.retain(|note| told.insert(note.clone()));
    let ours: BTreeSet<&str> = played
        .calls
        .iter()
        .filter_map(|call| call.marker.as_deref())
        .collect();
    Report {
        name: scenario.name,
        verdict: findings.verdict,
        criterion: scenario.criterion(),
        calls: played.calls.len(),
        answered: played
            .calls
            .iter()
            .filter(|call| matches!(call.outcome, Outcome::Answered(_)))
            .count(),
        executions: account
            .markers
            .iter()
            .filter(|(marker, _)| ours.contains(marker.as_str()))
            .map(|(_, count)| count)
            .sum(),
        slowest_ms: played.calls.iter().map(took_ms).max().unwrap_or_default(),
        starts: account.starts.len(),
        handshakes: account.greetings,
        listings: account.lists,
        stream_requests: account.streams,
        notes: findings.notes,
    }
}

fn judge_call(scenario: &Scenario, call: &Call, account: &Account, findings: &mut Findings) {
    let executed = call
        .marker
        .as_ref()
        .map(|marker| account.markers.get(marker).copied().unwrap_or_default());
    let name = call.marker.as_deref().unwrap_or("a big call");
    if let Some(times) = executed.filter(|times| *times > 1) {
        findings.add(Verdict::ExecutedTwice, format!("{name} ran {times} times"));
    }
    match &call.outcome {
        Outcome::Answered(_) if !call.right => {
            findings.add(Verdict::WrongAnswer, format!("{name} got a wrong answer"));
        }
        Outcome::Answered(_) if executed == Some(0) => {
            findings.add(
                Verdict::WrongAnswer,
                format!("{name} was answered and never ran"),
            );
        }
        Outcome::Answered(_) => {}
        Outcome::Typed(_) if call.risky => {}
        Outcome::Typed(why) => findings.add(Verdict::TypedError, line(why)),
        Outcome::Broken(why) => findings.add(Verdict::FailedCall, line(why)),
        Outcome::Hung => {
            let waited = seconds(took_ms(call));
            findings.add(Verdict::Hang, format!("{name} had no end in {waited}"));
            return;
        }
    }
    if took_ms(call) > scenario.limits.slowest_ms {
        let took = seconds(took_ms(call));
        findings.add(Verdict::Slow, format!("{name} took {took}"));
    }
}

fn took_ms(call: &Call) -> u64 {
    u64::try_from(call.took.as_millis()).unwrap_or(u64::MAX)
}

/// The beginning of somebody's text, on one line.
fn line(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(240)
        .collect();
    if text.trim().is_empty() {
        "an error without words".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::scenarios::SCENARIOS;
    use super::*;

    fn call(n: usize, risky: bool, outcome: Outcome) -> Call {
        Call {
            marker: Some(format!("m{n}")),
            risky,
            right: true,
            outcome,
            took: Duration::from_millis(10),
        }
    }

    /// The verdict on one call that ran so many times.
    fn verdict(call: Call, ran: usize) -> Verdict {
        let mut account = Account::default();
        if let (Some(marker), 1..) = (&call.marker, ran) {
            account.markers.insert(marker.clone(), ran);
        }
        let played = Played {
            calls: vec![call],
            ..Played::default()
        };
        judge(&SCENARIOS[0], &played, &account, &[]).verdict
    }

    fn answered() -> Outcome {
        Outcome::Answered(String::new())
    }

    #[test]
    fn law_16_every_end_of_a_call_has_its_verdict() {
        let typed = || Outcome::Typed("gone".into());
        let broken = || Outcome::Broken("reset".into());
        assert_eq!(verdict(call(1, false, answered()), 1), Verdict::Survived);
        assert_eq!(
            verdict(call(1, false, answered()), 2),
            Verdict::ExecutedTwice
        );
        assert_eq!(verdict(call(1, false, answered()), 0), Verdict::WrongAnswer);
        assert_eq!(verdict(call(1, false, typed()), 0), Verdict::TypedError);
        assert_eq!(verdict(call(1, true, typed()), 1), Verdict::Survived);
        assert_eq!(verdict(call(1, true, typed()), 2), Verdict::ExecutedTwice);
        assert_eq!(verdict(call(1, false, broken()), 0), Verdict::FailedCall);
        assert_eq!(verdict(call(1, true, broken()), 0), Verdict::FailedCall);
        assert_eq!(verdict(call(1, true, Outcome::Hung), 1), Verdict::Hang);
        let slow = Call {
            took: Duration::from_secs(6),
            ..call(1, false, answered())
        };
        assert_eq!(verdict(slow, 1), Verdict::Slow);
        let foreign = Call {
            right: false,
            ..call(1, false, answered())
        };
        assert_eq!(verdict(foreign, 1), Verdict::WrongAnswer);
    }

    #[test]
    fn what_is_not_a_call_counts_too() {
        let account = Account {
            starts: vec![1, 2],
            ..Account::default()
        };
        let idle = Played::default();
        let control = &SCENARIOS[0];
        assert_eq!(control.limits.starts_max, Some(1));
        assert_eq!(judge(control, &idle, &account, &[]).verdict, Verdict::Storm);
        let none = Account::default();
        let leaked = judge(control, &idle, &none, &["process 7".to_owned()]);
        assert_eq!(
            (leaked.verdict, leaked.notes.len()),
            (Verdict::LeakedProcess, 1)
        );
        let lost = Played {
            lost: vec!["x".into()],
            ..Played::default()
        };
        assert_eq!(
            judge(control, &lost, &none, &[]).verdict,
            Verdict::LostTools
        );
        let down = Played {
            down: Some("x".into()),
            ..Played::default()
        };
        assert_eq!(judge(control, &down, &none, &[]).verdict, Verdict::NoTarget);
    }

    #[test]
    fn verdicts_are_listed_from_good_to_bad() {
        assert!(Verdict::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
