//! Reads one entry of `mcpServers`.

use jsonc_parser::{
    ast::{ObjectProp, Value},
    common::Ranged,
};

use super::server::HttpKind;
use super::{
    ServerConfig, Template, Transport,
    file::ServerOptions,
    problem::quoted,
    read_options::{contradictions, read_options, read_texts},
    reader::{
        Fields, Place, Sink, beginning, flag, lenient_text, list, members, nearest, text,
        wrong_type,
    },
    sandbox::SandboxOptions,
};

/// Longest server name, in characters.
const NAME_CHARS_MAX: usize = 64;

/// Other clients' keys that change nothing here.
const TOLERATED: [&str; 22] = [
    "alwaysAllow",
    "alwaysLoad",
    "autoApprove",
    "autoStart",
    "dev",
    "gallery",
    "icon",
    "id",
    "initTimeout",
    "installSource",
    "logoUrl",
    "name",
    "provider",
    "providerUrl",
    "registryType",
    "source",
    "sse_read_timeout",
    "tags",
    "timeout",
    "trust",
    "version",
    "watchPaths",
];

/// Other clients' keys that the server may need and that cannot be honoured.
const NOT_HONOURED: [(&str, &str); 5] = [
    ("envFile", "write the variables into `env`"),
    ("env_file", "write the variables into `env`"),
    ("headersHelper", "write the headers into `headers`"),
    ("oauth", "write its `clientId` and the like into `auth`"),
    (
        "authProviderType",
        "leave it out: Mainstay signs in when the server asks for it, or as `auth` says",
    ),
];

/// Other names for `url`.
const URL_ALIASES: [&str; 3] = ["serverUrl", "httpUrl", "baseUrl"];
/// Other names for `tools.include` and `tools.exclude`.
const INCLUDE_ALIASES: [&str; 3] = ["includeTools", "allowedTools", "enabledTools"];
const EXCLUDE_ALIASES: [&str; 2] = ["excludeTools", "disabledTools"];

/// Headers that the protocol sets itself.
const OWN_HEADERS: [&str; 13] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "host",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "te",
    "transfer-encoding",
];

/// `errors_before` is how many errors the sink had before anything of this entry was looked at: any more than that at the
/// end, and the entry is broken.
pub(super) fn read_server(
    name: &str,
    property: &ObjectProp<'_>,
    name_place: &Place,
    errors_before: usize,
    defaults: &ServerOptions,
    sink: &mut Sink<'_>,
) -> ServerConfig {
    check_name(name, name_place, sink);
    let place = Place {
        at: property.value.range().start,
        ..name_place.clone()
    };
    let Some(object) = property.value.as_object() else {
        wrong_type(
            &property.value,
            "an object with `command` or `url`",
            &place,
            sink,
        );
        let problems = sink.errors_of(name);
        return ServerConfig::with_options(
            name.to_owned(),
            None,
            Transport::Broken { problems },
            defaults,
        );
    };
    // What is missing or contradictory is reported where the name stands: people look for the entry there.
    let mut fields = Fields::new(object, name_place.clone(), sink);
    let transport = read_transport(&mut fields, name_place, sink);
    let auth_place = fields.take("auth", sink).map(|(_, place)| place);
    let mut options = read_options(&mut fields, sink);
    if let (Some(place), Some(Transport::Stdio { .. })) = (&auth_place, &transport) {
        let message = "`auth` has no effect on a server with `command`";
        let remedy = "give it credentials in `env`";
        sink.warn(place, message, remedy);
    }
    read_aliases(&mut fields, &mut options, sink);
    let label = fields.text("label", sink).map(|(text, _)| text);
    let description = fields
        .take("description", sink)
        .and_then(|(value, _)| Some(value.as_string_lit()?.value.to_string()));
    fields.tolerate(&TOLERATED);
    for (key, remedy) in NOT_HONOURED {
        if let Some((_, place)) = fields.take_foreign(key) {
            sink.warn(
                &place,
                format!("`{key}` is not supported and has no effect"),
                remedy,
            );
        }
    }
    fields.finish(sink);
    let is_fenced = matches!(options.sandbox, Some(SandboxOptions::On(_)));
    if is_fenced && matches!(transport, Some(Transport::Http { .. })) {
        let message =
            "`sandbox` has no effect on a server with `url`: its program is not started here";
        sink.warn(&place.key("sandbox", name_place.at), message, "");
    }
    let options = options.over(defaults);
    for (group, message) in contradictions(&options) {
        sink.warn(&place.key(group, name_place.at), message, "");
    }
    if let (Some((message, remedy)), Some(Transport::Http { .. })) =
        (options.exchange_of_nobody(), &transport)
    {
        let place = auth_place.unwrap_or_else(|| place.key("auth", name_place.at));
        sink.warn(&place, message, remedy);
    }
    let transport = match transport {
        Some(transport) if sink.errors() == errors_before => transport,
        Some(_) | None => Transport::Broken {
            problems: sink.errors_of(name),
        },
    };
    ServerConfig::with_options(name.to_owned(), label.or(description), transport, &options)
}

