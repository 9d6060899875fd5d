//! A browser, as far as a sign-in is concerned: it follows redirects, keeps cookies by host and path, and says on forms where
//! they come from.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

use super::support::PATIENCE;

/// Redirects that it follows.
const REDIRECTS_MAX: usize = 10;

/// One browser with its own cookies.
#[derive(Debug, Default)]
pub(crate) struct Browser {
    /// By host (without port, as browsers do), path and name.
    cookies: HashMap<(String, String, String), String>,
}

/// What it shows.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// Where it ended.
    pub(crate) url: Url,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Shown {
    /// Where the one link of the page leads.
    pub(crate) fn link(&self) -> String {
        let (_, rest) = self.body.split_once("class=\"go\"").expect("a link");
        let (_, rest) = rest.split_once("href=\"").expect("a link");
        let (link, _) = rest.split_once('"').expect("a link");
        link.replace("&amp;", "&").replace("&#39;", "'")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl Browser {
    /// Opens an address and follows where it leads.
    pub(crate) async fn open(&mut self, url: &str) -> Shown {
        let mut url = Url::parse(url).unwrap();
        for _ in 0..REDIRECTS_MAX {
            let shown = self.one(Method::GET, &url, None).await;
            let Some(location) = shown.headers.get("location") else {
                return shown;
            };
            url = url.join(location.to_str().unwrap()).unwrap();
        }
        panic!("redirects do not end");
    }

    /// Opens an address, and stays there whatever it says.
    pub(crate) async fn look(&mut self, url: &str) -> Shown {
        self.one(Method::GET, &Url::parse(url).unwrap(), None).await
    }

    /// Opens the sign-in page of an authorization server and says where that sends the browser, without going there.
    pub(crate) async fn allow(&mut self, url: &str) -> String {
        let shown = self.look(url).await;
        assert_eq!(shown.status, 302, "{shown:?}");
        shown.header("location").to_owned()
    }

    /// Sends the form of a page of ours.
    pub(crate) async fn send(&mut self, url: &str, form: &[(&str, &str)]) -> Shown {
        let own = Url::parse(url).unwrap().origin().ascii_serialization();
        self.send_from(&own, url, form).await
    }

    /// Sends a form of a page at this origin.
    pub(crate) async fn send_from(
        &mut self,
        origin: &str,
        url: &str,
        form: &[(&str, &str)],
    ) -> Shown {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let url = Url::parse(url).unwrap();
        self.one(Method::POST, &url, Some((origin, &form))).await
    }

    async fn one(&mut self, method: Method, url: &Url, form: Option<(&str, &str)>) -> Shown {
        let asking = async {
            let host = url.host_str().unwrap().to_owned();
            let authority = format!("{host}:{}", url.port_or_known_default().unwrap());
            let stream = TcpStream::connect(&authority).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .unwrap();
            let driver = tokio::spawn(async move { drop(connection.await) });
            let target = match url.query() {
                Some(query) => format!("{}?{query}", url.path()),
                None => url.path().to_owned(),
            };
            let mut request = Request::builder()
                .method(method)
                .uri(target)
                .header("host", &authority)
                .header("sec-fetch-mode", "navigate")
                .header("sec-fetch-dest", "document");
            let cookies: Vec<String> = self
                .cookies
                .iter()
                .filter(|((of, path, _), _)| *of == host && url.path().starts_with(path.as_str()))
                .map(|((_, _, name), value)| format!("{name}={value}"))
                .collect();
            if !cookies.is_empty() {
                request = request.header("cookie", cookies.join("; "));
            }
            if let Some((origin, _)) = form {
                request = request.header("origin", origin);
                request = request.header("content-type", "application/x-www-form-urlencoded");
            }
            let body = Bytes::from(form.map_or("", |(_, form)| form).to_owned());
            let request = request.body(Full::new(body)).unwrap();
            let response = sender.send_request(request).await.unwrap();
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            driver.abort();
            self.keep(&host, &head.headers);
            Shown {
                url: url.clone(),
                status: head.status.as_u16(),
                headers: head.headers,
                body: String::from_utf8_lossy(&body).into_owned(),
            }
        };
        tokio::time::timeout(PATIENCE, asking)
            .await
            .expect("a page")
    }

    fn keep(&mut self, host: &str, headers: &HeaderMap) {
        for cookie in headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            let mut parts = cookie.split("; ");
            let (name, value) = parts.next().unwrap().split_once('=').unwrap();
            let path = parts
                .find_map(|part| part.strip_prefix("Path="))
                .unwrap_or("/");
            let key = (host.to_owned(), path.to_owned(), name.to_owned());
            self.cookies.insert(key, value.to_owned());
        }
    }
}
