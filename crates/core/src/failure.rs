//! What can go wrong with a connection, who is to blame, and what a human can do about it.
//!
//! Classification is by type and by who asked for the teardown, never by message text (law 7, S-20).

use std::fmt;

use crate::lifecycle::Phase;

/// One failure of one generation: typed, with an optional human-readable detail.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// What happened. The only thing that decisions look at, besides `retry_after_ms`.
    pub kind: FailureKind,
    /// For people: an excerpt of stderr, an OS error, a URL. Never decided upon. The caller bounds its length and
    /// keeps secrets out of it.
    pub detail: Option<Box<str>>,
    /// The server asked to be left alone for this long. Clamped by the policy before it is honoured.
    pub retry_after_ms: Option<u64>,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The program was not found on the child's PATH.
    SpawnNotFound,
    /// The configured working directory does not exist.
    CwdMissing,
    /// The program may not be executed.
    SpawnDenied,
    /// The process could not be created for another reason (memory, descriptors).
    SpawnFailed,
    /// The config entry cannot work as written.
    BadConfig,
    /// A value that the config refers to could not be looked up: a file, the keyring, a password manager's command.
    SecretUnavailable,
    /// The program is not the one that was approved (F259).
    ProgramChanged,
    /// The server wants a login that only a human can do.
    NeedsLogin,
    /// There is no good token for now, and nobody has said that there will be none: the authorization server is away or in
    /// trouble, or what it gave cannot be stored (F210).
    SignInDelayed,
    /// The credentials are valid and not sufficient.
    Forbidden,
    /// No protocol revision in common.
    VersionMismatch,
    /// TLS does not trust the server's certificate (F80).
    BadCertificate,
    /// The server takes no message in the form that MCP prescribes (F98).
    Incompatible,
    /// Something answers, but it is not an MCP server (wrong URL, an HTML page, another program).
    NotMcp,
    /// The process ended before its catalog was listed.
    ExitedEarly {
        /// Exit code, if it exited.
        code: Option<i32>,
        /// Signal number, if it was killed.
        signal: Option<i32>,
    },
    /// The process ended.
    Exited {
        /// Exit code, if it exited.
        code: Option<i32>,
        /// Signal number, if it was killed.
        signal: Option<i32>,
    },
    /// The stream ended or was reset while the other side is still alive.
    StreamClosed,
    /// A phase of connecting took too long.
    ConnectTimeout(Phase),
    /// No connection: refused, reset, DNS, TLS.
    Unreachable,
    /// An HTTP status that is not one of the more precise kinds.
    HttpStatus(u16),
    /// The server refuses to talk to us for now (429, 503 with Retry-After).
    RateLimited,
    /// The session is gone on the server (404 and its dialects).
    SessionLost,
    /// Sessions vanish before they are of any use, or more often than the policy takes for granted: the mark of a load
    /// balancer without affinity (F107).
    SessionUnstable,
    /// The server broke the protocol in a way that leaves the connection useless.
    ProtocolError,
    /// The server greeted but could not list its catalog.
    ListingFailed,
    /// An idle or suspected connection did not answer its probes.
    ProbeFailed,
    /// A defect of our own.
    Internal,
    /// Stopped on purpose (operator, config, shutdown) before the calls still running could finish (S-14).
    Stopped,
    /// Noise raised while closing. Recorded, never charged, never the primary error (law 4).
    CleanupFault,
}

/// Who has to change something for the next attempt to go better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The server or the way to it: retrying may help. Charged.
    Server,
    /// A human: retrying cannot help. Parks at once and is never probed (law 11).
    Human,
    /// Nobody: a session ended. Renewed; charged only when unproven or too frequent.
    Session,
    /// Us, on purpose: planned teardown and its noise. Never charged.
    Cleanup,
}

