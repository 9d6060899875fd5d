//! Tests of the rules: who, what, and which one decides.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mainstay::Principal;
use mainstay::config::Config;
use proptest::prelude::*;

use super::*;

/// The policy of a config.
pub(crate) fn policy(text: &str) -> Arc<PolicyConfig> {
    let text = format!("{{ \"mcpServers\": {{}}, \"mainstay\": {{ \"policy\": {text} }} }}");
    let loaded = Config::parse(&text, Path::new("mcp.json")).unwrap();
    assert!(!loaded.has_errors(), "{:?}", loaded.problems);
    loaded.config.gateway.policy.unwrap()
}

/// Somebody with a token, and in these groups.
pub(crate) fn holder(token: &str, groups: &[&str]) -> Caller {
    Caller {
        principal: Principal::new(&format!("token:{token}")),
        by: By::Token,
        label: Some(token.into()),
        groups: groups.iter().map(|group| (*group).into()).collect(),
        scopes: Vec::new(),
        claims: BTreeMap::new(),
        until_unix_ms: None,
        ended: Default::default(),
        subject: None,
    }
}

fn tool<'a>(server: &'a str, exposed: &'a str) -> Thing<'a> {
    Thing {
        server,
        what: What::Tool(exposed),
        profile: None,
    }
}

fn action(policy: &PolicyConfig, caller: &Caller, thing: Thing<'_>) -> (PolicyAction, String) {
    let decision = decide(policy, &class(policy, caller), thing);
    (decision.action, decision.by().to_owned())
}

#[test]
fn the_first_rule_that_fits_decides() {
    let policy = policy(
        r#"{ "default": "deny", "rules": [
            { "name": "no-deletes", "tools": ["*__delete_*"], "action": "deny" },
            { "name": "ops", "who": { "groups": ["ops"] } },
            { "name": "ci", "who": { "tokens": ["ci-*"] }, "servers": ["git*"], "tools": ["*__get_*"] } ] }"#,
    );
    let (ops, ci, other) = (holder("o", &["ops"]), holder("ci-1", &[]), holder("x", &[]));
    for (who, thing, wanted) in [
        (
            &ops,
            tool("github", "github__get_x"),
            (PolicyAction::Allow, "ops"),
        ),
        (
            &ops,
            tool("github", "github__delete_x"),
            (PolicyAction::Deny, "no-deletes"),
        ),
        (
            &ci,
            tool("github", "github__get_x"),
            (PolicyAction::Allow, "ci"),
        ),
        (
            &ci,
            tool("github", "github__put_x"),
            (PolicyAction::Deny, "default"),
        ),
        (
            &ci,
            tool("time", "time__get_x"),
            (PolicyAction::Deny, "default"),
        ),
        (
            &other,
            tool("github", "github__get_x"),
            (PolicyAction::Deny, "default"),
        ),
    ] {
        let (found, by) = action(&policy, who, thing);
        assert_eq!((found, by.as_str()), wanted, "{thing:?}");
    }
    let local = Caller::local();
    assert_eq!(
        action(&policy, &local, tool("a", "a__b")).0,
        PolicyAction::Deny
    );
}

