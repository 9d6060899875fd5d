//! Greeting: every kind of server, whatever is known about it beforehand.

use std::time::Duration;

use mainstay::runtime::http::EraHint;
use mainstay_core::failure::FailureKind;
use mainstay_testkit::http_server::{DiscoverDialect, Eras, Fault, Script};
use mainstay_wire::envelope::Limits;
use mainstay_wire::revision::{Era, Revision};

use crate::rig::{Rig, in_time, link_to, outcome, text};

#[tokio::test]
async fn every_hint_finds_the_era_of_every_server() {
    use EraHint::{Fixed, Probe, Remembered};
    let cases = [
        (Eras::Dual, Probe, Some(Era::Modern)),
        (Eras::Dual, Remembered(Era::Legacy), Some(Era::Legacy)),
        (Eras::Dual, Remembered(Era::Modern), Some(Era::Modern)),
        (Eras::Dual, Fixed(Era::Legacy), Some(Era::Legacy)),
        (Eras::Dual, Fixed(Era::Modern), Some(Era::Modern)),
        (Eras::Modern, Probe, Some(Era::Modern)),
        (Eras::Modern, Remembered(Era::Legacy), Some(Era::Modern)),
        (Eras::Modern, Remembered(Era::Modern), Some(Era::Modern)),
        (Eras::Modern, Fixed(Era::Modern), Some(Era::Modern)),
        (Eras::Modern, Fixed(Era::Legacy), None),
        (Eras::Legacy, Probe, Some(Era::Legacy)),
        (Eras::Legacy, Remembered(Era::Legacy), Some(Era::Legacy)),
        (Eras::Legacy, Remembered(Era::Modern), Some(Era::Legacy)),
        (Eras::Legacy, Fixed(Era::Legacy), Some(Era::Legacy)),
        (Eras::Legacy, Fixed(Era::Modern), None),
    ];
    for (eras, hint, expected) in cases {
        let mut rig = Rig::strangers(Script {
            eras,
            ..Script::default()
        })
        .await;
        let greeted = rig.greet(hint).await;
        match (&greeted, expected) {
            (Ok(greeting), Some(era)) => {
                assert_eq!(greeting.revision.era(), era, "{eras:?} {hint:?}");
                rig.era = era;
                assert_eq!(
                    text(&rig.call("echo", r#"{"text":"é"}"#).await.expect("answered")),
                    "é"
                );
                assert_eq!(rig.link.session().is_some(), era == Era::Legacy);
            }
            (Err(failure), None) => assert_eq!(
                failure.kind,
                FailureKind::VersionMismatch,
                "{eras:?} {hint:?}"
            ),
            _ => panic!("{eras:?} {hint:?}: {greeted:?}"),
        }
        let counts = rig.server.ledger().counts();
        assert!(
            counts.initializes <= 1 && counts.discovers <= 1,
            "{eras:?} {hint:?}: {counts:?}"
        );
    }
}

#[tokio::test]
async fn f29_every_way_of_not_knowing_discover_means_legacy() {
    for discover in [
        DiscoverDialect::BadRequest,
        DiscoverDialect::NotFound,
        DiscoverDialect::NotAllowed,
        DiscoverDialect::MethodNotFound,
        DiscoverDialect::InvalidParams,
        DiscoverDialect::PlainText,
    ] {
        let rig = Rig::strangers(Script {
            discover,
            ..Script::legacy()
        })
        .await;
        let greeting = rig.greet(EraHint::Probe).await.expect("greeted");
        assert_eq!(greeting.revision, Revision::LATEST_LEGACY, "{discover:?}");
    }
}

#[tokio::test]
async fn f26_f30_a_server_silent_on_the_probe_is_greeted_as_legacy_in_its_own_time() {
    let script = Script {
        discover: DiscoverDialect::Silent,
        ..Script::legacy()
    };
    let rig = Rig::strangers(script).await;
    let greeting = rig.greet_within(EraHint::Probe, 50).await.expect("greeted");
    assert_eq!(greeting.revision.era(), Era::Legacy);
    assert_eq!(rig.server.ledger().counts().initializes, 1);
}

#[tokio::test]
async fn f27_a_modern_server_too_slow_for_the_probe_is_found_through_its_refusal() {
    let script = Script::modern().plan("server/discover", Fault::NeverAnswer);
    let rig = Rig::strangers(script).await;
    let greeting = rig.greet_within(EraHint::Probe, 50).await.expect("greeted");
    assert_eq!(greeting.revision, Revision::LATEST_MODERN);
    assert_eq!(rig.server.ledger().counts().discovers, 2);
}

#[tokio::test]
async fn an_outage_is_no_verdict_about_the_era() {
    for (status, kind) in [
        (401, FailureKind::NeedsLogin),
        (403, FailureKind::Forbidden),
        (429, FailureKind::RateLimited),
        (502, FailureKind::HttpStatus(502)),
        // With the wish to be left alone it is throttling.
        (503, FailureKind::RateLimited),
        (504, FailureKind::HttpStatus(504)),
    ] {
        let fault = Fault::Status {
            status,
            headers: vec![("retry-after".into(), "9".into())],
            body: String::new(),
        };
        let rig = Rig::strangers(Script::modern().plan("server/discover", fault)).await;
        let failure = rig.greet(EraHint::Probe).await.expect_err("no verdict");
        assert_eq!(failure.kind, kind);
        if matches!(status, 429 | 503) {
            // What is left of it: the clock has gone on since.
            let left_ms = failure.retry_after_ms.expect("F102");
            assert!((5_000..=9_000).contains(&left_ms), "F102: {left_ms}");
        }
        assert_eq!(
            rig.server.ledger().counts().posts,
            1,
            "nothing else was tried"
        );
    }
    let rig = Rig::strangers(Script::default().plan("server/discover", Fault::Drop)).await;
    let failure = rig.greet(EraHint::Probe).await.expect_err("no verdict");
    assert_eq!(failure.kind, FailureKind::StreamClosed);
    assert_eq!(rig.server.ledger().counts().initializes, 0);
}

#[tokio::test]
async fn f85_a_server_that_is_down_is_unreachable_and_nothing_was_sent() {
    let mut rig = Rig::greeted(Script::legacy()).await;
    rig.server.stop().await;
    let answered = rig.call("echo", "{}").await;
    assert_eq!(
        outcome(&answered),
        ("not sent", Some(FailureKind::Unreachable)),
        "{answered:?}"
    );
    let failure = rig.greet(EraHint::Probe).await.expect_err("down");
    assert_eq!(failure.kind, FailureKind::Unreachable);
    // F79: the next attempt starts from nothing and needs no new link.
    rig.server
        .start_again()
        .await
        .expect("the port is still free");
    rig.greet(EraHint::Probe).await.expect("back");
}

#[tokio::test]
async fn f95_f84_what_is_no_mcp_server_is_called_that_and_is_no_session_problem() {
    let fault = |status: u16, body: &str| Fault::Status {
        status,
        headers: Vec::new(),
        body: body.to_owned(),
    };
    for fault in [
        fault(404, ""),
        fault(405, ""),
        fault(404, "<h1>Not Found</h1>"),
        Fault::Html,
    ] {
        let script = Script::legacy()
            .plan("server/discover", fault.clone())
            .plan("initialize", fault.clone());
        let rig = Rig::strangers(script).await;
        let failure = rig.greet(EraHint::Probe).await.expect_err("no server");
        assert_eq!(failure.kind, FailureKind::NotMcp, "{fault:?}: {failure}");
        assert!(rig.link.session().is_none());
    }
}

#[tokio::test]
async fn f37_a_version_that_we_do_not_know_is_a_mismatch_that_names_both() {
    let rig = Rig::strangers(Script {
        version: Some("1999-01-01".into()),
        ..Script::legacy()
    })
    .await;
    let failure = rig.greet(EraHint::Probe).await.expect_err("mismatch");
    assert_eq!(failure.kind, FailureKind::VersionMismatch);
    let detail = failure.detail.expect("a detail");
    assert!(
        detail.contains("1999-01-01") && detail.contains("2025-11-25"),
        "{detail}"
    );
    let script = Script {
        modern_versions: vec!["2031-01-01".into()],
        ..Script::modern()
    };
    let rig = Rig::strangers(script).await;
    let failure = rig.greet(EraHint::Probe).await.expect_err("mismatch");
    assert_eq!(failure.kind, FailureKind::VersionMismatch);
    assert!(failure.detail.expect("a detail").contains("2031-01-01"));
}

#[tokio::test]
async fn f34_f35_f36_chatter_during_initialize_is_handed_up_and_does_not_disturb_it() {
    let rig = Rig::strangers(Script::legacy().plan("initialize", Fault::Chatter)).await;
    rig.greet(EraHint::Probe).await.expect("greeted");
    assert_eq!(
        rig.ears.methods(),
        [
            "notifications/message",
            "ping",
            "notifications/tools/list_changed"
        ]
    );
    let foreign = Fault::ForeignId {
        id: "\"server-error\"".into(),
    };
    let rig = Rig::strangers(Script::legacy().plan("server/discover", foreign)).await;
    assert_eq!(
        rig.greet(EraHint::Probe)
            .await
            .expect("greeted")
            .revision
            .era(),
        Era::Legacy
    );
}

#[tokio::test]
async fn f40_a_refused_initialized_is_a_failed_greeting() {
    let refused = Fault::Status {
        status: 400,
        headers: Vec::new(),
        body: "no".into(),
    };
    let rig = Rig::strangers(Script::legacy().plan("notifications/initialized", refused)).await;
    let failure = rig.greet(EraHint::Probe).await.expect_err("refused");
    assert!(
        failure
            .detail
            .expect("a detail")
            .contains("notifications/initialized")
    );
}

#[tokio::test]
async fn f39_giving_up_on_initialize_sends_no_cancel_notice() {
    let rig = Rig::strangers(Script::legacy().plan("initialize", Fault::NeverAnswer)).await;
    let greeting = rig.link.greet(&rig.ids, EraHint::Probe, 20_000, &*rig.ears);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), greeting)
            .await
            .is_err()
    );
    in_time(rig.link.close()).await;
    let counts = rig.server.ledger().counts();
    assert_eq!((counts.cancels, counts.deletes), (0, 0), "{counts:?}");
}

