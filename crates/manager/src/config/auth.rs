//! How Mainstay signs in to a server (`auth`): the key's options, their reader, and the settings that come of it.
//!
//! Secrets in it are [`Template`]s and stay references until the moment of use (law 31). Nothing here speaks to anybody.

use jsonc_parser::ast::Value;
use schemars::JsonSchema;

use super::{
    Template,
    file::{Scope, ServerOptions},
    fingerprint::Hashed,
    read_options::read_texts,
    read_server::read_template,
    reader::{Fields, Place, Range, Sink, kind},
};

/// Longest scope, in bytes.
const SCOPE_BYTES_MAX: usize = 256;

/// How Mainstay signs in to one server. Default: OAuth as soon as the server asks for it with a 401.
///
/// A configured `Authorization` header switches signing in off, whatever stands here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AuthConfig {
    /// Never sign in (`"none"`): a 401 is then the credentials' fault that the entry gives. Default: false.
    pub off: bool,
    /// How a grant is obtained. Default: in a browser.
    pub grant: GrantType,
    /// The client that was registered by hand. Default: a client id document or dynamic registration.
    pub client_id: Option<Template>,
    /// Its secret.
    pub client_secret: Option<Template>,
    /// Its private key (PEM, PKCS#8), in place of a secret.
    pub private_key: Option<Template>,
    /// What that key signs with. Default: what fits the key.
    pub algorithm: Option<SigningAlgorithm>,
    /// The name of that key in the client's key set.
    pub key_id: Option<Template>,
    /// The address of a client id metadata document, used where the authorization server takes one.
    pub client_metadata_url: Option<Template>,
    /// What is asked for. Default: what the server asks for.
    pub scopes: Option<Vec<String>>,
    /// The one authorization server that is accepted. Default: the first usable one that the server names.
    pub issuer: Option<Template>,
    /// The port of the address to which the browser comes back. Default: a free one each time.
    pub redirect_port: Option<u16>,
    /// The name under which Mainstay registers itself. Default: `Mainstay`.
    pub client_name: Option<String>,
    /// The identity provider of the enterprise, for [`GrantType::Enterprise`].
    pub enterprise: Option<EnterpriseConfig>,
    /// The exchange of tokens, for [`GrantType::Exchange`].
    pub exchange: Option<ExchangeConfig>,
    /// Whether authorization servers may have private addresses (F245). Default: false.
    pub allow_private_addresses: bool,
}

/// How a grant is obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub enum GrantType {
    /// A person signs in with a browser (authorization code and PKCE).
    #[default]
    Browser,
    /// A person signs in on another device, with a code (RFC 8628).
    Device,
    /// Mainstay itself is the client, without a person: its secret or a signed assertion.
    ClientCredentials,
    /// The enterprise's identity provider decides (an identity assertion, exchanged twice).
    Enterprise,
    /// The caller's identity is exchanged for a token of this server (RFC 8693).
    Exchange,
}

/// What a signed assertion is signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, JsonSchema)]
pub enum SigningAlgorithm {
    /// RSA, PKCS#1 v1.5, SHA-256.
    RS256,
    /// RSA, PKCS#1 v1.5, SHA-384.
    RS384,
    /// RSA, PKCS#1 v1.5, SHA-512.
    RS512,
    /// RSA, PSS, SHA-256.
    PS256,
    /// RSA, PSS, SHA-384.
    PS384,
    /// RSA, PSS, SHA-512.
    PS512,
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// ECDSA with P-384 and SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl SigningAlgorithm {
    /// Its word in a token's header.
    #[must_use]
    pub fn word(self) -> &'static str {
        let found = ALGORITHMS.iter().find(|(_, known)| *known == self);
        found.map_or("", |(word, _)| word)
    }
}

