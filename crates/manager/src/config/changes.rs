//! In which settings two configs differ, and when a difference takes effect (law 28).
//!
//! Fields are named one by one, so that a new one must be put into one of the classes before this compiles.

use schemars::JsonSchema;
use serde::Serialize;

use super::{GatewayConfig, Limits, ServerConfig};

/// When a changed setting holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Applies {
    /// From the reload on.
    Now,
    /// From the next start of Mainstay on.
    Restart,
}

/// A setting of Mainstay itself that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct SettingChange {
    /// Its path in the file, such as `mainstay.edgePatienceMs`.
    pub key: String,
    /// When it holds.
    pub applies: Applies,
}

/// The keys whose fields differ. Every field is named: the pattern says so.
macro_rules! differing {
    ($old:expr, $new:expr, $type:ident { $($field:ident: $key:expr),* $(,)? } ignoring { $($ignored:ident),* }) => {{
        let $type { $($field: _,)* $($ignored: _,)* } = $old;
        let mut keys = Vec::new();
        $(if $old.$field != $new.$field {
            keys.push($key);
        })*
        keys
    }};
}

impl GatewayConfig {
    /// In which settings `new` differs from these.
    #[must_use]
    pub fn changes(&self, new: &GatewayConfig) -> Vec<SettingChange> {
        use Applies::{Now, Restart};
        let keys = differing!(self, new, GatewayConfig {
            listen: ("listen", Restart),
            state_dir: ("stateDir", Restart),
            socket: ("socket", Restart),
            edge_patience_ms: ("edgePatienceMs", Now),
            shutdown_ms: ("shutdownMs", Now),
            input_ms: ("inputMs", Restart),
            start_gate: ("startGate", Restart),
            journal: ("journal", Restart),
            profiles: ("profiles", Now),
            discovery: ("discovery", Now),
            dashboard: ("dashboard", Restart),
            watch: ("watch", Now),
            access: ("access", Restart),
            policy: ("policy", Now),
            audit: ("audit", Restart),
        } ignoring { limits });
        let change = |key: &str, applies| SettingChange {
            key: format!("mainstay.{key}"),
            applies,
        };
        let limits = self.limits.differences(&new.limits);
        let limits = limits
            .into_iter()
            .map(|key| change(&format!("limits.{key}"), Restart));
        let keys = keys.into_iter().map(|(key, applies)| change(key, applies));
        keys.chain(limits).collect()
    }

    /// These settings, with those of `new` that hold from a reload on.
    #[must_use]
    pub(crate) fn with_live(&self, new: &GatewayConfig) -> GatewayConfig {
        GatewayConfig {
            edge_patience_ms: new.edge_patience_ms,
            shutdown_ms: new.shutdown_ms,
            watch: new.watch,
            profiles: new.profiles.clone(),
            discovery: new.discovery,
            policy: new.policy.clone(),
            ..self.clone()
        }
    }
}

impl Limits {
    fn differences(&self, new: &Limits) -> Vec<&'static str> {
        differing!(self, new, Limits {
            message_bytes: "messageBytes",
            event_bytes: "eventBytes",
            depth: "depth",
            pages: "pages",
            stderr_bytes: "stderrBytes",
            sessions: "sessions",
            subscriptions: "subscriptions",
            noise_lines: "noiseLines",
            requests_per_second: "requestsPerSecond",
            notices: "notices",
            queued_lines: "queuedLines",
            events: "events",
            parked: "parked",
            rounds: "rounds",
        } ignoring {})
    }
}

impl ServerConfig {
    /// The keys in which two versions of an entry differ, those of the transport aside.
    pub(crate) fn setting_differences(&self, new: &ServerConfig) -> Vec<&'static str> {
        let mut keys = differing!(self, new, ServerConfig {
            label: "label",
            enabled: "enabled",
            required: "required",
            startup: "startup",
            idle_shutdown_ms: "idleShutdownMs",
            protocol: "protocol",
            scope: "scope",
            connections: "connections",
            tools: "tools",
            timeouts: "timeouts",
            restart: "restart",
            keepalive: "keepalive",
            suspicion: "suspicion",
            push: "push",
            poll_ms: "pollMs",
            replay_after_session_loss: "retry",
            trust_annotations: "retry",
            concurrency: "concurrency",
            waiting: "waiting",
            result_bytes: "resultBytes",
            on_tool_change: "onToolChange",
            catalog: "catalog",
            env_policy: "envPolicy",
            sandbox: "sandbox",
            guard: "pinProgram, asks, contentTypes, hiddenText",
            stop: "stop",
            drain_ms: "drainMs",
            reach: "tls, proxy",
            auth: "auth",
        } ignoring { name, transport });
        keys.dedup();
        keys
    }
}
