//! What really happened at the authorization server: the oracle of the tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// Token requests that are remembered in full.
const REQUESTS_MAX: usize = 16_384;

/// How a token request ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Tokens of this family were issued; for grants without a refresh token there is no family.
    Issued {
        /// The family.
        family: Option<u64>,
    },
    /// The same answer as before, within the leeway.
    Repeated {
        /// The family.
        family: u64,
    },
    /// Refused with this error.
    Refused(String),
    /// A fault that did nothing.
    Fault,
}

/// One token request.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRequest {
    /// When, in Unix milliseconds of this machine.
    pub at_unix_ms: u64,
    /// Its `grant_type`.
    pub grant_type: String,
    /// Its client, if it said one.
    pub client_id: String,
    /// All members of the form.
    pub form: BTreeMap<String, String>,
    /// All headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the answer was held back or cut after the work was done.
    pub answer_lost: bool,
}

/// Counters of the whole life of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Requests for metadata of the authorization server.
    pub metadata: u64,
    /// Requests for keys.
    pub jwks: u64,
    /// Clients that registered.
    pub registrations: u64,
    /// Visits to the authorization page.
    pub authorizations: u64,
    /// Token requests of every grant, faults among them.
    pub token_requests: u64,
    /// Codes that were exchanged for tokens.
    pub codes: u64,
    /// Refresh requests, faults among them.
    pub refresh_requests: u64,
    /// Refreshes that issued tokens.
    pub refreshes: u64,
    /// Refreshes within the leeway that got the former answer again.
    pub repeats: u64,
    /// Spent refresh tokens that were used again: each revoked its family.
    pub reuses: u64,
    /// Codes that were used again: each revoked its family.
    pub code_replays: u64,
    /// Families that were revoked, for whatever reason.
    pub revocations: u64,
    /// Token requests that were refused.
    pub refused: u64,
    /// The most refresh requests of one family that were under way at once.
    pub refreshes_at_once: u64,
    /// Polls of device codes.
    pub device_polls: u64,
    /// Tokens by `grant_type`.
    pub issued: BTreeMap<String, u64>,
    /// Errors by their code.
    pub errors: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: Counts,
    requests: Vec<TokenRequest>,
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Inner>);

impl Ledger {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner().counts.clone()
    }

    /// Every token request, in order, up to some thousands.
    #[must_use]
    pub fn token_requests(&self) -> Vec<TokenRequest> {
        self.inner().requests.clone()
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.inner().counts);
    }

    pub(super) fn record(&self, request: TokenRequest) {
        let mut inner = self.inner();
        let counts = &mut inner.counts;
        match &request.outcome {
            Outcome::Issued { .. } => {
                *counts.issued.entry(request.grant_type.clone()).or_default() += 1;
            }
            Outcome::Repeated { .. } => counts.repeats += 1,
            Outcome::Refused(error) => {
                counts.refused += 1;
                *counts.errors.entry(error.clone()).or_default() += 1;
            }
            Outcome::Fault => {}
        }
        if inner.requests.len() < REQUESTS_MAX {
            inner.requests.push(request);
        }
    }
}