fn check_name(name: &str, place: &Place, sink: &mut Sink<'_>) {
    let remedy = "give it another name";
    if name.is_empty() {
        sink.error(place, "a server's name must not be empty", remedy);
    } else if name.chars().count() > NAME_CHARS_MAX {
        sink.error(
            place,
            format!("a server's name has at most {NAME_CHARS_MAX} characters"),
            remedy,
        );
    } else if name.chars().any(|c| c == '/' || c.is_control()) {
        sink.error(
            place,
            "a server's name must not contain `/` or control characters",
            remedy,
        );
    } else if name == "." || name == ".." {
        sink.error(
            place,
            "a server's name must not be `.` or `..`, which have a meaning in addresses",
            remedy,
        );
    } else if name.contains("__") {
        let message = "a `__` in a server's name makes the names of its tools ambiguous, as in `server__tool`";
        sink.warn(place, message, remedy);
    }
}

fn read_aliases(fields: &mut Fields<'_, '_>, options: &mut ServerOptions, sink: &mut Sink<'_>) {
    let disabled = fields.flag("disabled", sink);
    let active = fields
        .take_foreign("isActive")
        .and_then(|(value, place)| flag(value, &place, sink));
    for other in [disabled.map(|disabled| !disabled), active]
        .into_iter()
        .flatten()
    {
        if options.enabled.is_some_and(|enabled| enabled != other) {
            let place = fields.place.clone();
            sink.error(
                &place,
                "the server is both enabled and disabled",
                "keep only `enabled`",
            );
        }
        options.enabled = Some(other);
    }
    for (aliases, includes) in [
        (INCLUDE_ALIASES.as_slice(), true),
        (EXCLUDE_ALIASES.as_slice(), false),
    ] {
        for alias in aliases {
            let Some((value, place)) = fields.take_foreign(alias) else {
                continue;
            };
            let Some(patterns) = read_texts(value, &place, sink) else {
                continue;
            };
            let tools = options
                .tools
                .get_or_insert_with(super::tools::ToolOptions::default);
            let list = if includes {
                &mut tools.include
            } else {
                &mut tools.exclude
            };
            list.get_or_insert_default().extend(patterns);
        }
    }
}

/// What kind of transport `type` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stdio,
    Http,
    Sse,
    NotYet(&'static str),
}

/// A value and its place; `None` when the key is absent or `null`.
type Given<'a, 't> = Option<(&'a Value<'t>, Place)>;

/// The keys that say what to connect to, unread.
struct Connection<'a, 't> {
    command: Given<'a, 't>,
    args: Given<'a, 't>,
    env: Given<'a, 't>,
    cwd: Given<'a, 't>,
    url: Given<'a, 't>,
    headers: Given<'a, 't>,
}

fn read_transport(
    fields: &mut Fields<'_, '_>,
    place: &Place,
    sink: &mut Sink<'_>,
) -> Option<Transport> {
    let kind = read_kind(fields, sink);
    let given = Connection {
        command: fields.take("command", sink),
        args: fields.take("args", sink),
        env: fields.take("env", sink),
        cwd: fields.take("cwd", sink),
        url: take_url(fields, sink),
        headers: fields.take("headers", sink),
    };
    let (message, remedy) = match (&given.command, &given.url, kind) {
        (_, _, Some(Kind::NotYet(what))) => (
            format!("{what} is not supported yet"),
            "use streamable HTTP if the server offers it",
        ),
        (Some(_), Some(_), _) => (
            "there are both `command` and `url`".to_owned(),
            "keep `command` for a program, `url` for an address; or make two servers of it",
        ),
        (Some(_), None, None | Some(Kind::Stdio)) => return read_stdio(given, sink),
        (None, Some(_), None | Some(Kind::Http)) => return read_http(given, HttpKind::Auto, sink),
        (None, Some(_), Some(Kind::Sse)) => return read_http(given, HttpKind::Sse, sink),
        (None, None, Some(Kind::Http | Kind::Sse)) => (
            "there is no `url`".to_owned(),
            "add the address: `\"url\": \"http://…\"`",
        ),
        (None, None, Some(Kind::Stdio)) => (
            "there is no `command`".to_owned(),
            "add the program: `\"command\": \"…\"`",
        ),
        (None, None, None) => (
            "there is neither `command` nor `url`".to_owned(),
            "add `\"command\": \"…\"` for a program, or `\"url\": \"http://…\"` for an address",
        ),
        (Some(_), None, Some(Kind::Http | Kind::Sse)) => (
            "`type` says HTTP, but there is a `command`".to_owned(),
            "remove `type`, or give a `url` instead",
        ),
        (None, Some(_), Some(Kind::Stdio)) => (
            "`type` says stdio, but there is a `url`".to_owned(),
            "remove `type`, or give a `command` instead",
        ),
    };
    sink.error(place, message, remedy);
    None
}

