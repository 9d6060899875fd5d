//! `sandbox`: what the program of a server may touch of this machine.

use jsonc_parser::ast::Value;
use schemars::JsonSchema;

use super::Template;
use super::read_server::read_template;
use super::reader::{Fields, Place, Range, Sink, kind, list, whole};
use crate::process::{Backend, Network};

/// What `sandbox` says: none, or which.
#[derive(Debug, Clone)]
pub(super) enum SandboxOptions {
    Off,
    On(SandboxGroup),
}

/// `false`, `true`, or which.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) enum SandboxOrNot {
    Flag(bool),
    Which(SandboxGroup),
}

/// What the program may touch of this machine. Linux only.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct SandboxGroup {
    /// Files and folders that it may read and execute, besides the usual ones. `~/` is the home directory; a relative path is
    /// relative to this file.
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) read: Option<Vec<Template>>,
    /// Files and folders that it may also write and remove.
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) write: Option<Vec<Template>>,
    /// Whether it may use the network; or the TCP ports that it may use.
    #[schemars(with = "Option<NetworkOrPorts>", extend("default" = true))]
    pub(super) network: Option<Network>,
    /// Whether it may open Unix sockets: through them it reaches every service of this user, such as a container daemon.
    #[schemars(extend("default" = false))]
    pub(super) unix_sockets: Option<bool>,
    /// Whether it may read the usual places: the system, its own package, installed interpreters.
    #[schemars(extend("default" = true))]
    pub(super) usual: Option<bool>,
    /// Whether its home directory and its temporary files are its own, empty at first and kept for it alone.
    #[schemars(extend("default" = true))]
    pub(super) own_home: Option<bool>,
    /// What fences it: Landlock and seccomp, or bubblewrap, which must be installed.
    #[schemars(extend("default" = "auto"))]
    pub(super) backend: Option<Backend>,
    /// Whether it is not started where some of this cannot be had.
    #[schemars(extend("default" = true))]
    pub(super) require: Option<bool>,
}

/// `true`, `false`, or ports.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) enum NetworkOrPorts {
    Flag(bool),
    Ports(PortGroup),
}

/// The TCP ports that it may use. UDP stays open, for looking names up.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) struct PortGroup {
    /// To which it may connect.
    pub(super) connect: Option<Vec<u16>>,
    /// On which it may listen.
    pub(super) listen: Option<Vec<u16>>,
}

/// What the program of a server may touch of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SandboxSettings {
    /// What it may read and execute, besides the usual places.
    pub read: Vec<Template>,
    /// What it may also write.
    pub write: Vec<Template>,
    /// What it may connect to. Default: everything.
    pub network: Network,
    /// Whether it may open Unix sockets. Default: false.
    pub unix_sockets: bool,
    /// Whether it may read the usual places. Default: true.
    pub usual: bool,
    /// Whether it has a home directory of its own. Default: true.
    pub own_home: bool,
    /// What fences it. Default: Landlock and seccomp.
    pub backend: Backend,
    /// Whether it is not started where some of this cannot be had. Default: true.
    pub require: bool,
}

impl Default for SandboxSettings {
    fn default() -> Self {
        Self::from_group(&SandboxGroup::default())
    }
}

impl SandboxSettings {
    /// `None`: no sandbox.
    pub(super) fn from_options(options: Option<&SandboxOptions>) -> Option<Self> {
        match options? {
            SandboxOptions::Off => None,
            SandboxOptions::On(group) => Some(Self::from_group(group)),
        }
    }

    fn from_group(group: &SandboxGroup) -> Self {
        Self {
            read: group.read.clone().unwrap_or_default(),
            write: group.write.clone().unwrap_or_default(),
            network: group.network.clone().unwrap_or(Network::All),
            unix_sockets: group.unix_sockets.unwrap_or(false),
            usual: group.usual.unwrap_or(true),
            own_home: group.own_home.unwrap_or(true),
            backend: group.backend.unwrap_or_default(),
            require: group.require.unwrap_or(true),
        }
    }

