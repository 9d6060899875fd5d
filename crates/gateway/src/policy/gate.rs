//! Where a request passes: what the rules say of it, how much of it there may be, whether somebody has to approve it, and its
//! place in the audit log.
//!
//! Every request that goes to a server comes here once it is known which server that is, whatever its endpoint, its era or the
//! way it came. What is denied is answered like what does not exist; what is refused says why.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use mainstay::catalog::CacheHint;
use mainstay::config::{ApprovalFor, PolicyAction, PolicyConfig};
use mainstay::{Catalog, Origin, Publication};
use mainstay_core::catalog::exposed_name;
use mainstay_wire::listing::CacheScope;
use mainstay_wire::views::ToolHints;
use mainstay_wire::{Message, method, raw};
use serde_json::json;
use tokio::time::Instant;

use super::approvals::{Approvals, Wanted};
use super::limits::{Counts, Over, Running};
use super::rules::{self, Decision, Thing, What};
use super::view::Seen;
use crate::audit::chain::sha256;
use crate::audit::{Approved, Audit, Kind, Record, Ticket, Who};
use crate::reload::ConfigLife;
use crate::serve::Shared;
use crate::serve::caller::Caller;
use crate::serve::endpoint::{Endpoint, Routed, no_resource};
use crate::serve::fault::{Fault, REFUSED, shown};
use crate::serve::view::Viewer;

/// Words about one change of the config that are recorded.
const DETAILS_MAX: usize = 100;

/// What a gateway keeps to decide about requests.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pub(crate) seen: Seen,
    pub(crate) approvals: Approvals,
    counts: Counts,
    /// The audit log, if one is kept.
    audit: OnceLock<Arc<Audit>>,
}

impl Gate {
    /// Keeps an audit log from now on. The first one stays.
    pub(crate) fn keep(&self, audit: Audit) {
        let _first = self.audit.set(Arc::new(audit));
    }

    /// The audit log, if one is kept.
    pub(crate) fn audit(&self) -> Option<&Arc<Audit>> {
        self.audit.get()
    }

    /// Records something, if a log is kept. Never waits.
    pub(crate) fn note(&self, record: impl FnOnce() -> Record) {
        if let Some(audit) = self.audit() {
            audit.note(record());
        }
    }
}

/// The profile whose endpoint this is.
pub(crate) fn profile_of(endpoint: &Endpoint) -> Option<&str> {
    match endpoint {
        Endpoint::Profile(at) => Some(at.name()),
        Endpoint::All | Endpoint::Server(_) => None,
    }
}

/// The policy that holds now.
pub(crate) fn policy(shared: &Shared) -> Option<Arc<PolicyConfig>> {
    shared.manager.settings().policy.clone()
}

/// Whether an endpoint is there for a caller. What is not is answered like what was never configured.
pub(crate) fn is_open(shared: &Shared, caller: &Caller, endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::All => true,
        Endpoint::Profile(at) => sees_profile(shared, caller, at.name()),
        Endpoint::Server(server) => sees_server(shared, caller, server.name(), None),
    }
}

/// Whether a profile is there for a caller.
pub(crate) fn sees_profile(shared: &Shared, caller: &Caller, name: &str) -> bool {
    policy(shared)
        .is_none_or(|policy| rules::may_enter(&policy, &rules::class(&policy, caller), name))
}

/// What a caller sees of what several servers offer at an endpoint.
pub(crate) fn seen(
    shared: &Shared,
    who: &Viewer,
    endpoint: &Endpoint,
    of: Arc<Publication>,
) -> Arc<Publication> {
    match policy(shared) {
        None => of,
        Some(policy) => {
            let profile = profile_of(endpoint);
            shared
                .gate
                .seen
                .publication(&policy, who.caller(), profile, of)
        }
    }
}

/// What a caller sees of one server at its own endpoint.
pub(crate) fn seen_of(
    shared: &Shared,
    who: &Viewer,
    server: &str,
    of: Arc<Catalog>,
) -> Arc<Catalog> {
    match policy(shared) {
        None => of,
        Some(policy) => shared.gate.seen.catalog(&policy, who.caller(), server, of),
    }
}

