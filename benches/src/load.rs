//! The load: some connections, each with one request in flight at a time, for a set time.

mod client;
mod fanout;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use self::fanout::fan_out;

use self::client::Client;
use crate::Failure;
use crate::fixture::Era;

/// One way to the tool: an address, a path and the words in which it is asked for there.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Host and port.
    pub(crate) address: String,
    /// The path of the endpoint.
    pub(crate) path: String,
    /// The era of the client.
    pub(crate) era: Era,
}

/// What is asked for, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// This method, of this tool.
    Call(&'static str, Option<&'static str>),
    /// A tool that asks back before it answers.
    Question,
}

/// What one burst measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Burst {
    /// Answered calls per second.
    pub(crate) per_second: f64,
    /// Median latency in microseconds.
    pub(crate) median_us: f64,
}

impl Burst {
    /// From what each call took, in nanoseconds.
    pub(crate) fn of(mut latencies: Vec<u32>, took: Duration) -> Result<Self, Failure> {
        latencies.sort_unstable();
        let median = latencies
            .get(latencies.len() / 2)
            .copied()
            .ok_or("not a single call was answered")?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a count of calls fits a float many times over"
        )]
        Ok(Self {
            per_second: latencies.len() as f64 / took.as_secs_f64(),
            median_us: f64::from(median) / 1_000.0,
        })
    }
}

/// Loads one way. With `listening`, every client holds its session's push stream open meanwhile.
pub(crate) async fn burst(
    way: &Way,
    asked: Asked,
    in_flight: usize,
    listening: bool,
    lasts: Duration,
) -> Result<Burst, Failure> {
    let way = Arc::new(way.clone());
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let way = Arc::clone(&way);
        opening.spawn(async move {
            let client = Client::open(&way).await?;
            let stream = if listening {
                Some(client.listen().await?)
            } else {
                None
            };
            Ok::<_, Failure>((client, stream))
        });
    }
    let mut clients = Vec::new();
    while let Some(opened) = opening.join_next().await {
        clients.push(opened??);
    }
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (client, stream) in clients {
        tasks.spawn(async move {
            let latencies = worker(client, asked, started + lasts).await;
            drop(stream);
            latencies
        });
    }
    let mut latencies: Vec<u32> = Vec::new();
    while let Some(worker) = tasks.join_next().await {
        latencies.extend(worker??);
    }
    Burst::of(latencies, started.elapsed())
}

async fn worker(mut client: Client, asked: Asked, until: Instant) -> Result<Vec<u32>, Failure> {
    let mut latencies = Vec::with_capacity(1_024);
    let request = client.request(asked);
    while Instant::now() < until {
        let sent = Instant::now();
        match asked {
            Asked::Call(..) => client.call(&request).await?,
            Asked::Question => client.question(&request).await?,
        }
        latencies.push(u32::try_from(sent.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    Ok(latencies)
}
