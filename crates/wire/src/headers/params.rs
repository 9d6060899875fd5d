//! `Mcp-Param-*`: tool arguments that a schema wants repeated as headers (`x-mcp-header`).

use super::encode_value;
use crate::raw;

/// The annotation in a schema.
const ANNOTATION: &str = "x-mcp-header";
/// Properties nested deeper are not looked at.
const DEPTH_MAX: usize = 64;
/// Integers beyond this are not exact everywhere and are not allowed.
const SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// The types that an annotated property may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamType {
    /// `"string"`
    String,
    /// `"integer"`
    Integer,
    /// `"boolean"`
    Boolean,
}

/// One annotated property of a tool's input schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamHeader {
    /// Lower case header name, with [`super::PARAM_PREFIX`].
    pub header: String,
    /// Where the value lies in `arguments`.
    pub path: Vec<String>,
    /// Its type.
    pub kind: ParamType,
}

/// Why headers do not go with the arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderProblem {
    /// There is a value, but no header.
    #[error("header {0} is missing")]
    Missing(String),
    /// There is a header, but no value.
    #[error("header {0} has no value in the arguments")]
    Unexpected(String),
    /// They differ, or the header cannot be decoded.
    #[error("header {0} does not match the arguments")]
    Differs(String),
}

/// Collects the annotations of a raw `inputSchema`.
///
/// # Errors
/// The reason, if an annotation is illegal: over HTTP such a tool is left out of the listing, visibly (F137). Legal is a
/// token on a string, integer or boolean property that is reached from the root through `properties` only, unique
/// without regard to case.
pub fn param_headers(input_schema: &str) -> Result<Vec<ParamHeader>, String> {
    if !input_schema.contains("x-mcp-header") && !input_schema.contains('\\') {
        return Ok(Vec::new());
    }
    if !raw::is_json(input_schema) {
        return Err("inputSchema is not readable".to_owned());
    }
    let mut found = Vec::new();
    if !raw::is_object(input_schema) {
        return Ok(found);
    }
    if raw::member(input_schema, &[ANNOTATION]).is_some() {
        return Err(format!("{ANNOTATION} on the root of inputSchema"));
    }
    let mut path = Vec::new();
    properties(input_schema, &mut path, &mut found)?;
    if count(input_schema, 0) != found.len() {
        return Err(format!(
            "{ANNOTATION} is only legal on properties that are reached through \"properties\", at most {DEPTH_MAX} levels deep"
        ));
    }
    Ok(found)
}

/// Walks `properties` only.
fn properties(
    schema: &str,
    path: &mut Vec<String>,
    found: &mut Vec<ParamHeader>,
) -> Result<(), String> {
    if path.len() > DEPTH_MAX {
        return Ok(());
    }
    let Some(named) = raw::member(schema, &["properties"]) else {
        return Ok(());
    };
    for (name, property) in last_of_each(named) {
        if !raw::is_object(property) {
            continue;
        }
        path.push(name);
        if let Some(annotation) = raw::member(property, &[ANNOTATION]) {
            let header = annotated(annotation, property, path)?;
            if found.iter().any(|other| other.header == header.header) {
                return Err(format!("{ANNOTATION} {annotation} is used twice"));
            }
            found.push(header);
        }
        properties(property, path, found)?;
        path.pop();
    }
    Ok(())
}

/// The members of an object; of several with one key the last, as everywhere.
fn last_of_each(object: &str) -> Vec<(String, &str)> {
    let mut last: Vec<(String, &str)> = Vec::new();
    for (name, value) in raw::members(object) {
        last.retain(|(other, _)| *other != name);
        last.push((name.into_owned(), value));
    }
    last
}