impl FailureKind {
    /// Who is to blame (law 7).
    #[must_use]
    pub const fn blame(self) -> Blame {
        match self {
            FailureKind::SpawnNotFound
            | FailureKind::CwdMissing
            | FailureKind::SpawnDenied
            | FailureKind::BadConfig
            | FailureKind::ProgramChanged
            | FailureKind::NeedsLogin
            | FailureKind::Forbidden
            | FailureKind::VersionMismatch
            | FailureKind::BadCertificate
            | FailureKind::Incompatible => Blame::Human,
            FailureKind::SpawnFailed
            | FailureKind::SecretUnavailable
            | FailureKind::NotMcp
            | FailureKind::ExitedEarly { .. }
            | FailureKind::Exited { .. }
            | FailureKind::StreamClosed
            | FailureKind::ConnectTimeout(_)
            | FailureKind::Unreachable
            | FailureKind::HttpStatus(_)
            | FailureKind::RateLimited
            | FailureKind::SignInDelayed
            | FailureKind::SessionUnstable
            | FailureKind::ProtocolError
            | FailureKind::ListingFailed
            | FailureKind::ProbeFailed
            | FailureKind::Internal => Blame::Server,
            FailureKind::SessionLost => Blame::Session,
            FailureKind::Stopped | FailureKind::CleanupFault => Blame::Cleanup,
        }
    }

    /// Whether it says nothing but that somebody has to wait: for the server's host, or for its authorization server. Neither
    /// speaks about the server's health (law 15).
    #[must_use]
    pub const fn is_a_wait(self) -> bool {
        matches!(self, FailureKind::RateLimited | FailureKind::SignInDelayed)
    }

    /// A stable kebab-case word for logs, metrics and the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            FailureKind::SpawnNotFound => "spawn-not-found",
            FailureKind::CwdMissing => "cwd-missing",
            FailureKind::SpawnDenied => "spawn-denied",
            FailureKind::SpawnFailed => "spawn-failed",
            FailureKind::BadConfig => "bad-config",
            FailureKind::SecretUnavailable => "secret-unavailable",
            FailureKind::ProgramChanged => "program-changed",
            FailureKind::NeedsLogin => "needs-login",
            FailureKind::SignInDelayed => "sign-in-delayed",
            FailureKind::Forbidden => "forbidden",
            FailureKind::VersionMismatch => "version-mismatch",
            FailureKind::BadCertificate => "bad-certificate",
            FailureKind::Incompatible => "incompatible",
            FailureKind::NotMcp => "not-mcp",
            FailureKind::ExitedEarly { .. } => "exited-early",
            FailureKind::Exited { .. } => "exited",
            FailureKind::StreamClosed => "stream-closed",
            FailureKind::ConnectTimeout(_) => "connect-timeout",
            FailureKind::Unreachable => "unreachable",
            FailureKind::HttpStatus(_) => "http-status",
            FailureKind::RateLimited => "rate-limited",
            FailureKind::SessionLost => "session-lost",
            FailureKind::SessionUnstable => "session-unstable",
            FailureKind::ProtocolError => "protocol-error",
            FailureKind::ListingFailed => "listing-failed",
            FailureKind::ProbeFailed => "probe-failed",
            FailureKind::Internal => "internal",
            FailureKind::Stopped => "stopped",
            FailureKind::CleanupFault => "cleanup-fault",
        }
    }

    /// What a human can do about it, in one sentence.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            FailureKind::SpawnNotFound => "check `command` and the PATH the server is started with",
            FailureKind::CwdMissing => "create the directory or correct `cwd`",
            FailureKind::SpawnDenied => "make the program executable for this user",
            FailureKind::SpawnFailed => {
                "check memory, process and descriptor limits of this machine"
            }
            FailureKind::BadConfig => "correct the server's config entry",
            FailureKind::SecretUnavailable => {
                "unlock the keyring or the password manager, or correct the reference"
            }
            FailureKind::ProgramChanged => {
                "find out why the program changed, then approve it with `mainstay tools approve NAME --program`"
            }
            FailureKind::NeedsLogin => "log in to this server",
            FailureKind::SignInDelayed => {
                "see to the authorization server or the disk that the detail names; Mainstay goes on trying"
            }
            FailureKind::Forbidden => "give these credentials access, or configure others",
            FailureKind::VersionMismatch => {
                "update the server, or use a release that speaks its revision"
            }
            FailureKind::BadCertificate => {
                "renew the certificate, or name the file of the authority that issued it in `tls.caFile`"
            }
            FailureKind::Incompatible => {
                "check `url`, or update the server: it refuses the form that MCP prescribes"
            }
            FailureKind::NotMcp => {
                "check `url` or `command`: what answers there is not an MCP server"
            }
            FailureKind::ExitedEarly { .. } => {
                "run the command by hand; its last stderr lines say why it ended"
            }
            FailureKind::Exited { .. } => "see the server's last stderr lines",
            FailureKind::StreamClosed => {
                "see the server's log; it closed the connection while running"
            }
            FailureKind::ConnectTimeout(_) => {
                "see what the server waits for, or raise its connect timeout"
            }
            FailureKind::Unreachable => {
                "check that the server runs and that this machine can reach it"
            }
            FailureKind::HttpStatus(_) => "see the server's log for this status",
            FailureKind::RateLimited => "wait, or ask for a higher limit",
            FailureKind::SessionLost => {
                "if sessions keep vanishing, give the load balancer sticky routing"
            }
            FailureKind::SessionUnstable => {
                "give the load balancer sticky routing: requests of one session reach servers that do not know it"
            }
            FailureKind::ProtocolError => "report the detail to the server's authors",
            FailureKind::ListingFailed => {
                "see the server's log; it connects but cannot list what it offers"
            }
            FailureKind::ProbeFailed => "see the server's log; it stopped answering",
            FailureKind::Internal => "report this as a defect of Mainstay",
            FailureKind::Stopped => {
                "repeat the call if that is safe; the server was stopped on purpose"
            }
            FailureKind::CleanupFault => "nothing; it happened while closing",
        }
    }
}

