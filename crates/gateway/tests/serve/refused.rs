//! Bad input, byte for byte on a socket of its own: each gets the status and the error that the specification names, costs
//! bounded memory, and is noticed by nobody else: a client that calls all the time never sees an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::support::{
    BOTH, Client, PATIENCE, Session, World, modern, modern_headers, stdio, wait_until,
};

/// The largest message here.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Which clients say it: headers that belong to no era, to a legacy session, to a modern request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Nobody,
    Session,
    Modern,
}

/// One bad request and its answer. No code: the body is not looked at.
struct Case {
    what: &'static str,
    from: From,
    /// Further header lines, each with its line end.
    headers: &'static str,
    body: String,
    status: u16,
    answer: Option<(i64, Value)>,
}

fn case(
    what: &'static str,
    from: From,
    body: impl Into<String>,
    status: u16,
    code: i64,
    id: Value,
) -> Case {
    Case {
        what,
        from,
        headers: "",
        body: body.into(),
        status,
        answer: Some((code, id)),
    }
}

impl Case {
    fn headers(mut self, headers: &'static str) -> Self {
        self.headers = headers;
        self
    }
}

/// Bodies that are no message in any era: (what, body, status, code, id).
fn broken() -> Vec<(&'static str, String, u16, i64, Value)> {
    let null = || Value::Null;
    let nested = |open: &str, close: &str, deep: usize| {
        format!(
            r#"{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{{"x":{}1{}}}}}"#,
            open.repeat(deep),
            close.repeat(deep)
        )
    };
    let padded = |bytes: usize| {
        format!(
            r#"{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{{"x":"{}"}}}}"#,
            "y".repeat(bytes)
        )
    };
    vec![
        ("empty", String::new(), 400, -32700, null()),
        ("blank", " \r\n\t ".into(), 400, -32700, null()),
        ("no JSON", "hello".into(), 400, -32700, null()),
        ("a cut message", r#"{"jsonrpc":"2.0","id":9,"method":"to"#.into(), 400, -32700, json!(9)),
        ("a comma too many", r#"{"jsonrpc":"2.0","id":9,"method":"ping",}"#.into(), 400, -32700, json!(9)),
        ("single quotes", "{'jsonrpc':'2.0','id':9,'method':'ping'}".into(), 400, -32700, json!(9)),
        ("a comment", r#"{"jsonrpc":"2.0",/*x*/"id":9,"method":"ping"}"#.into(), 400, -32700, null()),
        ("a bare word", r#"{"jsonrpc":"2.0","id":9,"method":"ping","params":{"x":NaN}}"#.into(), 400, -32700, json!(9)),
        ("a control character", "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"pi\nng\"}".into(), 400, -32700, json!(9)),
        ("a bad escape", r#"{"jsonrpc":"2.0","id":9,"method":"p\x"}"#.into(), 400, -32700, json!(9)),
        ("a leading zero", r#"{"jsonrpc":"2.0","id":9,"method":"ping","params":{"x":01}}"#.into(), 400, -32700, json!(9)),
        ("two messages", r#"{"jsonrpc":"2.0","id":9,"method":"ping"}{"jsonrpc":"2.0","id":8,"method":"ping"}"#.into(), 400, -32700, json!(9)),
        ("a number", "7".into(), 400, -32600, null()),
        ("null", "null".into(), 400, -32600, null()),
        ("a string", "\"ping\"".into(), 400, -32600, null()),
        ("an empty object", "{}".into(), 400, -32600, null()),
        ("no jsonrpc", r#"{"id":9,"method":"ping"}"#.into(), 400, -32600, json!(9)),
        ("another jsonrpc", r#"{"jsonrpc":"1.0","id":9,"method":"ping"}"#.into(), 400, -32600, json!(9)),
        ("jsonrpc as a number", r#"{"jsonrpc":2.0,"id":9,"method":"ping"}"#.into(), 400, -32600, json!(9)),
        ("no method", r#"{"jsonrpc":"2.0","id":9}"#.into(), 400, -32600, json!(9)),
        ("a method that is no string", r#"{"jsonrpc":"2.0","id":9,"method":["ping"]}"#.into(), 400, -32600, json!(9)),
        ("id null", r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.into(), 400, -32600, null()),
        ("an id that is an object", r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#.into(), 400, -32600, null()),
        ("an id that is a truth", r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#.into(), 400, -32600, null()),
        ("two ids", r#"{"jsonrpc":"2.0","id":9,"id":8,"method":"ping"}"#.into(), 400, -32600, null()),
        ("two ids, one of them escaped", r#"{"jsonrpc":"2.0","id":9,"\u0069d":8,"method":"ping"}"#.into(), 400, -32600, null()),
        ("two methods", r#"{"jsonrpc":"2.0","id":9,"method":"ping","method":"tools/list"}"#.into(), 400, -32600, json!(9)),
        ("two params", r#"{"jsonrpc":"2.0","id":9,"method":"ping","params":{},"params":{}}"#.into(), 400, -32600, json!(9)),
        ("two names", r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"a","name":"b"}}"#.into(), 400, -32600, json!(9)),
        ("two names, one of them escaped", r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}"#.into(), 400, -32600, json!(9)),
        ("two _meta", r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"_meta":{},"_meta":{}}}"#.into(), 400, -32600, json!(9)),
        ("two uris", r#"{"jsonrpc":"2.0","id":9,"method":"resources/read","params":{"uri":"a:","uri":"b:"}}"#.into(), 400, -32600, json!(9)),
        ("a result and an error", r#"{"jsonrpc":"2.0","id":9,"result":{},"error":{"code":1,"message":"m"}}"#.into(), 400, -32600, json!(9)),
        ("an empty batch", "[]".into(), 400, -32600, null()),
        ("nested arrays", nested("[", "]", 200), 400, -32600, json!(9)),
        ("nested objects", nested("{\"a\":", "}", 200), 400, -32600, json!(9)),
        ("deep without end", format!("{{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"m\",\"params\":{}", "[".repeat(60_000)), 400, -32600, json!(9)),
        ("too long", padded(MESSAGE_BYTES_MAX), 413, -32600, json!(9)),
        ("far too long", padded(MESSAGE_BYTES_MAX * 20), 413, -32600, json!(9)),
    ]
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for from in [From::Nobody, From::Session, From::Modern] {
        for (what, body, status, code, id) in broken() {
            all.push(case(what, from, body, status, code, id));
        }
    }
    let request = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":9,"method":"{method}","params":{params}}}"#)
    };
    let ping = || request("ping", "{}");
    let nine = || json!(9);
    all.extend([
        // No era can be told, or the wrong one.
        case("no session", From::Nobody, ping(), 400, -32600, nine()),
        case("an unknown session", From::Nobody, ping(), 404, -32600, nine()).headers("Mcp-Session-Id: 00000000-0000-4000-8000-000000000000\r\n"),
        case("a session id of other letters", From::Nobody, ping(), 404, -32600, nine()).headers("Mcp-Session-Id: \u{e4}\u{f6}\r\n"),
        case("an empty session id", From::Nobody, ping(), 404, -32600, nine()).headers("Mcp-Session-Id: \r\n"),
        case("a legacy version without a session", From::Nobody, ping(), 400, -32600, nine()).headers("MCP-Protocol-Version: 2025-11-25\r\n"),
        case("an unknown version without metadata", From::Nobody, ping(), 400, -32602, nine()).headers("MCP-Protocol-Version: 1999-01-01\r\n"),
        case("a version of other letters", From::Nobody, ping(), 400, -32602, nine()).headers("MCP-Protocol-Version: \u{e4}\r\n"),
        case("an answer to nobody", From::Nobody, r#"{"jsonrpc":"2.0","id":9,"result":{}}"#, 400, -32600, Value::Null),
        case("a modern method in a session", From::Session, request("server/discover", "{}"), 200, -32601, nine()),
        case("a modern stream in a session", From::Session, request("subscriptions/listen", r#"{"notifications":{}}"#), 200, -32601, nine()),
        case("a second initialize without parameters", From::Session, r#"{"jsonrpc":"2.0","id":9,"method":"initialize"}"#, 200, -32602, nine()),
        case("initialize with an answer for parameters", From::Session, request("initialize", "[1]"), 200, -32602, nine()),
        case("a call without parameters", From::Session, r#"{"jsonrpc":"2.0","id":9,"method":"tools/call"}"#, 200, -32602, nine()),
        case("a call by a number", From::Session, request("tools/call", r#"{"name":7}"#), 200, -32602, nine()),
        case("a call of nothing", From::Session, request("tools/call", r#"{"name":""}"#), 200, -32602, nine()),
        case("a call with parameters in a list", From::Session, request("tools/call", r#"["one__echo"]"#), 200, -32602, nine()),
        case("an unknown method", From::Session, request("no/such", "{}"), 200, -32601, nine()),
        case("an unknown cursor", From::Session, request("tools/list", r#"{"cursor":"\ud83d\ude00"}"#), 200, -32602, nine()),
        case("a cursor that is a list", From::Session, request("tools/list", r#"{"cursor":[]}"#), 200, -32602, nine()),
        case("a level that is none", From::Session, request("logging/setLevel", r#"{"level":"loud"}"#), 200, -32602, nine()),
        case("a subscription to nothing", From::Session, request("resources/subscribe", "{}"), 200, -32602, nine()),
        case("metadata that is a list", From::Session, request("tools/call", r#"{"name":"one__echo","_meta":[]}"#), 200, -32602, nine()),
        case("a legacy method", From::Modern, modern("9", "logging/setLevel", r#""level":"debug","#), 404, -32601, nine()),
        case("initialize", From::Modern, modern("9", "initialize", ""), 404, -32601, nine()),
        case("a response", From::Modern, r#"{"jsonrpc":"2.0","id":9,"result":{}}"#, 400, -32600, Value::Null),
        case("no metadata", From::Modern, request("tools/list", "{}"), 400, -32602, nine()),
        case("metadata that is a word", From::Modern, request("tools/list", r#"{"_meta":"x"}"#), 400, -32602, nine()),
        case("parameters that are a list", From::Modern, request("tools/list", "[1]"), 400, -32602, nine()),
        case("another method in the header", From::Modern, modern("9", "tools/list", ""), 400, -32020, nine()).headers("Mcp-Method: tools/list\r\nMcp-Method: tools/list\r\n"),
        case("a version in two headers", From::Modern, modern("9", "tools/list", ""), 400, -32020, nine()).headers("MCP-Protocol-Version: 2026-07-28\r\n"),
        case("a stream that is told nothing", From::Modern, modern("9", "subscriptions/listen", ""), 400, -32602, nine()),
        case("a filter that is a list", From::Modern, modern("9", "subscriptions/listen", r#""notifications":[],"#), 400, -32602, nine()),
        case("a forged state", From::Modern, modern("9", "tools/call", r#""name":"one__echo","requestState":"AAAA","inputResponses":{"k":{"action":"accept"}},"#), 400, -32602, nine()),
        case("a state that is a number", From::Modern, modern("9", "tools/call", r#""name":"one__echo","requestState":7,"#), 400, -32602, nine()),
        case("answers in a list", From::Modern, modern("9", "tools/call", r#""name":"one__echo","inputResponses":[1],"#), 400, -32602, nine()),
    ]);
    all
}

/// Sends one request on a connection of its own and returns the status and the body.
async fn send(world: &World, session: &str, case: &Case) -> (u16, String) {
    let mut head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAccept: {BOTH}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}",
        world.address,
        case.body.len(),
        case.headers,
    );
    match case.from {
        From::Nobody => {}
        From::Session => {
            head += &format!("Mcp-Session-Id: {session}\r\nMCP-Protocol-Version: 2025-11-25\r\n")
        }
        From::Modern => match serde_json::from_str::<Value>(&case.body) {
            Ok(Value::Object(members))
                if members.contains_key("method") && members["method"].is_string() =>
            {
                for (name, value) in modern_headers(&case.body) {
                    head += &format!("{name}: {value}\r\n");
                }
            }
            _no_request => head += "MCP-Protocol-Version: 2026-07-28\r\n",
        },
    }
    let text = exchange(world, &format!("{head}\r\n{}", case.body)).await;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{}: no answer: {text:?}", case.what));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

async fn exchange(world: &World, request: &str) -> String {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let sent = async {
        // A door that has already answered may close before it has read everything.
        let _ = write.write_all(request.as_bytes()).await;
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let answered = async { drop(read.read_to_end(&mut answer).await) };
    let both = async {
        tokio::select! {
            // Cancel-safe: nothing follows.
            () = answered => {}
            () = sent => {}
        }
    };
    tokio::time::timeout(PATIENCE, both)
        .await
        .expect("an answer and its end");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A client that calls all the time, once in each era, and counts. Every answer must be right.
struct Bystander {
    ending: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Bystander {
    async fn start(world: &World) -> Self {
        let mut session = world.session("/mcp").await;
        let mut client = world.client().await;
        let ending = Arc::<AtomicBool>::default();
        let calls = Arc::<AtomicUsize>::default();
        let (over, counted) = (Arc::clone(&ending), Arc::clone(&calls));
        let task = tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let number = counted.fetch_add(1, Ordering::Relaxed);
                call(&mut session, &mut client, number).await;
            }
        });
        Self {
            ending,
            calls,
            task,
        }
    }

    async fn end(self) {
        let before = self.calls.load(Ordering::Relaxed);
        wait_until("the bystander still calls", || {
            self.calls.load(Ordering::Relaxed) > before + 2
        })
        .await;
        self.ending.store(true, Ordering::Relaxed);
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it ends")
            .unwrap();
    }
}

async fn call(session: &mut Session, client: &mut Client, number: usize) {
    let text = format!("b-{number}");
    let arguments = format!(r#""name":"one__echo","arguments":{{"text":"{text}"}}"#);
    let legacy = format!(
        r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{{arguments}}}}}"#
    );
    let replies = [
        session.post(legacy).await,
        client
            .modern(
                "/mcp",
                &modern(&number.to_string(), "tools/call", &format!("{arguments},")),
            )
            .await,
    ];
    for reply in replies {
        assert_eq!(reply.status, 200, "{reply:?}");
        let said = reply.json();
        assert_eq!(said["id"], json!(number));
        assert!(
            said["result"]["content"][0]["text"]
                .as_str()
                .is_some_and(|said| said.contains(&text)),
            "{said}"
        );
    }
}

/// F195, F247, law 30 for the sizes; law 27 and law 15 for the bystander.
#[tokio::test(flavor = "multi_thread")]
async fn law_30_bad_input_gets_its_status_and_its_error_and_disturbs_nobody() {
    let world = World::start_with([stdio("one", &[])], |settings| {
        settings.limits.message_bytes_max = MESSAGE_BYTES_MAX
    })
    .await;
    world
        .until("one", |status| status.state == "connected")
        .await;
    let session = world.session("/mcp").await;
    let bystander = Bystander::start(&world).await;
    let mut wrong = Vec::new();
    for case in cases() {
        let (status, body) = send(&world, &session.id, &case).await;
        let said: Value = serde_json::from_str(&body).unwrap_or_default();
        let told = case.answer.as_ref().map(|_| {
            (
                said["error"]["code"].as_i64().unwrap_or_default(),
                said["id"].clone(),
            )
        });
        if status != case.status || told != case.answer {
            wrong.push(format!(
                "{} ({:?}): {status} {body}, wanted {} {:?}",
                case.what, case.from, case.status, case.answer
            ));
        } else if case.answer.is_some() {
            assert_eq!(said["jsonrpc"], "2.0", "{}", case.what);
            assert!(
                said["error"]["message"]
                    .as_str()
                    .is_some_and(|words| !words.is_empty()),
                "{}",
                case.what
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    bystander.end().await;
    world.end().await;
}

/// Resident memory of this process in bytes, where the system tells it.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Law 30: forty clients at once that each send sixteen times the limit, half of them without saying how much.
#[tokio::test(flavor = "multi_thread")]
async fn law_30_floods_cost_bounded_memory() {
    const LIMIT: usize = 1024 * 1024;
    const FLOODS: usize = 40;
    let world = World::start_with([stdio("one", &[])], |settings| {
        settings.limits.message_bytes_max = LIMIT
    })
    .await;
    world
        .until("one", |status| status.state == "connected")
        .await;
    let bystander = Bystander::start(&world).await;
    let before = resident();
    let mut most = 0;
    let address = world.address;
    let mut floods: Vec<JoinHandle<()>> = Vec::new();
    for flood in 0..FLOODS {
        floods.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let length = match flood % 2 {
                0 => format!("Content-Length: {}", LIMIT * 16),
                _ => "Transfer-Encoding: chunked".to_owned(),
            };
            let head = format!("POST /mcp HTTP/1.1\r\nHost: {address}\r\nAccept: {BOTH}\r\nContent-Type: application/json\r\n{length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let piece = "y".repeat(LIMIT / 16);
            let framed = match flood % 2 {
                0 => piece.clone(),
                _ => format!("{:x}\r\n{piece}\r\n", piece.len()),
            };
            for _ in 0..16 * 16 {
                if stream.write_all(framed.as_bytes()).await.is_err() {
                    return;
                }
            }
        }));
    }
    while floods.iter().any(|flood| !flood.is_finished()) {
        most = most.max(resident().unwrap_or_default());
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    if let Some(before) = before {
        // One message and its copy at most for each, plus what the clients of this process hold themselves.
        let grown = most.saturating_sub(before);
        assert!(
            grown < FLOODS * LIMIT * 3,
            "{grown} bytes more for {FLOODS} floods"
        );
    }
    bystander.end().await;
    world.end().await;
}
