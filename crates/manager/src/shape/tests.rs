//! What is shown of a listing, and what becomes of a call to it.

use super::call::{tool_call, with_limits};
use super::*;
use crate::config::{ByTool, Glob, ToolArguments, ToolRetry, ToolTimeouts};
use crate::driver::a_catalog;
use crate::error::Refusal;
use crate::request::{CallOptions, Request};

fn config(tools: impl FnOnce(&mut Tools)) -> ServerConfig {
    let mut config = ServerConfig::stdio("s", "x");
    tools(&mut config.tools);
    config
}

fn pairs(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    let owned = |(own, new): &(&str, &str)| ((*own).to_owned(), (*new).to_owned());
    pairs.iter().map(owned).collect()
}

fn arguments(given: &[(&str, &[(&str, &str)])]) -> ByTool<ToolArguments> {
    let entry = |(glob, given): &(&str, &[(&str, &str)])| {
        let given = ToolArguments::new(given.iter().copied()).unwrap();
        (Glob::new(*glob), given)
    };
    given.iter().map(entry).collect()
}

/// What is shown of these tools, and what is hidden with the beginning of the reason.
fn look(listed: &[&str], config: &ServerConfig) -> (Vec<String>, Vec<(String, String)>) {
    let listed = Arc::new(a_catalog(listed));
    let shown = shaped(&listed, config, &Holdback::default());
    let texts = shown.tools.items.iter().map(|tool| {
        assert_eq!(
            raw::string_member(tool.as_str(), &["name"]).as_deref(),
            Some(&*tool.name)
        );
        tool.as_str().to_owned()
    });
    let hidden = shown.hidden.iter().map(|hidden| {
        let reason = hidden.reason.chars().take(24).collect();
        (hidden.name.clone(), reason)
    });
    (texts.collect(), hidden.collect())
}

fn call(params: &str) -> Request {
    Request::new("tools/call", Some(params))
}

/// The parameters that the server gets.
fn sent(config: &ServerConfig, request: &Request) -> String {
    let mapped = tool_call(config, request).unwrap();
    let request = mapped.as_ref().and_then(|call| call.request.as_ref());
    let settled = request.and_then(Request::settled);
    settled.map_or_else(
        || "as it is".to_owned(),
        |request| request.message.params().unwrap().to_owned(),
    )
}

