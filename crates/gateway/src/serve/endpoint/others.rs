//! Requests of extensions on the aggregate: which one server they are for.
//!
//! A task goes to the server that issued it; any other method to the one server that declares what it belongs to. Where
//! that says nothing, the only server there is gets it. Never guessed: where several could be meant, the client is told to
//! use a server's own endpoint.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay::{Catalog, Principal, Publication, ServerHandle};
use mainstay_wire::{Message, method, raw};
use serde_json::json;

use super::{Endpoint, Routed};
use crate::serve::Shared;
use crate::serve::fault::{Fault, shown};
use crate::serve::view::Viewer;

/// Tasks that are remembered of nobody in particular, and of each principal. Beyond it the oldest is forgotten: whoever has
/// many pushes out nobody else's.
const TASKS_MAX: usize = 10_000;
const TASKS_OF_ONE_MAX: usize = 1_000;

/// Longest id of a task that is remembered, in bytes.
const TASK_ID_BYTES_MAX: usize = 1_024;

/// Longest answer that is looked at: what announces a task is short.
const ANNOUNCEMENT_BYTES_MAX: usize = 64 * 1024;

type ServerAndId = (Box<str>, Box<str>);

/// Which server issued which task, and to whom.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    inner: Mutex<Issued>,
}

#[derive(Debug, Default)]
struct Issued {
    by_id: HashMap<Box<str>, Vec<Task>>,
    /// What each has, the oldest first.
    order: HashMap<Option<Principal>, VecDeque<ServerAndId>>,
}

/// One task of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Task {
    server: Box<str>,
    principal: Option<Principal>,
}

/// What is known of a task id, for one principal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// Nothing: never heard of.
    Nothing,
    /// It is that principal's, at this server.
    Own(Box<str>),
    /// Several servers gave that principal one of this id.
    Several,
    /// It is somebody else's.
    Others,
}

impl Issued {
    fn forget(&mut self, id: &str, server: &str, principal: Option<&Principal>) {
        if let Some(tasks) = self.by_id.get_mut(id) {
            tasks.retain(|task| *task.server != *server || task.principal.as_ref() != principal);
            if tasks.is_empty() {
                self.by_id.remove(id);
            }
        }
    }
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, Issued> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the task that an answer of a server announces, if it does: a result of the type `task` (extension), or
    /// one with a `task` object (2025-11-25).
    fn note(&self, server: &str, principal: Option<&Principal>, answer: &Message) {
        if answer.as_str().len() > ANNOUNCEMENT_BYTES_MAX {
            return;
        }
        let extension = || answer.string_member(&["result", "taskId"]);
        let experimental = || answer.string_member(&["result", "task", "taskId"]);
        if let Some(id) = extension().or_else(experimental) {
            self.issued(server, principal, &id);
        }
    }

    fn issued(&self, server: &str, principal: Option<&Principal>, id: &str) {
        if id.len() > TASK_ID_BYTES_MAX {
            return;
        }
        let mut issued = self.lock();
        let task = Task {
            server: server.into(),
            principal: principal.cloned(),
        };
        let known = issued.by_id.entry(id.into()).or_default();
        if known.contains(&task) {
            return;
        }
        // A server that gives an id away again has forgotten the task that it was.
        known.retain(|known| known.server != task.server);
        known.push(task);
        let own = issued.order.entry(principal.cloned()).or_default();
        own.push_back((id.into(), server.into()));
        let max = match principal {
            None => TASKS_MAX,
            Some(_) => TASKS_OF_ONE_MAX,
        };
        if own.len() > max
            && let Some((id, server)) = own.pop_front()
        {
            issued.forget(&id, &server, principal);
        }
    }

    fn known(&self, id: &str, principal: Option<&Principal>) -> Known {
        let issued = self.lock();
        let Some(tasks) = issued.by_id.get(id) else {
            return Known::Nothing;
        };
        let mut own = tasks
            .iter()
            .filter(|task| task.principal.as_ref() == principal);
        match (own.next(), own.next()) {
            (None, _) => Known::Others,
            (Some(task), None) => Known::Own(task.server.clone()),
            (Some(_), Some(_)) => Known::Several,
        }
    }

