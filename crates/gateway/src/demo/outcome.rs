//! How a call ended, as its caller saw it (law 16), and the count of it.

use serde::Serialize;
use serde_json::Value;

/// How one call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The tool's result came back.
    Answered,
    /// The tool ran and reported an error.
    ToolError,
    /// The server answered with a JSON-RPC error of its own.
    ServerError,
    /// Mainstay never sent it.
    Refused,
    /// The server provably did not run it.
    Rejected,
    /// It was sent, and may have run.
    Unknown,
    /// The gateway itself gave no answer: this must never happen.
    NoAnswer,
}

impl Outcome {
    /// Reads a response of the gateway: its own errors name the outcome class in `data`.
    pub(super) fn of(answer: &Value) -> Self {
        if let Some(error) = answer.get("error") {
            return match error["data"]["outcome"].as_str() {
                Some("refused") => Self::Refused,
                Some("rejected") => Self::Rejected,
                Some("unknown") => Self::Unknown,
                Some(_) | None => Self::ServerError,
            };
        }
        match answer.get("result") {
            Some(result) if result["isError"] == true => Self::ToolError,
            Some(_) => Self::Answered,
            None => Self::NoAnswer,
        }
    }
}

impl Outcome {
    /// The class and the words that came with it; Mainstay's own words begin with the class.
    pub(super) fn told(self, words: &str) -> String {
        if words.starts_with(self.word()) {
            words.to_owned()
        } else {
            format!("{}: {words}", self.word())
        }
    }

    /// The class in words.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::ToolError => "tool error",
            Self::ServerError => "server error",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Unknown => "outcome unknown",
            Self::NoAnswer => "no answer from the gateway",
        }
    }
}

/// Calls by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failed {
    /// The tool ran and reported an error.
    pub(super) tool_error: u64,
    /// The server answered with an error of its own.
    pub(super) server_error: u64,
    /// Never sent.
    pub(super) refused: u64,
    /// Provably not run.
    pub(super) rejected: u64,
    /// Sent, and may have run.
    pub(super) unknown: u64,
    /// The gateway itself gave no answer.
    pub(super) no_answer: u64,
}

impl Failed {
    /// Counts one outcome; an answered call is no failure.
    pub(super) fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answered => {}
            Outcome::ToolError => self.tool_error += 1,
            Outcome::ServerError => self.server_error += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Rejected => self.rejected += 1,
            Outcome::Unknown => self.unknown += 1,
            Outcome::NoAnswer => self.no_answer += 1,
        }
    }

    /// All of them.
    pub(super) fn total(self) -> u64 {
        self.tool_error
            + self.server_error
            + self.refused
            + self.rejected
            + self.unknown
            + self.no_answer
    }

    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            tool_error: self.tool_error + other.tool_error,
            server_error: self.server_error + other.server_error,
            refused: self.refused + other.refused,
            rejected: self.rejected + other.rejected,
            unknown: self.unknown + other.unknown,
            no_answer: self.no_answer + other.no_answer,
        }
    }

    /// `2 unknown, 1 refused`, or `none`.
    pub(super) fn words(self) -> String {
        let named = [
            (self.unknown, Outcome::Unknown),
            (self.refused, Outcome::Refused),
            (self.rejected, Outcome::Rejected),
            (self.tool_error, Outcome::ToolError),
            (self.server_error, Outcome::ServerError),
            (self.no_answer, Outcome::NoAnswer),
        ];
        let words: Vec<String> = named
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, outcome)| format!("{count} {}", outcome.word()))
            .collect();
        if words.is_empty() {
            "none".to_owned()
        } else {
            words.join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn law_16_every_response_has_one_outcome() {
        let error = |data: Value| json!({ "id": 1, "error": { "code": -31_000, "message": "x", "data": data } });
        let cases = [
            (
                json!({ "id": 1, "result": { "content": [] } }),
                Outcome::Answered,
            ),
            (
                json!({ "id": 1, "result": { "content": [], "isError": true } }),
                Outcome::ToolError,
            ),
            (error(json!({ "outcome": "refused" })), Outcome::Refused),
            (error(json!({ "outcome": "rejected" })), Outcome::Rejected),
            (error(json!({ "outcome": "unknown" })), Outcome::Unknown),
            (error(Value::Null), Outcome::ServerError),
            (json!({ "id": 1 }), Outcome::NoAnswer),
        ];
        let mut failed = Failed::default();
        for (answer, outcome) in cases {
            assert_eq!(Outcome::of(&answer), outcome, "{answer}");
            failed.count(outcome);
        }
        assert_eq!(failed.total(), 6);
        assert_eq!(failed.plus(failed).total(), 12);
    }

    #[test]
    fn words_name_only_what_happened() {
        assert_eq!(Failed::default().words(), "none");
        assert_eq!(
            Failed {
                unknown: 2,
                refused: 1,
                ..Failed::default()
            }
            .words(),
            "2 outcome unknown, 1 refused"
        );
    }
}