/// A promise that a listing may be kept by everybody is none where not everybody sees the same.
pub(crate) fn hint(shared: &Shared, hint: CacheHint) -> CacheHint {
    match policy(shared) {
        None => hint,
        Some(_) => CacheHint {
            scope: CacheScope::Private,
            ..hint
        },
    }
}

/// Whether a caller sees anything of a server, through an endpoint.
pub(crate) fn sees_server(
    shared: &Shared,
    caller: &Caller,
    server: &str,
    profile: Option<&str>,
) -> bool {
    let Some(policy) = policy(shared) else {
        return true;
    };
    rules::may_hold(&policy, &rules::class(&policy, caller), server, profile)
}

/// Whether a caller may have a resource of a server, by the server's own uri.
pub(crate) fn sees_resource(
    shared: &Shared,
    who: &Viewer,
    endpoint: &Endpoint,
    (server, uri): (&str, &str),
) -> bool {
    let Some(policy) = policy(shared) else {
        return true;
    };
    let thing = Thing {
        server,
        what: What::Resource(uri),
        profile: profile_of(endpoint),
    };
    rules::decide(&policy, &rules::class(&policy, who.caller()), thing).sees()
}

/// What a request is about, by the names that count.
#[derive(Debug)]
struct About {
    server: String,
    /// The server's own name or uri.
    name: Option<String>,
    /// As the client wrote it.
    told: Option<String>,
    /// What rules call it.
    exposed: Option<String>,
    kind: Named,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Tool,
    Prompt,
    Resource,
    /// Something of a task of the server.
    Task,
    Other,
}

impl About {
    /// Reads it off a request that has found its server.
    fn of(
        shared: &Shared,
        who: &Viewer,
        endpoint: &Endpoint,
        server: &str,
        message: &Message,
    ) -> Self {
        let (kind, told) = named(message);
        let own = |exposed: &str| -> Option<String> {
            match (endpoint, kind) {
                (Endpoint::Server(_), _) => None,
                (Endpoint::All | Endpoint::Profile(_), Named::Tool | Named::Prompt) => {
                    let publication = endpoint.publication(shared, who);
                    let listing = match kind {
                        Named::Tool => &publication.tools,
                        Named::Prompt | Named::Resource | Named::Task | Named::Other => {
                            &publication.prompts
                        }
                    };
                    listing.find(exposed).map(|item| item.upstream.to_string())
                }
                (Endpoint::All | Endpoint::Profile(_), Named::Resource) => {
                    let publication = endpoint.publication(shared, who);
                    let template = publication.templates.find(exposed);
                    let found = template.map(|template| template.upstream.to_string());
                    found.or_else(|| publication.locate(exposed).map(|(_, own)| own.to_owned()))
                }
                (Endpoint::All | Endpoint::Profile(_), Named::Task | Named::Other) => None,
            }
        };
        let name = told
            .as_deref()
            .map(|told| own(told).unwrap_or_else(|| told.to_owned()));
        let exposed = match kind {
            Named::Tool | Named::Prompt => name.as_deref().map(|name| exposed_name(server, name)),
            Named::Resource | Named::Task | Named::Other => None,
        };
        Self {
            server: server.to_owned(),
            name,
            told,
            exposed,
            kind,
        }
    }

    fn what(&self) -> What<'_> {
        let exposed = self.exposed.as_deref().unwrap_or_default();
        let name = self.name.as_deref().unwrap_or_default();
        match self.kind {
            Named::Tool => What::Tool(exposed),
            Named::Prompt => What::Prompt(exposed),
            Named::Resource => What::Resource(name),
            Named::Task | Named::Other => What::Other,
        }
    }

    /// What a client is told of what is not there.
    fn absent(&self, method: &str) -> Fault {
        let told = self.told.as_deref().unwrap_or_default();
        match self.kind {
            Named::Tool => Fault::params(format!("Unknown tool: {}", shown(told))),
            Named::Prompt => Fault::params(format!("Unknown prompt: {}", shown(told))),
            Named::Resource if method == method::COMPLETE => {
                Fault::params(format!("Unknown resource: {}", shown(told)))
            }
            Named::Resource => no_resource(told),
            Named::Task | Named::Other => Fault::no_method(method),
        }
    }
}

