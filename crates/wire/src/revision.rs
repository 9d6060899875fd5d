//! Protocol revisions and the two eras they belong to.

use std::fmt;

/// How a revision talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Era {
    /// Handshake and sessions: up to 2025-11-25.
    Legacy,
    /// Metadata on every request, no state: 2026-07-28 and later.
    Modern,
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        })
    }
}

/// A published revision of the protocol, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Revision {
    /// 2024-11-05: stdio and HTTP+SSE.
    V2024_11_05,
    /// 2025-03-26: streamable HTTP, batches.
    V2025_03_26,
    /// 2025-06-18: version header, elicitation, structured output; no batches.
    V2025_06_18,
    /// 2025-11-25: URL elicitation, experimental tasks, priming events.
    V2025_11_25,
    /// 2026-07-28: stateless.
    V2026_07_28,
}

impl Revision {
    /// All revisions, oldest first.
    pub const ALL: [Self; 5] = [
        Self::V2024_11_05,
        Self::V2025_03_26,
        Self::V2025_06_18,
        Self::V2025_11_25,
        Self::V2026_07_28,
    ];
    /// The newest with a handshake.
    pub const LATEST_LEGACY: Self = Self::V2025_11_25;
    /// The newest without.
    pub const LATEST_MODERN: Self = Self::V2026_07_28;
    /// What a legacy HTTP request without version header speaks.
    pub const ASSUMED: Self = Self::V2025_03_26;

    /// As it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Exactly the text of [`Self::as_str`]; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|revision| revision.as_str() == text)
    }

    /// Which way it talks.
    #[must_use]
    pub const fn era(self) -> Era {
        match self {
            Self::V2024_11_05 | Self::V2025_03_26 | Self::V2025_06_18 | Self::V2025_11_25 => {
                Era::Legacy
            }
            Self::V2026_07_28 => Era::Modern,
        }
    }

    /// What a server answers to an `initialize` that offers `offered`: the same if it is a legacy revision, otherwise
    /// (unknown, or modern and thus not to be had by a handshake) the newest legacy one.
    #[must_use]
    pub fn negotiate(offered: &str) -> Self {
        Self::parse(offered)
            .filter(|revision| revision.era() == Era::Legacy)
            .unwrap_or(Self::LATEST_LEGACY)
    }

    /// The newest modern revision that both sides have, out of a server's `supportedVersions`. Legacy entries there do
    /// not count: they are for the handshake.
    #[must_use]
    pub fn newest_modern<'v>(supported: impl IntoIterator<Item = &'v str>) -> Option<Self> {
        supported
            .into_iter()
            .filter_map(Self::parse)
            .filter(|revision| revision.era() == Era::Modern)
            .max()
    }

    /// Batches exist in this revision only.
    #[must_use]
    pub const fn has_batches(self) -> bool {
        matches!(self, Self::V2025_03_26)
    }

    /// The version header is sent with everything after `initialize`.
    #[must_use]
    pub fn has_version_header(self) -> bool {
        self >= Self::V2025_06_18
    }

    /// A stream may begin with an event that has an id and no data.
    #[must_use]
    pub const fn has_priming_events(self) -> bool {
        matches!(self, Self::V2025_11_25)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiation_never_answers_a_handshake_with_a_modern_revision() {
        assert_eq!(Revision::negotiate("2025-06-18"), Revision::V2025_06_18);
        assert_eq!(Revision::negotiate("2026-07-28"), Revision::V2025_11_25);
        assert_eq!(Revision::negotiate("1999-01-01"), Revision::V2025_11_25);
        assert_eq!(
            Revision::newest_modern(["2025-11-25", "2026-07-28", "2099-01-01"]),
            Some(Revision::V2026_07_28)
        );
        assert_eq!(Revision::newest_modern(["2025-11-25"]), None);
        for revision in Revision::ALL {
            assert_eq!(Revision::parse(revision.as_str()), Some(revision));
        }
    }
}
