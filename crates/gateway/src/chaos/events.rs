//! A small reader of event streams for the client of `chaos run`, independent of the reader that Mainstay uses.

/// Bytes in, the data of whole events out.
#[derive(Debug)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    any: bool,
    after_cr: bool,
    bytes_max: usize,
}

impl Events {
    /// A reader that refuses events above this size.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            any: false,
            after_cr: false,
            bytes_max,
        }
    }

    /// Takes the next bytes and returns the events that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let mut events = Vec::new();
        for &byte in bytes {
            let ends = match byte {
                b'\n' => !std::mem::take(&mut self.after_cr),
                b'\r' => {
                    self.after_cr = true;
                    true
                }
                _ => {
                    self.after_cr = false;
                    self.line.push(byte);
                    false
                }
            };
            if ends && let Some(event) = self.end_line() {
                events.push(event);
            }
            if self.line.len() + self.data.len() > self.bytes_max {
                return Err(format!("an event of more than {} bytes", self.bytes_max));
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return std::mem::take(&mut self.any).then(|| std::mem::take(&mut self.data));
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            if self.any {
                self.data.push(b'\n');
            }
            self.any = true;
            self.data
                .extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_they_are_cut_and_whatever_ends_their_lines() {
        for end in ["\n", "\r\n", "\r"] {
            let text =
                format!(": hi{end}{end}id: 1{end}data: a{end}data:b{end}{end}data: c{end}{end}x");
            for size in [1, 2, 3, text.len()] {
                let mut events = Events::new(100);
                let mut found = Vec::new();
                for chunk in text.as_bytes().chunks(size) {
                    found.extend(events.push(chunk).unwrap_or_default());
                }
                assert_eq!(found, [b"a\nb".to_vec(), b"c".to_vec()], "{end:?} {size}");
            }
        }
        assert!(Events::new(5).push(b"data: 123").is_err());
    }
}
