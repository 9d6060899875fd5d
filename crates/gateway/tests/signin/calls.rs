//! Calls of clients to servers that somebody has to sign in to: typed answers, and sign-ins that complete the same call.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use mainstay_testkit::authority::Guard;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::browser::Browser;
use super::support::{Home, PATIENCE, World};

const CALL: &str = r#"{"name":"echo","arguments":{"text":"hi"}}"#;

/// An MCP client over raw HTTP, one connection for each request.
struct Client {
    address: String,
    path: &'static str,
    session: Option<String>,
    token: Option<String>,
}

/// An answer: JSON, or a stream that is read event by event.
struct Answer {
    body: Incoming,
    buffer: String,
    session: Option<String>,
    is_stream: bool,
}

impl Answer {
    /// The next message.
    async fn next(&mut self) -> Value {
        loop {
            if self.is_stream
                && let Some((event, rest)) = self.buffer.split_once("\n\n")
            {
                let data: String = event
                    .lines()
                    .filter_map(|line| line.strip_prefix("data:"))
                    .map(str::trim)
                    .collect();
                self.buffer = rest.to_owned();
                if let Ok(message) = serde_json::from_str(&data) {
                    return message;
                }
                continue;
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame());
            match frame.await.expect("an answer") {
                Some(frame) => {
                    let frame = frame.unwrap();
                    let data = frame.data_ref().cloned().unwrap_or_default();
                    self.buffer.push_str(std::str::from_utf8(&data).unwrap());
                }
                None => {
                    assert!(!self.is_stream, "the stream has ended: {}", self.buffer);
                    return serde_json::from_str(&self.buffer).unwrap_or(Value::Null);
                }
            }
        }
    }
}

impl Client {
    fn modern(home: &Home, path: &'static str) -> Self {
        Self {
            address: home.address(),
            path,
            session: None,
            token: None,
        }
    }

    /// One from elsewhere, with a token of this Mainstay.
    fn bearing(home: &Home, path: &'static str, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..Self::modern(home, path)
        }
    }

    async fn legacy(home: &Home, path: &'static str, capabilities: Value) -> Self {
        let mut client = Self::modern(home, path);
        let opening = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": capabilities,
            "clientInfo": { "name": "test", "version": "1" } } });
        let mut answer = client.post(&opening, &[]).await;
        client.session = answer.session.take();
        assert_eq!(
            answer.next().await["result"]["protocolVersion"],
            "2025-11-25"
        );
        let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        client.post(&ready, &[]).await;
        client
    }

    async fn post(&self, message: &Value, headers: &[(&str, &str)]) -> Answer {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.path)
            .header("host", &self.address)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        if let Some(session) = &self.session {
            request = request
                .header("mcp-session-id", session)
                .header("mcp-protocol-version", "2025-11-25");
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(Bytes::from(message.to_string()));
        let sent = sender.send_request(request.body(body).unwrap());
        let response = tokio::time::timeout(PATIENCE, sent).await.unwrap().unwrap();
        let of = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let is_stream = of("content-type").is_some_and(|kind| kind == "text/event-stream");
        let session = of("mcp-session-id");
        Answer {
            is_stream,
            session,
            buffer: String::new(),
            body: response.into_body(),
        }
    }

    /// A call of the legacy era.
    async fn call(&self, params: &str) -> Answer {
        let params: Value = serde_json::from_str(params).unwrap();
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        self.post(&call, &[]).await
    }

    /// A call of the modern era, with further members in its parameters.
    async fn call_modern(&self, params: &str, capabilities: &Value, more: Value) -> Value {
        let mut params: Value = serde_json::from_str(params).unwrap();
        let name = params["name"].as_str().unwrap().to_owned();
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        });
        for (member, value) in more.as_object().unwrap() {
            params[member] = value.clone();
        }
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        let headers = [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", name.as_str()),
        ];
        self.post(&call, &headers).await.next().await
    }
}

fn url_mode() -> Value {
    json!({ "elicitation": { "url": {} } })
}

