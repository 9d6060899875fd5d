//! Just enough HTTP/1.1 to be no bottleneck: fixed headers out, length or chunks in.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::Failure;

/// Reads messages (requests or answers) from one connection.
pub(crate) struct Reader<R> {
    stream: R,
    buffer: BytesMut,
    /// What has come of the next event.
    pending: BytesMut,
}

/// One message: its head is dropped, only what matters is kept.
pub(crate) struct Incoming {
    /// The first line.
    pub(crate) first: String,
    /// The session that it names.
    pub(crate) session: Option<String>,
    /// The body.
    pub(crate) body: BytesMut,
}

/// The head of one message.
pub(crate) struct Head(String);

impl Head {
    /// The first line.
    pub(crate) fn first(&self) -> &str {
        self.0.split("\r\n").next().unwrap_or_default()
    }

    /// One header.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.0.split("\r\n").skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    }

    /// Whether the body is a stream of events.
    pub(crate) fn is_stream(&self) -> bool {
        self.get("content-type")
            .is_some_and(|kind| kind.starts_with("text/event-stream"))
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// A reader of a fresh connection.
    pub(crate) fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: BytesMut::with_capacity(16 * 1024),
            pending: BytesMut::new(),
        }
    }

    /// The next message, or `None` when the peer has closed.
    pub(crate) async fn next(&mut self) -> Result<Option<Incoming>, Failure> {
        let Some(head) = self.head().await? else {
            return Ok(None);
        };
        let body = match (head.get("content-length"), head.get("transfer-encoding")) {
            (Some(length), _) => self.sized(length.parse()?).await?,
            (None, Some(_chunked)) => self.chunked().await?,
            (None, None) => BytesMut::new(),
        };
        Ok(Some(Incoming {
            first: head.first().to_owned(),
            session: head.get("mcp-session-id"),
            body,
        }))
    }

    /// The body that follows a head.
    pub(crate) async fn rest_of(&mut self, head: &Head) -> Result<BytesMut, Failure> {
        match head.get("content-length") {
            Some(length) => self.sized(length.parse()?).await,
            None => self.chunked().await,
        }
    }

    /// The next head alone. A body without a length is read with [`Reader::event`].
    pub(crate) async fn head(&mut self) -> Result<Option<Head>, Failure> {
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
        Ok(Some(Head(head)))
    }

    /// The data of the next event of a chunked stream that says something, or `None` at its end.
    pub(crate) async fn event(&mut self) -> Result<Option<String>, Failure> {
        loop {
            while let Some((end, gap)) = event_end(&self.pending) {
                let event = self.pending.split_to(end);
                self.pending.advance(gap);
                let text = String::from_utf8_lossy(&event);
                let data = text.lines().find_map(|line| line.strip_prefix("data:"));
                if let Some(data) = data.map(str::trim).filter(|data| !data.is_empty()) {
                    return Ok(Some(data.to_owned()));
                }
            }
            match self.chunk().await? {
                Some(chunk) => self.pending.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
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
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The next chunk, or `None` after the last.
    async fn chunk(&mut self) -> Result<Option<BytesMut>, Failure> {
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
        let mut chunk = self.sized(size + 2).await?;
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }

    async fn fill(&mut self) -> Result<bool, Failure> {
        if self.buffer.capacity() - self.buffer.len() < 4 * 1024 {
            self.buffer.reserve(64 * 1024);
        }
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

/// Where an event ends, and how long the gap to the next one is.
fn event_end(text: &[u8]) -> Option<(usize, usize)> {
    let find = |gap: &[u8]| Some((memchr::memmem::find(text, gap)?, gap.len()));
    find(b"\r\n\r\n").or_else(|| find(b"\n\n"))
}
