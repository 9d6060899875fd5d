"""The expected failures: each with a reason, and none longer than it is true."""

import pathlib
from dataclasses import dataclass

from checks import Broken

DIRECT = "direct "


@dataclass(frozen=True)
class Baseline:
    """`RUN / SCENARIO: REASON`, one a line; a RUN without Mainstay begins with `direct`."""

    reasons: dict[tuple[str, str], str]

    @staticmethod
    def read(path: pathlib.Path, direct: bool) -> "Baseline":
        reasons = {}
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            run, slash, rest = line.partition(" / ")
            scenario, colon, reason = rest.partition(": ")
            if not (slash and colon and reason.strip()):
                raise Broken(f"{path.name}:{number}: write RUN / SCENARIO: REASON")
            if run.startswith(DIRECT) == direct:
                reasons[run.removeprefix(DIRECT), scenario.strip()] = reason.strip()
        return Baseline(reasons)

    def reason(self, label: str, scenario: str) -> str | None:
        return self.reasons.get((label, scenario))

    def stale(self, label: str, passed: set[str], seen: set[str]) -> list[str]:
        """Entries of this run whose scenario passes now, or does not exist."""
        mine = {scenario for (run, scenario) in self.reasons if run == label}
        return sorted(mine & passed | mine - seen)
