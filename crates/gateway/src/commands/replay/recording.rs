//! Reading a recording. Only the clients' side of it counts here.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use super::Asked;
use crate::exit::{Exit, Stop};

/// One message between a client and Mainstay.
#[derive(Debug)]
pub(super) struct Entry {
    /// From the client.
    pub(super) is_in: bool,
    pub(super) is_modern: bool,
    /// The HTTP request that it belongs to.
    pub(super) exchange: u64,
    pub(super) endpoint: String,
    peer: String,
    pub(super) message: Value,
}

impl Entry {
    /// Whether it is a result or an error.
    pub(super) fn is_response(&self) -> bool {
        self.message.get("method").is_none()
    }

    fn is_question(&self) -> bool {
        !self.is_in && self.message.get("method").is_some() && self.message.get("id").is_some()
    }
}

/// A whole recording.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) entries: Vec<Entry>,
    /// Messages that the recorder had no room for.
    pub(super) dropped: u64,
    /// Messages in which something was hidden.
    pub(super) hidden: usize,
    peers: HashMap<u64, String>,
    schemas: HashMap<String, String>,
}

impl Recording {
    /// Reads a file of JSON lines.
    ///
    /// # Errors
    /// It cannot be read, or holds no message of a client.
    pub(super) fn read(path: &Path) -> Result<Self, Stop> {
        let unreadable = |error: std::io::Error| {
            Stop::new(Exit::Usage, format!("cannot read {}", path.display()))
                .because(error)
                .hint("name a file that `mainstay serve --record FILE` has written")
        };
        let file = File::open(path).map_err(unreadable)?;
        let mut recording = Self {
            entries: Vec::new(),
            dropped: 0,
            hidden: 0,
            peers: HashMap::new(),
            schemas: HashMap::new(),
        };
        for (at, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(unreadable)?;
            if line.trim().is_empty() {
                continue;
            }
            let line: Value = serde_json::from_str(&line).map_err(|error| {
                let place = format!("{}:{}", path.display(), at + 1);
                Stop::new(
                    Exit::Usage,
                    format!("{place}: this is no line of a recording"),
                )
                .because(error)
            })?;
            recording.take(line);
        }
        if recording.entries.is_empty() {
            let text = format!("{} holds no message of a client", path.display());
            return Err(Stop::new(Exit::Usage, text));
        }
        Ok(recording)
    }

    fn take(&mut self, mut line: Value) {
        self.dropped += line["dropped"].as_u64().unwrap_or(0);
        if line["side"] != "client" || !line["message"].is_object() {
            return;
        }
        let message = line["message"].take();
        if message.to_string().contains("[hidden]") {
            self.hidden += 1;
        }
        let text = |member: &str| line[member].as_str().unwrap_or_default().to_owned();
        let entry = Entry {
            is_in: line["dir"] == "in",
            is_modern: line["era"] == "modern",
            exchange: line["exchange"].as_u64().unwrap_or(u64::MAX),
            endpoint: text("endpoint"),
            peer: text("peer"),
            message,
        };
        if entry.peer != "-" {
            self.peers.insert(entry.exchange, entry.peer.clone());
        }
        for tool in entry.message["result"]["tools"]
            .as_array()
            .into_iter()
            .flatten()
        {
            if let Some(name) = tool["name"].as_str() {
                let schema = tool["inputSchema"].to_string();
                self.schemas.insert(name.to_owned(), schema);
            }
        }
        self.entries.push(entry);
    }

    /// The session that a message belongs to. That of an `initialize` is known from its answer.
    pub(super) fn peer_of(&self, entry: &Entry) -> Option<&str> {
        self.peers.get(&entry.exchange).map(String::as_str)
    }

    /// The raw input schema of a tool, if a listing of the recording has it.
    pub(super) fn schema(&self, tool: &str) -> Option<&str> {
        self.schemas.get(tool).map(String::as_str)
    }

    /// Which question a client's answer belongs to.
    pub(super) fn question(&self, answer: &Entry) -> Option<Asked> {
        let session = self.peer_of(answer);
        let asked = self.entries.iter().rev().find(|entry| {
            entry.is_question()
                && entry.message["id"] == answer.message["id"]
                && self.peer_of(entry) == session
        })?;
        let same = |entry: &&Entry| entry.is_question() && entry.exchange == asked.exchange;
        let at = self
            .entries
            .iter()
            .filter(same)
            .position(|entry| std::ptr::eq(entry, asked))?;
        Some(Asked {
            exchange: asked.exchange,
            at,
        })
    }

    /// How many requests of clients have no answer in the recording.
    pub(super) fn unanswered(&self) -> usize {
        let answered: HashSet<u64> = self
            .entries
            .iter()
            .filter(|entry| !entry.is_in && entry.is_response())
            .map(|entry| entry.exchange)
            .collect();
        self.entries
            .iter()
            .filter(|entry| entry.is_in && !entry.is_response())
            .filter(|entry| entry.message.get("id").is_some())
            .filter(|entry| !answered.contains(&entry.exchange))
            .count()
    }
}
