//! The dashboard: one page with its style and its script inside, made from the files beside this one.
//!
//! No build step, no framework, no request to anywhere but the admin API it came from. The policy of the page names the
//! digests of its one style and its one script: whatever else finds its way into it does not run.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use mainstay_wire::Parts;
use ring::digest::{SHA256, digest};

use crate::serve::body::{self, Reply};

const FRAME: &str = include_str!("ui/index.html");
const STYLE: &str = concat!(include_str!("ui/style.css"), include_str!("ui/views.css"));
const SCRIPT: &str = concat!(
    "'use strict';\n",
    include_str!("ui/dom.js"),
    include_str!("ui/api.js"),
    include_str!("ui/words.js"),
    include_str!("ui/servers.js"),
    include_str!("ui/signin.js"),
    include_str!("ui/server.js"),
    include_str!("ui/form.js"),
    include_str!("ui/catalog.js"),
    include_str!("ui/live.js"),
    include_str!("ui/config.js"),
    include_str!("ui/app.js"),
);

/// Where the frame has them.
const STYLE_PLACE: &str = "/* style */";
const SCRIPT_PLACE: &str = "/* script */";

struct Page {
    text: Bytes,
    policy: HeaderValue,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let text = FRAME
        .replacen(STYLE_PLACE, STYLE, 1)
        .replacen(SCRIPT_PLACE, SCRIPT, 1);
    let source = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
        source(SCRIPT),
        source(STYLE)
    );
    Page {
        text: Bytes::from(text),
        // It is made of letters that a header may have.
        policy: HeaderValue::try_from(policy)
            .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'")),
    }
});

/// The page.
pub(crate) fn page() -> Reply {
    let mut reply = body::plain(StatusCode::OK, "");
    *reply.body_mut() = body::ReplyBody::text(Parts::from(PAGE.text.clone()));
    reply.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    reply
}

/// What the page may do in a browser.
pub(crate) fn policy() -> HeaderValue {
    PAGE.policy.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An end tag inside would end the element early; a place left empty would be a page without a script.
    #[test]
    fn the_page_holds_its_style_and_its_script_whole() {
        let text = std::str::from_utf8(&PAGE.text).unwrap();
        for (name, content) in [("style", STYLE), ("script", SCRIPT)] {
            let (open, close) = (format!("<{name}>"), format!("</{name}>"));
            let inner = text.split_once(&open).unwrap().1;
            assert_eq!(inner.split_once(&close).unwrap().0, content, "{name}");
        }
        assert!(policy().to_str().unwrap().contains("sha256-"));
    }

    /// Law 31 of pages: text of servers never becomes markup.
    #[test]
    fn the_script_makes_no_markup_of_text() {
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "http://",
            "https://",
        ] {
            assert!(!SCRIPT.contains(word), "{word}");
        }
    }
}
