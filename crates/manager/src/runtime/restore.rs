//! Tells every new connection what the user of the library wants the server to keep in mind (law 25, F110): log level,
//! subscriptions, roots. Runs beside the calls of a generation that serves, and never delays one.
//!
//! A server that refuses is an event and is asked again; it is never a reason to call the connection dead.

use std::collections::BTreeSet;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::time::Duration;

use mainstay_wire::codes;
use mainstay_wire::envelope::Message;
use mainstay_wire::method;
use mainstay_wire::revision::Era;
use mainstay_wire::splice::json_string;
use mainstay_wire::views::{ErrorView, ListenFilter};
use tokio::sync::watch;
use tokio::time::Instant;

use super::greeting::{OUR_CAPABILITIES, our_info};
use super::{Cut, Limits, Miss, Runtime};
use crate::events::{EventKind, Events};
use crate::request::Request;
use crate::wishes::{Declined, LogLevel, Wanted};

/// How long one request of ours may take.
const REQUEST: Duration = Duration::from_secs(10);

/// The pause before what failed is tried again: doubling between these bounds, so that a server that refuses for good is
/// asked, and its refusal told, about once a minute.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A listen stream that lived this long was worth opening.
const WORTH: Duration = Duration::from_secs(30);

/// A listen stream that is not acknowledged in this time is taken as it is.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);

/// A listen stream has no end of its own.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What one generation was told in its greeting, and what it acknowledged.
#[derive(Debug)]
pub(crate) struct Told {
    /// The version of the roots when they were declared; 0: they were not.
    roots_version: OnceLock<u64>,
    /// How many listen streams of ours were acknowledged, and what the newest one grants.
    acknowledged: watch::Sender<(u64, ListenFilter)>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            roots_version: OnceLock::new(),
            acknowledged: watch::Sender::new((0, ListenFilter::default())),
        }
    }
}

impl Told {
    /// The version of the roots that this generation was greeted with, if it was told that there are any.
    pub(crate) fn roots_version(&self) -> Option<u64> {
        self.roots_version
            .get()
            .copied()
            .filter(|version| *version > 0)
    }

    /// The first message of a listen stream came. Never blocks; the read loop calls it.
    pub(crate) fn acknowledge(&self, message: &Message) {
        let granted = ListenFilter::of(message).unwrap_or_default();
        self.acknowledged
            .send_modify(|(times, filter)| (*times, *filter) = (*times + 1, granted));
    }
}

impl Runtime {
    /// What we declare of ourselves in a legacy greeting. Decided once per generation: what is not declared is not asked.
    pub(crate) fn declare(&self) -> String {
        if let Some(face) = &self.face {
            return face.capabilities.to_string();
        }
        let version = || self.wishes.wanted().roots_version;
        if *self.told.roots_version.get_or_init(version) > 0 {
            "{\"roots\":{\"listChanged\":true}}".to_owned()
        } else {
            OUR_CAPABILITIES.to_owned()
        }
    }

    /// Who we say we are in a legacy greeting: the client that this connection is for, or ourselves.
    pub(crate) fn introduce(&self) -> String {
        let info = self.face.as_ref().and_then(|face| face.info.as_deref());
        info.map_or_else(our_info, str::to_owned)
    }
}

/// Something that the server was not told.
struct Trouble {
    what: &'static str,
    detail: String,
}

/// Keeps telling the server of one generation what is wished for. Never ends by itself; cancel-safe: what was not told is
/// told by the next generation.
pub(crate) async fn restore(events: &Events, runtime: &Runtime) {
    let Some(greeting) = runtime.greeting() else {
        return std::future::pending().await;
    };
    let restorer = Restorer {
        events,
        runtime,
        watch: runtime.wishes.watch(),
        pause: PAUSE_MIN,
        subscribes: greeting.may_subscribe(),
        declared: greeting.can_subscribe(),
        logs: greeting.declares("logging"),
        said_unable: false,
    };
    match greeting.revision.era() {
        Era::Legacy => restorer.legacy().await,
        Era::Modern => restorer.modern().await,
    }
}

/// What a generation of the legacy era was told so far.
#[derive(Default)]
struct Applied {
    level: Option<LogLevel>,
    uris: BTreeSet<Box<str>>,
    roots_version: u64,
}

