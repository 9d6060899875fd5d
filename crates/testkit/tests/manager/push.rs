//! How changes of a catalog are heard of: by push, and where there is none, by asking again.

use mainstay::config::{Push, ServerConfig};
use mainstay::{Manager, ServerHandle};
use mainstay_testkit::http_server::{Eras, Fault, GetPolicy, HttpServer, Script};
use serde_json::json;

use super::harness::*;
use super::http::script;

async fn connect(
    fake: &HttpServer,
    change: impl FnOnce(&mut ServerConfig),
) -> (Manager, ServerHandle) {
    let mut config = quick(ServerConfig::http("h", fake.url().as_str()));
    config.poll_ms = Some(200);
    change(&mut config);
    let manager = start([config]).await;
    let server = manager.server("h").unwrap();
    generation(&server, 1).await;
    (manager, server)
}

/// Changes the tools without telling anybody, and waits until clients see it.
async fn changed_in_silence(fake: &HttpServer, manager: &Manager, tool: &str) {
    fake.change(|script| script.extra_tools = vec![tool.to_owned()]);
    until("the change is found", || {
        let publication = manager.publication();
        publication
            .tools
            .items
            .iter()
            .any(|found| &*found.upstream == tool)
    })
    .await;
}

async fn push_is(server: &ServerHandle, word: &'static str) {
    until(word, || server.status().push == Some(word)).await;
}

#[tokio::test]
async fn f96_f131_f132_f133_what_is_not_told_is_found_by_polling() {
    let no_stream = Script {
        get: GetPolicy::NotAllowed,
        ..script(Eras::Legacy)
    };
    let refused = Script {
        listen: false,
        ..script(Eras::Modern)
    };
    let partial = Script {
        listen_omits: vec!["toolsListChanged".into()],
        ..script(Eras::Modern)
    };
    let never_declared = Script {
        list_changed: false,
        ttl_ms: 300,
        ..script(Eras::Modern)
    };
    let cases = [
        (no_stream, Push::Auto, "unsupported"),
        (refused, Push::Auto, "unsupported"),
        (partial, Push::Auto, "open"),
        (never_declared, Push::Auto, "unsupported"),
        (script(Eras::Legacy), Push::Off, "off"),
        (script(Eras::Modern), Push::Off, "off"),
    ];
    for (number, (script, push, word)) in cases.into_iter().enumerate() {
        let fake = HttpServer::start(script).await.unwrap();
        let (manager, server) = connect(&fake, |config| config.push = push).await;
        push_is(&server, word).await;
        changed_in_silence(&fake, &manager, &format!("new{number}")).await;
        let counts = fake.ledger().counts();
        if push == Push::Off {
            assert_eq!((counts.gets, counts.listens), (0, 0), "nobody is billed");
        } else {
            assert!(counts.gets + counts.listens <= 1, "asked once: {counts:?}");
        }
        assert_eq!(server.status().charges, 0);
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f117_a_degraded_stream_shows_in_the_status_and_polling_takes_over() {
    let fake = HttpServer::start(Script {
        get: GetPolicy::Unavailable,
        ..script(Eras::Legacy)
    })
    .await
    .unwrap();
    let (manager, server) = connect(&fake, |_| {}).await;
    push_is(&server, "degraded").await;
    changed_in_silence(&fake, &manager, "silent").await;
    assert_eq!(
        server.status().state,
        "connected",
        "never a reason to call it dead"
    );
    fake.change(|script| script.get = GetPolicy::Stream);
    until("the stream is back", || {
        fake.ledger().counts().streams_open == 1
    })
    .await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f130_f134_after_a_break_it_listens_again_lists_always_and_holds_one_stream() {
    let fake = HttpServer::start(script(Eras::Modern)).await.unwrap();
    let (manager, server) = connect(&fake, |config| config.poll_ms = None).await;
    push_is(&server, "open").await;
    for _ in 0..32 {
        call(&server, "echo", json!({"text": "x"})).await.unwrap();
    }
    let counts = fake.ledger().counts();
    assert_eq!((counts.listens, counts.streams_open), (1, 1), "F134");
    // The change happens while nobody listens, and nobody tells of it.
    fake.end_streams();
    changed_in_silence(&fake, &manager, "missed").await;
    until("one stream", || fake.ledger().counts().streams_open == 1).await;
    assert_eq!(fake.ledger().counts().listens, 2);
    assert_eq!(
        (server.status().generation, server.status().charges),
        (1, 0)
    );
    manager.shutdown().await;
    until("no stream", || fake.ledger().counts().streams_open == 0).await;
}

#[tokio::test]
async fn f119_without_push_answers_are_still_resumed() {
    let resume = Fault::Resume {
        retry_ms: 50,
        twice: true,
        empty: false,
    };
    let fake = HttpServer::start(script(Eras::Legacy)).await.unwrap();
    let (manager, server) = connect(&fake, |config| config.push = Push::Off).await;
    fake.change(|script| script.then("tools/call", resume));
    let answer = call(&server, "add_marker", json!({"marker": "once"}))
        .await
        .unwrap();
    assert_eq!(text(&answer), "once");
    let counts = fake.ledger().counts();
    assert_eq!((counts.gets, counts.markers["once"]), (1, 1));
    manager.shutdown().await;
}

#[tokio::test]
async fn f121_law_16_an_answer_that_cannot_be_resumed_is_unknown_and_not_sent_again() {
    for fault in [
        Fault::Resume {
            retry_ms: 50,
            twice: false,
            empty: true,
        },
        Fault::EndBeforeAnswer,
        Fault::BreakBeforeAnswer,
        Fault::BrokenEvent,
    ] {
        let fake = HttpServer::start(script(Eras::Legacy)).await.unwrap();
        let (manager, server) = connect(&fake, |_| {}).await;
        let posts = || fake.ledger().seen_of("tools/call").len();
        fake.change(|script| script.then("tools/call", fault.clone()));
        let ended = call(&server, "add_marker", json!({"marker": "m"})).await;
        assert!(
            matches!(ended, Err(mainstay::CallError::Unknown(_))),
            "{fault:?}: {ended:?}"
        );
        assert_eq!(posts(), 1, "{fault:?}");
        call(&server, "echo", json!({"text": "on"})).await.unwrap();
        manager.shutdown().await;
    }
}
