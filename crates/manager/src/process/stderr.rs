//! A child's stderr: always drained, kept in a ring that is bounded in bytes (law 30, F52, F53).
//!
//! Drained in chunks and cut into lines only when somebody asks: a progress bar that never writes a newline costs no
//! more than anything else.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ChildStderr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

/// Read at once; also what a pipe usually holds, in sixteenths.
const CHUNK_BYTES: usize = 4096;

/// Chunks read before others get their turn. Sixteen are a full pipe.
const CHUNKS_MAX: usize = 16;

/// The longest line that [`StderrRing::tail`] returns, in characters; the rest of the line is cut off.
const LINE_CHARS_MAX: usize = 2_000;

/// The last bytes that a child wrote to stderr.
#[derive(Debug)]
pub struct StderrRing {
    kept: Mutex<Kept>,
    total: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    bytes: VecDeque<u8>,
    bytes_max: usize,
    total: u64,
}

impl StderrRing {
    fn new(bytes_max: usize) -> Self {
        let kept = Kept {
            bytes: VecDeque::new(),
            bytes_max,
            total: 0,
        };
        Self {
            kept: Mutex::new(kept),
            total: watch::Sender::new(0),
        }
    }

    /// The last `lines` lines, oldest first, without empty ones: lossily decoded, control characters escaped (F253), cut
    /// at 2,000 characters. A carriage return ends a line as well, so of a progress bar the latest state is seen. The
    /// first line begins with `…` if its beginning is lost.
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let kept = self.lock();
        let lost = kept.total > kept.bytes.len() as u64;
        let bytes: Vec<u8> = kept.bytes.iter().copied().collect();
        drop(kept);
        let all: Vec<&[u8]> = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).collect();
        let count = all.len();
        let wanted = all
            .into_iter()
            .enumerate()
            .rev()
            .filter(|(_, line)| !line.is_empty())
            .take(lines);
        let mut tail: Vec<String> = wanted
            .map(|(at, line)| {
                let cut = if lost && at == 0 && count > 0 {
                    "…"
                } else {
                    ""
                };
                format!("{cut}{}", escape_line(line))
            })
            .collect();
        tail.reverse();
        tail
    }

    /// How many bytes the child has written so far, kept or not.
    pub fn total_bytes(&self) -> u64 {
        self.lock().total
    }

    /// [`StderrRing::total_bytes`] as a watch: level-triggered, for those who count output as life.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.total.subscribe()
    }

    /// The bytes from `offset` (counted from the child's start) on, raw, and the offset to continue with. If some of
    /// them are lost already, the answer begins with the oldest kept byte: the returned offset minus the number of bytes.
    pub fn read_from(&self, offset: u64) -> (u64, Vec<u8>) {
        let kept = self.lock();
        let oldest = kept.total - kept.bytes.len() as u64;
        let skip = usize::try_from(offset.max(oldest) - oldest).unwrap_or(usize::MAX);
        (kept.total, kept.bytes.iter().skip(skip).copied().collect())
    }

    fn push(&self, chunk: &[u8]) {
        let mut kept = self.lock();
        kept.total += chunk.len() as u64;
        let fits = chunk.len().min(kept.bytes_max);
        let excess = (kept.bytes.len() + fits).saturating_sub(kept.bytes_max);
        kept.bytes.drain(..excess);
        kept.bytes.extend(chunk.iter().skip(chunk.len() - fits));
        let total = kept.total;
        drop(kept);
        self.total.send_replace(total);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line of a child's output made safe to print (F252, F253): lossily decoded; what it was given as a secret is hidden
/// (law 31); control characters, and characters that reorder or hide text, are written as `\u{1b}`; cut at 2,000 characters.
pub fn escape_line(line: &[u8]) -> String {
    // Never more than four bytes per character are needed, so the excess is not even decoded.
    let line = line.get(..LINE_CHARS_MAX * 4).unwrap_or(line);
    let text = String::from_utf8_lossy(line);
    let text = crate::secrets::scrub_live(&text);
    let mut safe = String::with_capacity(text.len().min(LINE_CHARS_MAX));
    for (count, character) in text.chars().enumerate() {
        if count == LINE_CHARS_MAX {
            safe.push('…');
            break;
        }
        if is_unsafe(character) {
            // Writing to a string cannot fail.
            let _ = write!(safe, "{}", character.escape_unicode());
        } else {
            safe.push(character);
        }
    }
    safe
}

fn is_unsafe(character: char) -> bool {
    let hides = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    (character.is_control() && character != '\t') || hides
}

/// The pipe, which only this module reads.
#[derive(Debug)]
pub(super) struct StderrPipe {
    pipe: Receiver,
    ring: Arc<StderrRing>,
}

/// What a round of reading ended with.
enum Round {
    Dry,
    More,
    Ended,
}

impl StderrPipe {
    /// Must be called within a tokio runtime.
    pub(super) fn new(pipe: ChildStderr, bytes_max: usize) -> io::Result<Self> {
        let pipe = Receiver::from_owned_fd(OwnedFd::from(pipe))?;
        Ok(Self {
            pipe,
            ring: Arc::new(StderrRing::new(bytes_max)),
        })
    }

    pub(super) fn ring(&self) -> &Arc<StderrRing> {
        &self.ring
    }

    /// Reads what is in the pipe now, at most a full pipe, whether or not the runtime knows of it yet.
    pub(super) fn catch_up(&self) {
        self.read_round(|chunk| Ok(rustix::io::read(&self.pipe, chunk)?));
    }

    /// Drains until the end of the pipe or of the group. A descendant that has left the group may hold the pipe open
    /// for ever; nobody waits for it.
    pub(super) async fn drain(self: Arc<Self>, mut gone: watch::Receiver<bool>) {
        tokio::select! {
            // Cancel-safe: between two awaits whole chunks move from the pipe to the ring.
            () = self.drain_to_end() => {}
            // Cancel-safe: a watch keeps its value. An error means that the group is forgotten, so gone as well.
            _ = gone.wait_for(|gone| *gone) => self.catch_up(),
        }
    }

    async fn drain_to_end(&self) {
        while self.pipe.readable().await.is_ok() {
            match self.read_round(|chunk| self.pipe.try_read(chunk)) {
                Round::Dry => {}
                Round::More => tokio::task::yield_now().await,
                Round::Ended => return,
            }
        }
    }

    fn read_round(&self, read: impl Fn(&mut [u8]) -> io::Result<usize>) -> Round {
        let mut chunk = [0; CHUNK_BYTES];
        for _ in 0..CHUNKS_MAX {
            match read(&mut chunk) {
                Ok(0) => return Round::Ended,
                Ok(count) => self.ring.push(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Round::Dry,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Round::Ended,
            }
        }
        Round::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(bytes_max: usize, chunks: &[&[u8]]) -> StderrRing {
        let ring = StderrRing::new(bytes_max);
        chunks.iter().for_each(|chunk| ring.push(chunk));
        ring
    }

    #[test]
    fn law_30_the_ring_is_bounded_in_bytes_without_any_newline_f53() {
        let ring = ring(10, &[b"12345678", b"90", b"abc", &[b'x'; 1000], b"yz"]);
        assert_eq!(ring.total_bytes(), 1015);
        assert_eq!(ring.read_from(0), (1015, b"xxxxxxxxyz".to_vec()));
        assert!(
            ring.lock().bytes.capacity() <= 32,
            "the ring grew beyond its bound"
        );
    }

    #[test]
    fn reading_continues_where_it_ended_and_shows_what_is_lost() {
        let ring = ring(4, &[b"abcdef"]);
        assert_eq!(ring.read_from(0), (6, b"cdef".to_vec()));
        assert_eq!(ring.read_from(5), (6, b"f".to_vec()));
        assert_eq!(ring.read_from(6), (6, Vec::new()));
        assert_eq!(ring.read_from(99), (6, Vec::new()));
    }

    #[test]
    fn the_tail_is_the_last_lines_and_a_progress_bar_is_its_latest_state() {
        let ring = ring(1000, &[b"one\r\n\ntwo\n10%\r20%\r", b"30%"]);
        assert_eq!(ring.tail(3), ["10%", "20%", "30%"]);
        assert_eq!(ring.tail(99), ["one", "two", "10%", "20%", "30%"]);
        assert_eq!(ring.tail(0), Vec::<String>::new());
    }

    #[test]
    fn a_line_whose_beginning_is_lost_says_so() {
        assert_eq!(ring(6, &[b"a long line\nb"]).tail(9), ["…line", "b"]);
    }

    #[test]
    fn control_characters_never_reach_a_terminal_f253() {
        let ring = ring(1000, &[b"\x1b]0;title\x07 \xff \xe2\x80\xae\tend\x00"]);
        assert_eq!(
            ring.tail(1),
            ["\\u{1b}]0;title\\u{7} \u{fffd} \\u{202e}\tend\\u{0}"]
        );
    }

    #[test]
    fn law_31_what_a_child_was_given_as_a_secret_is_not_printed_when_it_says_it() {
        crate::secrets::hide("given-to-the-child-7");
        let line = escape_line(b"debug: token=given-to-the-child-7\x1b");
        assert_eq!(line, "debug: token=[hidden]\\u{1b}");
    }

    #[test]
    fn an_endless_line_is_cut() {
        let line = escape_line("ä".repeat(5_000).as_bytes());
        assert_eq!(line.chars().count(), LINE_CHARS_MAX + 1);
        assert!(line.ends_with('…'));
    }
}
