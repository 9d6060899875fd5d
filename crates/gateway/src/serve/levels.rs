//! Log levels: what each client wants to hear, and what servers are told because of it.
//!
//! A server of the legacy era has one level for its whole connection, which many clients share: it is told the lowest
//! level that anybody wants now, and a higher one again when those have gone. A server of the modern era is told with
//! every request. Each client hears only what belongs to its own calls, from its own level on ([`Ear::hears`]); what
//! belongs to no call goes to nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mainstay::{LogLevel, Principal, PrincipalWishes, ServerHandle};
use mainstay_wire::{Era, Message, json_string, meta, method};
use tokio::time::Instant;

use super::Shared;
use super::endpoint::Routed;
use super::fault::Fault;
use super::profiles;
use super::sessions::Session;

/// What a server is told when nobody wants a level any more, and what a session hears that never asked for one once
/// somebody else has.
const ORDINARY: LogLevel = LogLevel::Info;

/// How long a level that was wanted by one call only stays in force: calls of one client come in rows.
const LINGER: Duration = Duration::from_secs(10);

/// How long a call waits for its server to be told a new level. The call goes on without.
const TELL: Duration = Duration::from_secs(1);

/// Who wants which level.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By server, or for all of them: sessions on the aggregate want their level of every server. Each wish is counted for
    /// everybody, whose lowest level shared connections are told, and for whoever has it, whose own connections are.
    wanted: HashMap<(Option<Box<str>>, Whose), Counts>,
    /// What servers were told.
    told: HashMap<(Box<str>, Whose), Told>,
    /// Until when levels of calls that are over stay in force.
    lingering: HashMap<Lingering, Instant>,
}

/// Whose wishes a connection follows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Whose {
    /// Everybody's: many share it.
    Everybodys,
    /// A principal's, or those of nobody in particular: a server that keeps a connection for each (`scope: "user"`).
    Ones(Option<Principal>),
}

impl Whose {
    /// Whose wishes count where this one calls a server.
    fn at(server: &ServerHandle, principal: Option<&Principal>) -> Self {
        if server.is_per_user() {
            Self::Ones(principal.cloned())
        } else {
            Self::Everybodys
        }
    }
}

/// What a server was told.
#[derive(Debug)]
struct Told {
    level: LogLevel,
    /// Keeps a principal's wishes, whether or not there is a connection.
    _wishes: Option<PrincipalWishes>,
}

/// A wish that outlives its call for a while.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Lingering {
    server: Box<str>,
    principal: Option<Principal>,
    level: LogLevel,
}

/// How many want each level.
#[derive(Debug, Default, Clone, Copy)]
struct Counts([usize; LogLevel::ALL.len()]);

impl Counts {
    fn of(&mut self, level: LogLevel) -> &mut usize {
        let at = LogLevel::ALL.iter().position(|one| *one == level);
        // `ALL` is all of them.
        &mut self.0[at.unwrap_or_default()]
    }

    fn lowest(&self) -> Option<LogLevel> {
        let wanted = LogLevel::ALL.into_iter().zip(self.0);
        wanted
            .filter(|(_, count)| *count > 0)
            .map(|(level, _)| level)
            .min()
    }
}

impl Inner {
    fn add(&mut self, server: Option<&str>, principal: Option<&Principal>, level: LogLevel) {
        for whose in [Whose::Everybodys, Whose::Ones(principal.cloned())] {
            let key = (server.map(Into::into), whose);
            *self.wanted.entry(key).or_default().of(level) += 1;
        }
    }

    fn release(&mut self, server: Option<&str>, principal: Option<&Principal>, level: LogLevel) {
        for whose in [Whose::Everybodys, Whose::Ones(principal.cloned())] {
            let key = (server.map(Into::into), whose);
            if let Some(counts) = self.wanted.get_mut(&key) {
                let count = counts.of(level);
                *count = count.saturating_sub(1);
                if counts.lowest().is_none() {
                    self.wanted.remove(&key);
                }
            }
        }
    }

