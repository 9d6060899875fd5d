//! The load: some connections, each with one request in flight at a time, for a set time.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::Failure;
use crate::http::Reader;

/// One way to the tool: an address, a path and the name that the tool has there.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Host and port.
    pub(crate) address: String,
    /// The path of the endpoint.
    pub(crate) path: String,
}

/// What one burst measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Burst {
    /// Answered calls per second.
    pub(crate) per_second: f64,
    /// Median latency in microseconds.
    pub(crate) median_us: f64,
}

/// The bytes of one request.
fn request(way: &Way, method: &str, tool: Option<&str>) -> Vec<u8> {
    let meta = "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"io.modelcontextprotocol/clientCapabilities\":{},\"io.modelcontextprotocol/clientInfo\":{\"name\":\"bench\",\"version\":\"1\"}}";
    let (params, name) = match tool {
        Some(tool) => (
            format!("\"name\":\"{tool}\",\"arguments\":{{\"text\":\"hello\"}},"),
            format!("mcp-name: {tool}\r\n"),
        ),
        None => (String::new(), String::new()),
    };
    let body = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"{method}\",\"params\":{{{params}{meta}}}}}"
    );
    format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\n{name}content-length: {}\r\n\r\n{body}",
        way.path,
        way.address,
        body.len()
    )
    .into_bytes()
}

/// Loads one way.
pub(crate) async fn burst(
    way: &Way,
    method: &'static str,
    tool: Option<&'static str>,
    in_flight: usize,
    lasts: Duration,
) -> Result<Burst, Failure> {
    let request = std::sync::Arc::new(request(way, method, tool));
    let mut tasks = tokio::task::JoinSet::new();
    let started = Instant::now();
    for _ in 0..in_flight {
        let (request, address) = (std::sync::Arc::clone(&request), way.address.clone());
        tasks.spawn(async move { worker(&address, &request, started + lasts).await });
    }
    let mut latencies: Vec<u32> = Vec::new();
    while let Some(worker) = tasks.join_next().await {
        latencies.extend(worker??);
    }
    let took = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let median = latencies
        .get(latencies.len() / 2)
        .copied()
        .ok_or("not a single call was answered")?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of calls fits a float many times over"
    )]
    Ok(Burst {
        per_second: latencies.len() as f64 / took,
        median_us: f64::from(median) / 1_000.0,
    })
}

async fn worker(address: &str, request: &[u8], until: Instant) -> Result<Vec<u32>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut reader = Reader::new(read);
    let mut latencies = Vec::with_capacity(16 * 1024);
    while Instant::now() < until {
        let sent = Instant::now();
        write.write_all(request).await?;
        let answer = reader.next().await?.ok_or("the connection was closed")?;
        let good = answer.first.contains(" 200 ")
            && memchr::memmem::find(&answer.body, b"\"result\"").is_some();
        if !good {
            let body =
                String::from_utf8_lossy(&answer.body[..answer.body.len().min(400)]).into_owned();
            return Err(format!("{}: {body}", answer.first).into());
        }
        latencies.push(u32::try_from(sent.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    Ok(latencies)
}