#[test]
fn who_somebody_is() {
    let mut jwt = holder("x", &[]);
    jwt.by = By::Jwt;
    jwt.principal = Principal::new("https://issuer|sub");
    jwt.claims
        .insert("dept".into(), vec!["it".into(), "hr".into()]);
    jwt.claims.insert("level".into(), vec!["3".into()]);
    let is = |who: &str, caller: &Caller| {
        let policy = policy(&format!(
            r#"{{ "default": "deny", "rules": [ {{ "who": {who} }} ] }}"#
        ));
        action(&policy, caller, tool("a", "a__b")).0 == PolicyAction::Allow
    };
    for (who, fits) in [
        (r#"{ "claims": { "dept": "it" } }"#, true),
        (
            r#"{ "claims": { "dept": ["x", "h?"], "level": "3" } }"#,
            true,
        ),
        (r#"{ "claims": { "dept": "it", "level": "4" } }"#, false),
        (r#"{ "claims": { "no": "it" } }"#, false),
        (
            r#"{ "claims": { "dept": "x" }, "principals": ["https://issuer|*"] }"#,
            true,
        ),
        (r#"{ "tokens": ["*"] }"#, false),
        (r#""local""#, false),
        (r#""everyone""#, true),
    ] {
        assert_eq!(is(who, &jwt), fits, "{who}");
    }
    assert!(is(r#"{ "tokens": ["ci"] }"#, &holder("ci", &[])));
    assert!(!is(r#"{ "tokens": ["token:ci"] }"#, &holder("ci", &[])));
    // A token that is called like a pattern, or like another way to be known, is nobody else.
    assert!(!is(r#"{ "tokens": ["ci"] }"#, &holder("*", &[])));
    assert!(!is(
        r#"{ "principals": ["cert:a"] }"#,
        &holder("cert:a", &[])
    ));
    let local = Caller::local();
    assert!(
        is(r#""local""#, &local)
            && !is(
                r#"{ "tokens": ["*"], "principals": ["*"], "groups": ["*"] }"#,
                &local
            )
    );
}

#[test]
fn a_server_is_there_if_anything_of_it_can_be() {
    let rules = r#"{ "default": "deny", "rules": [
        { "servers": ["secret"], "action": "deny" },
        { "tools": ["github__get_*"] },
        { "servers": ["docs"], "resources": ["docs://*"] },
        { "profiles": ["desk"], "servers": ["time"] } ] }"#;
    let policy = policy(rules);
    let class = class(&policy, &Caller::local());
    let there = |server, profile| may_hold(&policy, &class, server, profile);
    assert!(there("github", None) && there("docs", None));
    assert!(!there("time", None) && there("time", Some("desk")) && !there("time", Some("other")));
    assert!(!there("secret", None) && !there("secret", Some("desk")));
    assert!(may_enter(&policy, &class, "desk") && may_enter(&policy, &class, "other"));
}

#[test]
fn a_profile_is_there_if_anything_can_be_seen_through_it() {
    let policy = policy(
        r#"{ "rules": [ { "profiles": ["ops"], "who": { "groups": ["ops"] } }, { "profiles": ["ops"], "action": "deny" } ] }"#,
    );
    let enters = |caller: &Caller, profile| may_enter(&policy, &class(&policy, caller), profile);
    assert!(enters(&holder("a", &["ops"]), "ops") && !enters(&holder("b", &[]), "ops"));
    assert!(enters(&holder("b", &[]), "desk"));
    // What is denied through the profile is not denied elsewhere.
    let seen = action(&policy, &holder("b", &[]), tool("a", "a__b"));
    assert_eq!(seen.0, PolicyAction::Allow);
}

fn word() -> impl Strategy<Value = String> {
    "[ab*]{0,3}"
}

fn rule() -> impl Strategy<Value = String> {
    let globs = || prop::option::of(prop::collection::vec(word(), 1..3));
    let action = prop::sample::select(vec!["allow", "deny", "approve"]);
    (globs(), globs(), globs(), globs(), globs(), action).prop_map(
        |(tokens, servers, tools, resources, profiles, action)| {
            let mut rule = serde_json::json!({ "action": action });
            if let Some(tokens) = tokens {
                rule["who"] = serde_json::json!({ "tokens": tokens });
            }
            let lists = [
                ("servers", servers),
                (
                    "tools",
                    tools.map(|globs| globs.iter().map(|glob| format!("{glob}__*")).collect()),
                ),
                ("resources", resources),
                ("profiles", profiles),
            ];
            for (key, list) in lists {
                if let Some(list) = list {
                    rule[key] = serde_json::json!(list);
                }
            }
            rule.to_string()
        },
    )
}

proptest! {
    /// Whatever can be seen is on a server, and behind a profile, that is there; and what decides is the first rule that
    /// fits, said without cleverness.
    #[test]
    fn law_32_what_is_seen_is_where_one_may_look(
        rules in prop::collection::vec(rule(), 0..6),
        default in prop::sample::select(vec!["allow", "deny"]),
        token in "[ab]{1,2}",
        server in "[ab]{1,2}",
        name in "[ab]{1,2}",
        profile in prop::option::of("[ab]{1,2}"),
        is_tool in prop::bool::ANY,
    ) {
        let policy = policy(&format!(r#"{{ "default": "{default}", "rules": [{}] }}"#, rules.join(",")));
        let caller = holder(&token, &[]);
        let class = class(&policy, &caller);
        let exposed = format!("{server}__{name}");
        let what = if is_tool { What::Tool(&exposed) } else { What::Resource(&name) };
        let thing = Thing { server: &server, what, profile: profile.as_deref() };
        let decision = decide(&policy, &class, thing);
        if decision.sees() {
            prop_assert!(may_hold(&policy, &class, &server, profile.as_deref()));
            if let Some(profile) = &profile {
                prop_assert!(may_enter(&policy, &class, profile));
            }
        }
        let list = |globs: &Option<Vec<Glob>>, text: &str| globs.as_ref().map(|globs| globs.iter().any(|glob| glob.matches(text)));
        let first = policy.rules.iter().find(|rule| {
            let who = rule.who.as_ref().is_none_or(|who| who.tokens.iter().any(|glob| glob.matches(&token)));
            let at = match (&rule.profiles, &profile) {
                (Some(_), None) => false,
                (globs, Some(profile)) => list(globs, profile) != Some(false),
                (None, None) => true,
            };
            let about = match (&rule.tools, &rule.resources) {
                (None, None) => true,
                (tools, _) if is_tool => list(tools, &exposed) == Some(true),
                (_, resources) => list(resources, &name) == Some(true),
            };
            who && at && about && list(&rule.servers, &server) != Some(false)
        });
        prop_assert_eq!(first.map(|rule| &rule.name), decision.rule.map(|rule| &rule.name));
    }
}
