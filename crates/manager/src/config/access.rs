//! Who clients are, and which of them are let in: `mainstay.access` (law 32).
//!
//! Reads and checks the words of the file. Who is let in is decided by the gateway; nothing here opens a file or asks anybody.

use std::fmt;
use std::path::{Path, PathBuf};

use http::Uri;
use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use schemars::JsonSchema;

use super::problem::quoted;
use super::read_options::read_texts;
use super::reader::{Fields, Place, Range, Sink, kind, wrong_type};

/// Most issuers of one file.
const ISSUERS_MAX: usize = 32;

/// How far the clocks of an issuer and this machine may be apart.
const LEEWAY_MS: u64 = 60_000;
const LEEWAY_MS_MAX: u64 = 600_000;

/// The claim with the groups of a caller.
const GROUPS_CLAIM: &str = "groups";

/// Whether whoever reaches the port must say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Required {
    /// Elsewhere than on loopback, and for requests that some proxy passed on.
    #[default]
    Auto,
    /// Always. The local socket stays open to this user.
    Always,
}

/// Whether TLS wants a certificate of each client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// Without one, no connection.
    #[default]
    Required,
    /// One that is shown must be good; whoever shows none says otherwise who they are.
    Optional,
}

/// Who clients are, and which of them are let in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Access {
    /// Whether whoever reaches the port must say who they are. Default: elsewhere than on loopback.
    pub required: Required,
    /// Whether tokens of `mainstay token` are taken. Default: yes.
    pub tokens: bool,
    /// The address under which clients reach this Mainstay, without a `/` at its end. Default: none, which rules out `jwt`
    /// without an audience.
    pub resource: Option<String>,
    /// Scopes that a signed token must have. Default: none.
    pub scopes: Vec<String>,
    /// Issuers whose signed tokens are taken. Default: none.
    pub jwt: Vec<Issuer>,
    /// Groups of signed tokens and certificates whose members may use the dashboard and the admin API. Default: none. A
    /// token of `mainstay token` needs the group `admin`.
    pub admin_groups: Vec<String>,
    /// TLS on the port. Default: none.
    pub tls: Option<ServerTls>,
    /// More names that are accepted in `Host`, without port. Default: none.
    pub allowed_hosts: Vec<String>,
    /// More web origins that are accepted. Default: none.
    pub allowed_origins: Vec<String>,
    /// Whether `/metrics` is open to all who reach the port. Default: only where nobody needs to say who they are.
    pub metrics_open: bool,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            required: Required::Auto,
            tokens: true,
            resource: None,
            scopes: Vec::new(),
            jwt: Vec::new(),
            admin_groups: Vec::new(),
            tls: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            metrics_open: false,
        }
    }
}

/// Whose signed tokens are taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Issuer {
    /// Exactly as its tokens name it.
    pub issuer: String,
    /// For whom a token must be meant. Empty: for [`Access::resource`], or the endpoint below it that is asked.
    pub audience: Vec<String>,
    /// Where its keys are. `None`: where its metadata says.
    pub jwks_url: Option<String>,
    /// The claim with the groups of a caller; dots lead into objects. Default: `groups`.
    pub groups_claim: String,
    /// How far its clock and ours may be apart, in milliseconds. Default: 1 min.
    pub leeway_ms: u64,
}

impl Issuer {
    /// An issuer whose tokens must be meant for these audiences; none: for [`Access::resource`].
    #[must_use]
    pub fn new(issuer: &str, audience: &[&str]) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audience: audience.iter().map(|one| (*one).to_owned()).collect(),
            jwks_url: None,
            groups_claim: GROUPS_CLAIM.to_owned(),
            leeway_ms: LEEWAY_MS,
        }
    }
}

/// TLS on the port.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ServerTls {
    /// A PEM file with the certificate, and those between it and the root.
    pub cert: PathBuf,
    /// A PEM file with its private key.
    pub key: PathBuf,
    /// A PEM file with the roots of client certificates. Default: none are asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether each client must show one. Default: yes, if `client_ca` is set.
    pub client_certificate: ClientCertificate,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("cert", &self.cert)
            .field("key", &self.key)
            .field("client_ca", &self.client_ca)
            .field("client_certificate", &self.client_certificate)
            .finish()
    }
}

impl ServerTls {
    /// TLS with this certificate and key, and no certificates of clients.
    #[must_use]
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            cert: cert.into(),
            key: key.into(),
            client_ca: None,
            client_certificate: ClientCertificate::Required,
        }
    }
}

