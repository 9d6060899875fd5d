//! Every message between Mainstay and its servers, for whoever wants to look on. Nobody does by default: then it costs
//! one look at a pointer per message.
//!
//! One log for the whole process and its whole life, like the log of words. Must not be slow and must not wait: it is
//! called on the data path. What it hears may hold secrets; hiding them is the log's business.

use std::sync::OnceLock;

use mainstay_wire::Era;
use mainstay_wire::splice::Parts;

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From Mainstay to the server.
    ToServer,
    /// From the server to Mainstay.
    FromServer,
}

/// One message that leaves for a server or arrives from one.
#[derive(Debug)]
pub struct Crossing<'a> {
    /// Which way.
    pub way: Way,
    /// The server's name.
    pub server: &'a str,
    /// Which of its connections.
    pub generation: u64,
    /// The server's era; legacy until it is known.
    pub era: Era,
    /// The message, one JSON text. Shares its memory.
    pub text: Parts,
}

/// Looks on.
pub trait WireLog: Send + Sync {
    /// Takes note of a message. Must return at once, and may drop what it has no room for.
    fn crossed(&self, crossing: Crossing<'_>);
}

static LOG: OnceLock<Box<dyn WireLog>> = OnceLock::new();

/// Sets the log of this process. `false`: there was one already, and it stays.
pub fn install(log: Box<dyn WireLog>) -> bool {
    LOG.set(log).is_ok()
}

/// Tells the log, if there is one; only then the message is made.
pub(crate) fn crossed<'a>(make: impl FnOnce() -> Crossing<'a>) {
    if let Some(log) = LOG.get() {
        log.crossed(make());
    }
}
