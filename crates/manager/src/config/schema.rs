//! The JSON schema of the config file, generated from the structs it is read into.

use super::file::ConfigFile;

/// The JSON schema of the config file, as `docs/mainstay.schema.json` has it.
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(ConfigFile);
    // A schema is a tree of JSON values with string keys, which always has a text.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
