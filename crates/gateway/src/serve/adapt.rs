//! An answer of a server, fitted to the client that asked: its id, and what differs between the eras.
//!
//! Everything is a splice on the bytes that came. Within one era only the id changes.

use mainstay::Answer;
use mainstay_wire::{Era, Id, Kind, Message, Parts, codes, meta, method, raw};

use super::fault::{Fault, NOT_BRIDGED};

/// A hint that promises nothing: what is not known to be cacheable must not be cached.
const NO_CACHE_HINT: (&str, &str) = ("0", "\"private\"");

/// A fitted answer and the error code in it, if it is an error (the modern era maps codes to HTTP statuses).
#[derive(Debug)]
pub(crate) struct Fitted {
    pub(crate) parts: Parts,
    pub(crate) code: Option<i64>,
}

/// Whom an answer is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipient<'r> {
    /// The era that the client speaks.
    pub(crate) era: Era,
    /// The client's request id.
    pub(crate) id: &'r Id,
    /// The method that it called.
    pub(crate) method: &'r str,
    /// The server's info object, for results that must name it and do not.
    pub(crate) info: &'r str,
}

/// Fits an answer to its client.
pub(crate) fn fit(answer: &Answer, to: Recipient<'_>) -> Fitted {
    fit_message(&answer.message, answer.era, to)
}

fn fit_message(message: &Message, from: Era, to: Recipient<'_>) -> Fitted {
    if message.kind() == Kind::Error {
        return fit_error(message, from, to);
    }
    let mut editor = message.edit().id(to.id);
    match (from, to.era) {
        (Era::Legacy, Era::Legacy) | (Era::Modern, Era::Modern) => {}
        (Era::Legacy, Era::Modern) => {
            if message.member(&["result", "resultType"]).is_none() {
                editor = editor.set(&["result", "resultType"], "\"complete\"");
            }
            if message
                .member(&["result", "_meta", meta::SERVER_INFO])
                .is_none()
            {
                editor = editor.set(&["result", "_meta", meta::SERVER_INFO], to.info);
            }
            if to.method == method::RESOURCES_READ {
                editor = editor
                    .set(&["result", "ttlMs"], NO_CACHE_HINT.0)
                    .set(&["result", "cacheScope"], NO_CACHE_HINT.1);
            }
        }
        (Era::Modern, Era::Legacy) => {
            match message.string_member(&["result", "resultType"]).as_deref() {
                None => {}
                Some("complete") => editor = editor.remove(&["result", "resultType"]),
                Some(other) => return not_bridged(other, to),
            }
            if to.method == method::RESOURCES_READ {
                editor = editor
                    .remove(&["result", "ttlMs"])
                    .remove(&["result", "cacheScope"]);
            }
            // Legacy revisions know structured content only as an object; the text beside it stays.
            let structured = message.member(&["result", "structuredContent"]);
            if to.method == method::TOOLS_CALL
                && structured.is_some_and(|value| !raw::is_object(value))
            {
                editor = editor.remove(&["result", "structuredContent"]);
            }
        }
    }
    finish(editor, to, None)
}

fn fit_error(message: &Message, from: Era, to: Recipient<'_>) -> Fitted {
    let code = message
        .member(&["error", "code"])
        .and_then(|code| code.parse::<i64>().ok());
    let reads_resource = to.method == method::RESOURCES_READ;
    let names_uri = message.member(&["error", "data", "uri"]).is_some();
    let fitted_code = match (to.era, code) {
        (Era::Modern, Some(codes::RESOURCE_NOT_FOUND)) => Some(codes::INVALID_PARAMS),
        (Era::Modern, Some(codes::URL_ELICITATION_REQUIRED)) => {
            return not_bridged("url elicitation", to);
        }
        // The Python SDK of the legacy era knows a method or calls its parameters invalid; modern clients are told which.
        (Era::Modern, Some(codes::INVALID_PARAMS))
            if from == Era::Legacy && is_unheard_of(to.method) =>
        {
            Some(codes::METHOD_NOT_FOUND)
        }
        (Era::Legacy, Some(codes::INVALID_PARAMS)) if reads_resource && names_uri => {
            Some(codes::RESOURCE_NOT_FOUND)
        }
        (Era::Modern | Era::Legacy, code) => code,
    };
    let mut editor = message.edit().id(to.id);
    if let (true, Some(fitted)) = (fitted_code != code, fitted_code) {
        editor = editor.set(&["error", "code"], fitted.to_string());
    }
    finish(editor, to, fitted_code)
}

