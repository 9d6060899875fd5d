//! The stable handle of one server: valid for ever, whatever its connections do (law 20).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::lifecycle::input::Input;
use mainstay_wire::envelope::Message;
use mainstay_wire::method;
use mainstay_wire::revision::Era;
use mainstay_wire::views::ToolHints;
use tokio::time::Instant;

use crate::call::Caller;
use crate::calls::{CallRecord, Step, Tally};
use crate::catalog::Catalog;
use crate::config::{AuthConfig, Scope, ToolRetry};
use crate::driver::{Desk, Place};
use crate::error::{CallError, OperatorError, Refusal};
use crate::events::EventKind;
use crate::pins::{ApprovedProgram, Current, Holdback, PinError, ToolChange};
use crate::pool::{self, Key, Way};
use crate::principal::Principal;
use crate::process::StderrRing;
use crate::process::tree::Processes;
use crate::request::{Answer, CallOptions, ClientFace, Request};
use crate::shape;
use crate::slot::Slot;
use crate::status::ServerStatus;
use crate::wishes::{Declined, LogLevel, Root, Updates, WishError, Wishes};

/// What a principal wishes for its connections to one server, see [`ServerHandle::wishes_of`].
#[derive(Debug)]
pub struct PrincipalWishes {
    slot: Arc<Slot>,
    principal: Principal,
    wishes: Arc<Wishes>,
}

impl PrincipalWishes {
    /// Sets the level from which on the server is to send log messages on the principal's connections, now and later (law
    /// 25). Returns at once.
    pub fn set_log_level(&self, level: LogLevel) {
        self.wishes.set_log_level(level);
        for place in self.slot.family.of_principal(&self.principal) {
            place.slot.wishes.set_log_level(level);
        }
    }
}

/// One server. Cheap to clone; never becomes invalid, whatever happens to the server's connections: it refuses while its
/// server is not in the config ([`Refusal::Removed`]), and finds the one that comes back under its name.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    /// The server's own slot when the handle was made.
    made_for: Place,
    desk: Desk,
    /// For a client that has another connection than the shared one.
    way: Option<Arc<Way>>,
}

impl ServerHandle {
    pub(crate) fn new(place: Place, desk: Desk) -> Self {
        Self {
            made_for: place,
            desk,
            way: None,
        }
    }