    /// Tells a server what it is to be told now, if that is something else than it was.
    fn apply(&mut self, server: &ServerHandle, principal: Option<&Principal>) {
        let whose = Whose::at(server, principal);
        let of = |place: Option<Box<str>>| self.wanted.get(&(place, whose.clone()));
        let lowest = [of(None), of(Some(server.name().into()))];
        let wanted = lowest
            .into_iter()
            .flatten()
            .filter_map(Counts::lowest)
            .min();
        let key = (server.name().into(), whose);
        let told = self.told.get(&key).map(|told| told.level);
        let Some(level) = wanted.or(told.map(|_| ORDINARY)) else {
            return;
        };
        let Whose::Ones(Some(principal)) = &key.1 else {
            if told != Some(level) {
                self.told.insert(
                    key,
                    Told {
                        level,
                        _wishes: None,
                    },
                );
                server.set_log_level(level);
            }
            return;
        };
        if told != Some(level) {
            let wishes = server.wishes_of(principal);
            wishes.set_log_level(level);
            self.told.insert(
                key.clone(),
                Told {
                    level,
                    _wishes: Some(wishes),
                },
            );
        }
        // Nobody wants anything any more: then nothing is to be kept.
        if wanted.is_none() {
            self.told.remove(&key);
        }
    }

    fn told(&self, server: &ServerHandle, principal: Option<&Principal>) -> Option<LogLevel> {
        // Nearly always: it is looked at with every call.
        if self.told.is_empty() {
            return None;
        }
        let key = (server.name().into(), Whose::at(server, principal));
        self.told.get(&key).map(|told| told.level)
    }
}

impl Levels {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One wish for a level; taken back when dropped.
#[derive(Debug)]
pub(crate) struct LevelLease {
    shared: Weak<Shared>,
    /// None: of every server.
    server: Option<Box<str>>,
    principal: Option<Principal>,
    level: LogLevel,
    lingers: bool,
}

impl LevelLease {
    fn new(
        shared: &Arc<Shared>,
        server: Option<&str>,
        principal: Option<&Principal>,
        (level, lingers): (LogLevel, bool),
    ) -> Self {
        shared.levels.lock().add(server, principal, level);
        let lease = Self {
            shared: Arc::downgrade(shared),
            server: server.map(Into::into),
            principal: principal.cloned(),
            level,
            lingers,
        };
        lease.apply(shared);
        lease
    }

    fn apply(&self, shared: &Shared) {
        let concerned = match &self.server {
            Some(server) => shared.manager.server(server).into_iter().collect(),
            None => shared.manager.servers(),
        };
        for server in concerned {
            // Of either era: a server that speaks both has legacy connections beside its modern one.
            if facts(shared, &server).is_some() {
                let mut levels = shared.levels.lock();
                levels.apply(&server, self.principal.as_ref());
            }
        }
    }

    fn linger(&self, shared: &Arc<Shared>, server: &str) {
        let until = Instant::now() + LINGER;
        let principal = self.principal.as_ref();
        let key = Lingering {
            server: server.into(),
            principal: principal.cloned(),
            level: self.level,
        };
        let mut inner = shared.levels.lock();
        if let Some(lingering) = inner.lingering.get_mut(&key) {
            *lingering = until;
            inner.release(Some(server), principal, self.level);
            return;
        }
        inner.lingering.insert(key.clone(), until);
        drop(inner);
        shared.tasks.spawn(lingering(Arc::downgrade(shared), key));
    }
}

impl Drop for LevelLease {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        match &self.server {
            Some(server)
                if self.lingers
                    && !shared.ending.is_cancelled()
                    && tokio::runtime::Handle::try_current().is_ok() =>
            {
                self.linger(&shared, server);
            }
            server => {
                let principal = self.principal.as_ref();
                let mut levels = shared.levels.lock();
                levels.release(server.as_deref(), principal, self.level);
                drop(levels);
                self.apply(&shared);
            }
        }
    }
}

/// Keeps a level in force for a while after the last call that wanted it, then takes it back.
async fn lingering(shared: Weak<Shared>, key: Lingering) {
    loop {
        let (until, ending) = {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            let Some(until) = shared.levels.lock().lingering.get(&key).copied() else {
                return;
            };
            (until, shared.ending.clone())
        };
        tokio::select! {
            // Cancel-safe: sleeps and tokens hold nothing.
            () = tokio::time::sleep_until(until) => {}
            () = ending.cancelled() => return,
        }
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let mut inner = shared.levels.lock();
        let extended = inner.lingering.get(&key).is_some_and(|now| *now > until);
        if extended {
            continue;
        }
        inner.lingering.remove(&key);
        let principal = key.principal.as_ref();
        inner.release(Some(&key.server), principal, key.level);
        drop(inner);
        if let Some(server) = shared.manager.server(&key.server) {
            shared.levels.lock().apply(&server, principal);
        }
        return;
    }
}

