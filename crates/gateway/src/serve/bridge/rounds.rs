//! A modern server that answers with `input_required`, called by a legacy client: the client is asked on its own response
//! stream, and the call is made again with the answers and the server's untouched `requestState`.
//!
//! A round happens only because the server asked for it; an attempt whose outcome is unknown ends the call (law 16).

use futures_util::future::join_all;
use mainstay::{Answer, Request};
use mainstay_wire::{Era, Id, Kind as MessageKind, Message, Revision, codes, json_string, raw};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::capability;
use super::inputs::Kind;
use super::legacy::{Course, Waiting, back_off};
use crate::serve::fault::{Fault, INPUT_MISSING, shown};

/// What a server asks for before it answers.
pub(crate) struct Required {
    questions: Vec<Question>,
    /// Raw JSON.
    state: Option<String>,
}

struct Question {
    key: String,
    method: String,
    params: Option<String>,
}

/// What an answer asks for; `None` if it is a result or an error.
pub(crate) fn required(answer: &Answer) -> Option<Required> {
    let message = &answer.message;
    let word = message.string_member(&["result", "resultType"]);
    if answer.era != Era::Modern || word.as_deref() != Some("input_required") {
        return None;
    }
    let requests = message.member(&["result", "inputRequests"]).unwrap_or("{}");
    let questions = raw::members(requests)
        .into_iter()
        .map(|(key, request)| Question {
            key: key.into_owned(),
            method: raw::string_member(request, &["method"])
                .unwrap_or_default()
                .into_owned(),
            params: raw::member(request, &["params"])
                .filter(|params| *params != "null")
                .map(str::to_owned),
        })
        .collect();
    Some(Required {
        questions,
        state: message
            .member(&["result", "requestState"])
            .filter(|state| *state != "null")
            .map(str::to_owned),
    })
}

/// The rounds of one call.
pub(crate) struct Rounds {
    original: Request,
    next: Request,
    count: u32,
    /// Rounds in a row in which there was nothing to ask.
    empty: u32,
    count_max: u32,
    deadline: Instant,
}

impl Rounds {
    pub(crate) fn new(original: Request, count_max: u32, deadline: Instant) -> Self {
        Self {
            next: original.clone(),
            original,
            count: 0,
            empty: 0,
            count_max,
            deadline,
        }
    }

    /// What is to be sent next.
    pub(crate) fn request(&self) -> Request {
        self.next.clone()
    }

    /// Gets what the server asks for, and prepares the next round. Cancel-safe: questions that were asked are forgotten.
    ///
    /// # Errors
    /// What to tell the client when there will be no next round.
    pub(crate) async fn answer(
        &mut self,
        course: &mut Course,
        required: &Required,
    ) -> Result<(), Fault> {
        self.count += 1;
        if self.count > self.count_max {
            tracing::warn!(server = %course.server.name(), rounds = self.count_max, "a server asks for input again and again");
            return Err(endless(self.count_max));
        }
        let mut next = self.original.clone();
        if required.questions.is_empty() {
            if required.state.is_none() {
                return Err(missing(
                    "the server asks for input and does not say for which",
                ));
            }
            self.pause().await?;
        } else {
            self.empty = 0;
            let answers = self.ask(course, &required.questions).await?;
            next = next.set(&["params", "inputResponses"], answers);
        }
        if let Some(state) = &required.state {
            next = next.set(&["params", "requestState"], state.clone());
        }
        self.next = next;
        Ok(())
    }

