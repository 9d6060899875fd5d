//! Just enough HTTP/1.1 to be no bottleneck: fixed headers out, length or chunks in.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::Failure;

/// Reads messages (requests or answers) from one connection.
pub(crate) struct Reader<R> {
    stream: R,
    buffer: BytesMut,
}

/// One message: its head is dropped, only what matters is kept.
pub(crate) struct Incoming {
    /// The first line.
    pub(crate) first: String,
    /// The body.
    pub(crate) body: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// A reader of a fresh connection.
    pub(crate) fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: BytesMut::with_capacity(64 * 1024),
        }
    }

    /// The next message, or `None` when the peer has closed.
    pub(crate) async fn next(&mut self) -> Result<Option<Incoming>, Failure> {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if !self.fill().await? {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.advance(end + 4);
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let header = |name: &str| {
            head.split("\r\n").skip(1).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let body = match (header("content-length"), header("transfer-encoding")) {
            (Some(length), _) => self.sized(length.parse()?).await?,
            (None, Some(_chunked)) => self.chunked().await?,
            (None, None) => BytesMut::new(),
        };
        Ok(Some(Incoming { first, body }))
    }

    async fn sized(&mut self, length: usize) -> Result<BytesMut, Failure> {
        self.buffer
            .reserve(length.saturating_sub(self.buffer.len()));
        while self.buffer.len() < length {
            if !self.fill().await? {
                return Err("closed in the middle of a body".into());
            }
        }
        Ok(self.buffer.split_to(length))
    }

    async fn chunked(&mut self) -> Result<BytesMut, Failure> {
        let mut body = BytesMut::new();
        loop {
            let end = loop {
                if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n") {
                    break end;
                }
                if !self.fill().await? {
                    return Err("closed in the middle of a chunk".into());
                }
            };
            let size = usize::from_str_radix(std::str::from_utf8(&self.buffer[..end])?.trim(), 16)?;
            self.buffer.advance(end + 2);
            let chunk = self.sized(size + 2).await?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    async fn fill(&mut self) -> Result<bool, Failure> {
        if self.buffer.capacity() - self.buffer.len() < 4 * 1024 {
            self.buffer.reserve(64 * 1024);
        }
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}
