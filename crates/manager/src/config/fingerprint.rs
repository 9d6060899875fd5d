//! Whether an edit concerns the connection or only what is done with it (law 28).

use std::fmt;
use std::hash::Hasher;

use sha2::{Digest, Sha256};

/// The two halves of an entry, hashed apart: a changed connection replaces the server, changed settings patch it
/// (law 28).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprints {
    /// What a running server depends on: command, arguments, environment, directory, URL, headers, protocol. Taken from the
    /// text as written, references unresolved. Stable across restarts and versions of Mainstay.
    pub connection: Fingerprint,
    /// Everything else except the name. Comparable within one process only.
    pub settings: Fingerprint,
}

impl From<Fingerprints> for mainstay_core::plan::Fingerprints {
    fn from(prints: Fingerprints) -> mainstay_core::plan::Fingerprints {
        let digest = |print: Fingerprint| mainstay_core::catalog::Digest(print.0);
        mainstay_core::plan::Fingerprints {
            connection: digest(prints.connection),
            settings: digest(prints.settings),
        }
    }
}

/// A hash of a part of a config. Shows nothing of what it was made from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub(super) [u8; 16]);

impl Fingerprint {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A hash over texts that keeps their boundaries.
pub(super) struct Hashed(Sha256);

impl Hashed {
    pub(super) fn new(purpose: &str) -> Hashed {
        let mut hash = Hashed(Sha256::new());
        hash.word(purpose);
        hash
    }

    pub(super) fn word(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text.as_bytes());
    }

    pub(super) fn count(&mut self, count: usize) {
        self.0.update((count as u64).to_le_bytes());
    }

    /// Named texts, whatever their order.
    pub(super) fn pairs<'a>(&mut self, pairs: impl Iterator<Item = (String, &'a str)>) {
        let mut pairs: Vec<(String, &str)> = pairs.collect();
        pairs.sort();
        self.count(pairs.len());
        for (name, text) in pairs {
            self.word(&name);
            self.word(text);
        }
    }

    pub(super) fn finish(self) -> Fingerprint {
        let digest = self.0.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Fingerprint(bytes)
    }
}

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest
            .iter()
            .take(8)
            .fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
}
