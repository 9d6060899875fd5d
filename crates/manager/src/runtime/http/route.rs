//! The way to a server: through which proxy, whom TLS trusts on it, and what is shown there of us.
//!
//! Decided once per link, for its one origin. Makes the general HTTP client and reads its errors; sends nothing.

use std::error::Error;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use mainstay_core::failure::{Failure, FailureKind};

use super::client::{chain, place_of};
use super::lookup::Lookup;

/// The word in place of a proxy's address that means: none, whatever the environment says.
const DIRECT: &str = "direct";

/// The most that a file of certificates or keys may hold.
const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Authorization servers are asked a few times in a row, and then not for an hour.
#[cfg(feature = "oauth")]
const STRANGERS_IDLE: Duration = Duration::from_secs(4);
#[cfg(feature = "oauth")]
const STRANGERS_KEEPALIVE: Duration = Duration::from_secs(15);

/// How a server is reached: what its entry says about proxies and certificates. No `Debug` beyond what may be shown: the
/// address of a proxy may hold a password.
#[derive(Clone, Default)]
pub struct Route {
    /// A file of certificates in PEM form that are trusted as roots, on top of those of this machine (`tls.caFile`).
    pub ca_file: Option<PathBuf>,
    /// A file with the certificate in PEM form that is shown to the server (`tls.certFile`), and those between it and its
    /// authority. Needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The file with its private key in PEM form (`tls.keyFile`).
    pub key_file: Option<PathBuf>,
    /// The address of the proxy, or `direct` for none. `None`: what the environment says, and never for servers on this
    /// machine.
    pub proxy: Option<String>,
    /// Hosts that are reached without a proxy, as `NO_PROXY` lists them.
    pub no_proxy: Option<String>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("ca_file", &self.ca_file)
            .field("cert_file", &self.cert_file)
            .field("key_file", &self.key_file)
            .field("has_proxy", &self.proxy.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// Which proxy leads to one origin.
#[derive(Clone)]
pub(super) enum Way {
    Direct,
    /// As the environment of this process says.
    Environment,
    Proxy(reqwest::Url),
}

impl Route {
    /// The way to an origin.
    pub(super) fn way(&self, uri: &Uri, is_loopback: bool) -> Result<Way, Failure> {
        let spared = self.no_proxy.as_deref().is_some_and(|hosts| {
            let matcher = Matcher::builder()
                .all("http://proxy.invalid")
                .no(hosts)
                .build();
            matcher.intercept(uri).is_none()
        });
        let proxy = self.proxy.as_deref().map(str::trim);
        Ok(match proxy.filter(|proxy| !proxy.is_empty()) {
            _ if spared => Way::Direct,
            Some(DIRECT) => Way::Direct,
            Some(proxy) => Way::Proxy(proxy_url(proxy)?),
            // No proxy of the environment can reach a server on this machine.
            None if is_loopback || Matcher::from_system().intercept(uri).is_none() => Way::Direct,
            None => Way::Environment,
        })
    }

    /// The certificates of `tls.caFile`.
    fn roots(&self) -> Result<Vec<reqwest::Certificate>, Failure> {
        let Some(path) = &self.ca_file else {
            return Ok(Vec::new());
        };
        let bad = |why: String| bad_file("tls.caFile", path, &why);
        let pem = read_file("tls.caFile", path)?;
        let roots = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| bad(format!("is not usable: {}", chain(&error))))?;
        if roots.is_empty() {
            return Err(bad("holds no certificate in PEM form".to_owned()));
        }
        Ok(roots)
    }

    /// What is shown to the server: the certificate of `tls.certFile` with its key.
    fn identity(&self) -> Result<Option<reqwest::Identity>, Failure> {
        let (cert, key) = match (&self.cert_file, &self.key_file) {
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => {
                let detail = "`tls.certFile` is given without `tls.keyFile`: name the file of its private key";
                return Err(Failure::new(FailureKind::BadConfig).with_detail(detail));
            }
            (None, Some(_)) => {
                let detail = "`tls.keyFile` is given without `tls.certFile`: name the file of its certificate";
                return Err(Failure::new(FailureKind::BadConfig).with_detail(detail));
            }
        };
        let mut pem = read_file("tls.keyFile", key)?;
        if let Ok(about) = std::fs::metadata(key)
            && about.mode() & 0o004 != 0
        {
            tracing::warn!(
                "{} holds a private key and can be read by everybody on this machine: chmod 600 {0}",
                key.display()
            );
        }
        if !holds(&pem, "PRIVATE KEY") {
            return Err(bad_file(
                "tls.keyFile",
                key,
                "holds no private key in PEM form",
            ));
        }
        let chain_pem = read_file("tls.certFile", cert)?;
        if !holds(&chain_pem, "CERTIFICATE") {
            return Err(bad_file(
                "tls.certFile",
                cert,
                "holds no certificate in PEM form",
            ));
        }
        pem.push(b'\n');
        pem.extend(chain_pem);
        let identity = reqwest::Identity::from_pem(&pem).map_err(|error| {
            let why = format!("and its key cannot be used: {}", chain(&error));
            bad_file("tls.certFile", cert, &why)
        })?;
        Ok(Some(identity))
    }
}

fn holds(pem: &[u8], what: &str) -> bool {
    String::from_utf8_lossy(pem)
        .lines()
        .any(|line| line.starts_with("-----BEGIN ") && line.contains(what))
}

fn bad_file(setting: &str, path: &Path, why: &str) -> Failure {
    Failure::new(FailureKind::BadConfig)
        .with_detail(format!("`{setting}` {} {why}", path.display()))
}

/// Reads a small file of a setting.
fn read_file(setting: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let unread =
        |error: std::io::Error| bad_file(setting, path, &format!("cannot be read: {error}"));
    let bytes = std::fs::metadata(path).map_err(unread)?.len();
    if bytes > PEM_BYTES_MAX {
        let why = format!("is longer than {PEM_BYTES_MAX} bytes");
        return Err(bad_file(setting, path, &why));
    }
    std::fs::read(path).map_err(unread)
}

fn proxy_url(proxy: &str) -> Result<reqwest::Url, Failure> {
    // The address may hold a password: say what is wrong with it, not what it is (law 31).
    let bad =
        |why: &str| Failure::new(FailureKind::BadConfig).with_detail(format!("`proxy` {why}"));
    // `host:port` alone would read like a scheme of its own.
    let whole = match proxy.contains("://") {
        true => proxy.to_owned(),
        false => format!("http://{proxy}"),
    };
    let url =
        reqwest::Url::parse(&whole).map_err(|error| bad(&format!("is not an address: {error}")))?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err(bad(&format!(
            "must begin with http:// or https://, not {}:",
            url.scheme()
        )))
    }
}

