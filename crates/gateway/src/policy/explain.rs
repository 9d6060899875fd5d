//! Says what the rules of a configuration decide about somebody and something, and why. Looks at nothing that runs.

use std::collections::BTreeMap;

use mainstay::Principal;
use mainstay::config::{ApprovalFor, Approver, Config, PolicyAction, PolicyConfig, PolicyRule};
use mainstay_core::catalog::exposed_name;
use serde::Serialize;

use super::rules::{self, Thing, What};
use crate::serve::caller::{By, Caller};

/// Whom and what it is asked about. The default is this machine's user, and anything.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The holder of a token of this name.
    pub token: Option<String>,
    /// A principal by its whole name, where it has no token.
    pub principal: Option<String>,
    /// The groups that it belongs to.
    pub groups: Vec<String>,
    /// Claims of its token, by name.
    pub claims: Vec<(String, String)>,
    /// The profile whose endpoint is used.
    pub profile: Option<String>,
    /// The server.
    pub server: String,
    /// What of it.
    pub what: Asked,
}

/// What of a server it is asked about.
#[derive(Debug, Clone, Default)]
pub enum Asked {
    /// The server itself.
    #[default]
    Server,
    /// A tool, by the server's own name or by the one that clients see.
    Tool(String),
    /// A prompt, likewise.
    Prompt(String),
    /// A resource, by the server's own uri.
    Resource(String),
}

/// What the rules decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// Whether it is there at all.
    pub seen: bool,
    /// `allow`, `deny` or `approve`.
    pub action: &'static str,
    /// The rule that decides, or `default`.
    pub rule: String,
    /// Its place in the list, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<usize>,
    /// What else holds, each a sentence.
    pub conditions: Vec<String>,
    /// Rules before it that are about somebody else or something else, each with what does not fit.
    pub passed_over: Vec<String>,
}

/// What the rules of a configuration decide. `None`: it has no policy.
///
/// # Errors
/// The principal's name is none.
pub fn explain(config: &Config, question: &Question) -> Result<Option<Explained>, String> {
    let Some(policy) = config.gateway.policy.as_deref() else {
        return Ok(None);
    };
    let caller = caller(question)?;
    let class = rules::class(policy, &caller);
    let named = match &question.what {
        Asked::Tool(name) | Asked::Prompt(name) => exposed(&question.server, name),
        Asked::Server | Asked::Resource(_) => String::new(),
    };
    let what = match &question.what {
        Asked::Server => What::Other,
        Asked::Tool(_) => What::Tool(&named),
        Asked::Prompt(_) => What::Prompt(&named),
        Asked::Resource(uri) => What::Resource(uri),
    };
    let thing = Thing {
        server: &question.server,
        what,
        profile: question.profile.as_deref(),
    };
    let decision = rules::decide(policy, &class, thing);
    let place = decision.rule.and_then(|rule| place_of(policy, rule));
    let seen = match &question.what {
        Asked::Server => rules::may_hold(policy, &class, thing.server, thing.profile),
        Asked::Tool(_) | Asked::Prompt(_) | Asked::Resource(_) => decision.sees(),
    };
    let before = policy
        .rules
        .iter()
        .take(place.unwrap_or(policy.rules.len()));
    let only = |rule: &PolicyRule| {
        let what = match rules::is_about(rule, &caller) {
            true => "is about something else",
            false => "is about somebody else",
        };
        format!("{} {what}", rule.name)
    };
    Ok(Some(Explained {
        seen,
        action: match decision.action {
            PolicyAction::Allow => "allow",
            PolicyAction::Deny => "deny",
            PolicyAction::Approve => "approve",
        },
        rule: decision.by().to_owned(),
        place,
        conditions: conditions(config, question, decision.rule, decision.read_only),
        passed_over: before.map(only).collect(),
    }))
}

/// The name that clients see, of one that may be it already.
fn exposed(server: &str, name: &str) -> String {
    let sample = exposed_name(server, "x");
    let prefix = sample.strip_suffix('x');
    match prefix.is_some_and(|prefix| name.starts_with(prefix)) {
        true => name.to_owned(),
        false => exposed_name(server, name),
    }
}

fn place_of(policy: &PolicyConfig, rule: &PolicyRule) -> Option<usize> {
    policy
        .rules
        .iter()
        .position(|other| std::ptr::eq(other, rule))
}