/// Who clients are, and which of them are let in. The local socket is always open to this user, and to nobody else.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) struct AccessOptions {
    /// Whether whoever reaches the port must say who they are: `true`, or `auto` for elsewhere than on loopback and for
    /// requests that a proxy passed on. Without any way to say it, Mainstay refuses to listen elsewhere.
    #[schemars(with = "Option<RequiredOrAuto>", extend("default" = "auto"))]
    pub(super) required: Option<Required>,
    /// Whether tokens of `mainstay token` are taken.
    #[schemars(extend("default" = true))]
    pub(super) tokens: Option<bool>,
    /// The address under which clients reach this Mainstay, such as `https://mcp.example.com`; needed for `jwt`. Signed tokens
    /// must be meant for it, and clients are told by it where they get one.
    pub(super) resource: Option<String>,
    /// Scopes that a signed token must have.
    pub(super) scopes: Option<Vec<String>>,
    /// Issuers whose signed tokens (JWT) are taken.
    pub(super) jwt: Option<Vec<IssuerOptions>>,
    /// Groups of signed tokens and client certificates whose members may use the dashboard and the admin API. A token of
    /// `mainstay token` needs the group `admin`.
    pub(super) admin_groups: Option<Vec<String>>,
    /// TLS on the port.
    pub(super) tls: Option<ServerTlsOptions>,
    /// More names, without port, that requests may address Mainstay by.
    pub(super) allowed_hosts: Option<Vec<String>>,
    /// More web origins, such as `https://app.example`, whose pages may use MCP here.
    pub(super) allowed_origins: Option<Vec<String>>,
    /// Whether `/metrics` is open where all else needs to know who asks.
    #[schemars(extend("default" = false))]
    pub(super) metrics_open: Option<bool>,
}

/// `true`, or `auto`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) enum RequiredOrAuto {
    Flag(bool),
    Word(Auto),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) enum Auto {
    Auto,
}

/// One text or several.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// An issuer whose signed tokens are taken. They must be signed with RSA, ECDSA (P-256, P-384) or Ed25519.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) struct IssuerOptions {
    /// Exactly as its tokens name it in `iss`.
    pub(super) issuer: String,
    /// For whom a token must be meant (`aud`). Default: `resource`, or the endpoint below it that is asked.
    #[schemars(with = "Option<OneOrMore>")]
    pub(super) audience: Option<Vec<String>>,
    /// Where its keys are. Default: where its metadata (OAuth or OpenID) says.
    pub(super) jwks_url: Option<String>,
    /// The claim with the groups of a caller; dots lead into objects, as in `realm_access.roles`.
    #[schemars(extend("default" = GROUPS_CLAIM))]
    pub(super) groups_claim: Option<String>,
    /// How far its clock and ours may be apart.
    #[schemars(range(min = 0, max = LEEWAY_MS_MAX), extend("default" = LEEWAY_MS))]
    pub(super) leeway_ms: Option<u64>,
}

/// TLS on the port. Files that change are read again by themselves; ones that cannot be used are told, and the old ones stay.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) struct ServerTlsOptions {
    /// A PEM file with the certificate, followed by those between it and the root. Relative to this file.
    pub(super) cert: String,
    /// A PEM file with its private key. Relative to this file.
    pub(super) key: String,
    /// A PEM file with the roots of client certificates. Relative to this file. A client is then known by its certificate.
    pub(super) client_ca: Option<String>,
    /// With `clientCa`: whether each client must show a certificate.
    #[schemars(extend("default" = "required"))]
    pub(super) client_certificate: Option<ClientCertificate>,
}

/// Reads `mainstay.access`. `path` is that of the file, to which files named in it are relative.
pub(super) fn read_access(fields: &mut Fields<'_, '_>, path: &Path, sink: &mut Sink<'_>) -> Access {
    let mut access = Access::default();
    let Some(mut group) = fields.object("access", sink) else {
        return access;
    };
    access.required = read_required(&mut group, sink);
    access.tokens = group.flag("tokens", sink).unwrap_or(access.tokens);
    access.resource = read_resource(&mut group, sink);
    access.scopes = read_scopes(&mut group, sink);
    let jwt = group.take("jwt", sink);
    access.jwt = jwt.map_or_else(Vec::new, |(value, place)| {
        read_issuers(value, &place, access.resource.is_some(), sink)
    });
    access.admin_groups = texts(&mut group, "adminGroups", sink);
    access.tls = group
        .object("tls", sink)
        .and_then(|tls| read_tls(tls, path, sink));
    access.allowed_hosts = read_hosts(&mut group, sink);
    access.allowed_origins = read_origins(&mut group, sink);
    access.metrics_open = group.flag("metricsOpen", sink).unwrap_or(false);
    group.finish(sink);
    access
}

