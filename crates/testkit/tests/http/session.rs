//! Legacy sessions: carried, lost in every dialect, and ended.

use mainstay::runtime::http::EraHint;
use mainstay_core::failure::FailureKind;
use mainstay_testkit::http_server::{Fault, Framing, LostDialect, Script};

use crate::rig::{Rig, in_time, outcome, text};

#[tokio::test]
async fn f89_f90_f91_f100_f105_a_lost_session_is_known_in_every_dialect_and_nothing_ran() {
    for (lost, expected) in [
        (LostDialect::NotFound, "rejected"),
        // Anybody on the way could have said so: certain is only that the session is of no more use (F106).
        (LostDialect::NotFoundEmpty, "doubted"),
        (LostDialect::BadRequest, "rejected"),
        (LostDialect::Gone, "rejected"),
        (LostDialect::OkBody, "rejected"),
        (LostDialect::OkStream, "rejected"),
        (LostDialect::Wrapped, "rejected"),
    ] {
        let rig = Rig::greeted(Script {
            lost,
            ..Script::legacy()
        })
        .await;
        rig.call("echo", "{}").await.expect("answered");
        let old = rig.link.session().expect("a session");
        rig.server.forget_sessions();
        let answered = rig.call("add_marker", r#"{"marker":"m"}"#).await;
        assert_eq!(
            outcome(&answered),
            (expected, Some(FailureKind::SessionLost)),
            "{lost:?}: {answered:?}"
        );
        assert_eq!(rig.server.ledger().counts().markers.get("m"), None);
        // F112, F113: it may live on elsewhere, so it is ended, under its own id.
        in_time(rig.link.close()).await;
        let deletes = rig.server.ledger().seen_by("DELETE");
        assert_eq!(deletes.len(), 1, "{lost:?}");
        assert_eq!(deletes[0].header("mcp-session-id"), Some(&*old));
    }
}

#[tokio::test]
async fn f106_a_bare_404_after_the_call_ran_is_doubted_and_the_servers_own_words_are_not() {
    let bare = [
        "",
        "<html><h1>404 session not found</h1></html>",
        r#"{"message":"Not Found"}"#,
        "default backend - 404",
    ];
    for status in [404, 410] {
        for body in bare {
            let rig = Rig::greeted(Script::legacy()).await;
            let fault = Fault::RunThen {
                status,
                headers: vec![("via".into(), "1.1 proxy".into())],
                body: body.into(),
                forget: true,
            };
            rig.server.change(|script| script.then("tools/call", fault));
            let answered = rig.call("add_marker", r#"{"marker":"m"}"#).await;
            assert_eq!(
                outcome(&answered),
                ("doubted", Some(FailureKind::SessionLost)),
                "{status} {body}"
            );
            assert_eq!(rig.server.ledger().counts().markers["m"], 1);
        }
    }
}

#[tokio::test]
async fn f90_f91_words_about_a_session_are_checked_with_the_session_itself() {
    // The session lives, so these are answers of the tool, whatever they say.
    let rig = Rig::greeted(Script::legacy()).await;
    let error =
        r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32000,"message":"Session not found"}}"#;
    for status in [200, 500] {
        let fault = Fault::Status {
            status,
            headers: Vec::new(),
            body: error.into(),
        };
        rig.server.change(|script| script.then("tools/call", fault));
        let answered = rig.call("echo", "{}").await;
        assert_eq!(outcome(&answered), ("answered", None), "{status}");
    }
    assert_eq!(rig.server.ledger().seen_of("ping").len(), 2);
    // A 500 without an MCP body stays what it is.
    let fault = Fault::Status {
        status: 500,
        headers: Vec::new(),
        body: "the user's session has expired".into(),
    };
    rig.server.change(|script| script.then("tools/call", fault));
    assert_eq!(
        outcome(&rig.call("echo", "{}").await),
        ("lost", Some(FailureKind::HttpStatus(500)))
    );
}

#[tokio::test]
async fn f91_however_many_calls_meet_the_words_one_question_settles_it() {
    let rig = Rig::greeted(Script {
        lost: LostDialect::OkBody,
        ..Script::legacy()
    })
    .await;
    rig.server.forget_sessions();
    let calls = (0..32).map(|_| rig.call("echo", "{}"));
    for answered in futures_util::future::join_all(calls).await {
        assert_eq!(
            outcome(&answered),
            ("rejected", Some(FailureKind::SessionLost))
        );
    }
    assert_eq!(rig.server.ledger().seen_of("ping").len(), 1);
}

#[tokio::test]
async fn f91_an_error_of_a_tool_that_speaks_of_sessions_is_an_answer() {
    let rig = Rig::greeted(Script::legacy()).await;
    for body in [
        r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32602,"message":"browser session not found"}}"#,
        r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32000,"message":"the door is not found"}}"#,
        r#"{"jsonrpc":"2.0","id":$ID,"result":{"isError":true,"content":[{"type":"text","text":"Session not found"}]}}"#,
    ] {
        let fault = Fault::Status {
            status: 200,
            headers: Vec::new(),
            body: body.to_owned(),
        };
        rig.server.change(|script| script.then("tools/call", fault));
        assert_eq!(
            outcome(&rig.call("echo", "{}").await),
            ("answered", None),
            "{body}"
        );
    }
}

