//! What becomes of each key of each app: one table.

use super::Shape;

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The program, perhaps with its arguments.
    Command,
    /// The arguments.
    Args,
    /// Variables with their values.
    Env,
    /// Names of variables of the app's own environment.
    EnvNames,
    /// The directory.
    Cwd,
    /// The address. `is_sse`: of a server that speaks HTTP+SSE.
    Url {
        /// Whether that transport is insisted on.
        is_sse: bool,
    },
    /// The word for the transport.
    Kind,
    /// Headers with their values.
    Headers,
    /// Headers whose values are in variables.
    HeaderNames,
    /// The name of the variable with the token.
    Bearer,
    /// On or off. `means`: the value that means on.
    Enabled {
        /// The value that means on.
        means: bool,
    },
    /// A list of tools.
    Tools {
        /// `include` or `exclude`.
        list: &'static str,
    },
    /// A list of tools, or a group of such lists.
    ToolGroup,
    /// Other names and descriptions of tools.
    Overrides,
    /// A duration.
    Timeout {
        /// The key of Mainstay.
        to: &'static str,
        /// How many milliseconds its unit has.
        unit_ms: u32,
    },
    /// A duration, or two.
    OpenCodeTimeout,
    /// A name for people.
    Label,
    /// The generation of MCP.
    Protocol,
    /// Whom to trust.
    CaFile,
    /// The same under this key.
    As(&'static str),
    /// Says nothing that does not follow from the rest.
    Implied,
    /// No counterpart, and why.
    Lost(&'static str),
}

const APPROVAL: Fate = Fate::Lost("who approves calls is the app's own affair");
const LOGIN: Fate = Fate::Lost("logging in is not taken over; give a token in `headers`");
const LOOKS: Fate = Fate::Lost("only concerns how the app shows it");
const UNKNOWN: Fate = Fate::Lost("is not known to Mainstay");
const SECONDS: u32 = 1_000;

/// Settings that Mainstay has under the same name: files of apps may hold them, because any such file is a configuration of
/// Mainstay, too.
const OWN: [&str; 24] = [
    "required",
    "startup",
    "idleShutdownMs",
    "protocol",
    "scope",
    "connections",
    "timeouts",
    "restart",
    "keepalive",
    "suspicion",
    "push",
    "pollMs",
    "retry",
    "concurrency",
    "waiting",
    "resultBytes",
    "onToolChange",
    "catalog",
    "envPolicy",
    "stop",
    "drainMs",
    "tls",
    "proxy",
    "noProxy",
];

/// What becomes of `key` of an entry of `shape`.
pub(super) fn fate(shape: Shape, key: &str) -> Fate {
    special(shape, key).unwrap_or_else(|| common(shape, key))
}

/// What only this app means by it.
fn special(shape: Shape, key: &str) -> Option<Fate> {
    let call = |unit_ms| Fate::Timeout {
        to: "timeouts.callIdleMs",
        unit_ms,
    };
    let connect = |unit_ms| Fate::Timeout {
        to: "timeouts.connectMs",
        unit_ms,
    };
    let fate = match (shape, key) {
        (Shape::Codex, "startup_timeout_sec") => connect(SECONDS),
        (Shape::Codex, "startup_timeout_ms") => connect(1),
        (Shape::Codex, "tool_timeout_sec") => call(SECONDS),
        (Shape::Codex, "tools" | "default_tools_approval_mode") => APPROVAL,
        (Shape::Codex, "supports_parallel_tool_calls") => {
            Fate::Lost("calls run side by side here; see `concurrency`")
        }
        (Shape::Gemini, "url") => Fate::Url { is_sse: true },
        (Shape::Gemini | Shape::ClaudeCode, "timeout") => call(1),
        (Shape::Cline | Shape::Roo | Shape::Goose | Shape::Hermes, "timeout") => call(SECONDS),
        (Shape::OpenCode, "timeout") => Fate::OpenCodeTimeout,
        (Shape::Hermes, "connect_timeout") => connect(SECONDS),
        (Shape::Hermes, "idle_timeout_seconds" | "lifecycle.idle_timeout_seconds") => {
            Fate::Timeout {
                to: "idleShutdownMs",
                unit_ms: SECONDS,
            }
        }
        (Shape::Hermes, "keepalive_interval") => Fate::Timeout {
            to: "keepalive.idleMs",
            unit_ms: SECONDS,
        },
        (Shape::Hermes, "protocol") => Fate::Protocol,
        (Shape::Hermes, "ssl_verify") => Fate::CaFile,
        (Shape::Hermes, "supports_parallel_tool_calls") => {
            Fate::Lost("calls run side by side here; see `concurrency`")
        }
        (Shape::Goose, "name" | "bundled") => Fate::Implied,
        (Shape::Nemo, "_type") => Fate::Implied,
        (Shape::Nemo, "include") => Fate::Tools { list: "include" },
        (Shape::Nemo, "exclude") => Fate::Tools { list: "exclude" },
        (Shape::Nemo, "tool_overrides") => Fate::Overrides,
        (Shape::Nemo, "tool_call_timeout") => call(SECONDS),
        (Shape::Nemo, "server.auth_provider") => LOGIN,
        (Shape::Nemo, key) if key.starts_with("server.") => {
            return Some(common(shape, &key["server.".len()..]));
        }
        (Shape::Awaken, "timeout_secs") => connect(SECONDS),
        (Shape::Awaken, "id") => Fate::Implied,
        (Shape::Awaken, "restart_policy") => {
            Fate::Lost("Mainstay restarts servers by its own rules; see `restart`")
        }
        (Shape::Zed, "settings") => Fate::Lost("settings of an extension of Zed"),
        (Shape::VsCode, "sandboxEnabled" | "sandbox") => {
            Fate::Lost("Mainstay starts programs without a sandbox")
        }
        _ => return None,
    };
    Some(fate)
}

/// What every app means by it.
fn common(shape: Shape, key: &str) -> Fate {
    match key {
        "command" | "cmd" => Fate::Command,
        "args" => Fate::Args,
        "env" | "environment" | "envs" => Fate::Env,
        "env_vars" | "env_keys" => Fate::EnvNames,
        "cwd" | "workingDirectory" => Fate::Cwd,
        "url" | "serverUrl" | "httpUrl" | "baseUrl" | "uri" => Fate::Url { is_sse: false },
        "type" | "transport" | "transportType" => Fate::Kind,
        "headers" | "http_headers" | "custom_headers" => Fate::Headers,
        "env_http_headers" => Fate::HeaderNames,
        "bearer_token_env_var" => Fate::Bearer,
        "enabled" | "isActive" => Fate::Enabled { means: true },
        "disabled" => Fate::Enabled { means: false },
        "includeTools" | "allowedTools" | "enabledTools" | "enabled_tools" | "available_tools" => {
            Fate::Tools { list: "include" }
        }
        "excludeTools" | "disabledTools" | "disabled_tools" => Fate::Tools { list: "exclude" },
        "tools" => Fate::ToolGroup,
        "label" | "description" | "display_name" => Fate::Label,
        "autoApprove" | "alwaysAllow" | "alwaysLoad" | "trust" | "autoApproveEdits" => APPROVAL,
        "oauth"
        | "auth"
        | "oauth_resource"
        | "scopes"
        | "authProviderType"
        | "targetAudience"
        | "targetServiceAccount"
        | "client_cert"
        | "client_key"
        | "CLIENT_ID"
        | "CLIENT_SECRET" => LOGIN,
        "envFile" | "env_file" => {
            Fate::Lost("write its variables into `env`, or into the environment of Mainstay")
        }
        "headersHelper" => Fate::Lost("write the headers into `headers`"),
        "sampling" | "elicitation" => {
            Fate::Lost("what servers may ask is the business of each client")
        }
        "timeout" => Fate::Lost("its unit is not documented; see `timeouts`"),
        "icon" | "gallery" | "version" | "logoUrl" | "tags" | "provider" | "providerUrl" => LOOKS,
        "source" | "name" => Fate::Implied,
        _ => match OWN.iter().find(|own| **own == key) {
            // `protocol` and the like of an app that has other words for them were taken above.
            Some(own) if shape != Shape::Awaken => Fate::As(own),
            Some(_) | None => UNKNOWN,
        },
    }
}

/// Milliseconds of a number of units; `None` for what is no duration. Zero means none in every app.
pub(super) fn milliseconds(number: f64, unit_ms: u32) -> Option<u64> {
    const DAYS_30_MS: f64 = 30.0 * 24.0 * 3_600.0 * 1_000.0;
    let ms = (number * f64::from(unit_ms)).round();
    if !(1.0..=DAYS_30_MS).contains(&ms) {
        return None;
    }
    // In range, and whole.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked just above"
    )]
    let whole = ms as u64;
    Some(whole)
}
