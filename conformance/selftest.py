"""Proves that the counting can say no: against a port where nobody listens, nothing may pass."""

import sys

from bench import Bench
from legs import SERVER_RUNS
from processes import Processes, free_port

DEAD_RUNS = 3


def dead_port(bench: Bench) -> bool:
    """Whether the first runs of the list pass not one scenario when nobody is there."""
    good = True
    for run in SERVER_RUNS[:DEAD_RUNS]:
        folder = bench.folder / f"dead-{run.slug}"
        folder.mkdir(parents=True)
        processes = Processes()
        try:
            scored, _ = bench.ask(run, f"http://127.0.0.1:{free_port()}/mcp", processes, folder)
        finally:
            processes.end_all()
        passed = [verdict.scenario for verdict in scored if verdict.passed]
        if passed or not scored:
            print(f"self-test: a dead port passes {passed or 'an empty list'} of {run.revision}", file=sys.stderr)
            good = False
    return good