/// What a request names.
fn named(message: &Message) -> (Named, Option<String>) {
    let text = |path: &[&str]| {
        message
            .string_member(path)
            .map(std::borrow::Cow::into_owned)
    };
    match message.method().unwrap_or_default() {
        method::TOOLS_CALL => (Named::Tool, text(&["params", "name"])),
        method::PROMPTS_GET => (Named::Prompt, text(&["params", "name"])),
        method::RESOURCES_READ => (Named::Resource, text(&["params", "uri"])),
        method::COMPLETE => match text(&["params", "ref", "type"]).as_deref() {
            Some("ref/prompt") => (Named::Prompt, text(&["params", "ref", "name"])),
            Some("ref/resource") => (Named::Resource, text(&["params", "ref", "uri"])),
            Some(_) | None => (Named::Other, None),
        },
        other if other.starts_with("tasks/") => (Named::Task, text(&["params", "taskId"])),
        _ => (Named::Other, None),
    }
}

/// Records every config that is made true. Ends with the gateway.
pub(crate) async fn follow_config(life: Arc<ConfigLife>, shared: Weak<Shared>) {
    let mut loaded = life.loaded();
    while loaded.changed().await.is_ok() {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let last = life.state().last.clone();
        let details = last.and_then(|last| {
            let plan = last.plan.as_ref()?;
            let named = [
                ("added", &plan.add),
                ("removed", &plan.remove),
                ("replaced", &plan.replace),
                ("changed", &plan.patch),
            ];
            let servers = named
                .into_iter()
                .flat_map(|(word, names)| names.iter().map(move |name| format!("{word} {name}")));
            let settings = plan.gateway.iter().map(|change| change.key.clone());
            Some(settings.chain(servers).take(DETAILS_MAX).collect())
        });
        shared.gate.note(|| Record {
            details: details.unwrap_or_default(),
            outcome: Some("loaded".to_owned()),
            ..Record::new(Kind::Config)
        });
    }
}

/// Lets a request pass that has found its server, or says why not. `Ok(None)`: nothing was to be looked at. `goes_on`: it is
/// sent only if it turns out to be the next request of a call that was let in already, so it is not counted and asked about anew.
///
/// # Errors
/// What the client is to be told: that it is not there, or that it is refused and why.
pub(crate) fn admit(
    shared: &Shared,
    (endpoint, who): (&Endpoint, &Viewer),
    routed: &Routed,
    message: &Message,
    (origin, goes_on): (&Origin, bool),
) -> Result<Option<Pass>, Fault> {
    let settings = shared.manager.settings();
    let read_only = profile_of(endpoint)
        .and_then(|name| settings.profiles.get(name))
        .is_some_and(|profile| profile.read_only);
    if settings.policy.is_none() && shared.gate.audit().is_none() && !read_only {
        return Ok(None);
    }
    let about = About::of(shared, who, endpoint, routed.server.name(), message);
    let none = PolicyConfig::default();
    let request = Request {
        shared,
        endpoint,
        who,
        routed,
        message,
        origin,
        about,
        policy: settings.policy.as_deref().unwrap_or(&none),
        read_only,
        goes_on,
    };
    request.pass().map(Some)
}

/// Records that somebody asked for what is not there for them, although it exists. What was never there is nobody's concern.
pub(crate) fn missed(
    shared: &Shared,
    (endpoint, who): (&Endpoint, &Viewer),
    message: &Message,
    origin: &Origin,
) {
    let Some(policy) = policy(shared).filter(|_| shared.gate.audit().is_some()) else {
        return;
    };
    let publication = shared.manager.publication();
    let (kind, Some(told)) = named(message) else {
        return;
    };
    let found = match kind {
        Named::Tool => publication.tools.find(&told),
        Named::Prompt => publication.prompts.find(&told),
        Named::Resource => publication.resources.find(&told),
        Named::Task | Named::Other => None,
    };
    let Some(item) = found else { return };
    let what = match kind {
        Named::Tool => What::Tool(&item.exposed),
        Named::Prompt => What::Prompt(&item.exposed),
        Named::Resource | Named::Task | Named::Other => What::Resource(&item.upstream),
    };
    let thing = Thing {
        server: &item.server,
        what,
        profile: profile_of(endpoint),
    };
    let decision = rules::decide(&policy, &rules::class(&policy, who.caller()), thing);
    if decision.sees() {
        return;
    }
    shared.gate.note(|| Record {
        server: Some(item.server.to_string()),
        name: Some(item.upstream.to_string()),
        exposed: Some(told),
        decision: Some("deny"),
        rule: Some(decision.by().to_owned()),
        outcome: Some("refused".to_owned()),
        ..begun(who.caller(), message, origin)
    });
}

