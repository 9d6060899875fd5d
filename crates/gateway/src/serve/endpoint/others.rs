//! Requests of extensions on the aggregate: which one server they are for.
//!
//! A task goes to the server that issued it; any other method to the one server that declares what it belongs to. Where
//! that says nothing, the only server there is gets it. Never guessed: where several could be meant, the client is told to
//! use a server's own endpoint.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay::{Catalog, Publication};
use mainstay_wire::{Message, method, raw};
use serde_json::json;

use super::{Endpoint, Routed};
use crate::serve::Shared;
use crate::serve::fault::{Fault, shown};
use crate::serve::view::Viewer;

/// Tasks whose server is remembered. Beyond it the oldest is forgotten.
const TASKS_MAX: usize = 10_000;

/// Longest id of a task that is remembered, in bytes.
const TASK_ID_BYTES_MAX: usize = 1_024;

/// Longest answer that is looked at: what announces a task is short.
const ANNOUNCEMENT_BYTES_MAX: usize = 64 * 1024;

/// Which server issued which task.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    inner: Mutex<Issued>,
}

#[derive(Debug, Default)]
struct Issued {
    /// None: several servers issued this id.
    by_id: HashMap<Box<str>, Option<Box<str>>>,
    order: VecDeque<Box<str>>,
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, Issued> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the task that an answer of a server announces, if it does: a result of the type `task` (extension), or
    /// one with a `task` object (2025-11-25).
    pub(crate) fn note(&self, server: &str, answer: &Message) {
        if answer.as_str().len() > ANNOUNCEMENT_BYTES_MAX {
            return;
        }
        let extension = || answer.string_member(&["result", "taskId"]);
        let experimental = || answer.string_member(&["result", "task", "taskId"]);
        if let Some(id) = extension().or_else(experimental) {
            self.issued(server, &id);
        }
    }

    fn issued(&self, server: &str, id: &str) {
        if id.len() > TASK_ID_BYTES_MAX {
            return;
        }
        let mut issued = self.lock();
        if let Some(owner) = issued.by_id.get_mut(id) {
            if owner.as_deref() != Some(server) {
                *owner = None;
            }
            return;
        }
        if issued.order.len() >= TASKS_MAX
            && let Some(oldest) = issued.order.pop_front()
        {
            issued.by_id.remove(&oldest);
        }
        issued.by_id.insert(id.into(), Some(server.into()));
        issued.order.push_back(id.into());
    }

    /// `None`: never heard of. `Some(None)`: several servers have one of this id.
    fn owner(&self, id: &str) -> Option<Option<Box<str>>> {
        self.lock().by_id.get(id).cloned()
    }
}

/// The server of a call on the aggregate that may be answered with a task.
#[derive(Debug)]
pub(crate) struct Issuer {
    shared: Arc<Shared>,
    server: Box<str>,
}

impl Issuer {
    /// `None` where no task can come of it, or nobody has to remember it.
    pub(crate) fn of(
        shared: &Arc<Shared>,
        endpoint: &Endpoint,
        _who: &Viewer,
        routed: &Routed,
    ) -> Option<Self> {
        match endpoint {
            Endpoint::Server(_) => return None,
            Endpoint::All | Endpoint::Profile(_) => {}
        }
        let publication = shared.manager.publication();
        let server = routed.server.name();
        let catalog = publication.servers.get(server)?;
        // The usual case first. And where only one server has tasks, nothing needs to be remembered.
        let declared = declares(catalog, method::TASKS_GET);
        (declared && declaring(&publication, method::TASKS_GET).len() > 1).then(|| Self {
            shared: Arc::clone(shared),
            server: server.into(),
        })
    }

    /// Looks whether an answer announces a task.
    pub(crate) fn note(&self, answer: &Message) {
        self.shared.task_owners.note(&self.server, answer);
    }
}

/// The name of the server that a request with this method is for.
pub(super) fn owner(
    tasks: &Tasks,
    publication: &Publication,
    message: &Message,
    method: &str,
) -> Result<Box<str>, Fault> {
    let task = message
        .string_member(&["params", "taskId"])
        .filter(|_| method.starts_with("tasks/"));
    match task.and_then(|id| tasks.owner(&id)) {
        Some(Some(server)) => return Ok(server),
        Some(None) => return Err(ambiguous(method, &declaring(publication, method))),
        None => {}
    }
    let mut declaring = declaring(publication, method);
    match (declaring.len(), publication.servers.len()) {
        (1, _) => Ok(declaring.remove(0)),
        (0, 1) => {
            let only = publication.servers.keys().next().cloned();
            only.ok_or_else(|| Fault::no_method(method))
        }
        (0, _) => Err(Fault::no_method(method)),
        (_, _) => Err(ambiguous(method, &declaring)),
    }
}

fn ambiguous(method: &str, servers: &[Box<str>]) -> Fault {
    let mut fault = Fault::no_method(method);
    fault.message = format!(
        "{}: several servers could be meant ({}); use the endpoint /servers/NAME/mcp of one of them",
        fault.message,
        servers.join(", ")
    );
    fault.with(json!({ "method": shown(method), "servers": servers }))
}

fn declaring(publication: &Publication, method: &str) -> Vec<Box<str>> {
    let servers = publication.servers.iter();
    servers
        .filter(|(_, catalog)| declares(catalog, method))
        .map(|(name, _)| name.clone())
        .collect()
}

