//! Whether the addresses of servers can be reached, with TLS and through proxies as the servers will be.

use std::time::Duration;

use futures_util::future::join_all;
use mainstay::config::{Config, Severity, Transport};
use mainstay::preflight;
use mainstay_core::failure::FailureKind;

use super::{Area, Health};

/// Longest that one address may take: a host that is not there is silent for minutes.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Reaches for every address, all at once.
pub(super) async fn look(config: &Config, wait: Duration, health: &mut Health) {
    let http = config
        .servers
        .iter()
        .filter(|server| server.enabled && matches!(server.transport, Transport::Http { .. }));
    let asked = http
        .map(|server| async move { (server, preflight::reach(server, wait.min(WAIT_MAX)).await) });
    for (server, reached) in join_all(asked).await {
        match reached {
            Ok(status) => {
                if let Some(seen) = health.seen(&server.name) {
                    seen.http_status = Some(status);
                }
                if status == 404 {
                    health.add(
                        Severity::Note,
                        Area::Network,
                        &server.name,
                        format!(
                            "{} answers, but has nothing at this path (404)",
                            server.target()
                        ),
                        "check the path of `url`; many servers have their endpoint at /mcp",
                    );
                }
                let plain = server.target().starts_with("http://") && !is_local(&server.target());
                if plain {
                    health.add(
                        Severity::Warning,
                        Area::Network,
                        &server.name,
                        format!(
                            "{} is reached without TLS: headers and answers can be read on the way",
                            server.target()
                        ),
                        "use https:// if the server offers it",
                    );
                }
            }
            // Told where secrets are looked up.
            Err(failure) if failure.kind == FailureKind::SecretUnavailable => {}
            Err(failure) => health.add(
                Severity::Error,
                Area::Network,
                &server.name,
                format!("{} cannot be reached: {failure}", server.target()),
                failure.kind.hint(),
            ),
        }
    }
}

fn is_local(url: &str) -> bool {
    let host = url
        .trim_start_matches("http://")
        .split('/')
        .next()
        .unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, _)| name)
        .trim_matches(['[', ']']);
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| match ip {
            std::net::IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
            std::net::IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
        })
}
