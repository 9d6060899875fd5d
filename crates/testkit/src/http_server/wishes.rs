//! Log levels, resource subscriptions and roots, as far as a server has a part in them.

use bytes::Bytes;
use serde_json::{Value, json};

use super::sse;
use super::state::{State, lock};

/// The capabilities, with those of the wishes where the script says so.
pub(crate) fn declared(mut all: Value, state: &State) -> Value {
    if state.script().subscriptions {
        all["resources"]["subscribe"] = json!(true);
        all["logging"] = json!({});
    }
    all
}

/// Whether a method of the legacy era is a wish.
pub(crate) fn is_one(method: &str) -> bool {
    matches!(
        method,
        "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel"
    )
}

impl State {
    /// Remembers what a session subscribed to.
    pub(crate) fn note_wish(&self, session: &str, message: &Value) {
        let uri = message["params"]["uri"].as_str().unwrap_or_default();
        let mut sessions = lock(&self.sessions);
        let Some(session) = sessions.get_mut(session) else {
            return;
        };
        match message["method"].as_str() {
            Some("resources/subscribe") => {
                session.uris.insert(uri.to_owned());
            }
            Some("resources/unsubscribe") => {
                session.uris.remove(uri);
            }
            _ => {}
        }
    }

    /// Tells every subscriber that a resource changed. Streams that are full are skipped.
    pub(crate) fn tell_updated(&self, uri: &str) {
        let mut message = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated",
            "params": {"uri": uri}});
        for session in lock(&self.sessions).values() {
            if session.uris.contains(uri) {
                send(&session.streams, &message);
            }
        }
        for listener in lock(&self.listeners).iter() {
            let uris = listener.filter["resourceSubscriptions"].as_array();
            if uris.is_some_and(|uris| uris.iter().any(|one| one == uri)) {
                message["params"]["_meta"] =
                    json!({"io.modelcontextprotocol/subscriptionId": listener.id});
                send(std::slice::from_ref(&listener.stream), &message);
            }
        }
    }

    /// Asks every client for its roots.
    pub(crate) fn ask_roots(&self) {
        let id = format!("roots-{}", self.number());
        let message = json!({"jsonrpc": "2.0", "id": id, "method": "roots/list"});
        for session in lock(&self.sessions).values() {
            send(&session.streams, &message);
        }
    }
}

fn send(streams: &[tokio::sync::mpsc::Sender<Bytes>], message: &Value) {
    for stream in streams {
        let _ = stream.try_send(sse::event(None, &message.to_string()));
    }
}