#[test]
fn what_nobody_speaks_of_is_the_very_listing() {
    let listed = Arc::new(a_catalog(&[r#"{"name":"a","inputSchema":{}}"#]));
    let config = config(|tools| {
        tools.retry = [(Glob::new("*"), ToolRetry::Never)].into_iter().collect();
    });
    assert!(Arc::ptr_eq(
        &listed,
        &shaped(&listed, &config, &Holdback::default())
    ));
}

#[test]
fn names_and_descriptions_are_spliced_and_everything_else_stays_as_it_was_written() {
    let odd = r#"{ "zeta":1.50 ,"name" : "\u0061", "description":"old", "inputSchema":{"x":12345678901234567890123} }"#;
    let bare = r#"{"name":"b","inputSchema":{}}"#;
    let config = config(|tools| {
        tools.rename = pairs(&[("a", "first"), ("gone", "other")]);
        tools.describe = pairs(&[("a", "new \"words\""), ("b", "B"), ("never", "x")]);
    });
    let (shown, hidden) = look(&[odd, bare], &config);
    assert_eq!(
        shown,
        [
            r#"{ "zeta":1.50 ,"name" : "first", "description":"new \"words\"", "inputSchema":{"x":12345678901234567890123} }"#,
            r#"{"name":"b","inputSchema":{},"description":"B"}"#,
        ]
    );
    // Not an error: the server may have it another day.
    let names: Vec<&str> = hidden.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["gone", "never"]);
    assert!(hidden[0].1.starts_with("`tools.rename` names it"));
}

#[test]
fn law_24_f251_the_name_of_a_renamed_tool_cannot_be_taken_by_another() {
    let tools = |names: &[&str]| -> Vec<String> {
        let tool = |name: &&str| format!("{{\"name\":\"{name}\",\"inputSchema\":{{}}}}");
        names.iter().map(tool).collect()
    };
    let swapped = config(|tools| tools.rename = pairs(&[("a", "b"), ("b", "a")]));
    let listed = tools(&["a", "b"]);
    let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
    let (shown, hidden) = look(&listed, &swapped);
    assert!(shown[0].contains("\"b\"") && shown[1].contains("\"a\""));
    assert_eq!(hidden, []);
    assert_eq!(sent(&swapped, &call(r#"{"name":"b"}"#)), r#"{"name":"a"}"#);

    // The server gets a tool of that name: it is hidden, whatever comes first, and calls go on reaching the one they did.
    let one = config(|tools| tools.rename = pairs(&[("a", "b")]));
    for listed in [&listed[..], &[listed[1], listed[0]]] {
        let (shown, hidden) = look(listed, &one);
        assert_eq!(shown.len(), 1);
        assert_eq!(
            hidden,
            [("b".to_owned(), "its name is given to `a`".to_owned())]
        );
    }
    assert_eq!(sent(&one, &call(r#"{"name":"b"}"#)), r#"{"name":"a"}"#);
    // A name that was taken away reaches nothing.
    let refused = tool_call(&one, &call(r#"{"name":"a"}"#)).unwrap_err();
    assert!(matches!(refused, Refusal::NotOffered { .. }), "{refused}");
}

#[test]
fn filters_speak_of_own_names() {
    let config = config(|tools| {
        tools.rename = pairs(&[("a", "first")]);
        tools.exclude = vec![Glob::new("first"), Glob::new("c*")];
    });
    let (shown, hidden) = look(
        &[
            r#"{"name":"a","inputSchema":{}}"#,
            r#"{"name":"cc","inputSchema":{}}"#,
        ],
        &config,
    );
    assert_eq!(shown, [r#"{"name":"first","inputSchema":{}}"#]);
    assert_eq!(hidden[0].0, "cc");
    assert!(tool_call(&config, &call(r#"{"name":"first"}"#)).is_ok());
    assert!(tool_call(&config, &call(r#"{"name":"cc"}"#)).is_err());
}

#[test]
fn given_arguments_are_required_of_nobody() {
    let tool = |required: &str| {
        format!("{{\"name\":\"a\",\"inputSchema\":{{\"type\":\"object\"{required},\"more\":1}}}}")
    };
    let config = config(|tools| {
        tools.arguments = arguments(&[("a*", &[("é", "1"), ("k", "2")])]);
    });
    for (required, left) in [
        (r#","required":["x","\u00e9", "k"]"#, r#","required":["x"]"#),
        (r#","required":["k"]"#, ""),
        (r#","required":["x"]"#, r#","required":["x"]"#),
        ("", ""),
        (r#","required":7"#, r#","required":7"#),
    ] {
        let (shown, _) = look(&[&tool(required)], &config);
        assert_eq!(shown, [tool(left)]);
    }
}

#[test]
fn arguments_are_spliced_in_where_the_caller_gave_none() {
    let config = config(|tools| {
        tools.rename = pairs(&[("a", "first")]);
        tools.arguments = arguments(&[
            ("*", &[("k", "\"all\""), ("z", "[1.10]")]),
            ("a", &[("k", "\"mine\"")]),
        ]);
    });
    for (given, wanted) in [
        (
            r#"{"name":"first"}"#,
            r#"{"name":"a","arguments":{"k":"mine","z":[1.10]}}"#,
        ),
        (
            r#"{"arguments":null,"name":"first"}"#,
            r#"{"arguments":{"k":"mine","z":[1.10]},"name":"a"}"#,
        ),
        (
            r#"{"name":"first","arguments":{ "n":1.50, "\u006b" : null } }"#,
            r#"{"name":"a","arguments":{ "n":1.50, "\u006b" : null ,"z":[1.10]} }"#,
        ),
        (r#"{"name":"b","arguments":{"k":1,"z":2}}"#, "as it is"),
        (r#"{"name":"b","arguments":[]}"#, "as it is"),
        (
            r#"{"name":"b","arguments":{}}"#,
            r#"{"name":"b","arguments":{"k":"all","z":[1.10]}}"#,
        ),
    ] {
        assert_eq!(sent(&config, &call(given)), wanted);
    }
    // Pending edits of the gateway count as what the caller said.
    let edited = call(r#"{"name":"x","arguments":{"k":1}}"#)
        .set(&["params", "name"], "\"first\"")
        .set(&["params", "arguments", "z"], "9");
    assert_eq!(
        sent(&config, &edited),
        r#"{"name":"a","arguments":{"k":1,"z":9}}"#
    );
    let whole = call(r#"{"name":"b"}"#).set(&["params", "arguments"], "{\"z\":0}");
    assert_eq!(
        sent(&config, &whole),
        r#"{"name":"b","arguments":{"z":0,"k":"all"}}"#
    );
}

#[test]
fn limits_of_a_tool_stand_between_the_callers_and_the_servers() {
    let limits = |idle, total| ToolTimeouts {
        call_idle_ms: idle,
        call_total_ms: total,
    };
    let config = config(|tools| {
        tools.rename = pairs(&[("a", "first")]);
        tools.timeouts = [
            (Glob::new("*"), limits(Some(1), Some(2))),
            (Glob::new("a"), limits(None, Some(3))),
        ]
        .into_iter()
        .collect();
    });
    let of = |request: &Request, options: CallOptions| {
        let options = with_limits(&config, request, options);
        let ms = |duration: Option<std::time::Duration>| duration.map(|of| of.as_millis());
        (ms(options.idle), ms(options.total))
    };
    let first = call(r#"{"name":"first"}"#);
    assert_eq!(of(&first, CallOptions::default()), (Some(1), Some(3)));
    let own = CallOptions {
        total: Some(std::time::Duration::from_millis(9)),
        ..CallOptions::default()
    };
    assert_eq!(of(&first, own), (Some(1), Some(9)), "the caller's own wins");
    let other = Request::new("prompts/get", Some(r#"{"name":"first"}"#));
    assert_eq!(of(&other, CallOptions::default()), (None, None));
}