/// The era of a server that sends log messages; `None` if it sends none, or was never greeted.
fn facts(shared: &Shared, server: &ServerHandle) -> Option<Era> {
    let publication = shared.manager.publication();
    let Some(catalog) = publication.servers.get(server.name()) else {
        // It may have greeted principals only: then it is told, whether or not it sends any.
        return server.known_era().filter(|_| server.is_per_user());
    };
    let greeting = &catalog.greeting;
    greeting
        .declares("logging")
        .then(|| greeting.revision.era())
}

/// A session's wish, which ends with the session.
#[derive(Debug, Default)]
pub(crate) struct SessionLevel(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// One for each server that is to be told; one without a name for all of them.
    leases: Vec<LevelLease>,
    ended: bool,
}

impl SessionLevel {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session has ended.
    pub(crate) fn close(&self) {
        let mut held = self.lock();
        held.ended = true;
        held.leases.clear();
    }
}

/// Answers `logging/setLevel` of a session. On one server's endpoint a moment is waited until that server is told.
pub(crate) async fn set(
    shared: &Arc<Shared>,
    session: &Session,
    message: &Message,
) -> Result<(), Fault> {
    let word = message.string_member(&["params", "level"]);
    let level = word.as_deref().and_then(LogLevel::parse);
    let level = level.ok_or_else(|| wrong("`params.level`"))?;
    let at = LogLevel::ALL.iter().position(|one| *one == level);
    // There are eight.
    session.set_log_level(at.and_then(|at| u8::try_from(at).ok()).unwrap_or_default());
    hold(shared, session, level);
    let server = session.opening.server.as_deref();
    if let Some(server) = server.and_then(|server| shared.manager.server(server))
        && server.status().state == "connected"
    {
        // Told or not: it will be.
        let _ = tokio::time::timeout(TELL, server.restored()).await;
    }
    Ok(())
}

fn wrong(place: &str) -> Fault {
    let words: Vec<&str> = LogLevel::ALL.iter().map(|level| level.as_str()).collect();
    Fault::params(format!("{place} must be one of {}", words.join(", ")))
}

fn hold(shared: &Arc<Shared>, session: &Session, level: LogLevel) {
    let principal = session.opening.principal.as_ref();
    let place = session.opening.server.as_deref();
    let wanted: Vec<Option<Box<str>>> = match place.and_then(profiles::name_of) {
        Some(profile) => {
            let servers = profiles::servers_at(shared, profile).into_iter();
            servers.map(|server| Some(server.name().into())).collect()
        }
        None => vec![place.map(Into::into)],
    };
    let mut held = session.level.lock();
    let there = held.leases.iter();
    let is_there = there
        .clone()
        .all(|lease| lease.level == level && !lease.lingers)
        && there.map(|lease| &lease.server).eq(wanted.iter());
    if !held.ended && !is_there {
        // The new ones first: no server is told of a level in between.
        let leases = wanted
            .iter()
            .map(|server| LevelLease::new(shared, server.as_deref(), principal, (level, false)))
            .collect();
        held.leases = leases;
    }
}

/// The level from which on a session hears log messages of a server.
fn of_session(shared: &Arc<Shared>, session: &Session, server: &ServerHandle) -> LogLevel {
    let principal = session.opening.principal.as_ref();
    let asked = session
        .log_level()
        .and_then(|at| LogLevel::ALL.get(usize::from(at)).copied());
    match asked {
        Some(level) => {
            // A session that came back after a restart, and a server that came later.
            hold(shared, session, level);
            if facts(shared, server).is_some() {
                shared.levels.lock().apply(server, principal);
            }
            level
        }
        // Who never asked hears what the server says by itself, but not what others have asked for.
        None if shared.levels.lock().told(server, principal).is_some() => ORDINARY,
        None => LogLevel::Debug,
    }
}

