//! The chain of an audit log: how a line is bound to the one before it, and what shows that it was not left as it was.
//!
//! Pure functions of text. Whoever can write the files can also make the whole chain anew; against that only a `hash` helps
//! that was kept elsewhere.

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the first line of all has as `prev`.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The number of the line; the first has 1.
    pub seq: u64,
    /// The hash of the line.
    pub hash: String,
}

impl Default for Link {
    /// Before the first line.
    fn default() -> Self {
        Self {
            seq: 0,
            hash: GENESIS.to_owned(),
        }
    }
}

/// SHA-256 of some bytes, in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    let mut hex = String::with_capacity(64);
    for byte in digest.as_ref() {
        hex.push_str(&format!("{byte:02x}"));
    }
    hex
}

/// The line after `last` that holds the members of `object`, without a line break, and its place.
pub(super) fn line(last: &Link, object: &str) -> (String, Link) {
    let seq = last.seq + 1;
    let members = object.get(1..object.len().saturating_sub(1)).unwrap_or("");
    let comma = if members.is_empty() { "" } else { "," };
    let mut text = format!("{{\"seq\":{seq},\"prev\":\"{}\"{comma}{members}", last.hash);
    let hash = sha256(text.as_bytes());
    text.push_str(&format!(",\"hash\":\"{hash}\"}}"));
    (text, Link { seq, hash })
}

/// A line that is what it was when it was written.
#[derive(Debug)]
pub struct Whole {
    /// Its place.
    pub link: Link,
    /// The hash of the line before it.
    pub prev: String,
    /// All of it.
    pub value: Value,
}

/// Reads a line by itself.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(line: &str) -> Result<Whole, &'static str> {
    const TAIL: &str = ",\"hash\":\"";
    let value: Value = serde_json::from_str(line).map_err(|_| "it is no JSON")?;
    let (seq, prev) = (value["seq"].as_u64(), value["prev"].as_str());
    let (Some(seq), Some(prev)) = (seq, prev) else {
        return Err("it has no `seq` or no `prev`");
    };
    let end = line.rfind(TAIL).ok_or("it has no `hash` at its end")?;
    let hash = sha256(&line.as_bytes()[..end]);
    if line[end + TAIL.len()..] != format!("{hash}\"}}") {
        return Err("it was changed: it does not have the hash that it says");
    }
    Ok(Whole {
        link: Link { seq, hash },
        prev: prev.to_owned(),
        value,
    })
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The line in it, counted from 1.
    pub line: u64,
    /// What is wrong.
    pub what: String,
    /// Whether it is only the trace of a crash, which the log itself tells of.
    pub harmless: bool,
}

/// Follows a chain over all its lines, in their order.
#[derive(Debug, Default)]
pub struct Follow {
    last: Option<Link>,
    torn: Option<(String, u64)>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Lines that were read.
    pub lines: u64,
}

/// Findings that are kept; a file of something else has one for each line.
const FINDINGS_MAX: usize = 100;

impl Follow {
    /// The last line that was whole.
    #[must_use]
    pub fn last(&self) -> Option<&Link> {
        self.last.as_ref()
    }

    /// Looks at the next line.
    pub fn next(&mut self, file: &str, number: u64, text: &str) {
        self.lines += 1;
        let whole = match read(text) {
            Ok(whole) => whole,
            Err(what) => {
                if let Some((file, line)) = self.torn.replace((file.to_owned(), number)) {
                    self.found(&file, line, "it is no line of this log", false);
                }
                if what != "it is no JSON" {
                    self.torn = None;
                    self.found(file, number, what, false);
                }
                return;
            }
        };
        if let Some((torn_file, torn_line)) = self.torn.take() {
            let told = whole.value["event"] == "torn";
            let what = if told {
                "it was not written to its end, because Mainstay or the machine stopped"
            } else {
                "it is no line of this log"
            };
            self.found(&torn_file, torn_line, what, told);
        }
        match &self.last {
            // The first that is kept; those before it have been removed by rotation.
            None => {}
            Some(last) if whole.link.seq != last.seq + 1 => {
                let what = format!("line {} follows line {}", whole.link.seq, last.seq);
                self.found(
                    file,
                    number,
                    &format!("lines are missing or out of order: {what}"),
                    false,
                );
            }
            Some(last) if whole.prev != last.hash => {
                self.found(
                    file,
                    number,
                    "it does not belong to the line before it",
                    false,
                );
            }
            Some(_) => {}
        }
        if whole.value["event"] == "gap" {
            self.found(
                file,
                number,
                "lines before this one were gone when Mainstay started",
                false,
            );
        }
        self.last = Some(whole.link);
    }

