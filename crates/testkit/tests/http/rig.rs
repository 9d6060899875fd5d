//! A link, a server, and ears for what the link hands up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::runtime::http::{
    CallMark, EraHint, Greeting, HttpLink, HttpSetup, PushStage, PushWatch,
};
use mainstay::runtime::{Cut, Inbound, Miss, Origin, Outgoing};
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_testkit::http_server::{HttpServer, Script};
use mainstay_wire::envelope::{Limits, Message};
use mainstay_wire::id::Id;
use mainstay_wire::revision::{Era, Revision};
use mainstay_wire::splice::Parts;

/// Longer than anything here takes on a loaded machine; a test that needs it has failed.
pub(crate) const GENEROUS: Duration = Duration::from_secs(30);

/// The bound of the era probe in tests that do not wait for it to pass.
pub(crate) const PROBE_MS: u64 = 20_000;

/// Everything that a link handed up.
#[derive(Debug, Default)]
pub(crate) struct Ears {
    pub(crate) heard: Mutex<Vec<(Message, Origin)>>,
    pub(crate) lives: AtomicU64,
    pub(crate) skipped: Mutex<Vec<String>>,
    pub(crate) gaps: AtomicU64,
    pub(crate) stages: Mutex<Vec<PushStage>>,
}

impl Ears {
    pub(crate) fn methods(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        heard
            .iter()
            .filter_map(|(message, _)| message.method().map(str::to_owned))
            .collect()
    }
}

impl PushWatch for Ears {
    fn gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    fn stage(&self, stage: PushStage) {
        self.stages.lock().unwrap().push(stage);
    }
}

impl Inbound for Ears {
    fn receive(&self, message: Message, from: Origin) {
        self.heard.lock().unwrap().push((message, from));
    }

    fn life(&self) {
        self.lives.fetch_add(1, Ordering::Relaxed);
    }

    fn skipped(&self, what: &'static str, sample: &str) {
        self.skipped
            .lock()
            .unwrap()
            .push(format!("{what}: {sample}"));
    }
}

/// A link to a server of its own.
pub(crate) struct Rig {
    pub(crate) server: HttpServer,
    pub(crate) link: Arc<HttpLink>,
    pub(crate) ears: Arc<Ears>,
    pub(crate) ids: AtomicU64,
    pub(crate) era: Era,
}

pub(crate) fn link_to(url: &str, limits: Limits) -> HttpLink {
    link_within(url, limits, 10_000)
}

/// A link whose push stream may be silent for so long.
pub(crate) fn link_with(url: &str, limits: Limits, push_idle_ms: u64) -> HttpLink {
    HttpLink::new(HttpSetup {
        limits,
        push_idle_ms,
        ..HttpSetup::new(url)
    })
    .expect("a good URL")
}

/// A link whose connections have to stand within so many milliseconds.
pub(crate) fn link_within(url: &str, limits: Limits, connect_ms: u64) -> HttpLink {
    let setup = HttpSetup {
        limits,
        connect_ms,
        ..HttpSetup::new(url)
    };
    HttpLink::new(setup).expect("a good URL")
}

impl Rig {
    /// A server and a link that has not greeted it yet.
    pub(crate) async fn strangers(script: Script) -> Self {
        Self::strangers_within(script, Limits::default()).await
    }

    pub(crate) async fn strangers_within(script: Script, limits: Limits) -> Self {
        let server = HttpServer::start(script).await.expect("a free port");
        let link = Arc::new(link_to(&server.url(), limits));
        Self {
            server,
            link,
            ears: Arc::default(),
            ids: AtomicU64::new(1),
            era: Era::Legacy,
        }
    }

    /// A server and a link that has greeted it.
    pub(crate) async fn greeted(script: Script) -> Self {
        Self::greeted_within(script, Limits::default()).await
    }

    pub(crate) async fn greeted_within(script: Script, limits: Limits) -> Self {
        let mut rig = Self::strangers_within(script, limits).await;
        let greeting = rig.greet(EraHint::Probe).await.expect("greeted");
        rig.era = greeting.revision.era();
        rig
    }