impl Failure {
    /// A failure without detail.
    #[must_use]
    pub const fn new(kind: FailureKind) -> Failure {
        Failure {
            kind,
            detail: None,
            retry_after_ms: None,
        }
    }

    /// The same failure with a detail for people.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Box<str>>) -> Failure {
        self.detail = Some(detail.into());
        self
    }

    /// The same failure with the server's wish to be left alone for `ms` milliseconds.
    #[must_use]
    pub const fn with_retry_after_ms(mut self, ms: u64) -> Failure {
        self.retry_after_ms = Some(ms);
        self
    }
}

impl From<FailureKind> for Failure {
    fn from(kind: FailureKind) -> Failure {
        Failure::new(kind)
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = |f: &mut fmt::Formatter<'_>,
                      what: &str,
                      code: Option<i32>,
                      signal: Option<i32>| match (code, signal) {
            (Some(code), _) => write!(f, "{what} with code {code}"),
            (None, Some(signal)) => write!(f, "{what} by signal {signal}"),
            (None, None) => f.write_str(what),
        };
        match *self {
            FailureKind::SpawnNotFound => f.write_str("command not found"),
            FailureKind::CwdMissing => f.write_str("working directory does not exist"),
            FailureKind::SpawnDenied => f.write_str("not allowed to execute the command"),
            FailureKind::SpawnFailed => f.write_str("process could not be started"),
            FailureKind::BadConfig => f.write_str("config entry cannot work"),
            FailureKind::SecretUnavailable => f.write_str("a secret could not be looked up"),
            FailureKind::ProgramChanged => {
                f.write_str("the program is not the one that was approved")
            }
            FailureKind::NeedsLogin => f.write_str("login needed"),
            FailureKind::SignInDelayed => f.write_str("no token for now"),
            FailureKind::Forbidden => f.write_str("access forbidden"),
            FailureKind::VersionMismatch => f.write_str("no protocol revision in common"),
            FailureKind::BadCertificate => f.write_str("certificate not trusted"),
            FailureKind::Incompatible => f.write_str("incompatible server"),
            FailureKind::NotMcp => f.write_str("not an MCP server"),
            FailureKind::ExitedEarly { code, signal } => {
                ending(f, "ended before it was ready", code, signal)
            }
            FailureKind::Exited { code, signal } => ending(f, "ended", code, signal),
            FailureKind::StreamClosed => f.write_str("connection closed"),
            FailureKind::ConnectTimeout(phase) => {
                write!(f, "timed out while connecting ({})", phase.word())
            }
            FailureKind::Unreachable => f.write_str("unreachable"),
            FailureKind::HttpStatus(status) => write!(f, "HTTP status {status}"),
            FailureKind::RateLimited => f.write_str("rate limited"),
            FailureKind::SessionLost => f.write_str("session lost"),
            FailureKind::SessionUnstable => f.write_str("sessions vanish too often"),
            FailureKind::ProtocolError => f.write_str("protocol error"),
            FailureKind::ListingFailed => f.write_str("listing failed"),
            FailureKind::ProbeFailed => f.write_str("does not answer probes"),
            FailureKind::Internal => f.write_str("internal error"),
            FailureKind::Stopped => f.write_str("stopped on purpose"),
            FailureKind::CleanupFault => f.write_str("fault while closing"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

/// Everything one teardown raised: errors come alone, in groups, and in groups of groups (S-05).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// One error.
    One(Failure),
    /// The work was cancelled by its caller.
    Cancelled,
    /// The whole process is shutting down.
    Shutdown,
    /// Several at once, as they were collected.
    Group(Vec<Fault>),
}

/// What one teardown amounts to (law 8).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Shutdown was among the faults; it outranks everything.
    Shutdown,
    /// Cancellation was among the faults; it outranks every error.
    Cancelled,
    /// At least one error counts: the first one (S-15).
    Genuine(Failure),
    /// Every single error is noise of closing.
    Benign,
}

/// Judges a teardown. `was_ready` says whether the connection had reached readiness: before that, the same noise is a
/// genuine failure to connect (S-04). An empty group is genuine: nobody knows what happened (S-07).
#[must_use]
pub fn classify(faults: &[Fault], was_ready: bool) -> Verdict {
    let mut genuine: Option<Failure> = None;
    let mut cancelled = false;
    let mut pending: Vec<&Fault> = faults.iter().rev().collect();
    if pending.is_empty() {
        genuine = Some(Failure::new(FailureKind::Internal));
    }
    // A stack of our own instead of recursion: how deep errors nest is not ours to decide.
    while let Some(fault) = pending.pop() {
        match fault {
            Fault::Shutdown => return Verdict::Shutdown,
            Fault::Cancelled => cancelled = true,
            Fault::Group(members) if members.is_empty() => {
                genuine.get_or_insert(Failure::new(FailureKind::Internal));
            }
            Fault::Group(members) => pending.extend(members.iter().rev()),
            Fault::One(failure) => {
                if failure.kind.blame() != Blame::Cleanup || !was_ready {
                    genuine.get_or_insert_with(|| failure.clone());
                }
            }
        }
    }
    match genuine {
        _ if cancelled => Verdict::Cancelled,
        Some(failure) => Verdict::Genuine(failure),
        None => Verdict::Benign,
    }
}

/// One of every kind, for tests that must not forget one.
#[cfg(test)]
pub(crate) fn every_kind() -> Vec<FailureKind> {
    let ending = (Some(1), None);
    let kinds = vec![
        FailureKind::SpawnNotFound,
        FailureKind::CwdMissing,
        FailureKind::SpawnDenied,
        FailureKind::SpawnFailed,
        FailureKind::BadConfig,
        FailureKind::SecretUnavailable,
        FailureKind::ProgramChanged,
        FailureKind::NeedsLogin,
        FailureKind::SignInDelayed,
        FailureKind::Forbidden,
        FailureKind::VersionMismatch,
        FailureKind::NotMcp,
        FailureKind::ExitedEarly {
            code: ending.0,
            signal: ending.1,
        },
        FailureKind::Exited {
            code: ending.0,
            signal: ending.1,
        },
        FailureKind::StreamClosed,
        FailureKind::ConnectTimeout(Phase::Greet),
        FailureKind::Unreachable,
        FailureKind::HttpStatus(502),
        FailureKind::RateLimited,
        FailureKind::SessionLost,
        FailureKind::SessionUnstable,
        FailureKind::ProtocolError,
        FailureKind::ListingFailed,
        FailureKind::ProbeFailed,
        FailureKind::Internal,
        FailureKind::Stopped,
        FailureKind::CleanupFault,
    ];
    // Whoever adds a kind is led here by the compiler through `word`, and here by this number.
    let words: std::collections::BTreeSet<&str> = kinds.iter().map(|kind| kind.word()).collect();
    assert_eq!(words.len(), 27, "every kind has its own word");
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise() -> Fault {
        Fault::One(FailureKind::CleanupFault.into())
    }

    fn refused() -> Fault {
        Fault::One(Failure::new(FailureKind::Unreachable).with_detail("refused"))
    }

    fn nest(fault: Fault, depth: usize) -> Fault {
        (0..depth).fold(fault, |inner, _| Fault::Group(vec![inner]))
    }

    #[test]
    fn s05_law_8_noise_is_benign_bare_and_nested() {
        for depth in [0, 1, 2, 7, 100_000] {
            // The drop of a deep group recurses too, so the deepest one is taken apart by hand.
            let mut fault = nest(noise(), depth);
            assert_eq!(
                classify(std::slice::from_ref(&fault), true),
                Verdict::Benign,
                "depth {depth}"
            );
            while let Fault::Group(mut members) = fault {
                fault = members.pop().expect("one member per level");
            }
        }
    }

    #[test]
    fn s06_unrelated_errors_are_never_benign() {
        for kind in every_kind() {
            let benign = matches!(kind, FailureKind::CleanupFault | FailureKind::Stopped);
            let verdict = classify(&[Fault::One(kind.into())], true);
            if benign {
                assert_eq!(verdict, Verdict::Benign, "{kind}");
            } else {
                assert_eq!(verdict, Verdict::Genuine(kind.into()));
            }
        }
    }

    #[test]
    fn s07_law_8_one_genuine_leaf_makes_the_group_genuine_whatever_order_or_depth() {
        for depth in 0..4 {
            let genuine = nest(refused(), depth);
            for faults in [
                vec![noise(), genuine.clone()],
                vec![genuine.clone(), noise()],
            ] {
                let expected = Failure::new(FailureKind::Unreachable).with_detail("refused");
                assert_eq!(classify(&faults, true), Verdict::Genuine(expected.clone()));
                assert_eq!(
                    classify(&[Fault::Group(faults)], true),
                    Verdict::Genuine(expected)
                );
            }
        }
        let nobody_knows = Verdict::Genuine(FailureKind::Internal.into());
        assert_eq!(classify(&[], true), nobody_knows);
        assert_eq!(
            classify(&[noise(), Fault::Group(Vec::new())], true),
            nobody_knows
        );
    }

    #[test]
    fn s08_law_8_cancellation_and_shutdown_outrank_both() {
        let mixed = vec![noise(), nest(Fault::Cancelled, 3), refused()];
        assert_eq!(classify(&mixed, true), Verdict::Cancelled);
        let mut with_shutdown = mixed;
        with_shutdown.push(nest(Fault::Shutdown, 2));
        assert_eq!(classify(&with_shutdown, true), Verdict::Shutdown);
    }

    #[test]
    fn s04_noise_before_readiness_is_a_genuine_failure() {
        assert_eq!(
            classify(&[noise()], false),
            Verdict::Genuine(FailureKind::CleanupFault.into())
        );
    }

    #[test]
    fn s15_the_first_real_failure_is_the_cause() {
        let faults = [
            noise(),
            Fault::Group(vec![noise(), refused()]),
            Fault::One(FailureKind::Internal.into()),
        ];
        let Verdict::Genuine(cause) = classify(&faults, true) else {
            panic!("genuine")
        };
        assert_eq!(cause.to_string(), "unreachable: refused");
    }
}
