//! What operators say of a server's tools: names, words, arguments, limits, retries, and what they approve.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mainstay::config::{
    Config, Glob, Replay, ServerConfig, ToolArguments, ToolRetry, ToolTimeouts,
};
use mainstay::error::Lost;
use mainstay::pins::{ChangeKind, PinError};
use mainstay::{CallError, CallOptions, EventKind, Manager, Refusal, ServerHandle};
use mainstay_testkit::http_server::{Eras, Fault, HttpServer};
use serde_json::{Value, json};

use super::harness::*;
use super::http::script;
use super::paper::{Paper, Say, tool};

/// What is shown, by the names on the server's own handle.
fn shown(server: &ServerHandle) -> Vec<String> {
    let catalog = server.catalog();
    let tools = catalog.iter().flat_map(|catalog| &catalog.tools.items);
    tools.map(|tool| tool.name.clone()).collect()
}

fn published(manager: &Manager) -> Vec<String> {
    let publication = manager.publication();
    let tools = publication.tools.items.iter();
    tools.map(|tool| tool.exposed.to_string()).collect()
}

async fn reload(manager: &Manager, config: ServerConfig) {
    let config = Config::from_servers([config]);
    within("the reload", manager.reload(config)).await.unwrap();
}

fn names(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(own, new): &(&str, &str)| ((*own).to_owned(), (*new).to_owned());
    pairs.iter().map(owned).collect()
}

fn is_not_offered(error: &CallError) -> bool {
    matches!(error, CallError::Refused(Refusal::NotOffered { .. }))
}

fn is_held(error: &CallError) -> bool {
    matches!(error, CallError::Refused(Refusal::ToolHeld { .. }))
}