fn read_required(group: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Required {
    let Some((value, place)) = group.take("required", sink) else {
        return Required::Auto;
    };
    let word = value.as_string_lit().map(|literal| &*literal.value);
    match (word, value.as_boolean_lit().map(|literal| literal.value)) {
        (Some("auto"), _) => Required::Auto,
        (_, Some(true)) => Required::Always,
        (_, Some(false)) => {
            sink.error(
                &place,
                "`required` cannot be false: elsewhere than on loopback everybody could use every server",
                "write `\"auto\"`, which leaves loopback open, or `true`",
            );
            Required::Auto
        }
        (Some(other), None) => {
            let message = format!("`required` cannot be {}", quoted(other));
            sink.error(&place, message, "write `\"auto\"` or `true`");
            Required::Auto
        }
        (None, None) => {
            wrong_type(value, "`\"auto\"` or `true`", &place, sink);
            Required::Auto
        }
    }
}

/// Texts that are not empty.
fn texts(group: &mut Fields<'_, '_>, key: &'static str, sink: &mut Sink<'_>) -> Vec<String> {
    placed(group, key, sink).map_or_else(Vec::new, |(texts, _place)| texts)
}

fn placed(
    group: &mut Fields<'_, '_>,
    key: &'static str,
    sink: &mut Sink<'_>,
) -> Option<(Vec<String>, Place)> {
    let (value, place) = group.take(key, sink)?;
    let texts = read_texts(value, &place, sink)?;
    if texts.iter().any(|text| text.trim().is_empty()) {
        sink.error(&place, format!("an entry of `{key}` is empty"), "remove it");
    }
    Some((texts, place))
}

fn read_scopes(group: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Vec<String> {
    let Some((scopes, place)) = placed(group, "scopes", sink) else {
        return Vec::new();
    };
    for scope in &scopes {
        let fits = scope
            .bytes()
            .all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        if !fits {
            let message = format!("{} is not a scope", quoted(scope));
            sink.error(
                &place,
                message,
                "write one scope per entry, without spaces, quotes and backslashes",
            );
        }
    }
    scopes
}

/// What is wrong with an address on the web that must be trusted: https, or http on this machine.
fn web_address(text: &str) -> Result<Uri, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "is not an address")?;
    let Some(host) = uri.host().filter(|host| !host.is_empty()) else {
        return Err("has no host");
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = bare == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("must not hold a name or password");
    }
    if text.contains('#') {
        return Err("must not have a fragment");
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_here => Ok(uri),
        Some("http") => {
            Err("must begin with https://, because whoever is on the way could change what it says")
        }
        Some(_) | None => Err("must begin with https://"),
    }
}

