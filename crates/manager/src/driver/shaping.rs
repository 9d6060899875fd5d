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
use crate::pins::{Holdback, Pins};
use crate::pool::Own;
use crate::shape;
use crate::slot::Slot;
use crate::store::Store;

impl Driver {
    /// Publishes what a server listed, in the shape that its config gives it, and keeps it on disk as it was listed.
    pub(super) fn publish(&mut self, slot: &Slot, generation: Generation, listed: Arc<Catalog>) {
        self.trust(slot, &listed);
        let shown = self.shaped(slot, generation, &listed);
        let before = slot.listed.swap(Some(Arc::clone(&listed)));
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
        slot.has_listed.send_replace(true);
        if let Some(beside) = &slot.beside {
            // What everybody sees, and what is kept on disk, is what the shared connection listed.
            let server = self.slots.get(&beside.server);
            let everybodys = server.and_then(|shared| shared.listed.load_full());
            if let (Some(server), Some(_), None) = (server, &beside.key.principal, beside.key.era)
                && server.era.get().is_none()
            {
                // Nobody may ever connect but principals.
                server.era.set(Some(listed.greeting.revision.era()));
            }
            let shown = slot.catalog.load_full();
            slot.family.shown.note(
                &beside.key,
                Own {
                    listed: &listed,
                    shown: shown.as_ref().unwrap_or(&listed),
                },
                everybodys.as_deref(),
            );
            self.setting.publisher.own_changed();
        }
        let config = slot.config.load_full();
        // A generation that is about to be replaced may list once more, and what it lists is not the new one's.
        let is_of_config = self.kept.get(&(slot.id, generation)).is_none_or(|kept| {
            kept.config.fingerprints().connection == config.fingerprints().connection
        });
        if slot.beside.is_none()
            && !listed.remembered
            && is_of_config
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
        for slot in std::iter::once(Arc::clone(&shared)).chain(self.further_of(server)) {
            let Some(listed) = slot.listed.load_full() else {
                continue;
            };
            self.trust(&slot, &listed);
            let shown = self.shaped(&slot, Generation::default(), &listed);
            let same =
                slot.catalog.load().as_ref().is_some_and(|before| {
                    before.same_content(&shown) && before.hidden == shown.hidden
                });
            if !same {
                let publish = slot.beside.is_none() && self.setting.publisher.shows(&slot.name);
                self.expose(&slot, Generation::default(), shown, publish);
            }
        }
        let config = shared.config.load_full();
        // What connections have listed that are gone is shown in the new shape as well, without opening them again.
        shared
            .family
            .shown
            .reshape(|listed| shape_apart(&shared.pins, &config, listed));
        self.setting.publisher.own_changed();
    }

    /// Takes the first listing of a pinned server as approved.
    fn trust(&self, slot: &Slot, listed: &Arc<Catalog>) {
        let pinned = slot.config.load().tools.pin && slot.beside.is_none() && !listed.remembered;
        if !pinned || !slot.pins.trust(listed) {
            return;
        }
        let names = listed.tools.items.iter().map(|tool| tool.name.clone());
        let kind = EventKind::tools_approved(names.collect(), true);
        self.setting.events.emit(&slot.name, 0, kind);
        let (pins, name) = (Arc::clone(&slot.pins), Arc::clone(&slot.name));
        // Beside the driver. If it cannot be kept, the next start of Mainstay takes what it finds as approved.
        self.writes.spawn_blocking(move || {
            if let Err(error) = pins.save() {
                tracing::error!(server = %name, %error, "what was approved is forgotten when Mainstay ends");
            }
        });
    }

    /// What is shown of a listing. What is held back of it is told when it is not what was held back before.
    fn shaped(&self, slot: &Slot, generation: Generation, listed: &Arc<Catalog>) -> Arc<Catalog> {
        let config = slot.config.load();
        let before = slot.held.load_full();
        let held = if config.tools.pin {
            slot.pins.judge(listed, slot.beside.is_none(), &before)
        } else {
            Holdback::default()
        };
        if held != *before {
            if let Some(kind) = held.event() {
                slot.events.emit(&slot.name, generation.0, kind);
            }
            slot.held.store(Arc::new(held.clone()));
        }
        shape::shaped(listed, &config, &held)
    }

    /// Shows a catalog to the handles of the connection, and `publish`es it to clients. Only what the shared connection
    /// listed is published.
    fn expose(&mut self, slot: &Slot, generation: Generation, shown: Arc<Catalog>, publish: bool) {
        let before = slot.catalog.swap(Some(Arc::clone(&shown)));
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

/// What is shown of a listing whose connection is gone.
fn shape_apart(pins: &Pins, config: &ServerConfig, listed: &Arc<Catalog>) -> Arc<Catalog> {
    let held = if config.tools.pin {
        pins.judge(listed, false, &Holdback::default())
    } else {
        Holdback::default()
    };
    shape::shaped(listed, config, &held)
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