    /// The same server through the other HTTP engine, the one that TLS and proxies need: a user in the URL asks for it.
    pub(crate) async fn through_the_other_engine(script: Script) -> Self {
        let server = HttpServer::start(script).await.expect("a free port");
        let url = format!("http://me:s%20cret@{}/mcp", server.address());
        let link = Arc::new(link_to(&url, Limits::default()));
        Self {
            server,
            link,
            ears: Arc::default(),
            ids: AtomicU64::new(1),
            era: Era::Legacy,
        }
    }

    pub(crate) async fn greet(&self, hint: EraHint) -> Result<Greeting, Failure> {
        self.greet_within(hint, PROBE_MS).await
    }

    pub(crate) async fn greet_within(
        &self,
        hint: EraHint,
        probe_ms: u64,
    ) -> Result<Greeting, Failure> {
        in_time(self.link.greet(&self.ids, hint, probe_ms, &*self.ears)).await
    }

    pub(crate) fn outgoing(&self, method: &str, name: Option<&str>, members: &str) -> Outgoing {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let comma = if members.is_empty() { "" } else { "," };
        let params = match self.era {
            Era::Legacy => format!("{{{members}}}"),
            Era::Modern => format!(
                "{{{members}{comma}\"_meta\":{{\"io.modelcontextprotocol/protocolVersion\":\"{}\",\
                 \"io.modelcontextprotocol/clientCapabilities\":{{}}}}}}",
                Revision::LATEST_MODERN
            ),
        };
        Outgoing {
            id,
            method: method.into(),
            name: name.map(Into::into),
            params: Vec::new(),
            parts: Parts::from(Message::request(&Id::number(id), method, Some(&params))),
            mark: Arc::new(CallMark::default()),
        }
    }

    /// Calls a tool, within generous time.
    pub(crate) async fn call(&self, tool: &str, arguments: &str) -> Result<Message, Miss> {
        in_time(self.link.exchange(self.tool(tool, arguments), &*self.ears)).await
    }

    pub(crate) fn tool(&self, tool: &str, arguments: &str) -> Outgoing {
        let members = format!("\"name\":\"{tool}\",\"arguments\":{arguments}");
        self.outgoing("tools/call", Some(tool), &members)
    }

    /// Holds the push stream in the background until the returned guard is dropped.
    pub(crate) fn push(&self, greeting: Greeting) -> Pushing {
        let (link, ears) = (Arc::clone(&self.link), Arc::clone(&self.ears));
        Pushing(tokio::spawn(async move {
            link.push(&greeting, &*ears, &*ears).await
        }))
    }
}

/// A push stream that is held.
pub(crate) struct Pushing(pub(crate) tokio::task::JoinHandle<mainstay::runtime::http::PushEnd>);

impl Drop for Pushing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The result of something that must not hang.
pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(GENEROUS, work)
        .await
        .expect("it hangs")
}

/// Waits until something is true.
pub(crate) async fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + GENEROUS;
    while !is_true() {
        assert!(tokio::time::Instant::now() < end, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The text of a tool's answer.
pub(crate) fn text(answer: &Message) -> String {
    let result: serde_json::Value =
        serde_json::from_str(answer.result().expect("a result")).expect("JSON");
    result["content"][0]["text"]
        .as_str()
        .expect("a text")
        .to_owned()
}

/// The failure kind of a miss, and whether the request can have run.
pub(crate) fn outcome(answered: &Result<Message, Miss>) -> (&'static str, Option<FailureKind>) {
    match answered {
        Ok(_) => ("answered", None),
        Err(Miss::NotSent(cut)) => ("not sent", kind(cut)),
        Err(Miss::Rejected(failure)) => ("rejected", Some(failure.kind)),
        Err(Miss::Doubted(failure)) => ("doubted", Some(failure.kind)),
        Err(Miss::Lost(cut)) => ("lost", kind(cut)),
    }
}

fn kind(cut: &Cut) -> Option<FailureKind> {
    match cut {
        Cut::Ended(failure) => Some(failure.kind),
        Cut::Idle | Cut::Total | Cut::AnswerRefused(_) => None,
    }
}

/// Why an answer was refused.
pub(crate) fn why_refused(answered: &Result<Message, Miss>) -> &str {
    match answered {
        Err(Miss::Lost(Cut::AnswerRefused(why))) => why,
        other => panic!("not a refused answer: {other:?}"),
    }
}
