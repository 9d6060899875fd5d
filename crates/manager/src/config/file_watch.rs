//! How the file says that it is watched.

use std::time::Duration;

use jsonc_parser::ast::Value;
use schemars::JsonSchema;

use super::file::DURATION_MS_MAX;
use super::reader::{Fields, Range, Sink, kind};

/// How long a file must stand still before it is read.
const DEBOUNCE_MS: u64 = 250;

/// Looking more often than that helps nobody.
const POLL_MS_MIN: u64 = 50;

/// What `watch` says: not, or with what is set.
#[derive(Debug, Clone)]
pub(super) enum WatchOptions {
    Off,
    On(WatchGroup),
}

/// How the file is watched.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct WatchGroup {
    /// Look for changes this often, besides being told by the system. Default: only where the system cannot tell, such as on
    /// a network disk, and then every two seconds.
    #[schemars(range(min = POLL_MS_MIN, max = DURATION_MS_MAX))]
    pub(super) poll_ms: Option<u64>,
    /// How long the file must stand still before it is read: editors write in several steps.
    #[schemars(range(min = 1, max = 60_000), extend("default" = DEBOUNCE_MS))]
    pub(super) debounce_ms: Option<u64>,
}

/// `false`, `true`, or how.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) enum WatchOrNot {
    Flag(bool),
    How(WatchGroup),
}

/// How a config file is watched while Mainstay runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct WatchSettings {
    /// How long the file must stand still before it is read. Default: 250 ms.
    pub debounce: Duration,
    /// How often to look besides being told; `None`: only where the system cannot tell.
    pub poll: Option<Duration>,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(DEBOUNCE_MS),
            poll: None,
        }
    }
}

impl WatchSettings {
    /// `None`: it is not watched.
    pub(super) fn from_options(options: Option<&WatchOptions>) -> Option<Self> {
        let group = match options {
            Some(WatchOptions::Off) => return None,
            Some(WatchOptions::On(group)) => group.clone(),
            None => WatchGroup::default(),
        };
        Some(Self {
            debounce: Duration::from_millis(group.debounce_ms.unwrap_or(DEBOUNCE_MS)),
            poll: group.poll_ms.map(Duration::from_millis),
        })
    }
}

pub(super) fn read_watch(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<WatchOptions> {
    let (value, place) = fields.take("watch", sink)?;
    if let Value::BooleanLit(literal) = value {
        return Some(if literal.value {
            WatchOptions::On(WatchGroup::default())
        } else {
            WatchOptions::Off
        });
    }
    if value.as_object().is_none() {
        let message = format!(
            "expected an object, `true` or `false`, found {}",
            kind(value)
        );
        sink.error(&place, message, "");
        return None;
    }
    let mut group = fields.object("watch", sink)?;
    let poll = Range {
        min: POLL_MS_MIN,
        max: DURATION_MS_MAX,
    };
    let debounce = Range {
        min: 1,
        max: 60_000,
    };
    let options = WatchGroup {
        poll_ms: group.whole("pollMs", poll, sink),
        debounce_ms: group.whole("debounceMs", debounce, sink),
    };
    group.finish(sink);
    Some(WatchOptions::On(options))
}
