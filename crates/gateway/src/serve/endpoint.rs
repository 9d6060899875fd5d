//! The kinds of endpoint, and where a request on them goes.
//!
//! The aggregate and profiles map exposed names to a server and its own name for the thing; one server's endpoint leaves names and
//! unknown methods untouched. Nothing here knows HTTP or the era of the client.

pub(crate) mod others;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mainstay::catalog::Hidden;
use mainstay::config::Discovery;
use mainstay::publish::Published;
use mainstay::{
    CallError, CallOptions, Catalog, Origin, Publication, Refusal, Request, ServerHandle,
};
use mainstay_wire::listing::CacheScope;
use mainstay_wire::{Era, ListKind, Message, json_string, method, raw};
use serde_json::json;
use tokio::time::Instant;

use super::Shared;
use super::discovery;
use super::fault::{Fault, shown};
use super::pages::{self, Page};
use super::profiles::{self, AtProfile};
use super::push::Told;
use super::view::{self, Viewer};
use crate::policy::gate;

/// How often starting servers are looked at while a listing waits for them.
const SETTLE_STEP: Duration = Duration::from_millis(50);

/// One MCP endpoint.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    /// All servers, under exposed names.
    All,
    /// A part of what all servers offer, under the same names.
    Profile(Arc<AtProfile>),
    /// One server, names untouched.
    Server(ServerHandle),
}

/// A request that found its server.
#[derive(Debug, Clone)]
pub(crate) struct Routed {
    pub(crate) server: ServerHandle,
    pub(crate) request: Request,
}