/// The level that a modern request names.
///
/// # Errors
/// It is no level.
pub(crate) fn of_request(message: &Message) -> Result<Option<LogLevel>, Fault> {
    let Some(raw) = message.member(&meta::in_params(meta::LOG_LEVEL)) else {
        return Ok(None);
    };
    let word = mainstay_wire::raw::string(raw);
    match word.as_deref().and_then(LogLevel::parse) {
        Some(level) => Ok(Some(level)),
        None => Err(wrong(&format!("`params._meta[\"{}\"]`", meta::LOG_LEVEL))),
    }
}

/// What one call hears of its server's notifications. Keep it as long as the call.
#[derive(Debug, Default)]
pub(crate) struct Ear {
    level: Option<LogLevel>,
    _lease: Option<LevelLease>,
}

impl Ear {
    /// For a call in a session; its request gets the level that a modern server needs to be told.
    pub(crate) fn of_session(
        shared: &Arc<Shared>,
        session: &Session,
        routed: Routed,
    ) -> (Self, Routed) {
        let level = of_session(shared, session, &routed.server);
        let ear = Self {
            level: Some(level),
            _lease: None,
        };
        if facts(shared, &routed.server) != Some(Era::Modern) {
            return (ear, routed);
        }
        // A server that is asked for everything says more than one that says what it likes.
        let asked = if session.log_level().is_some() {
            level
        } else {
            ORDINARY
        };
        let word = json_string(asked.as_str());
        let request = routed.request.set(&meta::in_params(meta::LOG_LEVEL), word);
        (ear, Routed { request, ..routed })
    }

    /// For a modern call that named a level or none. A legacy server is told, and a moment is waited for that.
    pub(crate) async fn of_request(
        shared: &Arc<Shared>,
        (server, principal): (&ServerHandle, Option<&Principal>),
        level: Option<LogLevel>,
    ) -> Self {
        let Some(wanted) = level else {
            return Self::default();
        };
        if facts(shared, server) != Some(Era::Legacy) {
            return Self {
                level,
                _lease: None,
            };
        }
        let before = shared.levels.lock().told(server, principal);
        let lease = LevelLease::new(shared, Some(server.name()), principal, (wanted, true));
        let after = shared.levels.lock().told(server, principal);
        if before != after && server.status().state == "connected" {
            // Told or not: the call does not depend on it.
            let _ = tokio::time::timeout(TELL, server.restored()).await;
        }
        Self {
            level,
            _lease: Some(lease),
        }
    }

    /// Whether the client is to hear a notification of its call: everything but log messages below its level.
    pub(crate) fn hears(&self, notice: &Message) -> bool {
        if notice.method() != Some(method::MESSAGE) {
            return true;
        }
        let level = notice
            .string_member(&["params", "level"])
            .and_then(|word| LogLevel::parse(&word))
            .unwrap_or(ORDINARY);
        self.level.is_some_and(|from| level >= from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(level: &str) -> Message {
        Message::notification(
            method::MESSAGE,
            Some(&format!("{{\"level\":\"{level}\",\"data\":1}}")),
        )
    }

    #[test]
    fn a_call_hears_its_level_and_above_and_without_a_level_no_log_message_at_all() {
        let ear = Ear {
            level: Some(LogLevel::Warning),
            _lease: None,
        };
        assert!(ear.hears(&log("warning")) && ear.hears(&log("emergency")));
        assert!(!ear.hears(&log("notice")));
        assert!(!ear.hears(&log("no level")), "counts as info");
        assert!(!Ear::default().hears(&log("emergency")));
        let other = Message::notification("notifications/vendor", None);
        assert!(Ear::default().hears(&other));
    }

    #[test]
    fn the_lowest_level_that_is_wanted_counts() {
        let mut counts = Counts::default();
        assert_eq!(counts.lowest(), None);
        for level in [LogLevel::Error, LogLevel::Debug, LogLevel::Error] {
            *counts.of(level) += 1;
        }
        assert_eq!(counts.lowest(), Some(LogLevel::Debug));
        *counts.of(LogLevel::Debug) -= 1;
        assert_eq!(counts.lowest(), Some(LogLevel::Error));
    }
}
