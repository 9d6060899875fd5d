//! The pipes of a stdio server: one task writes, one reads, and neither ever waits for the other (F44, F55).
//!
//! Knows nothing of processes: exit, signals and stderr are the keeper's and the process module's.

use std::sync::Arc;

use bytes::BytesMut;
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_wire::envelope;
use mainstay_wire::ndjson::{Line, LineDecoder, into_line};
use mainstay_wire::splice::Parts;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::waiters::CallMark;
use super::{Inbound as _, Origin, Runtime};

/// Small lines are written together up to this size, so that 64 calls in flight cost a few system calls, not 64. No
/// setting: it is half of what a pipe holds, and nothing is refused beyond it.
const BATCH_BYTES: usize = 32 * 1024;

/// How much is asked of the pipe at a time. No setting: it is what a pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// One line on its way out, line feed included.
#[derive(Debug)]
pub(crate) struct OutLine {
    parts: Parts,
    mark: Option<Arc<CallMark>>,
}

/// The way into a stdio server.
#[derive(Debug)]
pub(crate) struct StdioLink {
    outbox: mpsc::Sender<OutLine>,
    closing: CancellationToken,
}

impl StdioLink {
    /// A link and the queue that its writer will serve. Callers beyond `lines_max` wait within their own deadlines: a deep
    /// queue only hides a server that has stopped reading.
    pub(crate) fn new(lines_max: usize) -> (Self, mpsc::Receiver<OutLine>) {
        let (outbox, lines) = mpsc::channel(lines_max);
        (
            Self {
                outbox,
                closing: CancellationToken::new(),
            },
            lines,
        )
    }

    /// Queues a line. Cancel-safe: a dropped wait queues nothing. `Err`: the writer is gone.
    pub(crate) async fn send(&self, parts: Parts, mark: Option<Arc<CallMark>>) -> Result<(), ()> {
        // A client may send its JSON over several lines; a server on stdio reads one message per line.
        let parts = into_line(parts);
        self.outbox
            .send(OutLine { parts, mark })
            .await
            .map_err(|_closed| ())
    }

    /// Closes the server's stdin, even if the writer is stuck in a full pipe (F56).
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// The token that ends the writer.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }
}

/// Writes queued lines until told to close, the pipe breaks, or nobody can send any more. Returning drops stdin.
pub(crate) async fn write_lines(
    mut stdin: impl AsyncWrite + Unpin,
    mut lines: mpsc::Receiver<OutLine>,
    closing: CancellationToken,
) {
    let mut batch = BytesMut::with_capacity(4 * 1024);
    loop {
        let first = tokio::select! {
            biased;
            // Cancel-safe: a token holds nothing.
            () = closing.cancelled() => return,
            // Cancel-safe: an unread line stays queued.
            line = lines.recv() => line,
        };
        let Some(first) = first else { return };
        batch.clear();
        let mut large = append(&mut batch, first);
        while large.is_none() && batch.len() < BATCH_BYTES {
            let Ok(next) = lines.try_recv() else { break };
            large = append(&mut batch, next);
        }
        let write = async {
            stdin.write_all(&batch).await?;
            if let Some(parts) = large {
                for part in parts.iter() {
                    stdin.write_all(part).await?;
                }
            }
            stdin.flush().await
        };
        tokio::select! {
            biased;
            // Not resumable, and need not be: closing ends the stream for good, in the middle of a line if it must.
            () = closing.cancelled() => return,
            // Dropped only together with the pipe, see above.
            written = write => if written.is_err() { return },
        }
    }
}

/// Puts a line into the batch; a large one is handed back to be written without a copy.
fn append(batch: &mut BytesMut, line: OutLine) -> Option<Parts> {
    if line.mark.is_some_and(|mark| !mark.begin_write()) {
        return None;
    }
    if line.parts.len() > BATCH_BYTES {
        return Some(line.parts);
    }
    for part in line.parts.iter() {
        batch.extend_from_slice(part);
    }
    None
}

/// Reads lines until the stream ends, and says how it ended. Never waits for anything but the pipe.
pub(crate) async fn read_lines(
    mut stdout: impl AsyncRead + Unpin,
    runtime: Arc<Runtime>,
    limits: envelope::Limits,
) -> Failure {
    let mut decoder = LineDecoder::new(limits);
    loop {
        let buffer = decoder.buffer();
        if buffer.capacity() - buffer.len() < READ_BYTES / 4 {
            buffer.reserve(READ_BYTES);
        }
        match stdout.read_buf(buffer).await {
            Ok(0) => {
                while let Some(line) = decoder.finish() {
                    dispatch(&runtime, line);
                }
                return Failure::new(FailureKind::StreamClosed);
            }
            Ok(_) => {
                for line in decoder.by_ref() {
                    dispatch(&runtime, line);
                }
            }
            Err(error) => {
                return Failure::new(FailureKind::StreamClosed).with_detail(error.to_string());
            }
        }
    }
}

fn dispatch(runtime: &Runtime, line: Line) {
    match line {
        Line::Message(message) => runtime.receive(message, Origin::Stdio),
        Line::Refused(refused) => runtime.refused(&refused),
        Line::Noise { sample, .. } => runtime.noise(&sample),
    }
}
