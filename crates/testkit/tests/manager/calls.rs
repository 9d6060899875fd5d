//! What callers see: deadlines, cancellation, progress, limits, concurrency.

use std::time::Duration;

use mainstay::{CallError, CallOptions};
use serde_json::{Value, json};

use super::harness::*;

#[tokio::test]
async fn law_17_f55_the_deadline_fires_with_a_full_pipe_and_the_stop_is_not_held_up_f56() {
    let bench = Bench::new();
    // Reads the handshake and the listing, then nothing more.
    let manager = start([bench.server("a", &["--stop-reading-after", "4"])]).await;
    let server = manager.server("a").unwrap();
    let pid = generation(&server, 1).await.pid.unwrap();
    let big = "x".repeat(1024 * 1024);
    for _ in 0..3 {
        let request = tool_call("echo", &json!({"text": big}));
        let error = within("the call to end", server.request(request, limits(200, 200)))
            .await
            .unwrap_err();
        assert!(
            matches!(error, CallError::Unknown(_) | CallError::Refused(_)),
            "{error}"
        );
    }
    within("shutdown", manager.shutdown()).await;
    assert!(!lives(pid));
}

#[tokio::test]
async fn law_16_a_request_that_never_left_the_queue_is_refused_not_unknown() {
    let bench = Bench::new();
    let mut config = bench.server("a", &[]);
    config.concurrency = 1;
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    let first = tokio::spawn({
        let server = server.clone();
        async move { call(&server, "slow", json!({"ms": 2_000})).await }
    });
    until("the first call to arrive", || bench.count("a", "call") == 1).await;
    let mut options = limits(60_000, 60_000);
    options.patience = Some(Duration::from_millis(50));
    let refused = within(
        "the second",
        server.request(tool_call("echo", &json!({})), options),
    )
    .await
    .unwrap_err();
    assert_eq!(refused.class(), "refused");
    assert!(refused.to_string().contains("concurrency"), "{refused}");
    assert!(within("the first", first).await.unwrap().is_ok());
    manager.shutdown().await;
}

#[tokio::test]
async fn law_18_f186_a_dropped_call_is_cancelled_at_the_server_and_its_late_answer_disturbs_nobody()
{
    let bench = Bench::new();
    let manager = start([bench.server("a", &[])]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    let dropped = tokio::spawn({
        let server = server.clone();
        async move { call(&server, "slow", json!({"ms": 600_000})).await }
    });
    until("the call to arrive", || bench.count("a", "call") == 1).await;
    dropped.abort();
    until("the cancel notice to arrive", || {
        bench.count("a", "cancelled") == 1
    })
    .await;
    assert_eq!(
        text(
            &call(&server, "echo", json!({"text": "next"}))
                .await
                .unwrap()
        ),
        "next"
    );
    assert_eq!(
        server.status().generation,
        1,
        "law 15: one caller's leaving tears nothing down"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn law_1_callers_dropped_at_every_moment_of_a_start_change_nothing() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &["--slow-start", "200"])]).await;
    let server = manager.server("a").unwrap();
    for wait_us in (0..200).map(|step| step * 500) {
        let attempt = server.call("echo", None);
        // Dropped at a different await point each time.
        let _ = tokio::time::timeout(Duration::from_micros(wait_us / 50), attempt).await;
    }
    generation(&server, 1).await;
    assert!(call(&server, "echo", json!({})).await.is_ok());
    assert_eq!(
        bench.count("a", "spawn"),
        1,
        "callers do not start anything"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn law_19_f57_calls_run_at_once_and_every_answer_finds_its_call() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &["--one-byte-writes", "--duplicate-answers"])]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    let calls = (0..64).map(|number| {
        let server = server.clone();
        tokio::spawn(async move {
            let answer = call(&server, "echo", json!({"text": number.to_string()}))
                .await
                .unwrap();
            assert_eq!(text(&answer), number.to_string());
        })
    });
    for ended in calls.collect::<Vec<_>>() {
        within("a call", ended).await.unwrap();
    }
    until("the duplicates to be counted", || {
        server.status().counts.late_answers > 0
    })
    .await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f183_progress_keeps_a_call_alive_and_reaches_the_caller_f184_but_not_beyond_the_absolute_limit()
 {
    let bench = Bench::new();
    let manager = start([bench.server("a", &[])]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    let (sender, mut received) = tokio::sync::mpsc::channel(1_000);
    // 60 steps, 10 ms apart, under an idle limit that is much shorter than the whole, and longer than a slow step.
    let mut options = limits(400, 60_000);
    options.hear = Some(sender.clone());
    let request = tool_call("progress", &json!({"steps": 60}));
    let answer = within("the call", server.request(request, options))
        .await
        .unwrap();
    assert_eq!(text(&answer), "60 steps");
    let mut steps = 0;
    while let Ok(mainstay::Said::Progress(message)) = received.try_recv() {
        steps += 1;
        let params: Value = serde_json::from_str(message.params().unwrap()).unwrap();
        assert_eq!(params["progress"], steps);
    }
    assert_eq!(steps, 60);
    let mut options = limits(60_000, 300);
    options.hear = Some(sender);
    let request = tool_call("progress", &json!({"steps": 100_000}));
    let error = within("the call", server.request(request, options))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("callTotalMs"), "{error}");
    manager.shutdown().await;
}