/// The settings of connections that the general client makes.
pub(super) struct Tuning {
    pub(super) connect: Duration,
    pub(super) keepalive: Duration,
    pub(super) keepalive_interval: Duration,
    pub(super) keepalive_retries: u32,
    pub(super) idle: Duration,
    pub(super) idle_max: usize,
}

/// The general client: TLS, HTTP/2 where the server offers it, proxies.
pub(super) fn general_client(
    route: &Route,
    way: &Way,
    lookup: &Lookup,
    tuning: &Tuning,
) -> Result<reqwest::Client, Failure> {
    let resolver = lookup
        .is_custom()
        .then(|| Arc::new(lookup.clone()) as Arc<dyn reqwest::dns::Resolve>);
    client(route, way, resolver, tuning)
}

/// A client for whoever a server names without being the server (an authorization server): the same way, certificates and
/// proxy, none of the server's headers (F243), no redirects (F244), and only the addresses that `filter` lets through. Through
/// a proxy the filter decides nothing: names are found there.
#[cfg(feature = "oauth")]
pub(crate) fn client_for_strangers(
    route: &Route,
    uri: &Uri,
    is_loopback: bool,
    filter: Arc<dyn reqwest::dns::Resolve>,
    connect: Duration,
) -> Result<reqwest::Client, Failure> {
    let way = route.way(uri, is_loopback)?;
    let tuning = Tuning {
        connect,
        keepalive: STRANGERS_KEEPALIVE,
        keepalive_interval: STRANGERS_KEEPALIVE,
        keepalive_retries: 1,
        idle: STRANGERS_IDLE,
        idle_max: 1,
    };
    let filter = matches!(way, Way::Direct).then_some(filter);
    client(route, &way, filter, &tuning)
}

fn client(
    route: &Route,
    way: &Way,
    resolver: Option<Arc<dyn reqwest::dns::Resolve>>,
    tuning: &Tuning,
) -> Result<reqwest::Client, Failure> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing the race means that somebody else installed one: just as good.
        let _: Result<(), Arc<_>> = rustls::crypto::ring::default_provider().install_default();
    }
    let internal = |error: reqwest::Error| {
        Failure::new(FailureKind::Internal)
            .with_detail(format!("no TLS client: {}", chain(&error.without_url())))
    };
    let builder = reqwest::Client::builder();
    let builder = match way {
        Way::Direct => builder.no_proxy(),
        Way::Environment => builder,
        Way::Proxy(url) => builder.proxy(reqwest::Proxy::all(url.clone()).map_err(internal)?),
    };
    let roots = route.roots()?;
    let builder = if roots.is_empty() {
        builder
    } else {
        builder.tls_certs_merge(roots)
    };
    let identity = route.identity()?;
    let shows = identity.is_some();
    let builder = match identity {
        Some(identity) => builder.identity(identity),
        None => builder,
    };
    let builder = match resolver {
        Some(resolver) => builder.dns_resolver(resolver),
        None => builder,
    };
    builder
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .tcp_keepalive(tuning.keepalive)
        .tcp_keepalive_interval(tuning.keepalive_interval)
        .tcp_keepalive_retries(tuning.keepalive_retries)
        .http2_keep_alive_interval(tuning.keepalive)
        .http2_keep_alive_timeout(tuning.keepalive_interval)
        .connect_timeout(tuning.connect)
        .pool_idle_timeout(tuning.idle)
        .pool_max_idle_per_host(tuning.idle_max)
        .build()
        .map_err(|error| match (&route.cert_file, shows) {
            (Some(cert), true) => {
                let why = chain(&error.without_url());
                bad_file(
                    "tls.certFile",
                    cert,
                    &format!("and its key cannot be used together: {why}"),
                )
            }
            (Some(_) | None, _) => internal(error),
        })
}

