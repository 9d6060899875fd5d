//! TLS, HTTP/2 and proxies, against real ones: generated certificates, real handshakes, a real `CONNECT`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mainstay::runtime::http::{EraHint, HttpLink, HttpSetup, Route};
use mainstay_core::failure::{Blame, FailureKind};
use mainstay_testkit::http_proxy::HttpProxy;
use mainstay_testkit::http_server::{AcceptPolicy, Framing, HttpServer, Script};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::rig::{Ears, PROBE_MS, Rig, in_time, outcome, text, wait_until};

/// An authority that nobody knows, and its certificate in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { issuer, dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// What a server for these names needs. `days` is how long ago, or from now on, its certificate ends.
    fn server(&self, names: &[&str], days: i64, protocols: &[&str]) -> TlsAcceptor {
        self.server_for(None, names, days, protocols)
    }

    /// The same, for clients that this authority knows and nobody else.
    fn server_for(
        &self,
        clients: Option<&Authority>,
        names: &[&str],
        days: i64,
        protocols: &[&str],
    ) -> TlsAcceptor {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("good names");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = match days < 0 {
            true => rcgen::date_time_ymd(2021, 1, 1),
            false => rcgen::date_time_ymd(2120, 1, 1),
        };
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                let root = CertificateDer::from(clients.issuer.der().to_vec());
                roots.add(root).expect("an authority");
                let roots = Arc::new(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let mut config = builder
            .with_single_cert(
                vec![CertificateDer::from(certificate.der().to_vec())],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("a server");
        config.alpn_protocols = protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Authority {
    /// Writes a client's certificate and key to files of that name, and returns their paths.
    fn client(&self, name: &str) -> (PathBuf, PathBuf) {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a good name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let paths = (
            self.dir.path().join(format!("{name}.pem")),
            self.dir.path().join(format!("{name}.key")),
        );
        std::fs::write(&paths.0, certificate.pem()).expect("written");
        std::fs::write(&paths.1, key.serialize_pem()).expect("written");
        paths
    }
}

const BOTH: &[&str] = &["h2", "http/1.1"];
const OLD: &[&str] = &["http/1.1"];
const NAMES: &[&str] = &["localhost", "far.test", "127.0.0.1"];

/// A fake server behind TLS.
struct Secure {
    server: HttpServer,
    address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl Secure {
    async fn start(script: Script, acceptor: TlsAcceptor) -> Self {
        let server = HttpServer::start(script).await.expect("a free port");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        let front = server.front();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _peer)) = listener.accept().await {
                let (acceptor, front) = (acceptor.clone(), front.clone());
                connections.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        front.serve(stream).await;
                    }
                });
            }
        });
        Self {
            server,
            address,
            accepting,
        }
    }

    fn url(&self) -> String {
        format!("https://{}/mcp", self.address)
    }

    /// A rig that has greeted this server over the given route.
    async fn rig(self, setup: HttpSetup) -> (Rig, tokio::task::JoinHandle<()>) {
        let mut rig = Rig {
            server: self.server,
            link: Arc::new(HttpLink::new(setup).expect("a link")),
            ears: Arc::default(),
            ids: AtomicU64::new(1),
            era: mainstay_wire::revision::Era::Legacy,
        };
        let greeting = rig.greet(EraHint::Probe).await.expect("greeted");
        rig.era = greeting.revision.era();
        (rig, self.accepting)
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ends the accepting of connections with the test.
struct Ended(tokio::task::JoinHandle<()>);

fn trusting(url: String, authority: &Authority) -> HttpSetup {
    HttpSetup {
        route: Route {
            ca_file: Some(authority.file()),
            ..Route::default()
        },
        ..HttpSetup::new(url)
    }
}

#[tokio::test]
async fn f80_law_16_a_certificate_that_is_not_trusted_is_a_failure_of_its_own_and_nothing_was_sent()
{
    let (ours, theirs) = (Authority::new(), Authority::new());
    for (what, acceptor, setup_ca) in [
        ("unknown authority", theirs.server(NAMES, 1, BOTH), &ours),
        ("another name", ours.server(&["other.test"], 1, BOTH), &ours),
        ("expired", ours.server(NAMES, -1, BOTH), &ours),
    ] {
        let secure = Secure::start(Script::modern(), acceptor).await;
        let link = HttpLink::new(trusting(secure.url(), setup_ca)).expect("a link");
        let ears = Ears::default();
        let failure = in_time(link.greet(&AtomicU64::new(1), EraHint::Probe, PROBE_MS, &ears))
            .await
            .expect_err("not trusted");
        assert_eq!(
            failure.kind,
            FailureKind::BadCertificate,
            "{what}: {failure}"
        );
        assert_eq!(failure.kind.blame(), Blame::Human);
        assert!(failure.kind.hint().contains("tls.caFile"));
        assert!(
            failure.to_string().contains(&secure.address.to_string()),
            "{failure}"
        );
        let rig = Rig::strangers(Script::modern()).await;
        let answered = in_time(link.exchange(rig.tool("echo", "{}"), &ears)).await;
        assert_eq!(
            outcome(&answered),
            ("not sent", Some(FailureKind::BadCertificate)),
            "{what}: {answered:?}"
        );
        assert_eq!(secure.server.ledger().seen().len(), 0);
        secure.accepting.abort();
    }
}

#[tokio::test]
async fn f80_f81_a_private_authority_is_trusted_where_the_entry_says_so_and_http2_carries_calls_beside_streams()
 {
    let authority = Authority::new();
    for (protocols, version) in [(BOTH, "HTTP/2.0"), (OLD, "HTTP/1.1")] {
        for script in [Script::legacy(), Script::modern()] {
            let script = Script {
                framing: Framing::Sse,
                ..script
            };
            let secure = Secure::start(script, authority.server(NAMES, 1, protocols)).await;
            let setup = trusting(secure.url(), &authority);
            let (rig, accepting) = secure.rig(setup).await;
            let _ended = Ended(accepting);
            let greeting = rig.greet(EraHint::Probe).await.expect("greeted again");
            let _push = rig.push(greeting);
            let ledger = || rig.server.ledger().counts();
            wait_until("the push stream", || ledger().streams_open == 1).await;
            let before = ledger().connections;
            // Thirty calls that all wait at the server, and one that does not wait behind them.
            let waiting = (0..30).map(|_| rig.link.exchange(rig.tool("slow", "{}"), &*rig.ears));
            let waiting = futures_util::future::join_all(waiting);
            let release = async {
                let running = || ledger().calls.get("slow").copied() == Some(30);
                wait_until("they run", running).await;
                let long = "y".repeat(300_000);
                let answer = rig
                    .call("echo", &format!("{{\"text\":\"{long}\"}}"))
                    .await
                    .expect("answered");
                assert_eq!(text(&answer).len(), long.len());
                rig.server.release();
            };
            let (answered, ()) = in_time(async { tokio::join!(waiting, release) }).await;
            assert!(answered.iter().all(Result::is_ok), "{answered:?}");
            if version == "HTTP/2.0" {
                assert!(ledger().connections <= before + 1, "one carries them all");
            }
            rig.server.tell_changed("tools");
            wait_until("the news", || {
                rig.ears
                    .methods()
                    .iter()
                    .any(|method| method.ends_with("list_changed"))
            })
            .await;
            for seen in rig.server.ledger().seen() {
                assert_eq!(seen.version, version, "{}", seen.method);
            }
            in_time(rig.link.close()).await;
        }
    }
}

#[tokio::test]
async fn f80_f242_a_tunnel_through_a_proxy_shows_it_nothing_but_where_it_leads() {
    let authority = Authority::new();
    let secure = Secure::start(Script::modern(), authority.server(NAMES, 1, BOTH)).await;
    let proxy = HttpProxy::start(secure.address).await.expect("a free port");
    let setup = HttpSetup {
        headers: vec![("x-key".to_owned(), "s3cret-key".to_owned())],
        route: Route {
            ca_file: Some(authority.file()),
            proxy: Some(format!("http://me:s3cret-pass@{}", proxy.address())),
            ..Route::default()
        },
        // A name that only the proxy knows.
        ..HttpSetup::new("https://far.test/mcp?token=s3cret-query")
    };
    let (rig, accepting) = secure.rig(setup).await;
    let _ended = Ended(accepting);
    assert_eq!(
        text(
            &rig.call("echo", r#"{"text":"through"}"#)
                .await
                .expect("answered")
        ),
        "through"
    );
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    for head in &asked {
        assert!(head.starts_with("CONNECT far.test:443 HTTP/1.1"), "{head}");
        assert!(head.contains("Basic bWU6czNjcmV0LXBhc3M="), "{head}");
        assert!(!head.contains("s3cret"), "{head}");
    }
    for seen in rig.server.ledger().seen() {
        assert_eq!(seen.header("proxy-authorization"), None);
        assert_eq!(seen.header("x-key"), Some("s3cret-key"));
    }
}

#[tokio::test]
async fn f80_f257_law_16_a_proxy_that_refuses_means_that_nothing_was_sent_and_its_password_is_not_told()
 {
    let authority = Authority::new();
    let secure = Secure::start(Script::modern(), authority.server(NAMES, 1, BOTH)).await;
    let proxy = HttpProxy::start(secure.address).await.expect("a free port");
    let rig = Rig::strangers(Script::modern()).await;
    for refusal in [Some(407), Some(502), Some(403), None] {
        proxy.refuse(refusal);
        let (address, url) = match refusal {
            Some(_) => (proxy.address().to_string(), secure.url()),
            // Nobody listens there.
            None => ("127.0.0.1:1".to_owned(), secure.url()),
        };
        let setup = HttpSetup {
            route: Route {
                ca_file: Some(authority.file()),
                proxy: Some(format!("http://me:s3cret-pass@{address}")),
                ..Route::default()
            },
            ..HttpSetup::new(url)
        };
        let link = HttpLink::new(setup).expect("a link");
        let answered = in_time(link.exchange(rig.tool("echo", "{}"), &*rig.ears)).await;
        assert_eq!(
            outcome(&answered),
            ("not sent", Some(FailureKind::Unreachable)),
            "{refusal:?}: {answered:?}"
        );
        assert!(!format!("{answered:?}").contains("s3cret"), "{answered:?}");
    }
    assert_eq!(secure.server.ledger().seen().len(), 0);
    secure.accepting.abort();
}

#[tokio::test]
async fn f80_plain_http_goes_through_a_proxy_as_well_unless_the_host_is_spared() {
    let server = HttpServer::start(Script::legacy())
        .await
        .expect("a free port");
    let proxy = HttpProxy::start(server.address())
        .await
        .expect("a free port");
    let route = |no_proxy: Option<&str>| Route {
        proxy: Some(proxy.address().to_string()),
        no_proxy: no_proxy.map(str::to_owned),
        ..Route::default()
    };
    let greet = async |url: String, no_proxy: Option<&str>| {
        let setup = HttpSetup {
            route: route(no_proxy),
            ..HttpSetup::new(url)
        };
        let link = HttpLink::new(setup).expect("a link");
        let ears = Ears::default();
        in_time(link.greet(&AtomicU64::new(1), EraHint::Probe, PROBE_MS, &ears)).await
    };
    greet("http://far.test/mcp".to_owned(), None)
        .await
        .expect("greeted through the proxy");
    let asked = proxy.asked();
    assert!(
        asked
            .iter()
            .all(|head| head.starts_with("POST http://far.test/mcp HTTP/1.1")),
        "{asked:?}"
    );
    greet(server.url(), Some("127.0.0.1"))
        .await
        .expect("greeted directly");
    assert_eq!(proxy.asked().len(), asked.len(), "spared");
}

/// Run by the test below in a process of its own: what the environment says counts for the whole process.
#[tokio::test]
#[ignore = "needs the environment that another test prepares"]
async fn in_an_environment_with_a_proxy() {
    let url = std::env::var("TARGET_URL").expect("given");
    let link = HttpLink::new(HttpSetup::new(url)).expect("a link");
    let ears = Ears::default();
    let greeted = in_time(link.greet(&AtomicU64::new(1), EraHint::Probe, PROBE_MS, &ears)).await;
    // Heard by the parent as the outcome of this test.
    greeted.expect("greeted");
}

#[tokio::test]
async fn f80_the_proxy_of_the_environment_is_used_and_its_exceptions_are_kept() {
    let server = HttpServer::start(Script::modern())
        .await
        .expect("a free port");
    let proxy = HttpProxy::start(server.address())
        .await
        .expect("a free port");
    let port = server.address().port();
    for (url, no_proxy, is_greeted, is_proxied) in [
        ("http://far.test/mcp".to_owned(), "", true, true),
        ("http://far.test/mcp".to_owned(), "far.test", false, false),
        // Servers on this machine are out of reach for a proxy.
        (format!("http://127.0.0.1:{port}/mcp"), "", true, false),
    ] {
        let before = proxy.asked().len();
        let program = std::env::current_exe().expect("our own path");
        let child = tokio::process::Command::new(program)
            .args([
                "--ignored",
                "--exact",
                "tls::in_an_environment_with_a_proxy",
            ])
            .env_clear()
            .env("HTTP_PROXY", format!("http://{}", proxy.address()))
            .env("http_proxy", format!("http://{}", proxy.address()))
            .env("NO_PROXY", no_proxy)
            .env("TARGET_URL", &url)
            .kill_on_drop(true)
            .output();
        let output = in_time(child).await.expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.success(), is_greeted, "{url}: {said}");
        assert!(
            said.contains("1 failed") || said.contains("1 passed"),
            "{said}"
        );
        assert_eq!(proxy.asked().len() > before, is_proxied, "{url}");
    }
}

#[tokio::test]
async fn f78_f80_a_server_that_hangs_up_in_the_handshake_is_unreachable_and_no_matter_of_trust() {
    let rig = Rig::strangers(Script {
        accept: AcceptPolicy::Close,
        ..Script::modern()
    })
    .await;
    let link = HttpLink::new(HttpSetup::new(format!(
        "https://{}/mcp",
        rig.server.address()
    )))
    .expect("a link");
    let answered = in_time(link.exchange(rig.tool("echo", "{}"), &*rig.ears)).await;
    assert_eq!(
        outcome(&answered),
        ("not sent", Some(FailureKind::Unreachable)),
        "{answered:?}"
    );
}

#[tokio::test]
async fn f87_law_16_an_http2_connection_that_ends_under_calls_loses_each_of_them_at_once() {
    let authority = Authority::new();
    let secure = Secure::start(Script::modern(), authority.server(NAMES, 1, BOTH)).await;
    let setup = trusting(secure.url(), &authority);
    let (rig, accepting) = secure.rig(setup).await;
    let calls = (0..5).map(|_| rig.link.exchange(rig.tool("slow", "{}"), &*rig.ears));
    let calls = futures_util::future::join_all(calls);
    let end = async {
        let running = || rig.server.ledger().counts().calls.get("slow").copied() == Some(5);
        wait_until("they run", running).await;
        accepting.abort();
    };
    let (answered, ()) = in_time(async { tokio::join!(calls, end) }).await;
    for answered in &answered {
        assert_eq!(
            outcome(answered),
            ("lost", Some(FailureKind::StreamClosed)),
            "{answered:?}"
        );
    }
    // Nobody is there any more, and that is another thing.
    let refused = rig.call("echo", "{}").await;
    assert_eq!(
        outcome(&refused),
        ("not sent", Some(FailureKind::Unreachable)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_server_that_wants_to_know_who_comes_is_shown_the_certificate_of_its_entry_and_nobody_elses()
 {
    let (theirs, ours, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let acceptor = || theirs.server_for(Some(&ours), NAMES, 1, BOTH);
    let with = |setup: HttpSetup, files: Option<(PathBuf, PathBuf)>| {
        let (cert_file, key_file) = files.unzip();
        HttpSetup {
            route: Route {
                cert_file,
                key_file,
                ..setup.route
            },
            ..setup
        }
    };
    let secure = Secure::start(Script::modern(), acceptor()).await;
    let setup = with(trusting(secure.url(), &theirs), Some(ours.client("me")));
    let (rig, accepting) = secure.rig(setup).await;
    let _ended = Ended(accepting);
    let answer = rig.call("echo", "{\"text\":\"known\"}").await;
    assert_eq!(text(&answer.expect("answered")), "known");
    for files in [None, Some(strangers.client("stranger"))] {
        let secure = Secure::start(Script::modern(), acceptor()).await;
        let setup = with(trusting(secure.url(), &theirs), files.clone());
        let link = HttpLink::new(setup).expect("a link");
        let ears = Ears::default();
        let ids = AtomicU64::new(1);
        let greeted = link.greet(&ids, EraHint::Probe, PROBE_MS, &ears);
        let failure = in_time(greeted).await.expect_err("unknown to it");
        // Over HTTP/2 only the words of the alert are left, which decide nothing.
        let kinds = [FailureKind::Forbidden, FailureKind::StreamClosed];
        assert!(kinds.contains(&failure.kind), "{files:?}: {failure}");
        let said = failure.to_string();
        assert!(
            said.contains("tls.certFile") && said.contains(&secure.address.to_string()),
            "{said}"
        );
        assert_eq!(secure.server.ledger().seen().len(), 0, "nothing got in");
        secure.accepting.abort();
    }
}

#[tokio::test]
async fn a_certificate_that_was_renewed_is_shown_when_the_connection_is_opened_anew() {
    let (theirs, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let (cert_file, key_file) = old.client("me");
    for (authority, renewed) in [(&old, None), (&new, Some(new.client("renewed")))] {
        if let Some((cert, key)) = renewed {
            std::fs::copy(cert, &cert_file).expect("copied");
            std::fs::copy(key, &key_file).expect("copied");
        }
        let acceptor = theirs.server_for(Some(authority), NAMES, 1, OLD);
        let secure = Secure::start(Script::modern(), acceptor).await;
        let trusting = trusting(secure.url(), &theirs);
        let setup = HttpSetup {
            route: Route {
                cert_file: Some(cert_file.clone()),
                key_file: Some(key_file.clone()),
                ..trusting.route
            },
            ..trusting
        };
        let (_rig, accepting) = secure.rig(setup).await;
        accepting.abort();
    }
}

#[test]
fn files_of_certificates_and_keys_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let (cert, key) = authority.client("me");
    let (_, other_key) = authority.client("other");
    let missing = authority.dir.path().join("missing.pem");
    for (cert_file, key_file, named) in [
        (
            Some(&cert),
            None,
            "`tls.certFile` is given without `tls.keyFile`",
        ),
        (
            None,
            Some(&key),
            "`tls.keyFile` is given without `tls.certFile`",
        ),
        (Some(&missing), Some(&key), "missing.pem cannot be read"),
        (Some(&key), Some(&key), "me.key holds no certificate"),
        (Some(&cert), Some(&cert), "me.pem holds no private key"),
        (Some(&cert), Some(&other_key), "me.pem and its key"),
    ] {
        let setup = HttpSetup {
            route: Route {
                cert_file: cert_file.cloned(),
                key_file: key_file.cloned(),
                ..Route::default()
            },
            ..HttpSetup::new("https://localhost/mcp")
        };
        let Err(failure) = HttpLink::new(setup) else {
            panic!("{named}: it was taken");
        };
        assert_eq!(failure.kind, FailureKind::BadConfig);
        assert!(failure.to_string().contains(named), "{named}: {failure}");
    }
}
