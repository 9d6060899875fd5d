//! Listings: raw items, hidden items, cursors.

use bytes::Bytes;
use mainstay_wire::listing::{CacheScope, parse_page, renamed, render_page};
use mainstay_wire::{ListKind, Page, PageError, Parts, RawItem, raw};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::generate;

fn page(kind: ListKind, text: &str) -> Page {
    parse_page(kind, &Bytes::copy_from_slice(text.as_bytes()))
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn names(page: &Page) -> Vec<&str> {
    page.items.iter().map(|item| item.name.as_str()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// An item is the text that the server wrote; another name changes the name's bytes only.
    #[test]
    fn items_are_kept_and_renamed_in_place(tools in vec((generate::string(), generate::object(), generate::value()), 0..6), name in "[a-z_]{1,20}") {
        let texts: Vec<String> = tools
            .iter()
            .filter(|(name, ..)| raw::string(name).is_some_and(|name| !name.is_empty()))
            .map(|(name, schema, more)| format!(r#"{{ "x":{more},"name" : {name} ,"inputSchema":{schema}}}"#))
            .collect();
        let result = Bytes::from(format!(r#"{{"a":1,"tools": [{}] }}"#, texts.join(" ,\n")));
        let range = result.as_ptr_range();
        let page = parse_page(ListKind::Tools, &result).unwrap();
        prop_assert_eq!(&page.bad, &[]);
        prop_assert_eq!(page.items.len(), texts.len());
        for (item, text) in page.items.iter().zip(&texts) {
            prop_assert_eq!(item.as_str(), text);
            prop_assert!(range.contains(&item.raw.as_ptr()), "copied");
            let new = renamed(item, &name).into_bytes();
            let old = raw::member(text, &["name"]).unwrap();
            prop_assert_eq!(std::str::from_utf8(&new).unwrap(), text.replacen(&format!("\"name\" : {old}"), &format!("\"name\" : \"{name}\""), 1));
            prop_assert_eq!(&RawItem::parse(ListKind::Tools, item.raw.clone()).unwrap(), item);
        }
        // What is rendered is a page again.
        let rendered = render_page(ListKind::Tools, page.items.iter().map(|item| Parts::from(item.raw.clone())), &[("nextCursor", "\"\"".into())]);
        let again = parse_page(ListKind::Tools, &rendered).unwrap();
        prop_assert_eq!(again.items, page.items);
        prop_assert_eq!(again.next_cursor.as_deref(), Some(""));
    }
}

/// F167, law 24: one bad item hides only itself, with a reason.
#[test]
fn f167_law_24_one_bad_item_hides_only_itself() {
    let page = page(
        ListKind::Tools,
        r#"{"tools":[{"name":"good","inputSchema":{"type":"object"}},{"name":"no schema"},{"name":"bad schema","inputSchema":true},
            {"inputSchema":{}},{"name":5,"inputSchema":{}},{"name":"","inputSchema":{}},{"name":"a","name":"b","inputSchema":{}},7,null,
            {"name":"\ud800","inputSchema":{}},{"name":"last","inputSchema":{},"outputSchema":"nonsense"}]}"#,
    );
    assert_eq!(names(&page), ["good", "last"]);
    let reasons: Vec<(usize, &str)> = page
        .bad
        .iter()
        .map(|bad| (bad.index, bad.reason.as_str()))
        .collect();
    assert_eq!(
        reasons,
        [
            (1, "no member \"inputSchema\""),
            (2, "the member \"inputSchema\" is not an object"),
            (3, "no member \"name\""),
            (4, "the member \"name\" is not a string"),
            (5, "the member \"name\" is empty"),
            (6, "the member \"name\" occurs twice"),
            (7, "not an object"),
            (8, "not an object"),
            (9, "the member \"name\" is not a string"),
        ]
    );
    assert_eq!(page.bad[0].name.as_deref(), Some("no schema"));
    assert_eq!(page.bad[6].sample, "7");
}

#[test]
fn large_items_are_hidden() {
    let large = format!(
        r#"{{"name":"large","inputSchema":{{}},"description":"{}"}}"#,
        "x".repeat(1024 * 1024)
    );
    let page = page(
        ListKind::Tools,
        &format!(r#"{{"tools":[{large},{{"name":"small","inputSchema":{{}}}}]}}"#),
    );
    assert_eq!(names(&page), ["small"]);
    assert!(page.bad[0].reason.contains("exceed the limit"));
    assert_eq!(
        (page.bad[0].name.as_deref(), page.bad[0].sample.len()),
        (Some("large"), 120)
    );
}

/// F165: an empty cursor is a cursor; only absence ends a listing.
#[test]
fn f165_an_empty_cursor_is_a_cursor() {
    let cursor = |text: &str| {
        parse_page(
            ListKind::Prompts,
            &Bytes::from(format!(r#"{{"prompts":[]{text}}}"#)),
        )
        .map(|page| page.next_cursor)
    };
    assert_eq!(cursor(""), Ok(None));
    assert_eq!(cursor(r#","nextCursor":"""#), Ok(Some(String::new())));
    assert_eq!(cursor(r#","nextCursor":"a\u0062""#), Ok(Some("ab".into())));
    assert_eq!(cursor(r#","nextCursor":null"#), Ok(None));
    assert_eq!(
        cursor(r#","nextCursor":7"#),
        Err(PageError::BadCursor {
            method: "prompts/list"
        })
    );
}

/// Schemas are somebody else's: not read, not followed, not judged (law 24).
#[test]
fn f168_f248_schemas_pass_untouched_however_broken_or_circular_they_are() {
    let tools = [
        r##"{"name":"a","inputSchema":{"type":"object"},"outputSchema":{"type":"no such type","properties":7}}"##,
        r##"{"name":"b","inputSchema":{"$ref":"#/properties/x","properties":{"x":{"$ref":"#"}}}}"##,
        r##"{"name":"c","inputSchema":{"$ref":"http://203.0.113.1/schema.json"}}"##,
    ];
    let page = page(
        ListKind::Tools,
        &format!(r#"{{"tools":[{}]}}"#, tools.join(",")),
    );
    assert!(page.bad.is_empty(), "{page:?}");
    let raw: Vec<&[u8]> = page.items.iter().map(|item| item.raw.as_ref()).collect();
    assert_eq!(raw, tools.map(str::as_bytes));
}

/// Law 22: an error is not an empty list.
#[test]
fn law_22_what_is_no_page_is_an_error() {
    let parse =
        |text: &'static str| parse_page(ListKind::Tools, &Bytes::from_static(text.as_bytes()));
    assert_eq!(
        parse("{}").unwrap_err().to_string(),
        "the result of tools/list has no list \"tools\""
    );
    assert!(matches!(
        parse(r#"{"tools":{}}"#),
        Err(PageError::NoList { .. })
    ));
    assert!(matches!(
        parse(r#"{"tools":[],"tools":null}"#),
        Err(PageError::NoList { .. })
    ));
    assert!(matches!(parse("[]"), Err(PageError::NotAnObject { .. })));
    assert!(matches!(
        parse("{\"tools\":["),
        Err(PageError::NotAnObject { .. })
    ));
    assert_eq!(parse(r#"{"tools":[]}"#), Ok(Page::default()));
}

#[test]
fn every_kind_has_its_own_members() {
    let kinds = [
        (ListKind::Prompts, r#"{"prompts":[{"name":"p"}]}"#, "p"),
        (
            ListKind::Resources,
            r#"{"resources":[{"name":"n","uri":"file:///a"}]}"#,
            "file:///a",
        ),
        (
            ListKind::Templates,
            r#"{"resourceTemplates":[{"name":"n","uriTemplate":"file:///{x}"}]}"#,
            "file:///{x}",
        ),
    ];
    for (kind, text, name) in kinds {
        let page = page(kind, text);
        assert_eq!(names(&page), [name]);
        assert_eq!(ListKind::of_method(kind.method()), Some(kind));
        assert!(
            renamed(&page.items[0], "z")
                .into_bytes()
                .windows(3)
                .any(|window| window == b"\"z\"")
        );
    }
}

#[test]
fn cache_hints_are_read_and_bounded() {
    let hints = |text: &str| {
        let page = page(ListKind::Tools, &format!(r#"{{"tools":[],{text}}}"#));
        (page.ttl_ms, page.cache_scope)
    };
    assert_eq!(
        hints(r#""ttlMs":5000,"cacheScope":"public""#),
        (Some(5_000), Some(CacheScope::Public))
    );
    assert_eq!(
        hints(r#""ttlMs":-1,"cacheScope":"private""#),
        (Some(0), Some(CacheScope::Private))
    );
    assert_eq!(
        hints(r#""ttlMs":"5","cacheScope":"everyone""#),
        (None, None)
    );
    assert_eq!(
        hints(r#""ttlMs":1e3,"cacheScope":null"#),
        (Some(1_000), None)
    );
}
