//! From the text of a file to a [`Config`], with every problem on the way.
//!
//! Decides what is refused and how much with it: see the module documentation of [`config`](super). Reads nothing but the
//! text it is given.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc};

use jsonc_parser::{
    CollectOptions, ParseOptions,
    ast::{ObjectProp, Value},
    common::Ranged,
};

use super::{
    Config, ConfigError, Loaded,
    access::read_access,
    audit,
    file::{self, DURATION_MS, DURATION_OR_ZERO_MS, GatewayOptions, LimitOptions, ServerOptions},
    file_watch::{WatchSettings, read_watch},
    gateway::{GatewayConfig, Limits},
    journal::JournalOptions,
    policy,
    problem::quoted,
    profiles::{self, Named},
    read_options, read_server,
    reader::{Fields, Place, Range, Sink, report_twice},
    suspicious::read_hidden_text,
};

/// Largest file that is read, in bytes.
pub(super) const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most servers of one file.
pub(super) const SERVERS_MAX: usize = 1_000;

pub(super) fn read(bytes: &[u8], path: &Path) -> Result<Loaded, ConfigError> {
    let file: Arc<Path> = path.into();
    let refused = |sink: Sink<'_>| {
        Err(ConfigError::Refused {
            path: path.to_owned(),
            problems: sink.into_problems(),
        })
    };
    if bytes.len() > FILE_BYTES_MAX {
        let mut sink = Sink::new(file, "");
        let message = format!(
            "the file has {} bytes, more than the {FILE_BYTES_MAX} that are read",
            bytes.len()
        );
        sink.error(&Place::root(), message, "check that this is a config file");
        return refused(sink);
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = bytes
                .get(..error.valid_up_to())
                .and_then(|valid| std::str::from_utf8(valid).ok());
            let mut sink = Sink::new(file, valid.unwrap_or(""));
            let place = Place {
                at: error.valid_up_to(),
                ..Place::root()
            };
            sink.error(
                &place,
                "this is not UTF-8 text",
                "save the file with the encoding UTF-8",
            );
            return refused(sink);
        }
    };
    // Some editors put a byte order mark in front, which is not part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut sink = Sink::new(file, text);
    let tree = match jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &strictness()) {
        Ok(tree) => tree,
        Err(error) => {
            let place = Place {
                at: error.range().start,
                ..Place::root()
            };
            sink.error(
                &place,
                format!(
                    "this is not JSON: {}",
                    lowercased(&error.kind().to_string())
                ),
                SYNTAX_REMEDY,
            );
            return refused(sink);
        }
    };
    let config = read_root(tree.value.as_ref(), path, &mut sink);
    match config {
        Some(config) => Ok(Loaded {
            config,
            problems: sink.into_problems(),
        }),
        None => refused(sink),
    }
}

const SYNTAX_REMEDY: &str = "mend it here or just before; comments and trailing commas are allowed";

/// JSON with comments and trailing commas, nothing looser: what we accept, other programs that read the file accept too.
fn strictness() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

fn lowercased(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}

/// `None` when the file is refused; the sink then holds at least one error without a server.
fn read_root(root: Option<&Value<'_>>, path: &Path, sink: &mut Sink<'_>) -> Option<Config> {
    let root_place = Place {
        at: root.map_or(0, |value| value.range().start),
        ..Place::root()
    };
    let Some(object) = root.and_then(Value::as_object) else {
        let found = root.map_or("nothing", super::reader::kind);
        let remedy = "write `{ \"mcpServers\": { … } }`";
        sink.error(
            &root_place,
            format!("expected an object, found {found}"),
            remedy,
        );
        return None;
    };
    let mut root = Fields::new(object, root_place.clone(), sink);
    let standard = root.take("mcpServers", sink);
    let editors = root.take("servers", sink);
    let gateway = root.object("mainstay", sink);
    root.tolerate(&["$schema", "inputs"]);
    let (gateway, defaults, named) = match gateway {
        Some(fields) => read_gateway(fields, path, sink),
        None => Default::default(),
    };
    if standard.is_none() && editors.is_none() {
        report_no_servers(object.properties.as_slice(), &root_place, sink);
    }
    if let Some((_, place)) = &editors {
        let place = Place {
            at: place.at,
            ..place.clone()
        };
        sink.note(&place, "`servers` is read like `mcpServers`", "");
    }
    root.finish(sink);
    let file_errors = sink.errors();
    let entries = [standard, editors].into_iter().flatten();
    let servers = read_servers(entries.collect(), &defaults, sink);
    let servers = servers.filter(|_| file_errors == 0)?;
    named.check(&servers, sink);
    Some(Config {
        gateway,
        servers,
        source: Some(path.to_owned()),
    })
}

