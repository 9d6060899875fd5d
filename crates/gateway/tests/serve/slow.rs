//! Clients that trickle, clients that say too much before they say anything, and clients that speak HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::support::{BOTH, PATIENCE, World, modern, modern_headers, stdio, wait_until};

const PING: &str = r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#;

/// Sends `first`, then one byte at a time for as long as it takes; returns what came back.
async fn trickle(world: &World, first: &str) -> String {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    write.write_all(first.as_bytes()).await.unwrap();
    let trickled = async {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = String::new();
    let answered = async { read.read_to_string(&mut answer).await };
    tokio::select! {
        // Cancel-safe: nothing follows.
        _ = timeout(PATIENCE, answered) => {}
        () = trickled => {}
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_trickles_is_told_408_and_idle_connections_stay() {
    let world = World::start_with([], |settings| settings.head_ms = 300).await;
    // One that has been used, and one that has not: both are older than every trickle below.
    let mut idle = world.client().await;
    idle.send(http::Method::GET, "/healthz", &[], "").await;
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    for first in [
        "P",
        "PR",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    ] {
        let answer = trickle(&world, first).await;
        let told = answer.starts_with("HTTP/1.1 408 ");
        // What begins like HTTP/2 and is not gets no answer in either language.
        assert!(told || first == "PR", "{first:?}: {answer:?}");
    }
    // The same behind an answered request on the same connection.
    let first = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHo";
    let answer = trickle(&world, first).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    assert!(answer.contains("HTTP/1.1 408 "), "{answer:?}");
    let reply = idle.send(http::Method::GET, "/healthz", &[], "").await;
    assert_eq!(reply.status, StatusCode::OK);
    let asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    silent.write_all(asked).await.unwrap();
    let mut answer = String::new();
    silent.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_is_told_408_and_a_slow_long_one_is_not() {
    let world = World::start_with([], |settings| settings.body_ms = 400).await;
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: {BOTH}\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{{"
    );
    let answer = trickle(&world, &head).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    // Pieces of 64 KiB earn four seconds each.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let padding = " ".repeat(64 * 1024);
    let length = PING.len() + padding.len() * 8;
    let head = head.replace("1000000", &length.to_string());
    stream
        .write_all(head.trim_end_matches('{').as_bytes())
        .await
        .unwrap();
    for _ in 0..8 {
        stream.write_all(padding.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stream.write_all(PING.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400", "only the session is missing");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_told_431() {
    let world = World::start([]).await;
    let long = format!("X-Long: {}\r\n", "y".repeat(100_000));
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    for headers in [long, many] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_18_http_2_is_served_on_the_same_port() {
    let world = World::start([stdio("one", &["--era", "modern"])]).await;
    let stream = TcpStream::connect(world.address).await.unwrap();
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    let driver = tokio::spawn(connection);
    let request = |host: &str, id: &str, arguments: &str| {
        let body = modern(id, "tools/call", arguments);
        let mut request = Request::post(format!("http://{host}/mcp"))
            .header("content-type", "application/json")
            .header("accept", BOTH);
        for (name, value) in modern_headers(&body) {
            request = request.header(name, value);
        }
        request.body(Full::new(Bytes::from(body))).unwrap()
    };
    let send = |request| {
        let mut sender = sender.clone();
        async move {
            timeout(PATIENCE, sender.send_request(request))
                .await
                .unwrap()
                .unwrap()
        }
    };
    let own = world.address.to_string();
    // A call that stays, and many beside it.
    let slow = "\"name\":\"one__slow\",\"arguments\":{\"ms\":60000},";
    let slow = tokio::spawn(send(request(&own, "0", slow)));
    let one = world.manager.server("one").unwrap();
    wait_until("the slow call", || one.status().in_flight == 1).await;
    let many = (1..=50).map(|n| {
        let arguments = format!("\"name\":\"one__echo\",\"arguments\":{{\"text\":\"{n}\"}},");
        send(request(&own, &n.to_string(), &arguments))
    });
    for (n, reply) in (1..).zip(futures_util::future::join_all(many).await) {
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["id"], n);
        assert_eq!(body["result"]["content"][0]["text"], n.to_string());
    }
    // Nobody waits for it any more: the stream is reset, and the call cancelled.
    slow.abort();
    wait_until("the end of the slow call", || one.status().in_flight == 0).await;
    let echo = "\"name\":\"one__echo\",\"arguments\":{},";
    let foreign = send(request("evil.example", "1", echo)).await;
    assert_eq!(
        foreign.status(),
        StatusCode::FORBIDDEN,
        "law 32 holds here, too"
    );
    drop(sender);
    world.end().await;
    drop(timeout(PATIENCE, driver).await.unwrap());
}