/// Follows a link of ours as its user does: our page first, then the authorization server, and back.
async fn follow(browser: &mut Browser, link: &str) -> super::browser::Shown {
    let page = browser.open(link).await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.body.contains("Sign in to one"), "{page:?}");
    browser.open(&page.link()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn f204_a_call_is_refused_at_once_with_the_command_and_a_link() {
    let world = World::start(&["one"]).await;
    let home = world.home().await;
    let client = Client::legacy(&home, "/servers/one/mcp", json!({})).await;
    let answer = client.call(CALL).await.next().await;
    let told = &answer["error"]["data"];
    assert_eq!(told["outcome"], "refused", "{answer:#}");
    assert_eq!(told["cause"]["kind"], "needs-login");
    assert_eq!(told["signIn"]["command"], "mainstay login one");
    let link = told["signIn"]["url"].as_str().unwrap().to_owned();
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("mainstay login one") && message.contains(&link),
        "{message}"
    );
    // The same for a modern client, and the same link: nothing new for each call, and nobody was asked for anything.
    let client = Client::modern(&home, "/servers/one/mcp");
    let answer = client.call_modern(CALL, &json!({}), json!({})).await;
    assert_eq!(answer["error"]["data"]["signIn"]["url"], link, "{answer:#}");
    assert!(world.authority.ledger().token_requests().is_empty());
    // The link does what it says.
    let shown = follow(&mut Browser::default(), &link).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    home.connected("one").await;
    let answer = client.call_modern(CALL, &json!({}), json!({})).await;
    assert!(answer["result"].is_object(), "{answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_client_is_sent_to_sign_in_and_the_same_call_is_answered() {
    let world = World::start(&["one"]).await;
    let home = world.home().await;
    let client = Client::legacy(&home, "/servers/one/mcp", url_mode()).await;
    let mut answer = client.call(CALL).await;
    let asked = answer.next().await;
    assert_eq!(asked["method"], "elicitation/create", "{asked:#}");
    let params = &asked["params"];
    assert_eq!(params["mode"], "url");
    let elicitation = params["elicitationId"].as_str().unwrap().to_owned();
    let link = params["url"].as_str().unwrap().to_owned();
    assert!(
        link.starts_with(&format!("http://{}/oauth/signin/", home.address())),
        "{link}"
    );
    let accept = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "accept" } });
    client.post(&accept, &[]).await;
    let mut browser = Browser::default();
    let shown = follow(&mut browser, &link).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    let complete = answer.next().await;
    assert_eq!(
        complete["method"], "notifications/elicitation/complete",
        "{complete:#}"
    );
    assert_eq!(complete["params"]["elicitationId"], elicitation);
    let result = answer.next().await;
    assert_eq!(result["result"]["content"][0]["text"], "hi", "{result:#}");
    assert_eq!(
        world.servers[0]
            .1
            .server()
            .ledger()
            .seen_of("tools/call")
            .len(),
        1,
        "once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_go_on_when_somebody_signs_in_by_other_means() {
    let world = World::start(&["one"]).await;
    let home = world.home().await;
    let client = Client::legacy(&home, "/servers/one/mcp", url_mode()).await;
    let (mut first, mut second) = (client.call(CALL).await, client.call(CALL).await);
    let links = [first.next().await, second.next().await];
    assert_eq!(
        links[0]["params"]["url"], links[1]["params"]["url"],
        "one link for all"
    );
    home.sign_in("one").await;
    for answer in [&mut first, &mut second] {
        let complete = answer.next().await;
        assert_eq!(complete["method"], "notifications/elicitation/complete");
        assert!(answer.next().await["result"].is_object());
    }
    assert_eq!(world.codes_spent(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_client_that_declines_gets_an_error_and_nothing_was_run() {
    let world = World::start(&["one"]).await;
    let home = world.home().await;
    let client = Client::legacy(&home, "/servers/one/mcp", url_mode()).await;
    let mut answer = client.call(CALL).await;
    let asked = answer.next().await;
    let decline = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "decline" } });
    client.post(&decline, &[]).await;
    let error = answer.next().await;
    assert_eq!(error["error"]["code"], -31_006, "{error:#}");
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .contains("declined")
    );
    assert!(world.authority.families().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_client_is_asked_for_a_visit_and_its_retry_is_the_call() {
    let world = World::start(&["one"]).await;
    let home = world.home().await;
    let client = Client::modern(&home, "/servers/one/mcp");
    let asked = client.call_modern(CALL, &url_mode(), json!({})).await;
    let result = &asked["result"];
    assert_eq!(result["resultType"], "input_required", "{asked:#}");
    let request = &result["inputRequests"]["sign-in"];
    assert_eq!(request["method"], "elicitation/create");
    assert_eq!(request["params"]["mode"], "url");
    let link = request["params"]["url"].as_str().unwrap();
    let shown = follow(&mut Browser::default(), link).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    let more = json!({
        "requestState": result["requestState"],
        "inputResponses": { "sign-in": { "action": "accept" } },
    });
    let answer = client.call_modern(CALL, &url_mode(), more.clone()).await;
    assert_eq!(answer["result"]["content"][0]["text"], "hi", "{answer:#}");
    assert_eq!(
        world.servers[0]
            .1
            .server()
            .ledger()
            .seen_of("tools/call")
            .len(),
        1,
        "once"
    );
    // The state is good once.
    let again = client.call_modern(CALL, &url_mode(), more).await;
    assert_eq!(again["error"]["code"], -32_602, "{again:#}");
    // On the aggregate the same, and declining ends it.
    let said = home.run(&["logout", "one"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    home.needs_login("one").await;
    let client = Client::modern(&home, "/mcp");
    let call = CALL.replace("echo", "one__echo");
    let asked = client.call_modern(&call, &url_mode(), json!({})).await;
    let more = json!({
        "requestState": asked["result"]["requestState"],
        "inputResponses": { "sign-in": { "action": "decline" } },
    });
    let error = client.call_modern(&call, &url_mode(), more).await;
    assert_eq!(error["error"]["code"], -31_006, "{error:#}");
}

/// The phishing rule: who finishes must be who began. A link alone, or a callback alone, finishes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn f206_another_browser_cannot_finish_what_this_one_began() {
    let world = World::start(&["one"]).await;
    let home = world.home().await;
    let client = Client::legacy(&home, "/servers/one/mcp", json!({})).await;
    let answer = client.call(CALL).await.next().await;
    let link = answer["error"]["data"]["signIn"]["url"]
        .as_str()
        .unwrap()
        .to_owned();
    let (mut mine, mut theirs) = (Browser::default(), Browser::default());
    let page = mine.open(&link).await;
    assert!(page.header("set-cookie").contains("HttpOnly"), "{page:?}");
    // The victim is led to the page of the authorization server itself, and comes back without the key.
    let ended = theirs.allow(&page.link()).await;
    let shown = theirs.open(&ended).await;
    assert_eq!(shown.status, 403, "{shown:?}");
    assert!(world.authority.families().is_empty(), "no code was spent");
    home.needs_login("one").await;
    // From elsewhere the page is not shown at all, whoever has its address.
    let own = home.address();
    for (host, header) in [
        ("attacker.example", None),
        // What a proxy passes on may come from anywhere.
        (&*own, Some("x-forwarded-for")),
        (&*own, Some("via")),
    ] {
        let elsewhere = reqwest_like(&home, &link, host, header).await;
        assert_eq!(elsewhere, 403, "{host} {header:?}");
    }
    let shown = mine.open(&page.link()).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    home.connected("one").await;
    let gone = mine
        .open(&format!("http://{}/oauth/signin/0000", home.address()))
        .await;
    assert_eq!(gone.status, 404, "{gone:?}");
}

/// The status of a page that is asked for under this name, and with this header of a proxy.
async fn reqwest_like(home: &Home, link: &str, host: &str, header: Option<&str>) -> u16 {
    let stream = TcpStream::connect(home.address()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let path = url::Url::parse(link).unwrap().path().to_owned();
    let mut request = Request::get(path).header("host", host);
    if let Some(header) = header {
        request = request.header(header, "203.0.113.7");
    }
    let request = request.body(Full::new(Bytes::new())).unwrap();
    sender
        .send_request(request)
        .await
        .unwrap()
        .status()
        .as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_needs_more_rights_gets_them_through_the_same_door() {
    let mut guard = Guard {
        scopes: vec!["read".to_owned()],
        ..Guard::default()
    };
    guard
        .tools
        .insert("echo".to_owned(), vec!["write".to_owned()]);
    let world = World::with(&["one"], guard).await;
    let home = world.home().await;
    home.sign_in("one").await;
    home.connected("one").await;
    let client = Client::legacy(&home, "/servers/one/mcp", url_mode()).await;
    let mut answer = client.call(CALL).await;
    let asked = answer.next().await;
    assert_eq!(asked["method"], "elicitation/create", "{asked:#}");
    let words = asked["params"]["message"].as_str().unwrap();
    assert!(words.contains("more rights"), "{words}");
    let link = asked["params"]["url"].as_str().unwrap().to_owned();
    let shown = follow(&mut Browser::default(), &link).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    let complete = answer.next().await;
    assert_eq!(
        complete["method"], "notifications/elicitation/complete",
        "{complete:#}"
    );
    let result = answer.next().await;
    assert_eq!(result["result"]["content"][0]["text"], "hi", "{result:#}");
    let newest = world.authority.families().pop().unwrap();
    assert!(
        newest.scopes.contains(&"read".to_owned()),
        "it asks for what it had, too"
    );
    assert!(newest.scopes.contains(&"write".to_owned()));
}

/// F256: with `scope: "user"` everybody signs in for themselves, and proves to the page who they are; nobody in another's name.
#[tokio::test(flavor = "multi_thread")]
async fn f256_somebody_from_elsewhere_signs_in_for_themselves_alone() {
    let world = World::start(&["one"]).await;
    let mut entries = world.entries();
    entries["one"]["scope"] = json!("user");
    let mut home = Home::new(entries.clone());
    home.configure(entries, json!({ "access": { "required": true } }));
    let mut tokens = Vec::new();
    for name in ["ann", "bob"] {
        let said = home.run(&["token", "create", name, "--json"]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        tokens.push(said.json()["token"].as_str().unwrap().to_owned());
    }
    home.serve().await;
    let call = async |token: &str| {
        let client = Client::bearing(&home, "/servers/one/mcp", token);
        client.call_modern(CALL, &json!({}), json!({})).await
    };
    let answer = call(&tokens[0]).await;
    let told = &answer["error"]["data"]["signIn"];
    let link = told["url"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer:#}"))
        .to_owned();
    assert!(
        told.get("command").is_none(),
        "no command of this machine helps: {answer:#}"
    );
    let mut browser = Browser::default();
    let asked = browser.look(&link).await;
    assert_eq!(asked.status, 403, "{asked:?}");
    assert!(asked.body.contains("<form") && asked.body.contains("type=\"password\""));
    for wrong in [
        &[][..],
        &[("token", "mst_no")],
        &[("token", tokens[1].as_str())],
    ] {
        let refused = browser.send(&link, wrong).await;
        assert_eq!(refused.status, 403, "{refused:?}");
        assert_eq!(refused.header("set-cookie"), "", "{refused:?}");
    }
    // A page of another program, on this machine or not, that sends her token here gets no key for its visitor.
    for origin in [
        "http://127.0.0.1:9",
        "http://localhost",
        "https://attacker.example",
    ] {
        let theirs = [("token", tokens[0].as_str())];
        let foreign = browser.send_from(origin, &link, &theirs).await;
        assert_eq!(foreign.status, 403, "{foreign:?}");
        assert_eq!(foreign.header("set-cookie"), "", "{foreign:?}");
    }
    assert!(world.authority.families().is_empty());
    let known = browser.send(&link, &[("token", tokens[0].as_str())]).await;
    assert_eq!(known.status, 303, "{known:?}");
    let shown = follow(&mut browser, &link).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    super::support::until("ann's call to be answered", || async {
        call(&tokens[0]).await["result"].is_object().then_some(())
    })
    .await;
    let other = call(&tokens[1]).await;
    let others = other["error"]["data"]["signIn"]["url"]
        .as_str()
        .unwrap_or_default();
    assert!(
        others.contains("/oauth/signin/") && others != link,
        "{other:#}"
    );
    assert_eq!(world.codes_spent(), 1);
}
