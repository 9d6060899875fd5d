//! The `mainstay.policy` section of the file: who sees and calls what, and under which conditions.
//!
//! An ordered list of rules; the first one that fits decides. What the words mean for a request is the gateway's business.

use jsonc_parser::ast::Value;
use schemars::JsonSchema;

use super::file::DURATION_MS_MAX;
use super::filter::Glob;
use super::problem::quoted;
use super::read_options::read_texts;
use super::reader::{Fields, Place, Range, Sink, kind, list, members, wrong_type};

/// Most rules of one file.
const RULES_MAX: usize = 1_000;

/// Longest name of a rule, in characters.
const NAME_CHARS_MAX: usize = 64;

/// How long a call waits for a word about it, unless the config says otherwise.
const APPROVAL_WAIT_MS: u64 = 120_000;

/// Calls per minute, and calls at the same time, that may be set at most.
const CALLS_MAX: u64 = 1_000_000;

/// What becomes of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub enum PolicyAction {
    /// It is seen, and may be called.
    Allow,
    /// It is not there: not listed, not found, not callable.
    Deny,
    /// It is seen, and a call waits until somebody has approved it.
    Approve,
}

/// What becomes of what no rule fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub enum PolicyDefault {
    /// It is seen, and may be called.
    #[default]
    Allow,
    /// It is not there.
    Deny,
}

/// Who may approve a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub enum Approver {
    /// The user of the client that calls, whom the client asks (elicitation). A client that cannot ask is refused.
    Client,
    /// Whoever operates this Mainstay, over the dashboard, the admin API or `mainstay approvals`.
    Operator,
    /// The client's user where the client can ask, else the operator.
    #[default]
    Either,
}

/// Which calls of a rule with `approve` wait for approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub enum ApprovalFor {
    /// Those of tools that may destroy something: all but those of which a trusted server says that they only read, or that
    /// they destroy nothing.
    #[default]
    Destructive,
    /// All of them.
    All,
}

/// How calls are approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Approval {
    /// Which calls.
    pub which: ApprovalFor,
    /// By whom.
    pub by: Approver,
    /// Milliseconds that a call waits for it. Default: 2 min.
    pub wait_ms: u64,
}

impl Default for Approval {
    fn default() -> Self {
        Self {
            which: ApprovalFor::default(),
            by: Approver::default(),
            wait_ms: APPROVAL_WAIT_MS,
        }
    }
}

/// Whose calls are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub enum LimitEach {
    /// All calls of one principal that the rule fits.
    #[default]
    Principal,
    /// Those calls of one principal that are of one tool.
    Tool,
}

/// How much may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallLimits {
    /// Calls per minute in the long run; `None`: any number.
    pub per_minute: Option<u64>,
    /// Calls at once after a pause. Default: as many as in a minute.
    pub burst: u64,
    /// Calls at the same time; `None`: any number.
    pub concurrent: Option<u64>,
    /// Whose calls are counted together.
    pub each: LimitEach,
}

/// Whom a rule is about: who fits any of these.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Who {
    /// Holders of a static token with such a name.
    pub tokens: Vec<Glob>,
    /// Members of such a group.
    pub groups: Vec<Glob>,
    /// Those with such a name (`token:ci`, `https://issuer|subject`, `cert:CN`).
    pub principals: Vec<Glob>,
    /// Those of whom every one of these claims has such a value. Empty: nobody.
    pub claims: Vec<(Box<str>, Vec<Glob>)>,
    /// This machine's user, without any identification.
    pub local: bool,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PolicyRule {
    /// What it is called where a decision is explained.
    pub name: Box<str>,
    /// Whom it is about; `None`: everyone.
    pub who: Option<Who>,
    /// Servers by name; `None`: all.
    pub servers: Option<Vec<Glob>>,
    /// Tools by exposed name.
    pub tools: Option<Vec<Glob>>,
    /// Prompts by exposed name.
    pub prompts: Option<Vec<Glob>>,
    /// Resources by the server's own uri.
    pub resources: Option<Vec<Glob>>,
    /// Only through the endpoints of these profiles; `None`: through all endpoints.
    pub profiles: Option<Vec<Glob>>,
    /// What becomes of it.
    pub action: PolicyAction,
    /// Only tools that read may be called.
    pub read_only: bool,
    /// How calls are approved, for [`PolicyAction::Approve`].
    pub approval: Approval,
    /// How much may be called.
    pub limits: Option<CallLimits>,
}

