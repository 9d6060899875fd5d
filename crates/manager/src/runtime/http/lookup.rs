//! Finds the addresses of names: anew for every connection, never from a memory of ours (F79).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

/// Answers with the addresses of a name, in place of the operating system. For tests that move a server.
pub type Resolver = Arc<dyn Fn(&str) -> Vec<SocketAddr> + Send + Sync>;

/// Asks the operating system, or whoever stands in for it.
#[derive(Clone, Default)]
pub(super) struct Lookup(Option<Resolver>);

type Addresses = std::vec::IntoIter<SocketAddr>;
type Looking = Pin<Box<dyn Future<Output = io::Result<Addresses>> + Send>>;

impl Lookup {
    pub(super) fn new(resolver: Option<Resolver>) -> Self {
        Self(resolver)
    }

    /// Whether somebody stands in for the operating system.
    pub(super) fn is_custom(&self) -> bool {
        self.0.is_some()
    }

    fn find(&self, name: &str) -> Looking {
        if let Some(resolver) = &self.0 {
            let found = resolver(name).into_iter();
            return Box::pin(std::future::ready(Ok(found)));
        }
        let name = name.to_owned();
        Box::pin(async move {
            // The port is put in by whoever connects.
            let found: Vec<_> = tokio::net::lookup_host((name, 0)).await?.collect();
            Ok(found.into_iter())
        })
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lookup").field(&self.is_custom()).finish()
    }
}

impl Service<Name> for Lookup {
    type Response = Addresses;
    type Error = io::Error;
    type Future = Looking;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Looking {
        self.find(name.as_str())
    }
}

impl reqwest::dns::Resolve for Lookup {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let looking = self.find(name.as_str());
        Box::pin(async move {
            let found = looking.await?;
            Ok(Box::new(found) as reqwest::dns::Addrs)
        })
    }
}
