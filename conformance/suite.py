"""Runs the conformance suite once and counts what it found, strictly. Knows nothing of Mainstay.

The suite's own verdict is not used: a scenario that made no check at all is a success for it, and against a port where
nobody listens it still reports half of its checks as passed. Here a scenario passes only if nothing in it failed and at
least one check of its own succeeded.
"""

import json
import pathlib
import re
import subprocess
from dataclasses import dataclass

from checks import Broken
from processes import Processes, kill_group

# Checks that the suite adds to every scenario by itself.
GENERIC = ("wire-schema-",)

# A result folder is named SIDE-SCENARIO-TIME.
STAMP = re.compile(r"-\d{4}-\d\d-\d\dT[\d-]+Z$")

RUN_SECONDS = 240


@dataclass(frozen=True)
class Verdict:
    """One scenario of one run."""

    scenario: str
    passed: bool
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Requirements:
    """The frozen scenarios of a revision: those that count and those that are only run."""

    server: tuple[str, ...]
    client: tuple[str, ...]
    unscored: tuple[tuple[str, str, str], ...]  # side, scenario, reason


@dataclass(frozen=True)
class Suite:
    """The two installed versions of the suite and the Node that can run them."""

    npm: pathlib.Path
    node: str

    def program(self, package: str) -> list[str]:
        return [self.node, str(self.npm / package / "dist" / "index.js")]

    def requirements(self, revision: str) -> Requirements:
        return read_requirements((self.npm / "conformance" / "requirements" / f"{revision}.yaml").read_text())


def read_requirements(text: str) -> Requirements:
    """Reads just the shape that the suite's own files have: two lists of names and one of entries."""
    lists: dict[str, list[str]] = {"server": [], "client": []}
    unscored: list[dict[str, str]] = []
    section = ""
    for line in text.splitlines():
        if line and line[0] not in " #":
            section = line.rstrip(":")
            continue
        word = line.strip()
        if section in lists and word.startswith("- "):
            lists[section].append(word[2:].strip())
        elif section == "not_scored" and word.startswith("- scenario:"):
            unscored.append({"scenario": word.partition(":")[2].strip()})
        elif section == "not_scored" and unscored and word.partition(":")[0] in ("leg", "reason"):
            key, _, value = word.partition(":")
            unscored[-1][key] = value.strip()
    if not lists["server"] or not lists["client"]:
        raise Broken("the suite's requirements file has another shape than expected")
    others = tuple((entry["leg"], entry["scenario"], entry["reason"]) for entry in unscored)
    return Requirements(tuple(lists["server"]), tuple(lists["client"]), others)


def run_suite(processes: Processes, argv: list[str], folder: pathlib.Path, seconds: float = RUN_SECONDS) -> None:
    """Runs it to its end. The exit status says nothing here, the result files do."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "suite.log", "a") as log:
        argv = [*argv, "-o", str(folder / "results")]
        process = processes.start(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Broken(f"the suite did not end within {seconds:g} s") from None
        finally:
            kill_group(process)


def verdicts(folder: pathlib.Path, side: str, scenarios: tuple[str, ...]) -> list[Verdict]:
    """What the result files say of exactly these scenarios; one without a file did not pass."""
    found = results(folder, side)
    return [judge(scenario, found.get(scenario)) for scenario in scenarios]


def found_scenarios(folder: pathlib.Path, side: str) -> tuple[str, ...]:
    return tuple(results(folder, side))


def results(folder: pathlib.Path, side: str) -> dict[str, list[dict]]:
    """The checks of every scenario that left a result file."""
    found = {}
    for file in sorted((folder / "results").rglob("checks.json")):
        name = STAMP.sub("", str(file.parent.relative_to(folder / "results")))
        found[name.removeprefix(f"{side}-")] = json.loads(file.read_text())
    return found


def judge(scenario: str, checks: list[dict] | None) -> Verdict:
    if checks is None:
        return Verdict(scenario, False, ("the suite left no result for it",))
    failed = [check for check in checks if check["status"] == "FAILURE"]
    own = [check for check in checks if not check["id"].startswith(GENERIC)]
    if failed:
        return Verdict(scenario, False, tuple(message(check) for check in failed))
    if not any(check["status"] == "SUCCESS" for check in own):
        told = [message(check) for check in own if check["status"] in ("WARNING", "SKIPPED")]
        return Verdict(scenario, False, ("no check of its own succeeded", *told))
    return Verdict(scenario, True)


def message(check: dict) -> str:
    text = check.get("errorMessage") or check.get("description") or ""
    return f"{check['id']}: {' '.join(text.split())[:600]}"
