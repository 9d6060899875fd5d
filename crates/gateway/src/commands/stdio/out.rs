//! Stdout: one line per message, and never anything else.

use bytes::BytesMut;
use mainstay_wire::Parts;
use mainstay_wire::ndjson::into_line;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Messages that wait for a client that reads slowly; whoever has one more waits with it.
const WAITING_MAX: usize = 256;

/// Lines up to this many bytes are joined before they are written.
const JOIN_BYTES_MAX: usize = 64 * 1024;

/// Where messages to the client go. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Out {
    lines: mpsc::Sender<Item>,
}

/// What the writer gets.
#[derive(Debug)]
enum Item {
    Line(Parts),
    /// Everything before it is written.
    Written(oneshot::Sender<()>),
}

/// Starts writing. When nobody reads any more `closed` is cancelled.
pub(super) fn start(closed: CancellationToken) -> Out {
    let (lines, waiting) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        if write(waiting).await.is_err() {
            closed.cancel();
        }
    });
    Out { lines }
}

impl Out {
    /// Sends one message to the client. What comes after it has gone is dropped.
    pub(super) async fn send(&self, message: impl Into<Parts>) {
        // Without a reader the process is about to end.
        let _gone = self.lines.send(Item::Line(into_line(message))).await;
    }

    /// Waits until everything that was sent before is written, or nobody reads any more.
    pub(super) async fn flush(&self) {
        let (written, waiting) = oneshot::channel();
        if self.lines.send(Item::Written(written)).await.is_ok() {
            // An error means that the writer has ended: nobody reads.
            let _gone = waiting.await;
        }
    }
}

async fn write(mut waiting: mpsc::Receiver<Item>) -> std::io::Result<()> {
    let mut stdout = tokio::io::stdout();
    let mut joined = BytesMut::new();
    while let Some(item) = waiting.recv().await {
        let mut next = Some(item);
        let mut written = None;
        while let Some(item) = next.take() {
            match item {
                Item::Line(line) => {
                    for segment in line {
                        if segment.len() > JOIN_BYTES_MAX {
                            stdout.write_all(&joined).await?;
                            joined.clear();
                            stdout.write_all(&segment).await?;
                        } else {
                            joined.extend_from_slice(&segment);
                        }
                    }
                    if joined.len() < JOIN_BYTES_MAX {
                        next = waiting.try_recv().ok();
                    }
                }
                Item::Written(waiter) => written = Some(waiter),
            }
        }
        stdout.write_all(&joined).await?;
        joined.clear();
        stdout.flush().await?;
        if let Some(waiter) = written {
            // Whoever waited may have left.
            let _left = waiter.send(());
        }
    }
    Ok(())
}
