"""Counts checks and prints one line for each. It decides nothing about what is checked."""

import contextlib
import sys
from collections.abc import Iterator


class Broken(Exception):
    """A check did not hold; the message says what was seen instead."""


class Checks:
    """`ok   NAME` or `FAIL NAME: why`, and the totals."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    def ok(self, name: str) -> None:
        self.passed += 1
        print(f"ok   {name}", flush=True)

    def fail(self, name: str, why: object) -> None:
        self.failed += 1
        print(f"FAIL {name}: {why}", flush=True)

    def that(self, name: str, holds: bool, why: object = "does not hold") -> bool:
        if holds:
            self.ok(name)
        else:
            self.fail(name, why)
        return holds

    @contextlib.contextmanager
    def check(self, name: str) -> Iterator[None]:
        """The body is the check: it passes unless it raises, and the run goes on either way."""
        try:
            yield
        except Exception as error:  # noqa: BLE001: one broken check must not hide the others
            kind = "" if isinstance(error, Broken) else f"{type(error).__name__}: "
            self.fail(name, f"{kind}{error}")
        else:
            self.ok(name)

    def summary(self) -> int:
        """Prints the end line and returns the exit status."""
        print(f"interop: {self.passed} passed, {self.failed} failed", flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1


def note(text: str) -> None:
    """Progress that is not a check."""
    print(f"     {text}", file=sys.stderr, flush=True)
