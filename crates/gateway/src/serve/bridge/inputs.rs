//! The two texts of an input-required exchange: what is asked (`inputRequests`) and what is answered (`inputResponses`).

use mainstay_wire::{Message, json_string, method, raw};

/// Where a legacy server may name the key under which its request is to be asked.
const KEY_HINT: &str = "io.mainstay/inputKey";
const KEY_HINT_CHARS_MAX: usize = 64;

/// What a client can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Elicitation,
    Sampling,
    Roots,
}

impl Kind {
    /// The kind of a request of a server; `None` if clients of the modern era cannot be asked that.
    pub(crate) fn of(method: &str) -> Option<Self> {
        match method {
            method::ELICITATION_CREATE => Some(Self::Elicitation),
            method::SAMPLING_CREATE => Some(Self::Sampling),
            method::ROOTS_LIST => Some(Self::Roots),
            _ => None,
        }
    }

    /// The beginning of the keys that we make up.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Elicitation => "elicitation",
            Self::Sampling => "sampling",
            Self::Roots => "roots",
        }
    }

    /// Whether an answer has the shape that a server can expect.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check(self, answer: &str) -> Result<(), &'static str> {
        let member = |name: &str| raw::member(answer, &[name]);
        let is_string = |name: &str| member(name).and_then(raw::string).is_some();
        if !raw::is_object(answer) {
            return Err("it must be an object");
        }
        match self {
            Self::Elicitation => match member("action").and_then(raw::string).as_deref() {
                Some("accept" | "decline" | "cancel") => match member("content") {
                    Some(content) if content != "null" && !raw::is_object(content) => {
                        Err("`content` must be an object")
                    }
                    Some(_) | None => Ok(()),
                },
                Some(_) | None => Err("`action` must be \"accept\", \"decline\" or \"cancel\""),
            },
            Self::Sampling => {
                let content = member("content").is_some_and(|content| {
                    raw::is_object(content) || raw::elements(content).is_some()
                });
                if content && is_string("role") && is_string("model") {
                    Ok(())
                } else {
                    Err("`role`, `model` and `content` are required")
                }
            }
            Self::Roots => match member("roots").and_then(raw::elements) {
                Some(_) => Ok(()),
                None => Err("`roots` must be an array"),
            },
        }
    }
}

/// The key that a server hints at in a request of its own, if it is a sane one.
pub(crate) fn hinted_key(request: &Message) -> Option<String> {
    let key = request.string_member(&["params", "_meta", KEY_HINT])?;
    let sane = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    let fits = (1..=KEY_HINT_CHARS_MAX).contains(&key.len()) && key.chars().all(sane);
    fits.then(|| key.into_owned())
}

/// The parameters of a legacy server's request as a modern client is to read them: without what only meant something on
/// the connection that they came on. Unknown members stay. `None`: there are none.
pub(crate) fn modern_params(request: &Message) -> Option<String> {
    request.params()?;
    let mut editor = request
        .edit()
        .remove(&["params", "elicitationId"])
        .remove(&["params", "task"]);
    if let Some(meta) = request.member(&["params", "_meta"]) {
        let ours = |key: &str| {
            matches!(
                key,
                KEY_HINT | "progressToken" | mainstay_wire::meta::RELATED_TASK
            )
        };
        let members = raw::members(meta);
        if members.iter().all(|(key, _)| ours(key)) {
            editor = editor.remove(&["params", "_meta"]);
        } else {
            for (key, _) in members.iter().filter(|(key, _)| ours(key)) {
                editor = editor.remove(&["params", "_meta", key]);
            }
        }
    }
    // A member that occurs twice cannot be edited; then the parameters go as they came.
    let edited = editor.apply();
    let edited = edited.as_ref().unwrap_or(request);
    edited.params().map(str::to_owned)
}

/// One entry of `inputRequests`.
pub(crate) fn request_entry(key: &str, method: &str, params: Option<&str>) -> String {
    let key = json_string(key);
    let method = json_string(method);
    match params {
        Some(params) => format!("{key}:{{\"method\":{method},\"params\":{params}}}"),
        None => format!("{key}:{{\"method\":{method}}}"),
    }
}