    /// The server's own slot: another one than before once the name was removed from the config and has come back.
    pub(crate) fn place(&self) -> Cow<'_, Place> {
        let same = &self.made_for;
        let other = same
            .slot
            .is_removed()
            .then(|| self.desk.directory().find(&same.slot.name));
        other.flatten().map_or(Cow::Borrowed(same), Cow::Owned)
    }

    /// The handle through which a client with these capabilities talks to the server: the same server and name, and maybe
    /// another connection to it. Servers of the legacy era learn their client's capabilities when they are greeted, so there
    /// is one connection for each set of capabilities, and with `scope: "session"` one for each
    /// [`client`](ClientFace::client), of every era. Modern servers, and clients that declare nothing that a server could
    /// use, get the shared one.
    ///
    /// Opens the connection if there is none, and does not wait for it; waits for a server that was never greeted as a call
    /// waits. The handle is good for ever (law 20): a connection that was closed because nobody used it
    /// (`connections.idleMs`) is opened again by the next call. Catalog, wishes and status of the handle are those of its
    /// connection (wishes only with `scope: "session"`: subscriptions and roots of all others are the server's), and orders
    /// concern the server with all of its connections. Called on such a handle it answers for the new face alone.
    ///
    /// Dropping the future changes nothing for anybody else (law 1).
    ///
    /// # Errors
    /// A refusal: the server is disabled, parked or not ready, what the client declares is no capabilities object, or there
    /// are too many connections ([`Refusal::TooManyConnections`], setting `connections.max`).
    pub async fn for_client(&self, face: &ClientFace) -> Result<Self, CallError> {
        let place = self.place();
        let found = self.way_of(face).await;
        if let Err(error) = &found {
            let options = CallOptions::default();
            Tally::new(&place.slot, None, &options, Instant::now()).fail(error);
        }
        Ok(Self {
            made_for: place.into_owned(),
            desk: self.desk.clone(),
            way: found?,
        })
    }

    /// As [`ServerHandle::for_client`], for the sake of one call: a refusal is the end of that call, and recorded as such;
    /// so is being dropped.
    ///
    /// # Errors
    /// A refusal.
    pub async fn for_call(
        &self,
        face: &ClientFace,
        request: &Request,
        options: &CallOptions,
    ) -> Result<Self, CallError> {
        let place = self.place();
        let tally = Tally::new(&place.slot, Some(request), options, Instant::now());
        let found = self.way_of(face).await;
        match &found {
            Ok(_) => tally.hand_over(),
            Err(error) => tally.fail(error),
        }
        Ok(Self {
            made_for: place.into_owned(),
            desk: self.desk.clone(),
            way: found?,
        })
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    async fn way_of(&self, face: &ClientFace) -> Result<Option<Arc<Way>>, CallError> {
        let place = self.place();
        let Some(mut way) = pool::way(&place, face).await? else {
            return Ok(None);
        };
        let held = pool::connect(&place, &self.desk, &way).await?;
        let wishes = &held.place().slot.wishes;
        way.wishes = Some(match way.key.principal {
            Some(_) => wishes.leading(),
            None => Arc::clone(wishes),
        });
        Ok(Some(Arc::new(way)))
    }

    /// The slot that this handle is about: that of the client's own connection while there is one.
    fn slot(&self) -> Arc<Slot> {
        let shared = Arc::clone(&self.place().slot);
        let own = self
            .way
            .as_ref()
            .and_then(|way| shared.family.find(&way.key));
        own.map_or(shared, |place| Arc::clone(&place.slot))
    }

    /// The wishes for the connection of one client, or for the server.
    fn wishes(&self) -> &Wishes {
        let own = self.way.as_ref().filter(|way| way.key.is_own());
        let own = own.and_then(|way| way.wishes.as_ref());
        // Those of a server that comes back are the same, as long as this handle is there.
        own.unwrap_or(&self.made_for.slot.wishes)
    }

    /// The server's name in the config.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.made_for.slot.name
    }

    /// Calls a tool by the name that it is shown under, which is the server's own unless the config renames it, with the
    /// config's time limits.
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
        let place = self.place();
        let config = place.slot.config.load();
        let options = shape::call::with_limits(&config, &request, options);
        let per_user = config.scope == Scope::User;
        drop(config);
        // Boxed: what few calls need must not make the state of every call larger.
        match &self.way {
            Some(way) => Box::pin(self.request_on(&place, way, &request, &options)).await,
            None if per_user && options.on_behalf_of().is_some() => {
                Box::pin(self.request_as(&place, &request, &options)).await
            }
            None => {
                Caller::new(&place.slot, &place.reports, &request, &options)
                    .run()
                    .await
            }
        }
    }

    /// A call on behalf of a principal through a handle that is nobody's: never on a connection that others share (F256).
    async fn request_as(
        &self,
        shared: &Place,
        request: &Request,
        options: &CallOptions,
    ) -> Result<Answer, CallError> {
        let mut face = options.client.clone().unwrap_or_default();
        face.principal = options.on_behalf_of().cloned();
        if face.capabilities.is_empty() {
            face.capabilities = "{}".into();
        }
        let tally = Tally::new(&shared.slot, Some(request), options, Instant::now());
        let way = match pool::way(shared, &face).await {
            Ok(way) => way,
            Err(error) => {
                tally.fail(&error);
                return Err(error);
            }
        };
        tally.hand_over();
        match way {
            Some(way) => self.request_on(shared, &way, request, options).await,
            // The setting has changed in this moment.
            None => {
                Caller::new(&shared.slot, &shared.reports, request, options)
                    .run()
                    .await
            }
        }
    }

    /// A call on a connection that only some clients share.
    async fn request_on(
        &self,
        shared: &Place,
        way: &Way,
        request: &Request,
        options: &CallOptions,
    ) -> Result<Answer, CallError> {
        let started = Instant::now();
        let tally = Tally::new(&shared.slot, Some(request), options, started);
        let seat = match pool::seat(shared, &self.desk, way, options, started).await {
            Ok(seat) => {
                tally.hand_over();
                seat
            }
            Err(error) => {
                tally.fail(&error);
                return Err(error);
            }
        };
        let place = seat.place();
        Caller::new(&place.slot, &place.reports, request, options)
            .since(started)
            .run()
            .await
    }

    /// How many calls wait for their turn on the connections that this handle leads to, because each serves one client at a
    /// time. Always 0 on a shared connection.
    #[must_use]
    pub fn waiting_for_turn(&self) -> usize {
        let key = self.way.as_ref().map(|way| &way.key);
        key.map_or(0, |key| self.place().slot.family.waiting(key))
    }

    /// How long this request may take in all, by the config: its one deadline over waiting, all attempts and the answer.
    #[must_use]
    pub fn call_total(&self, request: &Request) -> Duration {
        let config = self.place().slot.config.load();
        let options = shape::call::with_limits(&config, request, CallOptions::default());
        let usual = Duration::from_millis(config.timeouts.call_total_ms);
        options.total.unwrap_or(usual)
    }

    /// The last good catalog: what the server listed last, possibly read from disk and not confirmed yet (law 22).
    #[must_use]
    pub fn catalog(&self) -> Option<Arc<Catalog>> {
        self.slot().catalog.load_full()
    }

    /// What of the server's tools is not as it was approved (`tools.pin`), over all of its connections: tools that are held
    /// back, and approved ones that are gone.
    #[must_use]
    pub fn tool_changes(&self) -> Vec<ToolChange> {
        let shared = &self.place().slot;
        if !shared.config.load().tools.pin {
            return Vec::new();
        }
        let mut changes = shared.pins.changes(&shared.held.load());
        let open = shared.family.all().into_iter();
        let open = open.map(|place| place.slot.held.load_full());
        let apart = |listed: Arc<Catalog>| {
            Arc::new(shared.pins.judge(&listed, false, &Holdback::default()))
        };
        let closed = shared.family.shown.listed().into_iter().map(apart);
        for held in open.chain(closed) {
            for change in shared.pins.changes(&held) {
                let is_known = changes.iter().any(|known| known.tool == change.tool);
                if !is_known {
                    changes.push(change);
                }
            }
        }
        changes
    }

    /// Approves the server's tools as they are now (`tools.pin`): all of them, or those with these names: the server's own,
    /// or what they are shown as.
    /// Returns the names that were not as approved before. What was held back is shown and can be called when this returns.
    ///
    /// Dropping the future does not take it back.
    ///
    /// # Errors
    /// [`PinError`]; nothing is approved then.
    pub async fn approve(&self, tools: Option<Vec<String>>) -> Result<Vec<String>, PinError> {
        let place = self.place().into_owned();
        let shared = &place.slot;
        let server = || Box::<str>::from(&*shared.name);
        if !shared.config.load().tools.pin {
            return Err(PinError::NotPinned { server: server() });
        }
        let Some(listed) = shared.listed.load_full() else {
            return Err(PinError::NotListed { server: server() });
        };
        let mut current = Current::default();
        current.add(&listed, true);
        for place in shared.family.all() {
            if let Some(listed) = place.slot.listed.load_full() {
                current.add(&listed, false);
            }
        }
        for listed in shared.family.shown.listed() {
            current.add(&listed, false);
        }
        let pins = Arc::clone(&shared.pins);
        let config = shared.config.load_full();
        // People may also say what they see.
        let own = |name: String| match config.tools.own_name(&name) {
            Some(own) if !pins.knows(&name, &current) => own.to_owned(),
            Some(_) | None => name,
        };
        let tools: Option<Vec<String>> = tools.map(|names| names.into_iter().map(own).collect());
        let approved =
            tokio::task::spawn_blocking(move || pins.approve(&current, tools.as_deref()));
        let approved = approved.await.map_err(|_panicked| OperatorError::Ended)??;
        if !approved.is_empty() {
            let kind = EventKind::tools_approved(approved.clone(), false);
            shared.events.emit(&shared.name, 0, kind);
        }
        self.desk.reshape(&place).await?;
        Ok(approved)
    }

    /// Why a call of a tool would be refused for not being approved; the tool is named as clients name it.
    #[must_use]
    pub fn holds_back(&self, tool: &str) -> Option<Refusal> {
        let slot = self.slot();
        let config = slot.config.load();
        let own = config.tools.own_name(tool).filter(|_| config.tools.pin)?;
        slot.pins.refuses(own, tool, &slot.held.load())
    }

    /// What may be believed of a tool, by the name that it is shown under: what the operator says of it (`tools.retry`), and
    /// else its own annotations in `definition` if this server's are trusted (`retry.trustAnnotations`). Whatever is not
    /// known is assumed at its worst (law 17).
    #[must_use]
    pub fn believed_hints(&self, tool: &str, definition: Option<&str>) -> ToolHints {
        const WORST: ToolHints = ToolHints {
            read_only: false,
            idempotent: false,
            destructive: true,
        };
        let slot = self.slot();
        let config = slot.config.load();
        let own = config.tools.own_name(tool);
        match own.and_then(|own| config.tools.retry.matching(own).next()) {
            Some(ToolRetry::ReadOnly) => ToolHints {
                read_only: true,
                idempotent: true,
                destructive: false,
            },
            Some(ToolRetry::Never | ToolRetry::Idempotent) | None => match definition {
                Some(definition) if config.trust_annotations => {
                    let claimed = ToolHints::of_tool(definition);
                    ToolHints {
                        // What only reads destroys nothing, whatever the default of the other hint is.
                        destructive: claimed.destructive && !claimed.read_only,
                        ..claimed
                    }
                }
                Some(_) | None => WORST,
            },
        }
    }

    /// Sets the level from which on the server is to send log messages, on this connection and on every later one (law
    /// 25). Returns at once; a server that is not connected is told when it is. Servers of the modern era are told with
    /// every request, unless the request names a level of its own.
    pub fn set_log_level(&self, level: LogLevel) {
        self.wishes().set_log_level(level);
        let own = self.way.as_ref().filter(|way| way.key.is_own());
        let family = &self.place().slot.family;
        let concerned = match own.map(|way| &way.key) {
            // What others want to hear is no principal's affair.
            None => family.of_nobody(),
            Some(Key {
                principal: Some(principal),
                ..
            }) => family.of_principal(principal),
            Some(_one_client) => Vec::new(),
        };
        for place in concerned {
            place.slot.wishes.set_log_level(level);
        }
    }

    /// What a principal wishes for its connections to this server (`scope: "user"`), whether or not there is one now. They
    /// are kept as long as somebody holds this, or a connection of the principal is there.
    #[must_use]
    pub fn wishes_of(&self, principal: &Principal) -> PrincipalWishes {
        let slot = Arc::clone(&self.place().slot);
        let new = || slot.wishes.apart();
        let (wishes, _new) = slot.family.accounts.wishes(principal, new);
        PrincipalWishes {
            slot,
            principal: principal.clone(),
            wishes,
        }
    }

    /// Subscribes to a resource, on this connection and on every later one (law 25). Counted: the server is asked once
    /// however many subscribe, and told to stop when the last has unsubscribed. Returns at once; what changes arrives at
    /// [`ServerHandle::updates`], and a server that refuses is an event ([`crate::EventKind::RestoreFailed`]) and asked
    /// again.
    ///
    /// # Errors
    /// [`WishError::TooManySubscriptions`] beyond `mainstay.limits.subscriptions` (1,000) different resources.
    pub fn subscribe(&self, uri: &str) -> Result<(), WishError> {
        self.wishes().subscribe(uri)
    }

    /// Takes back one subscription; `false` if there was none.
    pub fn unsubscribe(&self, uri: &str) -> bool {
        self.wishes().unsubscribe(uri)
    }

    /// Waits for the server's word on a subscription: `Ok` when it is in force on the connection that serves now. Has no
    /// deadline of its own, and a server that is away says nothing; level-triggered and cancel-safe.
    ///
    /// # Errors
    /// [`Declined`] with the server's words, or if there is no such subscription. A refused one stays, and is asked for
    /// again: whoever does not want that takes it back.
    pub async fn subscription(&self, uri: &str) -> Result<(), Declined> {
        self.wishes().verdict(uri).await
    }

    /// Sets the folders that a server of the legacy era may ask for (`roots/list`), and tells it of a change. Roots are
    /// declared when a connection is greeted: one that was greeted before roots were first set does not ask for them until
    /// it is replaced ([`ServerHandle::restart`] does that). Modern servers are not told; they ask within a call.
    ///
    /// # Errors
    /// [`WishError::TooManyRoots`].
    pub fn set_roots(&self, roots: Vec<Root>) -> Result<(), WishError> {
        self.wishes().set_roots(&roots)
    }

    /// Passes a client's notification on, byte for byte, to the connection that serves this handle now. Best effort, like
    /// every notification: `false` if it could not be sent, for example because there is no connection, or one of the modern era,
    /// where clients have nothing to tell.
    /// Bounded by the deadlines of the transport; dropping the future leaves it undecided whether it arrived.
    pub async fn notify(&self, message: Message) -> bool {
        let runtime = self.slot().current.load_full();
        match runtime.filter(|runtime| runtime.era() == Era::Legacy) {
            Some(runtime) => runtime.tell(message).await,
            None => false,
        }
    }

    /// Whether each client has a connection of its own (`scope: "session"`).
    #[must_use]
    pub fn is_per_client(&self) -> bool {
        self.place().slot.config.load().scope == Scope::Session
    }

    /// The era that the server spoke last on any of its connections, as far as that is known without asking.
    #[must_use]
    pub fn known_era(&self) -> Option<Era> {
        pool::known_era(&self.place().slot)
    }

    /// Whether each principal has a connection and credentials of its own (`scope: "user"`).
    #[must_use]
    pub fn is_per_user(&self) -> bool {
        self.place().slot.config.load().scope == Scope::User
    }

    /// How Mainstay signs in to the server, as its entry says.
    #[must_use]
    pub fn auth(&self) -> AuthConfig {
        self.place().slot.config.load().auth.clone()
    }

    /// What the server says unasked, from now on: changed resources and log messages, in the order in which they came
    /// (F174). Bounded: changes of one resource that were not taken yet are one (F173), and a listener that is too slow is
    /// told how much it missed. A stream of its own for everyone who asks.
    #[must_use]
    pub fn updates(&self) -> Updates {
        self.wishes().listen()
    }

    /// As [`ServerHandle::updates`], without log messages: they cannot push news of resources out.
    #[must_use]
    pub fn resource_updates(&self) -> Updates {
        self.wishes().listen_to_resources()
    }

    /// Waits until the connection that serves was told everything that was wished for before this call. Level-triggered and
    /// cancel-safe; has no deadline of its own.
    pub async fn restored(&self) {
        self.wishes().fulfilled().await;
    }

    /// What is going on with the server.
    #[must_use]
    pub fn status(&self) -> ServerStatus {
        ServerStatus::of(&self.slot())
    }

    /// As [`ServerHandle::status`], with what its processes use. Looks at all processes of the system, which blocks for some
    /// milliseconds: not for the hot path.
    #[must_use]
    pub fn full_status(&self) -> ServerStatus {
        ServerStatus::in_full(&self.slot(), &Processes::look())
    }

    pub(crate) fn status_among(&self, processes: &Processes) -> ServerStatus {
        ServerStatus::in_full(&self.slot(), processes)
    }

    /// Whether the server must be up for Mainstay to call itself ready.
    #[must_use]
    pub fn required(&self) -> bool {
        self.place().slot.config.load().required
    }

    /// Replaces the connection, from every state but disabled (law 5). Returns when the order is in force, not when the
    /// new connection is up: watch the status for that.
    ///
    /// # Errors
    /// [`OperatorError::Ended`] after a shutdown.
    pub async fn restart(&self) -> Result<(), OperatorError> {
        self.desk.order(&self.place(), Input::Restart).await
    }

    /// Approves the program of a server with `pinProgram` as it is now, and starts the server anew with it (F259).
    ///
    /// # Errors
    /// [`PinError`]; nothing is approved then.
    pub async fn approve_program(&self) -> Result<ApprovedProgram, PinError> {
        let place = self.place().into_owned();
        let shared = &place.slot;
        let (server, config) = (Box::<str>::from(&*shared.name), shared.config.load_full());
        if !config.guard.pin_program {
            return Err(PinError::ProgramNotPinned { server });
        }
        let pins = Arc::clone(&shared.pins);
        let unknown = |why: String| PinError::NoProgram { server, why };
        let files = crate::preflight::program_files(&config)
            .await
            .map_err(|failure| unknown(failure.to_string()))?;
        let approved = tokio::task::spawn_blocking(move || pins.approve_program(&files)).await;
        let approved = approved.map_err(|_panicked| OperatorError::Ended)??;
        self.restart().await?;
        Ok(approved)
    }

    /// Lets the server connect. Idempotent.
    ///
    /// # Errors
    /// [`OperatorError::Ended`] after a shutdown.
    pub async fn enable(&self) -> Result<(), OperatorError> {
        self.desk.order(&self.place(), Input::Enable).await
    }

    /// Takes the server out of the publication and ends its connection. Prompt and final (law 5): when this returns the
    /// server is unpublished and takes no calls; its process goes in its own time.
    ///
    /// # Errors
    /// [`OperatorError::Ended`] after a shutdown.
    pub async fn disable(&self) -> Result<(), OperatorError> {
        self.desk.order(&self.place(), Input::Disable).await
    }

    /// The last calls of the server on any of its connections, oldest first.
    #[must_use]
    pub fn recent_calls(&self) -> Vec<Arc<CallRecord>> {
        self.place().slot.ledger.recent()
    }

    /// The last changes of the server's state, oldest first.
    #[must_use]
    pub fn timeline(&self) -> Vec<Step> {
        self.place().slot.ledger.steps()
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
        self.slot().process().stderr
    }

    /// Waits until the status satisfies a predicate. Level-triggered and cancel-safe; has no deadline of its own.
    pub async fn wait_until(
        &self,
        mut satisfied: impl FnMut(&ServerStatus) -> bool,
    ) -> ServerStatus {
        let mut names = self.desk.directory().version();
        loop {
            names.borrow_and_update();
            // Of one connection: when that has gone, its end is the last that is seen of it, unless the server itself was
            // removed and comes back.
            let slot = self.slot();
            let mut view = slot.view.subscribe();
            loop {
                view.borrow_and_update();
                let status = ServerStatus::of(&slot);
                if satisfied(&status) {
                    return status;
                }
                tokio::select! {
                    // Cancel-safe: a level. The slot is held here, so its view lives.
                    _ = view.changed() => {}
                    // Cancel-safe: a level. The desk is held by this handle, and the directory by the desk.
                    _ = names.changed(), if slot.is_removed() => break,
                }
            }
        }
    }
}
