//! The `mainstay.journal` section of the file.

use schemars::JsonSchema;

use super::file;
use super::reader::{Fields, Range, Sink};
use super::server::saturated;
use crate::journal::{BYTES, BYTES_MIN, FILES, FILES_MAX, JournalConfig};

/// What is kept on disk of events and calls.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct JournalOptions {
    /// Whether there is a journal at all.
    #[schemars(extend("default" = true))]
    enabled: Option<bool>,
    /// Bytes of all its files. The oldest are removed.
    #[schemars(range(min = BYTES_MIN, max = file::BYTES_MAX), extend("default" = BYTES))]
    bytes: Option<u64>,
    /// How many files these bytes are spread over: what is removed is removed by the file.
    #[schemars(range(min = 2, max = FILES_MAX), extend("default" = FILES))]
    files: Option<u64>,
    /// Whether records of calls hold the arguments that tools were called with, up to 4 KiB each.
    #[schemars(extend("default" = false))]
    arguments: Option<bool>,
}

impl JournalOptions {
    pub(super) fn read(mut fields: Fields<'_, '_>, sink: &mut Sink<'_>) -> Self {
        let bytes = Range {
            min: BYTES_MIN,
            max: file::BYTES_MAX,
        };
        let files = Range {
            min: 2,
            max: FILES_MAX,
        };
        let options = Self {
            enabled: fields.flag("enabled", sink),
            bytes: fields.whole("bytes", bytes, sink),
            files: fields.whole("files", files, sink),
            arguments: fields.flag("arguments", sink),
        };
        fields.finish(sink);
        options
    }

    pub(super) fn resolved(&self) -> JournalConfig {
        let mut config = JournalConfig::default();
        config.enabled = self.enabled.unwrap_or(config.enabled);
        config.bytes = self.bytes.unwrap_or(config.bytes);
        config.files = self.files.map_or(config.files, saturated);
        config.arguments = self.arguments.unwrap_or(config.arguments);
        config
    }
}
