//! A stream of the running Mainstay that goes on when Mainstay is restarted. Who follows is told when it ended and when
//! it is back, and decides what to ask for then.

use std::time::Duration;

use tokio::time::Instant;

use super::client::{AdminClient, Lines};
use crate::exit::{Exit, Stop};

/// How often somebody who is gone is looked for.
const RETRY: Duration = Duration::from_millis(300);

/// A stream that comes back.
#[derive(Debug)]
pub(super) struct Follower {
    client: AdminClient,
    path: String,
    stream: Option<Lines>,
    gone_at: Option<Instant>,
}

/// What is heard on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The data of one event.
    Data(String),
    /// The running Mainstay has ended, or broken off. Told once.
    Gone,
    /// It is back, after so long.
    Back(Duration),
}

impl Follower {
    /// Opens it.
    ///
    /// # Errors
    /// As [`AdminClient::stream`]: the first time, nobody is waited for.
    pub(super) async fn open(client: AdminClient, path: String) -> Result<Self, Stop> {
        let stream = client.stream(&path).await?;
        Ok(Self {
            client,
            path,
            stream: Some(stream),
            gone_at: None,
        })
    }

    /// What to ask for when it is back.
    pub(super) fn again(&mut self, path: String) {
        self.path = path;
    }

    /// What comes next. Waits for as long as it takes. Cancel-safe: nothing that was read is lost.
    ///
    /// # Errors
    /// What is asked for is no longer there.
    pub(super) async fn next(&mut self) -> Result<Heard, Stop> {
        if let Some(stream) = &mut self.stream {
            if let Ok(Some(data)) = stream.next_event().await {
                return Ok(Heard::Data(data));
            }
            self.stream = None;
            self.gone_at = Some(Instant::now());
            return Ok(Heard::Gone);
        }
        loop {
            match self.client.stream(&self.path).await {
                Ok(stream) => {
                    self.stream = Some(stream);
                    let away = self.gone_at.take().map(|at| at.elapsed());
                    return Ok(Heard::Back(away.unwrap_or_default()));
                }
                Err(stop) if stop.exit == Exit::NotFound => return Err(stop),
                Err(_not_yet) => tokio::time::sleep(RETRY).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_stream_that_ends_comes_back_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s.sock");
        let serve = |text: &'static str| {
            let listener = UnixListener::bind(&socket).unwrap();
            let router = Router::new()
                .route("/first", get(async move || text))
                .route("/again", get(async move || text));
            tokio::spawn(async move { axum::serve(listener, router).await })
        };
        let first = serve("data: one\n\n");
        let client = AdminClient::new(socket.clone());
        let mut follower = Follower::open(client.clone(), "/first".to_owned())
            .await
            .unwrap();
        assert_eq!(
            follower.next().await.unwrap(),
            Heard::Data("one".to_owned())
        );
        assert_eq!(follower.next().await.unwrap(), Heard::Gone);
        first.abort();
        std::fs::remove_file(&socket).unwrap();
        // Nobody there: it waits, and a caller that leaves meanwhile loses nothing.
        follower.again("/again".to_owned());
        let waited = tokio::time::timeout(RETRY / 3, follower.next()).await;
        assert!(waited.is_err(), "{waited:?}");
        let second = serve("data: two\n\n");
        assert!(matches!(follower.next().await.unwrap(), Heard::Back(_)));
        assert_eq!(
            follower.next().await.unwrap(),
            Heard::Data("two".to_owned())
        );
        assert_eq!(follower.next().await.unwrap(), Heard::Gone);
        // What is not there any more is no reason to wait for ever.
        follower.again("/gone".to_owned());
        assert_eq!(follower.next().await.unwrap_err().exit, Exit::NotFound);
        second.abort();
    }
}