    /// The server only wants to be called again.
    async fn pause(&mut self) -> Result<(), Fault> {
        let until = Instant::now() + back_off(self.empty);
        self.empty += 1;
        if until >= self.deadline {
            return Err(late());
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    /// Asks the client everything at once and waits for all answers; the outcome is the `inputResponses` object.
    async fn ask(&self, course: &mut Course, questions: &[Question]) -> Result<String, Fault> {
        let revision = course.session.opening.revision;
        let declared = course.caller.face.capabilities.clone();
        for question in questions {
            question.check(&declared, revision)?;
        }
        let mut waiting: Vec<Waiting> = Vec::new();
        for question in questions {
            let asked = course.question(|id| question.request(id, revision));
            waiting.push(asked.ok_or_else(|| missing("the client does not listen any more"))?);
        }
        let all = join_all(waiting.iter_mut().map(Waiting::answer));
        // Cancel-safe: an answer that came stays with the one that waits for it, and is forgotten with it.
        let answers = tokio::time::timeout_at(self.deadline, all).await;
        let answers = answers.map_err(|_elapsed| late())?;
        let mut responses = Vec::new();
        for (question, answer) in questions.iter().zip(&answers) {
            let response = question.response(answer)?;
            responses.push(format!("{}:{response}", json_string(&question.key)));
        }
        Ok(format!("{{{}}}", responses.join(",")))
    }
}

impl Question {
    /// Whether the client can be asked this.
    fn check(&self, declared: &str, revision: Revision) -> Result<(), Fault> {
        let is_object = self.params.as_deref().is_none_or(raw::is_object);
        if Kind::of(&self.method).is_none() || !is_object {
            let text = format!(
                "the server asks the client for something that it cannot be asked: {}",
                shown(&self.method)
            );
            return Err(missing(text));
        }
        let Some(lacking) = capability::lacking(declared, &self.method, self.params.as_deref())
        else {
            return Ok(());
        };
        if self.is_url() {
            return Err(self.url_required(revision));
        }
        let text = format!(
            "the server needs input ({}) that the client did not declare to give",
            self.method
        );
        let needed: Value = serde_json::from_str(lacking).unwrap_or_default();
        Err(missing(text).with(json!({ "outcome": "answered", "requiredCapabilities": needed })))
    }

    fn is_url(&self) -> bool {
        self.param("mode").as_deref() == Some("url")
    }

    fn param(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        raw::string_member(self.params.as_deref()?, &[name])
    }

    /// A client that cannot be sent to an address is told of it in an error.
    fn url_required(&self, revision: Revision) -> Fault {
        let (url, words) = (
            self.param("url").unwrap_or_default(),
            self.param("message").unwrap_or_default(),
        );
        if revision < Revision::V2025_11_25 {
            return missing(format!(
                "the user must visit {url} first, then call again: {words}"
            ));
        }
        let elicitation = json!({
            "mode": "url",
            "elicitationId": minted(),
            "url": url,
            "message": words,
        });
        Fault::new(
            codes::URL_ELICITATION_REQUIRED,
            "the user must visit a URL first; then call again",
        )
        .with(json!({ "elicitations": [elicitation] }))
    }

    /// The request as this client is to read it.
    fn request(&self, id: &Id, revision: Revision) -> Message {
        let request = Message::request(id, &self.method, self.params.as_deref());
        let mut editor = request.edit();
        if self.is_url() {
            editor = editor.set(&["params", "elicitationId"], json_string(&minted()));
        } else if revision < Revision::V2025_11_25
            && Kind::of(&self.method) == Some(Kind::Elicitation)
        {
            // Forms were all there was, and choices had no titles of their own.
            editor = editor.remove(&["params", "mode"]);
            let properties = request.member(&["params", "requestedSchema", "properties"]);
            for (name, property) in raw::members(properties.unwrap_or("{}")) {
                if let Some(plain) = untitled(property) {
                    let path = ["params", "requestedSchema", "properties", &name];
                    editor = editor.set(&path, plain);
                }
            }
        }
        // A member that occurs twice cannot be edited; then the request goes as it came.
        editor.apply().unwrap_or(request)
    }

    /// The client's answer as the server is to read it.
    fn response(&self, answer: &Message) -> Result<String, Fault> {
        if let Some(result) = answer.result() {
            return Ok(result.to_owned());
        }
        if Kind::of(&self.method) == Some(Kind::Elicitation) {
            // Asked in vain is the same as dismissed.
            return Ok("{\"action\":\"cancel\"}".to_owned());
        }
        debug_assert_eq!(answer.kind(), MessageKind::Error);
        let error: Value = answer
            .error()
            .and_then(|error| serde_json::from_str(error).ok())
            .unwrap_or_default();
        let text = format!(
            "the server needs input ({}) that the client refused to give; nothing was completed",
            self.method
        );
        Err(missing(text).with(json!({ "outcome": "answered", "refused": error })))
    }
}

/// A choice with titles (`oneOf` of constants) in the words of 2025-06-18 (`enum` and `enumNames`). `None`: it is none.
fn untitled(property: &str) -> Option<String> {
    let choices = raw::elements(raw::member(property, &["oneOf"])?)?;
    let mut values = Vec::new();
    let mut names = Vec::new();
    for choice in choices {
        let value = raw::member(choice, &["const"])?;
        values.push(value);
        names.push(raw::member(choice, &["title"]).unwrap_or(value));
    }
    let mut members: Vec<String> = raw::members(property)
        .into_iter()
        .filter(|(name, _)| name != "oneOf")
        .map(|(name, value)| format!("{}:{value}", json_string(&name)))
        .collect();
    members.push(format!("\"enum\":[{}]", values.join(",")));
    members.push(format!("\"enumNames\":[{}]", names.join(",")));
    Some(format!("{{{}}}", members.join(",")))
}

/// An id for something that a person does elsewhere: unguessable, because it is shown to a server.
pub(crate) fn minted() -> String {
    let mut bytes = [0; 16];
    // Without random numbers it is not unguessable, and still an id.
    let _ = getrandom::fill(&mut bytes);
    format!("{:032x}", u128::from_ne_bytes(bytes))
}

/// The server needs input that it will not get.
fn missing(text: impl Into<String>) -> Fault {
    Fault::new(INPUT_MISSING, text).with(json!({ "outcome": "answered" }))
}

fn late() -> Fault {
    missing("the input that the server needs did not come before the deadline of the call")
}

/// F143: told to the client of a call whose server never has enough.
pub(crate) fn endless(rounds_max: u32) -> Fault {
    missing(format!(
        "the server asked for input {rounds_max} times and wants more; the call was given up"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(method: &str, params: &str) -> Question {
        Question {
            key: "k".to_owned(),
            method: method.to_owned(),
            params: Some(params.to_owned()),
        }
    }

    #[test]
    fn older_clients_get_choices_without_titles() {
        let form = question(
            "elicitation/create",
            r#"{"mode":"form","message":"m","requestedSchema":{"type":"object","properties":{"a":{"type":"string","oneOf":[{"const":"x","title":"X"},{"const":"y"}],"default":"x"},"n":{"type":"number","default":95.50}}}}"#,
        );
        let id = Id::number(1);
        assert_eq!(
            form.request(&id, Revision::V2025_06_18).params(),
            Some(
                r#"{"message":"m","requestedSchema":{"type":"object","properties":{"a":{"type":"string","default":"x","enum":["x","y"],"enumNames":["X","y"]},"n":{"type":"number","default":95.50}}}}"#
            )
        );
        assert_eq!(
            form.request(&id, Revision::V2025_11_25).params(),
            form.params.as_deref(),
            "untouched where they are known"
        );
    }

    #[test]
    fn a_url_gets_an_id_or_becomes_an_error_that_names_it() {
        let url = question(
            "elicitation/create",
            r#"{"mode":"url","message":"log in","url":"https://x/y"}"#,
        );
        let newest = Revision::V2025_11_25;
        let request = url.request(&Id::number(1), newest);
        let id = request.string_member(&["params", "elicitationId"]).unwrap();
        assert_eq!(id.len(), 32);
        assert!(url.check(r#"{"elicitation":{"url":{}}}"#, newest).is_ok());
        let fault = url.check(r#"{"elicitation":{}}"#, newest).unwrap_err();
        assert_eq!(fault.code, -32_042);
        assert_eq!(fault.data.unwrap()["elicitations"][0]["url"], "https://x/y");
        let fault = url.check("{}", Revision::V2025_06_18).unwrap_err();
        assert!(fault.code == INPUT_MISSING && fault.message.contains("https://x/y"));
    }

    #[test]
    fn what_a_client_cannot_be_asked_is_said() {
        let revision = Revision::V2025_11_25;
        let sampling = question("sampling/createMessage", "{}");
        let fault = sampling.check("{}", revision).unwrap_err();
        assert_eq!(
            fault.data.unwrap()["requiredCapabilities"],
            json!({"sampling": {}})
        );
        for wrong in [question("vendor/x", "{}"), question("roots/list", "5")] {
            let fault = wrong.check(r#"{"roots":{}}"#, revision).unwrap_err();
            assert_eq!(fault.code, INPUT_MISSING);
        }
    }

    #[test]
    fn a_dismissed_form_is_an_answer_and_a_refused_sampling_is_none() {
        let error = Message::error_of(Some(&Id::number(1)), -1, "no", None);
        let form = question("elicitation/create", "{}");
        assert_eq!(form.response(&error).unwrap(), r#"{"action":"cancel"}"#);
        let sampling = question("sampling/createMessage", "{}");
        let fault = sampling.response(&error).unwrap_err();
        assert_eq!(fault.data.unwrap()["refused"]["message"], "no");
    }
}