impl Endpoint {
    /// What it is called: the name of the one server, `profiles/NAME`, or nothing for the aggregate.
    pub(crate) fn place(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Profile(at) => Some(at.place()),
            Self::Server(server) => Some(server.name()),
        }
    }

    /// Whether it was taken away since it was found.
    pub(crate) fn is_gone(&self, shared: &Shared, who: &Viewer) -> bool {
        let taken_away = match self {
            Self::All | Self::Server(_) => false,
            Self::Profile(at) => at.now(shared).is_none(),
        };
        taken_away || !gate::is_open(shared, who.caller(), self)
    }

    /// The servers behind it.
    fn servers(&self, shared: &Shared) -> Vec<ServerHandle> {
        match self {
            Self::All => shared.manager.servers(),
            Self::Profile(at) => profiles::servers_at(shared, at.name()),
            Self::Server(server) => vec![server.clone()],
        }
    }

    /// What a client sees of several servers at once. For the endpoint of one server that is what it sees of all.
    pub(crate) fn publication(&self, shared: &Shared, who: &Viewer) -> Arc<Publication> {
        let publication = match self {
            Self::All | Self::Server(_) => view::of_all(shared, who),
            Self::Profile(at) => match at.now(shared) {
                Some(profile) => view::of_profile(shared, who, &profile),
                None => Arc::default(),
            },
        };
        gate::seen(shared, who, self, publication)
    }

    /// Sees to it that it becomes known what the servers list to this client. Waits for nothing.
    pub(crate) fn look(&self, shared: &Arc<Shared>, who: &Viewer) {
        if who.may_differ() {
            view::look(shared, &self.servers(shared), who);
        }
    }

    /// Waits a moment for what is about to be known: the first listings of the first moments, and what the servers list to
    /// clients of this kind if nobody knows it, because many clients list once and never again.
    pub(crate) async fn ready(&self, shared: &Arc<Shared>, who: &Viewer) {
        let grace = Duration::from_millis(shared.settings.own_listing_ms);
        if matches!(self, Self::All | Self::Profile(_)) && !view::all_listed(shared) {
            view::started(shared, &self.servers(shared), who, grace).await;
        }
        self.settled(shared).await;
        if who.may_differ() {
            view::looked(shared, &self.servers(shared), who, grace).await;
        }
    }

    /// A page of a listing; the first without a cursor. On one server's endpoint it is served while the server is away (law
    /// 22); a server that was never listed is waited for within the edge patience.
    pub(crate) async fn list(
        &self,
        shared: &Shared,
        who: &Viewer,
        what: (ListKind, Era),
        cursor: Option<&str>,
    ) -> Result<Page, Fault> {
        let mut page = match self {
            Self::All | Self::Profile(_) if searched(shared, self, what.0) => {
                discovery::page(cursor)
            }
            Self::All | Self::Profile(_) => {
                pages::of_all(shared, self, &self.publication(shared, who), what, cursor)
            }
            Self::Server(server) => {
                let catalog = catalog_for(shared, server, who).await?;
                pages::of_server(shared, server.name(), &catalog, what, cursor)
            }
        }?;
        page.hint = gate::hint(shared, page.hint);
        if who.caller().principal.is_some() {
            // Another principal may be listed something else at the same address.
            page.hint.scope = CacheScope::Private;
        }
        Ok(page)
    }

    /// Whether a server that is not switched off has never listed.
    pub(crate) fn is_incomplete(&self, shared: &Shared, publication: &Publication) -> bool {
        self.servers(shared)
            .iter()
            .any(|server| never_listed(publication, server))
    }

    /// The text of a tool as a client sees it, to check headers against its schema.
    pub(crate) fn tool(&self, shared: &Shared, who: &Viewer, name: &str) -> Option<Bytes> {
        match self {
            Self::All | Self::Profile(_) => {
                let publication = self.publication(shared, who);
                publication.tools.find(name).map(|tool| tool.raw.clone())
            }
            Self::Server(server) => {
                let catalog = seen(shared, server, who)?;
                catalog.tools.find(name).map(|tool| tool.raw.clone())
            }
        }
    }

    /// What a client sees, as far as it can be told about changes. A server that is not published (disabled, never listed)
    /// has nothing.
    pub(crate) fn digests(&self, shared: &Shared, who: &Viewer) -> Told {
        match self {
            Self::All | Self::Profile(_) => {
                let publication = self.publication(shared, who);
                let searched = searched(shared, self, ListKind::Tools);
                Told {
                    tools: Some(if searched {
                        discovery::digest()
                    } else {
                        publication.tools.digest
                    }),
                    prompts: Some(publication.prompts.digest),
                    resources: Some(publication.resources.digest),
                    templates: Some(publication.templates.digest),
                }
            }
            Self::Server(server) => {
                let Some(catalog) = seen(shared, server, who) else {
                    return Told::default();
                };
                Told {
                    tools: Some(catalog.tools.digest),
                    prompts: Some(catalog.prompts.digest),
                    resources: Some(catalog.resources.digest),
                    templates: Some(catalog.templates.digest),
                }
            }
        }
    }

    /// The server of a resource, and its own uri for it.
    pub(crate) fn resource(
        &self,
        shared: &Shared,
        who: &Viewer,
        uri: &str,
    ) -> Result<(ServerHandle, Box<str>), Fault> {
        let (server, upstream): (ServerHandle, Box<str>) = match self {
            Self::Server(server) => (server.clone(), uri.into()),
            Self::All | Self::Profile(_) => {
                let publication = self.publication(shared, who);
                let (owner, upstream) = publication.locate(uri).ok_or_else(|| no_resource(uri))?;
                (handle(shared, owner)?, upstream.into())
            }
        };
        if !gate::sees_resource(shared, who, self, (server.name(), &upstream)) {
            return Err(no_resource(uri));
        }
        Ok((server, upstream))
    }

    /// Waits for the first listings of the first moments, where that says more than not to wait.
    pub(crate) async fn settled(&self, shared: &Shared) {
        match self {
            Self::All | Self::Profile(_) => self.settle(shared).await,
            Self::Server(_) => {}
        }
    }

    /// Waits for the first listing of the server that a name on the aggregate can only belong to: a call that races the
    /// first start waits like any other (F17), and is told why if there is nothing to wait for. The same where it is not
    /// known yet what the server lists to clients of this kind.
    pub(crate) async fn listed(
        &self,
        shared: &Arc<Shared>,
        who: &Viewer,
        message: &Message,
    ) -> Result<(), Fault> {
        let publication = match self {
            Self::Server(_) => return Ok(()),
            Self::All | Self::Profile(_) => self.publication(shared, who),
        };
        let listing = match message.method() {
            Some(method::TOOLS_CALL) => &publication.tools,
            Some(method::PROMPTS_GET) => &publication.prompts,
            Some(_) | None => return Ok(()),
        };
        let Some(name) = message.string_member(&["params", "name"]) else {
            return Ok(());
        };
        if listing.find(&name).is_some() {
            return Ok(());
        }
        let mut owners = self.servers(shared);
        let profile = gate::profile_of(self);
        owners.retain(|server| {
            could_own(server.name(), &name)
                && gate::sees_server(shared, who.caller(), server.name(), profile)
        });
        let never = owners
            .iter()
            .find(|server| !who.is_apart_at(server) && never_listed(&publication, server));
        if let Some(server) = never {
            catalog(shared, server).await?;
        }
        if who.may_differ() {
            let patience = Duration::from_millis(shared.settings.edge_patience_ms);
            view::looked(shared, &owners, who, patience).await;
        }
        // Of a principal's own connection nothing may ever have been heard: then its state is the answer.
        for server in owners.iter().filter(|server| who.is_apart_at(server)) {
            if who.own(server).is_none() {
                catalog_for(shared, server, who).await?;
            }
        }
        Ok(())
    }

    /// Finds the server of a request that is to be passed on, and translates names into its own.
    pub(crate) fn route(
        &self,
        shared: &Shared,
        who: &Viewer,
        message: Message,
    ) -> Result<Routed, Fault> {
        match self {
            Self::Server(server) => {
                shared.task_owners.check(server, who, &message)?;
                Ok(Routed {
                    server: server.clone(),
                    request: request(message)?,
                })
            }
            Self::All | Self::Profile(_) => {
                let publication = self.publication(shared, who);
                match message.method().unwrap_or_default() {
                    method::TOOLS_CALL => named(shared, message, &["params", "name"], |name| {
                        publication
                            .tools
                            .find(name)
                            .ok_or_else(|| unknown_tool(shared, name, &publication.tools.hidden))
                    }),
                    method::PROMPTS_GET => named(shared, message, &["params", "name"], |name| {
                        publication
                            .prompts
                            .find(name)
                            .ok_or_else(|| unknown("prompt", name, &publication.prompts.hidden))
                    }),
                    method::RESOURCES_READ => read(shared, &publication, message),
                    method::COMPLETE => complete(shared, &publication, message),
                    other => {
                        let principal = who.caller().principal.as_ref();
                        let tasks = &shared.task_owners;
                        let owner = others::owner(tasks, &publication, principal, &message, other)?;
                        if !publication.servers.contains_key(&owner) {
                            return Err(Fault::no_method(other));
                        }
                        let server = handle(shared, &owner)?;
                        tasks.check(&server, who, &message)?;
                        Ok(Routed {
                            server,
                            request: request(message)?,
                        })
                    }
                }
            }
        }
    }

    /// Waits until every server that is on its way for the first time has listed, but only in the first moments of the
    /// gateway: many clients list once and never again, and a list that is asked for while everything starts should not be
    /// empty (F15, F16). A slow server costs a client this grace at most once, and delays nobody after it (law 27).
    async fn settle(&self, shared: &Shared) {
        let grace = Duration::from_millis(shared.settings.startup_grace_ms);
        let mut version = shared.manager.published();
        while shared.started.elapsed() < grace {
            version.mark_unchanged();
            let publication = shared.manager.publication();
            let on_its_way = |server: &ServerHandle| {
                !publication.servers.contains_key(server.name())
                    && matches!(server.status().state, "connecting" | "draining" | "backoff")
            };
            if !self.servers(shared).iter().any(on_its_way) {
                return;
            }
            tokio::select! {
                // Cancel-safe: a watch keeps what was not seen.
                changed = version.changed() => if changed.is_err() { return },
                // Cancel-safe: sleeps and tokens hold nothing. The step notices servers that park instead of listing.
                () = tokio::time::sleep(SETTLE_STEP) => {}
                () = shared.ending.cancelled() => return,
            }
        }
    }
}