    /// Whether a server gave tasks to anybody else.
    fn has_others_at(&self, server: &str, principal: Option<&Principal>) -> bool {
        let issued = self.lock();
        let mut tasks = issued.by_id.values().flatten();
        tasks.any(|task| *task.server == *server && task.principal.as_ref() != principal)
    }

    /// Whether a principal may send a server this request about tasks, where several share its connection: the server
    /// itself cannot tell them apart (F256).
    ///
    /// # Errors
    /// The task is somebody else's, or nobody knows whose it is; all tasks are asked for.
    pub(super) fn check(
        &self,
        server: &ServerHandle,
        who: &Viewer,
        message: &Message,
    ) -> Result<(), Fault> {
        let method = message.method().unwrap_or_default();
        if !method.starts_with("tasks/") || who.is_apart_at(server) {
            return Ok(());
        }
        let principal = who.caller().principal.as_ref();
        let Some(id) = message.string_member(&["params", "taskId"]) else {
            let alone = principal.is_none() && !self.has_others_at(server.name(), principal);
            return if alone {
                Ok(())
            } else {
                Err(shared_tasks(server.name(), method))
            };
        };
        match (self.known(&id, principal), principal) {
            (Known::Own(at), _) if *at == *server.name() => Ok(()),
            (Known::Several, _) => Ok(()),
            // Those of this machine's user are not remembered where there can be no doubt.
            (Known::Nothing, None) => Ok(()),
            (Known::Own(_), None) => Ok(()),
            (Known::Nothing | Known::Own(_), Some(_)) | (Known::Others, _) => {
                Err(Fault::params(format!("Unknown task: {}", shown(&id))))
            }
        }
    }
}

fn shared_tasks(server: &str, method: &str) -> Fault {
    let mut fault = Fault::no_method(method);
    fault.message = format!(
        "{}: several users share the connection to server `{server}`, and each may only ask for its own tasks, by their ids",
        fault.message
    );
    fault
}

/// The server of a call that may be answered with a task.
#[derive(Debug)]
pub(crate) struct Issuer {
    shared: Arc<Shared>,
    server: Box<str>,
    principal: Option<Principal>,
}

impl Issuer {
    /// `None` where no task can come of it, or nobody has to remember it.
    pub(crate) fn of(
        shared: &Arc<Shared>,
        endpoint: &Endpoint,
        who: &Viewer,
        routed: &Routed,
    ) -> Option<Self> {
        let principal = &who.caller().principal;
        match (endpoint, principal) {
            (Endpoint::Server(_), None) => return None,
            (Endpoint::All | Endpoint::Profile(_), _) | (Endpoint::Server(_), Some(_)) => {}
        }
        let publication = match principal {
            None => shared.manager.publication(),
            Some(_) => Endpoint::All.publication(shared, who),
        };
        let server = routed.server.name();
        let catalog = publication.servers.get(server)?;
        // The usual case first. And where only one server has tasks and one user asks, nothing needs to be remembered.
        let declared = declares(catalog, method::TASKS_GET);
        let doubt = || declaring(&publication, method::TASKS_GET).len() > 1;
        (declared && (principal.is_some() || doubt())).then(|| Self {
            shared: Arc::clone(shared),
            server: server.into(),
            principal: principal.clone(),
        })
    }

    /// Looks whether an answer announces a task.
    pub(crate) fn note(&self, answer: &Message) {
        let tasks = &self.shared.task_owners;
        tasks.note(&self.server, self.principal.as_ref(), answer);
    }
}

