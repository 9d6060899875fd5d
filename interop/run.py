"""Runs real clients against real servers through `mainstay serve`. Started by scripts/interop."""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import sys
import uuid

from gateway import Gateway
from phases import Bench, direct, through_mainstay
from processes import Processes, marked
from servers import MARK, Fleet
from sessions import Tools


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", required=True, type=pathlib.Path, help="folder with the installed software")
    parser.add_argument("--node", required=True, help="the node program")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--mainstay", help="the mainstay program under test")
    what.add_argument("--direct", action="store_true", help="the peers among themselves, without Mainstay")
    return parser.parse_args()


def fresh(folder: pathlib.Path) -> pathlib.Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def end_marked(*marks: str) -> None:
    """Whatever the checks found left over must not outlive this run either."""
    for seen in marked(*marks):
        with contextlib.suppress(ProcessLookupError):
            os.kill(seen.pid, signal.SIGKILL)


def main() -> int:
    options = arguments()
    if not pathlib.Path("/proc/self/environ").exists():
        sys.exit("interop: needs /proc to see which processes are left (Linux)")
    # A signal ends the run through the `finally` below, like any other end.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    interop = pathlib.Path(__file__).resolve().parent
    tools = Tools(options.tools.resolve(), interop, options.node)
    folder = fresh(tools.root / "run")
    run = uuid.uuid4().hex
    processes = Processes()
    gateway = None
    try:
        fleet = Fleet(tools, processes, folder, run)
        fleet.start()
        bench = Bench(tools, folder, fleet, processes)
        if options.direct:
            direct(bench)
        else:
            gateway = Gateway(processes, options.mainstay, fleet.config(), folder)
            through_mainstay(bench, gateway)
        return bench.checks.summary()
    finally:
        processes.end_all()
        end_marked(f"{MARK}={run}", *([gateway.mark] if gateway else []))
        if gateway:
            gateway.clean()


if __name__ == "__main__":
    sys.exit(main())
