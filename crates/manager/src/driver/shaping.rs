//! Publishing what a server listed, in the shape that the config gives it.
//!
//! Touches no connection: a changed shape is a new look at the listing that is known (F214).

use std::sync::Arc;

use mainstay_core::ids::{Generation, SlotId};
use tokio_util::task::TaskTracker;

use super::Driver;
use crate::catalog::{Catalog, tool_changes};
use crate::config::ServerConfig;
use crate::events::EventKind;
use crate::shape;
use crate::slot::Slot;
use crate::store::Store;

impl Driver {
    /// Publishes what a server listed, in the shape that its config gives it, and keeps it on disk as it was listed.
    pub(super) fn publish(&mut self, slot: &Slot, generation: Generation, listed: Arc<Catalog>) {
        let shown = shape::shaped(&listed, &slot.config.load());
        let before = slot.listed.swap(Some(Arc::clone(&listed)));
        slot.has_listed.send_replace(true);
        if slot.beside.is_none() {
            let what = before.as_ref().map_or_else(Vec::new, |before| {
                listed.greeting.differences(&before.greeting)
            });
            if !what.is_empty() {
                let kind = EventKind::ServerChanged { what };
                self.setting.events.emit(&slot.name, generation.0, kind);
            }
        }
        self.expose(slot, generation, shown, slot.beside.is_none());
        let config = slot.config.load_full();
        // A generation that is about to be replaced may list once more, and what it lists is not the new one's.
        let of_this = self.kept.get(&(slot.id, generation)).is_none_or(|kept| {
            kept.config.fingerprints().connection == config.fingerprints().connection
        });
        if slot.beside.is_none()
            && !listed.remembered
            && of_this
            && let Some(store) = &self.setting.store
        {
            remember(&self.writes, Arc::clone(store), config, listed);
        }
    }

    /// Shapes anew what a server and its further connections listed, after their configs were changed or tools approved, and
    /// publishes what differs. A server that is not published, because it is disabled, stays so (law 5).
    pub(super) fn reshape(&mut self, server: SlotId) {
        let Some(shared) = self.slots.get(&server).cloned() else {
            return;
        };
        for slot in std::iter::once(shared).chain(self.further_of(server)) {
            let Some(listed) = slot.listed.load_full() else {
                continue;
            };
            let shown = shape::shaped(&listed, &slot.config.load());
            let same =
                slot.catalog.load().as_ref().is_some_and(|before| {
                    before.same_content(&shown) && before.hidden == shown.hidden
                });
            if !same {
                let publish = slot.beside.is_none() && self.setting.publisher.shows(&slot.name);
                self.expose(&slot, Generation::default(), shown, publish);
            }
        }
    }

    /// Shows a catalog to the handles of the connection, and `publish`es it to clients. Only what the shared connection
    /// listed is published.
    fn expose(&mut self, slot: &Slot, generation: Generation, shown: Arc<Catalog>, publish: bool) {
        let before = slot.catalog.swap(Some(Arc::clone(&shown)));
        if let Some(beside) = &slot.beside {
            // What everybody sees, and what is kept on disk, is what the shared connection listed.
            let shared = self.slots.get(&beside.server);
            let shared = shared.and_then(|shared| shared.catalog.load_full());
            slot.family
                .shown
                .note(&beside.key, &shown, shared.as_deref());
            self.setting.publisher.own_changed();
        }
        if !publish {
            return;
        }
        if let Some(version) = self
            .setting
            .publisher
            .publish(&slot.name, Arc::clone(&shown))
        {
            let kind = EventKind::Published {
                version,
                tools: shown.tools.items.len(),
                prompts: shown.prompts.items.len(),
                resources: shown.resources.items.len(),
            };
            self.setting.events.emit(&slot.name, generation.0, kind);
        }
        // Law 20: whoever decided by the old definitions can know.
        let changes = before.map(|before| tool_changes(&before, &shown));
        if let Some(kind) = changes.and_then(EventKind::tools_changed) {
            self.setting.events.emit(&slot.name, generation.0, kind);
        }
    }
}

/// Writes a catalog to disk beside the driver: a slow disk delays nothing.
fn remember(
    writes: &TaskTracker,
    store: Arc<Store>,
    config: Arc<ServerConfig>,
    catalog: Arc<Catalog>,
) {
    // Nobody waits for it but the shutdown: a write that fails costs only freshness after a restart.
    writes.spawn_blocking(move || {
        // Nothing is not worth remembering, and what it replaces is not there any more (F157).
        let kept = if catalog.is_empty() {
            store.remove_catalog(&config.name)
        } else {
            crate::remembered::save(&store, &config, &catalog)
        };
        if let Err(error) = kept {
            tracing::warn!(server = %config.name, %error, "the catalog could not be kept on disk");
        }
    });
}