/// Whether tools are not listed here but searched for.
fn searched(shared: &Shared, endpoint: &Endpoint, kind: ListKind) -> bool {
    kind == ListKind::Tools && profiles::discovery(shared, endpoint) == Discovery::Search
}

/// A server that is switched off has no items at all (law 5): what it had is as unknown as anything else.
fn never_listed(publication: &Publication, server: &ServerHandle) -> bool {
    !publication.servers.contains_key(server.name()) && server.status().state != "disabled"
}

/// Whether an exposed name begins as the names of this server do.
fn could_own(server: &str, exposed: &str) -> bool {
    let sample = mainstay_core::catalog::exposed_name(server, "x");
    sample
        .strip_suffix('x')
        .is_some_and(|prefix| prefix.ends_with("__") && exposed.starts_with(prefix))
}

/// The catalog of one server that clients may see. `Err` says why there is none: a server that is switched off has no
/// listing, which is not the same as an empty one (law 22). A server that was never listed is waited for within the
/// edge patience, and started if it starts on demand.
pub(crate) async fn catalog(shared: &Shared, server: &ServerHandle) -> Result<Arc<Catalog>, Fault> {
    let published = || {
        shared
            .manager
            .publication()
            .servers
            .get(server.name())
            .map(Arc::clone)
    };
    if let Some(catalog) = published() {
        return Ok(catalog);
    }
    let started = Instant::now();
    let deadline = started + Duration::from_millis(shared.settings.edge_patience_ms);
    let mut version = shared.manager.published();
    let wanted = wake(server);
    tokio::pin!(wanted);
    loop {
        version.mark_unchanged();
        if let Some(catalog) = published() {
            return Ok(catalog);
        }
        let status = server.status();
        if matches!(status.state, "disabled" | "parked") || Instant::now() >= deadline {
            return Err(has_nothing(&status, started.elapsed()));
        }
        tokio::select! {
            // Cancel-safe: a watch keeps what was not seen.
            changed = version.changed() => if changed.is_err() { return Err(shutting_down()) },
            // Cancel-safe: a status is a level.
            _ = server.wait_until(|status| matches!(status.state, "disabled" | "parked")) => {}
            // Never resolves; polled so that it keeps the server wanted.
            () = &mut wanted => {}
            // Cancel-safe: sleeps and tokens hold nothing.
            () = tokio::time::sleep_until(deadline) => {}
            () = shared.ending.cancelled() => return Err(shutting_down()),
        }
    }
}

