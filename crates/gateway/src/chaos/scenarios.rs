//! The scenarios. Each is recoverable: a target can do everything that is asked of it here.

use super::scenario::Act::{EndStreams, Forget, Freeze, Kill, Redeploy, TellChanged};
use super::scenario::Do::{Act, Big, Calls, Caught, Listed, Pause, Risky, Together};
use super::scenario::Scene::{Late, Launcher, Neighbour, Plain, TargetKilled};
use super::scenario::{Do, Limits, PROMPT, Scenario, Scene};

const fn plain(
    name: &'static str,
    about: &'static str,
    faults: &'static str,
    script: &'static str,
    steps: &'static [Do],
) -> Scenario {
    Scenario {
        name,
        about,
        faults,
        script,
        scene: Plain,
        steps,
        limits: PROMPT,
    }
}

impl Scenario {
    const fn slowest(mut self, ms: u64) -> Self {
        self.limits.slowest_ms = ms;
        self
    }

    const fn scene(mut self, scene: Scene) -> Self {
        self.scene = scene;
        self
    }

    const fn starts(mut self, most: usize) -> Self {
        self.limits = Limits {
            starts_max: Some(most),
            ..self.limits
        };
        self
    }

    const fn greetings(mut self, most: usize) -> Self {
        self.limits = Limits {
            greetings_max: Some(most),
            ..self.limits
        };
        self
    }

    const fn lists(mut self, most: usize) -> Self {
        self.limits = Limits {
            lists_max: Some(most),
            ..self.limits
        };
        self
    }

    const fn streams(mut self, most: usize) -> Self {
        self.limits = Limits {
            streams_max: Some(most),
            ..self.limits
        };
        self
    }
}