#[tokio::test]
async fn f95_without_a_session_id_a_404_is_no_lost_session() {
    let rig = Rig::greeted(Script {
        sessions: false,
        ..Script::legacy()
    })
    .await;
    assert_eq!(rig.link.session(), None);
    let gone = Fault::Status {
        status: 404,
        headers: Vec::new(),
        body: String::new(),
    };
    rig.server.change(|script| script.then("tools/call", gone));
    let answered = rig.call("echo", "{}").await;
    assert_eq!(
        outcome(&answered),
        ("rejected", Some(FailureKind::HttpStatus(404)))
    );
    in_time(rig.link.close()).await;
    assert_eq!(rig.server.ledger().counts().deletes, 0);
}

#[tokio::test]
async fn f112_f113_close_deletes_exactly_its_own_session() {
    let rig = Rig::greeted(Script::legacy()).await;
    let old = rig.link.session().expect("a session");
    // The next generation is another link to the same server, with a session of its own.
    let next = crate::rig::link_to(
        &rig.server.url(),
        mainstay_wire::envelope::Limits::default(),
    );
    in_time(next.greet(&rig.ids, EraHint::Probe, 20_000, &*rig.ears))
        .await
        .expect("greeted");
    assert_eq!(rig.server.sessions(), 2);
    in_time(rig.link.close()).await;
    let deletes = rig.server.ledger().seen_by("DELETE");
    assert_eq!(deletes.len(), 1);
    assert_eq!(deletes[0].header("mcp-session-id"), Some(&*old));
    assert_eq!(rig.server.sessions(), 1);
    // A second close has nothing left to end that anybody would notice.
    let answered = next.exchange(rig.tool("echo", r#"{"text":"alive"}"#), &*rig.ears);
    assert_eq!(
        text(&in_time(answered).await.expect("the successor is untouched")),
        "alive"
    );
}

#[tokio::test]
async fn law_4_a_close_that_fails_or_hangs_is_bounded_and_silent() {
    let mut rig = Rig::greeted(Script {
        delete_status: 500,
        ..Script::legacy()
    })
    .await;
    in_time(rig.link.close()).await;
    assert_eq!(rig.server.ledger().counts().deletes, 1);
    let gone = Rig::greeted(Script::legacy()).await;
    rig.server.stop().await;
    in_time(gone.link.close()).await;
    in_time(rig.link.close()).await;
}

#[tokio::test]
async fn the_session_id_comes_from_initialize_only_and_must_be_legal() {
    let rig = Rig::strangers(Script {
        sessions: false,
        ..Script::legacy()
    })
    .await;
    rig.server.change(|script| {
        drop(
            script
                .headers
                .insert("mcp-session-id".into(), "ab cd".into()),
        )
    });
    let failure = rig
        .greet(EraHint::Probe)
        .await
        .expect_err("a space is not visible ASCII");
    assert_eq!(failure.kind, FailureKind::ProtocolError);
    let rig = Rig::greeted(Script {
        sessions: false,
        framing: Framing::Sse,
        ..Script::legacy()
    })
    .await;
    rig.server.change(|script| {
        drop(
            script
                .headers
                .insert("mcp-session-id".into(), "junk".into()),
        )
    });
    rig.call("echo", "{}").await.expect("answered");
    assert_eq!(rig.link.session(), None);
}

#[tokio::test]
async fn f107_cookies_stay_with_the_link_and_follow_the_balancer() {
    let rig = Rig::strangers(Script::legacy()).await;
    let cookie = |value: &str| {
        rig.server
            .change(|script| drop(script.headers.insert("set-cookie".into(), value.into())))
    };
    let sent = || {
        let seen = rig.server.ledger().seen_of("tools/call").pop();
        seen.expect("seen").header("cookie").map(str::to_owned)
    };
    cookie("lb=one; Path=/");
    rig.greet(EraHint::Probe).await.expect("greeted");
    rig.call("echo", "{}").await.expect("answered");
    assert_eq!(sent().as_deref(), Some("lb=one"));
    cookie("lb=two; Path=/");
    rig.call("echo", "{}").await.expect("answered");
    rig.call("echo", "{}").await.expect("answered");
    assert_eq!(sent().as_deref(), Some("lb=two"));
    // The next generation starts with an empty jar.
    let next = crate::rig::link_to(
        &rig.server.url(),
        mainstay_wire::envelope::Limits::default(),
    );
    in_time(next.greet(&rig.ids, EraHint::Probe, 20_000, &*rig.ears))
        .await
        .expect("greeted");
    let first = rig.server.ledger().seen_of("server/discover").pop();
    assert_eq!(first.expect("seen").header("cookie"), None);
}
