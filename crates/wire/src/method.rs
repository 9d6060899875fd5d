//! Method names, and what kind of traffic they are.

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*
    };
}

methods! {
    /// Legacy handshake.
    INITIALIZE = "initialize";
    /// End of the legacy handshake.
    INITIALIZED = "notifications/initialized";
    /// Legacy, both ways: are you there?
    PING = "ping";
    /// Modern: who are you?
    DISCOVER = "server/discover";
    /// Lists tools.
    TOOLS_LIST = "tools/list";
    /// Calls a tool.
    TOOLS_CALL = "tools/call";
    /// Lists prompts.
    PROMPTS_LIST = "prompts/list";
    /// Renders a prompt.
    PROMPTS_GET = "prompts/get";
    /// Lists resources.
    RESOURCES_LIST = "resources/list";
    /// Reads a resource.
    RESOURCES_READ = "resources/read";
    /// Lists resource templates.
    TEMPLATES_LIST = "resources/templates/list";
    /// Completes an argument.
    COMPLETE = "completion/complete";
    /// Legacy: log level of the session.
    SET_LEVEL = "logging/setLevel";
    /// Legacy: tell me when this resource changes.
    SUBSCRIBE = "resources/subscribe";
    /// Legacy: stop telling me.
    UNSUBSCRIBE = "resources/unsubscribe";
    /// Modern: one stream for all changes that the filter names.
    LISTEN = "subscriptions/listen";

    /// Server to client: ask the model.
    SAMPLING_CREATE = "sampling/createMessage";
    /// Server to client: ask the user.
    ELICITATION_CREATE = "elicitation/create";
    /// Server to client: which folders?
    ROOTS_LIST = "roots/list";

    /// Tasks: state of a task.
    TASKS_GET = "tasks/get";
    /// Tasks (extension): deliver inputs.
    TASKS_UPDATE = "tasks/update";
    /// Tasks: stop one.
    TASKS_CANCEL = "tasks/cancel";
    /// Tasks (2025-11-25): wait for the result.
    TASKS_RESULT = "tasks/result";
    /// Tasks (2025-11-25): list them.
    TASKS_LIST = "tasks/list";

    /// Both ways: a request is not wanted any more.
    CANCELLED = "notifications/cancelled";
    /// Both ways: a request is under way.
    PROGRESS = "notifications/progress";
    /// Server to client: a log record.
    MESSAGE = "notifications/message";
    /// The set of tools changed.
    TOOLS_LIST_CHANGED = "notifications/tools/list_changed";
    /// The set of prompts changed.
    PROMPTS_LIST_CHANGED = "notifications/prompts/list_changed";
    /// The set of resources or templates changed.
    RESOURCES_LIST_CHANGED = "notifications/resources/list_changed";
    /// A subscribed resource changed.
    RESOURCES_UPDATED = "notifications/resources/updated";
    /// Legacy, client to server: the folders changed.
    ROOTS_LIST_CHANGED = "notifications/roots/list_changed";
    /// 2025-11-25: the user finished at the URL.
    ELICITATION_COMPLETE = "notifications/elicitation/complete";
    /// Modern: first message of a listen stream.
    SUBSCRIPTIONS_ACKNOWLEDGED = "notifications/subscriptions/acknowledged";
    /// Tasks: a task changed its state.
    TASKS_STATUS = "notifications/tasks/status";
}

/// Requests of 2026-07-28 without extensions. Anything else may belong to an extension and is passed on, not judged.
pub const MODERN: [&str; 10] = [
    DISCOVER,
    TOOLS_LIST,
    TOOLS_CALL,
    PROMPTS_LIST,
    PROMPTS_GET,
    RESOURCES_LIST,
    TEMPLATES_LIST,
    RESOURCES_READ,
    COMPLETE,
    LISTEN,
];

/// Requests that 2026-07-28 removed: a modern server answers them with "method not found".
pub const REMOVED_IN_MODERN: [&str; 5] = [INITIALIZE, PING, SET_LEVEL, SUBSCRIBE, UNSUBSCRIBE];

/// Requests that a legacy server sends to its client and that 2026-07-28 replaced by input-required results.
#[must_use]
pub fn is_server_to_client(method: &str) -> bool {
    matches!(method, SAMPLING_CREATE | ELICITATION_CREATE | ROOTS_LIST)
}

/// Requests whose modern result may be `input_required`.
#[must_use]
pub fn may_require_input(method: &str) -> bool {
    matches!(method, TOOLS_CALL | PROMPTS_GET | RESOURCES_READ)
}

/// Requests whose complete modern results must carry `ttlMs` and `cacheScope`.
#[must_use]
pub fn is_cacheable(method: &str) -> bool {
    matches!(
        method,
        DISCOVER | TOOLS_LIST | PROMPTS_LIST | RESOURCES_LIST | TEMPLATES_LIST | RESOURCES_READ
    )
}

/// Requests that read without running anything: sending one again never executes something twice.
#[must_use]
pub fn is_read_only(method: &str) -> bool {
    is_cacheable(method)
        || matches!(
            method,
            PING | COMPLETE | PROMPTS_GET | LISTEN | SET_LEVEL | SUBSCRIBE | UNSUBSCRIBE
        )
}