/// Every scenario, in the order of the report.
pub(super) const SCENARIOS: &[Scenario] = &[
    // Controls: a target that fails here is not a matter of faults.
    plain(
        "stdio-control",
        "Nothing is wrong, over stdio",
        "",
        "honest-stdio",
        &[Calls(5), Together(8)],
    )
    .starts(1),
    plain(
        "http-control",
        "Nothing is wrong, over HTTP with a session",
        "",
        "honest-http",
        &[Calls(5), Together(8)],
    ),
    plain(
        "http-stateless-control",
        "Nothing is wrong, with a server that only speaks 2026-07-28",
        "F29 F129",
        "stateless-http",
        &[Calls(5), Together(8)],
    ),
    plain(
        "stdio-modern-control",
        "Nothing is wrong, with a stdio server that only speaks 2026-07-28",
        "F29",
        "modern-stdio",
        &[Calls(5)],
    ),
    // Processes.
    plain(
        "stdio-killed-idle",
        "The server is killed between two calls, three times",
        "F60 F159",
        "honest-stdio",
        &[
            Calls(2),
            Act(Kill),
            Calls(2),
            Act(Kill),
            Calls(2),
            Act(Kill),
            Calls(2),
        ],
    )
    .starts(6),
    plain(
        "stdio-killed-in-call",
        "The server is killed while it executes a call",
        "F61 F175",
        "honest-stdio",
        &[Calls(2), Caught(Kill), Calls(3)],
    )
    .starts(3),
    plain(
        "stdio-crash-loop",
        "The server leaves after every third call",
        "F60 F69",
        "crash-loop",
        &[Calls(10)],
    )
    .starts(8),
    plain(
        "stdio-dies-in-handshake",
        "The server dies of its first two handshakes",
        "F14 F19 F69",
        "dies-in-handshake",
        &[Calls(3)],
    )
    .starts(6),
    plain(
        "stdio-dies-while-listing",
        "The server dies of the first listing",
        "F155 F158",
        "dies-while-listing",
        &[Calls(3)],
    )
    .starts(4),
    plain(
        "stdio-slow-start",
        "The server reads nothing for three seconds, and dies once",
        "F4 F17",
        "slow-start",
        &[Calls(2), Act(Kill), Listed, Calls(2)],
    )
    .slowest(8_000)
    .starts(4),
    plain(
        "stdio-frozen",
        "The server stands still for two seconds",
        "F74",
        "honest-stdio",
        &[Calls(2), Act(Freeze(2_000)), Calls(2), Pause(500), Calls(2)],
    )
    .starts(1),
    plain(
        "stdio-closes-stdout",
        "The server closes its stdout after two calls and lives on",
        "F63",
        "closes-stdout",
        &[Calls(2), Pause(500), Calls(2), Pause(500), Calls(1)],
    )
    .slowest(10_000),
    plain(
        "stdio-child-holds-pipes",
        "The server leaves, and a child of it holds its pipes",
        "F62 F64 F65",
        "leaves-a-child",
        &[Calls(2), Pause(500), Calls(2), Pause(500), Calls(1)],
    )
    .slowest(10_000),
    plain(
        "stdio-launcher",
        "The server runs below two shells and is killed",
        "F64 F65",
        "honest-stdio",
        &[Calls(2), Act(Kill), Calls(2)],
    )
    .scene(Launcher),
    plain(
        "stdio-will-not-leave",
        "The server ignores TERM and the end of its stdin",
        "F70",
        "will-not-leave",
        &[Calls(2)],
    ),
    plain(
        "stdio-target-killed",
        "The target is killed while a stubborn server runs below it",
        "F66",
        "will-not-leave",
        &[Calls(2)],
    )
    .scene(TargetKilled),
    plain(
        "stdio-no-final-newline",
        "The last answer before an exit lacks its line break",
        "F49",
        "no-final-newline",
        &[Calls(1), Pause(200), Calls(1), Pause(500), Calls(1)],
    ),
    plain(
        "stdio-silent-to-discover",
        "The server never answers server/discover",
        "F26 F30",
        "silent-to-discover",
        &[Calls(3)],
    )
    .slowest(8_000),
    // What comes out of pipes.
    plain(
        "stdio-noisy-text",
        "500 lines of banner on stdout",
        "F42",
        "noisy-text",
        &[Calls(3)],
    )
    .starts(1),
    plain(
        "stdio-noisy-json",
        "20,000 lines of JSON logs on stdout",
        "F43 F44 F45",
        "noisy-json",
        &[Calls(3)],
    )
    .starts(1),
    plain(
        "stdio-stderr-flood",
        "4 MB on stderr",
        "F31 F52 F54",
        "stderr-flood",
        &[Calls(3)],
    )
    .starts(1),
    plain(
        "stdio-stderr-no-newlines",
        "4 MB on stderr without a line break",
        "F53",
        "stderr-no-newlines",
        &[Calls(3)],
    )
    .starts(1),
    plain(
        "stdio-one-byte-writes",
        "Answers come byte by byte",
        "F48",
        "one-byte-writes",
        &[Calls(5)],
    )
    .starts(1),
    plain(
        "stdio-string-ids",
        "Ids come back as strings",
        "F58",
        "string-ids",
        &[Calls(3)],
    )
    .starts(1),
    plain(
        "stdio-float-ids",
        "Ids come back as floats",
        "F58",
        "float-ids",
        &[Calls(3)],
    )
    .starts(1),
    plain(
        "stdio-duplicate-answers",
        "Every answer comes twice",
        "F57 F190",
        "duplicate-answers",
        &[Calls(5), Together(4)],
    )
    .starts(1),
    plain(
        "stdio-big",
        "1 MB in and 1 MB out",
        "F46 F54 F195",
        "honest-stdio",
        &[Calls(1), Big(1_000_000), Calls(1)],
    )
    .starts(1),
    // HTTP servers that come and go.
    plain(
        "http-redeployed",
        "The server is away for a second and forgets its sessions",
        "F85 F105",
        "honest-http",
        &[Calls(2), Act(Redeploy(1_000)), Listed, Calls(4)],
    ),
    plain(
        "http-stateless-redeployed",
        "A stateless server is away for a second",
        "F85",
        "stateless-http",
        &[Calls(2), Act(Redeploy(1_000)), Listed, Calls(4)],
    ),
    plain(
        "http-redeployed-in-call",
        "The server is redeployed while it executes a call",
        "F87 F175",
        "honest-http",
        &[Calls(2), Caught(Redeploy(500)), Calls(3)],
    ),
    plain(
        "http-late",
        "The server comes up three seconds after the target",
        "F16 F19 F85",
        "honest-http",
        &[Calls(3)],
    )
    .scene(Late(3_000)),
    plain(
        "http-frozen",
        "The server stands still for two seconds",
        "F74 F124",
        "honest-http",
        &[Calls(2), Act(Freeze(2_000)), Calls(2), Pause(500), Calls(2)],
    ),
    plain(
        "http-unavailable-at-start",
        "The first three requests are answered with 503",
        "F99",
        "unavailable-at-start",
        &[Calls(3)],
    ),
    plain(
        "http-connections-reset-at-start",
        "The first three connections are reset",
        "F85",
        "resets-connections",
        &[Calls(3)],
    ),
    plain(
        "http-throttled-at-start",
        "The first request is answered with 429",
        "F102",
        "throttled-at-start",
        &[Calls(3)],
    ),
    plain(
        "http-throttled-call",
        "One call is answered with 429 and Retry-After",
        "F102",
        "throttled-call",
        &[Calls(2), Risky(1), Calls(3)],
    ),
    plain(
        "http-captive-portal",
        "The first three requests are answered with a login page",
        "F84",
        "captive-portal",
        &[Calls(3)],
    ),
    plain(
        "http-silent-discover",
        "The server never answers server/discover",
        "F26",
        "silent-discover-http",
        &[Calls(3)],
    )
    .slowest(8_000),
    // Sessions.
    plain(
        "http-session-lost",
        "The session is forgotten, and told with 404",
        "F105",
        "honest-http",
        &[Calls(2), Act(Forget), Calls(2), Act(Forget), Calls(2)],
    )
    .greetings(4),
    plain(
        "http-session-lost-together",
        "The session is forgotten, and eight calls find out at once",
        "F108",
        "honest-http",
        &[Calls(2), Act(Forget), Together(8), Calls(1)],
    )
    .greetings(3),
    plain(
        "http-session-lost-empty",
        "A lost session is told with 404 and nothing else, which a proxy might have said as well",
        "F105",
        "lost-404-empty",
        &[Calls(2), Act(Forget), Risky(1), Calls(2)],
    ),
    plain(
        "http-session-lost-400",
        "A lost session is told with 400",
        "F89",
        "lost-400",
        &[Calls(2), Act(Forget), Calls(2)],
    ),
    plain(
        "http-session-lost-410",
        "A lost session is told with 410",
        "F100",
        "lost-410",
        &[Calls(2), Act(Forget), Calls(2)],
    ),
    plain(
        "http-session-lost-500",
        "A lost session is told with 500",
        "F90",
        "lost-500",
        &[Calls(2), Act(Forget), Calls(2)],
    ),
    plain(
        "http-session-lost-200",
        "A lost session is told with 200 and an error in the body",
        "F91",
        "lost-200-body",
        &[Calls(2), Act(Forget), Calls(2)],
    ),
    plain(
        "http-session-lost-200-stream",
        "A lost session is told with 200 and an error in a stream",
        "F91",
        "lost-200-stream",
        &[Calls(2), Act(Forget), Calls(2)],
    ),
    plain(
        "http-forgets-sessions",
        "The sessions are forgotten after every third call",
        "F105",
        "forgets-sessions",
        &[Calls(10)],
    ),
    plain(
        "http-ran-then-404",
        "A call runs, and is answered as if its session were lost",
        "F106 F175",
        "ran-then-404",
        &[Calls(2), Risky(1), Calls(3)],
    ),
    // Answers that break.
    plain(
        "http-connection-dropped",
        "The connection of one call is closed without an answer",
        "F87 F175",
        "drops-a-call",
        &[Calls(2), Risky(1), Calls(3)],
    ),
    plain(
        "http-stream-breaks",
        "The stream of one call breaks before its answer",
        "F87",
        "breaks-streams",
        &[Calls(2), Risky(1), Calls(3)],
    ),
    plain(
        "http-stream-ends",
        "The stream of one call ends before its answer",
        "F87",
        "ends-streams-early",
        &[Calls(2), Risky(1), Calls(3)],
    ),
    plain(
        "http-broken-json",
        "The JSON of one answer is cut",
        "F59",
        "broken-json",
        &[Calls(2), Risky(1), Calls(3)],
    ),
    plain(
        "http-broken-event",
        "The event of one answer is no JSON",
        "F125",
        "broken-event",
        &[Calls(2), Risky(1), Calls(3)],
    ),
    plain(
        "http-resumed",
        "Every answer has to be fetched by Last-Event-ID",
        "F120",
        "resumable",
        &[Calls(4)],
    ),
    plain(
        "http-resumed-twice",
        "Every fetched answer comes twice",
        "F120 F122",
        "resumes-twice",
        &[Calls(4)],
    ),
    plain(
        "http-split-utf8",
        "Streams come byte by byte",
        "F128",
        "split-utf8",
        &[Calls(3)],
    ),
    plain(
        "http-ornate-streams",
        "Streams with every ornament that is allowed",
        "F128",
        "ornate-streams",
        &[Calls(3)],
    ),
    plain(
        "http-late-ends",
        "Streams end a little after their answer",
        "F82",
        "late-ends",
        &[Calls(10)],
    ),
    plain(
        "http-chatty",
        "The server asks, logs and tells changes before every answer",
        "F35 F36 F191",
        "chatty",
        &[Calls(4)],
    ),
    plain(
        "http-big",
        "1 MB in and 1 MB out",
        "F195",
        "honest-http",
        &[Calls(1), Big(1_000_000), Calls(1)],
    ),
    plain(
        "http-answer-cut",
        "The connection is reset in the middle of an answer to a call that ran",
        "F82 F87 F175",
        "cuts-an-answer",
        &[Calls(2), Risky(1), Calls(3)],
    ),
    plain(
        "http-drips",
        "Answers come byte by byte",
        "F88",
        "drips",
        &[Calls(4)],
    ),
    // Push streams.
    plain(
        "http-push-flaps",
        "Every push stream ends at once",
        "F115",
        "push-flaps",
        &[Calls(2), Pause(3_000), Calls(2)],
    )
    .streams(12),
    plain(
        "http-push-resets",
        "Every push stream breaks at once",
        "F116",
        "push-resets",
        &[Calls(2), Pause(3_000), Calls(2)],
    )
    .streams(12),
    plain(
        "http-push-refused",
        "There is no push stream (405)",
        "F96",
        "push-refused",
        &[Calls(2), Pause(2_000), Calls(2)],
    )
    .streams(3),
    plain(
        "http-push-text",
        "The push stream is a text",
        "F97",
        "push-text",
        &[Calls(2), Pause(2_000), Calls(2)],
    )
    .streams(5),
    plain(
        "http-push-404",
        "Push streams are answered with 404 while calls work",
        "F111",
        "push-404",
        &[Calls(2), Pause(2_000), Calls(2)],
    )
    .streams(12)
    .greetings(8),
    plain(
        "http-streams-end",
        "All push streams end, twice",
        "F123",
        "honest-http",
        &[
            Calls(2),
            Act(EndStreams),
            Pause(500),
            Calls(2),
            Act(EndStreams),
            Calls(2),
        ],
    )
    .streams(8),
    plain(
        "http-listen-refused",
        "A stateless server knows no subscriptions/listen",
        "F131",
        "listen-refused",
        &[Calls(2), Pause(1_000), Calls(2)],
    )
    .streams(3),
    plain(
        "http-listen-ends",
        "A stateless server ends every listen stream at once",
        "F130",
        "listen-ends",
        &[Calls(2), Pause(3_000), Calls(2)],
    )
    .streams(12),
    // Catalogs and neighbours.
    plain(
        "http-pages",
        "The tools are listed two to a page",
        "F165 F166",
        "pages",
        &[Calls(3), Listed],
    ),
    plain(
        "http-change-burst",
        "200 list changes are told at once",
        "F160 F161",
        "honest-http",
        &[
            Calls(2),
            Act(TellChanged(200)),
            Calls(2),
            Pause(3_000),
            Listed,
        ],
    )
    .lists(24),
    plain(
        "neighbour-silent-stdio",
        "A second server reads nothing and says nothing",
        "F15 F154",
        "honest-stdio",
        &[Calls(5), Listed],
    )
    .scene(Neighbour("black-hole-stdio")),
    plain(
        "neighbour-silent-http",
        "A second server accepts everything and answers nothing",
        "F15 F154",
        "honest-http",
        &[Calls(5), Listed],
    )
    .scene(Neighbour("black-hole-http")),
    plain(
        "neighbour-crashes",
        "A second server dies before it says anything, for ever",
        "F15 F69",
        "honest-stdio",
        &[Calls(5), Pause(2_000), Calls(2), Listed],
    )
    .scene(Neighbour("crash-at-start")),
];
