//! What the tool `inquire` of the fake servers asks its caller for, in the words of either era.
//!
//! `rounds` holds lists of questions (`method`, `params`, and `key` for the modern era); a round is asked at once, the next
//! one when all answers are there. In the end the tool's text is the JSON list of all answers. `endless` never ends.

use serde_json::{Value, json};

/// One question.
pub(crate) struct Question {
    pub(crate) method: String,
    pub(crate) params: Option<Value>,
    pub(crate) key: String,
}

/// The questions of a round; `None`: there are no more rounds.
pub(crate) fn round(arguments: &Value, number: usize) -> Option<Vec<Question>> {
    let rounds = arguments["rounds"].as_array()?;
    let endless = arguments["endless"] == true;
    let at = if endless {
        number % rounds.len().max(1)
    } else {
        number
    };
    let questions = rounds.get(at)?.as_array()?;
    let question = |(place, question): (usize, &Value)| Question {
        method: question["method"].as_str().unwrap_or_default().to_owned(),
        params: question.get("params").cloned(),
        key: match question["key"].as_str() {
            Some(key) => key.to_owned(),
            None => format!("q{number}-{place}"),
        },
    };
    Some(questions.iter().enumerate().map(question).collect())
}

/// The result of a modern server: the next questions, or the text.
pub(crate) fn modern(params: &Value) -> Value {
    let arguments = &params["arguments"];
    let state = params["requestState"].as_str();
    let state: Option<Value> = state.and_then(|state| serde_json::from_str(state).ok());
    let mut number = 0;
    let mut answers = Vec::new();
    if let Some(state) = state {
        number = state["round"]
            .as_u64()
            .and_then(|round| usize::try_from(round).ok())
            .unwrap_or(0);
        answers = state["answers"].as_array().cloned().unwrap_or_default();
        let asked = round(arguments, number).unwrap_or_default();
        let given: Option<Vec<Value>> = asked
            .iter()
            .map(|question| params["inputResponses"].get(&question.key).cloned())
            .collect();
        if let Some(given) = given {
            answers.extend(given);
            number += 1;
        }
    }
    let Some(questions) = round(arguments, number) else {
        return text(&Value::Array(answers));
    };
    let mut requests = json!({});
    for question in questions {
        let mut request = json!({"method": question.method});
        if let Some(params) = question.params {
            request["params"] = params;
        }
        requests[question.key] = request;
    }
    let state = json!({"round": number, "answers": answers}).to_string();
    let mut result = json!({"resultType": "input_required", "requestState": state});
    if requests != json!({}) {
        result["inputRequests"] = requests;
    }
    result
}

/// The result of a call whose questions are answered.
pub(crate) fn text(answers: &Value) -> Value {
    json!({"content": [{"type": "text", "text": answers.to_string()}]})
}

/// The log messages of the tool `log`: one of each of its `levels`.
pub(crate) fn logs(arguments: &Value) -> Vec<Value> {
    let levels = arguments["levels"].as_array().cloned().unwrap_or_default();
    levels
        .iter()
        .map(|level| {
            json!({"jsonrpc": "2.0", "method": "notifications/message",
                "params": {"level": level, "logger": "fake", "data": level}})
        })
        .collect()
}
