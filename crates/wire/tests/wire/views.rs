//! The typed looks at single messages.

use bytes::Bytes;
use mainstay_wire::listing::CacheScope;
use mainstay_wire::views::{
    CallView, CancelledView, DiscoverResult, ErrorView, InitializeParams, InitializeResult,
    InputRequired, ListenFilter, ProgressView, ResultType, ToolHints,
};
use mainstay_wire::{Id, Limits, Message, Revision};

fn parse(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default()).unwrap()
}

#[test]
fn initialize_both_ways() {
    let params = InitializeParams::read(r#"{"protocolVersion":"2026-07-28","capabilities":{"elicitation":{"url":{}}},"clientInfo":{"name":"c","version":"1","x":2}}"#).unwrap();
    assert_eq!(params.negotiated(), Revision::LATEST_LEGACY);
    assert!(params.has(&["elicitation", "url"]) && !params.has(&["sampling"]));
    assert_eq!(
        params.client_info.unwrap().raw,
        r#"{"name":"c","version":"1","x":2}"#
    );
    assert!(InitializeParams::read("{}").is_err());

    let text = r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":false},"tasks":{}},"serverInfo":{"name":"s","version":"2","title":"S"},"instructions":"a\nb","x":1.10}"#;
    let result = InitializeResult::read(text).unwrap();
    assert_eq!(
        (result.revision(), result.raw.as_str()),
        (Some(Revision::V2025_06_18), text)
    );
    assert!(
        result.has(&["tools", "listChanged"])
            && result.has(&["resources"])
            && !result.has(&["resources", "subscribe"])
    );
    assert_eq!(
        (
            result.instructions.as_deref(),
            result.server_info.unwrap().title.as_deref()
        ),
        (Some("a\nb"), Some("S"))
    );
    assert_eq!(
        InitializeResult::read(r#"{"protocolVersion":"1999"}"#)
            .unwrap()
            .revision(),
        None
    );
    assert_eq!(
        InitializeResult::read(r#"{"ok":true}"#)
            .unwrap_err()
            .to_string(),
        "initialize result has no valid member \"result.protocolVersion\": expected a string"
    );
}

#[test]
fn discover() {
    let result = DiscoverResult::read(r#"{"resultType":"complete","supportedVersions":["2025-11-25","2026-07-28"],"capabilities":{"logging":{}},"ttlMs":-5,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}"#).unwrap();
    assert_eq!(result.revision(), Some(Revision::V2026_07_28));
    assert_eq!(
        (result.ttl_ms, result.cache_scope),
        (0, CacheScope::Private)
    );
    assert_eq!(
        result.server_info.as_ref().map(|info| info.name.as_str()),
        Some("s")
    );
    assert!(result.has(&["logging"]));
    for bad in [
        "{}",
        r#"{"supportedVersions":"2026-07-28"}"#,
        r#"{"supportedVersions":[1]}"#,
    ] {
        assert!(DiscoverResult::read(bad).is_err());
    }
}

#[test]
fn calls_and_hints() {
    let call = parse(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a\/b","arguments":{"x":1},"_meta":{"progressToken":7,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{}}}}}"#,
    );
    let view = CallView::of(&call);
    assert_eq!(
        (view.name.as_deref(), view.arguments, view.progress_token),
        (Some("a/b"), Some(r#"{"x":1}"#), Some("7"))
    );
    assert!(
        view.declares(&["sampling"])
            && !view.declares(&["elicitation"])
            && CallView::is_modern(&call)
    );
    let plain = parse(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":null}}}"#,
    );
    assert_eq!(
        (
            CallView::of(&plain).progress_token,
            CallView::is_modern(&plain)
        ),
        (None, false)
    );
    let greet = parse(
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
    );
    assert!(!CallView::is_modern(&greet));

    // Law 16: nothing is repeated on the strength of what is missing or odd.
    assert!(!ToolHints::of_tool(r#"{"name":"a"}"#).may_repeat());
    assert!(
        !ToolHints::of_tool(r#"{"annotations":{"readOnlyHint":"true","idempotentHint":1}}"#)
            .may_repeat()
    );
    let hints =
        ToolHints::of_tool(r#"{"annotations":{"readOnlyHint":true,"destructiveHint":false}}"#);
    assert_eq!(
        hints,
        ToolHints {
            read_only: true,
            idempotent: false,
            destructive: false
        }
    );
    assert!(hints.may_repeat());
}

#[test]
fn errors_keep_what_does_not_fit() {
    let error = ErrorView::of(&parse(
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"m","data":{"supported":[]}}}"#,
    ))
    .unwrap();
    assert_eq!(
        (error.code, error.message.as_str(), error.data.as_deref()),
        (Some(-32_022), "m", Some(r#"{"supported":[]}"#))
    );
    let error = ErrorView::of(&parse(
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":99999999999999999999}}"#,
    ))
    .unwrap();
    assert_eq!((error.code, error.message.as_str()), (None, ""));
    assert_eq!(
        ErrorView::of(&parse(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)),
        None
    );
}

#[test]
fn result_types() {
    let of = |result: &str| {
        ResultType::of(&parse(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#
        )))
    };
    assert_eq!(of("{}"), ResultType::Complete);
    assert_eq!(of(r#"{"resultType":"complete"}"#), ResultType::Complete);
    assert_eq!(
        of(r#"{"resultType":"input_required"}"#),
        ResultType::InputRequired
    );
    assert_eq!(
        of(r#"{"resultType":"task"}"#),
        ResultType::Other("task".into())
    );
    assert_eq!(of(r#"{"resultType":7}"#), ResultType::Other("7".into()));
    let asks = parse(
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"k":{"method":"roots/list"}},"requestState":"a\u0062"}}"#,
    );
    let inputs = InputRequired::of(&asks).unwrap();
    assert_eq!(
        inputs.requests,
        [("k".into(), r#"{"method":"roots/list"}"#)]
    );
    assert_eq!(inputs.request_state, Some(r#""a\u0062""#), "byte for byte");
    assert!(
        InputRequired::of(&parse(
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required"}}"#
        ))
        .is_err()
    );
}

#[test]
fn notices() {
    let progress = parse(
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"7","progress":50,"message":"half"}}"#,
    );
    let view = ProgressView::of(&progress).unwrap();
    assert_eq!(
        (
            view.token,
            view.token_id().and_then(|id| id.as_u64()),
            view.message.as_deref()
        ),
        ("\"7\"", Some(7), Some("half"))
    );
    assert!((view.progress - 50.0).abs() < f64::EPSILON);
    for bad in [
        r#"{"progress":1}"#,
        r#"{"progressToken":{},"progress":1}"#,
        r#"{"progressToken":1,"progress":"x"}"#,
        "null",
    ] {
        assert!(
            ProgressView::of(&parse(&format!(
                r#"{{"jsonrpc":"2.0","method":"p","params":{bad}}}"#
            )))
            .is_err(),
            "{bad}"
        );
    }
    let cancelled = parse(
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a","reason":"late"}}"#,
    );
    let view = CancelledView::of(&cancelled).unwrap();
    assert_eq!(
        (view.request_id, view.reason.as_deref()),
        (Id::string("a"), Some("late"))
    );
    assert!(
        CancelledView::of(&parse(
            r#"{"jsonrpc":"2.0","method":"c","params":{"requestId":null}}"#
        ))
        .is_err()
    );
}

#[test]
fn listen_filters() {
    let text =
        r#"{"toolsListChanged":true,"resourceSubscriptions":["file:///a"],"io.x/tasks":["t"]}"#;
    let of = |filter: &str| {
        ListenFilter::of(&parse(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{"notifications":{filter}}}}}"#
        )))
    };
    let filter = of(text).unwrap();
    assert!(filter.tools && !filter.prompts);
    assert_eq!(filter.render(), text);
    assert!(
        of(r#"{"toolsListChanged":false,"resourceSubscriptions":[]}"#)
            .unwrap()
            .is_empty()
    );
    assert_eq!(ListenFilter::default().render(), "{}");
    assert!(of("[]").is_err());
}
