"""Carries out one run: starts what it needs, lets the suite ask, counts, ends everything."""

import json
import pathlib
import subprocess
import threading
import time
from dataclasses import dataclass, field

from checks import Broken
from legs import STABLE, STABLE_SERVER_SCENARIOS, Run
from processes import Processes
from suite import Suite, Verdict, found_scenarios, run_suite, verdicts
from upstream import Stand, Tools


@dataclass(frozen=True)
class Outcome:
    """What one run found. `broken` says why it could not be carried out at all."""

    run: Run
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

    def carry_out(self, run: Run) -> Outcome:
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
            scored, unscored = self._measure(run, stand, folder)
        except (Broken, OSError, subprocess.SubprocessError) as error:
            broken = f"{type(error).__name__}: {error}" if not isinstance(error, Broken) else str(error)
        finally:
            stand.close()
            processes.end_all()
        return Outcome(run, scored, unscored, time.monotonic() - started, broken)

    def _measure(self, run: Run, stand: Stand, folder: pathlib.Path) -> tuple[list[Verdict], list[Verdict]]:
        if self.direct:
            url = stand.listening(run.fixture, run.transport)
        else:
            url = stand.through_mainstay(stand.entry(run.fixture, run.transport))
        return self.ask(run, url, stand.processes, folder)

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