fn read_stdio(given: Connection<'_, '_>, sink: &mut Sink<'_>) -> Option<Transport> {
    useless(&[("headers", &given.headers)], "a program", sink);
    let (command, command_place) = given.command?;
    // Everything is read before anything is given up, so that all problems are told at once.
    let command = read_command(command, &command_place, given.args.is_some(), sink);
    let args = given.args.map_or(Some(Vec::new()), |(value, place)| {
        read_args(value, &place, sink)
    });
    let env = given.env.map_or(Some(Vec::new()), |(value, place)| {
        read_env(value, &place, sink)
    });
    let cwd = given
        .cwd
        .and_then(|(value, place)| read_template(value, &place, sink));
    Some(Transport::Stdio {
        command: command?,
        args: args?,
        env: env?,
        cwd,
    })
}

fn read_http(given: Connection<'_, '_>, kind: HttpKind, sink: &mut Sink<'_>) -> Option<Transport> {
    let of_programs = [
        ("args", &given.args),
        ("env", &given.env),
        ("cwd", &given.cwd),
    ];
    useless(&of_programs, "a server with `url`", sink);
    let (url, url_place) = given.url?;
    let url = read_url(url, &url_place, sink);
    let headers = given.headers.map_or(Some(Vec::new()), |(value, place)| {
        read_headers(value, &place, sink)
    });
    Some(Transport::Http {
        url: url?,
        kind,
        headers: headers?,
    })
}

fn useless(keys: &[(&str, &Given<'_, '_>)], of: &str, sink: &mut Sink<'_>) {
    for (key, value) in keys {
        let Some((value, place)) = value else {
            continue;
        };
        let is_empty = value
            .as_object()
            .is_some_and(|object| object.properties.is_empty())
            || value
                .as_array()
                .is_some_and(|array| array.elements.is_empty());
        if !is_empty {
            sink.warn(place, format!("`{key}` has no effect on {of}"), "");
        }
    }
}

