//! Profiles: named parts of what all servers offer, so that each client sees what it needs, and how tools are found.

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonc_parser::ast::Value;
use schemars::JsonSchema;

use super::ServerConfig;
use super::filter::{Glob, ToolFilter};
use super::problem::quoted;
use super::read_options::read_texts;
use super::reader::{Fields, Place, Sink, members, nearest, wrong_type};

/// Most profiles of one file.
const PROFILES_MAX: usize = 1_000;

/// Longest name of a profile, in characters.
const NAME_CHARS_MAX: usize = 64;

/// How clients find tools on an endpoint of several servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Discovery {
    /// All tools are listed.
    #[default]
    List,
    /// A few tools are listed that find, describe and call the others: for clients that take only so many tools.
    Search,
}

/// A part of what all servers offer, at an endpoint of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Profile {
    /// The servers whose names match one of these; `None`: all.
    pub servers: Option<Vec<Glob>>,
    /// Of those servers, the tools with these exposed names (`server__tool`).
    pub tools: ToolFilter,
    /// How tools are found. `None`: as on the endpoint of all servers.
    pub discovery: Option<Discovery>,
    /// Of its tools, only those that read may be called there.
    pub read_only: bool,
}

impl Profile {
    /// Whether a server of this name belongs to it.
    #[must_use]
    pub fn has_server(&self, name: &str) -> bool {
        let any = |patterns: &Vec<Glob>| patterns.iter().any(|pattern| pattern.matches(name));
        self.servers.as_ref().is_none_or(any)
    }

    /// Whether a tool of one of its servers belongs to it, by its exposed name.
    #[must_use]
    pub fn has_tool(&self, exposed: &str) -> bool {
        self.tools.allows(exposed)
    }
}

/// Profiles by name.
pub type Profiles = BTreeMap<String, Arc<Profile>>;

/// A part of what all servers offer, at `/profiles/NAME/mcp`. Names are the same there as at `/mcp`.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct ProfileOptions {
    /// Only servers whose names match one of these (`*` and `?` are wildcards). Default: all.
    pub(super) servers: Option<Vec<String>>,
    /// Of those servers, only some of their tools.
    pub(super) tools: Option<ProfileToolOptions>,
    /// How clients find tools here. Default: what `mainstay.discovery` says.
    pub(super) discovery: Option<Discovery>,
    /// Only tools that read may be called here (see `mainstay.policy.readOnly`); others are listed and refused.
    #[schemars(extend("default" = false))]
    pub(super) read_only: Option<bool>,
}

/// Which tools belong to a profile, by the names that clients see: `server__tool`.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct ProfileToolOptions {
    /// Only tools that match one of these. Default: all.
    pub(super) include: Option<Vec<String>>,
    /// Never tools that match one of these, also when included.
    pub(super) exclude: Option<Vec<String>>,
}

/// Names of servers that were written without wildcards, to be looked up when all servers are known.
#[derive(Debug, Default)]
pub(super) struct Named(Vec<(String, Place)>);

impl Named {
    /// Says which of them are no servers.
    pub(super) fn check(self, servers: &[ServerConfig], sink: &mut Sink<'_>) {
        for (name, place) in self.0 {
            if servers.iter().any(|server| server.name == name) {
                continue;
            }
            let known = servers.iter().map(|server| server.name.as_str());
            let remedy = match nearest(&name, known) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "write the name of a server, or a pattern such as `git*`".to_owned(),
            };
            sink.warn(
                &place,
                format!("no server is named {}", quoted(&name)),
                remedy,
            );
        }
    }
}

const WORDS: [(&str, Discovery); 2] = [("list", Discovery::List), ("search", Discovery::Search)];

/// How tools are found, if the object says so.
pub(super) fn read_discovery(
    fields: &mut Fields<'_, '_>,
    sink: &mut Sink<'_>,
) -> Option<Discovery> {
    fields.choice("discovery", &WORDS, sink)
}

