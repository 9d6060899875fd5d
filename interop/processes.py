"""Starting, finding and ending processes. Nothing here knows what Mainstay or MCP is."""

import os
import pathlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from checks import Broken

# Pause between two looks at a condition. Every wait ends by the condition or by its deadline.
POLL_SECONDS = 0.02


def wait_until(holds: Callable[[], object], seconds: float, what: str, pause: float = POLL_SECONDS) -> None:
    """Looks until the condition holds; `Broken` names it when the time is over."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise Broken(f"after {seconds:g} s still not: {what}")
        time.sleep(pause)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as connection:
        connection.settimeout(1)
        return connection.connect_ex(("127.0.0.1", port)) == 0


class Processes:
    """All processes that this run started itself, so that it can end all of them."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen] = []

    def start(self, argv: list[str], **options) -> subprocess.Popen:
        """Starts a process as the leader of a group of its own."""
        process = subprocess.Popen(argv, start_new_session=True, **options)
        self.started.append(process)
        return process

    def end_all(self) -> None:
        for process in self.started:
            kill_group(process)
        self.started.clear()


def kill_group(process: subprocess.Popen) -> None:
    """SIGKILL to the whole group, then reap the leader."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def gone(pid: int) -> bool:
    """Whether nothing runs under this pid any more, so that its pipes are closed.

    A zombie counts as gone once it is the only thread left: the first thread of a killed
    process may be a zombie while others still end and hold its files open.
    """
    process = pathlib.Path(f"/proc/{pid}")
    try:
        threads = len(list((process / "task").iterdir()))
        return threads <= 1 and state_of(process) in "ZX"
    except OSError:
        return True


def state_of(process: pathlib.Path) -> str:
    return stat_fields(process)[0]


def stat_fields(process: pathlib.Path) -> list[str]:
    """The fields of /proc/PID/stat behind the command's name: state, parent, group, ..."""
    return (process / "stat").read_text().rpartition(")")[2].split()


@dataclass(frozen=True)
class Seen:
    """A running process, as /proc shows it."""

    pid: int
    group: int
    command: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.command[:100]})"


def running(wanted: Callable[[bytes, int], bool]) -> list[Seen]:
    """The live processes of which `wanted(environment, process group)` is true."""
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes()
            fields = stat_fields(folder)
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue  # Somebody else's, or it ended while we looked.
        if fields[0] not in "ZX" and wanted(environment, int(fields[2])):
            words = command.replace(b"\0", b" ").decode(errors="replace").strip()
            found.append(Seen(int(folder.name), int(fields[2]), words))
    return found


def marked(*marks: str) -> list[Seen]:
    """The live processes whose environment has one of the given `NAME=value` entries."""
    wanted = {mark.encode() for mark in marks}
    return running(lambda environment, _group: not wanted.isdisjoint(environment.split(b"\0")))


def in_groups(groups: set[int]) -> list[Seen]:
    """The live members of the given process groups, whatever their environment says."""
    return running(lambda _environment, group: group in groups)
