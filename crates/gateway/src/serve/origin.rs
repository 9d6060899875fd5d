//! Who may talk to this listener at all: the checks of `Host` and `Origin` (law 32, F246).
//!
//! A web page in the user's own browser can reach a loopback listener. What it cannot do is hide its origin, or make
//! the browser send a `Host` that is not the name it resolved: so both are compared with the names that are ours.

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Uri};

/// Names of the loopback interface. Any port is fine: the attack is a foreign *name*.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The names under which requests are accepted.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// Why a request is not for us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Foreign {
    /// `Host` names somebody else, or is missing.
    #[error(
        "Invalid Host header: this Mainstay answers to its own names only (setting `mainstay.access.allowedHosts`)"
    )]
    Host,
    /// `Origin` is a foreign web page.
    #[error(
        "Invalid Origin header: this web origin may not use this Mainstay (setting `mainstay.access.allowedOrigins`)"
    )]
    Origin,
}

impl Guard {
    /// Accepts loopback names, the address listened on, and what the operator allowed in addition. `hosts` are names
    /// without port; `origins` are whole origins such as `https://app.example`.
    pub(crate) fn new(listen: SocketAddr, hosts: &[String], origins: &[String]) -> Self {
        let mut names: Vec<String> = LOOPBACK_NAMES
            .iter()
            .map(|name| (*name).to_owned())
            .collect();
        if !listen.ip().is_unspecified() {
            names.push(listen.ip().to_string());
        }
        names.extend(hosts.iter().map(|host| bare(host).to_ascii_lowercase()));
        let origins = origins
            .iter()
            .map(|origin| origin.trim_end_matches('/').to_ascii_lowercase())
            .collect();
        Self {
            hosts: names,
            origins,
        }
    }

    /// Judges one request.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Foreign> {
        // A request in absolute form (HTTP/2 always) names its host there; `Host` must then not say something else.
        let named = uri.authority().map(|authority| bare(authority.as_str()));
        if named.is_some_and(|name| !self.knows(name)) {
            return Err(Foreign::Host);
        }
        let mut hosts = headers.get_all(HOST).iter();
        let known = match hosts.next() {
            Some(host) => host.to_str().is_ok_and(|host| self.knows(bare(host))),
            None => named.is_some(),
        };
        if hosts.next().is_some() || !known {
            return Err(Foreign::Host);
        }
        let all_known = headers
            .get_all(ORIGIN)
            .iter()
            .all(|origin| self.knows_origin(origin));
        if all_known {
            Ok(())
        } else {
            Err(Foreign::Origin)
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.hosts
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    }

    fn knows_origin(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        if self
            .origins
            .iter()
            .any(|known| known.eq_ignore_ascii_case(origin))
        {
            return true;
        }
        let authority = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        authority
            .is_some_and(|authority| !authority.contains(['/', '@']) && self.knows(bare(authority)))
    }
}

/// Whether a name, without port, is one of the loopback interface.
pub(crate) fn is_loopback_name(name: &str) -> bool {
    LOOPBACK_NAMES
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
        || name.parse().is_ok_and(is_loopback)
}

/// Whether an address is only reachable from this machine.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
        }
    }
}

/// The name of `name[:port]`, without the brackets of an IPv6 address. What is malformed stays and matches nothing.
pub(crate) fn bare(authority: &str) -> &str {
    if let Some(inner) = authority.strip_prefix('[') {
        return match inner.split_once(']') {
            Some((name, "")) => name,
            Some((name, port)) if is_port(port) => name,
            Some(_) | None => authority,
        };
    }
    match authority.rsplit_once(':') {
        // More than one colon without brackets is an IPv6 address as it stands.
        Some((name, _)) if name.contains(':') => authority,
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => authority,
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        let listen = "127.0.0.5:8808".parse().unwrap();
        Guard::new(
            listen,
            &["Box.lan:80".to_owned()],
            &["https://app.example/".to_owned()],
        )
    }

    fn check(host: &[&str], origin: &[&str]) -> Result<(), Foreign> {
        let mut headers = HeaderMap::new();
        for value in host {
            headers.append(HOST, value.parse().unwrap());
        }
        for value in origin {
            headers.append(ORIGIN, value.parse().unwrap());
        }
        guard().check(&Uri::from_static("/mcp"), &headers)
    }

    #[test]
    fn law_32_own_names_pass_with_any_port() {
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:8808",
            "[::1]:8808",
            "[::1]",
            "127.0.0.5:8808",
            "box.lan",
        ] {
            assert_eq!(check(&[host], &[]), Ok(()), "{host}");
        }
        for origin in [
            "http://localhost:6274",
            "https://127.0.0.1",
            "http://[::1]:3",
            "https://app.example",
        ] {
            assert_eq!(check(&["localhost"], &[origin]), Ok(()), "{origin}");
        }
    }

    #[test]
    fn law_32_f246_foreign_names_are_refused() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "[::1]evil",
            "[::2]",
            "0.0.0.0",
            "",
        ] {
            assert_eq!(check(&[host], &[]), Err(Foreign::Host), "{host}");
        }
        assert_eq!(check(&[], &[]), Err(Foreign::Host), "missing");
        assert_eq!(
            check(&["localhost", "evil.example"], &[]),
            Err(Foreign::Host),
            "twice"
        );
        for origin in [
            "null",
            "http://evil.example",
            "https://app.example.evil",
            "http://localhost@evil.example",
            "file://",
        ] {
            assert_eq!(
                check(&["localhost"], &[origin]),
                Err(Foreign::Origin),
                "{origin}"
            );
        }
        let absolute = Uri::from_static("http://evil.example/mcp");
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        assert_eq!(guard().check(&absolute, &headers), Err(Foreign::Host));
    }

    #[test]
    fn law_32_only_loopback_is_local() {
        for (address, local) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(address.parse().unwrap()), local, "{address}");
        }
    }
}