fn report_no_servers(properties: &[ObjectProp<'_>], place: &Place, sink: &mut Sink<'_>) {
    let looks_like_server = |property: &&ObjectProp<'_>| {
        property
            .value
            .as_object()
            .is_some_and(|entry| entry.get("command").is_some() || entry.get("url").is_some())
    };
    let remedy = match properties.iter().find(looks_like_server) {
        Some(property) => format!(
            "{} looks like a server: put it inside `\"mcpServers\": {{ … }}`",
            quoted(property.name.as_str())
        ),
        None => "write `\"mcpServers\": { \"time\": { \"command\": \"uvx\", \"args\": [\"mcp-server-time\"] } }`".to_owned(),
    };
    sink.error(place, "there is no `mcpServers`", remedy);
}

/// Reads the entries of all maps of servers; `None` when a map is not one, which refuses the file.
fn read_servers(
    maps: Vec<(&Value<'_>, Place)>,
    defaults: &ServerOptions,
    sink: &mut Sink<'_>,
) -> Option<Vec<super::ServerConfig>> {
    let mut by_name: BTreeMap<&str, Vec<(&ObjectProp<'_>, Place)>> = BTreeMap::new();
    let mut is_whole = true;
    for (value, place) in &maps {
        let Some(object) = value.as_object() else {
            super::reader::wrong_type(value, "an object with one entry per server", place, sink);
            is_whole = false;
            continue;
        };
        for property in &object.properties {
            let name = property.name.as_str();
            let place = place.key(name, property.name.range().start).of_server(name);
            by_name.entry(name).or_default().push((property, place));
        }
    }
    if by_name.len() > SERVERS_MAX {
        let message = format!(
            "there are {} servers, more than the {SERVERS_MAX} that are read",
            by_name.len()
        );
        sink.error(
            &Place::root(),
            message,
            "split them over several files and several Mainstays",
        );
        return None;
    }
    let mut servers = Vec::with_capacity(by_name.len());
    for (name, entries) in by_name {
        let Some(((property, place), others)) = entries.split_first() else {
            continue;
        };
        let before = sink.errors();
        for (_, other) in others {
            report_twice(other, name, place.at, sink);
        }
        servers.push(read_server::read_server(
            name, property, place, before, defaults, sink,
        ));
    }
    is_whole.then_some(servers)
}

fn read_gateway(
    mut fields: Fields<'_, '_>,
    path: &Path,
    sink: &mut Sink<'_>,
) -> (GatewayConfig, ServerOptions, Named) {
    let defaults = read_defaults(&mut fields, sink);
    let hidden_text = read_hidden_text(&mut fields, sink);
    let defaults = ServerOptions {
        hidden_text: defaults.hidden_text.or(hidden_text),
        ..defaults
    };
    let listen = fields
        .text("listen", sink)
        .and_then(|(text, place)| listen_address(&text, &place, sink));
    let options = GatewayOptions {
        listen: None,
        state_dir: fields.text("stateDir", sink).map(|(text, _)| text),
        socket: fields.text("socket", sink).map(|(text, _)| text),
        edge_patience_ms: fields.whole("edgePatienceMs", DURATION_OR_ZERO_MS, sink),
        shutdown_ms: fields.whole("shutdownMs", DURATION_MS, sink),
        input_ms: fields.whole("inputMs", DURATION_MS, sink),
        start_gate: fields.whole(
            "startGate",
            Range {
                min: 1,
                max: 10_000,
            },
            sink,
        ),
        journal: fields
            .object("journal", sink)
            .map(|group| JournalOptions::read(group, sink)),
        dashboard: fields.flag("dashboard", sink),
        watch: read_watch(&mut fields, sink),
        profiles: None,
        discovery: profiles::read_discovery(&mut fields, sink),
        hidden_text,
        access: None,
        policy: None,
        audit: None,
        limits: fields
            .object("limits", sink)
            .map(|group| read_limits(group, sink)),
        defaults: None,
    };
    let (profiles, named) = profiles::read_profiles(&mut fields, sink);
    let access = read_access(&mut fields, path, sink);
    let policy = policy::read_policy(&mut fields, sink);
    let beside_file = path.parent().unwrap_or(Path::new(""));
    let audit = audit::read_audit(&mut fields, beside_file, sink);
    fields.finish(sink);
    let mut gateway = GatewayConfig::default();
    let beside = |name: String| beside_file.join(name);
    gateway.listen = listen.unwrap_or(gateway.listen);
    gateway.state_dir = options.state_dir.map(beside);
    gateway.socket = options.socket.map(beside);
    gateway.edge_patience_ms = options.edge_patience_ms.unwrap_or(gateway.edge_patience_ms);
    gateway.shutdown_ms = options.shutdown_ms.unwrap_or(gateway.shutdown_ms);
    gateway.input_ms = options.input_ms.unwrap_or(gateway.input_ms);
    gateway.start_gate = options
        .start_gate
        .map_or(gateway.start_gate, super::server::saturated);
    gateway.journal = options.journal.unwrap_or_default().resolved();
    gateway.dashboard = options.dashboard.unwrap_or(gateway.dashboard);
    gateway.watch = WatchSettings::from_options(options.watch.as_ref());
    gateway.profiles = profiles;
    gateway.access = access;
    gateway.policy = policy.map(Arc::new);
    gateway.audit = audit;
    gateway.discovery = options.discovery.unwrap_or_default();
    gateway.limits = Limits::from_options(&options.limits.unwrap_or_default());
    (gateway, defaults, named)
}

fn read_defaults(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> ServerOptions {
    let Some(mut group) = fields.object("defaults", sink) else {
        return ServerOptions::default();
    };
    let options = read_options::read_options(&mut group, sink);
    group.finish(sink);
    options
}

/// A limit that counts things.
const COUNT: Range = Range {
    min: 1,
    max: 1_000_000,
};

fn read_limits(mut fields: Fields<'_, '_>, sink: &mut Sink<'_>) -> LimitOptions {
    let bytes = Range {
        min: file::MESSAGE_BYTES_MIN,
        max: file::BYTES_MAX,
    };
    let options = LimitOptions {
        message_bytes: fields.whole("messageBytes", bytes, sink),
        event_bytes: fields.whole("eventBytes", bytes, sink),
        depth: fields.whole(
            "depth",
            Range {
                min: file::DEPTH_MIN,
                max: file::DEPTH_MAX,
            },
            sink,
        ),
        pages: fields.whole(
            "pages",
            Range {
                min: 1,
                max: 1_000_000,
            },
            sink,
        ),
        stderr_bytes: fields.whole(
            "stderrBytes",
            Range {
                min: file::STDERR_BYTES_MIN,
                max: file::BYTES_MAX,
            },
            sink,
        ),
        sessions: fields.whole(
            "sessions",
            Range {
                min: 1,
                max: 10_000_000,
            },
            sink,
        ),
        subscriptions: fields.whole(
            "subscriptions",
            Range {
                min: 1,
                max: 1_000_000,
            },
            sink,
        ),
        noise_lines: fields.whole("noiseLines", COUNT, sink),
        requests_per_second: fields.whole("requestsPerSecond", COUNT, sink),
        notices: fields.whole("notices", COUNT, sink),
        queued_lines: fields.whole("queuedLines", COUNT, sink),
        events: fields.whole("events", COUNT, sink),
        parked: fields.whole("parked", COUNT, sink),
        rounds: fields.whole(
            "rounds",
            Range {
                min: 1,
                max: file::ROUNDS_MAX,
            },
            sink,
        ),
    };
    fields.finish(sink);
    options
}

fn listen_address(text: &str, place: &Place, sink: &mut Sink<'_>) -> Option<SocketAddr> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let address = numeric.parse().ok();
    if address.is_none() {
        let message = format!("{} is not an address to listen on", quoted(text));
        sink.error(
            place,
            message,
            format!("write an IP address and a port, such as `{}`", file::LISTEN),
        );
    }
    address
}

/// Every key that reading `text` asks for.
#[cfg(test)]
pub(super) fn asked_of(text: &str) -> std::collections::BTreeSet<String> {
    let path = Path::new("mcp.json");
    let mut sink = Sink::new(path.into(), text);
    let tree = jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &strictness());
    read_root(tree.expect("JSON").value.as_ref(), path, &mut sink).expect("a config");
    sink.asked
}