/// Whether a method is none of MCP's own. Those of tasks are, in both of their forms.
fn is_unheard_of(name: &str) -> bool {
    !method::MODERN.contains(&name) && !name.starts_with("tasks/")
}

fn finish(editor: mainstay_wire::Editor<'_>, to: Recipient<'_>, code: Option<i64>) -> Fitted {
    match editor.finish() {
        Ok(parts) => Fitted { parts, code },
        Err(error) => {
            // For example a result that is no object, where the modern era requires one.
            let fault = Fault::new(
                codes::INTERNAL_ERROR,
                format!("the server's answer cannot be passed on: {error}"),
            );
            Fitted {
                parts: fault.answer(Some(to.id)),
                code: Some(fault.code),
            }
        }
    }
}

fn not_bridged(what: &str, to: Recipient<'_>) -> Fitted {
    let message = format!(
        "the server answered in a way of its own era ({what}) that a client of the other era cannot follow; whether it goes \
         on with the work is its own business"
    );
    let fault = Fault::new(NOT_BRIDGED, message)
        .with(serde_json::json!({ "outcome": "answered", "needs": what }));
    Fitted {
        parts: fault.answer(Some(to.id)),
        code: Some(fault.code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use mainstay_wire::Limits;

    fn fitted(text: &str, from: Era, to: Era, method: &str) -> (String, Option<i64>) {
        let message = Message::parse(Bytes::from(text.to_owned()), &Limits::default()).unwrap();
        let id = Id::string("c");
        let fitted = fit_message(
            &message,
            from,
            Recipient {
                era: to,
                id: &id,
                method,
                info: "{\"name\":\"s\"}",
            },
        );
        (
            String::from_utf8(fitted.parts.into_bytes().to_vec()).unwrap(),
            fitted.code,
        )
    }

    #[test]
    fn within_one_era_only_the_id_changes() {
        let text = r#"{"jsonrpc":"2.0", "result":{"x":1.10,"n":12345678901234567890,"vendor":{"a":[]}} ,"id":7}"#;
        for era in [Era::Legacy, Era::Modern] {
            let (out, _) = fitted(text, era, era, method::TOOLS_CALL);
            assert_eq!(out, text.replace("\"id\":7", "\"id\":\"c\""));
        }
    }

    #[test]
    fn a_legacy_result_gets_what_the_modern_era_requires() {
        let (out, code) = fitted(
            r#"{"jsonrpc":"2.0","id":7,"result":{"contents":[],"x":1.10}}"#,
            Era::Legacy,
            Era::Modern,
            method::RESOURCES_READ,
        );
        assert_eq!(code, None);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["result"]["resultType"], "complete");
        assert_eq!(value["result"]["ttlMs"], 0);
        assert_eq!(value["result"]["cacheScope"], "private");
        assert_eq!(
            value["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
            "s"
        );
        assert!(out.contains("1.10"));
        let (call, _) = fitted(
            r#"{"jsonrpc":"2.0","id":7,"result":{"content":[]}}"#,
            Era::Legacy,
            Era::Modern,
            method::TOOLS_CALL,
        );
        assert!(
            !call.contains("ttlMs"),
            "cache hints belong to lists, discover and resources/read only"
        );
    }

    #[test]
    fn a_modern_result_loses_what_the_legacy_era_does_not_know() {
        let text = r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","contents":[1.10],"ttlMs":5,"cacheScope":"public"}}"#;
        let (out, _) = fitted(text, Era::Modern, Era::Legacy, method::RESOURCES_READ);
        assert_eq!(
            out,
            r#"{"jsonrpc":"2.0","id":"c","result":{"contents":[1.10]}}"#
        );
        let text = r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","content":[],"structuredContent":[1]}}"#;
        assert_eq!(
            fitted(text, Era::Modern, Era::Legacy, method::TOOLS_CALL).0,
            r#"{"jsonrpc":"2.0","id":"c","result":{"content":[]}}"#
        );
        let text = text.replace("[1]", "{\"a\":1}");
        assert!(
            fitted(&text, Era::Modern, Era::Legacy, method::TOOLS_CALL)
                .0
                .contains("structuredContent")
        );
    }

    #[test]
    fn a_task_is_a_typed_error_to_who_cannot_have_one() {
        let text = r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"task","taskId":"t"}}"#;
        let (out, code) = fitted(text, Era::Modern, Era::Legacy, method::TOOLS_CALL);
        assert_eq!(code, Some(NOT_BRIDGED));
        assert!(out.contains("\"id\":\"c\"") && out.contains("task"));
        let (out, _) = fitted(text, Era::Modern, Era::Modern, method::TOOLS_CALL);
        assert!(out.contains("taskId"), "within the modern era it passes");
    }

    #[test]
    fn there_and_back_is_the_original_and_a_second_time_changes_nothing() {
        let methods = [
            method::TOOLS_CALL,
            method::RESOURCES_READ,
            method::PROMPTS_GET,
            "x/y",
        ];
        for result in [
            "{}",
            "{ }",
            r#"{"content":[]}"#,
            r#"{ "content" : [ ] , "isError":false }"#,
            r#"{"structuredContent":{"n":1.10,"big":12345678901234567890},"content":[]}"#,
            r#"{"contents":[{"uri":"x:y","text":"\u00e9\ud83d\ude00"}],"x":1e400}"#,
            r#"{"a":{"resultType":"no","ttlMs":1},"b":[{"_meta":{}}]}"#,
        ] {
            let answer = format!(r#"{{"id":"c","x":[1.0] ,"result":{result},"jsonrpc":"2.0"}}"#);
            for name in methods {
                let (there, _) = fitted(&answer, Era::Legacy, Era::Modern, name);
                let (again, _) = fitted(&there, Era::Legacy, Era::Modern, name);
                assert_eq!(again, there, "{name}");
                let (back, _) = fitted(&there, Era::Modern, Era::Legacy, name);
                // Who answered stays: a legacy client does not mind.
                let named = r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}"#;
                let plain = back
                    .replacen(&format!(",{named}"), "", 1)
                    .replacen(named, "", 1);
                assert_eq!(plain, answer, "{name}");
                let (kept, _) = fitted(&answer, Era::Modern, Era::Legacy, name);
                assert_eq!(kept, answer, "nothing to take away: {name}");
            }
        }
    }

    #[test]
    fn error_codes_are_mapped_between_eras() {
        let missing = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32002,"message":"no","data":{"uri":"x:y"}}}"#;
        let (out, code) = fitted(missing, Era::Legacy, Era::Modern, method::RESOURCES_READ);
        assert_eq!(code, Some(codes::INVALID_PARAMS));
        assert!(out.contains("\"code\":-32602"));
        let (out, _) = fitted(
            &missing.replace("-32002", "-32602"),
            Era::Modern,
            Era::Legacy,
            method::RESOURCES_READ,
        );
        assert!(out.contains("\"code\":-32002"));
        let (out, _) = fitted(
            &missing.replace("-32002", "-32602"),
            Era::Modern,
            Era::Legacy,
            method::TOOLS_CALL,
        );
        assert!(out.contains("\"code\":-32602"));
        let invalid = missing.replace("-32002", "-32602");
        for (from, name, expected) in [
            (Era::Legacy, "vendor/method", codes::METHOD_NOT_FOUND),
            (Era::Modern, "vendor/method", codes::INVALID_PARAMS),
            (Era::Legacy, method::TOOLS_CALL, codes::INVALID_PARAMS),
            (Era::Legacy, "tasks/get", codes::INVALID_PARAMS),
        ] {
            assert_eq!(fitted(&invalid, from, Era::Modern, name).1, Some(expected));
        }
        let own = r#"{"jsonrpc":"2.0","id":7,"error":{"code":12,"message":"x","vendor":1.10}}"#;
        let (out, code) = fitted(own, Era::Legacy, Era::Modern, method::TOOLS_CALL);
        assert_eq!(
            (out, code),
            (own.replace("\"id\":7", "\"id\":\"c\""), Some(12))
        );
    }
}
