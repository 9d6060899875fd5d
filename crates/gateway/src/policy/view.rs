//! What a caller sees of a listing: the listing without what the rules deny.
//!
//! Made once for all callers whom the same rules are about, and kept as long as neither the listing nor the policy has
//! changed. Where nothing is denied it is the listing itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay::catalog::ItemList;
use mainstay::config::PolicyConfig;
use mainstay::publish::Published;
use mainstay::{Catalog, Publication};
use mainstay_core::catalog::{ItemKind, exposed_name};

use super::rules::{Class, Thing, What, class, decide, may_hold};
use crate::serve::caller::Caller;

/// Views that are kept. Beyond it the one that was not used for longest is made anew when it is wanted.
const VIEWS_MAX: usize = 128;

/// The views of all callers.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    publications: Mutex<Vec<View<Publication>>>,
    catalogs: Mutex<Vec<View<Catalog>>>,
}

#[derive(Debug)]
struct View<T> {
    policy: Arc<PolicyConfig>,
    class: Class,
    /// The profile, or the server.
    place: Option<Box<str>>,
    of: Arc<T>,
    seen: Arc<T>,
}

impl Seen {
    /// What a caller sees of what several servers offer, through the endpoint of a profile or of all.
    pub(crate) fn publication(
        &self,
        policy: &Arc<PolicyConfig>,
        caller: &Caller,
        profile: Option<&str>,
        of: Arc<Publication>,
    ) -> Arc<Publication> {
        let class = class(policy, caller);
        kept(&self.publications, policy, &class, profile, of, |of| {
            let sees = |kind: ItemKind, item: &Published| {
                let what = match kind {
                    ItemKind::Tool => What::Tool(&item.exposed),
                    ItemKind::Prompt => What::Prompt(&item.exposed),
                    ItemKind::Resource | ItemKind::ResourceTemplate => {
                        What::Resource(&item.upstream)
                    }
                };
                let thing = Thing {
                    server: &item.server,
                    what,
                    profile,
                };
                decide(policy, &class, thing).sees()
            };
            of.seen(|server| may_hold(policy, &class, server, profile), sees)
        })
    }

    /// What a caller sees of one server at its own endpoint.
    pub(crate) fn catalog(
        &self,
        policy: &Arc<PolicyConfig>,
        caller: &Caller,
        server: &str,
        of: Arc<Catalog>,
    ) -> Arc<Catalog> {
        let class = class(policy, caller);
        kept(&self.catalogs, policy, &class, Some(server), of, |of| {
            let sees = |what: What<'_>| {
                let thing = Thing {
                    server,
                    what,
                    profile: None,
                };
                decide(policy, &class, thing).sees()
            };
            let tool = |name: &str| sees(What::Tool(&exposed_name(server, name)));
            let prompt = |name: &str| sees(What::Prompt(&exposed_name(server, name)));
            let resource = |uri: &str| sees(What::Resource(uri));
            let parts = [
                part(&of.tools, &tool),
                part(&of.prompts, &prompt),
                part(&of.resources, &resource),
                part(&of.templates, &resource),
            ];
            let whole = parts.iter().all(Option::is_none);
            let [tools, prompts, resources, templates] = parts;
            let hidden = of.hidden.iter().filter(|hidden| tool(&hidden.name));
            let hidden: Vec<_> = hidden.cloned().collect();
            (!whole || hidden.len() < of.hidden.len()).then(|| Catalog {
                tools: tools.unwrap_or_else(|| of.tools.clone()),
                prompts: prompts.unwrap_or_else(|| of.prompts.clone()),
                resources: resources.unwrap_or_else(|| of.resources.clone()),
                templates: templates.unwrap_or_else(|| of.templates.clone()),
                hidden,
                ..of.clone()
            })
        })
    }
}

/// Those items that are seen; `None`: all are.
fn part(list: &ItemList, sees: &dyn Fn(&str) -> bool) -> Option<ItemList> {
    let items = list.items.iter().filter(|item| sees(&item.name));
    let items: Vec<_> = items.cloned().collect();
    (items.len() < list.items.len()).then(|| ItemList::new(items).with_hint(list.hint))
}

fn kept<T>(
    views: &Mutex<Vec<View<T>>>,
    policy: &Arc<PolicyConfig>,
    class: &Class,
    place: Option<&str>,
    of: Arc<T>,
    make: impl FnOnce(&T) -> Option<T>,
) -> Arc<T> {
    let is_it = |view: &View<T>| {
        view.place.as_deref() == place
            && Arc::ptr_eq(&view.of, &of)
            && Arc::ptr_eq(&view.policy, policy)
            && view.class == *class
    };
    let mut table = lock(views);
    if let Some(at) = table.iter().rposition(is_it) {
        let known = table.remove(at);
        let seen = Arc::clone(&known.seen);
        table.push(known);
        return seen;
    }
    drop(table);
    let seen = make(&of).map_or_else(|| Arc::clone(&of), Arc::new);
    let mut table = lock(views);
    if table.len() >= VIEWS_MAX {
        table.remove(0);
    }
    table.push(View {
        policy: Arc::clone(policy),
        class: class.clone(),
        place: place.map(Into::into),
        of,
        seen: Arc::clone(&seen),
    });
    seen
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
