//! Answers, whole and broken, in every framing.

use std::time::Duration;

use futures_util::FutureExt as _;
use mainstay::runtime::Origin;
use mainstay_core::failure::FailureKind;
use mainstay_testkit::http_server::{Fault, Framing, Planned, Script};
use mainstay_wire::envelope::Limits;
use mainstay_wire::revision::Era;

use crate::rig::{GENEROUS, Rig, in_time, outcome, text, wait_until, why_refused};

const SMALL: Limits = Limits {
    message_bytes_max: 64 * 1024,
    depth_max: 32,
};

fn status(status: u16, body: &str) -> Fault {
    Fault::Status {
        status,
        headers: Vec::new(),
        body: body.to_owned(),
    }
}

#[tokio::test]
async fn f128_every_framing_decodes_to_the_same_answer() {
    for framing in [
        Framing::Json,
        Framing::Sse,
        Framing::SseByteByByte,
        Framing::SseOrnate,
    ] {
        for base in [Script::legacy(), Script::modern()] {
            let rig = Rig::greeted(Script { framing, ..base }).await;
            let said = "Grüße, 世界 🦀";
            let answer = rig
                .call("echo", &format!("{{\"text\":\"{said}\"}}"))
                .await
                .expect("answered");
            assert_eq!(text(&answer), said, "{framing:?}");
            assert_eq!(*rig.ears.skipped.lock().unwrap(), Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn large_requests_and_answers_arrive_whole() {
    for framing in [Framing::Json, Framing::Sse] {
        let rig = Rig::greeted(Script {
            framing,
            ..Script::modern()
        })
        .await;
        let answer = rig
            .call("big", r#"{"bytes":3000000}"#)
            .await
            .expect("answered");
        assert_eq!(text(&answer).len(), 3_000_000);
        let long = "y".repeat(1_500_000);
        let answer = rig
            .call("echo", &format!("{{\"text\":\"{long}\"}}"))
            .await
            .expect("answered");
        assert_eq!(text(&answer), long);
    }
}

#[tokio::test]
async fn f82_f104_connections_are_reused_whatever_the_framing() {
    for framing in [Framing::Json, Framing::Sse] {
        let rig = Rig::greeted(Script {
            framing,
            ..Script::modern()
        })
        .await;
        for _ in 0..20 {
            rig.call("echo", "{}").await.expect("answered");
        }
        let connections = rig.server.ledger().counts().connections;
        // A stream whose last bytes come late may cost a second connection, never one per call.
        assert!(
            connections <= 3,
            "{framing:?}: {connections} connections for 21 requests"
        );
    }
}

#[tokio::test]
async fn f82_a_stream_whose_end_comes_late_still_gives_its_connection_back() {
    let framing = Framing::SseLateEnd;
    let rig = Rig::greeted(Script {
        framing,
        ..Script::modern()
    })
    .await;
    let reused = async {
        let connections = || rig.server.ledger().counts().connections;
        let mut reuses = 0;
        while reuses < 10 {
            let before = connections();
            rig.call("echo", "{}").await.expect("answered");
            reuses += u64::from(connections() == before);
            // Time for the end of the stream to come.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time(reused).await;
}

#[tokio::test]
async fn law_19_calls_run_concurrently_and_each_gets_its_own_answer() {
    let rig = Rig::greeted(Script::legacy()).await;
    let slow: Vec<_> = (0..8).map(|_| rig.call("slow", "{}")).collect();
    let quick = async {
        wait_until("all slow calls run", || {
            rig.server.ledger().counts().calls.get("slow") == Some(&8)
        })
        .await;
        let answer = rig
            .call("echo", r#"{"text":"quick"}"#)
            .await
            .expect("answered");
        assert_eq!(text(&answer), "quick");
        rig.server.release();
    };
    let (slow, ()) = tokio::join!(futures_util::future::join_all(slow), quick);
    assert!(slow.iter().all(Result::is_ok), "{slow:?}");
}

#[tokio::test]
async fn progress_and_chatter_on_the_stream_are_handed_up_in_order() {
    let rig = Rig::greeted(Script::legacy().plan("tools/call", Fault::Chatter)).await;
    let members =
        r#""name":"progress","arguments":{"steps":3,"ms":1},"_meta":{"progressToken":77}"#;
    let outgoing = rig.outgoing("tools/call", Some("progress"), members);
    let answer = in_time(rig.link.exchange(outgoing, &*rig.ears))
        .await
        .expect("answered");
    assert_eq!(text(&answer), "done");
    let progress = "notifications/progress";
    assert_eq!(
        rig.ears.methods(),
        [
            "notifications/message",
            "ping",
            "notifications/tools/list_changed",
            progress,
            progress,
            progress
        ]
    );
    assert!(
        rig.ears
            .heard
            .lock()
            .unwrap()
            .iter()
            .all(|(_, from)| matches!(from, Origin::Exchange(Some(_))))
    );
}

#[tokio::test]
async fn f87_a_stream_that_dies_before_the_answer_is_a_lost_call_at_once() {
    for fault in [
        Fault::EndBeforeAnswer,
        Fault::BreakBeforeAnswer,
        Fault::Drop,
    ] {
        for base in [Script::legacy(), Script::modern()] {
            let rig = Rig::greeted(base.plan("tools/call", fault.clone())).await;
            let answered = rig.call("echo", "{}").await;
            assert_eq!(
                outcome(&answered),
                ("lost", Some(FailureKind::StreamClosed)),
                "{fault:?}: {answered:?}"
            );
            rig.call("echo", "{}")
                .await
                .expect("the link is as good as before");
        }
    }
}

#[tokio::test]
async fn f88_law_17_a_stalled_or_trickling_server_never_holds_a_caller_beyond_its_deadline() {
    for fault in [
        Fault::NeverAnswer,
        Fault::HeadThenStall,
        Fault::Trickle { every_ms: 1 },
    ] {
        let rig = Rig::greeted(Script::modern().plan("tools/call", fault.clone())).await;
        let outgoing = rig.tool("echo", "{}");
        let mark = std::sync::Arc::clone(&outgoing.mark);
        let deadline = Duration::from_millis(200);
        let waited = tokio::time::timeout(deadline, rig.link.exchange(outgoing, &*rig.ears)).await;
        assert!(waited.is_err(), "{fault:?}");
        assert!(mark.begin_write(), "it was sent, and the mark knows");
        rig.call("echo", "{}")
            .await
            .expect("others are not concerned");
    }
}

#[tokio::test]
async fn f142_dropping_a_call_closes_its_stream_and_nothing_else() {
    let rig = Rig::greeted(Script::modern()).await;
    let running = || {
        rig.server
            .ledger()
            .counts()
            .calls
            .get("slow")
            .copied()
            .unwrap_or(0)
    };
    let other = rig.call("slow", "{}");
    let dropped = async {
        wait_until("the other runs", || running() == 1).await;
        {
            let call = rig.link.exchange(rig.tool("slow", "{}"), &*rig.ears);
            tokio::select! {
                answered = call => panic!("not yet: {answered:?}"),
                () = wait_until("both run", || running() == 2) => {}
            }
        }
        wait_until("the server sees it", || {
            rig.server.ledger().counts().disconnects == 1
        })
        .await;
        rig.server.release();
    };
    let (answered, ()) = tokio::join!(other, dropped);
    answered.expect("the other call is untouched");
    assert_eq!(rig.server.ledger().counts().disconnects, 1);
}

#[tokio::test]
async fn law_30_f126_an_answer_over_the_limit_is_told_to_its_call() {
    for fault in [
        Fault::GiantEvent { bytes: 400_000 },
        Fault::GiantJson { bytes: 400_000 },
    ] {
        let rig =
            Rig::greeted_within(Script::legacy().plan("tools/call", fault.clone()), SMALL).await;
        let answered = rig.call("echo", "{}").await;
        assert!(
            why_refused(&answered).contains("exceeds the limit"),
            "{fault:?}: {answered:?}"
        );
        rig.call("echo", "{}")
            .await
            .expect("the link is as good as before");
    }
    let rig = Rig::greeted_within(
        Script {
            framing: Framing::Sse,
            ..Script::legacy()
        },
        SMALL,
    )
    .await;
    let answered = rig.call("big", r#"{"bytes":300000}"#).await;
    assert!(
        why_refused(&answered).contains("exceeds the limit"),
        "{answered:?}"
    );
}

#[tokio::test]
async fn f125_an_answer_that_cannot_be_read_is_told_to_its_call() {
    for fault in [Fault::BrokenEvent, Fault::BrokenJson] {
        let rig = Rig::greeted(Script::legacy().plan("tools/call", fault.clone())).await;
        let answered = rig.call("echo", "{}").await;
        assert!(
            why_refused(&answered).contains("not valid JSON"),
            "{fault:?}: {answered:?}"
        );
    }
}

#[tokio::test]
async fn f34_an_error_with_a_foreign_id_belongs_to_its_exchange_a_result_does_not() {
    for id in ["\"server-error\"", "null", "4711"] {
        let rig =
            Rig::greeted(Script::legacy().plan("tools/call", Fault::ForeignId { id: id.into() }))
                .await;
        let answer = rig.call("echo", "{}").await.expect("answered");
        assert!(
            answer.error().expect("an error").contains("from afar"),
            "{id}"
        );
    }
    let other = status(200, r#"{"jsonrpc":"2.0","id":4711,"result":{}}"#);
    let rig = Rig::greeted(Script::legacy().plan("tools/call", other)).await;
    assert!(why_refused(&rig.call("echo", "{}").await).contains("4711"));
}

#[tokio::test]
async fn f84_html_under_200_is_no_answer() {
    let rig = Rig::greeted(Script::legacy().plan("tools/call", Fault::Html)).await;
    let answered = rig.call("echo", "{}").await;
    assert_eq!(outcome(&answered), ("lost", Some(FailureKind::NotMcp)));
    assert!(
        format!("{answered:?}").contains("hotel network"),
        "the preview helps: {answered:?}"
    );
}

#[tokio::test]
async fn law_16_statuses_say_whether_the_call_can_have_run() {
    let error = r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32020,"message":"Header mismatch"}}"#;
    let cases = [
        (
            status(500, ""),
            ("lost", Some(FailureKind::HttpStatus(500))),
        ),
        (
            status(502, "<html>"),
            ("lost", Some(FailureKind::HttpStatus(502))),
        ),
        (
            status(503, ""),
            ("lost", Some(FailureKind::HttpStatus(503))),
        ),
        (
            status(504, ""),
            ("lost", Some(FailureKind::HttpStatus(504))),
        ),
        (
            status(409, ""),
            ("lost", Some(FailureKind::HttpStatus(409))),
        ),
        (
            status(413, ""),
            ("rejected", Some(FailureKind::HttpStatus(413))),
        ),
        (status(401, ""), ("rejected", Some(FailureKind::NeedsLogin))),
        (status(403, ""), ("rejected", Some(FailureKind::Forbidden))),
        (status(202, ""), ("lost", Some(FailureKind::ProtocolError))),
        (status(400, error), ("answered", None)),
        (
            status(404, &error.replace("-32020", "-32601")),
            ("answered", None),
        ),
        (status(500, error), ("answered", None)),
        // The last one: from here on the host is left alone (F102).
        (
            status(429, ""),
            ("rejected", Some(FailureKind::RateLimited)),
        ),
    ];
    for base in [Script::legacy(), Script::modern()] {
        let rig = Rig::greeted(base).await;
        for (fault, expected) in &cases {
            rig.server
                .change(|script| script.then("tools/call", fault.clone()));
            let answered = rig.call("add_marker", r#"{"marker":"m"}"#).await;
            assert_eq!(outcome(&answered), *expected, "{fault:?}: {answered:?}");
        }
        assert_eq!(
            rig.server.ledger().counts().markers.get("m"),
            None,
            "none of them ran"
        );
    }
}

#[tokio::test]
async fn f83_redirects_within_the_origin_keep_the_message_others_are_told() {
    let to = |status, location: &str| Fault::Status {
        status,
        headers: vec![("location".into(), location.into())],
        body: String::new(),
    };
    let rig = Rig::greeted(Script::modern()).await;
    for code in [307, 308] {
        rig.server
            .change(|script| script.then("tools/call", to(code, "/mcp")));
        assert_eq!(
            text(
                &rig.call("echo", r#"{"text":"kept"}"#)
                    .await
                    .expect("followed")
            ),
            "kept"
        );
    }
    for code in [301, 302, 303] {
        rig.server
            .change(|script| script.then("tools/call", to(code, "/mcp?secret=1")));
        let answered = rig.call("add_marker", r#"{"marker":"m"}"#).await;
        assert_eq!(outcome(&answered), ("rejected", Some(FailureKind::NotMcp)));
        assert!(!format!("{answered:?}").contains("secret"));
    }
    rig.server
        .change(|script| script.then("tools/call", to(307, "http://elsewhere.invalid/mcp")));
    let answered = rig.call("echo", "{}").await;
    assert!(
        format!("{answered:?}").contains("http://elsewhere.invalid/mcp"),
        "{answered:?}"
    );
    let fault = to(307, "/mcp");
    rig.server.change(|script| {
        script.plan.push_back(Planned {
            method: None,
            times: 50,
            fault,
        })
    });
    assert_eq!(
        outcome(&rig.call("echo", "{}").await),
        ("lost", Some(FailureKind::NotMcp)),
        "no endless loop"
    );
}

#[tokio::test]
async fn f120_f122_a_numbered_stream_is_resumed_and_the_call_runs_once() {
    let fault = Fault::Resume {
        retry_ms: 60,
        twice: true,
        empty: false,
    };
    let rig = Rig::greeted(Script::legacy().plan("tools/call", fault)).await;
    let answer = rig
        .call("add_marker", r#"{"marker":"once"}"#)
        .await
        .expect("answered");
    assert_eq!(text(&answer), "once");
    let ledger = rig.server.ledger();
    assert_eq!(ledger.counts().markers["once"], 1);
    let gets = ledger.seen_by("GET");
    assert_eq!(gets.len(), 1);
    assert!(
        gets[0]
            .header("last-event-id")
            .expect("resumed")
            .starts_with("stream-")
    );
    assert_eq!(
        gets[0].header("mcp-session-id").map(str::to_owned),
        rig.link.session()
    );
}

#[tokio::test]
async fn f121_resuming_in_vain_ends() {
    let fault = Fault::Resume {
        retry_ms: 0,
        twice: false,
        empty: true,
    };
    let rig = Rig::greeted(Script::legacy().plan("tools/call", fault)).await;
    let answered = rig.call("echo", "{}").await;
    assert_eq!(
        outcome(&answered),
        ("lost", Some(FailureKind::StreamClosed))
    );
    assert!(rig.server.ledger().counts().gets <= 5);
}

#[tokio::test]
async fn modern_streams_are_never_resumed() {
    let fault = Fault::Resume {
        retry_ms: 0,
        twice: false,
        empty: false,
    };
    let rig = Rig::greeted(Script::modern().plan("tools/call", fault)).await;
    let answered = rig.call("echo", "{}").await;
    assert_eq!(
        outcome(&answered),
        ("lost", Some(FailureKind::StreamClosed))
    );
    assert_eq!(rig.server.ledger().counts().gets, 0);
}

#[tokio::test]
async fn law_16_a_caller_that_leaves_before_the_connection_stands_sends_nothing() {
    let rig = Rig::greeted(Script::legacy()).await;
    let outgoing = rig.tool("add_marker", r#"{"marker":"never"}"#);
    // Polled once: the request is on its way to a connection and the caller leaves.
    assert!(
        rig.link
            .exchange(outgoing, &*rig.ears)
            .now_or_never()
            .is_none()
    );
    rig.call("echo", "{}").await.expect("answered");
    assert_eq!(rig.server.ledger().counts().markers.get("never"), None);
}

#[tokio::test]
async fn notifications_are_accepted_or_their_failure_is_told() {
    use mainstay_wire::envelope::Message;
    let rig = Rig::greeted(Script::legacy()).await;
    let cancelled = || Message::notification("notifications/cancelled", Some(r#"{"requestId":1}"#));
    in_time(rig.link.notify(cancelled()))
        .await
        .expect("accepted");
    assert_eq!(rig.server.ledger().counts().cancels, 1);
    rig.server
        .change(|script| script.then("notifications/cancelled", status(503, "")));
    let failure = in_time(rig.link.notify(cancelled()))
        .await
        .expect_err("refused");
    assert_eq!(failure.kind, FailureKind::HttpStatus(503));
    assert_eq!(rig.era, Era::Legacy);
    assert!(
        GENEROUS > Duration::from_secs(10),
        "the link's own deadline for notices fits into ours"
    );
}