/// What every record of a request begins with.
fn begun(caller: &Caller, message: &Message, origin: &Origin) -> Record {
    Record {
        who: Some(Who::of(caller)),
        method: message.method().map(|method| shown(method)),
        endpoint: Some(origin.endpoint.to_string()),
        ..Record::new(Kind::Call)
    }
}

/// One request at the gate.
struct Request<'r> {
    shared: &'r Shared,
    endpoint: &'r Endpoint,
    who: &'r Viewer,
    routed: &'r Routed,
    message: &'r Message,
    origin: &'r Origin,
    about: About,
    policy: &'r PolicyConfig,
    /// The endpoint is for tools that read.
    read_only: bool,
    goes_on: bool,
}

impl Request<'_> {
    fn pass(self) -> Result<Pass, Fault> {
        let caller = self.who.caller();
        let class = rules::class(self.policy, caller);
        let thing = Thing {
            server: &self.about.server,
            what: self.about.what(),
            profile: profile_of(self.endpoint),
        };
        let decision = rules::decide(self.policy, &class, thing);
        let sees = match self.about.kind {
            // Whoever may call a tool may ask after the task that came of it.
            Named::Task => rules::may_hold(self.policy, &class, thing.server, thing.profile),
            Named::Tool | Named::Prompt | Named::Resource | Named::Other => decision.sees(),
        };
        let arguments = self.arguments();
        let log = self.log(&decision, arguments.as_deref())?;
        if !sees {
            let fault = self.about.absent(self.message.method().unwrap_or_default());
            return Err(self.refused(log, "deny", None, fault));
        }
        if let Err((reason, fault)) = self.may_change(&decision) {
            return Err(self.refused(log, "refuse", Some(reason), fault));
        }
        let running = match self.count(&decision) {
            Ok(running) => running,
            Err((reason, fault)) => return Err(self.refused(log, "refuse", Some(reason), fault)),
        };
        let wanted = match self.goes_on {
            true => None,
            false => self.wanted(&decision, arguments.unwrap_or_default()),
        };
        Ok(Pass {
            running,
            wanted,
            log,
            ended: Mutex::default(),
        })
    }

    /// The arguments in their canonical form, if anybody wants to know.
    fn arguments(&self) -> Option<String> {
        if self.message.method() != Some(method::TOOLS_CALL)
            && self.message.method() != Some(method::PROMPTS_GET)
        {
            return None;
        }
        let given = self
            .message
            .member(&["params", "arguments"])
            .unwrap_or("{}");
        Some(raw::canonical(given).unwrap_or_else(|| given.to_owned()))
    }

    fn log(&self, decision: &Decision<'_>, arguments: Option<&str>) -> Result<Option<Log>, Fault> {
        let Some(audit) = self.shared.gate.audit() else {
            return Ok(None);
        };
        let ticket = audit.open().map_err(|unwritable| {
            let words = format!(
                "this Mainstay makes no calls that it cannot record, and its audit log cannot be written: {}",
                unwritable.0
            );
            self.refusal("auditUnavailable", words, decision)
        })?;
        let about = &self.about;
        let record = Record {
            server: Some(about.server.clone()),
            name: about.name.as_deref().map(shown),
            exposed: about.told.as_deref().map(shown),
            rule: (self.shared.manager.settings().policy.is_some())
                .then(|| decision.by().to_owned()),
            decision: Some("allow"),
            arguments_sha256: arguments.map(|arguments| sha256(arguments.as_bytes())),
            ..begun(self.who.caller(), self.message, self.origin)
        };
        Ok(Some(Log {
            ticket,
            record: Box::new(record),
            began: Instant::now(),
        }))
    }

    /// Writes down that it ends here.
    fn refused(
        &self,
        log: Option<Log>,
        decision: &'static str,
        reason: Option<&'static str>,
        fault: Fault,
    ) -> Fault {
        if let Some(mut log) = log {
            log.record.decision = Some(decision);
            log.record.reason = reason;
            log.write(Ended {
                outcome: Some("refused".to_owned()),
                ..Ended::default()
            });
        }
        fault
    }

    /// Whether what only may read is all that this does.
    fn may_change(&self, decision: &Decision<'_>) -> Result<(), (&'static str, Fault)> {
        if !(decision.read_only || self.read_only) {
            return Ok(());
        }
        let reads = match self.about.kind {
            Named::Tool => self.hints().read_only,
            Named::Prompt | Named::Resource => true,
            // Of tasks, what was let in may be looked after.
            Named::Task => true,
            Named::Other => method::is_read_only(self.message.method().unwrap_or_default()),
        };
        if reads {
            return Ok(());
        }
        let words = match self.about.kind {
            Named::Tool => format!(
                "only tools that read may be called here, and `{}` is not known to be one",
                shown(self.about.told.as_deref().unwrap_or_default())
            ),
            Named::Prompt | Named::Resource | Named::Task | Named::Other => {
                "only what reads may be asked for here".to_owned()
            }
        };
        Err(("readOnly", self.refusal("readOnly", words, decision)))
    }

    /// What may be believed of the tool.
    fn hints(&self) -> ToolHints {
        let told = self.about.told.as_deref().unwrap_or_default();
        let raw = self.endpoint.tool(self.shared, self.who, told);
        let definition = raw.as_deref().and_then(|raw| std::str::from_utf8(raw).ok());
        let own = self.about.name.as_deref().unwrap_or_default();
        self.routed.server.believed_hints(own, definition)
    }

    fn count(&self, decision: &Decision<'_>) -> Result<Option<Running>, (&'static str, Fault)> {
        let counted = match self.message.method().unwrap_or_default() {
            method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ => !self.goes_on,
            _ => false,
        };
        let Some((rule, limits)) = decision
            .rule
            .and_then(|rule| Some((rule, rule.limits?)))
            .filter(|_| counted)
        else {
            return Ok(None);
        };
        let tool = format!(
            "{}\0{}",
            self.about.server,
            self.about.name.as_deref().unwrap_or_default()
        );
        let principal = self.who.caller().principal.as_ref();
        let over = match self
            .shared
            .gate
            .counts
            .take(limits, &rule.name, principal, &tool)
        {
            Ok(running) => return Ok(Some(running)),
            Err(over) => over,
        };
        let (reason, words, wait_ms) = match over {
            Over::Rate(wait) => {
                // Rounded up: who comes then is let in.
                let wait_ms = wait.as_nanos().div_ceil(1_000_000);
                let words = format!("too many calls; the next one may be made in {wait_ms} ms");
                ("rateLimited", words, u64::try_from(wait_ms).ok())
            }
            Over::Concurrent(most) => {
                let words =
                    format!("{most} calls are running, which is all that may at the same time");
                ("tooManyRunning", words, None)
            }
        };
        let mut fault = self.refusal(reason, words, decision);
        if let (Some(data), Some(wait_ms)) = (&mut fault.data, wait_ms) {
            data["retryAfterMs"] = json!(wait_ms);
        }
        Err((reason, fault))
    }

    fn wanted(&self, decision: &Decision<'_>, arguments: String) -> Option<Box<Wanted>> {
        let rule = decision.rule?;
        if decision.action != PolicyAction::Approve || self.about.kind != Named::Tool {
            return None;
        }
        let is_meant = match rule.approval.which {
            ApprovalFor::All => true,
            ApprovalFor::Destructive => self.hints().destructive,
        };
        let caller = self.who.caller();
        is_meant.then(|| {
            Box::new(Wanted {
                approval: rule.approval,
                rule: rule.name.to_string(),
                principal: caller.principal.clone(),
                label: caller.label.clone(),
                server: self.about.server.clone(),
                tool: self.about.name.clone().unwrap_or_default(),
                exposed: self.about.exposed.clone().unwrap_or_default(),
                endpoint: self.origin.endpoint.to_string(),
                arguments_sha256: sha256(arguments.as_bytes()),
                arguments,
            })
        })
    }

    fn refusal(&self, reason: &'static str, words: String, decision: &Decision<'_>) -> Fault {
        refusal(
            reason,
            words,
            &self.about.server,
            self.about.told.as_deref(),
            decision.by(),
        )
    }
}