struct Restorer<'a> {
    events: &'a Events,
    runtime: &'a Runtime,
    watch: watch::Receiver<u64>,
    pause: Duration,
    subscribes: bool,
    /// It said so itself.
    declared: bool,
    logs: bool,
    said_unable: bool,
}

impl Restorer<'_> {
    async fn legacy(mut self) {
        let mut applied = Applied {
            roots_version: self.runtime.told.roots_version().unwrap_or(0),
            ..Applied::default()
        };
        loop {
            self.watch.borrow_and_update();
            let wanted = self.runtime.wishes.wanted();
            match self.apply(&wanted, &mut applied).await {
                None => self.rest(&wanted).await,
                Some(trouble) => self.again(trouble).await,
            }
        }
    }

    /// Tells what differs from what was told; the first trouble, if there was any. One refusal does not keep the others.
    async fn apply(&mut self, wanted: &Wanted, applied: &mut Applied) -> Option<Trouble> {
        let mut trouble = None;
        if let Some(level) = wanted.level
            && self.logs
            && applied.level != Some(level)
        {
            let params = format!("{{\"level\":{}}}", json_string(level.as_str()));
            match self.ask(method::SET_LEVEL, &params).await {
                Ok(()) => applied.level = Some(level),
                Err(why) => {
                    trouble.get_or_insert(Trouble {
                        what: "log-level",
                        detail: why.message,
                    });
                }
            }
        }
        let declared = self.runtime.told.roots_version().is_some();
        if declared && applied.roots_version != wanted.roots_version {
            // Best effort, like every notification; a server that missed it asks when it is greeted again.
            self.runtime
                .tell(Message::notification(method::ROOTS_LIST_CHANGED, None))
                .await;
            applied.roots_version = wanted.roots_version;
        }
        if self.subscribes {
            self.apply_subscriptions(wanted, applied, &mut trouble)
                .await;
        } else if !wanted.uris.is_empty() {
            self.say_unable(wanted);
        }
        trouble
    }

    async fn apply_subscriptions(
        &mut self,
        wanted: &Wanted,
        applied: &mut Applied,
        trouble: &mut Option<Trouble>,
    ) {
        let gone: Vec<_> = applied.uris.difference(&wanted.uris).cloned().collect();
        for uri in gone {
            // Whatever it answers: nobody listens to this resource any more.
            let _ = self.ask(method::UNSUBSCRIBE, &named(&uri)).await;
            applied.uris.remove(&uri);
        }
        let fresh: Vec<_> = wanted.uris.difference(&applied.uris).cloned().collect();
        for uri in fresh {
            match self.ask(method::SUBSCRIBE, &named(&uri)).await {
                Ok(()) => {
                    self.runtime
                        .wishes
                        .subscribed(&uri, self.runtime.generation);
                    applied.uris.insert(uri);
                }
                Err(why) if why.code == Some(codes::METHOD_NOT_FOUND) && !self.declared => {
                    self.subscribes = false;
                    return self.say_unable(wanted);
                }
                Err(why) => {
                    trouble.get_or_insert(refused(&uri, &why.message));
                    // Only the server's own word counts: a request that was lost is none.
                    if why.code.is_some() {
                        self.decline(&uri, why);
                    }
                }
            }
        }
    }

    /// In the modern era the log level goes with every request and subscriptions are the filter of one listen stream.
    async fn modern(mut self) {
        // Heard on an earlier stream of this generation: nothing is replayed, so a new stream leaves a gap (F130).
        let mut heard = BTreeSet::new();
        let mut standing = None;
        loop {
            self.watch.borrow_and_update();
            let wanted = self.runtime.wishes.wanted();
            // Who comes back to a resource has missed nothing that was ever promised.
            heard.retain(|uri| wanted.uris.contains(uri));
            if wanted.uris.is_empty() || !self.subscribes {
                standing = None;
                if !wanted.uris.is_empty() {
                    self.say_unable(&wanted);
                }
                self.rest(&wanted).await;
                continue;
            }
            let opened = Instant::now();
            match self.listen(&wanted, &mut heard, standing.take()).await {
                Listened::Changed(stream) => standing = Some(stream),
                Listened::Unsupported => {
                    self.say_unable(&wanted);
                    self.rest(&wanted).await;
                }
                Listened::Ended(detail) => {
                    if opened.elapsed() >= WORTH {
                        self.pause = PAUSE_MIN;
                    }
                    let what = "subscription";
                    self.again(Trouble { what, detail }).await;
                }
            }
        }
    }

    /// Opens a listen stream and holds it until it ends or the wishes change. A filter cannot be changed, so a stream that
    /// stands goes on until the new one is acknowledged: in between nothing is missed.
    async fn listen<'r>(
        &mut self,
        wanted: &Wanted,
        heard: &mut BTreeSet<Box<str>>,
        mut standing: Option<Standing<'r>>,
    ) -> Listened<'r>
    where
        Self: 'r,
    {
        let mut acknowledged = self.runtime.told.acknowledged.subscribe();
        acknowledged.borrow_and_update();
        let mut stream = open(self.runtime, wanted);
        let settled = tokio::time::sleep(ACKNOWLEDGED);
        let mut settled = pin!(settled);
        // A change that comes while the stream is opening waits, else streams would pile up.
        let mut open = false;
        loop {
            tokio::select! {
                // Cancel-safe: pinned, and dropped only with its end.
                ended = &mut stream => return judge(ended),
                // Cancel-safe: pinned. Its end leaves a gap until the new stream is acknowledged.
                () = over(&mut standing), if standing.is_some() => standing = None,
                // Cancel-safe: a watch is a level. Its sender lives as long as the slot.
                _changed = self.watch.changed(), if open => {
                    let uris = wanted.uris.clone();
                    return Listened::Changed(Standing { stream, uris });
                }
                // Cancel-safe: pinned. Servers that acknowledge nothing are listened to all the same.
                () = &mut settled, if !open => {
                    open = true;
                    standing = None;
                }
                // Cancel-safe: a watch is a level, and its sender lives as long as the runtime.
                _told = acknowledged.changed() => {
                    let granted = acknowledged.borrow_and_update().1.clone();
                    let covered = standing.take().map(|old| old.uris).unwrap_or_default();
                    self.granted(wanted, &granted, heard, &covered);
                    open = true;
                }
            }
        }
    }

    /// The server says what it will tell. `covered` was told all the time.
    fn granted(
        &self,
        wanted: &Wanted,
        granted: &ListenFilter,
        heard: &mut BTreeSet<Box<str>>,
        covered: &BTreeSet<Box<str>>,
    ) {
        let generation = self.runtime.generation;
        for uri in &wanted.uris {
            if !granted.uris.iter().any(|one| **one == **uri) {
                let message = "the server did not take it on".to_owned();
                self.emit(refused(uri, &message), None);
                self.decline(
                    uri,
                    Declined {
                        code: None,
                        message,
                    },
                );
                continue;
            }
            self.runtime.wishes.subscribed(uri, generation);
            if !heard.insert(uri.clone()) && !covered.contains(uri) {
                self.runtime.wishes.updated(uri, true);
            }
        }
        self.runtime.wishes.fulfil(generation, wanted.version);
    }

    fn decline(&self, uri: &str, why: Declined) {
        let generation = self.runtime.generation;
        self.runtime.wishes.declined(uri, generation, why);
    }

    /// Everything is told: wait for another wish.
    async fn rest(&mut self, wanted: &Wanted) {
        self.pause = PAUSE_MIN;
        self.runtime
            .wishes
            .fulfil(self.runtime.generation, wanted.version);
        if self.watch.changed().await.is_err() {
            // Nobody can wish any more.
            std::future::pending().await
        }
    }

    /// Tells of trouble and waits until it is time to try again, or until something else is wished for.
    async fn again(&mut self, trouble: Trouble) {
        self.emit(trouble, Some(self.pause));
        // Elapsed or changed: either way it is time.
        let _ = tokio::time::timeout(self.pause, self.watch.changed()).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// The server has no such thing: told once per generation, and not tried.
    fn say_unable(&mut self, wanted: &Wanted) {
        for uri in &wanted.uris {
            let why = Declined {
                code: Some(codes::METHOD_NOT_FOUND),
                message: "the server offers no resource subscriptions".to_owned(),
            };
            self.decline(uri, why);
        }
        if !std::mem::replace(&mut self.said_unable, true) {
            let detail = "the server offers no resource subscriptions".to_owned();
            let what = "subscription";
            self.emit(Trouble { what, detail }, None);
        }
    }

    fn emit(&self, trouble: Trouble, again: Option<Duration>) {
        let Trouble { what, detail } = trouble;
        let runtime = self.runtime;
        tracing::debug!(server = %runtime.server, generation = runtime.generation.0, what, detail, "not restored");
        let again_in_ms = again.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        let kind = EventKind::RestoreFailed {
            what,
            detail,
            again_in_ms,
        };
        self.events
            .emit(&runtime.server, runtime.generation.0, kind);
    }

    /// One request and whether the server agreed; its words if not.
    async fn ask(&self, method: &str, params: &str) -> Result<(), Declined> {
        let limits = Limits {
            deadline: Instant::now() + REQUEST,
            idle: REQUEST,
        };
        let request = Request::new(method, Some(params));
        match self.runtime.ask(&request, limits).await {
            Ok(answer) if answer.result().is_some() => Ok(()),
            Ok(answer) => Err(Declined {
                code: ErrorView::of(&answer).map(|error| error.code.unwrap_or_default()),
                message: error_words(&answer),
            }),
            Err(miss) => Err(Declined {
                code: None,
                message: miss_words(&miss),
            }),
        }
    }
}

