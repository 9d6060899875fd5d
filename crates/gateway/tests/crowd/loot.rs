//! What clients leave lying about, and what becomes of it in the hands of others.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::Value;

use super::client::modern;
use super::support::{BOTH, Client};

/// How many things lie about; new ones take the place of old ones.
const THINGS_MAX: usize = 256;

/// Where clients come in.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    /// Where there are several users.
    pub(crate) loot: Option<Loot>,
}

/// Something by which a client finds what is its own.
#[derive(Debug, Clone)]
pub(crate) enum Thing {
    /// The id of a session.
    Session(String),
    /// The parameters with which a parked call goes on.
    State(Value),
    /// The id of a request inside a session.
    RequestId(String),
}

/// A thing, and whose it is.
type Owned = (Option<&'static str>, Thing);

/// All that lies about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loot(Arc<Mutex<Vec<Owned>>>);

impl Loot {
    pub(crate) fn leave(&self, who: Option<&'static str>, thing: Thing) {
        let mut things = self.0.lock().unwrap();
        if things.len() >= THINGS_MAX {
            things.remove(0);
        }
        things.push((who, thing));
    }

    /// Something that is not the taker's.
    pub(crate) fn take(
        &self,
        who: Option<&str>,
        pick: u64,
    ) -> Option<(Thing, Option<&'static str>)> {
        let things = self.0.lock().unwrap();
        let others: Vec<&Owned> = things.iter().filter(|(of, _)| *of != who).collect();
        let at = usize::try_from(pick % u64::try_from(others.len().max(1)).unwrap()).unwrap();
        others.get(at).map(|(of, thing)| (thing.clone(), *of))
    }
}

impl Thing {
    /// Tries it in every way that there is.
    pub(crate) async fn is_worth_nothing(&self, client: &mut Client, token: &str) {
        match self {
            Self::Session(id) => {
                let list = format!(r#"{{"jsonrpc":"2.0","id":"{token}","method":"tools/list"}}"#);
                for (method, body) in [
                    (Method::POST, list),
                    (Method::GET, String::new()),
                    (Method::DELETE, String::new()),
                ] {
                    let headers = [
                        ("content-type", "application/json"),
                        ("accept", BOTH),
                        ("mcp-session-id", id.as_str()),
                        ("last-event-id", "1"),
                    ];
                    let reply = client.send(method, "/mcp", &headers, body).await;
                    assert_eq!(reply.status, 404, "{token}: a stolen session: {reply:?}");
                }
            }
            Self::State(params) => {
                let body = modern(token, "tools/call", params.clone());
                let reply = client.modern("/mcp", &body).await;
                assert!(
                    reply.body.contains("none that was handed out here"),
                    "{token}: a stolen state: {reply:?}"
                );
            }
            Self::RequestId(_) => {}
        }
    }
}