#[tokio::test]
async fn law_30_f47_an_oversized_answer_is_told_to_its_call_and_to_nobody_else() {
    let bench = Bench::new();
    let mut config = mainstay::config::Config::from_servers([bench.server("a", &[])]);
    config.gateway.limits.message_bytes = 64 * 1024;
    let manager = mainstay::Manager::builder()
        .config(config)
        .start()
        .await
        .unwrap();
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    let other = tokio::spawn({
        let server = server.clone();
        async move { call(&server, "slow", json!({"ms": 300})).await }
    });
    let error = call(&server, "big", json!({"bytes": 200_000}))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(within("the other call", other).await.unwrap().is_ok());
    assert_eq!(
        server.status().generation,
        1,
        "F193: a large result is no health failure"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn law_30_f42_f43_f44_noise_on_stdout_and_a_flood_on_stderr_change_nothing() {
    let bench = Bench::new();
    let flags = [
        "--noise-text",
        "2000",
        "--noise-json",
        "20000",
        "--stderr-flood",
        "1000000",
        "--no-newlines",
    ];
    let manager = start([bench.server("a", &flags)]).await;
    let server = manager.server("a").unwrap();
    assert_eq!(
        text(
            &call(&server, "echo", json!({"text": "heard"}))
                .await
                .unwrap()
        ),
        "heard"
    );
    assert!(server.status().counts.noise >= 22_000);
    assert_eq!(bench.count("a", "error"), 0, "F45: noise is never answered");
    manager.shutdown().await;
}

#[tokio::test]
async fn f17_a_call_waits_for_a_start_in_flight() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &["--slow-start", "400"])]).await;
    let server = manager.server("a").unwrap();
    let request = tool_call("echo", &json!({"text": "patient"}));
    let answer = within("the call", server.request(request, CallOptions::default()))
        .await
        .unwrap();
    assert_eq!(text(&answer), "patient");
    assert!(
        answer.queued > answer.served,
        "law 19: our queue is reported apart from the server's time"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn f58_ids_that_come_back_as_strings_or_floats_are_understood() {
    let bench = Bench::new();
    for form in ["string", "float"] {
        let manager = start([bench.server(form, &["--id-as", form])]).await;
        let server = manager.server(form).unwrap();
        assert_eq!(
            text(&call(&server, "echo", json!({"text": form})).await.unwrap()),
            form
        );
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn a_request_that_a_client_wrote_over_several_lines_reaches_a_stdio_server_as_one() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &[])]).await;
    let server = manager.server("a").unwrap();
    let pretty = "{\n \"jsonrpc\": \"2.0\",\n \"id\": 7,\n \"method\": \"tools/call\",\r\n \"params\": {\n  \"name\": \"echo\",\n  \"arguments\": {\"text\": \"one\\nline\"}\n }\n}";
    let message =
        mainstay_wire::Message::parse(pretty.into(), &mainstay_wire::Limits::default()).unwrap();
    let request = mainstay::Request::from_message(message).unwrap();
    let answer = within("the call", server.request(request, CallOptions::default()))
        .await
        .unwrap();
    assert_eq!(text(&answer), "one\nline");
    assert_eq!(bench.count("a", "error"), 0);
    manager.shutdown().await;
}
