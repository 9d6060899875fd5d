//! What servers ask of clients (elicitation, sampling, roots), carried between the eras.
//!
//! A legacy server sends requests of its own while a call is on its way; a modern one answers the call with
//! `input_required` and is called again. The client of a call speaks one of these two ways, whatever its server speaks:
//!
//! | client | legacy server | modern server |
//! |---|---|---|
//! | legacy | a request on the call's own response stream ([`legacy`]) | the same, and then the call again ([`legacy`]) |
//! | modern | the call is parked, and its client called back ([`modern`], [`park`]) | passes untouched |
//!
//! Nothing here decides whose a request is (the manager does, exactly or not at all), and nothing is executed twice: a
//! call is sent again only because its server asked for that.

mod approval;
pub(crate) mod asked;
pub(crate) mod capability;
pub(crate) mod conversation;
pub(crate) mod digest;
pub(crate) mod inputs;
pub(crate) mod legacy;
pub(crate) mod modern;
pub(crate) mod park;
pub(crate) mod rounds;
pub(crate) mod signin;
pub(crate) mod voice;

use mainstay::ServerHandle;
use mainstay_wire::Era;

use super::Shared;

/// What a server says during a call and nobody has taken yet. Progress and log messages beyond it are dropped by their
/// sender, a question is refused to the server; the call goes on.
const HEAR_MAX: usize = 64;

/// The era of a server as it last greeted; `None` if it never did.
pub(crate) fn era_of(shared: &Shared, server: &ServerHandle) -> Option<Era> {
    let publication = shared.manager.publication();
    match publication.servers.get(server.name()) {
        Some(catalog) => Some(catalog.greeting.revision.era()),
        // It may have greeted principals only.
        None if server.is_per_user() => server.known_era(),
        None => None,
    }
}
