//! How an endpoint is reached: certificates and proxies.

use super::file::ServerOptions;
use super::template::Template;

/// How an endpoint is reached: what the entry says about certificates and proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Reach {
    /// A file of certificates that are trusted as authorities, on top of those of this machine.
    pub ca_file: Option<Template>,
    /// A file with the certificate that we show, and those between it and its authority.
    pub cert_file: Option<Template>,
    /// The file with its private key.
    pub key_file: Option<Template>,
    /// The address of the HTTP proxy, or `direct` for none. Default: what the environment says.
    pub proxy: Option<Template>,
    /// Hosts that are reached without a proxy, as `NO_PROXY` lists them.
    pub no_proxy: Option<Template>,
}

impl Reach {
    pub(super) fn from_options(options: &ServerOptions) -> Self {
        let tls = options.tls.clone().unwrap_or_default();
        Self {
            ca_file: tls.ca_file,
            cert_file: tls.cert_file,
            key_file: tls.key_file,
            proxy: options.proxy.clone(),
            no_proxy: options.no_proxy.clone(),
        }
    }

    /// Every text of it, as the connection depends on it.
    pub(super) fn parts(&self) -> [Option<&Template>; 5] {
        [
            self.ca_file.as_ref(),
            self.proxy.as_ref(),
            self.no_proxy.as_ref(),
            self.cert_file.as_ref(),
            self.key_file.as_ref(),
        ]
    }
}
