//! The environment of a child: a short allow-list of ours plus what its entry declares (law 31, F8, F9).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Which of our own variables a child gets. What its entry declares comes on top in every case (F9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EnvPolicy {
    /// The allow-list, see [`child_env`]. The default.
    #[default]
    Basic,
    /// Everything we have. For people who know what is in their environment.
    Inherit,
    /// Nothing: the child gets what is declared, not even a `PATH`.
    Declared,
}

/// What a program needs to find its files, its tools and the person's language. No name in here is used for secrets.
const BASIC: &[&str] = &[
    "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
];

/// Families of such names.
const BASIC_PREFIXES: &[&str] = &["LC_", "XDG_"];

/// Where the certificate authorities are: without these nothing works behind a company's proxy. File names, no secrets.
pub(crate) const AUTHORITIES: &[&str] = &[
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// The way out to the network. A value with credentials in it is a secret and stays here.
const PROXIES: &[&str] = &["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"];

/// The complete environment of a child, sorted by name.
///
/// `parent` is our own environment ([`std::env::vars_os`]), of which `policy` picks; `declared` comes from the server's
/// entry with its references resolved, and wins (the later of two equal names, too). The allow-list of
/// [`EnvPolicy::Basic`] is `HOME LANG LOGNAME PATH SHELL TERM TMPDIR TZ USER LC_* XDG_*`, the files of certificate
/// authorities (`SSL_CERT_FILE`, `SSL_CERT_DIR`, `NODE_EXTRA_CA_CERTS`, `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`) and the
/// proxies (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, lower case as well) unless they carry credentials.
pub fn child_env(
    parent: impl Iterator<Item = (OsString, OsString)>,
    declared: &[(String, String)],
    policy: EnvPolicy,
) -> Vec<(OsString, OsString)> {
    let inherited = parent.filter(|(name, value)| match policy {
        EnvPolicy::Basic => is_basic(name, value),
        EnvPolicy::Inherit => true,
        EnvPolicy::Declared => false,
    });
    let mut env: BTreeMap<OsString, OsString> = inherited.collect();
    env.extend(
        declared
            .iter()
            .map(|(name, value)| (name.into(), value.into())),
    );
    env.into_iter().collect()
}

fn is_basic(name: &OsStr, value: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let value = value.as_bytes();
    // A shell's exported function, not a value: code that the child's shells would define.
    if value.starts_with(b"()") {
        return false;
    }
    let proxy = PROXIES
        .iter()
        .any(|known| name == *known || name == known.to_ascii_lowercase());
    BASIC.contains(&name)
        || AUTHORITIES.contains(&name)
        || BASIC_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || (proxy && !value.contains(&b'@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(parent: &[(&str, &str)], declared: &[(&str, &str)], policy: EnvPolicy) -> Vec<String> {
        let parent = parent
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let declared: Vec<_> = declared
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let env = child_env(parent, &declared, policy);
        env.iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect()
    }

    const PARENT: &[(&str, &str)] = &[
        ("PATH", "/bin"),
        ("LC_ALL", "C"),
        ("XDG_CONFIG_HOME", "/c"),
        ("AWS_SECRET_ACCESS_KEY", "canary"),
        ("HOMEBREW_GITHUB_API_TOKEN", "canary"),
        ("LANGUAGE_TOKEN", "canary"),
        ("https_proxy", "http://proxy:3128"),
        ("HTTP_PROXY", "http://me:canary@proxy:3128"),
        ("LC_EVIL", "() { canary; }"),
    ];

    #[test]
    fn law_31_only_the_allow_list_is_inherited_f8_f239() {
        let expected = [
            "LC_ALL=C",
            "PATH=/bin",
            "XDG_CONFIG_HOME=/c",
            "https_proxy=http://proxy:3128",
        ];
        assert_eq!(env(PARENT, &[], EnvPolicy::Basic), expected);
    }

    #[test]
    fn law_31_the_base_is_the_same_with_and_without_declared_variables_f9() {
        let declared = [("TOKEN", "mine"), ("PATH", "/mine"), ("TOKEN", "mine too")];
        let expected = [
            "LC_ALL=C",
            "PATH=/mine",
            "TOKEN=mine too",
            "XDG_CONFIG_HOME=/c",
            "https_proxy=http://proxy:3128",
        ];
        assert_eq!(env(PARENT, &declared, EnvPolicy::Basic), expected);
    }

    #[test]
    fn the_other_policies_are_everything_and_nothing() {
        assert_eq!(
            env(PARENT, &[("A", "1")], EnvPolicy::Inherit).len(),
            PARENT.len() + 1
        );
        assert_eq!(env(PARENT, &[("A", "1")], EnvPolicy::Declared), ["A=1"]);
    }
}
