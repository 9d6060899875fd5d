//! The person of a conformance run: signs in when the server wants it, with a browser that agrees to everything and shows
//! nothing. How the library is told to sign in stands here too.

use std::sync::atomic::{AtomicU32, Ordering};

use mainstay::Manager;
use mainstay::auth::How;
use mainstay::config::{Config, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Failure;

/// Where the browser would come back to. Nobody listens there: the browser tells where it was sent, as by copy and paste.
const BACK: &str = "http://127.0.0.1:4711/callback";

/// The client id that the suite knows a metadata document of.
const DOCUMENT: &str = "https://conformance-test.local/client-metadata.json";

/// After so many sign-ins a person gives up.
const PATIENCE: u32 = 3;

/// The longest page that is read, in bytes.
const PAGE_BYTES_MAX: u64 = 64 * 1024;

/// The entry of the suite's server, with what the scenario says of credentials.
pub(crate) fn entry(url: &str, scenario: &str, context: &Value) -> Result<ServerConfig, Failure> {
    let auth = match scenario.rsplit('/').next().unwrap_or_default() {
        "client-credentials-jwt" => json!({
            "grant": "clientCredentials", "clientId": context["client_id"], "privateKey": context["private_key_pem"],
            "algorithm": context["signing_algorithm"],
        }),
        "client-credentials-basic" => json!({
            "grant": "clientCredentials", "clientId": context["client_id"], "clientSecret": context["client_secret"],
        }),
        "enterprise-managed-authorization" => json!({
            "grant": "enterprise", "clientId": context["client_id"], "clientSecret": context["client_secret"],
            "enterprise": {
                "issuer": context["idp_issuer"], "tokenUrl": context["idp_token_endpoint"],
                "clientId": context["idp_client_id"], "idToken": context["idp_id_token"],
            },
        }),
        "pre-registration" => json!({
            "clientId": context["client_id"], "clientSecret": context["client_secret"],
        }),
        _ => json!({"clientMetadataUrl": DOCUMENT}),
    };
    let file = json!({"mcpServers": {"server": {"url": url, "auth": auth}}});
    let loaded = Config::parse(&file.to_string(), "conformance.json".as_ref())?;
    if let Some(problem) = loaded.problems.first() {
        return Err(problem.to_string().into());
    }
    let server = loaded.config.servers.into_iter().next();
    server.ok_or_else(|| "no server".into())
}

/// Signs in as often as it takes, within reason.
#[derive(Debug, Default)]
pub(crate) struct Person {
    signed_in: AtomicU32,
}

impl Person {
    /// Whether the server wants somebody to sign in, for the first time or for more.
    pub(crate) fn is_wanted(manager: &Manager) -> bool {
        let known = manager.sign_ins().known("server", None);
        known.is_some_and(|status| {
            status.state == mainstay::auth::SignInState::Needed || !status.wants.is_empty()
        })
    }

    /// Signs in once. `false`: patience is over.
    pub(crate) async fn sign_in(&self, manager: &Manager) -> Result<bool, Failure> {
        if self.signed_in.fetch_add(1, Ordering::Relaxed) >= PATIENCE {
            return Ok(false);
        }
        let sign_ins = manager.sign_ins();
        let begun = sign_ins
            .begin("server", None, How::Browser, Some(BACK))
            .await?;
        let back = sent_back(&begun.url).await?;
        sign_ins.finish(&begun.id, &back).await?;
        Ok(true)
    }
}

/// Opens a page, and returns the address that it sends the browser to.
async fn sent_back(url: &str) -> Result<String, Failure> {
    let uri: http::Uri = url.parse()?;
    let authority = uri.authority().ok_or("no host")?.as_str();
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut stream = TcpStream::connect(authority).await?;
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let location = answer
        .lines()
        .take_while(|line| !line.is_empty())
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("location").then(|| value.trim())
        });
    Ok(location.ok_or("the page sends nobody back")?.to_owned())
}
