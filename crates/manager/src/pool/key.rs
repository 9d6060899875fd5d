//! What tells one connection of a server from another: what callers declare, in one form whatever way they wrote it.

use std::sync::{Arc, LazyLock};

use mainstay_wire::raw;
use mainstay_wire::revision::Era;

use crate::principal::Principal;
use crate::request::ClientFace;

/// Capabilities longer than this are refused: a server would have to read them with every greeting.
const CAPABILITIES_BYTES_MAX: usize = 64 * 1024;

/// Capabilities nested deeper are refused.
const DEPTH_MAX: usize = 128;

/// Capabilities that mean something to a server even when nothing more is said about them.
const USEFUL_WHEN_EMPTY: [&str; 4] = ["elicitation", "roots", "sampling", "tasks"];

/// What a caller declares that declares nothing, in the one form.
pub(crate) static NOTHING_DECLARED: LazyLock<Arc<str>> = LazyLock::new(|| "{}".into());

/// Which connection of a server. A struct and never one text: no two keys can be taken for each other (F255).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// The one principal that it serves, with credentials of its own; `None`: nobody in particular.
    pub(crate) principal: Option<Principal>,
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
            .field("principal", &self.principal)
            .field("client", &self.client.as_ref().map(|_| "…"))
            .field("capabilities", &self.capabilities)
            .field("era", &self.era)
            .field("lane", &self.lane)
            .finish()
    }
}

impl Key {
    /// Whether what it is told is its own affair: it serves one client or one principal, not all that are alike.
    pub(crate) fn is_own(&self) -> bool {
        self.client.is_some() || self.principal.is_some()
    }

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
        if depth_of(given) > DEPTH_MAX {
            return Err("the client's capabilities are nested too deeply".to_owned());
        }
        match raw::canonical(given) {
            Some(text) if raw::is_object(&text) => Ok(Self {
                useful: raw::members(&text)
                    .iter()
                    .any(|(name, value)| is_useful(name, value)),
                text: text.into(),
            }),
            Some(_) => Err("the client's capabilities are not an object".to_owned()),
            None => Err("the client's capabilities cannot be read: they are not JSON".to_owned()),
        }
    }

    /// Their names, sorted.
    pub(crate) fn names(text: &str) -> Vec<String> {
        let members = raw::members(text).into_iter();
        members.map(|(name, _)| name.into_owned()).collect()
    }
}

/// `value` in the one form.
fn is_useful(name: &str, value: &str) -> bool {
    match value {
        "null" | "false" => false,
        "{}" | "[]" => USEFUL_WHEN_EMPTY.contains(&name),
        _ => true,
    }
}

/// At least as deep as a text is: brackets inside of strings count too, which no declaration has in such numbers.
fn depth_of(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
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
            principal: None,
            client: Some("secret".into()),
            capabilities: "{}".into(),
            era: None,
            lane: 0,
        };
        assert!(!format!("{key:?}").contains("secret"));
        assert_eq!(key.at(3).lane, 3);
    }
}
