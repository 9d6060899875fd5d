//! The certificate that a client showed: whose it is. That it is good was found out by TLS before.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay::Principal;
use ring::digest;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::serve::caller::{By, Caller, Ended};

/// A good certificate of a client.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// SHA-256 of it, to which tokens may be bound.
    pub(super) digest: Vec<u8>,
    /// Whose it is, if it says so in a way that can be told apart.
    pub(super) caller: Option<Arc<Caller>>,
}

impl Certificate {
    /// Reads one.
    pub(crate) fn read(der: &[u8]) -> Self {
        let caller = X509Certificate::from_der(der)
            .ok()
            .and_then(|(_rest, certificate)| caller(&certificate));
        Self {
            digest: digest::digest(&digest::SHA256, der).as_ref().to_vec(),
            caller: caller.map(Arc::new),
        }
    }
}

fn caller(certificate: &X509Certificate<'_>) -> Option<Caller> {
    let name = name(certificate)?;
    let units = certificate.subject().iter_organizational_unit();
    let groups = units.filter_map(|unit| unit.as_str().ok());
    let ends = certificate.validity().not_after.timestamp();
    Some(Caller {
        principal: Some(Principal::new(&format!("cert:{name}"))?),
        by: By::Certificate,
        label: Some(name.as_str().into()),
        groups: groups.map(Into::into).collect(),
        scopes: Vec::new(),
        claims: BTreeMap::new(),
        until_unix_ms: u64::try_from(ends)
            .ok()
            .map(|ends| ends.saturating_mul(1_000)),
        ended: Ended::default(),
        subject: None,
    })
}

/// The one common name; without any, the first alternative name. Several common names are nobody's.
fn name(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut common = certificate.subject().iter_common_name();
    if let Some(name) = common.next() {
        let name = name.as_str().ok().filter(|name| !name.is_empty())?;
        return common.next().is_none().then(|| name.to_owned());
    }
    let alternative = certificate.subject_alternative_name().ok()??;
    alternative
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(text) | GeneralName::RFC822Name(text) | GeneralName::DNSName(text) => {
                Some((*text).to_owned())
            }
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_)
            | GeneralName::Invalid(..) => None,
        })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn read(change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Certificate::read(params.self_signed(&key).unwrap().der())
    }

    fn principal(certificate: &Certificate) -> Option<&str> {
        certificate
            .caller
            .as_ref()?
            .principal
            .as_ref()
            .map(Principal::name)
    }

    #[test]
    fn law_32_a_client_is_known_by_the_name_in_its_certificate() {
        let named = read(|params| {
            params.distinguished_name.push(DnType::CommonName, "ann");
            params
                .distinguished_name
                .push(DnType::OrganizationalUnitName, "ops");
        });
        assert_eq!(principal(&named), Some("cert:ann"));
        let caller = named.caller.as_ref().unwrap();
        assert_eq!(caller.groups, ["ops".into()]);
        assert!(caller.until_unix_ms.is_some());
        let other = read(|params| {
            let uri = "spiffe://mesh/ann".try_into().unwrap();
            params.subject_alt_names.push(SanType::URI(uri));
        });
        assert_eq!(principal(&other), Some("cert:spiffe://mesh/ann"));
        assert_ne!(named.digest, other.digest);
        for nobody in [
            read(|_| {}),
            read(|params| params.distinguished_name.push(DnType::CommonName, "a\nb")),
            Certificate::read(b"no certificate"),
        ] {
            assert_eq!(principal(&nobody), None);
        }
    }
}
