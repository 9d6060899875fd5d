//! The stable handle of one server: valid for ever, whatever its connections do (law 20).

use std::sync::Arc;
use std::time::Duration;

use mainstay_core::lifecycle::input::Input;
use mainstay_wire::method;

use crate::call::Caller;
use crate::catalog::Catalog;
use crate::driver::{Desk, Place};
use crate::error::{CallError, OperatorError, Refusal};
use crate::process::StderrRing;
use crate::request::{Answer, CallOptions, Request};
use crate::status::ServerStatus;
use crate::wishes::{LogLevel, Root, Updates, WishError};

/// One server. Cheap to clone; never becomes invalid, whatever happens to the server's connections.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    place: Place,
    desk: Desk,
}

impl ServerHandle {
    pub(crate) fn new(place: Place, desk: Desk) -> Self {
        Self { place, desk }
    }

    /// The server's name in the config.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.place.slot.name
    }

    /// Calls a tool by the server's own name for it, with the config's time limits.
    ///
    /// Dropping the future cancels the call: the server is told, nobody else notices (law 1, law 18).
    ///
    /// # Errors
    /// Exactly one of refused, rejected and unknown, see [`CallError`]. A tool that fails is an answer, not an error.
    pub async fn call(
        &self,
        tool: &str,
        arguments: Option<&serde_json::Value>,
    ) -> Result<Answer, CallError> {
        let name = mainstay_wire::splice::json_string(tool);
        let params = match arguments {
            Some(arguments) => format!("{{\"name\":{name},\"arguments\":{arguments}}}"),
            None => format!("{{\"name\":{name}}}"),
        };
        self.request(
            Request::new(method::TOOLS_CALL, Some(&params)),
            CallOptions::default(),
        )
        .await
    }

    /// Sends any request, and returns the answer as it came: a result or a JSON-RPC error.
    ///
    /// Waits for a server that is connecting (edge patience, 15 s), refuses at once when it is parked or disabled, and
    /// keeps one deadline over everything. Dropping the future cancels the request.
    ///
    /// # Errors
    /// Exactly one of refused, rejected and unknown, see [`CallError`].
    pub async fn request(
        &self,
        request: Request,
        options: CallOptions,
    ) -> Result<Answer, CallError> {
        if request.method().is_empty() {
            return Err(CallError::Refused(Refusal::BadRequest(
                "the message has no method".into(),
            )));
        }
        Caller::new(&self.place.slot, &self.place.reports, &request, &options)
            .run()
            .await
    }

    /// How long one call may take in all, by the config: its one deadline over waiting, all attempts and the answer.
    #[must_use]
    pub fn call_total(&self) -> Duration {
        Duration::from_millis(self.place.slot.config.load().timeouts.call_total_ms)
    }

    /// The last good catalog: what the server listed last, possibly read from disk and not confirmed yet (law 22).
    #[must_use]
    pub fn catalog(&self) -> Option<Arc<Catalog>> {
        self.place.slot.catalog.load_full()
    }

    /// Sets the level from which on the server is to send log messages, on this connection and on every later one (law
    /// 25). Returns at once; a server that is not connected is told when it is. Servers of the modern era are told with
    /// every request, unless the request names a level of its own.
    pub fn set_log_level(&self, level: LogLevel) {
        self.place.slot.wishes.set_log_level(level);
    }

    /// Subscribes to a resource, on this connection and on every later one (law 25). Counted: the server is asked once
    /// however many subscribe, and told to stop when the last has unsubscribed. Returns at once; what changes arrives at
    /// [`ServerHandle::updates`], and a server that refuses is an event ([`crate::EventKind::RestoreFailed`]) and asked
    /// again.
    ///
    /// # Errors
    /// [`WishError::TooManySubscriptions`] beyond `mainstay.limits.subscriptions` (1,000) different resources.
    pub fn subscribe(&self, uri: &str) -> Result<(), WishError> {
        self.place.slot.wishes.subscribe(uri)
    }

    /// Takes back one subscription; `false` if there was none.
    pub fn unsubscribe(&self, uri: &str) -> bool {
        self.place.slot.wishes.unsubscribe(uri)
    }

    /// Sets the folders that a server of the legacy era may ask for (`roots/list`), and tells it of a change. Roots are
    /// declared when a connection is greeted: one that was greeted before roots were first set does not ask for them until
    /// it is replaced ([`ServerHandle::restart`] does that). Modern servers are not told; they ask within a call.
    ///
    /// # Errors
    /// [`WishError::TooManyRoots`].
    pub fn set_roots(&self, roots: Vec<Root>) -> Result<(), WishError> {
        self.place.slot.wishes.set_roots(&roots)
    }

    /// What the server says unasked, from now on: changed resources and log messages, in the order in which they came
    /// (F174). Bounded: changes of one resource that were not taken yet are one (F173), and a listener that is too slow is
    /// told how much it missed. A stream of its own for everyone who asks.
    #[must_use]
    pub fn updates(&self) -> Updates {
        self.place.slot.wishes.listen()
    }

    /// Waits until the connection that serves was told everything that was wished for before this call. Level-triggered and
    /// cancel-safe; has no deadline of its own.
    pub async fn restored(&self) {
        self.place.slot.wishes.fulfilled().await;
    }

    /// What is going on with the server.
    #[must_use]
    pub fn status(&self) -> ServerStatus {
        ServerStatus::of(&self.place.slot)
    }

    /// Whether the server must be up for Mainstay to call itself ready.
    #[must_use]
    pub fn required(&self) -> bool {
        self.place.slot.config.load().required
    }

    /// Replaces the connection, from every state but disabled (law 5). Returns when the order is in force, not when the
    /// new connection is up: watch the status for that.
    ///
    /// # Errors
    /// [`OperatorError::Ended`] after a shutdown.
    pub async fn restart(&self) -> Result<(), OperatorError> {
        self.desk.order(&self.place, Input::Restart).await
    }

    /// Lets the server connect. Idempotent.
    ///
    /// # Errors
    /// [`OperatorError::Ended`] after a shutdown.
    pub async fn enable(&self) -> Result<(), OperatorError> {
        self.desk.order(&self.place, Input::Enable).await
    }

    /// Takes the server out of the publication and ends its connection. Prompt and final (law 5): when this returns the
    /// server is unpublished and takes no calls; its process goes in its own time.
    ///
    /// # Errors
    /// [`OperatorError::Ended`] after a shutdown.
    pub async fn disable(&self) -> Result<(), OperatorError> {
        self.desk.order(&self.place, Input::Disable).await
    }

    /// The last lines that the newest process wrote to stderr; empty for servers that are no processes.
    #[must_use]
    pub fn stderr_tail(&self, lines: usize) -> Vec<String> {
        self.stderr()
            .map(|ring| ring.tail(lines))
            .unwrap_or_default()
    }

    /// The stderr of the newest process, to follow.
    #[must_use]
    pub fn stderr(&self) -> Option<Arc<StderrRing>> {
        self.place.slot.process().stderr
    }

    /// Waits until the status satisfies a predicate. Level-triggered and cancel-safe; has no deadline of its own.
    pub async fn wait_until(
        &self,
        mut satisfied: impl FnMut(&ServerStatus) -> bool,
    ) -> ServerStatus {
        let mut view = self.place.slot.view.subscribe();
        loop {
            view.borrow_and_update();
            let status = self.status();
            if satisfied(&status) {
                return status;
            }
            if view.changed().await.is_err() {
                // The slot outlives its view only inside this handle; then nothing changes any more.
                std::future::pending::<()>().await;
            }
        }
    }
}
