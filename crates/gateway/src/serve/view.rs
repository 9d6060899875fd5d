//! What one client sees: everybody's publication, or what servers list to clients that declare what it declares.
//!
//! Servers of the legacy era may list more to clients that declare more, on a connection of their own. What such a
//! connection has listed is remembered by the manager; here it is merged into what the client sees on endpoints of several
//! servers, and asked for when nobody knows it yet: beside the client's requests, once for all clients of a kind, and never
//! by starting a server that is not running. Clients that declare nothing share one snapshot, at no cost.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use mainstay::config::Profile;
use mainstay::{
    Audience, CallError, CallOptions, Catalog, ClientFace, Publication, Request, ServerHandle,
};
use mainstay_wire::{Era, Message, meta, method};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::caller::Caller;
use super::discovery::index::Index;

/// Merged views that are kept. Clients of one kind share one, and principals with servers of their own have one each; beyond
/// it the one that was not used for longest is made anew when it is wanted.
const MERGED_MAX: usize = 128;

/// Kinds of clients that are asked about at the same time, for all servers together.
const LOOKS_MAX: usize = 1_024;

/// A server that could not be asked is asked again after this long at the earliest.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Who looks. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    audience: Audience,
    /// What to open a connection with. None: there is none to open.
    face: Option<Arc<ClientFace>>,
    /// Whose request it is.
    caller: Arc<Caller>,
}

impl Viewer {
    /// A client with this face, which has its principal from the caller.
    pub(crate) fn of(caller: &Arc<Caller>, mut face: ClientFace) -> Self {
        face.principal.clone_from(&caller.principal);
        face.subject.clone_from(&caller.subject);
        let audience = Audience::of(&face);
        let has_own = !audience.is_plain() || audience.has_principal();
        Self {
            face: has_own.then(|| Arc::new(face)),
            audience,
            caller: Arc::clone(caller),
        }
    }

    /// The client of a modern request, by what the request says.
    pub(crate) fn of_request(caller: &Arc<Caller>, message: &Message) -> Self {
        match message.member(&meta::in_params(meta::CLIENT_CAPABILITIES)) {
            None | Some("{}") if caller.principal.is_none() => Self {
                caller: Arc::clone(caller),
                ..Self::plain()
            },
            None | Some(_) => Self::of(caller, face_of(caller, message)),
        }
    }

    /// What is said to a client before anybody asks what it can do: for a principal what its own servers say, otherwise what
    /// everybody is told.
    pub(crate) fn as_declaring_nothing(&self) -> Cow<'_, Self> {
        if self.audience.has_principal() {
            Cow::Borrowed(self)
        } else {
            Cow::Owned(Self::plain_of(&self.caller))
        }
    }

    /// Whose request it is.
    pub(crate) fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// The same client, in a request of this caller: the same principal, who may have been identified anew meanwhile.
    pub(crate) fn for_request_of(&self, caller: &Arc<Caller>) -> Cow<'_, Self> {
        if Arc::ptr_eq(&self.caller, caller) {
            return Cow::Borrowed(self);
        }
        let mut own = Self {
            caller: Arc::clone(caller),
            ..self.clone()
        };
        if let Some(face) = &mut own.face
            && caller.subject.is_some()
            && face.subject != caller.subject
        {
            Arc::make_mut(face).subject.clone_from(&caller.subject);
        }
        Cow::Owned(own)
    }

    /// A client of the modern era that declares nothing, of nobody in particular. Costs nothing to make.
    pub(crate) fn plain() -> Self {
        static PLAIN: LazyLock<Viewer> = LazyLock::new(|| {
            let face = ClientFace {
                era: Some(Era::Modern),
                ..ClientFace::default()
            };
            Viewer::of(&Caller::local(), face)
        });
        PLAIN.clone()
    }

    /// The same, in a request of this caller.
    pub(crate) fn plain_of(caller: &Arc<Caller>) -> Self {
        Self {
            caller: Arc::clone(caller),
            ..Self::plain()
        }
    }

    /// Whether servers may list something to this client that they do not list to everybody.
    pub(crate) fn may_differ(&self) -> bool {
        self.face.is_some()
    }

    /// What a server shows to this client where that is not its published catalog.
    pub(crate) fn own(&self, server: &ServerHandle) -> Option<Arc<Catalog>> {
        if self.face.is_none() && !server.is_per_client() {
            return None;
        }
        server.listed_to(&self.audience).own()
    }

    /// Whether a server has a connection for this client's principal: then whatever is the matter with the one that
    /// everybody shares concerns this client not at all (law 27).
    pub(crate) fn is_apart_at(&self, server: &ServerHandle) -> bool {
        self.audience.has_principal() && server.is_per_user()
    }

    /// The handle of such a connection, which is opened if there is none.
    ///
    /// # Errors
    /// What a call would be told.
    pub(crate) async fn handle_at(&self, server: &ServerHandle) -> Result<ServerHandle, CallError> {
        match &self.face {
            Some(face) => server.for_client(face).await,
            None => Ok(server.clone()),
        }
    }
}