/// Reads `mainstay.profiles`.
pub(super) fn read_profiles(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> (Profiles, Named) {
    let (mut profiles, mut named) = (Profiles::new(), Named::default());
    let Some((value, place)) = fields.take("profiles", sink) else {
        return (profiles, named);
    };
    let entries = members(value, &place, sink).unwrap_or_default();
    if entries.len() > PROFILES_MAX {
        let message = format!(
            "there are {} profiles, more than the {PROFILES_MAX} that are read",
            entries.len()
        );
        sink.error(&place, message, "merge some of them");
        return (profiles, named);
    }
    for (property, place) in entries {
        let name = property.name.as_str();
        check_name(name, &place, sink);
        if let Some(options) = read_profile(&property.value, place, &mut named, sink) {
            profiles.insert(name.to_owned(), Arc::new(resolved(options)));
        }
    }
    (profiles, named)
}

fn check_name(name: &str, place: &Place, sink: &mut Sink<'_>) {
    let wrong = if name.is_empty() {
        "must not be empty"
    } else if name.chars().count() > NAME_CHARS_MAX {
        "has at most 64 characters"
    } else if name.chars().any(|c| c == '/' || c.is_control()) {
        "must not contain `/` or control characters"
    } else if name == "." || name == ".." {
        "must not be `.` or `..`, which have a meaning in addresses"
    } else {
        return;
    };
    let message = format!("a profile's name {wrong}");
    sink.error(place, message, "give it another name");
}

fn read_profile(
    value: &Value<'_>,
    place: Place,
    named: &mut Named,
    sink: &mut Sink<'_>,
) -> Option<ProfileOptions> {
    let Some(object) = value.as_object() else {
        wrong_type(value, "an object", &place, sink);
        return None;
    };
    let mut fields = Fields::new(object, place, sink);
    let servers = fields.take("servers", sink).and_then(|(value, place)| {
        let texts = read_texts(value, &place, sink)?;
        let plain = texts.iter().filter(|text| !text.contains(['*', '?']));
        named
            .0
            .extend(plain.map(|name| (name.clone(), place.clone())));
        Some(texts)
    });
    let tools = fields.object("tools", sink).map(|mut group| {
        let mut texts = |key| {
            let (value, place) = group.take(key, sink)?;
            read_texts(value, &place, sink)
        };
        let options = ProfileToolOptions {
            include: texts("include"),
            exclude: texts("exclude"),
        };
        group.finish(sink);
        options
    });
    let discovery = read_discovery(&mut fields, sink);
    let read_only = fields.flag("readOnly", sink);
    fields.finish(sink);
    Some(ProfileOptions {
        servers,
        tools,
        discovery,
        read_only,
    })
}

fn resolved(options: ProfileOptions) -> Profile {
    let globs = |texts: Vec<String>| -> Vec<Glob> { texts.into_iter().map(Glob::new).collect() };
    let tools = options.tools.unwrap_or_default();
    Profile {
        servers: options.servers.map(globs),
        tools: ToolFilter {
            include: tools.include.map(globs),
            exclude: tools.exclude.map(globs).unwrap_or_default(),
        },
        discovery: options.discovery,
        read_only: options.read_only.unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, Loaded};

    fn read(mainstay: &str) -> Loaded {
        let text = format!(
            "{{ \"mcpServers\": {{ \"github\": {{ \"command\": \"x\" }} }},\n  \"mainstay\": {{ {mainstay} }} }}"
        );
        Config::parse(&text, Path::new("mcp.json")).unwrap()
    }

    #[test]
    fn a_profile_is_read_and_says_what_belongs_to_it() {
        let loaded = read(
            r#""profiles": { "code": { "servers": ["github", "git*"], "discovery": "search",
                 "tools": { "include": ["github__*"], "exclude": ["*__delete"] } }, "all": {} }"#,
        );
        assert_eq!(loaded.problems, []);
        let profiles = &loaded.config.gateway.profiles;
        let code = &profiles["code"];
        assert!(code.has_server("github") && code.has_server("gitlab") && !code.has_server("time"));
        assert!(code.has_tool("github__read") && !code.has_tool("github__delete"));
        assert!(!code.has_tool("gitlab__read"));
        assert_eq!(code.discovery, Some(super::Discovery::Search));
        let all = &profiles["all"];
        assert!(all.has_server("x") && all.has_tool("y") && all.discovery.is_none());
        assert_eq!(loaded.config.gateway.discovery, super::Discovery::List);
    }

    #[test]
    fn an_unknown_server_is_a_warning_with_its_place_and_the_nearest_name() {
        let loaded = read(r#""profiles": { "code": { "servers": ["githup", "no*such"] } }"#);
        let [problem] = loaded.problems.as_slice() else {
            panic!("{:?}", loaded.problems);
        };
        assert_eq!(problem.message, "no server is named `githup`");
        assert_eq!(problem.remedy, "did you mean `github`?");
        let origin = problem.origin.as_ref().unwrap();
        assert_eq!(
            (origin.line, origin.path.as_str()),
            (2, "mainstay.profiles.code.servers")
        );
        assert!(!loaded.has_errors());
    }

    #[test]
    fn what_is_no_profile_refuses_the_file_and_says_where() {
        for (wrong, message) in [
            (r#""profiles": { "a/b": {} }"#, "must not contain `/`"),
            (r#""profiles": { "": {} }"#, "must not be empty"),
            (r#""profiles": { "a": 1 }"#, "expected an object"),
            (r#""profiles": [ "a" ]"#, "expected an object"),
            (
                r#""profiles": { "a": { "discovery": "serch" } }"#,
                "cannot be",
            ),
            (r#""discovery": "none""#, "cannot be"),
        ] {
            let text = format!("{{ \"mcpServers\": {{}}, \"mainstay\": {{ {wrong} }} }}");
            let refused = Config::parse(&text, Path::new("mcp.json")).unwrap_err();
            let refused = format!("{refused} {refused:?}");
            assert!(refused.contains(message), "{wrong}: {refused}");
        }
    }
}