/// The identity provider of an enterprise, and the identity that Mainstay shows there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EnterpriseConfig {
    /// The provider's issuer identifier.
    pub issuer: Template,
    /// Its token endpoint.
    pub token_url: Template,
    /// Mainstay's client there.
    pub client_id: Template,
    /// That client's secret. Default: a public client.
    pub client_secret: Option<Template>,
    /// An ID token of the person or workload. Either this or `refresh_token`.
    pub id_token: Option<Template>,
    /// A refresh token of the provider.
    pub refresh_token: Option<Template>,
}

/// An exchange of tokens (RFC 8693).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ExchangeConfig {
    /// The token endpoint. Default: that of the server's authorization server.
    pub token_url: Option<Template>,
    /// The `audience` that is asked for.
    pub audience: Option<Template>,
    /// The token that is exchanged. Default: the one that the caller signed in to Mainstay with.
    pub subject_token: Option<Template>,
    /// What kind of token that is. Default: an access token.
    pub subject_token_type: Option<String>,
}

/// `auth` as it is written.
#[derive(Debug, Clone)]
pub(super) enum AuthOptions {
    Word(AuthWord),
    Group(Box<AuthGroup>),
}

/// `auth` in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum AuthWord {
    Auto,
    None,
}

/// What the schema shows of `auth`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum AuthWordOrGroup {
    Word(AuthWord),
    Group(Box<AuthGroup>),
}

/// How Mainstay signs in.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct AuthGroup {
    /// How a grant is obtained: `browser` and `device` need a person, the others do not.
    #[schemars(extend("default" = "browser"))]
    pub(super) grant: Option<GrantType>,
    /// The id of a client that was registered with the authorization server by hand. Default: a client id document or dynamic
    /// registration.
    #[schemars(with = "Option<String>")]
    pub(super) client_id: Option<Template>,
    /// That client's secret.
    #[schemars(with = "Option<String>")]
    pub(super) client_secret: Option<Template>,
    /// That client's private key (PEM, PKCS#8), in place of a secret: `${file:…}` reads it from a file.
    #[schemars(with = "Option<String>")]
    pub(super) private_key: Option<Template>,
    /// What the private key signs with. Default: what fits the key.
    pub(super) algorithm: Option<SigningAlgorithm>,
    /// The name of the private key in the client's key set (`kid`).
    #[schemars(with = "Option<String>")]
    pub(super) key_id: Option<Template>,
    /// The address (`https://…`) of a client id metadata document that describes this Mainstay; used where the authorization
    /// server takes one.
    #[schemars(with = "Option<String>")]
    pub(super) client_metadata_url: Option<Template>,
    /// What is asked for. Default: what the server asks for.
    pub(super) scopes: Option<Vec<String>>,
    /// The one authorization server that is accepted. Default: the first usable one that the server names.
    #[schemars(with = "Option<String>")]
    pub(super) issuer: Option<Template>,
    /// The port of the address on this machine to which the browser comes back, for clients whose registration fixes it.
    /// Default: a free one each time.
    #[schemars(range(min = 1, max = 65535))]
    pub(super) redirect_port: Option<u16>,
    /// The name under which Mainstay registers itself.
    #[schemars(extend("default" = CLIENT_NAME))]
    pub(super) client_name: Option<String>,
    /// The identity provider, for the grant `enterprise`.
    pub(super) enterprise: Option<EnterpriseOptions>,
    /// The exchange, for the grant `exchange`.
    pub(super) exchange: Option<ExchangeOptions>,
    /// Whether authorization servers may have addresses of private networks.
    #[schemars(extend("default" = false))]
    pub(super) allow_private_addresses: Option<bool>,
}

/// The identity provider of an enterprise.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct EnterpriseOptions {
    /// The provider's issuer identifier.
    #[schemars(with = "Option<String>")]
    pub(super) issuer: Option<Template>,
    /// Its token endpoint.
    #[schemars(with = "Option<String>")]
    pub(super) token_url: Option<Template>,
    /// Mainstay's client there.
    #[schemars(with = "Option<String>")]
    pub(super) client_id: Option<Template>,
    /// That client's secret.
    #[schemars(with = "Option<String>")]
    pub(super) client_secret: Option<Template>,
    /// An ID token of the person or workload on whose behalf Mainstay acts.
    #[schemars(with = "Option<String>")]
    pub(super) id_token: Option<Template>,
    /// A refresh token of the provider, in place of an ID token.
    #[schemars(with = "Option<String>")]
    pub(super) refresh_token: Option<Template>,
}

