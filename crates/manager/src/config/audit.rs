//! The `mainstay.audit` section of the file: the log of who did what.

use std::path::{Path, PathBuf};

use jsonc_parser::ast::Value;
use schemars::JsonSchema;

use super::file;
use super::reader::{Fields, Range, Sink, kind};
use super::server::saturated;

/// Bytes of one file, unless the config says otherwise.
const FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The least that is worth it.
const FILE_BYTES_MIN: u64 = 64 * 1024;

/// Files, unless the config says otherwise.
const FILES: u64 = 64;

/// The most.
const FILES_MAX: u64 = 10_000;

/// The log of who did what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AuditConfig {
    /// The file; `None`: `audit/audit.jsonl` in the state directory.
    pub path: Option<PathBuf>,
    /// Whether calls are refused while nothing can be written. Default: no.
    pub required: bool,
    /// Bytes of one file; then the next one begins. Default: 16 MiB.
    pub file_bytes: u64,
    /// Files that are kept, the current one included; the oldest is removed. Default: 64.
    pub files: usize,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            path: None,
            required: false,
            file_bytes: FILE_BYTES,
            files: saturated(FILES),
        }
    }
}

/// Where and how the audit log is kept.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct AuditOptions {
    /// The file. Relative to this file. Default: `audit/audit.jsonl` in the state directory.
    pub(super) path: Option<String>,
    /// Whether calls are refused while the log cannot be written. Otherwise they are made, and what could not be written is
    /// counted and told.
    #[schemars(extend("default" = false))]
    pub(super) required: Option<bool>,
    /// Bytes of one file; then the next one begins, whose chain goes on.
    #[schemars(range(min = FILE_BYTES_MIN, max = file::BYTES_MAX), extend("default" = FILE_BYTES))]
    pub(super) file_bytes: Option<u64>,
    /// How many files are kept. The oldest is removed.
    #[schemars(range(min = 2, max = FILES_MAX), extend("default" = FILES))]
    pub(super) files: Option<u64>,
}

/// `false`, `true`, or how.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) enum AuditOrNot {
    Flag(bool),
    How(AuditOptions),
}

/// Reads `mainstay.audit`. `None`: no log is kept.
pub(super) fn read_audit(
    fields: &mut Fields<'_, '_>,
    beside: &Path,
    sink: &mut Sink<'_>,
) -> Option<AuditConfig> {
    let (value, place) = fields.take("audit", sink)?;
    if let Value::BooleanLit(literal) = value {
        return literal.value.then(AuditConfig::default);
    }
    if value.as_object().is_none() {
        let message = format!(
            "expected an object, `true` or `false`, found {}",
            kind(value)
        );
        sink.error(&place, message, "");
        return None;
    }
    let mut group = fields.object("audit", sink)?;
    let bytes = Range {
        min: FILE_BYTES_MIN,
        max: file::BYTES_MAX,
    };
    let files = Range {
        min: 2,
        max: FILES_MAX,
    };
    let options = AuditOptions {
        path: group.text("path", sink).map(|(text, _)| text),
        required: group.flag("required", sink),
        file_bytes: group.whole("fileBytes", bytes, sink),
        files: group.whole("files", files, sink),
    };
    group.finish(sink);
    let mut config = AuditConfig::default();
    config.path = options.path.map(|path| beside.join(path));
    config.required = options.required.unwrap_or(config.required);
    config.file_bytes = options.file_bytes.unwrap_or(config.file_bytes);
    config.files = options.files.map_or(config.files, saturated);
    Some(config)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn read(audit: &str) -> Option<AuditConfig> {
        let text = format!("{{ \"mcpServers\": {{}}, \"mainstay\": {{ \"audit\": {audit} }} }}");
        let loaded = Config::parse(&text, Path::new("/etc/mcp.json")).unwrap();
        assert_eq!(loaded.problems, []);
        loaded.config.gateway.audit
    }

    #[test]
    fn it_is_off_on_or_described() {
        assert_eq!(read("false"), None);
        assert_eq!(read("true"), Some(AuditConfig::default()));
        let audit = read(r#"{ "path": "log/a.jsonl", "required": true, "files": 3 }"#).unwrap();
        assert_eq!(audit.path.as_deref(), Some(Path::new("/etc/log/a.jsonl")));
        assert!(audit.required && audit.files == 3 && audit.file_bytes == FILE_BYTES);
        let text = r#"{ "mcpServers": {}, "mainstay": { "audit": "yes" } }"#;
        assert!(Config::parse(text, Path::new("mcp.json")).is_err());
    }
}
