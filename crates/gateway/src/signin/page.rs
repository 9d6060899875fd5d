//! The small pages that a browser shows while somebody signs in: no script, nothing from elsewhere, nothing to take along.
//!
//! They say what happened in words of ours. What an authorization server says is shown as text and never as markup; no page
//! holds a code, a token or a state.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use ring::digest::{SHA256, digest};

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;place-items:center}\
main{max-width:34rem;padding:2rem}\
h1{font-size:1.4rem;margin:0 0 .75rem}\
p{margin:.5rem 0;overflow-wrap:anywhere}\
a.go,button{display:inline-block;margin-top:1rem;padding:.6rem 1.2rem;border-radius:.4rem;border:1px solid;font:inherit;\
color:#fff;background:#0b57d0;border-color:#0b57d0;text-decoration:none;cursor:pointer}\
a.go:focus-visible,button:focus-visible,input:focus-visible{outline:3px solid #f9ab00;outline-offset:2px}\
label{display:block;margin-top:1rem}\
input{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.5rem;margin-top:.25rem}";

/// What such a page may do in a browser: show itself, and send its one form here.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    // It is made of letters that a header may have.
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

/// Longest text of others that a page shows, in characters.
const TEXT_CHARS_MAX: usize = 500;

/// One page.
#[derive(Debug)]
pub(crate) struct Page {
    status: StatusCode,
    title: String,
    inner: String,
}

impl Page {
    /// A page that says what went well, or what is to be done.
    pub(crate) fn new(title: &str) -> Self {
        Self::with(StatusCode::OK, title)
    }

    /// A page with a status of its own.
    pub(crate) fn with(status: StatusCode, title: &str) -> Self {
        Self {
            status,
            title: escaped(title),
            inner: String::new(),
        }
    }

    /// A paragraph of text.
    pub(crate) fn say(mut self, text: &str) -> Self {
        self.inner.push_str(&format!("<p>{}</p>\n", escaped(text)));
        self
    }

    /// The one way on. It must have been parsed, and lead to a web page.
    pub(crate) fn link(mut self, to: &url::Url, words: &str) -> Self {
        if is_web(to) {
            self.inner.push_str(&format!(
                "<p><a class=\"go\" rel=\"noreferrer noopener\" href=\"{}\">{}</a></p>\n",
                escaped_whole(to.as_str()),
                escaped(words)
            ));
        }
        self
    }

    /// A form that asks for a secret and sends it here.
    pub(crate) fn ask(mut self, action: &str, label: &str, name: &str, words: &str) -> Self {
        self.inner.push_str(&format!(
            "<form method=\"post\" action=\"{}\"><label>{}<input type=\"password\" name=\"{}\" autocomplete=\"off\" \
             required></label><button>{}</button></form>\n",
            escaped_whole(action),
            escaped(label),
            escaped(name),
            escaped(words)
        ));
        self
    }

    /// The page as an answer that leaves nothing behind: not in a cache, not in a referrer, not in a frame.
    pub(crate) fn into_response(self) -> Response<Bytes> {
        let Self {
            status,
            title,
            inner,
        } = self;
        let text = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{title} · Mainstay</title>\n<style>{STYLE}</style></head>\n\
             <body><main>\n<h1>{title}</h1>\n{inner}</main></body></html>\n"
        );
        let mut response = Response::new(Bytes::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let fixed = [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CACHE_CONTROL, "no-store"),
            (REFERRER_POLICY, "no-referrer"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (X_FRAME_OPTIONS, "DENY"),
            (
                HeaderName::from_static("cross-origin-opener-policy"),
                "same-origin",
            ),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                "same-origin",
            ),
        ];
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
        response
    }
}

/// Whether an address may be shown to a browser: the two schemes of web pages, and nothing that runs something (F241).
pub fn is_web(url: &url::Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

/// Text as markup that shows it, cut to what a page can bear, without characters that steer a terminal or a line.
fn escaped(text: &str) -> String {
    let mut cut: String = text
        .chars()
        .filter(|letter| !letter.is_control())
        .take(TEXT_CHARS_MAX)
        .collect();
    if text.chars().count() > TEXT_CHARS_MAX {
        cut.push('…');
    }
    escaped_whole(&cut)
}

fn escaped_whole(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(page: Page) -> String {
        String::from_utf8(page.into_response().body().to_vec()).unwrap()
    }

    #[test]
    fn law_31_what_others_say_is_text_and_never_markup() {
        let text =
            text_of(Page::new("<b>").say("<script>alert(1)</script>\u{1b}[2J & \"quotes\" 'too'"));
        assert!(!text.contains("<script>") && !text.contains("<b>") && !text.contains('\u{1b}'));
        assert!(
            text.contains("&lt;script&gt;")
                && text.contains("&amp; &quot;quotes&quot; &#39;too&#39;")
        );
        let long = text_of(Page::new("t").say(&"x".repeat(5_000)));
        assert!(long.matches('x').count() < 600, "cut");
    }

    #[test]
    fn f241_only_web_addresses_become_links() {
        for (address, is) in [
            ("https://auth.example/authorize?a=1&b=2", true),
            ("http://127.0.0.1:9/x", true),
            ("javascript:alert(1)", false),
            ("file:///etc/passwd", false),
            ("data:text/html,x", false),
            ("vscode://x/y", false),
        ] {
            let url = url::Url::parse(address).unwrap();
            assert_eq!(is_web(&url), is, "{address}");
            let text = text_of(Page::new("t").link(&url, "on"));
            assert_eq!(text.contains("href="), is, "{address}");
        }
    }

    #[test]
    fn a_page_leaves_nothing_behind() {
        let response = Page::new("t").into_response();
        let says = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(says("referrer-policy"), "no-referrer");
        assert_eq!(says("cache-control"), "no-store");
        assert_eq!(says("x-frame-options"), "DENY");
        let policy = says("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && policy.contains("sha256-"));
        assert!(!policy.contains("script-src") && !policy.contains("unsafe"));
    }
}
