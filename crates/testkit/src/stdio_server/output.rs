//! stdout, and what can be wrong with it.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::knobs::Knobs;

/// Whole lines, from any thread.
#[derive(Debug)]
pub(crate) struct Output {
    one_byte_writes: bool,
    crlf: bool,
    /// What is left of the lines that may be written; `None`: all.
    lines_left: Mutex<Option<u64>>,
}

impl Output {
    pub(crate) fn new(knobs: &Knobs) -> Self {
        Self {
            one_byte_writes: knobs.one_byte_writes,
            crlf: knobs.crlf,
            lines_left: Mutex::new(knobs.stop_writing_after),
        }
    }

    pub(crate) fn message(&self, message: &Value) {
        self.line(&message.to_string());
    }

    pub(crate) fn line(&self, text: &str) {
        let end = if self.crlf { "\r\n" } else { "\n" };
        self.bytes(format!("{text}{end}").as_bytes());
    }

    pub(crate) fn bytes(&self, bytes: &[u8]) {
        let mut left = self
            .lines_left
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &mut *left {
            Some(0) => return,
            Some(lines) => *lines -= 1,
            None => {}
        }
        let mut stdout = io::stdout().lock();
        let step = if self.one_byte_writes {
            1
        } else {
            bytes.len().max(1)
        };
        for chunk in bytes.chunks(step) {
            if stdout
                .write_all(chunk)
                .and_then(|()| stdout.flush())
                .is_err()
            {
                // Nobody reads any more: an ordinary server dies of this.
                std::process::exit(141);
            }
        }
    }

    /// Ends the pipe as the reader sees it; this process lives on and writes into the void.
    pub(crate) fn close(&self) -> io::Result<()> {
        let _turn = self
            .lines_left
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let void = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
        Ok(rustix::stdio::dup2_stdout(void)?)
    }
}