fn read_kind(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<Kind> {
    let standard = fields.take("type", sink);
    // Some clients call it `transport`; where that is no string, it is something else and not ours to judge.
    let other = fields
        .take_foreign("transport")
        .filter(|(value, _)| value.as_string_lit().is_some());
    let (value, place) = standard.or(other)?;
    let word = text(value, &place, sink)?;
    let plain = word.replace(['-', '_', ' '], "").to_lowercase();
    match plain.as_str() {
        "stdio" | "local" => Some(Kind::Stdio),
        "http" | "streamablehttp" | "streamable" | "remote" => Some(Kind::Http),
        "sse" | "httpsse" | "http+sse" => Some(Kind::Sse),
        "ws" | "websocket" => Some(Kind::NotYet("the transport `websocket`")),
        _ => {
            let words = ["stdio", "http", "streamable-http", "sse"];
            let remedy = match nearest(&word, words.into_iter()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("write one of: {}", words.join(", ")),
            };
            sink.error(
                &place,
                format!("{} is not a transport", quoted(&word)),
                remedy,
            );
            None
        }
    }
}

/// `url`, or what another client calls it. An empty one counts as absent under a foreign name only.
fn take_url<'a, 't>(fields: &mut Fields<'a, 't>, sink: &mut Sink<'_>) -> Given<'a, 't> {
    let standard = fields.take("url", sink);
    let is_given = |(value, _): &(&Value<'_>, Place)| {
        value
            .as_string_lit()
            .is_none_or(|text| !text.value.is_empty())
    };
    let aliases = URL_ALIASES.map(|alias| fields.take_foreign(alias).filter(is_given));
    standard.or_else(|| aliases.into_iter().flatten().next())
}

fn read_command(
    value: &Value<'_>,
    place: &Place,
    has_args: bool,
    sink: &mut Sink<'_>,
) -> Option<Template> {
    if value.as_array().is_some() {
        sink.error(
            place,
            "expected a string, found a list",
            "put the program here and the rest into `args`",
        );
        return None;
    }
    let template = read_template(value, place, sink)?;
    if template.raw().trim().is_empty() {
        sink.error(
            place,
            "the `command` is empty",
            "write the name or the path of a program",
        );
        return None;
    }
    if !has_args && template.raw().contains(' ') && !template.raw().contains(['/', '\\']) {
        let message =
            "the whole of this `command`, spaces included, is taken as the name of one program";
        sink.warn(place, message, "put what follows the program into `args`");
    }
    Some(template)
}

fn read_args(value: &Value<'_>, place: &Place, sink: &mut Sink<'_>) -> Option<Vec<Template>> {
    let elements = list(value, place, sink)?;
    let read = |(value, place): (&Value<'_>, Place)| {
        let text = lenient_text(value, &place, sink)?;
        template(text, &place, sink).map(Template::hide)
    };
    elements.into_iter().map(read).collect()
}

fn read_env(
    value: &Value<'_>,
    place: &Place,
    sink: &mut Sink<'_>,
) -> Option<Vec<(String, Template)>> {
    let mut env = Vec::new();
    for (property, place) in members(value, place, sink)? {
        let name = property.name.as_str();
        if name.is_empty() || name.contains(['=', '\0']) {
            let place = Place {
                at: property.name.range().start,
                ..place
            };
            sink.error(
                &place,
                format!(
                    "{} cannot be the name of a variable",
                    quoted(&beginning(name))
                ),
                "",
            );
            continue;
        }
        let Some(text) = lenient_text(&property.value, &place, sink) else {
            continue;
        };
        let Some(template) = template(text, &place, sink) else {
            continue;
        };
        env.push((name.to_owned(), template.hide()));
    }
    Some(env)
}

fn read_headers(
    value: &Value<'_>,
    place: &Place,
    sink: &mut Sink<'_>,
) -> Option<Vec<(String, Template)>> {
    let mut headers: Vec<(String, Template)> = Vec::new();
    for (property, place) in members(value, place, sink)? {
        let name = property.name.as_str();
        let at_name = Place {
            at: property.name.range().start,
            ..place.clone()
        };
        let Ok(parsed) = http::HeaderName::from_bytes(name.as_bytes()) else {
            let remedy = "use letters, digits and `-`";
            sink.error(
                &at_name,
                format!(
                    "{} cannot be the name of a header",
                    quoted(&beginning(name))
                ),
                remedy,
            );
            continue;
        };
        if OWN_HEADERS.contains(&parsed.as_str()) {
            sink.warn(
                &at_name,
                format!(
                    "the header {} is set by the protocol itself; this one is left out",
                    quoted(name)
                ),
                "",
            );
            continue;
        }
        if headers
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
        {
            let message = format!(
                "the header {} occurs twice: case makes no difference",
                quoted(name)
            );
            sink.error(&at_name, message, "keep one of the two");
            continue;
        }
        let Some(text) = lenient_text(&property.value, &place, sink) else {
            continue;
        };
        if text.chars().any(|c| c.is_control() && c != '\t') {
            sink.error(
                &place,
                "a header must not contain line breaks or control characters",
                "",
            );
            continue;
        }
        let Some(template) = template(text, &place, sink) else {
            continue;
        };
        headers.push((name.to_owned(), template.hide()));
    }
    Some(headers)
}

fn read_url(value: &Value<'_>, place: &Place, sink: &mut Sink<'_>) -> Option<Template> {
    let template = read_template(value, place, sink)?.hide();
    let problem = match template.literal() {
        Some(url) => match reqwest::Url::parse(&url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => None,
            Ok(_) => Some("the `url` does not begin with `http://` or `https://`".to_owned()),
            Err(error) => Some(format!("the `url` is not an address: {error}")),
        },
        None => {
            let prefix = template.literal_prefix();
            let is_begun = |scheme: &str| prefix.starts_with(scheme) || scheme.starts_with(prefix);
            (!["http://", "https://"].into_iter().any(is_begun))
                .then(|| "the `url` does not begin with `http://` or `https://`".to_owned())
        }
    };
    match problem {
        Some(message) => {
            sink.error(
                place,
                message,
                "write the whole address, such as `http://127.0.0.1:3000/mcp`",
            );
            None
        }
        None => Some(template),
    }
}

pub(super) fn read_template(
    value: &Value<'_>,
    place: &Place,
    sink: &mut Sink<'_>,
) -> Option<Template> {
    let text = text(value, place, sink)?;
    template(text, place, sink)
}

/// Text with references; `None` when it cannot be used at all.
fn template(text: String, place: &Place, sink: &mut Sink<'_>) -> Option<Template> {
    if text.contains('\0') {
        sink.error(place, "there is a NUL character in it", "remove it");
        return None;
    }
    let template = Template::new(text).at(sink.origin(place));
    let unsupported = template.unsupported();
    for unset in &unsupported {
        sink.error(
            place,
            unset.reason.sentence(&unset.reference),
            unset.reason.remedy(&unset.reference),
        );
    }
    if unsupported.is_empty() && template.has_lookalike() {
        let message = "a `${` here does not begin a reference and is taken as it is";
        sink.warn(
            place,
            message,
            "write `${NAME}` for a variable, or `$${` if it is meant so",
        );
    }
    Some(template)
}