/// An exchange of tokens (RFC 8693).
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct ExchangeOptions {
    /// The token endpoint. Default: that of the server's authorization server.
    #[schemars(with = "Option<String>")]
    pub(super) token_url: Option<Template>,
    /// The `audience` that is asked for.
    #[schemars(with = "Option<String>")]
    pub(super) audience: Option<Template>,
    /// The token that is exchanged. Default: the one that the caller signed in to Mainstay with.
    #[schemars(with = "Option<String>")]
    pub(super) subject_token: Option<Template>,
    /// What kind of token that is, as a URN. Default: an access token.
    pub(super) subject_token_type: Option<String>,
}

/// The name under which Mainstay registers itself.
pub(crate) const CLIENT_NAME: &str = "Mainstay";

const GRANTS: [(&str, GrantType); 5] = [
    ("browser", GrantType::Browser),
    ("device", GrantType::Device),
    ("clientCredentials", GrantType::ClientCredentials),
    ("enterprise", GrantType::Enterprise),
    ("exchange", GrantType::Exchange),
];

const ALGORITHMS: [(&str, SigningAlgorithm); 9] = [
    ("RS256", SigningAlgorithm::RS256),
    ("RS384", SigningAlgorithm::RS384),
    ("RS512", SigningAlgorithm::RS512),
    ("PS256", SigningAlgorithm::PS256),
    ("PS384", SigningAlgorithm::PS384),
    ("PS512", SigningAlgorithm::PS512),
    ("ES256", SigningAlgorithm::ES256),
    ("ES384", SigningAlgorithm::ES384),
    ("EdDSA", SigningAlgorithm::EdDSA),
];