/// A refusal by policy: never sent, and it says why.
fn refusal(
    reason: &'static str,
    words: String,
    server: &str,
    name: Option<&str>,
    rule: &str,
) -> Fault {
    let hint = match reason {
        "readOnly" => "ask for something that only reads, or ask whoever runs this Mainstay",
        "rateLimited" | "tooManyRunning" => "call again later",
        "auditUnavailable" => "whoever runs this Mainstay has to see to its audit log",
        _ => "ask whoever runs this Mainstay",
    };
    let mut data = json!({
        "outcome": "refused",
        "server": server,
        "reason": reason,
        "rule": rule,
        "cause": { "kind": "policy", "detail": words },
        "hint": hint,
    });
    if let Some(name) = name {
        data["name"] = json!(shown(name));
    }
    Fault::new(REFUSED, words).with(data)
}

/// A call that nobody approved.
pub(crate) fn unapproved(wanted: &Wanted, reason: &'static str, words: &str) -> Fault {
    let words = format!("`{}` needs approval for this call: {words}", wanted.tool);
    refusal(
        reason,
        words,
        &wanted.server,
        Some(&wanted.exposed),
        &wanted.rule,
    )
}

/// A request that was let in, until it has ended: it counts as running, and is recorded when this is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    #[expect(dead_code, reason = "held: it counts as running until it is dropped")]
    running: Option<Running>,
    wanted: Option<Box<Wanted>>,
    log: Option<Log>,
    ended: Mutex<Ended>,
}

