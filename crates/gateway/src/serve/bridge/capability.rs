//! What a client declared that it can be asked.

use mainstay_wire::{method, raw};

/// What a request of a server needs and its client did not declare, as a capabilities object in raw JSON. `None`: nothing
/// is missing, or the method is none that a capability stands for.
pub(crate) fn lacking(
    capabilities: &str,
    method: &str,
    params: Option<&str>,
) -> Option<&'static str> {
    let declared = |path: &[&str]| raw::member(capabilities, path).is_some_and(raw::is_object);
    let param = |name: &str| params.and_then(|params| raw::member(params, &[name]));
    match method {
        method::ELICITATION_CREATE => {
            if param("mode").and_then(raw::string).as_deref() == Some("url") {
                return (!declared(&["elicitation", "url"]))
                    .then_some(r#"{"elicitation":{"url":{}}}"#);
            }
            // An elicitation capability that names no mode means forms, because once there was nothing else.
            let forms = declared(&["elicitation"])
                && (declared(&["elicitation", "form"]) || !declared(&["elicitation", "url"]));
            (!forms).then_some(r#"{"elicitation":{"form":{}}}"#)
        }
        method::SAMPLING_CREATE => {
            if !declared(&["sampling"]) {
                return Some(r#"{"sampling":{}}"#);
            }
            let tools = param("tools").is_some() || param("toolChoice").is_some();
            (tools && !declared(&["sampling", "tools"])).then_some(r#"{"sampling":{"tools":{}}}"#)
        }
        method::ROOTS_LIST => (!declared(&["roots"])).then_some(r#"{"roots":{}}"#),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case = (
        &'static str,
        &'static str,
        Option<&'static str>,
        Option<&'static str>,
    );

    const FORM: Option<&str> = Some(r#"{"mode":"form","message":"m"}"#);
    const URL: Option<&str> = Some(r#"{"mode":"url","url":"https://x"}"#);

    const CASES: &[Case] = &[
        (
            "{}",
            "elicitation/create",
            FORM,
            Some(r#"{"elicitation":{"form":{}}}"#),
        ),
        (r#"{"elicitation":{}}"#, "elicitation/create", FORM, None),
        (r#"{"elicitation":{}}"#, "elicitation/create", None, None),
        (
            r#"{"elicitation":{"form":{}}}"#,
            "elicitation/create",
            FORM,
            None,
        ),
        (
            r#"{"elicitation":{}}"#,
            "elicitation/create",
            URL,
            Some(r#"{"elicitation":{"url":{}}}"#),
        ),
        (
            r#"{"elicitation":{"url":{}}}"#,
            "elicitation/create",
            URL,
            None,
        ),
        (
            r#"{"elicitation":{"url":{}}}"#,
            "elicitation/create",
            FORM,
            Some(r#"{"elicitation":{"form":{}}}"#),
        ),
        (
            r#"{"elicitation":null}"#,
            "elicitation/create",
            FORM,
            Some(r#"{"elicitation":{"form":{}}}"#),
        ),
        (
            "{}",
            "sampling/createMessage",
            None,
            Some(r#"{"sampling":{}}"#),
        ),
        (
            r#"{"sampling":{}}"#,
            "sampling/createMessage",
            Some("{}"),
            None,
        ),
        (
            r#"{"sampling":{}}"#,
            "sampling/createMessage",
            Some(r#"{"tools":[]}"#),
            Some(r#"{"sampling":{"tools":{}}}"#),
        ),
        (
            r#"{"sampling":{"tools":{}}}"#,
            "sampling/createMessage",
            Some(r#"{"tools":[]}"#),
            None,
        ),
        ("{}", "roots/list", None, Some(r#"{"roots":{}}"#)),
        (
            r#"{"roots":{"listChanged":true}}"#,
            "roots/list",
            None,
            None,
        ),
        ("{}", "vendor/ask", None, None),
    ];

    #[test]
    fn a_client_is_asked_only_what_it_declared() {
        for (capabilities, method, params, missing) in CASES {
            assert_eq!(
                lacking(capabilities, method, *params),
                *missing,
                "{capabilities} {method} {params:?}"
            );
        }
    }
}
