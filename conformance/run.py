"""Runs the public MCP conformance suite through `mainstay serve`, leg by leg. Started by scripts/conformance."""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import signal
import sys
import uuid

# The starting and ending of processes, and the `mainstay serve` under test, are the interop run's own.
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "interop"))

from baseline import Baseline  # noqa: E402
from bench import Bench, Outcome, as_json, dump  # noqa: E402
from checks import Broken  # noqa: E402
from legs import CLIENT_RUNS, DIRECT_RUNS, MEANING, SERVER_RUNS, chosen  # noqa: E402
from processes import marked  # noqa: E402
from selftest import dead_port  # noqa: E402
from suite import Suite  # noqa: E402
from upstream import MARK, Tools  # noqa: E402

# More at once would make the machine the thing that is tested: some scenarios wait 500 ms for an answer.
JOBS = 2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/conformance", description=__doc__)
    parser.add_argument("legs", nargs="*", metavar="LEG", help=f"one or more of {' '.join(MEANING)}; default: all")
    parser.add_argument("--direct", action="store_true", help="the suite at the fixtures, without Mainstay between")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of lines")
    parser.add_argument("--list", action="store_true", help="tell what the legs are and end")
    parser.add_argument("--scenario", action="append", default=[], help="only this scenario (again for more)")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"runs at the same time (default {JOBS})")
    for name in ("tools", "node", "fixtures", "mainstay", "library-client"):
        parser.add_argument(f"--{name}", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := [leg for leg in options.legs if leg not in MEANING]:
        parser.error(f"no leg {', '.join(unknown)}; there are {' '.join(MEANING)}")
    return options


def list_legs() -> None:
    for leg, meaning in MEANING.items():
        print(f"{leg}  {meaning}")
        for run in chosen(SERVER_RUNS + CLIENT_RUNS, [leg]):
            print(f"     {run.label}: at least {run.at_least}")


def problems(outcome: Outcome, baseline: Baseline, partial: bool) -> list[str]:
    """What is wrong with a run: anything here makes the exit status 1."""
    label = outcome.run.label
    if outcome.broken:
        return [f"could not be carried out: {outcome.broken}"]
    if outcome.run.at_most is not None:
        return [f"only {outcome.run.at_most} may pass"] if outcome.passed > outcome.run.at_most else []
    wrong = [
        f"{verdict.scenario}: {'; '.join(verdict.why)}"
        for verdict in outcome.failing
        if baseline.reason(label, verdict.scenario) is None
    ]
    if partial:
        return wrong
    seen = {verdict.scenario for verdict in outcome.scored}
    passed = seen - {verdict.scenario for verdict in outcome.failing}
    wrong += [f"{name}: its line in the baseline is stale" for name in baseline.stale(label, passed, seen)]
    expected = sum(baseline.reason(label, verdict.scenario) is not None for verdict in outcome.failing)
    if outcome.passed + expected < outcome.run.at_least:
        wrong.append(f"the target is {outcome.run.at_least}")
    return wrong


def report(outcome: Outcome, baseline: Baseline, wrong: list[str]) -> None:
    label = outcome.run.label
    if outcome.broken:
        print(f"{label}: could not be carried out", flush=True)
    else:
        print(f"{label}: passed {outcome.passed} of {len(outcome.scored)}", flush=True)
    for line in wrong:
        print(f"  FAIL {line}", flush=True)
    for verdict in outcome.failing:
        if reason := baseline.reason(label, verdict.scenario):
            print(f"  expected: {verdict.scenario}: {reason}", flush=True)
    for verdict in outcome.unscored:
        if not verdict.passed and outcome.run.at_most is None:
            print(f"  not scored, but failing: {verdict.scenario}: {'; '.join(verdict.why)}", flush=True)


def run_all(bench: Bench, options: argparse.Namespace, baseline: Baseline) -> bool:
    """Whether everything is as it should be."""
    runs = chosen(DIRECT_RUNS if options.direct else SERVER_RUNS + CLIENT_RUNS, options.legs)
    good = True
    passed = failed = 0
    documents = []
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, options.jobs)) as pool:
        try:
            # In the order of the legs, whichever ends first.
            for outcome in pool.map(bench.carry_out, runs):
                wrong = problems(outcome, baseline, bool(options.scenario))
                good = good and not wrong
                passed += outcome.passed
                failed += len(wrong)
                documents.append(as_json(outcome, wrong))
                if options.json:
                    print(f"{outcome.run.label}: {outcome.passed} of {len(outcome.scored)}", file=sys.stderr, flush=True)
                else:
                    report(outcome, baseline, wrong)
        except BaseException:
            bench.stop()
            raise
    if options.json:
        print(dump(documents))
    else:
        print(f"conformance: {passed} passed, {failed} failed", flush=True)
    return good


def end_marked(mark: str) -> list[str]:
    """Whatever is left of this invocation is ended, and named."""
    left = marked(mark)
    for seen in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(seen.pid, signal.SIGKILL)
    return [str(seen) for seen in left]


def main() -> int:
    options = arguments()
    if options.list:
        list_legs()
        return 0
    if not pathlib.Path("/proc/self/environ").exists():
        sys.exit("conformance: needs /proc to see which processes are left (Linux)")
    # A signal ends the run through the `finally` below, like any other end.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    root = pathlib.Path(options.tools).resolve()
    shutil.rmtree(root / "run", ignore_errors=True)
    run = uuid.uuid4().hex
    os.environ[MARK] = run  # Everything that is started from here on carries it.
    fixtures = pathlib.Path(options.fixtures).resolve()
    tools = Tools(root, fixtures, options.mainstay, run, pathlib.Path(options.library_client).resolve())
    suite = Suite(root / "npm" / "node_modules", options.node)
    bench = Bench(tools, suite, root / "run", options.direct, tuple(options.scenario))
    try:
        baseline = Baseline.read(pathlib.Path(__file__).with_name("baseline.txt"), options.direct)
        good = dead_port(bench) if not options.scenario else True
        good = run_all(bench, options, baseline) and good
    except Broken as error:
        sys.exit(f"conformance: {error}")
    finally:
        left = end_marked(f"{MARK}={run}")
    if left:
        print(f"conformance: processes were left: {', '.join(left)}", file=sys.stderr)
        return 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
