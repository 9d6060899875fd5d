//! The stamp of modern requests.

use mainstay_wire::{Id, Message, Revision, codes, meta, method};

#[test]
fn a_stamp_goes_on_and_comes_off() {
    let call = Message::request(
        &Id::number(1),
        method::TOOLS_CALL,
        Some(r#"{"name":"a","_meta":{"traceparent":"00-1"}}"#),
    );
    let members = meta::modern_meta(
        Revision::LATEST_MODERN,
        r#"{"sampling":{}}"#,
        Some(r#"{"name":"m","version":"1"}"#),
        Some("debug"),
    );
    let stamped = meta::stamp(call.edit(), &members).apply().unwrap();
    assert_eq!(
        stamped.params(),
        Some(
            r#"{"name":"a","_meta":{"traceparent":"00-1","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{}},"io.modelcontextprotocol/clientInfo":{"name":"m","version":"1"},"io.modelcontextprotocol/logLevel":"debug"}}"#
        )
    );
    assert_eq!(meta::unstamp(stamped.edit()).apply().unwrap(), call);
    let bare = Message::request(&Id::number(1), method::DISCOVER, None);
    let stamped = meta::stamp(
        bare.edit(),
        &meta::modern_meta(Revision::LATEST_MODERN, "{}", None, None),
    )
    .apply()
    .unwrap();
    assert_eq!(
        stamped.member(&meta::in_params(meta::CLIENT_CAPABILITIES)),
        Some("{}")
    );
    assert_eq!(stamped.member(&meta::in_params(meta::CLIENT_INFO)), None);
}

#[test]
fn codes_and_statuses() {
    assert!(codes::is_modern(-32_022) && !codes::is_modern(-32_601));
    assert_eq!(
        [-32_601, -32_602, -32_020, -32_603, 5].map(codes::modern_http_status),
        [404, 400, 400, 200, 200]
    );
    assert!(
        method::MODERN
            .iter()
            .all(|name| !method::REMOVED_IN_MODERN.contains(name))
    );
    assert!(method::is_read_only(method::TOOLS_LIST) && !method::is_read_only(method::TOOLS_CALL));
}
