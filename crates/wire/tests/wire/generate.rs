//! Generators of JSON text as peers write it: odd spacing, odd numbers, escapes in keys, unknown members, any order.

use mainstay_wire::json_string;
use proptest::collection::vec;
use proptest::prelude::*;

fn space() -> BoxedStrategy<&'static str> {
    prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\n\t"), 1 => Just(" \r\n ")].boxed()
}

/// Text that a decode and encode round trip would change is on purpose among the numbers and strings.
fn scalar() -> BoxedStrategy<String> {
    prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        prop_oneof![
            Just("1.10"),
            Just("-0"),
            Just("0.0"),
            Just("1E+400"),
            Just("123456789012345678901234567890"),
            Just("-0.000000000000000000000000000001"),
        ]
        .prop_map(str::to_owned),
        string(),
    ]
    .boxed()
}

pub(crate) fn string() -> BoxedStrategy<String> {
    prop_oneof![
        any::<String>().prop_map(|text| json_string(&text)),
        prop_oneof![
            Just(r#""\u0041\/\b\f""#),
            Just(r#""\ud83d\ude00 \" } ] , : \\""#),
            Just("\"\u{2028}\u{7f}é世界\""),
            Just("\"\""),
        ]
        .prop_map(str::to_owned),
        // Longer than the scanner's blocks.
        "[a-z \"\\\\é]{60,300}".prop_map(|text| json_string(&text)),
    ]
    .boxed()
}

/// A quoted key. `distinct` keeps keys of one object apart.
fn key(distinct: usize) -> BoxedStrategy<String> {
    prop_oneof![
        Just(format!("\"x{distinct}\"")),
        Just(format!("\"vendor\\u002e{distinct}\"")),
        Just(format!("\"{distinct} \\\"id\\\":1\"")),
        Just(format!("\"io.example/{distinct}é\"")),
    ]
    .boxed()
}

fn object_of(values: BoxedStrategy<String>, size: std::ops::Range<usize>) -> BoxedStrategy<String> {
    vec((values, space()), size)
        .prop_flat_map(|members| {
            let keys: Vec<_> = (0..members.len()).map(key).collect();
            (Just(members), keys).prop_map(|(members, keys)| {
                let spaced = members
                    .into_iter()
                    .map(|(value, space)| format!("{space}{value}{space}"));
                join(&keys.into_iter().zip(spaced).collect::<Vec<_>>())
            })
        })
        .boxed()
}

/// Any JSON value, keys distinct within each object.
pub(crate) fn value() -> BoxedStrategy<String> {
    scalar()
        .prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                (vec(inner.clone(), 0..5), space()).prop_map(|(items, space)| format!(
                    "[{space}{}]",
                    items.join(&format!("{space},"))
                )),
                object_of(inner, 0..5),
            ]
        })
        .boxed()
}

/// Any JSON object.
pub(crate) fn object() -> BoxedStrategy<String> {
    object_of(value(), 0..7).boxed()
}

pub(crate) fn id() -> BoxedStrategy<String> {
    prop_oneof![
        any::<u64>().prop_map(|n| n.to_string()),
        Just("1.0".to_owned()),
        string(),
        Just("-7".to_owned())
    ]
    .boxed()
}

/// Writes an object; keys are quoted already.
pub(crate) fn join(members: &[(String, String)]) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(key, value)| format!("{key}:{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// `params` with a name, sometimes `_meta` with a progress token, unknown members, in any order.
fn params() -> BoxedStrategy<String> {
    let meta = (prop::option::of(id()), vec(value(), 0..4)).prop_flat_map(|(token, more)| {
        let mut members: Vec<_> = more
            .into_iter()
            .enumerate()
            .map(|(n, value)| member(&format!("io.x/{n}"), value))
            .collect();
        members.extend(token.map(|token| member("progressToken", token)));
        Just(members)
            .prop_shuffle()
            .prop_map(|members| join(&members))
    });
    (
        string(),
        object(),
        prop::option::of(meta),
        vec(value(), 0..8),
    )
        .prop_flat_map(|(name, arguments, meta, more)| {
            let mut members = vec![member("name", name), member("arguments", arguments)];
            members.extend(meta.map(|meta| member("_meta", meta)));
            members.extend(
                more.into_iter()
                    .enumerate()
                    .map(|(n, value)| member(&format!("x{n}"), value)),
            );
            Just(members)
                .prop_shuffle()
                .prop_map(|members| join(&members))
        })
        .boxed()
}

/// A valid message with unknown members, its members in any order and oddly spaced.
pub(crate) fn message() -> BoxedStrategy<String> {
    let forms = prop_oneof![
        (id(), prop::option::of(params())).prop_map(|(id, params)| {
            let mut all = vec![
                member("id", id),
                member("method", "\"tools\\/call\"".into()),
            ];
            all.extend(params.map(|params| member("params", params)));
            all
        }),
        prop::option::of(params()).prop_map(|params| {
            let mut all = vec![member("method", "\"notifications/x\"".into())];
            all.extend(params.map(|params| member("params", params)));
            all
        }),
        (id(), value()).prop_map(|(id, result)| vec![member("id", id), member("result", result)]),
        (prop::option::of(id()), object()).prop_map(|(id, error)| vec![
            member("id", id.unwrap_or_else(|| "null".into())),
            member("error", error)
        ]),
    ];
    (forms, vec(value(), 0..3), space(), space())
        .prop_flat_map(|(mut members, more, before, after)| {
            members.push(member("jsonrpc", "\"2.0\"".into()));
            members.extend(
                more.into_iter()
                    .enumerate()
                    .map(|(n, value)| member(&format!("vendor{n}"), value)),
            );
            Just(members).prop_shuffle().prop_map(move |members| {
                let spaced: Vec<(String, String)> = members
                    .into_iter()
                    .map(|(key, value)| {
                        (
                            format!("{before}{key}{after}"),
                            format!("{after}{value}{before}"),
                        )
                    })
                    .collect();
                join(&spaced)
            })
        })
        .boxed()
}

fn member(key: &str, value: String) -> (String, String) {
    (json_string(key), value)
}

/// How a stream is cut: sizes that repeat.
pub(crate) fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![1]),
        vec(1..40_usize, 1..6),
        Just(vec![usize::MAX])
    ]
}

/// Cuts `stream` into chunks of these sizes, over and over.
pub(crate) fn chunks(stream: &[u8], sizes: &[usize]) -> Vec<bytes::Bytes> {
    let mut rest = stream;
    let mut all = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, more) = rest.split_at(rest.len().min(*size));
        all.push(bytes::Bytes::copy_from_slice(chunk));
        rest = more;
    }
    all
}