/// Reads `auth`.
pub(super) fn read_auth(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<AuthOptions> {
    let (value, place) = fields.take("auth", sink)?;
    if let Some(word) = value.as_string_lit() {
        return match word.value.as_ref() {
            // `oauth` is how other clients write it.
            "auto" | "oauth" => Some(AuthOptions::Word(AuthWord::Auto)),
            "none" => Some(AuthOptions::Word(AuthWord::None)),
            // It may be a token, so it is not shown (law 31).
            _ => {
                sink.error(
                    &place,
                    "`auth` is neither `auto`, `none` nor an object".to_owned(),
                    "for a token that you have, write `\"headers\": {\"Authorization\": \"Bearer ${NAME}\"}`",
                );
                None
            }
        };
    }
    if value.as_object().is_none() {
        let message = format!(
            "expected `auto`, `none` or an object, found {}",
            kind(value)
        );
        sink.error(&place, message, "");
        return None;
    }
    let group = read_group(fields.object("auth", sink)?, sink);
    check_group(&group, &place, sink);
    Some(AuthOptions::Group(Box::new(group)))
}

fn read_group(mut fields: Fields<'_, '_>, sink: &mut Sink<'_>) -> AuthGroup {
    let group = AuthGroup {
        grant: fields.choice("grant", &GRANTS, sink),
        client_id: reference("clientId", &mut fields, sink),
        client_secret: secret("clientSecret", &mut fields, sink),
        private_key: secret("privateKey", &mut fields, sink),
        algorithm: fields.choice("algorithm", &ALGORITHMS, sink),
        key_id: reference("keyId", &mut fields, sink),
        client_metadata_url: address("clientMetadataUrl", &mut fields, sink),
        scopes: read_scopes(&mut fields, sink),
        issuer: address("issuer", &mut fields, sink),
        redirect_port: fields
            .whole(
                "redirectPort",
                Range {
                    min: 1,
                    max: 65_535,
                },
                sink,
            )
            .and_then(|port| u16::try_from(port).ok()),
        client_name: fields.text("clientName", sink).map(|(name, _)| name),
        enterprise: fields
            .object("enterprise", sink)
            .map(|group| read_enterprise(group, sink)),
        exchange: fields
            .object("exchange", sink)
            .map(|group| read_exchange(group, sink)),
        allow_private_addresses: fields.flag("allowPrivateAddresses", sink),
    };
    fields.finish(sink);
    group
}

fn read_enterprise(mut fields: Fields<'_, '_>, sink: &mut Sink<'_>) -> EnterpriseOptions {
    let options = EnterpriseOptions {
        issuer: address("issuer", &mut fields, sink),
        token_url: address("tokenUrl", &mut fields, sink),
        client_id: reference("clientId", &mut fields, sink),
        client_secret: secret("clientSecret", &mut fields, sink),
        id_token: secret("idToken", &mut fields, sink),
        refresh_token: secret("refreshToken", &mut fields, sink),
    };
    fields.finish(sink);
    options
}

fn read_exchange(mut fields: Fields<'_, '_>, sink: &mut Sink<'_>) -> ExchangeOptions {
    let options = ExchangeOptions {
        token_url: address("tokenUrl", &mut fields, sink),
        audience: reference("audience", &mut fields, sink),
        subject_token: secret("subjectToken", &mut fields, sink),
        subject_token_type: fields.text("subjectTokenType", sink).map(|(text, _)| text),
    };
    fields.finish(sink);
    options
}

/// Text that may hold references.
fn reference(
    key: &'static str,
    fields: &mut Fields<'_, '_>,
    sink: &mut Sink<'_>,
) -> Option<Template> {
    let (value, place) = fields.take(key, sink)?;
    read_template(value, &place, sink)
}

/// The same, where what is written down may itself be secret.
fn secret(key: &'static str, fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<Template> {
    reference(key, fields, sink).map(Template::hide)
}

/// The address of an authorization server or of something at one.
fn address(
    key: &'static str,
    fields: &mut Fields<'_, '_>,
    sink: &mut Sink<'_>,
) -> Option<Template> {
    let (value, place) = fields.take(key, sink)?;
    let template = read_template(value, &place, sink)?;
    let wrong = template
        .literal()
        .and_then(|text| reqwest::Url::parse(&text).map_or(Some(()), |url| wrong_address(&url)));
    if wrong.is_some() {
        let message = format!("`{key}` is not an address that can be used");
        let remedy = "write it in full, beginning with https:// (or http:// on this machine), without user and password";
        sink.error(&place, message, remedy);
    }
    Some(template)
}

fn wrong_address(url: &reqwest::Url) -> Option<()> {
    let good = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.username().is_empty()
        && url.password().is_none();
    (!good).then_some(())
}

fn read_scopes(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<Vec<String>> {
    let (value, place): (&Value<'_>, Place) = fields.take("scopes", sink)?;
    let scopes = read_texts(value, &place, sink)?;
    for scope in &scopes {
        if !is_scope(scope) {
            sink.error(
                &place,
                "a scope is one word of printable ASCII, without spaces and quotes".to_owned(),
                "write each scope as an element of its own: [\"read\", \"write\"]",
            );
        }
    }
    Some(scopes)
}

/// Whether a text is one scope (RFC 6749, section 3.3).
pub(crate) fn is_scope(text: &str) -> bool {
    let good = |byte| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~');
    !text.is_empty() && text.len() <= SCOPE_BYTES_MAX && text.bytes().all(good)
}

/// What one grant needs, and what excludes what.
fn check_group(group: &AuthGroup, place: &Place, sink: &mut Sink<'_>) {
    let mut error = |message: &str, remedy: &str| sink.error(place, message.to_owned(), remedy);
    let proves = group.client_secret.is_some() || group.private_key.is_some();
    if group.client_secret.is_some() && group.private_key.is_some() {
        error(
            "`clientSecret` and `privateKey` are two ways to prove the same thing",
            "keep the one that the client is registered for",
        );
    }
    if proves && group.client_id.is_none() {
        error(
            "there is a secret or key, and no `clientId` that it belongs to",
            "add the `clientId` of the registered client",
        );
    }
    match group.grant.unwrap_or_default() {
        GrantType::Browser | GrantType::Device => {}
        GrantType::ClientCredentials if group.client_id.is_none() || !proves => error(
            "the grant `clientCredentials` needs a `clientId` and a `clientSecret` or `privateKey`",
            "add them, or leave `grant` out to sign in with a browser",
        ),
        GrantType::Enterprise if !is_enterprise(group) => error(
            "the grant `enterprise` needs `clientId` and, under `enterprise`, `issuer`, `tokenUrl`, `clientId` and one of `idToken` and \
             `refreshToken`",
            "add what is missing",
        ),
        GrantType::Exchange if group.client_id.is_none() => error(
            "the grant `exchange` needs a `clientId`",
            "add the client that is allowed to exchange tokens",
        ),
        GrantType::ClientCredentials | GrantType::Enterprise | GrantType::Exchange => {}
    }
}

fn is_enterprise(group: &AuthGroup) -> bool {
    group.client_id.is_some()
        && group.enterprise.as_ref().is_some_and(|provider| {
            provider.issuer.is_some()
                && provider.token_url.is_some()
                && provider.client_id.is_some()
                && provider.id_token.is_some() != provider.refresh_token.is_some()
        })
}

impl ServerOptions {
    /// Whether nobody's token could ever be exchanged as the entry stands: what is wrong, and the remedy.
    pub(super) fn exchange_of_nobody(&self) -> Option<(&'static str, &'static str)> {
        let Some(AuthOptions::Group(group)) = &self.auth else {
            return None;
        };
        if group.grant != Some(GrantType::Exchange) {
            return None;
        }
        let exchange = group.exchange.as_ref();
        let is_named = exchange.is_some_and(|exchange| exchange.subject_token.is_some());
        match (self.scope.unwrap_or_default(), is_named) {
            (Scope::Shared | Scope::Session, false) => Some((
                "the grant `exchange` without a `subjectToken` exchanges the token of whoever calls, and without `scope: \"user\"` \
                 callers share one connection that is nobody's",
                "add `scope: \"user\"`, so that everybody has a connection and credentials of their own, or name an \
                 `exchange.subjectToken`",
            )),
            (Scope::User, true) => Some((
                "with `scope: \"user\"` callers are not given the identity of `exchange.subjectToken`, which is the same for all",
                "take `subjectToken` out, so that the callers' own tokens are exchanged, or take out `scope`",
            )),
            (Scope::Shared | Scope::Session, true) | (Scope::User, false) => None,
        }
    }
}

impl AuthConfig {
    pub(super) fn from_options(options: Option<&AuthOptions>) -> AuthConfig {
        let group = match options {
            None | Some(AuthOptions::Word(AuthWord::Auto)) => return AuthConfig::default(),
            Some(AuthOptions::Word(AuthWord::None)) => {
                return AuthConfig {
                    off: true,
                    ..AuthConfig::default()
                };
            }
            Some(AuthOptions::Group(group)) => AuthGroup::clone(group),
        };
        AuthConfig {
            off: false,
            grant: group.grant.unwrap_or_default(),
            client_id: group.client_id,
            client_secret: group.client_secret,
            private_key: group.private_key,
            algorithm: group.algorithm,
            key_id: group.key_id,
            client_metadata_url: group.client_metadata_url,
            scopes: group.scopes,
            issuer: group.issuer,
            redirect_port: group.redirect_port,
            client_name: group.client_name,
            enterprise: group.enterprise.and_then(EnterpriseConfig::from_options),
            exchange: group.exchange.map(ExchangeConfig::from_options),
            allow_private_addresses: group.allow_private_addresses.unwrap_or_default(),
        }
    }

    /// The templates of it, for those who check that references have values and who hide what they resolve to.
    #[must_use]
    pub fn templates(&self) -> Vec<&Template> {
        let own = [
            &self.client_id,
            &self.client_secret,
            &self.private_key,
            &self.key_id,
            &self.client_metadata_url,
            &self.issuer,
        ];
        let mut all: Vec<&Template> = own.into_iter().flatten().collect();
        if let Some(provider) = &self.enterprise {
            all.extend([&provider.issuer, &provider.token_url, &provider.client_id]);
            let more = [
                &provider.client_secret,
                &provider.id_token,
                &provider.refresh_token,
            ];
            all.extend(more.into_iter().flatten());
        }
        if let Some(exchange) = &self.exchange {
            let parts = [
                &exchange.token_url,
                &exchange.audience,
                &exchange.subject_token,
            ];
            all.extend(parts.into_iter().flatten());
        }
        all
    }

    /// Whether what callers proved themselves with is exchanged for its credentials (RFC 8693): the grant `exchange` without a
    /// token that the entry names.
    #[must_use]
    pub fn exchanges_callers(&self) -> bool {
        let named = self.exchange.as_ref();
        let named = named.is_some_and(|exchange| exchange.subject_token.is_some());
        self.grant == GrantType::Exchange && !named && !self.off
    }

    /// Whether a person has to do something to obtain a grant.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        match self.grant {
            GrantType::Browser | GrantType::Device => true,
            GrantType::ClientCredentials | GrantType::Enterprise | GrantType::Exchange => false,
        }
    }

    /// Adds it to what identifies a connection; the usual way to sign in adds nothing, so that older entries keep theirs.
    pub(super) fn add_to(&self, hash: &mut Hashed) {
        if *self == AuthConfig::default() {
            return;
        }
        hash.word("auth");
        hash.word(
            GRANTS
                .iter()
                .find(|(_, known)| *known == self.grant)
                .map_or("", |(word, _)| word),
        );
        hash.word(self.algorithm.map_or("", SigningAlgorithm::word));
        hash.word(self.client_name.as_deref().unwrap_or_default());
        let named = |name: &str, template: &Option<Template>| {
            template
                .as_ref()
                .map(|template| (name.to_owned(), template.raw().to_owned()))
        };
        let own = [
            named("clientId", &self.client_id),
            named("clientSecret", &self.client_secret),
            named("privateKey", &self.private_key),
            named("keyId", &self.key_id),
            named("clientMetadataUrl", &self.client_metadata_url),
            named("issuer", &self.issuer),
        ];
        let own: Vec<_> = own.into_iter().flatten().collect();
        hash.pairs(own.iter().map(|(name, raw)| (name.clone(), raw.as_str())));
        let scopes = self.scopes.as_deref();
        hash.count(scopes.map_or(0, |scopes| scopes.len() + 1));
        scopes
            .unwrap_or_default()
            .iter()
            .for_each(|scope| hash.word(scope));
        hash.count(usize::from(self.redirect_port.unwrap_or_default()));
        hash.count(usize::from(self.off) + 2 * usize::from(self.allow_private_addresses));
        let others = self.templates();
        others
            .iter()
            .skip(own.len())
            .for_each(|part| hash.word(part.raw()));
        hash.count(others.len());
    }
}

impl EnterpriseConfig {
    /// `None` where something is missing that was reported.
    fn from_options(options: EnterpriseOptions) -> Option<EnterpriseConfig> {
        Some(EnterpriseConfig {
            issuer: options.issuer?,
            token_url: options.token_url?,
            client_id: options.client_id?,
            client_secret: options.client_secret,
            id_token: options.id_token,
            refresh_token: options.refresh_token,
        })
    }
}

impl ExchangeConfig {
    fn from_options(options: ExchangeOptions) -> ExchangeConfig {
        ExchangeConfig {
            token_url: options.token_url,
            audience: options.audience,
            subject_token: options.subject_token,
            subject_token_type: options.subject_token_type,
        }
    }
}