/// What a client sees of one server now; none if that is nothing.
fn seen(shared: &Shared, server: &ServerHandle, who: &Viewer) -> Option<Arc<Catalog>> {
    let published = shared.manager.publication();
    let published = published.servers.get(server.name()).map(Arc::clone);
    if who.is_apart_at(server) {
        let off = server.status().state == "disabled";
        let own = who.own(server).filter(|_| !off)?;
        return Some(gate::seen_of(shared, who, server.name(), own));
    }
    let published = published?;
    let catalog = who.own(server).unwrap_or(published);
    Some(gate::seen_of(shared, who, server.name(), catalog))
}

/// The catalog of one server that a client may see, as [`catalog`]. Where the client's principal has a connection of its own,
/// that one is waited for, and its state is told.
pub(crate) async fn catalog_for(
    shared: &Shared,
    server: &ServerHandle,
    who: &Viewer,
) -> Result<Arc<Catalog>, Fault> {
    if !who.is_apart_at(server) {
        let catalog = catalog(shared, server).await?;
        let catalog = who.own(server).unwrap_or(catalog);
        return Ok(gate::seen_of(shared, who, server.name(), catalog));
    }
    if let Some(own) = seen(shared, server, who) {
        return Ok(own);
    }
    let started = Instant::now();
    let patience = Duration::from_millis(shared.settings.edge_patience_ms);
    let own = who.handle_at(server).await;
    let own = own.map_err(|error| Fault::from(&error))?;
    let stuck = own.wait_until(|status| {
        matches!(status.state, "disabled" | "parked") || seen(shared, server, who).is_some()
    });
    let mut news = shared.views.changes();
    let listed =
        async { while seen(shared, server, who).is_none() && news.changed().await.is_ok() {} };
    tokio::select! {
        // Cancel-safe, all of them: levels, and sleeps and tokens hold nothing.
        () = listed => {}
        _stuck = stuck => {}
        () = tokio::time::sleep(patience) => {}
        () = shared.ending.cancelled() => return Err(shutting_down()),
    }
    seen(shared, server, who).ok_or_else(|| has_nothing(&own.status(), started.elapsed()))
}