impl PolicyRule {
    /// Whether it is about everything of the servers that it names.
    #[must_use]
    pub fn is_about_everything(&self) -> bool {
        self.tools.is_none() && self.prompts.is_none() && self.resources.is_none()
    }
}

/// Who sees and calls what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PolicyConfig {
    /// The rules, in their order: the first that fits decides.
    pub rules: Vec<PolicyRule>,
    /// What becomes of what no rule fits.
    pub default: PolicyDefault,
    /// Nobody may call a tool that does not only read.
    pub read_only: bool,
}

/// Who sees and calls what. Rules are tried in their order, and the first one that fits decides.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) struct PolicyOptions {
    /// The rules, in their order: the first that fits decides.
    pub(super) rules: Option<Vec<RuleOptions>>,
    /// What becomes of what no rule fits. `deny` makes the rules a list of what is allowed.
    #[schemars(extend("default" = "allow"))]
    pub(super) default: Option<PolicyDefault>,
    /// Nobody may call a tool that does not only read, by its `readOnlyHint` on servers whose annotations are trusted
    /// (`retry.trustAnnotations`) or by `tools.retry`; other tools are listed and refused.
    #[schemars(extend("default" = false))]
    pub(super) read_only: Option<bool>,
}

/// One rule: who, what, and what becomes of it. Patterns know `*` and `?`.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) struct RuleOptions {
    /// What the rule is called in refusals, in the audit log and by `mainstay policy explain`. Default: its place in the list.
    pub(super) name: Option<String>,
    /// Whom it is about: `everyone`, `local`, or an object; who fits any of its members is meant. Default: everyone.
    #[schemars(with = "Option<WhoOrWord>")]
    pub(super) who: Option<WhoOptions>,
    /// Servers by name. Default: all.
    pub(super) servers: Option<Vec<String>>,
    /// Only tools, and of those the ones with such an exposed name (`server__tool`). Default: everything.
    pub(super) tools: Option<Vec<String>>,
    /// Only prompts (and whatever `tools` and `resources` name), by exposed name.
    pub(super) prompts: Option<Vec<String>>,
    /// Only resources (and whatever `tools` and `prompts` name), by the server's own uri.
    pub(super) resources: Option<Vec<String>>,
    /// Only what is reached through the endpoints of these profiles. Default: through any endpoint.
    pub(super) profiles: Option<Vec<String>>,
    /// `allow`: seen, and may be called. `deny`: not there, for these. `approve`: seen, and somebody has to approve calls.
    #[schemars(extend("default" = "allow"))]
    pub(super) action: Option<PolicyAction>,
    /// Of tools, only those that read may be called; others are listed and refused.
    #[schemars(extend("default" = false))]
    pub(super) read_only: Option<bool>,
    /// How calls are approved, with `action: approve`.
    pub(super) approval: Option<ApprovalOptions>,
    /// How much may be called.
    pub(super) limits: Option<CallLimitOptions>,
}

/// `everyone`, `local`, or who.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) enum WhoOrWord {
    Word(WhoWord),
    Who(WhoOptions),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) enum WhoWord {
    Everyone,
    Local,
}