fn read_resource(group: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<String> {
    let (text, place) = group.text("resource", sink)?;
    let wrong = match web_address(&text) {
        Ok(uri) if uri.query().is_some() => "must not have a query",
        Ok(_) => return Some(text.trim_end_matches('/').to_owned()),
        Err(why) => why,
    };
    sink.error(
        &place,
        format!("`resource` {wrong}"),
        "write the address under which clients reach this Mainstay, such as `https://mcp.example.com`",
    );
    None
}

fn read_issuers(
    value: &Value<'_>,
    place: &Place,
    has_resource: bool,
    sink: &mut Sink<'_>,
) -> Vec<Issuer> {
    let Some(array) = value.as_array() else {
        let message = format!("expected a list of objects, found {}", kind(value));
        sink.error(place, message, "write `[{ \"issuer\": \"https://…\" }]`");
        return Vec::new();
    };
    if array.elements.len() > ISSUERS_MAX {
        let message = format!("there are more than the {ISSUERS_MAX} issuers that are read");
        sink.error(place, message, "keep those whose tokens are used");
        return Vec::new();
    }
    let mut issuers: Vec<Issuer> = Vec::new();
    for (index, element) in array.elements.iter().enumerate() {
        let place = Place {
            path: format!("{}[{index}]", place.path),
            at: element.range().start,
            server: None,
        };
        let Some(object) = element.as_object() else {
            wrong_type(element, "an object", &place, sink);
            continue;
        };
        let fields = Fields::new(object, place.clone(), sink);
        let Some(issuer) = read_issuer(fields, &place, has_resource, sink) else {
            continue;
        };
        if issuers.iter().any(|known| known.issuer == issuer.issuer) {
            let message = format!("{} occurs twice", quoted(&issuer.issuer));
            sink.error(&place, message, "keep one entry for each issuer");
        }
        issuers.push(issuer);
    }
    issuers
}

fn read_issuer(
    mut fields: Fields<'_, '_>,
    place: &Place,
    has_resource: bool,
    sink: &mut Sink<'_>,
) -> Option<Issuer> {
    let named = fields.text("issuer", sink);
    let audience = fields.take("audience", sink);
    let audience = audience.and_then(|(value, place)| match value.as_string_lit() {
        Some(one) => Some(vec![one.value.to_string()]),
        None => read_texts(value, &place, sink),
    });
    let jwks_url = fields.text("jwksUrl", sink);
    let leeway = Range {
        min: 0,
        max: LEEWAY_MS_MAX,
    };
    let groups_claim = fields.text("groupsClaim", sink).map(|(text, _)| text);
    let leeway_ms = fields.whole("leewayMs", leeway, sink);
    fields.finish(sink);
    if let Some((url, place)) = &jwks_url
        && let Err(why) = web_address(url)
    {
        sink.error(
            place,
            format!("`jwksUrl` {why}"),
            "write where the issuer's keys are, as https://",
        );
    }
    let Some((issuer, issuer_place)) = named.filter(|(name, _)| !name.is_empty()) else {
        sink.error(
            place,
            "this issuer has no `issuer`",
            "write it exactly as its tokens name it in `iss`",
        );
        return None;
    };
    if jwks_url.is_none()
        && let Err(why) = web_address(&issuer)
    {
        sink.error(
            &issuer_place,
            format!("`issuer` {why}"),
            "write its address, or where its keys are as `jwksUrl`",
        );
    }
    let audience = audience.unwrap_or_default();
    if audience.iter().any(String::is_empty) {
        sink.error(place, "an audience is empty", "remove it");
    }
    if audience.is_empty() && !has_resource {
        sink.error(
            place,
            "nothing says for whom its tokens must be meant",
            "write the address under which clients reach this Mainstay as `mainstay.access.resource`, or an `audience` here",
        );
    }
    Some(Issuer {
        audience,
        jwks_url: jwks_url.map(|(url, _)| url),
        groups_claim: groups_claim.unwrap_or_else(|| GROUPS_CLAIM.to_owned()),
        leeway_ms: leeway_ms.unwrap_or(LEEWAY_MS),
        issuer,
    })
}

fn read_tls(mut fields: Fields<'_, '_>, path: &Path, sink: &mut Sink<'_>) -> Option<ServerTls> {
    let beside = |name: String| path.parent().unwrap_or(Path::new("")).join(name);
    let place = fields.place.clone();
    let cert = fields.text("cert", sink).map(|(text, _)| beside(text));
    let key = fields.text("key", sink).map(|(text, _)| beside(text));
    let client_ca = fields.text("clientCa", sink).map(|(text, _)| beside(text));
    let words = [
        ("required", ClientCertificate::Required),
        ("optional", ClientCertificate::Optional),
    ];
    let client_certificate = fields.choice("clientCertificate", &words, sink);
    fields.finish(sink);
    if client_certificate.is_some() && client_ca.is_none() {
        sink.warn(
            &place,
            "`clientCertificate` has no effect without `clientCa`",
            "name the file with the roots of client certificates as `clientCa`",
        );
    }
    let (Some(cert), Some(key)) = (cert, key) else {
        sink.error(
            &place,
            "TLS needs `cert` and `key`",
            "name the PEM files with the certificate and its private key",
        );
        return None;
    };
    Some(ServerTls {
        cert,
        key,
        client_ca,
        client_certificate: client_certificate.unwrap_or_default(),
    })
}

fn read_hosts(group: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Vec<String> {
    let Some((hosts, place)) = placed(group, "allowedHosts", sink) else {
        return Vec::new();
    };
    for host in &hosts {
        if host.contains(['/', '*', '@']) {
            let message = format!("{} is not the name of a host", quoted(host));
            sink.error(
                &place,
                message,
                "write a name or an address alone, such as `mcp.example.com`",
            );
        }
    }
    hosts
}

fn read_origins(group: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Vec<String> {
    let Some((origins, place)) = placed(group, "allowedOrigins", sink) else {
        return Vec::new();
    };
    for origin in &origins {
        let rest = origin
            .trim_end_matches('/')
            .split_once("://")
            .map(|(_scheme, rest)| rest);
        if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['/', '*', '@'])) {
            let message = format!("{} is not an origin", quoted(origin));
            sink.error(
                &place,
                message,
                "write scheme and host, such as `https://app.example`",
            );
        }
    }
    origins
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Loaded};
    use super::*;

    fn parse(access: &str) -> Result<Loaded, super::super::ConfigError> {
        let text =
            format!("{{ \"mcpServers\": {{}},\n  \"mainstay\": {{ \"access\": {access} }} }}");
        Config::parse(&text, Path::new("/etc/mainstay/mcp.json"))
    }

    #[test]
    fn law_32_access_is_read_with_its_defaults() {
        let loaded = parse("{}").unwrap();
        assert_eq!(loaded.config.gateway.access, Access::default());
        let loaded = parse(
            r#"{ "required": true, "tokens": false, "resource": "https://mcp.example.com/", "scopes": ["mcp"],
                 "jwt": [{ "issuer": "https://id.example", "groupsClaim": "roles" },
                         { "issuer": "other", "audience": "me", "jwksUrl": "http://127.0.0.1:1/jwks", "leewayMs": 5 }],
                 "adminGroups": ["ops"], "tls": { "cert": "tls/cert.pem", "key": "/k.pem", "clientCa": "ca.pem" },
                 "allowedHosts": ["box.lan"], "allowedOrigins": ["https://app.example"], "metricsOpen": true }"#,
        )
        .unwrap();
        assert_eq!(loaded.problems, []);
        let access = loaded.config.gateway.access;
        assert_eq!(access.required, Required::Always);
        assert_eq!(access.resource.as_deref(), Some("https://mcp.example.com"));
        assert_eq!(
            (access.jwt[0].leeway_ms, access.jwt[0].audience.len()),
            (LEEWAY_MS, 0)
        );
        assert_eq!(access.jwt[0].groups_claim, "roles");
        assert_eq!(access.jwt[1].audience, ["me"]);
        let tls = access.tls.unwrap();
        assert_eq!(tls.cert, Path::new("/etc/mainstay/tls/cert.pem"));
        assert_eq!(tls.key, Path::new("/k.pem"));
        assert_eq!(tls.client_certificate, ClientCertificate::Required);
        assert!(!access.tokens && access.metrics_open);
    }

    #[test]
    fn law_32_what_would_let_anybody_in_refuses_the_file_and_says_where() {
        for (wrong, message) in [
            (r#"{ "required": false }"#, "cannot be false"),
            (r#"{ "required": "never" }"#, "cannot be `never`"),
            (r#"{ "required": 1 }"#, "found a number"),
            (r#"{ "resource": "http://mcp.example.com" }"#, "https://"),
            (
                r#"{ "resource": "https://me:pw@mcp.example.com" }"#,
                "name or password",
            ),
            (r#"{ "resource": "mcp.example.com" }"#, "`resource`"),
            (
                r#"{ "jwt": [{ "issuer": "https://id.example" }] }"#,
                "for whom",
            ),
            (
                r#"{ "jwt": [{ "issuer": "http://id.example", "audience": "x" }] }"#,
                "https://",
            ),
            (
                r#"{ "jwt": [{ "issuer": "id", "audience": "x" }] }"#,
                "`issuer`",
            ),
            (r#"{ "jwt": [{ "audience": "x" }] }"#, "has no `issuer`"),
            (
                r#"{ "jwt": [{ "issuer": "a", "audience": "", "jwksUrl": "https://k.example" }] }"#,
                "is empty",
            ),
            (
                r#"{ "jwt": [{ "issuer": "a", "audience": "x", "jwksUrl": "http://k.example" }] }"#,
                "`jwksUrl`",
            ),
            (r#"{ "jwt": { "issuer": "a" } }"#, "a list of objects"),
            (r#"{ "tls": { "cert": "x" } }"#, "`cert` and `key`"),
            (r#"{ "scopes": ["a b"] }"#, "not a scope"),
            (r#"{ "allowedHosts": ["*"] }"#, "not the name of a host"),
            (r#"{ "allowedOrigins": ["app.example"] }"#, "not an origin"),
            (r#"{ "allowedOrigins": ["*"] }"#, "not an origin"),
        ] {
            let refused = parse(wrong).expect_err(wrong);
            let refused = refused.to_string();
            assert!(refused.contains(message), "{wrong}: {refused}");
            assert!(refused.contains("mainstay.access"), "{wrong}: {refused}");
            assert!(!refused.contains("pw@"), "{wrong}: {refused}");
        }
    }
}