fn annotated(annotation: &str, property: &str, path: &[String]) -> Result<ParamHeader, String> {
    let place = path.join(".");
    let token = raw::string(annotation).filter(|token| is_token(token));
    let token = token
        .ok_or_else(|| format!("{ANNOTATION} of {place} is not a header token: {annotation}"))?;
    let kind = match raw::string_member(property, &["type"]).as_deref() {
        Some("string") => ParamType::String,
        Some("integer") => ParamType::Integer,
        Some("boolean") => ParamType::Boolean,
        _ => {
            return Err(format!(
                "{ANNOTATION} of {place} needs the type string, integer or boolean"
            ));
        }
    };
    Ok(ParamHeader {
        header: format!("{}{}", super::PARAM_PREFIX, token.to_ascii_lowercase()),
        path: path.to_vec(),
        kind,
    })
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Annotations anywhere that look like annotations: a key of a schema, not the name of a property. What is too deep to be
/// looked at counts as one that is not found where it should be.
fn count(schema: &str, depth: usize) -> usize {
    if depth > 2 * DEPTH_MAX {
        return usize::from(schema.contains(ANNOTATION));
    }
    let schema = schema.trim_ascii();
    if let Some(items) = raw::elements(schema) {
        return items.into_iter().map(|item| count(item, depth + 1)).sum();
    }
    if !raw::is_object(schema) {
        return 0;
    }
    let of_member = |(key, value): (String, &str)| match key.as_str() {
        ANNOTATION => 1,
        // Data, not schemas.
        "default" | "const" | "enum" | "examples" => 0,
        "properties" | "$defs" | "definitions" | "patternProperties" | "dependentSchemas"
            if raw::is_object(value) =>
        {
            last_of_each(value)
                .into_iter()
                .map(|(_, named)| count(named, depth + 1))
                .sum()
        }
        _ => count(value, depth + 1),
    };
    last_of_each(schema).into_iter().map(of_member).sum()
}

impl ParamHeader {
    /// The raw value in raw `arguments`; null counts as absent.
    fn raw<'a>(&self, arguments: Option<&'a str>) -> Option<&'a str> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        raw::member(arguments?, &path).filter(|value| *value != "null")
    }

    /// The header value for these raw `arguments`; `None`: no header is sent.
    #[must_use]
    pub fn value(&self, arguments: Option<&str>) -> Option<String> {
        let raw = self.raw(arguments)?;
        match self.kind {
            ParamType::String => raw::string(raw).map(|text| encode_value(&text)),
            ParamType::Boolean => Some(raw.to_owned()),
            ParamType::Integer => {
                Some(integer(raw).map_or_else(|| raw.to_owned(), |number| format!("{number:.0}")))
            }
        }
    }

    /// Compares the header that came with the arguments.
    ///
    /// # Errors
    /// [`HeaderProblem`], to be answered with [`crate::codes::HEADER_MISMATCH`] before anything runs.
    pub fn check(
        &self,
        header: Option<&str>,
        arguments: Option<&str>,
    ) -> Result<(), HeaderProblem> {
        let (header, raw) = match (header, self.raw(arguments)) {
            (None, None) => return Ok(()),
            (None, Some(_)) => return Err(HeaderProblem::Missing(self.header.clone())),
            (Some(_), None) => return Err(HeaderProblem::Unexpected(self.header.clone())),
            (Some(header), Some(raw)) => (header, raw),
        };
        let text = super::decode_value(header);
        let same = match self.kind {
            ParamType::String => text.is_some() && text.as_deref() == raw::string(raw).as_deref(),
            ParamType::Boolean => text.as_deref() == Some(raw),
            ParamType::Integer => {
                let number = text.as_deref().and_then(integer);
                number.is_some() && number == integer(raw)
            }
        };
        if same {
            Ok(())
        } else {
            Err(HeaderProblem::Differs(self.header.clone()))
        }
    }
}

/// A whole number that every reader represents exactly; `42` and `42.0` are the same.
fn integer(text: &str) -> Option<f64> {
    let is_number =
        raw::is_json(text) && matches!(text.as_bytes().first(), Some(b'-' | b'0'..=b'9'));
    let number: f64 = is_number.then(|| text.parse().ok()).flatten()?;
    (number.fract() == 0.0 && number.abs() <= SAFE_INTEGER).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"type":"object","properties":{
        "region":{"type":"string","x-mcp-header":"Region"},
        "n":{"type":"integer","x-mcp-header":"N"},
        "in":{"type":"object","properties":{"ok":{"type":"boolean","x-mcp-header":"Ok"}}},
        "x-mcp-header":{"type":"string"}}}"#;

    #[test]
    fn legal_annotations_become_headers() {
        let headers = param_headers(SCHEMA).unwrap();
        let arguments = Some(r#"{"region":"Zürich","n":42.0,"in":{"ok":true}}"#);
        let mut values: Vec<(String, String)> = headers
            .iter()
            .filter_map(|h| Some((h.header.clone(), h.value(arguments)?)))
            .collect();
        values.sort();
        assert_eq!(
            values,
            [
                ("mcp-param-n".into(), "42".into()),
                ("mcp-param-ok".into(), "true".into()),
                ("mcp-param-region".into(), "=?base64?WsO8cmljaA==?=".into())
            ]
        );
        for header in &headers {
            let value = header.value(arguments);
            assert_eq!(header.check(value.as_deref(), arguments), Ok(()));
            assert_eq!(header.check(None, Some(r#"{"n":null}"#)), Ok(()));
            assert!(matches!(
                header.check(None, arguments),
                Err(HeaderProblem::Missing(_))
            ));
            assert!(matches!(
                header.check(value.as_deref(), None),
                Err(HeaderProblem::Unexpected(_))
            ));
            assert!(matches!(
                header.check(Some("other"), arguments),
                Err(HeaderProblem::Differs(_))
            ));
        }
        let n = headers.iter().find(|h| h.header == "mcp-param-n").unwrap();
        assert_eq!(n.check(Some("42"), arguments), Ok(()));
    }

    #[test]
    fn f137_illegal_annotations_have_a_reason() {
        for schema in [
            r#"{"x-mcp-header":"A"}"#,
            r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#,
            r#"{"properties":{"a":{"type":["string"],"x-mcp-header":"A"}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"a b"}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":7}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#,
            r#"{"properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}}"#,
            r#"{"anyOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}"#,
        ] {
            assert!(param_headers(schema).is_err(), "{schema}");
        }
        assert_eq!(
            param_headers(r#"{"properties":{"a":{"default":{"x-mcp-header":"A"}}}}"#),
            Ok(Vec::new())
        );
    }
}
