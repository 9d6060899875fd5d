//! The scripts that come with the kit, one file each in `scripts/`.

macro_rules! library {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../scripts/", $name, ".chaos")))),+]
    };
}

/// Name and text of every script of the kit, sorted by name.
pub const LIBRARY: &[(&str, &str)] = library![
    "big-results",
    "black-hole-http",
    "black-hole-stdio",
    "breaks-streams",
    "broken-event",
    "broken-json",
    "captive-portal",
    "chatty",
    "closes-stdout",
    "crash-at-start",
    "crash-loop",
    "cuts-an-answer",
    "dies-in-handshake",
    "dies-while-listing",
    "drips",
    "drops-a-call",
    "dual-http",
    "dual-stdio",
    "duplicate-answers",
    "ends-streams-early",
    "float-ids",
    "forgets-sessions",
    "handshake-then-exit",
    "honest-http",
    "honest-stdio",
    "late-ends",
    "leaves-a-child",
    "listen-ends",
    "listen-refused",
    "lost-200-body",
    "lost-200-stream",
    "lost-400",
    "lost-404-empty",
    "lost-410",
    "lost-500",
    "modern-stdio",
    "no-final-newline",
    "noisy-json",
    "noisy-text",
    "one-byte-writes",
    "ornate-streams",
    "pages",
    "push-404",
    "push-flaps",
    "push-refused",
    "push-resets",
    "push-text",
    "ran-then-404",
    "redeploys",
    "resets-connections",
    "resumable",
    "resumes-twice",
    "silent-discover-http",
    "silent-to-discover",
    "slow-start",
    "split-utf8",
    "stateless-http",
    "stderr-flood",
    "stderr-no-newlines",
    "string-ids",
    "throttled-at-start",
    "throttled-call",
    "unavailable-at-start",
    "will-not-leave",
];

/// The names of all scripts of the kit.
pub fn names() -> impl Iterator<Item = &'static str> {
    LIBRARY.iter().map(|(name, _)| *name)
}
