"""Carries out one run: starts what it needs, lets the suite ask, counts, ends everything."""

import json
import pathlib
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

from checks import Broken
from client import Client, Refused
from legs import SIGN_IN_EXTENSIONS, STABLE, STABLE_SERVER_SCENARIOS, ClientRun, Run
from processes import Processes
from suite import Suite, Verdict, found_scenarios, run_suite, verdicts
from upstream import Stand, Tools

# How long one run of our client may take. It starts a Mainstay each time.
CLIENT_MS = 60_000


@dataclass(frozen=True)
class Outcome:
    """What one run found. `broken` says why it could not be carried out at all."""

    run: Run | ClientRun
    scored: list[Verdict]
    unscored: list[Verdict]
    seconds: float
    broken: str = ""

    @property
    def passed(self) -> int:
        return sum(verdict.passed for verdict in self.scored)

    @property
    def failing(self) -> list[Verdict]:
        return [verdict for verdict in self.scored if not verdict.passed]


@dataclass
class Bench:
    """What all runs of one invocation share."""

    tools: Tools
    suite: Suite
    folder: pathlib.Path
    direct: bool
    only: tuple[str, ...] = ()
    stopping: threading.Event = field(default_factory=threading.Event)
    live: list[Processes] = field(default_factory=list)

    def stop(self) -> None:
        """Ends the runs that are under way: their suites are killed, and they end by that."""
        self.stopping.set()
        for processes in list(self.live):
            processes.end_all()

    def carry_out(self, run: Run | ClientRun) -> Outcome:
        started = time.monotonic()
        folder = self.folder / run.slug
        folder.mkdir(parents=True)
        processes = Processes()
        self.live.append(processes)
        stand = Stand(self.tools, processes, folder)
        scored: list[Verdict] = []
        unscored: list[Verdict] = []
        broken = ""
        try:
            if self.stopping.is_set():
                raise Broken("interrupted")
            measure = self._client_side if isinstance(run, ClientRun) else self._server_side
            scored, unscored = measure(run, stand, folder)
        except (Broken, Refused, OSError, subprocess.SubprocessError) as error:
            broken = f"{type(error).__name__}: {error}" if not isinstance(error, Broken) else str(error)
        finally:
            stand.close()
            processes.end_all()
        return Outcome(run, scored, unscored, time.monotonic() - started, broken)

    def _server_side(self, run: Run, stand: Stand, folder: pathlib.Path) -> tuple[list[Verdict], list[Verdict]]:
        if self.direct:
            url = stand.listening(run.fixture, run.transport)
        else:
            url = stand.through_mainstay(stand.entry(run.fixture, run.transport))
            for capability in run.warm:
                Client(url, run.revision, {capability: {}}).call("test_simple_text", {})
        return self.ask(run, url, stand.processes, folder)

    def _client_side(self, run: ClientRun, stand: Stand, folder: pathlib.Path) -> tuple[list[Verdict], list[Verdict]]:
        """The suite starts our client for every scenario, and serves it."""
        command = [str(self.tools.library_client)]
        if run.leg == "G":
            driver = pathlib.Path(__file__).with_name("driver.py")
            command = [sys.executable, str(driver), self.tools.mainstay, str(folder)]
        if any(" " in word for word in command):
            raise Broken("the suite cannot start a client whose path has a space in it")
        required = self.suite.requirements(run.revision)
        scored = required.client
        others = tuple(
            name
            for side, name, reason in required.unscored
            if side == "client" and (reason != "extension" or name in SIGN_IN_EXTENSIONS)
        )
        asked = self.only or scored + others
        argv = [*self.suite.program("conformance"), "client", "--command", " ".join(command)]
        argv += ["--spec-version", run.revision, "--force", "--timeout", str(CLIENT_MS)]
        for scenario in asked:
            run_suite(stand.processes, [*argv, "--scenario", scenario], folder)
        if self.only:
            return verdicts(folder, "client", self.only), []
        return verdicts(folder, "client", scored), verdicts(folder, "client", others)

    def ask(
        self, run: Run, url: str, processes: Processes, folder: pathlib.Path
    ) -> tuple[list[Verdict], list[Verdict]]:
        """Points the suite at a URL and counts: the scored scenarios, and those that are only run."""
        argv = [*self.suite.program(run.package), "server", "--url", url]
        if self.only:
            version = [] if run.revision == STABLE else ["--spec-version", run.revision, "--force"]
            for scenario in self.only:
                run_suite(processes, [*argv, "--scenario", scenario, *version], folder)
            return verdicts(folder, "server", self.only), []
        if run.scenarios:
            for scenario in run.scenarios:
                run_suite(processes, [*argv, "--scenario", scenario, "--spec-version", run.revision, "--force"], folder)
            return verdicts(folder, "server", run.scenarios), []
        if run.revision == STABLE:
            run_suite(processes, [*argv, "--suite", "all"], folder)
            names = found_scenarios(folder, "server")
            if len(names) != STABLE_SERVER_SCENARIOS:
                raise Broken(f"the suite ran {len(names)} scenarios instead of {STABLE_SERVER_SCENARIOS}")
            return verdicts(folder, "server", names), []
        run_suite(processes, [*argv, "--requirements", run.revision], folder)
        required = self.suite.requirements(run.revision)
        others = tuple(name for side, name, reason in required.unscored if side == "server" and reason != "extension")
        return verdicts(folder, "server", required.server), verdicts(folder, "server", others)


def as_json(outcome: Outcome, unexpected: list[str]) -> dict:
    return {
        "leg": outcome.run.leg,
        "run": outcome.run.label,
        "passed": outcome.passed,
        "of": len(outcome.scored),
        "target": outcome.run.at_least,
        "seconds": round(outcome.seconds, 1),
        "failing": {verdict.scenario: list(verdict.why) for verdict in outcome.failing},
        "unscored_failing": {verdict.scenario: list(verdict.why) for verdict in outcome.unscored if not verdict.passed},
        "problems": unexpected,
    }


def dump(outcomes: list[dict]) -> str:
    return json.dumps({"runs": outcomes}, indent=2)