/// The exchange of a listen request.
type Stream<'r> = Pin<Box<dyn Future<Output = Result<Message, Miss>> + Send + 'r>>;

/// A listen stream that is open. Dropping it cancels it at the server.
struct Standing<'r> {
    stream: Stream<'r>,
    uris: BTreeSet<Box<str>>,
}

fn open<'r>(runtime: &'r Runtime, wanted: &Wanted) -> Stream<'r> {
    let filter = ListenFilter {
        uris: wanted.uris.iter().map(ToString::to_string).collect(),
        ..ListenFilter::default()
    };
    let params = format!("{{\"notifications\":{}}}", filter.render());
    let request = Request::new(method::LISTEN, Some(&params));
    let limits = Limits {
        deadline: Instant::now() + FOR_EVER,
        idle: FOR_EVER,
    };
    Box::pin(async move { runtime.ask(&request, limits).await })
}

/// Resolves when the stream has ended, however.
async fn over(standing: &mut Option<Standing<'_>>) {
    match standing {
        // Whatever ended it: the stream that takes its place is on its way.
        Some(standing) => drop((&mut standing.stream).await),
        None => std::future::pending().await,
    }
}

/// How a listen stream ended.
enum Listened<'r> {
    /// The wishes have changed; it stands until another takes its place.
    Changed(Standing<'r>),
    /// The server knows no such thing (F131).
    Unsupported,
    /// In words.
    Ended(String),
}

