//! What a link holds of the credentials: the token for this moment, and what to do when it is refused.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use mainstay_core::failure::Failure;

use super::account::{Account, Next, State};
use super::challenge::Challenge;

/// The credentials of one link. Cheap to clone; every send asks anew, so a stream that is opened again shows the token of
/// that moment (F212).
#[derive(Debug, Clone)]
pub struct Credentials {
    account: Arc<Account>,
}

impl Credentials {
    pub(super) fn new(account: Arc<Account>) -> Self {
        Self { account }
    }

    /// Puts the token of this moment into a request. See [`Account::bearer`].
    ///
    /// # Errors
    /// Nothing may be sent: there is no good token.
    pub(crate) async fn show(&self, headers: &mut HeaderMap) -> Result<Shown, Failure> {
        let bearer = match self.account.glance() {
            Some(bearer) => bearer,
            // Boxed: it is rare, and would otherwise be part of the state of every call.
            None => Box::pin(self.account.bearer()).await?,
        };
        if let Some(bearer) = &bearer {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
        Ok(Shown(bearer))
    }

    /// Waits until there is a token, or none is known to be needed: before a connection's own time begins (F205).
    ///
    /// # Errors
    /// There is no good token.
    pub(crate) async fn ready(&self) -> Result<(), Failure> {
        self.account.bearer().await.map(drop)
    }

    /// Whether there has been anything to show. A server that was never shown anything, and refuses one request, may answer
    /// all others.
    pub(crate) fn have_been(&self) -> bool {
        self.account.look_at(|state| state.had)
    }

    /// Whether somebody is fetching a token at this moment: whoever counts time then counts the authorization server's.
    pub(crate) fn is_waiting(&self) -> bool {
        self.account.look_at(State::is_busy)
    }

    /// What a response says about the token that was shown, and what was done about it. A 401 gets another token, if there
    /// is one to be had within 15 seconds; `again` says that the token of this request had been got like that. Cancel-safe.
    pub(crate) async fn judge(
        &self,
        shown: &Shown,
        status: StatusCode,
        headers: &HeaderMap,
        again: bool,
    ) -> Judged {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {}
            _ => return Judged::Final,
        }
        let challenge = Challenge::of(headers);
        match status {
            // F93: more of the same would go on for ever.
            StatusCode::UNAUTHORIZED if again => {
                self.account.refused_again();
                Judged::Final
            }
            StatusCode::UNAUTHORIZED => {
                let rejected = self.account.rejected(shown.0.as_ref(), challenge);
                match Box::pin(rejected).await {
                    Next::Again => Judged::Again,
                    Next::Failed => Judged::Final,
                }
            }
            StatusCode::FORBIDDEN => {
                if let Some(lacking) = challenge.filter(Challenge::wants_more) {
                    self.account.lacks(lacking);
                }
                Judged::Final
            }
            _ => Judged::Final,
        }
    }

    /// Why there are no credentials that the server takes.
    pub(crate) fn explain(&self) -> Failure {
        self.account.explain()
    }
}

/// What becomes of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// It is refused, was not run (F93), and there is another token by now.
    Again,
    /// It stands.
    Final,
}

/// What a request showed.
#[derive(Debug)]
pub(crate) struct Shown(Option<HeaderValue>);
