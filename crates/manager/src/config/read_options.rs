//! Reads the settings that a server and `mainstay.defaults` have in common.

use super::{
    Template,
    auth::read_auth,
    file,
    file::{
        COUNT_MAX, CatalogOptions, ConnectionOptions, DURATION_MS, DURATION_OR_ZERO_MS, EnvPolicy,
        KeepaliveGroup, KeepaliveOptions, OnToolChange, Protocol, Push, Replay, RestartOptions,
        RetryOptions, Scope, ServerOptions, Startup, StopOptions, SuspicionOptions, TimeoutOptions,
        TlsOptions,
    },
    read_objects::read_objects,
    read_server::read_template,
    reader::{Fields, Range, Sink, kind, list, text},
    sandbox::read_sandbox,
    suspicious::{read_asks, read_hidden_text},
    tools::read_tools,
};

#[expect(clippy::too_many_lines, reason = "one flat record, read key by key")]
pub(super) fn read_options(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> ServerOptions {
    ServerOptions {
        enabled: fields.flag("enabled", sink),
        required: fields.flag("required", sink),
        startup: fields.choice(
            "startup",
            &[("eager", Startup::Eager), ("lazy", Startup::Lazy)],
            sink,
        ),
        idle_shutdown_ms: fields.whole_or_never("idleShutdownMs", DURATION_MS, sink),
        protocol: fields.choice(
            "protocol",
            &[
                ("auto", Protocol::Auto),
                ("legacy", Protocol::Legacy),
                ("modern", Protocol::Modern),
            ],
            sink,
        ),
        scope: read_scope(fields, sink),
        connections: fields
            .object("connections", sink)
            .map(|group| read_connections(group, sink)),
        tools: read_tools(fields, sink),
        timeouts: fields
            .object("timeouts", sink)
            .map(|group| read_timeouts(group, sink)),
        restart: read_restart(fields, sink),
        keepalive: read_keepalive(fields, sink),
        suspicion: fields
            .object("suspicion", sink)
            .map(|group| read_suspicion(group, sink)),
        push: fields.choice("push", &[("auto", Push::Auto), ("off", Push::Off)], sink),
        poll_ms: fields.whole_or_never("pollMs", DURATION_MS, sink),
        retry: fields
            .object("retry", sink)
            .map(|group| read_retry(group, sink)),
        concurrency: fields.whole(
            "concurrency",
            Range {
                min: 1,
                max: 1_000_000,
            },
            sink,
        ),
        waiting: fields.whole(
            "waiting",
            Range {
                min: 1,
                max: 1_000_000,
            },
            sink,
        ),
        result_bytes: fields.whole(
            "resultBytes",
            Range {
                min: file::MESSAGE_BYTES_MIN,
                max: file::BYTES_MAX,
            },
            sink,
        ),
        on_tool_change: fields.choice(
            "onToolChange",
            &[
                ("allow", OnToolChange::Allow),
                ("warn", OnToolChange::Warn),
                ("refuse", OnToolChange::Refuse),
            ],
            sink,
        ),
        catalog: fields
            .object("catalog", sink)
            .map(|group| read_catalog(group, sink)),
        env_policy: fields.choice(
            "envPolicy",
            &[
                ("allowlist", EnvPolicy::Allowlist),
                ("inherit", EnvPolicy::Inherit),
            ],
            sink,
        ),
        sandbox: read_sandbox(fields, sink),
        pin_program: fields.flag("pinProgram", sink),
        asks: read_asks(fields, sink),
        content_types: fields
            .take("contentTypes", sink)
            .and_then(|(value, place)| read_texts(value, &place, sink)),
        hidden_text: read_hidden_text(fields, sink),
        stop: fields
            .object("stop", sink)
            .map(|group| read_stop(group, sink)),
        drain_ms: fields.whole("drainMs", DURATION_OR_ZERO_MS, sink),
        auth: read_auth(fields, sink),
        tls: fields
            .object("tls", sink)
            .map(|group| read_tls(group, sink)),
        proxy: read_reference("proxy", fields, sink).map(Template::hide),
        no_proxy: read_reference("noProxy", fields, sink),
    }
}

fn read_tls(mut fields: Fields<'_, '_>, sink: &mut Sink<'_>) -> TlsOptions {
    let options = TlsOptions {
        ca_file: read_reference("caFile", &mut fields, sink),
        cert_file: read_reference("certFile", &mut fields, sink),
        key_file: read_reference("keyFile", &mut fields, sink),
    };
    fields.finish(sink);
    options
}

/// Text that may hold references.
fn read_reference(
    key: &'static str,
    fields: &mut Fields<'_, '_>,
    sink: &mut Sink<'_>,
) -> Option<Template> {
    let (value, place) = fields.take(key, sink)?;
    read_template(value, &place, sink)
}

fn read_scope(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<Scope> {
    let words = [
        ("shared", Scope::Shared),
        ("session", Scope::Session),
        ("user", Scope::User),
    ];
    fields.choice("scope", &words, sink)
}

fn read_connections(mut fields: Fields<'_, '_>, sink: &mut Sink<'_>) -> ConnectionOptions {
    let range = |max| Range { min: 1, max };
    let options = ConnectionOptions {
        max: fields.whole("max", range(10_000), sink),
        per_user: fields.whole("perUser", range(1_000), sink),
        calls_per_user: fields.whole("callsPerUser", range(100_000), sink),
        idle_ms: fields.whole("idleMs", DURATION_MS, sink),
        lanes: fields.whole("lanes", range(1_000), sink),
        keep: fields
            .take("keep", sink)
            .and_then(|(value, place)| read_objects(value, &place, sink)),
    };
    fields.finish(sink);
    options
}

pub(super) fn read_texts(
    value: &jsonc_parser::ast::Value<'_>,
    place: &super::reader::Place,
    sink: &mut Sink<'_>,
) -> Option<Vec<String>> {
    let elements = list(value, place, sink)?;
    Some(
        elements
            .into_iter()
            .filter_map(|(element, place)| text(element, &place, sink))
            .collect(),
    )
}

fn read_timeouts(mut fields: Fields<'_, '_>, sink: &mut Sink<'_>) -> TimeoutOptions {
    let options = TimeoutOptions {
        call_idle_ms: fields.whole("callIdleMs", DURATION_MS, sink),
        call_total_ms: fields.whole("callTotalMs", DURATION_MS, sink),
        connect_ms: fields.whole("connectMs", DURATION_MS, sink),
        spawn_ms: fields.whole("spawnMs", DURATION_MS, sink),
        tcp_connect_ms: fields.whole("tcpConnectMs", DURATION_MS, sink),
        greet_ms: fields.whole("greetMs", DURATION_MS, sink),
        list_ms: fields.whole("listMs", DURATION_MS, sink),
        runner_ms: fields.whole("runnerMs", DURATION_MS, sink),
        probe_ms: fields.whole("probeMs", DURATION_MS, sink),
        edge_patience_ms: fields.whole("edgePatienceMs", DURATION_OR_ZERO_MS, sink),
        push_idle_ms: fields.whole("pushIdleMs", DURATION_MS, sink),
    };
    fields.finish(sink);
    options
}

fn read_catalog(mut fields: Fields<'_, '_>, sink: &mut Sink<'_>) -> CatalogOptions {
    let range = |min, max| Range { min, max };
    let options = CatalogOptions {
        debounce_ms: fields.whole("debounceMs", DURATION_OR_ZERO_MS, sink),
        interval_ms: fields.whole("intervalMs", DURATION_MS, sink),
        recheck_ms: fields.whole("recheckMs", DURATION_MS, sink),
        items: fields.whole("items", range(1, file::ITEMS_MAX), sink),
        item_bytes: fields.whole("itemBytes", range(1_024, file::ITEM_BYTES), sink),
        bytes: fields.whole(
            "bytes",
            range(file::MESSAGE_BYTES_MIN, file::BYTES_MAX),
            sink,
        ),
    };
    fields.finish(sink);
    options
}

fn read_restart(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<RestartOptions> {
    let (value, place) = fields.take("restart", sink)?;
    if value.as_boolean_lit().is_some() {
        // Another client's switch. Restarting is what we are for; someone who wrote `false` should hear that it is ignored.
        let message = format!(
            "expected an object, found {}: servers are always restarted",
            kind(value)
        );
        sink.warn(
            &place,
            message,
            "set `\"restart\": { \"budget\": 0 }` to park a server after its first failure",
        );
        return None;
    }
    let mut group = fields.object("restart", sink)?;
    let options = RestartOptions {
        budget: group.whole(
            "budget",
            Range {
                min: 0,
                max: COUNT_MAX,
            },
            sink,
        ),
        backoff_base_ms: group.whole("backoffBaseMs", DURATION_MS, sink),
        backoff_cap_ms: group.whole("backoffCapMs", DURATION_MS, sink),
        open_interval_ms: group.whole("openIntervalMs", DURATION_MS, sink),
        stable_ms: group.whole("stableMs", DURATION_MS, sink),
        parked_probe_ms: group.whole_or_never("parkedProbeMs", DURATION_MS, sink),
        parked_call_interval_ms: group.whole("parkedCallIntervalMs", DURATION_MS, sink),
        retry_after_min_ms: group.whole("retryAfterMinMs", DURATION_OR_ZERO_MS, sink),
        retry_after_max_ms: group.whole("retryAfterMaxMs", DURATION_OR_ZERO_MS, sink),
        renewals: group.whole(
            "renewals",
            Range {
                min: 0,
                max: COUNT_MAX,
            },
            sink,
        ),
        renewal_window_ms: group.whole("renewalWindowMs", DURATION_MS, sink),
    };
    group.finish(sink);
    Some(options)
}

fn read_keepalive(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<KeepaliveOptions> {
    let (value, place) = fields.take("keepalive", sink)?;
    if let Some(literal) = value.as_boolean_lit() {
        return Some(match literal.value {
            true => KeepaliveOptions::On(KeepaliveGroup::default()),
            false => KeepaliveOptions::Off,
        });
    }
    if value.as_object().is_none() {
        sink.error(
            &place,
            format!("expected an object or `false`, found {}", kind(value)),
            "",
        );
        return None;
    }
    let mut group = fields.object("keepalive", sink)?;
    let options = KeepaliveGroup {
        idle_ms: group.whole("idleMs", DURATION_MS, sink),
        timeout_ms: group.whole("timeoutMs", DURATION_MS, sink),
        misses: group.whole(
            "misses",
            Range {
                min: 1,
                max: COUNT_MAX,
            },
            sink,
        ),
    };
    group.finish(sink);
    Some(KeepaliveOptions::On(options))
}

fn read_suspicion(mut fields: Fields<'_, '_>, sink: &mut Sink<'_>) -> SuspicionOptions {
    let options = SuspicionOptions {
        timeout_ms: fields.whole("timeoutMs", DURATION_MS, sink),
        misses: fields.whole(
            "misses",
            Range {
                min: 1,
                max: COUNT_MAX,
            },
            sink,
        ),
    };
    fields.finish(sink);
    options
}

fn read_retry(mut fields: Fields<'_, '_>, sink: &mut Sink<'_>) -> RetryOptions {
    let options = RetryOptions {
        trust_annotations: fields.flag("trustAnnotations", sink),
        replay_after_session_loss: fields.choice(
            "replayAfterSessionLoss",
            &[
                ("never", Replay::Never),
                ("safe", Replay::Safe),
                ("always", Replay::Always),
            ],
            sink,
        ),
    };
    fields.finish(sink);
    options
}

fn read_stop(mut fields: Fields<'_, '_>, sink: &mut Sink<'_>) -> StopOptions {
    let options = StopOptions {
        close_ms: fields.whole("closeMs", DURATION_OR_ZERO_MS, sink),
        terminate_ms: fields.whole("terminateMs", DURATION_OR_ZERO_MS, sink),
        kill_ms: fields.whole("killMs", DURATION_MS, sink),
    };
    fields.finish(sink);
    options
}

/// Settings that contradict each other, looked at after the defaults were merged in.
pub(super) fn contradictions(options: &ServerOptions) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let timeouts = options.timeouts.clone().unwrap_or_default();
    let idle = timeouts.call_idle_ms.unwrap_or(file::CALL_IDLE_MS);
    let total = timeouts.call_total_ms.unwrap_or(file::CALL_TOTAL_MS);
    if idle > total && timeouts.call_idle_ms.is_some() {
        found.push((
            "timeouts",
            format!("`callIdleMs` ({idle}) is longer than `callTotalMs` ({total}) and never fires"),
        ));
    }
    let restart = options.restart.clone().unwrap_or_default();
    let base = restart.backoff_base_ms.unwrap_or(file::BACKOFF_BASE_MS);
    let cap = restart.backoff_cap_ms.unwrap_or(file::BACKOFF_CAP_MS);
    if base > cap {
        found.push((
            "restart",
            format!("`backoffBaseMs` ({base}) is longer than `backoffCapMs` ({cap}), which wins"),
        ));
    }
    let least = restart
        .retry_after_min_ms
        .unwrap_or(file::RETRY_AFTER_MIN_MS);
    let most = restart
        .retry_after_max_ms
        .unwrap_or(file::RETRY_AFTER_MAX_MS);
    if least > most {
        found.push((
            "restart",
            format!(
                "`retryAfterMinMs` ({least}) is longer than `retryAfterMaxMs` ({most}), which wins"
            ),
        ));
    }
    found
}
