//! TLS on the port: what is spoken there, certificates that change, and certificates of clients.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mainstay::config::{ClientCertificate, Required, ServerTls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::rig::{OPEN, PING, Rig};
use super::support::{BOTH, PATIENCE};

/// A certification authority of a test.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    cert: rcgen::Certificate,
}

/// A certificate with its key.
struct Pair {
    cert: rcgen::Certificate,
    key: KeyPair,
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            cert,
        }
    }

    fn of(&self, names: &[&str], common: &str, unit: Option<&str>) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        if let Some(unit) = unit {
            params
                .distinguished_name
                .push(DnType::OrganizationalUnitName, unit);
        }
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair { cert, key }
    }
}

impl Pair {
    fn write(&self, dir: &Path) -> ServerTls {
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        std::fs::write(&cert, self.cert.pem()).unwrap();
        std::fs::write(&key, self.key.serialize_pem()).unwrap();
        ServerTls::new(cert, key)
    }

    fn der(&self) -> (Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        (vec![self.cert.der().clone()], key)
    }
}

/// Connects to a rig, with or without a certificate of the client.
async fn connect(
    rig: &Rig,
    roots: &Ca,
    own: Option<&Pair>,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut store = rustls::RootCertStore::empty();
    store.add(roots.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = own.der();
            builder.with_client_auth_cert(chain, key.into()).unwrap()
        }
    };
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let stream = TcpStream::connect(rig.world.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
    tokio::time::timeout(PATIENCE, connected)
        .await
        .expect("no handshake")
}

type Sender = SendRequest<Full<Bytes>>;