/// The failure of a request of the general client that got no response.
pub(super) fn no_response(error: reqwest::Error, uri: &Uri) -> Failure {
    let error = error.without_url();
    if let Some(why) = certificate_fault(&error) {
        let detail = format!("the certificate of {} is refused: {why}", place_of(uri));
        return Failure::new(FailureKind::BadCertificate).with_detail(detail);
    }
    if let Some(alert) = refused_us(&error) {
        let detail = format!(
            "{} refuses who we are (TLS alert {alert:?}): name a certificate that it knows in `tls.certFile`, with its `tls.keyFile`, or renew it",
            place_of(uri)
        );
        return Failure::new(FailureKind::Forbidden).with_detail(detail);
    }
    let kind = if error.is_connect() {
        FailureKind::Unreachable
    } else {
        FailureKind::StreamClosed
    };
    let said = chain(&error);
    // HTTP/2 keeps no more of a TLS alert than its words. They decide nothing (law 7), and are worth a hint.
    let hint = match said.contains("received fatal alert: ") {
        true => format!(
            "; {} may want a certificate that it knows: `tls.certFile`, with its `tls.keyFile`",
            place_of(uri)
        ),
        false => String::new(),
    };
    Failure::new(kind).with_detail(said + &hint)
}

/// What is wrong with the other side's certificate, if that is what it is (F80).
fn certificate_fault(error: &(dyn Error + 'static)) -> Option<String> {
    let rustls::Error::InvalidCertificate(why) = tls_error(error)? else {
        return None;
    };
    Some(why.to_string())
}

/// What the server says of our certificate, or of there being none.
fn refused_us(error: &(dyn Error + 'static)) -> Option<rustls::AlertDescription> {
    use rustls::AlertDescription as Alert;
    let rustls::Error::AlertReceived(alert) = tls_error(error)? else {
        return None;
    };
    let is_about_us = matches!(
        alert,
        Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
    );
    is_about_us.then_some(*alert)
}

/// The error of TLS among the causes of an error.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An I/O error hides what it was made of: its own cause is the cause of that.
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .map(|inner| inner as &(dyn Error + 'static));
        cause = inner.or_else(|| error.source());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(route: &Route, url: &str, is_loopback: bool) -> String {
        match route.way(&url.parse().expect("good"), is_loopback) {
            Ok(Way::Direct) => "direct".to_owned(),
            Ok(Way::Environment) => "environment".to_owned(),
            Ok(Way::Proxy(url)) => url.to_string(),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn f80_a_proxy_of_the_entry_is_used_unless_the_entry_spares_the_host() {
        let route = Route {
            proxy: Some("http://proxy.test:3128".to_owned()),
            no_proxy: Some("intern.test, 10.0.0.0/8".to_owned()),
            ..Route::default()
        };
        let proxy = "http://proxy.test:3128/";
        assert_eq!(way(&route, "https://far.test/mcp", false), proxy);
        assert_eq!(way(&route, "http://127.0.0.1:1/mcp", true), proxy);
        assert_eq!(way(&route, "https://a.intern.test/mcp", false), "direct");
        assert_eq!(way(&route, "https://10.1.2.3/mcp", false), "direct");
        let route = Route {
            proxy: Some("proxy.test:3128".to_owned()),
            ..Route::default()
        };
        assert_eq!(way(&route, "https://far.test/mcp", false), proxy);
        let route = Route {
            proxy: Some("direct".to_owned()),
            ..Route::default()
        };
        assert_eq!(way(&route, "https://far.test/mcp", false), "direct");
        assert_eq!(way(&Route::default(), "http://[::1]/", true), "direct");
    }

    #[test]
    fn law_31_a_proxy_that_cannot_work_is_named_by_its_setting_and_not_by_its_password() {
        for proxy in ["ftp://me:s3cret@proxy.test", "http://me:s3cret@:1"] {
            let route = Route {
                proxy: Some(proxy.to_owned()),
                ..Route::default()
            };
            let said = way(&route, "https://far.test/mcp", false);
            assert!(
                said.contains("`proxy`") && !said.contains("s3cret"),
                "{said}"
            );
            assert!(!format!("{route:?}").contains("s3cret"));
        }
    }

    #[test]
    fn f80_a_file_of_certificates_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ca.pem");
        let roots = || {
            let route = Route {
                ca_file: Some(path.clone()),
                ..Route::default()
            };
            route.roots().expect_err("unusable").to_string()
        };
        assert!(roots().contains("ca.pem cannot be read"), "{}", roots());
        std::fs::write(&path, "no certificate").expect("written");
        assert!(roots().contains("holds no certificate"), "{}", roots());
    }
}