    /// The same as words, each of which differs when the process would live differently.
    pub(super) fn words(&self) -> Vec<String> {
        let SandboxSettings {
            read,
            write,
            network,
            unix_sockets,
            usual,
            own_home,
            backend,
            require,
        } = self;
        let paths = |how: &str, paths: &[Template]| -> Vec<String> {
            let texts = paths.iter().map(|path| format!("{how} {}", path.raw()));
            texts.collect()
        };
        let mut words = paths("read", read);
        words.extend(paths("write", write));
        words.push(format!(
            "{network:?} {unix_sockets} {usual} {own_home} {backend:?} {require}"
        ));
        words
    }
}

impl SandboxOptions {
    pub(super) fn over(self, below: &SandboxOptions) -> SandboxOptions {
        match (self, below) {
            (SandboxOptions::On(above), SandboxOptions::On(below)) => {
                let below = below.clone();
                SandboxOptions::On(SandboxGroup {
                    read: above.read.or(below.read),
                    write: above.write.or(below.write),
                    network: above.network.or(below.network),
                    unix_sockets: above.unix_sockets.or(below.unix_sockets),
                    usual: above.usual.or(below.usual),
                    own_home: above.own_home.or(below.own_home),
                    backend: above.backend.or(below.backend),
                    require: above.require.or(below.require),
                })
            }
            (above, SandboxOptions::On(_) | SandboxOptions::Off) => above,
        }
    }
}

pub(super) fn read_sandbox(
    fields: &mut Fields<'_, '_>,
    sink: &mut Sink<'_>,
) -> Option<SandboxOptions> {
    let (value, place) = fields.take("sandbox", sink)?;
    if let Value::BooleanLit(literal) = value {
        return Some(match literal.value {
            true => SandboxOptions::On(SandboxGroup::default()),
            false => SandboxOptions::Off,
        });
    }
    if value.as_object().is_none() {
        let found = kind(value);
        let message = format!("expected an object, `true` or `false`, found {found}");
        sink.error(&place, message, "");
        return None;
    }
    let mut group = fields.object("sandbox", sink)?;
    let backends = [
        ("auto", Backend::Auto),
        ("landlock", Backend::Landlock),
        ("bubblewrap", Backend::Bubblewrap),
    ];
    let options = SandboxGroup {
        read: read_paths("read", &mut group, sink),
        write: read_paths("write", &mut group, sink),
        network: read_network(&mut group, sink),
        unix_sockets: group.flag("unixSockets", sink),
        usual: group.flag("usual", sink),
        own_home: group.flag("ownHome", sink),
        backend: group.choice("backend", &backends, sink),
        require: group.flag("require", sink),
    };
    group.finish(sink);
    Some(SandboxOptions::On(options))
}

fn read_paths(
    key: &'static str,
    fields: &mut Fields<'_, '_>,
    sink: &mut Sink<'_>,
) -> Option<Vec<Template>> {
    let (value, place) = fields.take(key, sink)?;
    let mut paths = Vec::new();
    for (element, place) in list(value, &place, sink)? {
        let Some(path) = read_template(element, &place, sink) else {
            continue;
        };
        if path.raw().trim().is_empty() {
            sink.error(&place, "an empty path is none", "write a file or a folder");
            continue;
        }
        paths.push(path);
    }
    Some(paths)
}

fn read_network(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<Network> {
    let (value, place) = fields.take("network", sink)?;
    if let Value::BooleanLit(literal) = value {
        return Some(match literal.value {
            true => Network::All,
            false => Network::None,
        });
    }
    if value.as_object().is_none() {
        let found = kind(value);
        let message = format!("expected `true`, `false` or an object of ports, found {found}");
        sink.error(&place, message, "such as `{\"connect\": [443]}`");
        return None;
    }
    let mut ports = fields.object("network", sink)?;
    let mut read = |key| {
        let (value, place) = ports.take(key, sink)?;
        read_ports(value, &place, sink)
    };
    let (connect, listen) = (read("connect"), read("listen"));
    ports.finish(sink);
    Some(Network::Ports {
        connect: connect.unwrap_or_default(),
        listen: listen.unwrap_or_default(),
    })
}

fn read_ports(value: &Value<'_>, place: &Place, sink: &mut Sink<'_>) -> Option<Vec<u16>> {
    let range = Range {
        min: 1,
        max: u64::from(u16::MAX),
    };
    let elements = list(value, place, sink)?.into_iter();
    let ports = elements.filter_map(|(element, place)| whole(element, range, &place, sink));
    // In range, see above.
    Some(ports.filter_map(|port| u16::try_from(port).ok()).collect())
}