/// What a modern request declares about its client.
pub(crate) fn face_of(caller: &Caller, message: &Message) -> ClientFace {
    ClientFace {
        capabilities: message
            .member(&meta::in_params(meta::CLIENT_CAPABILITIES))
            .unwrap_or("{}")
            .into(),
        info: message
            .member(&meta::in_params(meta::CLIENT_INFO))
            .map(Into::into),
        client: None,
        principal: caller.principal.clone(),
        subject: caller.subject.clone(),
        era: Some(Era::Modern),
    }
}

/// The views of all clients that see something else than everybody.
#[derive(Debug)]
pub(crate) struct Views {
    merged: Mutex<Vec<Merged>>,
    parts: Mutex<Vec<Part>>,
    /// For finding tools in them.
    pub(super) indexes: Mutex<Vec<Arc<Index>>>,
    looks: Mutex<HashMap<(Box<str>, Audience), Look>>,
    /// What is looked at with every request.
    facts: ArcSwapOption<Facts>,
    own: watch::Receiver<u64>,
}

/// What an audience sees, as long as neither the publication nor any further connection's listing has changed.
#[derive(Debug)]
struct Merged {
    audience: Audience,
    of: Arc<Publication>,
    own_version: u64,
    view: Arc<Publication>,
}

/// What an audience sees of a profile, as long as it sees the same of all servers.
#[derive(Debug)]
struct Part {
    profile: Arc<Profile>,
    audience: Option<Audience>,
    of: Arc<Publication>,
    view: Arc<Publication>,
}

/// Somebody asks a server what it lists to an audience, or could not.
#[derive(Debug, Clone)]
enum Look {
    Running {
        since: Instant,
        over: CancellationToken,
    },
    Failed(Instant),
}

impl Views {
    /// `own` says when further connections have listed.
    pub(crate) fn new(own: watch::Receiver<u64>) -> Self {
        Self {
            merged: Mutex::default(),
            parts: Mutex::default(),
            indexes: Mutex::default(),
            looks: Mutex::default(),
            facts: ArcSwapOption::empty(),
            own,
        }
    }

    /// Says when further connections have listed, as a level.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.own.clone()
    }

    fn facts(&self, shared: &Shared, publication: &Arc<Publication>) -> Arc<Facts> {
        let own_version = *self.own.borrow();
        if let Some(known) = &*self.facts.load()
            && Arc::ptr_eq(&known.of, publication)
            && known.own_version == own_version
        {
            return Arc::clone(known);
        }
        let servers = shared.manager.servers();
        let is_listed = |server: &ServerHandle| publication.servers.contains_key(server.name());
        let facts = Arc::new(Facts {
            of: Arc::clone(publication),
            own_version,
            any_per_client: servers.iter().any(ServerHandle::is_per_client),
            per_user: servers
                .iter()
                .filter(|server| server.is_per_user())
                .map(|server| server.name().into())
                .collect(),
            all_listed: servers.iter().all(is_listed),
        });
        self.facts.store(Some(Arc::clone(&facts)));
        facts
    }
}

/// What holds as long as neither the publication, nor a further connection's listing, nor the settings have changed.
#[derive(Debug)]
struct Facts {
    of: Arc<Publication>,
    own_version: u64,
    /// Some server keeps a connection for each client.
    any_per_client: bool,
    /// These keep one for each principal.
    per_user: Vec<Box<str>>,
    /// All servers are in the publication.
    all_listed: bool,
}

