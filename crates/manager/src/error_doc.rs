//! `docs/errors.md`: how calls end and why connections fail, as the words that status, events, metrics and records use.

use std::fmt::Write as _;

use mainstay_core::failure::{Blame, FailureKind};
use mainstay_core::lifecycle::Phase;

use crate::calls::Outcome;
use crate::config::schema::tests::check_in;

/// Every kind. A new one does not compile before it has a place here.
fn kinds() -> Vec<FailureKind> {
    use FailureKind as K;
    let (code, signal) = (None, None);
    let all = vec![
        K::SpawnNotFound,
        K::CwdMissing,
        K::SpawnDenied,
        K::SpawnFailed,
        K::BadConfig,
        K::SecretUnavailable,
        K::ProgramChanged,
        K::NeedsLogin,
        K::SignInDelayed,
        K::Forbidden,
        K::VersionMismatch,
        K::BadCertificate,
        K::Incompatible,
        K::NotMcp,
        K::ExitedEarly { code, signal },
        K::Exited { code, signal },
        K::StreamClosed,
        K::ConnectTimeout(Phase::Greet),
        K::Unreachable,
        K::HttpStatus(500),
        K::RateLimited,
        K::SessionLost,
        K::SessionUnstable,
        K::ProtocolError,
        K::ListingFailed,
        K::ProbeFailed,
        K::Internal,
        K::Stopped,
        K::CleanupFault,
    ];
    for kind in &all {
        match kind {
            K::SpawnNotFound | K::CwdMissing | K::SpawnDenied | K::SpawnFailed | K::BadConfig => {}
            K::NeedsLogin | K::SignInDelayed | K::Forbidden => {}
            K::VersionMismatch | K::BadCertificate => {}
            K::SecretUnavailable => {}
            K::ProgramChanged => {}
            K::Incompatible | K::NotMcp | K::ExitedEarly { .. } | K::Exited { .. } => {}
            K::StreamClosed | K::ConnectTimeout(_) | K::Unreachable | K::HttpStatus(_) => {}
            K::RateLimited | K::SessionLost | K::SessionUnstable | K::ProtocolError => {}
            K::ListingFailed | K::ProbeFailed | K::Internal | K::Stopped | K::CleanupFault => {}
        }
    }
    all
}

fn follows(blame: Blame) -> &'static str {
    match blame {
        Blame::Server => {
            "charged; tried again until the budget is used up, then parked with a slow probe"
        }
        Blame::Human => {
            "parked at once, and not tried again before something changed or you say `restart`"
        }
        Blame::Session => {
            "renewed at once; charged only when it happens too often or before any use"
        }
        Blame::Cleanup => "never charged",
    }
}

fn ended(outcome: Outcome) -> [&'static str; 2] {
    match outcome {
        Outcome::Answered => ["the server answered", "yes"],
        Outcome::ToolError => [
            "the server answered that the tool failed (`isError`)",
            "yes",
        ],
        Outcome::ServerError => [
            "the server answered with a JSON-RPC error",
            "as the error says",
        ],
        Outcome::Refused => ["nothing was sent; the cause says why", "no"],
        Outcome::Rejected => ["sent, and the server provably did not run it", "no"],
        Outcome::Unknown => [
            "sent, and no answer came: look before you call again",
            "perhaps",
        ],
        Outcome::Cancelled => ["the caller left; the server was told", "perhaps"],
    }
}

fn page() -> String {
    let mut page = String::from(
        "# Outcomes and causes\n\n\
         The words below are the same in `mainstay status`, `calls` and `events`, in metrics, in the API, and in the `data` of\n\
         errors that clients get. They never change. Commands end with the [exit codes](exit-codes.md).\n\n\
         This page is generated; `UPDATE_DOCS=1 cargo test -p mainstay --lib` writes it anew.\n\n\
         ## How a call ends\n\n| outcome | what happened | was it run? |\n|---|---|---|\n",
    );
    for outcome in Outcome::ALL {
        let [what, ran] = ended(outcome);
        writeln!(page, "| `{}` | {what} | {ran} |", outcome.word()).unwrap();
    }
    page.push_str(
        "\n## Why a connection fails\n\n| cause | what to do | what Mainstay does |\n|---|---|---|\n",
    );
    for kind in kinds() {
        let (word, hint) = (kind.word(), kind.hint());
        writeln!(page, "| `{word}` | {hint} | {} |", follows(kind.blame())).unwrap();
    }
    page
}

#[test]
fn the_checked_in_page_of_outcomes_and_causes_is_current() {
    check_in("errors.md", &page());
}
