//! What tells one connection of a server from another: what callers declare, in one form whatever way they wrote it.

use std::sync::Arc;

use mainstay_wire::revision::Era;
use serde_json::{Map, Value};

use crate::request::ClientFace;

/// Capabilities longer than this are refused: a server would have to read them with every greeting.
const CAPABILITIES_BYTES_MAX: usize = 64 * 1024;

/// Capabilities that mean something to a server even when nothing more is said about them.
const USEFUL_WHEN_EMPTY: [&str; 4] = ["elicitation", "roots", "sampling", "tasks"];

/// Which connection of a server. A struct, because what separates callers will grow by their credentials.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// The one client that it serves; `None`: every caller that declares these capabilities.
    pub(crate) client: Option<Arc<str>>,
    /// The capabilities object that it declares, in one form.
    pub(crate) capabilities: Arc<str>,
    /// The era that it is greeted in first; `None`: the server's own.
    pub(crate) era: Option<Era>,
    /// Which of several for the same callers.
    pub(crate) lane: usize,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What names a client may be all that it takes to speak as that client (law 31).
        f.debug_struct("Key")
            .field("client", &self.client.as_ref().map(|_| "…"))
            .field("capabilities", &self.capabilities)
            .field("era", &self.era)
            .field("lane", &self.lane)
            .finish()
    }
}

impl Key {
    /// The same with another lane.
    pub(crate) fn at(&self, lane: usize) -> Self {
        Self {
            lane,
            ..self.clone()
        }
    }
}

/// What a caller declares.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    /// The capabilities object in one form: members sorted, no spaces.
    pub(crate) text: Arc<str>,
    /// A server could use any of it.
    pub(crate) useful: bool,
}

impl Declared {
    /// Reads what a caller declares.
    ///
    /// # Errors
    /// In words: it is no object, or too large.
    pub(crate) fn of(face: &ClientFace) -> Result<Self, String> {
        let given = &face.capabilities;
        if given.len() > CAPABILITIES_BYTES_MAX {
            return Err(format!(
                "the client's capabilities have {} bytes, more than {CAPABILITIES_BYTES_MAX}",
                given.len()
            ));
        }
        match serde_json::from_str(given) {
            Ok(Value::Object(members)) => Ok(Self {
                useful: members.iter().any(|(name, value)| is_useful(name, value)),
                text: Value::Object(sorted(members)).to_string().into(),
            }),
            Ok(_) => Err("the client's capabilities are not an object".to_owned()),
            Err(error) => Err(format!("the client's capabilities cannot be read: {error}")),
        }
    }

    /// Their names, sorted.
    pub(crate) fn names(text: &str) -> Vec<String> {
        let members: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
        members.into_iter().map(|(name, _)| name).collect()
    }
}

fn is_useful(name: &str, value: &Value) -> bool {
    let says_something = match value {
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Null | Value::Bool(false) => return false,
        Value::Bool(true) | Value::Number(_) | Value::String(_) => true,
    };
    says_something || USEFUL_WHEN_EMPTY.contains(&name)
}

/// The order of members means nothing (and whether the parser keeps it depends on who else is built with us).
fn sorted(members: Map<String, Value>) -> Map<String, Value> {
    let mut members: Vec<(String, Value)> = members.into_iter().collect();
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    members
        .into_iter()
        .map(|(name, value)| (name, in_order(value)))
        .collect()
}

/// No deeper than the parser went, which has a limit of its own.
fn in_order(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(sorted(members)),
        Value::Array(items) => Value::Array(items.into_iter().map(in_order).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(text: &str) -> Result<Declared, String> {
        Declared::of(&ClientFace {
            capabilities: text.into(),
            ..ClientFace::default()
        })
    }

    #[test]
    fn the_order_of_members_and_spaces_make_no_other_connection() {
        let one =
            r#"{"sampling": {"tools": {}, "context": {}}, "elicitation": {"url": {}, "form": {}}}"#;
        let other = r#"{"elicitation":{"form":{},"url":{}},"sampling":{"context":{},"tools":{}}}"#;
        let less = r#"{"elicitation":{"form":{}},"sampling":{"context":{},"tools":{}}}"#;
        let text = |text| declared(text).unwrap().text;
        assert_eq!(text(one), text(other));
        assert_eq!(&*text(one), other, "declared as it is, in one form");
        assert_ne!(text(one), text(less));
    }

    #[test]
    fn nothing_is_what_a_server_could_not_use() {
        for nothing in [
            "{}",
            r#"{"experimental": {}}"#,
            r#"{"new": {}, "extensions": {}}"#,
            r#"{"sampling": null}"#,
        ] {
            assert!(!declared(nothing).unwrap().useful, "{nothing}");
        }
        for something in [
            r#"{"sampling": {}}"#,
            r#"{"roots": {}}"#,
            r#"{"experimental": {"x": {}}}"#,
            r#"{"new": true}"#,
            r#"{"extensions": {"io.example/ui": {}}}"#,
        ] {
            assert!(declared(something).unwrap().useful, "{something}");
        }
    }

    #[test]
    fn what_is_no_capabilities_object_is_refused_in_words() {
        for bad in ["[]", "{", "\"x\"", "null"] {
            assert!(declared(bad).unwrap_err().contains("capabilities"), "{bad}");
        }
        let large = format!(r#"{{"x": "{}"}}"#, "y".repeat(CAPABILITIES_BYTES_MAX));
        assert!(declared(&large).unwrap_err().contains("bytes"));
        let deep = format!("{}{}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
        assert!(declared(&deep).is_err(), "bounded by the parser");
    }

    #[test]
    fn law_31_a_key_does_not_show_whose_it_is() {
        let key = Key {
            client: Some("secret".into()),
            capabilities: "{}".into(),
            era: None,
            lane: 0,
        };
        assert!(!format!("{key:?}").contains("secret"));
        assert_eq!(key.at(3).lane, 3);
    }
}
