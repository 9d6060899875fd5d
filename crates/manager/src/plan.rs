//! What a changed config does to what runs: told before it is done, and after (law 28).

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_core::plan as core;
use schemars::JsonSchema;
use serde::Serialize;

pub use crate::config::{Applies, SettingChange};
use crate::config::{Config, GatewayConfig, ServerConfig, Transport};

/// The steps from what runs to what a config says. Every server is in exactly one of the five lists; all are sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Plan {
    /// New servers.
    pub add: Vec<String>,
    /// Servers that are not in the config any more: unpublished at once, their calls drained.
    pub remove: Vec<String>,
    /// Servers whose connection is made anew, because what it is made from has changed; their calls are drained.
    pub replace: Vec<String>,
    /// Servers whose settings change while their connection stays.
    pub patch: Vec<String>,
    /// Servers that are not touched.
    pub same: Vec<String>,
    /// The keys that differ, by server, for those that are replaced or patched.
    pub changes: BTreeMap<String, Vec<&'static str>>,
    /// Settings of Mainstay itself that differ from those that hold.
    pub gateway: Vec<SettingChange>,
    /// All of it for people: a line for each step, and a summary.
    pub text: String,
}

impl Plan {
    /// Whether nothing would be touched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.touches_no_server() && self.gateway.is_empty()
    }

    /// Whether no server would be touched.
    #[must_use]
    pub fn touches_no_server(&self) -> bool {
        [&self.add, &self.remove, &self.replace, &self.patch]
            .iter()
            .all(|list| list.is_empty())
    }

    /// The settings that hold only after a restart of Mainstay.
    pub fn needs_restart(&self) -> impl Iterator<Item = &str> {
        let changes = self.gateway.iter();
        changes
            .filter(|change| change.applies == Applies::Restart)
            .map(|change| change.key.as_str())
    }
}

/// Compares a config with what runs.
pub(crate) fn of(
    running: &BTreeMap<String, Arc<ServerConfig>>,
    gateway: &GatewayConfig,
    config: &Config,
) -> Plan {
    let current = running
        .iter()
        .map(|(name, server)| (name.clone(), server.fingerprints().into()))
        .collect();
    let wanted = config
        .servers
        .iter()
        .map(|server| (server.name.clone(), server.fingerprints().into()))
        .collect();
    let steps = core::plan(&current, &wanted);
    let changes = config
        .servers
        .iter()
        .filter_map(|server| {
            let what = differences(running.get(&server.name)?, server);
            (!what.is_empty()).then(|| (server.name.clone(), what))
        })
        .collect();
    let mut plan = Plan {
        changes,
        gateway: gateway.changes(&config.gateway),
        text: String::new(),
        add: steps.add,
        remove: steps.remove,
        replace: steps.replace,
        patch: steps.patch,
        same: steps.same,
    };
    plan.text = text(&plan);
    plan
}

fn text(plan: &Plan) -> String {
    let mut lines = Vec::new();
    let steps = [
        ("- remove ", &plan.remove),
        ("~ replace", &plan.replace),
        ("~ patch  ", &plan.patch),
        ("+ add    ", &plan.add),
    ];
    for (verb, names) in steps {
        for name in names {
            let what = plan.changes.get(name).map(|keys| keys.join(", "));
            let what = what.map(|keys| format!(" ({keys})")).unwrap_or_default();
            lines.push(format!("{verb} {name}{what}"));
        }
    }
    for change in &plan.gateway {
        lines.push(match change.applies {
            Applies::Now => format!("~ setting {}", change.key),
            Applies::Restart => format!("! setting {}, which needs a restart", change.key),
        });
    }
    if plan.touches_no_server() {
        lines.push(format!("no server to touch, {} unchanged", plan.same.len()));
    } else {
        lines.push(format!(
            "{} to add, {} to remove, {} to replace, {} to patch, {} unchanged",
            plan.add.len(),
            plan.remove.len(),
            plan.replace.len(),
            plan.patch.len(),
            plan.same.len()
        ));
    }
    lines.join("\n")
}

/// The keys of a server's entry in which two versions differ. Names only: values may be secrets (law 31).
pub(crate) fn differences(before: &ServerConfig, after: &ServerConfig) -> Vec<&'static str> {
    let mut keys = transport_differences(&before.transport, &after.transport);
    keys.extend(before.setting_differences(after));
    keys
}

fn transport_differences(before: &Transport, after: &Transport) -> Vec<&'static str> {
    let differing = |parts: &[(&'static str, bool)]| {
        let differing = parts.iter().filter(|(_, same)| !same);
        differing.map(|(key, _)| *key).collect()
    };
    match (before, after) {
        (
            Transport::Stdio {
                command,
                args,
                env,
                cwd,
            },
            Transport::Stdio {
                command: new_command,
                args: new_args,
                env: new_env,
                cwd: new_cwd,
            },
        ) => differing(&[
            ("command", command == new_command),
            ("args", args == new_args),
            ("env", env == new_env),
            ("cwd", cwd == new_cwd),
        ]),
        (
            Transport::Http { url, kind, headers },
            Transport::Http {
                url: new_url,
                kind: new_kind,
                headers: new_headers,
            },
        ) => differing(&[
            ("url", url == new_url),
            ("type", kind == new_kind),
            ("headers", headers == new_headers),
        ]),
        (Transport::Broken { .. }, Transport::Broken { .. }) => Vec::new(),
        (Transport::Http { .. } | Transport::Broken { .. }, Transport::Stdio { .. }) => {
            vec!["command"]
        }
        (Transport::Stdio { .. } | Transport::Broken { .. }, Transport::Http { .. }) => vec!["url"],
        (Transport::Stdio { .. } | Transport::Http { .. }, Transport::Broken { .. }) => {
            vec!["entry cannot be used"]
        }
    }
}
