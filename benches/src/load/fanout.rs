//! One change, told to many listeners.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::Client;
use super::{Asked, Burst, Way};
use crate::Failure;

/// How long a change may take to reach the last listener.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens so many listeners, changes the listing once, and measures when each of them hears of it.
pub(crate) async fn fan_out(way: &Way, listeners: usize) -> Result<Burst, Failure> {
    let way = Arc::new(way.clone());
    let mut streams = Vec::with_capacity(listeners);
    let mut clients = Vec::with_capacity(listeners);
    for _ in 0..listeners {
        let client = Client::open(&way).await?;
        streams.push(client.listen().await?);
        clients.push(client);
    }
    let mut listening = tokio::task::JoinSet::new();
    for stream in streams {
        listening.spawn(async move {
            // The whole connection: a half that is dropped is closed.
            let mut stream = stream;
            let heard = stream.reader.event().await?.ok_or("the stream ended")?;
            if heard.contains("list_changed") {
                Ok::<_, Failure>(Instant::now())
            } else {
                Err(heard.into())
            }
        });
    }
    let client = clients.first_mut().ok_or("no listeners")?;
    let touch = client.request(Asked::Call("tools/call", Some("touch")));
    let started = Instant::now();
    client.call(&touch).await?;
    let mut latencies = Vec::with_capacity(listeners);
    let hearing = async {
        while let Some(heard) = listening.join_next().await {
            let took = heard??.duration_since(started);
            latencies.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
        }
        Ok::<_, Failure>(())
    };
    tokio::time::timeout(PATIENCE, hearing).await??;
    Burst::of(latencies, started.elapsed())
}
