//! The states of modern servers (`requestState`) in the hands of users that we have identified.
//!
//! A server binds its state to whoever it knows, and on a connection that several users share it knows nobody. So what such
//! a user carries is the server's state, sealed with the user's name, and worth nothing to anybody else. This machine's
//! user gets it as it came.

use std::sync::Arc;

use mainstay::Principal;
use mainstay_wire::{Message, json_string};
use serde::{Deserialize, Serialize};

use super::park;
use crate::serve::fault::Fault;
use crate::serve::seal::{Purpose, Sealer};

const BROUGHT: [&str; 2] = ["params", "requestState"];
const GIVEN: [&str; 2] = ["result", "requestState"];

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Carried {
    principal: String,
    state: String,
}

/// What seals for one user.
#[derive(Debug, Clone)]
pub(crate) struct Carrier {
    sealer: Arc<Sealer>,
    principal: Principal,
}

impl Carrier {
    /// For a request of this principal. `None`: nobody in particular, who carries what servers give.
    pub(crate) fn of(sealer: &Arc<Sealer>, principal: Option<&Principal>) -> Option<Self> {
        principal.map(|principal| Self {
            sealer: Arc::clone(sealer),
            principal: principal.clone(),
        })
    }

    /// An answer with its state, if it has one, as the user is to carry it.
    ///
    /// # Errors
    /// It cannot be sealed.
    pub(crate) fn give(&self, answer: &Message) -> Result<Option<Message>, Fault> {
        let Some(state) = answer.string_member(&GIVEN) else {
            return Ok(None);
        };
        let carried = Carried {
            principal: self.principal.name().to_owned(),
            state: state.into_owned(),
        };
        let unsealed = |error: &dyn std::fmt::Display| {
            let text = format!("the state of the server cannot be sealed: {error}");
            Fault::new(mainstay_wire::codes::INTERNAL_ERROR, text)
        };
        let payload = serde_json::to_vec(&carried).map_err(|error| unsealed(&error))?;
        let sealed = self.sealer.seal(Purpose::ServerState, &payload);
        let sealed = sealed.map_err(|error| unsealed(&error))?;
        let edited = answer.edit().set(&GIVEN, json_string(&sealed)).apply();
        edited.map(Some).map_err(|error| unsealed(&error))
    }

    /// A request with its state, if it has one, as the server gave it.
    ///
    /// # Errors
    /// It is not one that this user was given.
    pub(crate) fn take_back(&self, request: Message) -> Result<Message, Fault> {
        let Some(brought) = request.string_member(&BROUGHT) else {
            return Ok(request);
        };
        // That of a parked call is judged where those are.
        if park::is_ours(&self.sealer, &brought) {
            return Ok(request);
        }
        let carried = self
            .sealer
            .unseal(Purpose::ServerState, &brought)
            .and_then(|payload| serde_json::from_slice::<Carried>(&payload).ok())
            .filter(|carried| carried.principal == self.principal.name());
        let Some(carried) = carried else {
            return Err(park::foreign());
        };
        let edited = request.edit().set(&BROUGHT, json_string(&carried.state));
        edited.apply().map_err(|_unreadable| park::foreign())
    }
}

/// Looks at a request of nobody in particular: what a user carries is not for it.
///
/// # Errors
/// It brings the state of a user.
pub(crate) fn check(sealer: &Sealer, request: &Message) -> Result<(), Fault> {
    let brought = request.string_member(&BROUGHT);
    let is_carried = |state: &str| sealer.unseal(Purpose::ServerState, state).is_some();
    if brought.is_some_and(|state| is_carried(&state)) {
        return Err(park::foreign());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_wire::Id;

    #[test]
    fn f256_a_servers_state_comes_back_from_its_user_only() {
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let carrier = |name: &str| Carrier::of(&sealer, Principal::new(name).as_ref()).unwrap();
        assert!(Carrier::of(&sealer, None).is_none());
        let (ann, bob) = (carrier("ann"), carrier("bob"));
        let answer = |result: &str| Message::result_of(&Id::number(1), result);
        assert!(ann.give(&answer(r#"{"content":[]}"#)).unwrap().is_none());
        let theirs = r#"{"resultType":"input_required","requestState":"s\"1","x":1.10}"#;
        let given = ann.give(&answer(theirs)).unwrap().unwrap();
        let sealed = given.string_member(&GIVEN).unwrap().into_owned();
        assert!(!sealed.contains("s\"1"));
        assert!(
            given.as_str().contains("1.10"),
            "everything else as it came"
        );
        let retry = |state: &str| {
            let params = format!(r#"{{"name":"t","requestState":{}}}"#, json_string(state));
            Message::request(&Id::number(2), "tools/call", Some(&params))
        };
        let back = ann.take_back(retry(&sealed)).unwrap();
        assert_eq!(back.string_member(&BROUGHT).as_deref(), Some("s\"1"));
        assert!(check(&sealer, &retry(&sealed)).is_err());
        assert!(check(&sealer, &retry("s\"1")).is_ok());
        for (carrier, state) in [(&bob, &*sealed), (&ann, "s\"1"), (&ann, ""), (&bob, "x")] {
            let refused = carrier.take_back(retry(state)).unwrap_err();
            assert_eq!(refused.message, park::foreign().message);
        }
        let plain = Message::request(&Id::number(3), "tools/call", Some(r#"{"name":"t"}"#));
        assert_eq!(
            ann.take_back(plain.clone()).unwrap().as_str(),
            plain.as_str()
        );
    }
}