/// The result that asks a modern client for input.
pub(crate) fn required_result(entries: &[String], state: &str, info: &str) -> String {
    format!(
        "{{\"resultType\":\"input_required\",\"inputRequests\":{{{}}},\"requestState\":{},\"_meta\":{{\"{}\":{info}}}}}",
        entries.join(","),
        json_string(state),
        mainstay_wire::meta::SERVER_INFO
    )
}

/// The answers of a request as key and raw JSON; empty if there are none.
///
/// # Errors
/// `inputResponses` is neither an object nor absent nor null.
pub(crate) fn responses(request: &Message) -> Result<Vec<(String, String)>, &'static str> {
    match request.member(&["params", "inputResponses"]) {
        None | Some("null") => Ok(Vec::new()),
        Some(answers) if raw::is_object(answers) => Ok(raw::members(answers)
            .into_iter()
            .map(|(key, answer)| (key.into_owned(), answer.to_owned()))
            .collect()),
        Some(_) => Err("`params.inputResponses` must be an object"),
    }
}

/// The last answer under a key.
pub(crate) fn find<'a>(answers: &'a [(String, String)], key: &str) -> Option<&'a str> {
    answers
        .iter()
        .rev()
        .find(|(other, _)| other == key)
        .map(|(_, answer)| answer.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_wire::Id;

    #[test]
    fn answers_have_the_shape_of_their_question() {
        for (kind, answer, good) in [
            (
                Kind::Elicitation,
                r#"{"action":"accept","content":{"a":1}}"#,
                true,
            ),
            (Kind::Elicitation, r#"{"action":"decline"}"#, true),
            (
                Kind::Elicitation,
                r#"{"action":"cancel","content":null}"#,
                true,
            ),
            (
                Kind::Elicitation,
                r#"{"action":"accept","content":[1]}"#,
                false,
            ),
            (Kind::Elicitation, r#"{"action":"maybe"}"#, false),
            (Kind::Elicitation, r#"{"content":{}}"#, false),
            (Kind::Elicitation, "12345", false),
            (Kind::Elicitation, "null", false),
            (
                Kind::Sampling,
                r#"{"role":"assistant","model":"m","content":{"type":"text"}}"#,
                true,
            ),
            (
                Kind::Sampling,
                r#"{"role":"assistant","model":"m","content":[]}"#,
                true,
            ),
            (
                Kind::Sampling,
                r#"{"role":"assistant","content":{}}"#,
                false,
            ),
            (
                Kind::Sampling,
                r#"{"role":"assistant","model":"m","content":"x"}"#,
                false,
            ),
            (Kind::Roots, r#"{"roots":[]}"#, true),
            (Kind::Roots, r#"{"roots":{}}"#, false),
            (Kind::Roots, "[]", false),
        ] {
            assert_eq!(kind.check(answer).is_ok(), good, "{kind:?} {answer}");
        }
    }

    #[test]
    fn a_legacy_request_loses_only_what_a_modern_client_cannot_use() {
        let request =
            |params: &str| Message::request(&Id::number(1), "elicitation/create", Some(params));
        for (before, after) in [
            (
                r#"{"mode":"url","elicitationId":"e","url":"https://x","n":1.10}"#,
                r#"{"mode":"url","url":"https://x","n":1.10}"#,
            ),
            (
                r#"{"message":"m","_meta":{"io.mainstay/inputKey":"k","progressToken":1}}"#,
                r#"{"message":"m"}"#,
            ),
            (
                r#"{"message":"m","_meta":{"io.mainstay/inputKey":"k","v":1.10}}"#,
                r#"{"message":"m","_meta":{"v":1.10}}"#,
            ),
        ] {
            assert_eq!(modern_params(&request(before)).as_deref(), Some(after));
        }
        assert_eq!(
            modern_params(&Message::request(&Id::number(1), "roots/list", None)),
            None
        );
    }

    #[test]
    fn only_sane_hints_become_keys() {
        let hint = |key: &str| {
            let params = format!("{{\"_meta\":{{\"io.mainstay/inputKey\":{key}}}}}");
            hinted_key(&Message::request(
                &Id::number(1),
                "roots/list",
                Some(&params),
            ))
        };
        assert_eq!(hint("\"user_name\"").as_deref(), Some("user_name"));
        let long = format!("\"{}\"", "k".repeat(65));
        for insane in ["\"\"", "1", "\"a b\"", "\"a\\nb\"", long.as_str(), "null"] {
            assert_eq!(hint(insane), None, "{insane}");
        }
    }
}