#[tokio::test]
async fn law_20_law_28_f214_words_about_tools_change_live_and_touch_no_process() {
    let bench = Bench::new();
    let plain = bench.server("a", &[]);
    let mut worded = plain.clone();
    worded.tools.rename = names(&[("echo", "say"), ("nobody", "x")]);
    worded.tools.describe = names(&[("echo", "Says it.")]);
    worded.tools.exclude = vec![Glob::new("crash")];
    let manager = start([plain.clone()]).await;
    let server = manager.server("a").unwrap();
    let pid = generation(&server, 1).await.pid;
    let all = shown(&server).len();

    reload(&manager, worded).await;
    assert_eq!(shown(&server).len(), all - 1);
    let catalog = server.catalog().unwrap();
    let say: Value = serde_json::from_str(catalog.tools.find("say").unwrap().as_str()).unwrap();
    assert_eq!(say["description"], "Says it.");
    assert!(published(&manager).contains(&"a__say".to_owned()));
    assert!(
        catalog.hidden.iter().any(|hidden| hidden.name == "nobody"),
        "a name that the server does not have is a note: {:?}",
        catalog.hidden
    );
    let answer = call(&server, "say", json!({"text": "hi"})).await.unwrap();
    assert_eq!(text(&answer), "hi");
    for gone in ["echo", "crash"] {
        let error = call(&server, gone, json!({"text": "hi"}))
            .await
            .unwrap_err();
        assert!(is_not_offered(&error), "{error}");
    }
    // The record of the call has both names.
    let record = server.recent_calls();
    let answered = record
        .iter()
        .find(|record| record.exposed.is_some())
        .unwrap();
    let both = (answered.tool.as_deref(), answered.exposed.as_deref());
    assert_eq!(both, (Some("echo"), Some("say")));

    reload(&manager, plain).await;
    assert_eq!(shown(&server).len(), all);
    call(&server, "echo", json!({"text": "hi"})).await.unwrap();
    let status = server.status();
    assert_eq!((status.generation, status.pid), (1, pid));
    assert_eq!(bench.count("a", "spawn"), 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn arguments_reach_the_server_where_the_caller_gave_none() {
    let paper = Paper::start(|_| None).await;
    let mut config = paper.config();
    config.tools.rename = names(&[("echo", "say")]);
    let given = ToolArguments::new([("n", "1"), ("o", "{\"deep\":[1]}")]).unwrap();
    config.tools.arguments = [(Glob::new("ec*"), given)].into_iter().collect();
    let (manager, server) = paper.connect(config).await;
    call(&server, "say", json!({"n": 2})).await.unwrap();
    within("a call", server.call("say", None)).await.unwrap();
    let sent: Vec<Value> = paper
        .seen("tools/call")
        .iter()
        .map(|call| json!([call["params"]["name"], call["params"]["arguments"]]))
        .collect();
    assert_eq!(
        sent,
        [
            json!(["echo", {"n": 2, "o": {"deep": [1]}}]),
            json!(["echo", {"n": 1, "o": {"deep": [1]}}]),
        ]
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn law_16_the_operators_word_on_sending_a_call_again_stands_above_the_servers() {
    for (retry, trusted, sent) in [
        (None, false, 1),
        (None, true, 2),
        (Some(ToolRetry::Never), true, 1),
        (Some(ToolRetry::ReadOnly), false, 2),
        (Some(ToolRetry::Idempotent), false, 2),
    ] {
        let fake = HttpServer::start(script(Eras::Legacy)).await.unwrap();
        let mut config = quick(ServerConfig::http("h", fake.url().as_str()));
        config.trust_annotations = trusted;
        config.replay_after_session_loss = Replay::Always;
        let class = retry.map(|retry| (Glob::new("echo"), retry));
        config.tools.retry = class.into_iter().collect();
        let manager = start([config]).await;
        let server = manager.server("h").unwrap();
        generation(&server, 1).await;
        fake.change(|script| script.then("tools/call", Fault::EndBeforeAnswer));
        let ended = call(&server, "echo", json!({"text": "x"})).await;
        let what = format!("{retry:?}, trusted: {trusted}: {ended:?}");
        assert_eq!(fake.ledger().seen_of("tools/call").len(), sent, "{what}");
        assert_eq!(ended.is_ok(), sent == 2, "{what}");
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn law_16_limits_of_a_tool_replace_the_servers_and_give_way_to_the_callers() {
    let bench = Bench::new();
    let mut config = bench.server("a", &[]);
    config.tools.rename = names(&[("slow", "nap")]);
    let limits = ToolTimeouts {
        call_idle_ms: None,
        call_total_ms: Some(150),
    };
    config.tools.timeouts = [(Glob::new("slow"), limits)].into_iter().collect();
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    let error = call(&server, "nap", json!({"ms": 60_000}))
        .await
        .unwrap_err();
    let own_limit =
        matches!(&error, CallError::Unknown(Lost::Total { total_ms, .. }) if *total_ms == 150);
    assert!(own_limit, "{error}");
    let patient = CallOptions {
        total: Some(PATIENCE),
        ..CallOptions::default()
    };
    let request = tool_call("nap", &json!({"ms": 400}));
    let answer = within("the call", server.request(request, patient)).await;
    assert_eq!(text(&answer.unwrap()), "done");
    manager.shutdown().await;
}

async fn begin(config: ServerConfig, state: &Path) -> (Manager, ServerHandle) {
    let manager = Manager::builder()
        .config(Config::from_servers([config]))
        .state_dir(Some(state.to_owned()))
        .start()
        .await
        .unwrap();
    let server = manager.server("p").unwrap();
    (manager, server)
}

#[tokio::test]
async fn law_22_f214_remembered_catalogs_are_kept_as_listed_and_shown_as_the_config_says_now() {
    let bench = Bench::new();
    let state = bench.path("state");
    let paper = Paper::start(|asked| {
        (asked.method == "tools/list").then(|| super::paper::tools(&["a", "b"]))
    })
    .await;
    let mut narrow = paper.config();
    narrow.tools.include = Some(vec![Glob::new("a")]);
    let (manager, server) = begin(narrow.clone(), &state).await;
    generation(&server, 1).await;
    assert_eq!(shown(&server), ["a"]);
    manager.shutdown().await;

    // The server is away: what is known of it is what it listed, not what was shown.
    drop(paper);
    let mut other = narrow;
    other.tools.include = None;
    other.tools.rename = names(&[("b", "c")]);
    let (manager, server) = begin(other, &state).await;
    assert_eq!(published(&manager), ["p__a", "p__c"]);
    assert!(server.catalog().unwrap().remembered);
    manager.shutdown().await;
}

/// A server whose tools are what the phase says: a name and a description each.
async fn restless(
    phases: &'static [&'static [(&'static str, &'static str)]],
) -> (Paper, Arc<AtomicUsize>) {
    let phase = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&phase);
    let paper = Paper::start(move |asked| {
        (asked.method == "tools/list").then(|| {
            let tools = phases[now.load(Ordering::SeqCst)]
                .iter()
                .map(|(name, words)| {
                    let mut tool = tool(name);
                    tool["description"] = json!(words);
                    tool
                });
            Say::Result(json!({"tools": tools.collect::<Vec<_>>()}))
        })
    })
    .await;
    (paper, phase)
}

/// What waits for approval.
fn changes(server: &ServerHandle) -> Vec<(String, ChangeKind)> {
    let changes = server.tool_changes().into_iter();
    changes.map(|change| (change.tool, change.kind)).collect()
}

fn change(name: &str, kind: ChangeKind) -> (String, ChangeKind) {
    (name.to_owned(), kind)
}

#[expect(clippy::too_many_lines, reason = "one story, told in order")]
#[tokio::test]
async fn f250_f251_what_was_not_approved_is_neither_shown_nor_called_until_somebody_does() {
    let bench = Bench::new();
    let state = bench.path("state");
    let (paper, phase) = restless(&[
        &[("a", "one"), ("b", "two")],
        // `a` is rewritten, `b` has another name.
        &[("a", "ONE"), ("bb", "two")],
    ])
    .await;
    let mut config = paper.config();
    config.tools.pin = true;
    config.tools.rename = names(&[("a", "first")]);
    let (manager, server) = begin(config.clone(), &state).await;
    generation(&server, 1).await;
    assert_eq!(shown(&server), ["first", "b"], "first sight is approved");
    call(&server, "first", json!({})).await.unwrap();

    phase.store(1, Ordering::SeqCst);
    paper.tell_changed().await;
    until("the change", || !server.tool_changes().is_empty()).await;
    assert_eq!(shown(&server), Vec::<String>::new());
    assert_eq!(published(&manager), Vec::<String>::new());
    let all = [
        change("a", ChangeKind::Changed),
        change("bb", ChangeKind::Added),
        change("b", ChangeKind::Removed),
    ];
    assert_eq!(changes(&server), all);
    assert_eq!(server.status().pending_tools, 2);
    for held in ["first", "bb"] {
        let error = call(&server, held, json!({})).await.unwrap_err();
        assert!(is_held(&error), "{error}");
        assert!(
            error.to_string().contains("mainstay tools approve p"),
            "{error}"
        );
    }
    assert_eq!(paper.count("tools/call"), 1, "nothing reached the server");
    let told = |event: &mainstay::Event| {
        matches!(&event.kind, EventKind::ToolsHeld { added, changed, removed, .. }
            if added == &["bb"] && changed == &["a"] && removed == &["b"])
    };
    assert_eq!(
        manager
            .recent_events()
            .iter()
            .filter(|event| told(event))
            .count(),
        1
    );
    manager.shutdown().await;

    // Neither a restart of Mainstay nor what it remembers approves anything.
    let (manager, server) = begin(config.clone(), &state).await;
    generation(&server, 1).await;
    assert_eq!(
        (shown(&server), changes(&server)),
        (Vec::new(), all.to_vec())
    );
    let approve = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        server.approve(Some(names))
    };
    let error = within("a refusal", approve(&["zzz"])).await.unwrap_err();
    assert!(matches!(error, PinError::NoSuchTool { .. }), "{error}");
    // By the name that clients know, too.
    let approved = within("the approval", approve(&["first"])).await.unwrap();
    assert_eq!(approved, ["a"]);
    assert_eq!(shown(&server), ["first"]);
    call(&server, "first", json!({})).await.unwrap();
    let approved = within("the approval", server.approve(None)).await.unwrap();
    assert_eq!(approved, ["b", "bb"]);
    assert_eq!(published(&manager), ["p__bb", "p__first"]);
    assert_eq!(
        (changes(&server), server.status().pending_tools),
        (vec![], 0)
    );
    assert_eq!(
        paper.count("initialize"),
        2,
        "one for each Mainstay: no approval asked the server"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn f250_a_pin_is_put_on_and_taken_off_live_and_a_damaged_record_approves_nothing() {
    let bench = Bench::new();
    let state = bench.path("state");
    let (paper, phase) = restless(&[&[("a", "one")], &[("a", "ONE")]]).await;
    let plain = paper.config();
    let mut pinned = plain.clone();
    pinned.tools.pin = true;
    let (manager, server) = begin(plain.clone(), &state).await;
    generation(&server, 1).await;
    let refused = within("a refusal", server.approve(None)).await.unwrap_err();
    assert!(matches!(refused, PinError::NotPinned { .. }), "{refused}");
    reload(&manager, pinned.clone()).await;
    assert_eq!(
        shown(&server),
        ["a"],
        "what is known now is what is approved"
    );
    phase.store(1, Ordering::SeqCst);
    paper.tell_changed().await;
    until("the change", || shown(&server).is_empty()).await;
    reload(&manager, plain).await;
    assert_eq!(shown(&server), ["a"]);
    call(&server, "a", json!({})).await.unwrap();
    reload(&manager, pinned.clone()).await;
    assert_eq!(shown(&server), Vec::<String>::new());
    within("the approval", server.approve(None)).await.unwrap();
    assert_eq!(shown(&server), ["a"]);
    manager.shutdown().await;

    let record = std::fs::read_dir(&state)
        .unwrap()
        .flatten()
        .find(|file| file.file_name().to_string_lossy().starts_with("pins-"));
    std::fs::write(record.unwrap().path(), "not what it was").unwrap();
    let (manager, server) = begin(pinned, &state).await;
    generation(&server, 1).await;
    assert_eq!(shown(&server), Vec::<String>::new());
    assert!(server.tool_changes()[0].damaged.is_some());
    assert!(is_held(&call(&server, "a", json!({})).await.unwrap_err()));
    within("the approval", server.approve(None)).await.unwrap();
    assert_eq!(shown(&server), ["a"]);
    manager.shutdown().await;
}
