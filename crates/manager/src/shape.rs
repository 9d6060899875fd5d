//! What is shown of what a server listed: the operator's word on its tools, applied to a complete listing.
//!
//! A slot keeps both: what the server listed, which is what the store remembers and what listings are compared with, and
//! what is shown, which is all that handles, clients and events ever see. So a changed word takes effect without asking
//! the server anything (F214). Must not build JSON trees: items are spliced.

use std::sync::Arc;

use crate::catalog::{Catalog, Hidden, ItemList};
use crate::config::ServerConfig;

/// The catalog that is shown for a listing; the listing itself where the config has nothing to say.
pub(crate) fn shaped(listed: &Arc<Catalog>, config: &ServerConfig) -> Arc<Catalog> {
    if config.tools.is_open() {
        return Arc::clone(listed);
    }
    let mut hidden = listed.hidden.clone();
    let mut tools = Vec::with_capacity(listed.tools.items.len());
    for tool in &listed.tools.items {
        if config.tools.allows(&tool.name) {
            tools.push(tool.clone());
        } else {
            hidden.push(Hidden {
                server: config.name.clone(),
                name: tool.name.clone(),
                reason: "left out by `tools` in the server's config entry".to_owned(),
            });
        }
    }
    Arc::new(Catalog {
        tools: ItemList::new(tools).with_hint(listed.tools.hint),
        hidden,
        ..Catalog::clone(listed)
    })
}