fn caller(question: &Question) -> Result<Caller, String> {
    let name = match (&question.token, &question.principal) {
        (Some(token), _) => Some(format!("token:{token}")),
        (None, Some(principal)) => Some(principal.clone()),
        (None, None) => None,
    };
    let principal = match &name {
        Some(name) => {
            let wrong = || format!("`{name}` cannot be the name of a principal");
            Some(Principal::new(name).ok_or_else(wrong)?)
        }
        None => None,
    };
    let mut claims: BTreeMap<Box<str>, Vec<Box<str>>> = BTreeMap::new();
    for (name, value) in &question.claims {
        claims
            .entry(name.as_str().into())
            .or_default()
            .push(value.as_str().into());
    }
    let by = match (&question.token, &question.principal) {
        (Some(_), _) => By::Token,
        (None, Some(name)) if name.starts_with("cert:") => By::Certificate,
        (None, Some(_)) => By::Jwt,
        (None, None) => By::Local,
    };
    Ok(Caller {
        principal,
        by,
        label: None,
        groups: question
            .groups
            .iter()
            .map(|group| group.as_str().into())
            .collect(),
        scopes: Vec::new(),
        claims,
        until_unix_ms: None,
        ended: Default::default(),
        subject: None,
    })
}

fn conditions(
    config: &Config,
    question: &Question,
    rule: Option<&PolicyRule>,
    read_only: bool,
) -> Vec<String> {
    let mut said = Vec::new();
    let profile = question.profile.as_deref();
    let profile = profile.and_then(|name| config.gateway.profiles.get(name));
    if matches!(question.what, Asked::Tool(_))
        && (read_only || profile.is_some_and(|profile| profile.read_only))
    {
        said.push("refused unless the tool is known to read only".to_owned());
    }
    let Some(rule) = rule else { return said };
    if rule.action == PolicyAction::Approve && matches!(question.what, Asked::Tool(_)) {
        let which = match rule.approval.which {
            ApprovalFor::All => "waits for approval",
            ApprovalFor::Destructive => {
                "waits for approval unless the tool is known to destroy nothing"
            }
        };
        let by = match rule.approval.by {
            Approver::Client => "the client's user",
            Approver::Operator => "the operator",
            Approver::Either => "the client's user, or the operator where the client cannot ask",
        };
        said.push(format!(
            "{which}, by {by}, for {} ms at most",
            rule.approval.wait_ms
        ));
    }
    if let Some(limits) = rule.limits {
        if let Some(per_minute) = limits.per_minute {
            said.push(format!(
                "{per_minute} calls a minute, {} at once after a pause",
                limits.burst
            ));
        }
        if let Some(concurrent) = limits.concurrent {
            said.push(format!("{concurrent} calls at the same time"));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(policy: &str) -> Config {
        let text = format!("{{ \"mcpServers\": {{}}, \"mainstay\": {{ \"policy\": {policy} }} }}");
        Config::parse(&text, Path::new("mcp.json")).unwrap().config
    }

    #[test]
    fn a_decision_says_which_rule_and_what_else_holds() {
        let config = config(
            r#"{ "default": "deny", "rules": [
                { "name": "ops", "who": { "groups": ["ops"] } },
                { "name": "others", "servers": ["time"] },
                { "name": "ci", "who": { "tokens": ["ci"] }, "tools": ["git__*"], "readOnly": true, "action": "approve",
                  "limits": { "perMinute": 6 } } ] }"#,
        );
        let mut question = Question {
            token: Some("ci".into()),
            server: "git".into(),
            what: Asked::Tool("push".into()),
            ..Question::default()
        };
        let explained = explain(&config, &question).unwrap().unwrap();
        assert_eq!(
            (explained.seen, explained.action, explained.rule.as_str()),
            (true, "approve", "ci")
        );
        assert_eq!(explained.place, Some(2));
        assert_eq!(
            explained.passed_over,
            [
                "ops is about somebody else",
                "others is about something else"
            ]
        );
        assert_eq!(explained.conditions.len(), 3, "{explained:?}");
        let same = Question {
            what: Asked::Tool("git__push".into()),
            ..question.clone()
        };
        assert_eq!(explain(&config, &same).unwrap().unwrap(), explained);
        question.token = None;
        let explained = explain(&config, &question).unwrap().unwrap();
        assert_eq!(
            (explained.seen, explained.rule.as_str()),
            (false, "default")
        );
        question.groups = vec!["ops".into()];
        assert_eq!(explain(&config, &question).unwrap().unwrap().rule, "ops");
        question.token = Some("a\nb".into());
        assert!(explain(&config, &question).is_err());
        let none = Config::from_servers([]);
        assert_eq!(explain(&none, &Question::default()).unwrap(), None);
    }
}
