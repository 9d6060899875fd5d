//! The JSON schema of the config file, generated from the structs it is read into.

use super::file::ConfigFile;

/// The JSON schema of the config file, as `docs/mainstay.schema.json` has it.
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(ConfigFile);
    // A schema is a tree of JSON values with string keys, which always has a text.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use serde_json::Value;

    use super::*;
    use crate::config::{EXAMPLE, read};

    fn docs(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../docs")
            .join(name)
    }

    /// Compares a generated file with what is checked in; `UPDATE_DOCS=1` writes it instead.
    pub(crate) fn check_in(name: &str, generated: &str) {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(docs(name), generated).unwrap();
        }
        let checked_in = fs::read_to_string(docs(name)).unwrap_or_default();
        assert!(
            checked_in == generated,
            "docs/{name} is stale: run the tests once with UPDATE_DOCS=1"
        );
    }

    #[test]
    fn the_checked_in_documents_are_current() {
        check_in("mainstay.schema.json", &json_schema());
        check_in("config.example.json", EXAMPLE);
    }

    /// The schema behind `$ref`, `anyOf` with null, and the like: the part that has properties.
    fn properties<'s>(root: &'s Value, schema: &'s Value) -> Vec<(&'s str, &'s Value)> {
        if let Some(name) = schema["$ref"].as_str() {
            return properties(root, &root["$defs"][name.trim_start_matches("#/$defs/")]);
        }
        let own = schema["properties"].as_object().into_iter().flatten();
        let mut found: Vec<_> = own.map(|(key, value)| (key.as_str(), value)).collect();
        for part in ["anyOf", "oneOf", "allOf"]
            .into_iter()
            .filter_map(|word| schema[word].as_array())
            .flatten()
        {
            found.extend(properties(root, part));
        }
        found
    }

    fn paths(root: &Value, schema: &Value, prefix: &str, found: &mut BTreeSet<String>) {
        for (key, value) in properties(root, schema) {
            let path = if prefix.is_empty() {
                key.to_owned()
            } else {
                format!("{prefix}.{key}")
            };
            found.insert(path.clone());
            paths(root, value, &path, found);
            // A map of servers or profiles: one of them, called `s`.
            if let Some(entry) = value
                .get("additionalProperties")
                .filter(|_| path.ends_with("ervers") || path.ends_with("rofiles"))
            {
                paths(root, entry, &format!("{path}.s"), found);
            }
        }
    }

    #[test]
    fn the_schema_and_the_reader_know_the_same_keys() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        let mut described = BTreeSet::new();
        paths(&schema, &schema, "", &mut described);
        described.retain(|path| !path.starts_with("servers."));

        let groups = r#""tools": {}, "timeouts": {}, "restart": {}, "keepalive": {}, "retry": {}, "suspicion": {}, "stop": {}, "tls": {}, "catalog": {}, "connections": {}, "auth": {"enterprise": {}, "exchange": {}}, "sandbox": {"network": {}}, "asks": {"sampling": {}, "elicitation": {}}"#;
        let text = format!(
            r#"{{ "mcpServers": {{ "s": {{ "command": "x", {groups} }} }},
                 "mainstay": {{ "limits": {{}}, "watch": {{}}, "journal": {{}}, "access": {{ "tls": {{ "cert": "c", "key": "k" }} }}, "policy": {{}}, "audit": {{}}, "profiles": {{ "s": {{ "tools": {{}} }} }}, "defaults": {{ {groups} }} }} }}"#
        );
        let asked = read::asked_of(&text);
        assert!(asked.len() > 80, "{asked:?}");
        let missing: Vec<_> = asked.symmetric_difference(&described).collect();
        assert!(
            missing.is_empty(),
            "only one of schema and reader knows {missing:?}"
        );
    }

    #[test]
    fn the_defaults_in_the_schema_are_the_defaults() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        // A file that writes down every default means the same as a file that writes none.
        let group = |name: &str| {
            let with_default = |(key, value): &(&str, &Value)| {
                Some(((*key).to_owned(), value.get("default")?.clone()))
            };
            let found = properties(&schema, &schema["$defs"][name]);
            Value::Object(found.iter().filter_map(with_default).collect())
        };
        let mut server = group("ServerEntry");
        server["url"] = "http://127.0.0.1:1/".into();
        server["timeouts"] = group("TimeoutOptions");
        server["restart"] = group("RestartOptions");
        server["keepalive"] = group("KeepaliveGroup");
        server["suspicion"] = group("SuspicionOptions");
        server["retry"] = group("RetryOptions");
        server["stop"] = group("StopOptions");
        server["catalog"] = group("CatalogOptions");
        // Setting the connect limit moves the phases that are not set, so it cannot be written down alone.
        let connect_ms = server["timeouts"]
            .as_object_mut()
            .unwrap()
            .remove("connectMs");
        assert_eq!(
            connect_ms,
            Some(crate::config::Timeouts::default().connect_ms.into())
        );
        let mut gateway = group("GatewayOptions");
        gateway["limits"] = group("LimitOptions");
        gateway["watch"] = group("WatchGroup");
        gateway["journal"] = group("JournalOptions");
        let text =
            serde_json::json!({ "mcpServers": { "s": server }, "mainstay": gateway }).to_string();
        let path = Path::new("mcp.json");
        let written = crate::config::Config::parse(&text, path).unwrap();
        assert_eq!(written.problems, []);
        let bare = r#"{ "mcpServers": { "s": { "url": "http://127.0.0.1:1/" } } }"#;
        let bare = crate::config::Config::parse(bare, path).unwrap();
        assert_eq!(written.config, bare.config);
        assert!(text.matches("Ms\"").count() > 15, "{text}");
    }
}