/// Makes a server that starts on demand start, by asking it something harmless. Never resolves.
async fn wake(server: &ServerHandle) {
    if server.status().state == "idle" {
        let asked = Request::new(method::TOOLS_LIST, Some("{}"));
        // Whatever it answers: its catalog comes from its own listing.
        let options = CallOptions {
            origin: Some(Arc::new(Origin::new("gateway"))),
            ..CallOptions::default()
        };
        drop(server.request(asked, options).await);
    }
    std::future::pending().await
}

fn shutting_down() -> Fault {
    Fault::from(&CallError::Refused(Refusal::ShuttingDown))
}

fn has_nothing(status: &mainstay::ServerStatus, waited: Duration) -> Fault {
    if status.state == "disabled" {
        return Fault::from(&CallError::Refused(Refusal::Disabled {
            server: status.name.as_str().into(),
        }));
    }
    let failure = status.last_failure.as_ref();
    let why = failure
        .map(|failure| format!(": {}", failure.detail))
        .unwrap_or_default();
    let message = format!(
        "server `{}` is {} and has never listed anything{why}",
        status.name, status.word
    );
    let mut data = json!({
        "outcome": "refused",
        "server": status.name,
        "state": status.state,
        "waitedMs": u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
    });
    if let Some(failure) = failure {
        data["cause"] = json!({ "kind": failure.kind, "detail": failure.detail });
        data["hint"] = json!(failure.hint);
    }
    if let Some(wait_ms) = status.next_attempt_in_ms {
        data["retryAfterMs"] = json!(wait_ms);
    }
    Fault::new(super::fault::REFUSED, message).with(data)
}

/// Routes by the decoded name at `path`, and puts the server's own name in its place.
fn named<'p>(
    shared: &Shared,
    message: Message,
    path: &[&str],
    find: impl FnOnce(&str) -> Result<&'p Published, Fault>,
) -> Result<Routed, Fault> {
    let name = message
        .string_member(path)
        .ok_or_else(|| Fault::params(format!("`{}` must be a string", path.join("."))))?;
    let item = find(&name)?;
    let renamed = (*name != *item.upstream).then(|| json_string(&item.upstream));
    drop(name);
    let server = handle(shared, &item.server)?;
    let mut request = request(message)?;
    if let Some(upstream) = renamed {
        request = request.set(path, upstream);
    }
    Ok(Routed { server, request })
}

fn read(shared: &Shared, publication: &Publication, message: Message) -> Result<Routed, Fault> {
    let uri = message
        .string_member(&["params", "uri"])
        .ok_or_else(|| Fault::params("`params.uri` must be a string"))?;
    let (owner, upstream) = publication.locate(&uri).ok_or_else(|| no_resource(&uri))?;
    let server = handle(shared, owner)?;
    let renamed = (*uri != *upstream).then(|| json_string(upstream));
    drop(uri);
    let mut request = request(message)?;
    if let Some(upstream) = renamed {
        request = request.set(&["params", "uri"], upstream);
    }
    Ok(Routed { server, request })
}

