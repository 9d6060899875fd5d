//! What a server says unasked on one generation: notifications and requests, in the order in which they come.
//!
//! Nothing here waits: the reader of a connection calls it, and a reader that waits for anything is a reader that stops.

use std::sync::atomic::Ordering;

use mainstay_wire::envelope::{Kind, Message};
use mainstay_wire::listing::ListKind;
use mainstay_wire::method;
use mainstay_wire::splice::Parts;

use super::{Inbound, Origin, Runtime};
use crate::limits::Limit;
use crate::wire_log::{self, Crossing, Way};

impl Inbound for Runtime {
    fn receive(&self, message: Message, from: Origin) {
        self.life();
        wire_log::crossed(|| self.crossing(Way::FromServer, Parts::from(&message)));
        if message.depth() > self.depth_max
            && matches!(message.kind(), Kind::Request | Kind::Notification)
        {
            return self.skipped("message nested too deeply", "");
        }
        match message.kind() {
            Kind::Request => self.receive_request(message, from),
            Kind::Result | Kind::Error => self.respond(message),
            Kind::Notification => match message.method() {
                Some(method::PROGRESS) => {
                    let token = message
                        .member(&["params", "progressToken"])
                        .and_then(|raw| raw.trim_matches('"').parse().ok());
                    if !token.is_some_and(|token| self.waiters.progress(token, message.clone())) {
                        self.counters.late_answer();
                    }
                }
                Some(method::CANCELLED) => self.cancelled_by_server(&message),
                Some(changed) if ListKind::ALL.iter().any(|kind| kind.changed() == changed) => {
                    self.dirty.mark();
                }
                Some(method::RESOURCES_UPDATED) if self.is_live() => {
                    if let Some(uri) = message.string_member(&["params", "uri"]) {
                        self.wishes.updated(&uri, false);
                    }
                }
                Some(method::MESSAGE) if self.is_live() => {
                    let heard = self.receive_notice(&message, from);
                    if self.wishes.hears_logs() {
                        self.wishes.logged(message);
                    } else if !heard {
                        self.counters.unrouted_notification();
                    }
                }
                Some(method::SUBSCRIPTIONS_ACKNOWLEDGED) => self.told.acknowledge(&message),
                Some(_) | None => {
                    if !self.receive_notice(&message, from) {
                        self.counters.unrouted_notification();
                    }
                }
            },
        }
    }

    fn life(&self) {
        self.last_life_ms
            .store(self.reports.now().0, Ordering::Relaxed);
    }

    fn crossed(&self, way: Way, text: &Parts) {
        wire_log::crossed(|| self.crossing(way, text.clone()));
    }

    fn skipped(&self, what: &'static str, sample: &str) {
        // Never the text itself: it may be half of somebody's answer (F233).
        tracing::debug!(server = %self.server, generation = self.generation.0, what, shown_bytes = sample.len(), "skipped");
        self.counters
            .exceeded(Limit::Noise, self.generation.0, what);
    }
}

impl Runtime {
    /// A message of this generation, for the log of the wire.
    pub(super) fn crossing(&self, way: Way, text: Parts) -> Crossing<'_> {
        Crossing {
            way,
            server: &self.server,
            generation: self.generation.0,
            era: self.era(),
            text,
        }
    }
}
