//! Tools with a schema of the test's own, and the headers that their arguments have to be repeated in.

use serde_json::Value;

use super::answer::decode_name;
use super::script::Script;

/// A tool of the script, by name.
pub(crate) fn tool<'s>(script: &'s Script, name: &str) -> Option<&'s Value> {
    script
        .raw_tools
        .iter()
        .find(|tool| tool.get("name").and_then(Value::as_str) == Some(name))
}

/// Whether a call lacks a header that the schema of its tool asks for, or brings another value. Only string properties of
/// the root are looked at.
pub(crate) fn mismatch(
    script: &Script,
    request: &Value,
    header: impl Fn(&str) -> Option<String>,
) -> bool {
    let name = request.pointer("/params/name").and_then(Value::as_str);
    let Some(tool) = name.and_then(|name| tool(script, name)) else {
        return false;
    };
    let properties = tool
        .pointer("/inputSchema/properties")
        .and_then(Value::as_object);
    properties.into_iter().flatten().any(|(key, schema)| {
        let Some(token) = schema.get("x-mcp-header").and_then(Value::as_str) else {
            return false;
        };
        let came = header(&format!("mcp-param-{}", token.to_ascii_lowercase()))
            .and_then(|value| decode_name(&value));
        let wanted = request
            .pointer("/params/arguments")
            .and_then(|arguments| arguments.get(key))
            .and_then(Value::as_str);
        came.as_deref() != wanted
    })
}