/// Whom a rule is about: who fits any of these.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) struct WhoOptions {
    /// Holders of a token of this Mainstay with such a name.
    pub(super) tokens: Option<Vec<String>>,
    /// Members of such a group.
    pub(super) groups: Option<Vec<String>>,
    /// Those with such a name, as the audit log writes it: `token:NAME`, `ISSUER|SUBJECT`, `cert:NAME`.
    pub(super) principals: Option<Vec<String>>,
    /// Those of whose signed token every claim named here has one of these values.
    pub(super) claims: Option<std::collections::BTreeMap<String, Vec<String>>>,
    /// This machine's user, without any identification.
    pub(super) local: Option<bool>,
}

/// How calls are approved.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) struct ApprovalOptions {
    /// Which calls wait: those of tools that may destroy something, or all.
    #[schemars(rename = "for", extend("default" = "destructive"))]
    pub(super) which: Option<ApprovalFor>,
    /// Who approves. A client may be a program that approves for itself: then say `operator`.
    #[schemars(extend("default" = "either"))]
    pub(super) by: Option<Approver>,
    /// How long a call waits for it, in milliseconds; then it is refused.
    #[schemars(range(min = 1, max = DURATION_MS_MAX), extend("default" = APPROVAL_WAIT_MS))]
    pub(super) wait_ms: Option<u64>,
}

/// How much may be called. A call beyond it is refused, and told when to come again.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) struct CallLimitOptions {
    /// Calls per minute in the long run.
    #[schemars(range(min = 1, max = CALLS_MAX))]
    pub(super) per_minute: Option<u64>,
    /// Calls at once after a pause. Default: as many as in a minute.
    #[schemars(range(min = 1, max = CALLS_MAX))]
    pub(super) burst: Option<u64>,
    /// Calls at the same time.
    #[schemars(range(min = 1, max = CALLS_MAX))]
    pub(super) concurrent: Option<u64>,
    /// What is counted together, always for each principal by itself: all of its calls that the rule fits, or those of each
    /// tool.
    #[schemars(extend("default" = "principal"))]
    pub(super) each: Option<LimitEach>,
}

const DEFAULTS: [(&str, PolicyDefault); 2] = [
    ("allow", PolicyDefault::Allow),
    ("deny", PolicyDefault::Deny),
];
const ACTIONS: [(&str, PolicyAction); 3] = [
    ("allow", PolicyAction::Allow),
    ("deny", PolicyAction::Deny),
    ("approve", PolicyAction::Approve),
];
const WHICH: [(&str, ApprovalFor); 2] = [
    ("destructive", ApprovalFor::Destructive),
    ("all", ApprovalFor::All),
];
const APPROVERS: [(&str, Approver); 3] = [
    ("client", Approver::Client),
    ("operator", Approver::Operator),
    ("either", Approver::Either),
];
const EACH: [(&str, LimitEach); 2] = [
    ("principal", LimitEach::Principal),
    ("tool", LimitEach::Tool),
];

/// Reads `mainstay.policy`. `None`: there is none.
pub(super) fn read_policy(
    fields: &mut Fields<'_, '_>,
    sink: &mut Sink<'_>,
) -> Option<PolicyConfig> {
    let mut group = fields.object("policy", sink)?;
    let place = group.place.clone();
    let default = group.choice("default", &DEFAULTS, sink);
    let policy = PolicyConfig {
        rules: read_rules(&mut group, sink),
        default: default.unwrap_or_default(),
        read_only: group.flag("readOnly", sink).unwrap_or(false),
    };
    group.finish(sink);
    let plain = |rule: &PolicyRule| {
        rule.action == PolicyAction::Allow && !rule.read_only && rule.limits.is_none()
    };
    if default.is_none() && !policy.rules.is_empty() && policy.rules.iter().all(plain) {
        sink.warn(
            &place,
            "these rules only allow what is allowed anyway",
            "write `\"default\": \"deny\"` if everything else is to be forbidden",
        );
    }
    Some(policy)
}