#[derive(Debug)]
struct Log {
    ticket: Ticket,
    record: Box<Record>,
    began: Instant,
}

/// How it ended, as far as it is known.
#[derive(Debug, Default)]
struct Ended {
    outcome: Option<String>,
    approval: Option<Approved>,
    reason: Option<&'static str>,
    next_round: bool,
}

impl Log {
    fn write(self, ended: Ended) {
        let Self {
            ticket,
            mut record,
            began,
        } = self;
        // Without a word the future was dropped: its client has left.
        record.outcome = Some(ended.outcome.unwrap_or_else(|| "cancelled".to_owned()));
        record.approval = ended.approval;
        if ended.reason.is_some() {
            record.decision = Some("refuse");
            record.reason = ended.reason;
        }
        record.duration_ms = u64::try_from(began.elapsed().as_millis()).ok();
        ticket.write(*record);
    }
}

impl Pass {
    /// The word that is needed before anything is sent.
    pub(crate) fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_deref()
    }

    /// Whether it was allowed by somebody, in this request or in the round before it.
    pub(crate) fn is_cleared(&self) -> bool {
        let ended = self.ended();
        let allowed = ended.approval.is_some_and(|approval| approval.allowed);
        allowed || ended.next_round
    }

    /// It is the next round of a call that was allowed.
    pub(crate) fn goes_on(&self) {
        self.ended().next_round = true;
    }

    /// Somebody allowed it, or did not.
    pub(crate) fn approved(&self, approval: Approved) {
        self.ended().approval = Some(approval);
    }

    /// It is refused after all.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.ended().reason = Some(reason);
    }

    /// How it ended, in a word of the outcomes of calls.
    pub(crate) fn ends(&self, outcome: &str) {
        if self.log.is_some() {
            self.ended().outcome = Some(outcome.to_owned());
        }
    }

    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let ended = std::mem::take(&mut *self.ended());
        if let Some(log) = self.log.take() {
            log.write(ended);
        }
    }
}