/// The name of the server that a principal's request with this method is for.
pub(super) fn owner(
    tasks: &Tasks,
    publication: &Publication,
    principal: Option<&Principal>,
    message: &Message,
    method: &str,
) -> Result<Box<str>, Fault> {
    let task = message
        .string_member(&["params", "taskId"])
        .filter(|_| method.starts_with("tasks/"));
    if let Some(id) = task {
        match tasks.known(&id, principal) {
            Known::Own(server) => return Ok(server),
            Known::Several => return Err(ambiguous(method, &declaring(publication, method))),
            // Whoever it is sent to, it is checked there.
            Known::Nothing | Known::Others => {}
        }
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

    fn own(server: &str) -> Known {
        Known::Own(server.into())
    }

    #[test]
    fn tasks_are_remembered_bounded_and_never_guessed() {
        let tasks = Tasks::default();
        let result = |result: &str| Message::result_of(&mainstay_wire::Id::number(1), result);
        tasks.note("a", None, &result(r#"{"resultType":"task","taskId":"t1"}"#));
        tasks.note(
            "b",
            None,
            &result(r#"{"task":{"taskId":"t2","status":"working"}}"#),
        );
        tasks.note("b", None, &result(r#"{"content":[]}"#));
        assert_eq!(tasks.known("t1", None), own("a"));
        assert_eq!(tasks.known("t2", None), own("b"));
        assert_eq!(tasks.known("t3", None), Known::Nothing);
        tasks.issued("b", None, "t1");
        assert_eq!(tasks.known("t1", None), Known::Several, "both have one");
        let ann = Principal::new("ann");
        tasks.issued("a", ann.as_ref(), "hers");
        for number in 0..TASKS_MAX {
            tasks.issued("a", None, &format!("more-{number}"));
        }
        assert_eq!(
            tasks.known("t1", None),
            Known::Nothing,
            "the oldest is forgotten"
        );
        assert_eq!(
            tasks.known("hers", ann.as_ref()),
            own("a"),
            "a flood is its maker's alone"
        );
        assert_eq!(tasks.lock().by_id.len(), TASKS_MAX + 1);
        for number in 0..2 * TASKS_OF_ONE_MAX {
            tasks.issued("a", ann.as_ref(), &format!("of-ann-{number}"));
        }
        assert_eq!(tasks.lock().by_id.len(), TASKS_MAX + TASKS_OF_ONE_MAX);
        tasks.issued("a", None, &"x".repeat(TASK_ID_BYTES_MAX + 1));
        assert_eq!(tasks.lock().by_id.len(), TASKS_MAX + TASKS_OF_ONE_MAX);
    }

    #[test]
    fn f256_a_task_is_its_principals_alone() {
        let tasks = Tasks::default();
        let (ann, bob) = (Principal::new("ann"), Principal::new("bob"));
        tasks.issued("a", ann.as_ref(), "t");
        assert_eq!(tasks.known("t", ann.as_ref()), own("a"));
        assert_eq!(tasks.known("t", bob.as_ref()), Known::Others);
        assert_eq!(tasks.known("t", None), Known::Others);
        assert!(tasks.has_others_at("a", None) && !tasks.has_others_at("a", ann.as_ref()));
        // Another server's of the same id is another task; the same server's has replaced it.
        tasks.issued("b", bob.as_ref(), "t");
        assert_eq!(tasks.known("t", bob.as_ref()), own("b"));
        assert_eq!(tasks.known("t", ann.as_ref()), own("a"));
        tasks.issued("a", bob.as_ref(), "t");
        assert_eq!(tasks.known("t", ann.as_ref()), Known::Others);
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
            owner(&tasks, publication, None, &sent(method, "{}"), method)
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
        assert!(owner(&tasks, &both, None, &asked, "tasks/get").is_err());
        tasks.issued("b", None, "t1");
        assert_eq!(
            &*owner(&tasks, &both, None, &asked, "tasks/get").unwrap(),
            "b"
        );
        tasks.issued("a", None, "t1");
        assert!(owner(&tasks, &both, None, &asked, "tasks/get").is_err());
    }
}