/// Clients of which kind see what this one sees; none if that is what everybody sees. A principal's view is nobody else's,
/// where any server lists to each principal by itself.
fn kind_of(shared: &Shared, publication: &Arc<Publication>, who: &Viewer) -> Option<Audience> {
    if who.face.is_none() && !who.audience.has_client() {
        return None;
    }
    let facts = shared.views.facts(shared, publication);
    if who.face.is_none() && !facts.any_per_client {
        return None;
    }
    let mut audience = who.audience.clone();
    if !facts.any_per_client {
        audience = audience.at_large();
    }
    if facts.per_user.is_empty() {
        audience = audience.of_nobody();
    }
    (!audience.is_plain() || audience.has_client() || audience.has_principal()).then_some(audience)
}

/// What a client sees of a profile.
pub(crate) fn of_profile(
    shared: &Shared,
    who: &Viewer,
    profile: &Arc<Profile>,
) -> Arc<Publication> {
    let audience = kind_of(shared, &shared.manager.publication(), who);
    let of = of_all(shared, who);
    let is_it = |part: &Part| part.audience == audience && *part.profile == **profile;
    let mut parts = lock(&shared.views.parts);
    if let Some(at) = parts.iter().position(is_it) {
        let known = parts.remove(at);
        if Arc::ptr_eq(&known.of, &of) {
            let view = Arc::clone(&known.view);
            parts.push(known);
            return view;
        }
    }
    drop(parts);
    let part = of.part(
        |server| profile.has_server(server),
        |tool| profile.has_tool(tool),
    );
    let view = Arc::new(part);
    let mut parts = lock(&shared.views.parts);
    parts.retain(|part| !is_it(part));
    if parts.len() >= MERGED_MAX {
        parts.remove(0);
    }
    parts.push(Part {
        profile: Arc::clone(profile),
        audience,
        of,
        view: Arc::clone(&view),
    });
    view
}

/// What a client sees of all servers.
pub(crate) fn of_all(shared: &Shared, who: &Viewer) -> Arc<Publication> {
    let publication = shared.manager.publication();
    let views = &shared.views;
    let Some(audience) = kind_of(shared, &publication, who) else {
        return publication;
    };
    // Before anything is looked at: what changes meanwhile makes the view a stale one.
    let own_version = *views.own.borrow();
    let mut merged = lock(&views.merged);
    let known = merged.iter().position(|merged| merged.audience == audience);
    if let Some(at) = known {
        let known = merged.remove(at);
        if Arc::ptr_eq(&known.of, &publication) && known.own_version == own_version {
            let view = Arc::clone(&known.view);
            merged.push(known);
            return view;
        }
    }
    drop(merged);
    let facts = views.facts(shared, &publication);
    let is_apart = |name: &str| {
        audience.has_principal() && facts.per_user.iter().any(|apart| **apart == *name)
    };
    let apart = facts.per_user.iter().filter(|name| is_apart(name));
    let own: BTreeMap<Box<str>, Arc<Catalog>> = publication
        .servers
        .keys()
        .chain(apart)
        .filter_map(|name| {
            let server = shared.manager.server(name)?;
            Some((name.clone(), server.listed_to(&audience).own()?))
        })
        .collect();
    let view = if own.is_empty() {
        Arc::clone(&publication)
    } else {
        Arc::new(publication.with_apart(&own, is_apart))
    };
    let mut merged = lock(&views.merged);
    merged.retain(|merged| merged.audience != audience);
    if merged.len() >= MERGED_MAX {
        merged.remove(0);
    }
    merged.push(Merged {
        audience,
        of: publication,
        own_version,
        view: Arc::clone(&view),
    });
    view
}

/// Sees to it that somebody asks the servers what they list to this client, where nobody knows. Waits for nothing.
pub(crate) fn look(shared: &Arc<Shared>, servers: &[ServerHandle], who: &Viewer) {
    for server in servers {
        drop(begin(shared, server, who));
    }
}

/// The same, and waits until they have answered, but at most `grace` from when they were asked first: a slow server costs
/// clients of a kind that much once (law 27).
pub(crate) async fn looked(
    shared: &Arc<Shared>,
    servers: &[ServerHandle],
    who: &Viewer,
    grace: Duration,
) {
    let running: Vec<_> = servers
        .iter()
        .filter_map(|server| begin(shared, server, who))
        .collect();
    over(shared, running, grace).await;
}

/// Waits until all of these are over, each at most `grace` from its beginning.
async fn over(shared: &Shared, running: Vec<(Instant, CancellationToken)>, grace: Duration) {
    for (since, over) in running {
        tokio::select! {
            // Cancel-safe: tokens and sleeps hold nothing.
            () = over.cancelled() => {}
            () = tokio::time::sleep_until(since + grace) => {}
            () = shared.ending.cancelled() => return,
        }
    }
}