/// Whether a server declares what a method belongs to: an extension or a capability of its first word, such as
/// `io.modelcontextprotocol/tasks` or `tasks` for `tasks/get`, or an extension whose name the method begins with.
fn declares(catalog: &Catalog, method: &str) -> bool {
    let capabilities = &*catalog.greeting.capabilities;
    let family = method.split_once('/').map_or(method, |(family, _)| family);
    let names = |key: &str| {
        let last = key.rsplit_once('/').map_or(key, |(_, last)| last);
        key == family
            || last == family
            || method
                .strip_prefix(key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
    };
    let mut found = raw::member(capabilities, &[family]).is_some();
    for group in ["extensions", "experimental"] {
        let declared = raw::member(capabilities, &[group]).map(raw::members);
        found |= declared
            .unwrap_or_default()
            .iter()
            .any(|(key, _)| names(key));
    }
    found
}

#[cfg(test)]
mod tests {
    use mainstay::catalog::ItemList;

    use super::*;

    #[test]
    fn tasks_are_remembered_bounded_and_never_guessed() {
        let tasks = Tasks::default();
        let result = |result: &str| Message::result_of(&mainstay_wire::Id::number(1), result);
        tasks.note("a", &result(r#"{"resultType":"task","taskId":"t1"}"#));
        tasks.note(
            "b",
            &result(r#"{"task":{"taskId":"t2","status":"working"}}"#),
        );
        tasks.note("b", &result(r#"{"content":[]}"#));
        assert_eq!(tasks.owner("t1"), Some(Some("a".into())));
        assert_eq!(tasks.owner("t2"), Some(Some("b".into())));
        assert_eq!(tasks.owner("t3"), None);
        tasks.issued("b", "t1");
        assert_eq!(tasks.owner("t1"), Some(None), "both have one");
        for number in 0..TASKS_MAX {
            tasks.issued("a", &format!("more-{number}"));
        }
        assert_eq!(tasks.owner("t1"), None, "the oldest is forgotten");
        assert_eq!(tasks.lock().by_id.len(), TASKS_MAX);
        tasks.issued("a", &"x".repeat(TASK_ID_BYTES_MAX + 1));
        assert_eq!(tasks.lock().by_id.len(), TASKS_MAX);
    }

    fn publication(servers: &[(&str, &str)]) -> Publication {
        let catalog = |capabilities: &str| Catalog {
            greeting: mainstay::catalog::Greeting {
                revision: mainstay_wire::Revision::LATEST_MODERN,
                capabilities: capabilities.into(),
                server_info: None,
                instructions: None,
            },
            tools: ItemList::default(),
            prompts: ItemList::default(),
            resources: ItemList::default(),
            templates: ItemList::default(),
            hidden: Vec::new(),
            listed_at_unix_ms: 0,
            over_sse: false,
            remembered: false,
        };
        let servers = servers
            .iter()
            .map(|(name, capabilities)| ((*name).into(), Arc::new(catalog(capabilities))));
        Publication {
            servers: servers.collect(),
            ..Publication::default()
        }
    }

    fn sent(method: &str, params: &str) -> Message {
        Message::request(&mainstay_wire::Id::number(1), method, Some(params))
    }

    #[test]
    fn an_unknown_method_goes_to_the_one_server_that_declares_it() {
        let tasks = Tasks::default();
        let to = |publication: &Publication, method: &str| {
            owner(&tasks, publication, &sent(method, "{}"), method)
        };
        let several = publication(&[
            (
                "a",
                r#"{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#,
            ),
            ("b", r#"{"experimental":{"com.example/skills":{}}}"#),
            ("c", r#"{"extensions":{"com.example.vendor/x":{}}}"#),
        ]);
        assert_eq!(&*to(&several, "tasks/get").unwrap(), "a");
        assert_eq!(&*to(&several, "skills/list").unwrap(), "b");
        assert_eq!(&*to(&several, "com.example.vendor/x/run").unwrap(), "c");
        assert_eq!(to(&several, "no/such").unwrap_err().code, -32601);
        let both = publication(&[("a", r#"{"tasks":{}}"#), ("b", r#"{"tasks":{}}"#)]);
        let fault = to(&both, "tasks/list").unwrap_err();
        assert_eq!(fault.code, -32601);
        assert!(fault.message.contains("a, b"), "{}", fault.message);
        let one = publication(&[("only", "{}")]);
        assert_eq!(&*to(&one, "no/such").unwrap(), "only");
        assert!(to(&publication(&[]), "no/such").is_err());
    }

    #[test]
    fn a_task_goes_to_the_server_that_issued_it() {
        let tasks = Tasks::default();
        let both = publication(&[("a", r#"{"tasks":{}}"#), ("b", r#"{"tasks":{}}"#)]);
        let asked = sent("tasks/get", r#"{"taskId":"t1"}"#);
        assert!(owner(&tasks, &both, &asked, "tasks/get").is_err());
        tasks.issued("b", "t1");
        assert_eq!(&*owner(&tasks, &both, &asked, "tasks/get").unwrap(), "b");
        tasks.issued("a", "t1");
        assert!(owner(&tasks, &both, &asked, "tasks/get").is_err());
    }
}
