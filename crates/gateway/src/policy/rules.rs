//! Decides by the rules: whom a rule is about, and which rule is the first that fits a thing. Pure functions of the
//! configuration, the caller and the thing.

use mainstay::config::{Glob, PolicyAction, PolicyConfig, PolicyDefault, PolicyRule, Who};
use mainstay_core::catalog::exposed_name;

use crate::serve::caller::{By, Caller};

/// The rules whose `who` a caller fits, by their places in the list. Callers with the same rules see the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Class(Box<[u32]>);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What<'a> {
    /// A tool, by its exposed name.
    Tool(&'a str),
    /// A prompt, by its exposed name.
    Prompt(&'a str),
    /// A resource or a template of resources, by the server's own uri.
    Resource(&'a str),
    /// Something else of the server, of which the rules have no word.
    Other,
}

/// What is asked for, of whom, and through which endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thing<'a> {
    pub(crate) server: &'a str,
    pub(crate) what: What<'a>,
    /// The profile whose endpoint it is asked at.
    pub(crate) profile: Option<&'a str>,
}

/// What the rules say of a thing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decision<'p> {
    /// The rule that decided; `None`: none fits, the default did.
    pub(crate) rule: Option<&'p PolicyRule>,
    pub(crate) action: PolicyAction,
    /// Of tools, only those that read may be called.
    pub(crate) read_only: bool,
}

impl Decision<'_> {
    /// Whether it is there at all.
    pub(crate) fn sees(&self) -> bool {
        match self.action {
            PolicyAction::Allow | PolicyAction::Approve => true,
            PolicyAction::Deny => false,
        }
    }

    /// What decided, in words.
    pub(crate) fn by(&self) -> &str {
        self.rule.map_or("default", |rule| &rule.name)
    }
}

/// The rules that are about a caller.
pub(crate) fn class(policy: &PolicyConfig, caller: &Caller) -> Class {
    let places = policy
        .rules
        .iter()
        .zip(0..)
        .filter(|(rule, _)| is_about(rule, caller));
    Class(places.map(|(_, place)| place).collect())
}

/// Whether a rule is about a caller.
pub(crate) fn is_about(rule: &PolicyRule, caller: &Caller) -> bool {
    rule.who.as_ref().is_none_or(|who| is(who, caller))
}

/// What the rules of a class say of a thing.
pub(crate) fn decide<'p>(
    policy: &'p PolicyConfig,
    class: &Class,
    thing: Thing<'_>,
) -> Decision<'p> {
    let rule = of_class(policy, class).find(|rule| fits(rule, thing));
    match rule {
        Some(rule) => Decision {
            action: rule.action,
            read_only: rule.read_only || policy.read_only,
            rule: Some(rule),
        },
        None => Decision {
            action: match policy.default {
                PolicyDefault::Allow => PolicyAction::Allow,
                PolicyDefault::Deny => PolicyAction::Deny,
            },
            read_only: policy.read_only,
            rule: None,
        },
    }
}

/// Whether callers of a class may see anything of a server at all: otherwise it is not there for them.
pub(crate) fn may_hold(
    policy: &PolicyConfig,
    class: &Class,
    server: &str,
    profile: Option<&str>,
) -> bool {
    for rule in of_class(policy, class) {
        let here = is_at(rule, profile) && any(rule.servers.as_deref(), server);
        if !here {
            continue;
        }
        let seen = rule.action != PolicyAction::Deny;
        if rule.is_about_everything() {
            return seen;
        }
        if seen && could_fit_of(rule, server) {
            return true;
        }
    }
    policy.default == PolicyDefault::Allow
}

/// Whether callers of a class may see anything through a profile's endpoint.
pub(crate) fn may_enter(policy: &PolicyConfig, class: &Class, profile: &str) -> bool {
    for rule in of_class(policy, class) {
        if !is_at(rule, Some(profile)) {
            continue;
        }
        if rule.action != PolicyAction::Deny {
            return true;
        }
        if rule.is_about_everything() && rule.servers.is_none() {
            return false;
        }
    }
    policy.default == PolicyDefault::Allow
}

fn of_class<'p>(policy: &'p PolicyConfig, class: &Class) -> impl Iterator<Item = &'p PolicyRule> {
    let places = class
        .0
        .iter()
        .filter_map(|place| usize::try_from(*place).ok());
    places.filter_map(|place| policy.rules.get(place))
}

fn is(who: &Who, caller: &Caller) -> bool {
    let matches = |globs: &[Glob], text: &str| globs.iter().any(|glob| glob.matches(text));
    let name = caller.principal.as_ref().map(mainstay::Principal::name);
    let is_local = who.local && caller.by == By::Local && name.is_none();
    let token = name.filter(|_| caller.by == By::Token);
    let token = token.map(|name| name.strip_prefix("token:").unwrap_or(name));
    let claims = || {
        !who.claims.is_empty()
            && who.claims.iter().all(|(claim, globs)| {
                let values = caller.claims.get(claim);
                values.is_some_and(|values| values.iter().any(|value| matches(globs, value)))
            })
    };
    is_local
        || token.is_some_and(|token| matches(&who.tokens, token))
        || name.is_some_and(|name| matches(&who.principals, name))
        || caller
            .groups
            .iter()
            .any(|group| matches(&who.groups, group))
        || claims()
}

fn fits(rule: &PolicyRule, thing: Thing<'_>) -> bool {
    let one_of = |globs: &Option<Vec<Glob>>, name| {
        let globs = globs.as_deref();
        globs.is_some_and(|globs| globs.iter().any(|glob| glob.matches(name)))
    };
    is_at(rule, thing.profile)
        && any(rule.servers.as_deref(), thing.server)
        && (rule.is_about_everything()
            || match thing.what {
                What::Tool(exposed) => one_of(&rule.tools, exposed),
                What::Prompt(exposed) => one_of(&rule.prompts, exposed),
                What::Resource(uri) => one_of(&rule.resources, uri),
                What::Other => false,
            })
}

fn is_at(rule: &PolicyRule, profile: Option<&str>) -> bool {
    match (&rule.profiles, profile) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(globs), Some(profile)) => globs.iter().any(|glob| glob.matches(profile)),
    }
}

fn any(globs: Option<&[Glob]>, name: &str) -> bool {
    globs.is_none_or(|globs| globs.iter().any(|glob| glob.matches(name)))
}

/// Whether anything of a server can fit a rule that is about some things only.
fn could_fit_of(rule: &PolicyRule, server: &str) -> bool {
    let exposed = exposed_name(server, "x");
    // Names that had to be altered have another end; their beginning is the server's all the same.
    let prefix = exposed.find("__").map_or("", |end| &exposed[..end + 2]);
    let begins = |globs: &Option<Vec<Glob>>| {
        let mut globs = globs.iter().flatten();
        globs.any(|glob| glob.can_begin_with(prefix))
    };
    // An uri says nothing of its server.
    let resources = rule
        .resources
        .as_ref()
        .is_some_and(|globs| !globs.is_empty());
    begins(&rule.tools) || begins(&rule.prompts) || resources
}

#[cfg(test)]
pub(crate) mod tests;