    /// The end of all lines; `head` is what was noted beside the log as its last line.
    pub fn end(&mut self, file: &str, head: Option<&Link>) {
        if let Some((file, line)) = self.torn.take() {
            self.found(&file, line, "it was not written to its end", true);
        }
        let last = self.last.clone().unwrap_or_default();
        let Some(head) = head else { return };
        // Written after the lines: it may be behind, never ahead.
        if head.seq > last.seq {
            let what = format!(
                "lines {} to {} are missing at the end",
                last.seq + 1,
                head.seq
            );
            self.found(file, self.lines, &what, false);
        } else if head.seq == last.seq && head.hash != last.hash {
            self.found(
                file,
                self.lines,
                "the last line is not the one that was written",
                false,
            );
        }
    }

    fn found(&mut self, file: &str, line: u64, what: &str, harmless: bool) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding {
                file: file.to_owned(),
                line,
                what: what.to_owned(),
                harmless,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chain(objects: &[String]) -> Vec<String> {
        let mut last = Link::default();
        let next = |object: &String| {
            let (text, link) = line(&last, object);
            last = link;
            text
        };
        objects.iter().map(next).collect()
    }

    fn findings(lines: &[String], head: Option<&Link>) -> Vec<Finding> {
        let mut follow = Follow::default();
        for (line, number) in lines.iter().zip(1..) {
            follow.next("f", number, line);
        }
        follow.end("f", head);
        follow.findings
    }

    fn objects(count: usize) -> Vec<String> {
        let object =
            |number| format!(r#"{{"kind":"call","n":{number},"text":"a \",\"hash\":\"b"}}"#);
        (0..count).map(object).collect()
    }

    fn head(lines: &[String]) -> Link {
        read(lines.last().unwrap()).unwrap().link
    }

    #[test]
    fn a_chain_that_nobody_touched_is_whole() {
        let lines = chain(&objects(5));
        assert_eq!(findings(&lines, Some(&head(&lines))), []);
        assert_eq!(
            findings(&lines[2..], Some(&head(&lines))),
            [],
            "the oldest are gone"
        );
        assert_eq!(findings(&chain(&["{}".to_owned()]), None), []);
        let behind = head(&lines[..3]);
        assert_eq!(
            findings(&lines, Some(&behind)),
            [],
            "killed before it was noted"
        );
    }

    #[test]
    fn a_line_that_a_crash_tore_is_told_and_harmless() {
        let mut lines = chain(&objects(2));
        let last = head(&lines);
        lines.push(r#"{"seq":3,"prev":"12"#.to_owned());
        assert!(findings(&lines, None).iter().all(|found| found.harmless));
        lines.push(line(&last, r#"{"event":"torn"}"#).0);
        let found = findings(&lines, None);
        assert!(
            found.len() == 1 && found[0].harmless && found[0].line == 3,
            "{found:?}"
        );
        // Without a word of the log it is not.
        let mut lines = chain(&objects(2));
        let rest = lines.split_off(1);
        lines.push("{".to_owned());
        lines.extend(rest);
        assert!(findings(&lines, None).iter().any(|found| !found.harmless));
    }

    proptest! {
        #[test]
        fn any_edit_and_any_missing_line_shows(
            count in 2_usize..8, at in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), how in 0_u8..4,
        ) {
            let mut lines = chain(&objects(count));
            let end = head(&lines);
            let at = at.index(count);
            match how {
                0 => drop(lines.remove(at)),
                1 => {
                    let mut bytes = lines[at].clone().into_bytes();
                    let place = byte.index(bytes.len());
                    bytes[place] = if bytes[place] == b'1' { b'2' } else { b'1' };
                    lines[at] = String::from_utf8(bytes).unwrap();
                }
                2 => lines.swap(at, (at + 1) % count),
                _ => lines.insert(at, lines[at].clone()),
            }
            // What is first has nothing before it that could tell: the oldest lines go by rotation.
            let cut_at_front = how == 0 && at == 0;
            let found = findings(&lines, Some(&end));
            prop_assert_eq!(found.is_empty(), cut_at_front, "{:?}", found);
        }
    }
}
