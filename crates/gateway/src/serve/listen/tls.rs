//! TLS on the port: certificate and key from files, read again when they change, and certificates of clients.
//!
//! Files are looked at when somebody connects, at most once a second, so that nothing wakes up for nothing. Connections
//! that are there keep what they began with. Files that cannot be used are told once, and the old ones stay in force.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::access::Counts;
use arc_swap::ArcSwap;
use mainstay::config::{ClientCertificate, ServerTls};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Files are looked at this often at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longest file of certificates or keys.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A certificate that ends within this time is told.
const ENDS_SOON_S: i64 = 14 * 24 * 60 * 60;

/// What is spoken inside of TLS; told apart by its first bytes, as without.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read. The cause is in `source()`.
    #[error("cannot read the {what} {} (setting `mainstay.access.tls.{key}`)", path.display())]
    Unreadable {
        /// What it holds.
        what: &'static str,
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("the {what} {} cannot be used: {why} (setting `mainstay.access.tls.{key}`)", path.display())]
    Unusable {
        /// What it should hold.
        what: &'static str,
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// What a file is recognised by.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

/// TLS on the port, as the files say now.
#[derive(Debug)]
pub(super) struct Tls {
    settings: ServerTls,
    live: ArcSwap<rustls::ServerConfig>,
    looked: Mutex<Looked>,
}

#[derive(Debug)]
struct Looked {
    at: Instant,
    stamps: [Stamp; 3],
}

impl Tls {
    /// Reads the files. Blocks for a moment.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn load(settings: &ServerTls) -> Result<Self, TlsError> {
        let stamps = stamps(settings);
        Ok(Self {
            live: ArcSwap::from_pointee(read(settings)?),
            looked: Mutex::new(Looked {
                at: Instant::now(),
                stamps,
            }),
            settings: settings.clone(),
        })
    }

    /// What a connection that begins now is served with.
    pub(super) async fn current(self: &Arc<Self>, counts: &Counts) -> Arc<rustls::ServerConfig> {
        if self.has_changed() {
            let this = Arc::clone(self);
            // A panic in there has been logged, and the old ones stay.
            if let Ok(false) = tokio::task::spawn_blocking(move || this.read_again()).await {
                counts.certificate_failed();
            }
        }
        self.live.load_full()
    }

    /// Whether files are others than when they were read, if it is time to look. Whoever hears so reads them.
    fn has_changed(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.at.elapsed() < LOOK_EVERY {
            return false;
        }
        looked.at = Instant::now();
        let stamps = stamps(&self.settings);
        let has_changed = stamps != looked.stamps;
        looked.stamps = stamps;
        has_changed
    }

    /// Whether they could be used.
    fn read_again(&self) -> bool {
        let cert = self.settings.cert.display();
        match read(&self.settings) {
            Ok(config) => {
                self.live.store(Arc::new(config));
                tracing::info!(%cert, "the certificate of the port was read again, and is used from now on");
                true
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(
                    %error,
                    cause = cause.as_deref().unwrap_or_default(),
                    "the new certificate of the port cannot be used; the old one stays in force"
                );
                false
            }
        }
    }
}

fn stamps(settings: &ServerTls) -> [Stamp; 3] {
    let stamp = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((
            found.dev(),
            found.ino(),
            found.mtime(),
            found.mtime_nsec(),
            found.len(),
        ))
    };
    [
        stamp(&settings.cert),
        stamp(&settings.key),
        settings.client_ca.as_deref().and_then(stamp),
    ]
}

fn read(settings: &ServerTls) -> Result<rustls::ServerConfig, TlsError> {
    let chain = certificates("certificate", "cert", &settings.cert)?;
    let bytes = bytes("key", "key", &settings.key)?;
    let unusable = |what, key, path: &Path, why: String| TlsError::Unusable {
        what,
        key,
        path: path.to_owned(),
        why,
    };
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_no_key| {
        let why = "it holds no private key in PEM form (one with a password is none)".to_owned();
        unusable("key", "key", &settings.key, why)
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("certificate", "cert", &settings.cert, error.to_string()))?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let wrong = |why: String| unusable("file of client roots", "clientCa", path, why);
            let mut roots = RootCertStore::empty();
            for root in certificates("file of client roots", "clientCa", path)? {
                roots.add(root).map_err(|error| wrong(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = match settings.client_certificate {
                ClientCertificate::Required => verifier,
                ClientCertificate::Optional => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|error| wrong(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    tell_end(&chain, &settings.cert);
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| unusable("certificate", "cert", &settings.cert, error.to_string()))?;
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn certificates(
    what: &'static str,
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = bytes(what, key, path)?;
    let unusable = |why: String| TlsError::Unusable {
        what,
        key,
        path: path.to_owned(),
        why,
    };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable("it holds no certificate in PEM form".to_owned()));
    }
    Ok(certificates)
}

fn bytes(what: &'static str, key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable {
        what,
        key,
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(TlsError::Unusable {
            what,
            key,
            path: path.to_owned(),
            why: format!("it is longer than {FILE_BYTES_MAX} bytes"),
        });
    }
    fs::read(path).map_err(unreadable)
}

/// Says so if a certificate has ended or ends soon: clients will refuse it, and we would not hear why.
fn tell_end(certificates: &[CertificateDer<'_>], path: &Path) {
    let Some(first) = certificates.first() else {
        return;
    };
    let Ok((_rest, certificate)) = X509Certificate::from_der(first) else {
        return;
    };
    let ends = certificate.validity().not_after;
    let now = i64::try_from(crate::access::unix_ms() / 1_000).unwrap_or(i64::MAX);
    if ends.timestamp() <= now {
        tracing::error!(%ends, cert = %path.display(), "the certificate of the port has expired: clients refuse it");
    } else if ends.timestamp() - now < ENDS_SOON_S {
        tracing::warn!(%ends, cert = %path.display(), "the certificate of the port expires soon");
    }
}