/// Whether all servers have listed: then nobody needs to be waited for.
pub(crate) fn all_listed(shared: &Shared) -> bool {
    let publication = shared.manager.publication();
    shared.views.facts(shared, &publication).all_listed
}

/// Starts servers that start on demand and have never listed, once, so that it becomes known what they list. Waits for them
/// as [`looked`] does.
pub(crate) async fn started(
    shared: &Arc<Shared>,
    servers: &[ServerHandle],
    who: &Viewer,
    grace: Duration,
) {
    let publication = shared.manager.publication();
    let never = servers.iter().filter(|server| {
        !publication.servers.contains_key(server.name())
            // A principal is listed what its own connection lists.
            && !who.is_apart_at(server)
            && server.status().state == "idle"
    });
    let key = |server: &ServerHandle| (Box::from(server.name()), Viewer::plain().audience);
    let running: Vec<_> = never
        .filter_map(|server| {
            let asked = server.clone();
            let start = async move {
                // Whatever it answers: its catalog comes from its own listing.
                let request = Request::new(method::TOOLS_LIST, Some("{}"));
                drop(asked.request(request, CallOptions::default()).await);
                true
            };
            spawn(shared, key(server), start)
        })
        .collect();
    over(shared, running, grace).await;
}

/// Begins to ask a server, if there is something to ask it: since when it is asked, and when that is over.
fn begin(
    shared: &Arc<Shared>,
    server: &ServerHandle,
    who: &Viewer,
) -> Option<(Instant, CancellationToken)> {
    let face = who.face.as_ref()?;
    if !server.listed_to(&who.audience).is_doubtful() {
        return None;
    }
    let is_apart = who.is_apart_at(server);
    let audience = match (server.is_per_client(), is_apart) {
        (true, _) => who.audience.of_nobody(),
        (false, true) => who.audience.at_large(),
        (false, false) => who.audience.at_large().of_nobody(),
    };
    let key = (Box::from(server.name()), audience);
    // To list is no reason to start a server, and one that is parked is not helped by it. A principal's connection is another
    // matter: nothing else can say what is listed to it.
    let state = server.status().state;
    let is_there = matches!(state, "connected" | "connecting" | "backoff");
    if state == "disabled" || !(is_there || is_apart) {
        return None;
    }
    let (server, face, audience) = (server.clone(), Arc::clone(face), who.audience.clone());
    let learn = async move {
        if let Err(error) = server.learn(&face).await {
            tracing::debug!(server = server.name(), %error, "what it lists to a client could not be learnt");
        }
        !server.listed_to(&audience).is_doubtful()
    };
    spawn(shared, key, learn)
}

/// Runs this beside everything else, unless it runs already or has failed a moment ago: since when it runs, and its end.
fn spawn(
    shared: &Arc<Shared>,
    key: (Box<str>, Audience),
    work: impl Future<Output = bool> + Send + 'static,
) -> Option<(Instant, CancellationToken)> {
    let mut looks = lock(&shared.views.looks);
    match looks.get(&key) {
        Some(Look::Running { since, over }) => return Some((*since, over.clone())),
        Some(Look::Failed(at)) if at.elapsed() < LOOK_AGAIN => return None,
        Some(Look::Failed(_)) | None => {}
    }
    looks.retain(|_, look| match look {
        Look::Running { .. } => true,
        Look::Failed(at) => at.elapsed() < LOOK_AGAIN,
    });
    if looks.len() >= LOOKS_MAX {
        return None;
    }
    let (since, over) = (Instant::now(), CancellationToken::new());
    let running = Look::Running {
        since,
        over: over.clone(),
    };
    looks.insert(key.clone(), running);
    drop(looks);
    let shared = Arc::clone(shared);
    let ends = over.clone().drop_guard();
    shared.tasks.clone().spawn(async move {
        let found = tokio::select! {
            // Cancel-safe: nobody waits for its outcome, only for its end.
            found = work => found,
            // Cancel-safe: a token holds nothing.
            () = shared.ending.cancelled() => false,
        };
        let mut looks = lock(&shared.views.looks);
        if found {
            looks.remove(&key);
        } else {
            looks.insert(key, Look::Failed(Instant::now()));
        }
        drop(looks);
        drop(ends);
    });
    Some((since, over))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