#[tokio::test]
async fn headers_are_those_of_the_era() {
    let mut rig = Rig::strangers(Script::default()).await;
    rig.greet(EraHint::Fixed(Era::Modern))
        .await
        .expect("greeted");
    rig.era = Era::Modern;
    rig.call("echo", "{}").await.expect("answered");
    let ledger = rig.server.ledger();
    for (method, name) in [("server/discover", None), ("tools/call", Some("echo"))] {
        let seen = ledger.seen_of(method).pop().expect("seen");
        assert_eq!(seen.header("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(seen.header("mcp-method"), Some(method));
        assert_eq!(seen.header("mcp-name"), name);
        assert_eq!(
            seen.header("accept"),
            Some("application/json, text/event-stream")
        );
        assert_eq!(seen.header("content-type"), Some("application/json"));
        assert_eq!(seen.header("mcp-session-id"), None);
        assert_eq!(seen.header("accept-encoding"), None);
    }
    let mut rig = Rig::strangers(Script {
        version: Some("2025-03-26".into()),
        ..Script::default()
    })
    .await;
    rig.greet(EraHint::Fixed(Era::Legacy))
        .await
        .expect("greeted");
    rig.era = Era::Legacy;
    rig.call("echo", "{}").await.expect("answered");
    let ledger = rig.server.ledger();
    let first = ledger.seen_of("initialize").pop().expect("seen");
    assert_eq!(
        (
            first.header("mcp-session-id"),
            first.header("mcp-protocol-version")
        ),
        (None, None)
    );
    for method in ["notifications/initialized", "tools/call"] {
        let seen = ledger.seen_of(method).pop().expect("seen");
        assert_eq!(
            seen.header("mcp-session-id").map(str::to_owned),
            rig.link.session()
        );
        assert_eq!(seen.header("mcp-protocol-version"), Some("2025-03-26"));
        assert_eq!(seen.header("mcp-method"), None);
    }
}

#[tokio::test]
async fn bad_urls_are_refused_at_once() {
    let limits = Limits::default();
    let setup = |url: &str| mainstay::runtime::http::HttpSetup {
        limits,
        ..mainstay::runtime::http::HttpSetup::new(url)
    };
    for url in ["", "localhost:8080/mcp", "file:///etc/passwd", "http://"] {
        let failure = mainstay::runtime::http::HttpLink::new(setup(url)).expect_err(url);
        assert_eq!(failure.kind, FailureKind::BadConfig, "{url}");
    }
    let link = link_to("https://user:secret@localhost:1/mcp?key=secret", limits);
    assert!(!format!("{link:?}").contains("secret"), "law 31");
}
