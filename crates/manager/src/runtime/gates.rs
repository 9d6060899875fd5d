//! How often a server may ask clients for something (`asks`): one gate for all connections of a server, so that neither a
//! restart nor one more connection opens it wider.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use mainstay_wire::method;

use crate::config::{AskRule, AskRules};

/// The span of `perMinute`.
const MINUTE_MS: u64 = 60_000;

/// The gates of one server.
#[derive(Debug, Default)]
pub(crate) struct AskGates {
    rules: ArcSwap<AskRules>,
    sampling: Arc<Gate>,
    elicitation: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate(Mutex<Passed>);

#[derive(Debug, Default)]
struct Passed {
    /// When those of the last minute passed; no more than the rule allows.
    at_ms: VecDeque<u64>,
    open: u32,
}

/// Leave for one request. Dropped when it has its answer.
#[derive(Debug)]
pub(crate) struct Leave(Option<Arc<Gate>>);

impl Drop for Leave {
    fn drop(&mut self) {
        if let Some(gate) = &self.0 {
            let mut passed = gate.0.lock().unwrap_or_else(PoisonError::into_inner);
            passed.open = passed.open.saturating_sub(1);
        }
    }
}

impl AskGates {
    /// Makes these rules hold from now on.
    pub(crate) fn set(&self, rules: AskRules) {
        if **self.rules.load() != rules {
            self.rules.store(Arc::new(rules));
        }
    }

    /// Lets a request of the server through.
    ///
    /// # Errors
    /// What it is told, when the rule is against it.
    pub(crate) fn admit(&self, method: &str, now_ms: u64) -> Result<Leave, String> {
        let rules = self.rules.load();
        let (word, rule, gate) = match method {
            method::SAMPLING_CREATE => ("sampling", rules.sampling, &self.sampling),
            method::ELICITATION_CREATE => ("elicitation", rules.elicitation, &self.elicitation),
            _other => return Ok(Leave(None)),
        };
        match rule {
            AskRule::Allowed => Ok(Leave(None)),
            AskRule::Refused => Err(format!(
                "this server may not ask for {word} (setting `asks.{word}`)"
            )),
            AskRule::Limited {
                per_minute,
                at_once,
            } => gate
                .pass(per_minute, at_once, now_ms)
                .map(|()| Leave(Some(Arc::clone(gate))))
                .map_err(|limit| {
                    format!("too many requests for {word} (setting `asks.{word}.{limit}`)")
                }),
        }
    }
}

impl Gate {
    fn pass(
        &self,
        per_minute: Option<u32>,
        at_once: Option<u32>,
        now_ms: u64,
    ) -> Result<(), &'static str> {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if at_once.is_some_and(|max| passed.open >= max) {
            return Err("atOnce");
        }
        if let Some(max) = per_minute {
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            while passed
                .at_ms
                .front()
                .is_some_and(|at| at + MINUTE_MS <= now_ms)
            {
                passed.at_ms.pop_front();
            }
            if passed.at_ms.len() >= max {
                return Err("perMinute");
            }
            passed.at_ms.push_back(now_ms);
        }
        passed.open += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f258_a_gate_counts_what_is_open_and_what_passed_within_a_minute() {
        let gates = AskGates::default();
        let ask = |now_ms| gates.admit(method::SAMPLING_CREATE, now_ms);
        assert!(ask(0).is_ok(), "the default");
        gates.set(AskRules {
            sampling: AskRule::Limited {
                per_minute: Some(3),
                at_once: Some(2),
            },
            ..AskRules::default()
        });
        let (one, two) = (ask(0).unwrap(), ask(1).unwrap());
        assert!(ask(2).unwrap_err().contains("atOnce"));
        drop(one);
        let three = ask(3).unwrap();
        drop((two, three));
        assert!(ask(4).unwrap_err().contains("perMinute"));
        assert!(ask(59_999).is_err());
        assert!(ask(60_000).is_ok(), "the first is a minute old");
        assert!(ask(60_000).is_err(), "the second is not");
        assert!(gates.admit(method::ELICITATION_CREATE, 4).is_ok());
        gates.set(AskRules {
            sampling: AskRule::Refused,
            ..AskRules::default()
        });
        assert!(ask(900_000).unwrap_err().contains("`asks.sampling`"));
        assert!(gates.admit(method::ROOTS_LIST, 900_000).is_ok());
    }
}