fn read_rules(group: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Vec<PolicyRule> {
    let Some((value, place)) = group.take("rules", sink) else {
        return Vec::new();
    };
    let elements = list(value, &place, sink).unwrap_or_default();
    if elements.len() > RULES_MAX {
        let message = format!(
            "there are {} rules, more than the {RULES_MAX} that are read",
            elements.len()
        );
        sink.error(&place, message, "merge some of them");
        return Vec::new();
    }
    let mut rules: Vec<PolicyRule> = Vec::with_capacity(elements.len());
    for (index, (element, place)) in elements.into_iter().enumerate() {
        if let Some(rule) = read_rule(element, place.clone(), index, sink) {
            if rules.iter().any(|other| other.name == rule.name) {
                let message = format!("two rules are called {}", quoted(&rule.name));
                sink.error(&place, message, "give one of them another `name`");
            }
            rules.push(rule);
        }
    }
    rules
}

fn read_rule(
    value: &Value<'_>,
    place: Place,
    index: usize,
    sink: &mut Sink<'_>,
) -> Option<PolicyRule> {
    let Some(object) = value.as_object() else {
        wrong_type(value, "an object", &place, sink);
        return None;
    };
    let mut fields = Fields::new(object, place.clone(), sink);
    let name = read_name(&mut fields, sink).unwrap_or_else(|| format!("rules[{index}]"));
    let who = read_who(&mut fields, sink);
    let mut globs = |key| read_globs(&mut fields, key, sink);
    let (servers, tools) = (globs("servers"), globs("tools"));
    let (prompts, resources, profiles) = (globs("prompts"), globs("resources"), globs("profiles"));
    let action = fields
        .choice("action", &ACTIONS, sink)
        .unwrap_or(PolicyAction::Allow);
    let read_only = fields.flag("readOnly", sink).unwrap_or(false);
    let approval = fields.object("approval", sink).map(|group| {
        if action != PolicyAction::Approve {
            sink.warn(
                &group.place,
                "`approval` has no effect without `\"action\": \"approve\"`",
                "add that, or remove `approval`",
            );
        }
        read_approval(group, sink)
    });
    let limits = fields
        .object("limits", sink)
        .and_then(|group| read_limits(group, sink));
    if action == PolicyAction::Deny && (read_only || limits.is_some()) {
        sink.warn(
            &place,
            "`readOnly` and `limits` have no effect on what is denied",
            "remove them, or write another `action`",
        );
    }
    fields.finish(sink);
    Some(PolicyRule {
        name: name.into(),
        who: who?,
        servers,
        tools,
        prompts,
        resources,
        profiles,
        action,
        read_only,
        approval: approval.unwrap_or_default(),
        limits,
    })
}

fn read_name(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<String> {
    let (name, place) = fields.text("name", sink)?;
    let fits =
        (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if !fits {
        sink.error(
            &place,
            "a rule's name has 1 to 64 characters and no control characters",
            "give it another name",
        );
    }
    fits.then_some(name)
}

fn read_globs(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    sink: &mut Sink<'_>,
) -> Option<Vec<Glob>> {
    let (value, place) = fields.take(key, sink)?;
    let texts = read_texts(value, &place, sink)?;
    if texts.is_empty() {
        let message = format!("an empty list fits nothing, so this rule never does ({key})");
        sink.warn(&place, message, "leave the key out to mean everything");
    }
    Some(texts.into_iter().map(Glob::new).collect())
}

/// `Some(None)`: everyone. `None`: it cannot be understood, and a rule must not become one for everyone by that.
fn read_who(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<Option<Who>> {
    let Some((value, place)) = fields.take("who", sink) else {
        return Some(None);
    };
    let local = Who {
        local: true,
        ..Who::default()
    };
    if let Some(word) = value.as_string_lit() {
        return match &*word.value {
            "everyone" => Some(None),
            "local" => Some(Some(local)),
            other => {
                sink.error(
                    &place,
                    format!("`who` cannot be {}", quoted(other)),
                    "write `everyone`, `local`, or an object such as `{ \"groups\": [\"dev\"] }`",
                );
                None
            }
        };
    }
    let Some(object) = value.as_object() else {
        let message = format!("expected an object or a word, found {}", kind(value));
        sink.error(&place, message, "");
        return None;
    };
    let mut group = Fields::new(object, place.clone(), sink);
    let mut globs = |key| read_globs(&mut group, key, sink).unwrap_or_default();
    let (tokens, groups, principals) = (globs("tokens"), globs("groups"), globs("principals"));
    let claims = read_claims(&mut group, sink);
    let who = Who {
        tokens,
        groups,
        principals,
        claims,
        local: group.flag("local", sink).unwrap_or(false),
    };
    group.finish(sink);
    if who == Who::default() {
        sink.error(
            &place,
            "`who` names nobody",
            "leave `who` out to mean everyone, or name `tokens`, `groups`, `principals`, `claims` or `local`",
        );
        return None;
    }
    Some(Some(who))
}

fn read_claims(group: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Vec<(Box<str>, Vec<Glob>)> {
    let Some((value, place)) = group.take("claims", sink) else {
        return Vec::new();
    };
    let mut claims = Vec::new();
    for (property, place) in members(value, &place, sink).unwrap_or_default() {
        let values = match property.value.as_string_lit() {
            Some(one) => Some(vec![one.value.to_string()]),
            None => read_texts(&property.value, &place, sink),
        };
        let globs = values.unwrap_or_default().into_iter().map(Glob::new);
        claims.push((property.name.as_str().into(), globs.collect()));
    }
    claims
}

fn read_approval(mut group: Fields<'_, '_>, sink: &mut Sink<'_>) -> Approval {
    let wait = Range {
        min: 1,
        max: DURATION_MS_MAX,
    };
    let approval = Approval {
        which: group.choice("for", &WHICH, sink).unwrap_or_default(),
        by: group.choice("by", &APPROVERS, sink).unwrap_or_default(),
        wait_ms: group
            .whole("waitMs", wait, sink)
            .unwrap_or(APPROVAL_WAIT_MS),
    };
    group.finish(sink);
    approval
}

fn read_limits(mut group: Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<CallLimits> {
    let count = Range {
        min: 1,
        max: CALLS_MAX,
    };
    let place = group.place.clone();
    let per_minute = group.whole("perMinute", count, sink);
    let burst = group.whole("burst", count, sink);
    let concurrent = group.whole("concurrent", count, sink);
    let each = group.choice("each", &EACH, sink).unwrap_or_default();
    group.finish(sink);
    if per_minute.is_none() && concurrent.is_none() {
        sink.warn(
            &place,
            "these limits limit nothing",
            "write `perMinute`, `concurrent` or both",
        );
        return None;
    }
    Some(CallLimits {
        burst: burst.or(per_minute).unwrap_or(1),
        per_minute,
        concurrent,
        each,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, Loaded};
    use super::*;

    fn read(policy: &str) -> Loaded {
        let text = format!(
            "{{ \"mcpServers\": {{ \"a\": {{ \"command\": \"x\" }} }},\n \"mainstay\": {{ \"policy\": {policy} }} }}"
        );
        Config::parse(&text, Path::new("mcp.json")).unwrap()
    }

    #[test]
    fn rules_are_read_in_their_order() {
        let loaded = read(
            r#"{ "default": "deny", "readOnly": true, "rules": [
                { "name": "ops", "who": { "groups": ["ops*"], "claims": { "dept": "it", "level": ["3", "4"] } } },
                { "who": "local", "servers": ["git*"], "tools": ["*__delete_*"], "action": "approve",
                  "approval": { "for": "all", "by": "operator", "waitMs": 5000 } },
                { "who": "everyone", "tools": ["*"], "readOnly": true, "limits": { "perMinute": 60, "concurrent": 2, "each": "tool" } },
                { "profiles": ["code"], "action": "deny" } ] }"#,
        );
        assert_eq!(loaded.problems, []);
        let policy = loaded.config.gateway.policy.as_deref().unwrap();
        assert_eq!(policy.default, PolicyDefault::Deny);
        assert!(policy.read_only);
        let names: Vec<_> = policy.rules.iter().map(|rule| &*rule.name).collect();
        assert_eq!(names, ["ops", "rules[1]", "rules[2]", "rules[3]"]);
        let who = policy.rules[0].who.as_ref().unwrap();
        assert!(who.groups[0].matches("ops-eu") && who.claims.len() == 2 && !who.local);
        let second = &policy.rules[1];
        assert!(second.who.as_ref().unwrap().local);
        assert_eq!(second.action, PolicyAction::Approve);
        let approval = Approval {
            which: ApprovalFor::All,
            by: Approver::Operator,
            wait_ms: 5_000,
        };
        assert_eq!(second.approval, approval);
        let third = &policy.rules[2];
        let limits = third.limits.unwrap();
        assert_eq!((limits.per_minute, limits.burst), (Some(60), 60));
        assert!(third.who.is_none() && third.read_only && !third.is_about_everything());
        assert_eq!(policy.rules[3].action, PolicyAction::Deny);
        assert!(policy.rules[3].is_about_everything());
    }

    #[test]
    fn what_is_no_rule_refuses_the_file_and_says_where() {
        for (wrong, message, at) in [
            (
                r#"{ "rules": [ { "who": "evryone" } ] }"#,
                "`who` cannot be",
                "mainstay.policy.rules[0].who",
            ),
            (
                r#"{ "rules": [ { "who": {} } ] }"#,
                "names nobody",
                "mainstay.policy.rules[0].who",
            ),
            (
                r#"{ "rules": [ { "who": { "groups": "dev" } } ] }"#,
                "expected a list",
                "mainstay.policy.rules[0].who.groups",
            ),
            (
                r#"{ "rules": [ 5 ] }"#,
                "expected an object",
                "mainstay.policy.rules[0]",
            ),
            (
                r#"{ "rules": [ { "action": "alow" } ] }"#,
                "cannot be `alow`",
                "mainstay.policy.rules[0].action",
            ),
            (
                r#"{ "rules": [ { "name": "x" }, { "name": "x" } ] }"#,
                "two rules",
                "mainstay.policy.rules[1]",
            ),
            (
                r#"{ "rules": [ { "limits": { "perMinute": 0 } } ] }"#,
                "not a number",
                "mainstay.policy.rules[0].limits.perMinute",
            ),
            ("true", "expected an object", "mainstay.policy"),
        ] {
            let text =
                format!("{{ \"mcpServers\": {{}}, \"mainstay\": {{ \"policy\": {wrong} }} }}");
            let refused = Config::parse(&text, Path::new("mcp.json")).unwrap_err();
            let found = refused.problems().iter().any(|problem| {
                let origin = problem.origin.as_ref().unwrap();
                problem.message.contains(message) && origin.path == at
            });
            assert!(found, "{wrong}: {:?}", refused.problems());
        }
    }

    #[test]
    fn what_has_no_effect_is_told() {
        for (policy, message) in [
            (
                r#"{ "rules": [ { "servers": ["a"] } ] }"#,
                "only allow what is allowed anyway",
            ),
            (
                r#"{ "rules": [ { "action": "deny", "readOnly": true } ] }"#,
                "no effect on what is denied",
            ),
            (
                r#"{ "rules": [ { "action": "deny", "approval": {} } ] }"#,
                "`approval` has no effect",
            ),
            (
                r#"{ "rules": [ { "action": "deny", "tools": [] } ] }"#,
                "fits nothing",
            ),
            (
                r#"{ "rules": [ { "limits": {} } ], "default": "deny" }"#,
                "limit nothing",
            ),
        ] {
            let loaded = read(policy);
            let told = |problem: &super::super::Problem| problem.message.contains(message);
            assert!(
                loaded.problems.iter().any(told),
                "{policy}: {:?}",
                loaded.problems
            );
            assert!(!loaded.has_errors(), "{policy}");
        }
    }
}
