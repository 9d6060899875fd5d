"""The legs: which fixture, over which transport, asked in which revision, and how much has to pass."""

from dataclasses import dataclass

from upstream import EVERYTHING, EVERYTHING_LEGACY, LEGACY_PLUS, MODERN_ONLY, TASKS, Fixture, TasksFixture

LEGACY = "2025-11-25"
MODERN = "2026-07-28"

# The stable release of the suite knows no requirement lists: all its server scenarios are run.
STABLE = "0.1.16"
STABLE_SERVER_SCENARIOS = 32


# `tasks-status-notifications` is the tenth: the suite skips it, whoever it talks to.
TASKS_SCENARIOS = (
    "tasks-lifecycle",
    "tasks-capability-negotiation",
    "tasks-wire-fields",
    "tasks-request-state-removal",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-dispatch-and-envelope",
    "tasks-required-task-error",
    "tasks-mrtr-composition",
)


@dataclass(frozen=True)
class Run:
    """One line of the output: one fixture on one transport, asked by one suite in one revision."""

    leg: str
    revision: str
    fixture: Fixture | TasksFixture
    transport: str
    at_least: int
    # A fixture that must not know a revision passes nothing of it.
    at_most: int | None = None
    # Shown only where a leg has several transports.
    show_transport: bool = False
    package: str = "conformance"
    # Capabilities of clients to come, for which connections are opened before the suite asks: some scenarios wait for
    # 600 ms in all, and a process of a legacy server takes longer to start. Every capability set has a process of its own.
    warm: tuple[str, ...] = ()
    # Just these scenarios, where the requirement lists have none for the purpose.
    scenarios: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.leg} {self.revision}" + (f" {self.transport}" if self.show_transport else "")

    @property
    def slug(self) -> str:
        return f"{self.leg}-{self.revision}-{self.transport}"


MEANING = {
    "A": "same era, HTTP upstream",
    "B": "same era, stdio upstream",
    "C": "HTTP+SSE upstream of 2024-11-05",
    "D": "crossing up: legacy upstream, modern client",
    "E": "crossing down: modern upstream, legacy client",
    "F": "the tasks extension",
    "G": "the client side: the suite's mock server <- mainstay <- a client",
    "H": "the client side: the suite's mock server <- a program with the library in it",
}

SERVER_RUNS = (
    Run("A", LEGACY, EVERYTHING, "http", 30),
    Run("A", MODERN, EVERYTHING, "http", 37),
    Run("A", STABLE, EVERYTHING, "http", 31, package="conformance-stable"),
    Run("B", LEGACY, EVERYTHING, "stdio", 30),
    Run("B", MODERN, EVERYTHING, "stdio", 37),
    Run("C", LEGACY, EVERYTHING_LEGACY, "sse", 30),
    Run("D", MODERN, LEGACY_PLUS, "http", 37, show_transport=True),
    Run("D", MODERN, LEGACY_PLUS, "stdio", 37, show_transport=True, warm=("elicitation",)),
    Run("D", MODERN, LEGACY_PLUS, "sse", 37, show_transport=True),
    Run("E", LEGACY, MODERN_ONLY, "http", 30, show_transport=True),
    Run("E", LEGACY, MODERN_ONLY, "stdio", 30, show_transport=True),
    Run("F", MODERN, TASKS, "http", 9, show_transport=True, scenarios=TASKS_SCENARIOS),
    Run("F", MODERN, TASKS, "stdio", 9, show_transport=True, scenarios=TASKS_SCENARIOS),
)

@dataclass(frozen=True)
class ClientRun:
    """One line of the client side: the suite is the server, and all scored scenarios are asked for, those with a login too."""

    leg: str
    revision: str
    at_least: int
    at_most: int | None = None

    @property
    def label(self) -> str:
        return f"{self.leg} {self.revision}"

    @property
    def slug(self) -> str:
        return f"{self.leg}-{self.revision}"


CLIENT_RUNS = (
    ClientRun("G", LEGACY, 18),
    ClientRun("G", MODERN, 32),
    ClientRun("H", LEGACY, 18),
    ClientRun("H", MODERN, 32),
)

# Ways to sign in that are extensions of the specification, and ours too: run, and told when they fail.
SIGN_IN_EXTENSIONS = (
    "auth/client-credentials-jwt",
    "auth/client-credentials-basic",
    "auth/enterprise-managed-authorization",
)

# What the fixtures do without Mainstay: that they pass at home, and that each is what its leg says it is.
DIRECT_RUNS = (
    *(run for run in SERVER_RUNS if run.leg == "A"),
    Run("C", LEGACY, EVERYTHING_LEGACY, "http", 30),
    Run("D", LEGACY, LEGACY_PLUS, "http", 30),
    Run("E", MODERN, MODERN_ONLY, "http", 37),
    Run("E", LEGACY, MODERN_ONLY, "http", 0, at_most=0),
    Run("F", MODERN, TASKS, "http", 9, scenarios=TASKS_SCENARIOS),
)


def chosen(runs: tuple[Run | ClientRun, ...], legs: list[str]) -> list[Run | ClientRun]:
    return [run for run in runs if not legs or run.leg in legs]
