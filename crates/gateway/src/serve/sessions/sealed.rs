//! What is sealed into a session id: everything about a session that never changes, so that a restart needs no table.

use std::sync::Arc;

use mainstay::Principal;
use mainstay_wire::Revision;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{ID_DIGITS, Opening, SessionId};
use crate::serve::seal::{Purpose, SealError, Sealer};

/// Longest session id. Clients and proxies carry it in a header of each request; what does not fit is kept on the disk.
const TEXT_BYTES_MAX: usize = 2_048;

/// A session as its id tells it. The names are short because they travel with every request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sealed {
    /// The key, again: it stands in front of the sealed text for everybody to read, and may not be exchanged.
    #[serde(rename = "i")]
    key: String,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    server: Option<Box<str>>,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    principal: Option<Box<str>>,
    #[serde(rename = "r")]
    revision: String,
    #[serde(rename = "t")]
    pub(super) opened_at_unix_ms: u64,
    /// What the client declared; none if it was too long and is on the disk.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    capabilities: Option<Box<RawValue>>,
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    info: Option<Box<RawValue>>,
    #[serde(rename = "d", default)]
    pub(super) on_disk: bool,
}

/// A session id, and whether the client's declaration has no place in it.
pub(super) struct Written {
    pub(super) text: Box<str>,
    pub(super) on_disk: bool,
}

/// Writes the id of a session that can survive.
pub(super) fn write(
    sealer: &Arc<Sealer>,
    id: SessionId,
    opening: &Opening,
    opened_at_unix_ms: u64,
) -> Result<Written, SealError> {
    let raw = |text: &str| RawValue::from_string(text.to_owned()).ok();
    let mut state = Sealed {
        key: id.to_string(),
        server: opening.server.clone(),
        principal: opening.principal.as_ref().map(|whose| whose.name().into()),
        revision: opening.revision.to_string(),
        opened_at_unix_ms,
        capabilities: raw(&opening.client_capabilities),
        info: opening.client_info.as_deref().and_then(raw),
        on_disk: false,
    };
    let text = state.text(sealer)?;
    if text.len() <= TEXT_BYTES_MAX {
        return Ok(Written {
            text,
            on_disk: false,
        });
    }
    (state.capabilities, state.info, state.on_disk) = (None, None, true);
    Ok(Written {
        text: state.text(sealer)?,
        on_disk: true,
    })
}

/// Reads a session id of which the key is known already. `None` for everything that we did not write.
pub(super) fn read(sealer: &Arc<Sealer>, id: SessionId, text: &[u8]) -> Option<Sealed> {
    let sealed = text.get(ID_DIGITS..)?.strip_prefix(b".")?;
    let payload = sealer.unseal(Purpose::Session, std::str::from_utf8(sealed).ok()?)?;
    let state: Sealed = serde_json::from_slice(&payload).ok()?;
    (state.key == id.to_string()).then_some(state)
}

impl Sealed {
    fn text(&self, sealer: &Arc<Sealer>) -> Result<Box<str>, SealError> {
        // Strings, numbers and texts that were parsed before: there is nothing that could not be written.
        let payload = serde_json::to_vec(self).map_err(|_unwritable| SealError::Cipher)?;
        let sealed = sealer.seal(Purpose::Session, &payload)?;
        Ok(format!("{}.{sealed}", self.key).into())
    }

    /// What the client said when it opened the session, with its declaration from the disk if it is there.
    pub(super) fn opening(
        &self,
        declared: Option<(Box<str>, Option<Box<str>>)>,
    ) -> Option<Opening> {
        let text = |raw: &RawValue| -> Box<str> { raw.get().into() };
        let (client_capabilities, client_info) = if self.on_disk {
            declared?
        } else {
            (
                self.capabilities.as_deref().map(text)?,
                self.info.as_deref().map(text),
            )
        };
        let principal = match self.principal.as_deref() {
            None => None,
            // A name that is none belongs to nobody, which is not the same as to nobody in particular.
            Some(name) => Some(Principal::new(name)?),
        };
        Some(Opening {
            principal,
            server: self.server.clone(),
            revision: Revision::parse(&self.revision)?,
            client_info,
            client_capabilities,
        })
    }
}