fn judge<'r>(ended: Result<Message, Miss>) -> Listened<'r> {
    match ended {
        Ok(answer) if answer.result().is_some() => {
            Listened::Ended("the server ended the listen stream".to_owned())
        }
        Ok(answer) => match ErrorView::of(&answer).and_then(|error| error.code) {
            Some(codes::METHOD_NOT_FOUND | codes::INVALID_PARAMS | codes::INVALID_REQUEST) => {
                Listened::Unsupported
            }
            Some(_) | None => Listened::Ended(error_words(&answer)),
        },
        Err(miss) => Listened::Ended(miss_words(&miss)),
    }
}

fn named(uri: &str) -> String {
    format!("{{\"uri\":{}}}", json_string(uri))
}

fn refused(uri: &str, words: &str) -> Trouble {
    let uri: String = uri.chars().take(200).collect();
    Trouble {
        what: "subscription",
        detail: format!("{uri}: {words}"),
    }
}

fn error_words(answer: &Message) -> String {
    let words = ErrorView::of(answer)
        .map_or_else(|| "an unreadable error".to_owned(), |error| error.message);
    words.chars().take(300).collect()
}

fn miss_words(miss: &Miss) -> String {
    match miss {
        Miss::NotSent(Cut::Ended(failure))
        | Miss::Rejected(failure)
        | Miss::Doubted(failure)
        | Miss::Lost(Cut::Ended(failure)) => failure.to_string(),
        Miss::NotSent(Cut::Idle | Cut::Total) | Miss::Lost(Cut::Idle | Cut::Total) => {
            "no answer in time".to_owned()
        }
        Miss::NotSent(Cut::AnswerRefused(why) | Cut::Cancelled(why))
        | Miss::Lost(Cut::AnswerRefused(why) | Cut::Cancelled(why)) => why.to_string(),
    }
}