async fn http1(stream: TlsStream<TcpStream>) -> Sender {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn request(path: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap()
}

/// Opens or uses a session; what became of it, and its id.
async fn ask(
    sender: &mut Sender,
    more: &[(&str, &str)],
    body: &str,
) -> Result<(StatusCode, Option<String>), hyper::Error> {
    let mut headers = vec![
        ("host", "localhost"),
        ("accept", BOTH),
        ("content-type", "application/json"),
    ];
    headers.extend(more);
    sender.ready().await?;
    let reply = sender.send_request(request("/mcp", &headers, body)).await?;
    let id = reply
        .headers()
        .get("mcp-session-id")
        .map(|id| id.to_str().unwrap().to_owned());
    let status = reply.status();
    reply.into_body().collect().await?;
    Ok((status, id))
}

async fn metrics(sender: &mut Sender, own: (&str, &str)) -> String {
    sender.ready().await.unwrap();
    let asked = request("/metrics", &[("host", "localhost"), own], "");
    let reply = sender.send_request(asked).await.unwrap();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

async fn rig(dir: &Path, server: &Pair, client_ca: Option<(&Ca, ClientCertificate)>) -> Rig {
    let mut tls = server.write(dir);
    if let Some((ca, wanted)) = client_ca {
        let path = dir.join("ca.pem");
        std::fs::write(&path, ca.cert.pem()).unwrap();
        tls.client_ca = Some(path);
        tls.client_certificate = wanted;
    }
    Rig::with(|access| {
        access.required = Required::Always;
        access.admin_groups = vec!["ops".to_owned()];
        access.tls = Some(tls);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_tls_is_spoken_in_both_versions_of_http_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new("servers");
    let rig = rig(dir.path(), &ca.of(&["localhost"], "localhost", None), None).await;
    let token = format!("Bearer {}", rig.token("ci", &[]));
    let own = ("authorization", token.as_str());
    let stream = connect(&rig, &ca, None, &["http/1.1"]).await.unwrap();
    let mut sender = http1(stream).await;
    assert_eq!(
        ask(&mut sender, &[own], OPEN).await.unwrap().0,
        StatusCode::OK
    );
    assert_eq!(
        ask(&mut sender, &[], OPEN).await.unwrap().0,
        StatusCode::UNAUTHORIZED
    );

    let stream = connect(&rig, &ca, None, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let reply = sender
        .send_request(request("https://localhost/metrics", &[own], ""))
        .await
        .unwrap();
    assert_eq!(reply.status(), StatusCode::OK);

    // Somebody who speaks without TLS hears why that does not work.
    let mut plain = TcpStream::connect(rig.world.address).await.unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut said = Vec::new();
    let read = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut said)).await;
    drop(read.expect("the connection stays open"));
    let said = String::from_utf8(said).unwrap();
    assert!(
        said.starts_with("HTTP/1.1 400") && said.ends_with("https://, please\n"),
        "{said}"
    );
    rig.end().await;
}

/// The name in the certificate that the server shows.
async fn shown(rig: &Rig, ca: &Ca) -> String {
    let stream = connect(rig, ca, None, &[]).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&shown[0]).unwrap();
    let name = certificate.subject().iter_common_name().next().unwrap();
    name.as_str().unwrap().to_owned()
}

async fn until_shown(rig: &Rig, ca: &Ca, wanted: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while shown(rig, ca).await != wanted {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{wanted} is never shown"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_a_new_certificate_is_used_without_dropping_a_connection_and_a_bad_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new("servers");
    let rig = rig(dir.path(), &ca.of(&["localhost"], "first", None), None).await;
    let token = format!("Bearer {}", rig.token("ci", &[]));
    let stream = connect(&rig, &ca, None, &[]).await.unwrap();
    let mut sender = http1(stream).await;
    let own = ("authorization", token.as_str());
    let (_, id) = ask(&mut sender, &[own], OPEN).await.unwrap();
    let id = id.unwrap();
    assert_eq!(shown(&rig, &ca).await, "first");
    ca.of(&["localhost"], "second", None).write(dir.path());
    until_shown(&rig, &ca, "second").await;
    // A key that does not fit, and what is no certificate at all: the old ones stay.
    let other = ca.of(&["localhost"], "third", None);
    std::fs::write(dir.path().join("key.pem"), other.key.serialize_pem()).unwrap();
    std::fs::write(dir.path().join("cert.pem"), "no certificate").unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while metrics(&mut sender, own)
        .await
        .contains("mainstay_certificate_failures_total 0")
    {
        assert!(tokio::time::Instant::now() < deadline, "it is never told");
        assert_eq!(shown(&rig, &ca).await, "second");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(shown(&rig, &ca).await, "second");
    std::fs::write(dir.path().join("cert.pem"), other.cert.pem()).unwrap();
    until_shown(&rig, &ca, "third").await;
    let headers = [own, ("mcp-session-id", id.as_str())];
    assert_eq!(
        ask(&mut sender, &headers, PING).await.unwrap().0,
        StatusCode::OK,
        "the first connection"
    );
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_a_client_is_its_certificate_and_a_wrong_one_is_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (servers, clients, strangers) =
        (Ca::new("servers"), Ca::new("clients"), Ca::new("clients"));
    let server = servers.of(&["localhost"], "localhost", None);
    let rig = rig(
        dir.path(),
        &server,
        Some((&clients, ClientCertificate::Required)),
    )
    .await;
    let ann = clients.of(&[], "ann", Some("ops"));
    let bob = clients.of(&[], "bob", None);
    let stranger = strangers.of(&[], "ann", None);
    let mut expired = CertificateParams::new(Vec::<String>::new()).unwrap();
    expired.distinguished_name.push(DnType::CommonName, "ann");
    expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = KeyPair::generate().unwrap();
    let expired = Pair {
        cert: expired.signed_by(&key, &clients.issuer).unwrap(),
        key,
    };
    let mut as_ann = http1(connect(&rig, &servers, Some(&ann), &[]).await.unwrap()).await;
    let (status, id) = ask(&mut as_ann, &[], OPEN).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let id = id.unwrap();
    let mut as_bob = http1(connect(&rig, &servers, Some(&bob), &[]).await.unwrap()).await;
    let session = ("mcp-session-id", id.as_str());
    assert_eq!(
        ask(&mut as_bob, &[session], PING).await.unwrap().0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        ask(&mut as_ann, &[session], PING).await.unwrap().0,
        StatusCode::OK
    );
    // A token says more than the certificate of the machine it came from.
    let token = format!("Bearer {}", rig.token("ci", &[]));
    let both = [session, ("authorization", token.as_str())];
    assert_eq!(
        ask(&mut as_ann, &both, PING).await.unwrap().0,
        StatusCode::NOT_FOUND
    );
    let wrong = [session, ("authorization", "Bearer mst_guess")];
    assert_eq!(
        ask(&mut as_ann, &wrong, PING).await.unwrap().0,
        StatusCode::UNAUTHORIZED
    );
    for nobody in [Some(&stranger), Some(&expired), None] {
        // With TLS 1.3 a client hears only after its handshake that it was refused.
        let refused = match connect(&rig, &servers, nobody, &[]).await {
            Err(_refused) => true,
            Ok(stream) => ask(&mut http1(stream).await, &[], OPEN).await.is_err(),
        };
        assert!(refused, "{}", nobody.is_some());
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_without_a_certificate_where_it_is_optional_one_says_otherwise_who_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let (servers, clients, strangers) =
        (Ca::new("servers"), Ca::new("clients"), Ca::new("strangers"));
    let server = servers.of(&["localhost"], "localhost", None);
    let rig = rig(
        dir.path(),
        &server,
        Some((&clients, ClientCertificate::Optional)),
    )
    .await;
    let mut nobody = http1(connect(&rig, &servers, None, &[]).await.unwrap()).await;
    assert_eq!(
        ask(&mut nobody, &[], OPEN).await.unwrap().0,
        StatusCode::UNAUTHORIZED
    );
    let token = format!("Bearer {}", rig.token("ci", &[]));
    let own = [("authorization", token.as_str())];
    assert_eq!(
        ask(&mut nobody, &own, OPEN).await.unwrap().0,
        StatusCode::OK
    );
    let stranger = strangers.of(&[], "ann", None);
    let refused = match connect(&rig, &servers, Some(&stranger), &[]).await {
        Err(_refused) => true,
        Ok(stream) => ask(&mut http1(stream).await, &own, OPEN).await.is_err(),
    };
    assert!(refused, "a wrong certificate is worse than none");
    // A signed token that is bound to a certificate is good with that one alone.
    let ann = clients.of(&[], "ann", None);
    let digest = ring::digest::digest(&ring::digest::SHA256, ann.cert.der());
    let digest = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        digest.as_ref(),
    );
    let bound = rig.signed_with("ada", &serde_json::json!({ "cnf": { "x5t#S256": digest } }));
    let bound = format!("Bearer {bound}");
    let own = [("authorization", bound.as_str())];
    assert_eq!(
        ask(&mut nobody, &own, OPEN).await.unwrap().0,
        StatusCode::UNAUTHORIZED
    );
    let mut as_ann = http1(connect(&rig, &servers, Some(&ann), &[]).await.unwrap()).await;
    assert_eq!(
        ask(&mut as_ann, &own, OPEN).await.unwrap().0,
        StatusCode::OK
    );
    rig.end().await;
}

/// Files that cannot be used keep Mainstay from listening, with words that say which.
#[test]
fn law_32_tls_that_cannot_be_had_is_not_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new("servers");
    let write = |name: &str, text: &str| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (one, other) = (ca.of(&["a"], "a", None), ca.of(&["b"], "b", None));
    let (cert, key) = (
        write("c.pem", &one.cert.pem()),
        write("k.pem", &one.key.serialize_pem()),
    );
    let (html, missing) = (write("x.pem", "<html>"), dir.path().join("missing.pem"));
    let other = write("o.pem", &other.key.serialize_pem());
    let check = |cert: &Path, key: &Path, ca: Option<&Path>| {
        let mut tls = ServerTls::new(cert, key);
        tls.client_ca = ca.map(Path::to_owned);
        let mut settings = mainstay_gateway::GatewaySettings::default();
        settings.access.tls = Some(tls);
        mainstay_gateway::serve::check(&settings)
    };
    check(&cert, &key, None).unwrap();
    for (cert, key, ca, words) in [
        (
            &missing,
            &key,
            None,
            "missing.pem (setting `mainstay.access.tls.cert`)",
        ),
        (
            &cert,
            &missing,
            None,
            "missing.pem (setting `mainstay.access.tls.key`)",
        ),
        (&html, &key, None, "holds no certificate"),
        (&cert, &html, None, "holds no private key"),
        (&cert, &cert, None, "holds no private key"),
        (&cert, &other, None, "c.pem"),
        (&cert, &key, Some(&html), "clientCa"),
        (&cert, &key, Some(&missing), "clientCa"),
    ] {
        let error = check(cert, key, ca.map(PathBuf::as_path))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}