pub(crate) fn no_resource(uri: &str) -> Fault {
    Fault::new(
        mainstay_wire::codes::RESOURCE_NOT_FOUND,
        format!("Resource not found: {}", shown(uri)),
    )
    .with(json!({ "uri": uri }))
}

fn complete(shared: &Shared, publication: &Publication, message: Message) -> Result<Routed, Fault> {
    match message.string_member(&["params", "ref", "type"]).as_deref() {
        Some("ref/prompt") => named(shared, message, &["params", "ref", "name"], |name| {
            publication
                .prompts
                .find(name)
                .ok_or_else(|| unknown("prompt", name, &publication.prompts.hidden))
        }),
        Some("ref/resource") => {
            let uri = message
                .string_member(&["params", "ref", "uri"])
                .ok_or_else(|| Fault::params("`params.ref.uri` must be a string"))?;
            let template = publication.templates.find(&uri);
            let (owner, upstream) = template
                .map(|template| (&*template.server, &*template.upstream))
                .or_else(|| publication.locate(&uri))
                .ok_or_else(|| Fault::params(format!("Unknown resource: {}", shown(&uri))))?;
            let server = handle(shared, owner)?;
            let renamed = (*uri != *upstream).then(|| json_string(upstream));
            drop(uri);
            let mut request = request(message)?;
            if let Some(upstream) = renamed {
                request = request.set(&["params", "ref", "uri"], upstream);
            }
            Ok(Routed { server, request })
        }
        Some(_) | None => Err(Fault::params(
            "`params.ref.type` must be \"ref/prompt\" or \"ref/resource\"",
        )),
    }
}

/// A request as the manager takes it. What stands in the way of its edits is the client's mistake, and told at once.
fn request(message: Message) -> Result<Request, Fault> {
    for path in [&["params"][..], &["params", "_meta"]] {
        let fits = |member: &str| member == "null" || raw::is_object(member);
        if message.member(path).is_some_and(|member| !fits(member)) {
            let place = path.join(".");
            return Err(Fault::params(format!("`{place}` must be an object")));
        }
    }
    Request::from_message(message).map_err(|refusal| Fault::from(&CallError::Refused(refusal)))
}

fn handle(shared: &Shared, name: &str) -> Result<ServerHandle, Fault> {
    let gone = || Fault::from(&CallError::Refused(Refusal::NoSuchServer(name.into())));
    shared.manager.server(name).ok_or_else(gone)
}

/// A tool that is not published. One that is held back is refused as everywhere else.
fn unknown_tool(shared: &Shared, name: &str, hidden: &[Hidden]) -> Fault {
    let held = hidden.iter().find_map(|item| {
        let is_it = mainstay_core::catalog::exposed_name(&item.server, &item.name) == name;
        let server = is_it.then(|| shared.manager.server(&item.server))??;
        server.holds_back(&item.name)
    });
    match held {
        Some(refusal) => Fault::from(&CallError::Refused(refusal)),
        None => unknown("tool", name, hidden),
    }
}

/// A name that is not published; if it was hidden, the reason is told (law 24).
fn unknown(what: &str, name: &str, hidden: &[Hidden]) -> Fault {
    let reason = hidden.iter().find(|item| {
        name.strip_prefix(&item.server)
            .and_then(|rest| rest.strip_prefix("__"))
            .is_some_and(|rest| rest == item.name)
    });
    match reason {
        Some(item) => Fault::params(format!(
            "Unknown {what}: {} (hidden: {})",
            shown(name),
            item.reason
        )),
        None => Fault::params(format!("Unknown {what}: {}", shown(name))),
    }
}
