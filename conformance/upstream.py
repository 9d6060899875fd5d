"""The fixture servers behind Mainstay, and Mainstay before them: starting them, and the URL for the suite."""

import os
import pathlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from checks import Broken
from gateway import Gateway
from processes import Processes, free_port, listens, wait_until

START_SECONDS = 60

# The name of the one configured server, hence /servers/fixture/mcp.
NAME = "fixture"

# The environment entry by which the processes of this invocation are found at the end.
MARK = "MAINSTAY_CONFORMANCE_RUN"

STOP_SECONDS = 20


@dataclass(frozen=True)
class Tools:
    """Where the installed software is."""

    root: pathlib.Path
    fixtures: pathlib.Path
    mainstay: str
    run: str
    library_client: pathlib.Path


@dataclass(frozen=True)
class Fixture:
    """A server of our own choice: its module for fixtures/serve.py and the series of the Python SDK that it needs."""

    module: str
    sdk: str

    def command(self, tools: Tools, transport: str) -> list[str]:
        python = str(tools.root / self.sdk / "bin" / "python")
        return [python, str(tools.fixtures / "serve.py"), self.module, transport]

    def env(self, tools: Tools) -> dict[str, str]:
        return {"PYTHONPATH": str(tools.root / f"everything-{self.sdk}"), "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class TasksFixture:
    """The fixture of the tasks extension, a program of its own."""

    program: str

    def command(self, tools: Tools, transport: str) -> list[str]:
        return [str(tools.root / self.program), transport]

    def env(self, _tools: Tools) -> dict[str, str]:
        return {}


EVERYTHING = Fixture("everything", "mcp-2x")
EVERYTHING_LEGACY = Fixture("everything", "mcp-1x")
LEGACY_PLUS = Fixture("legacy_plus", "mcp-1x")
MODERN_ONLY = Fixture("modern_only", "mcp-2x")
TASKS = TasksFixture("tasks/debug/mainstay-tasks-fixture")

PATHS = {"http": "/mcp", "sse": "/sse"}


class Stand:
    """One fixture, and one Mainstay before it unless the run is direct. Owns nothing that outlives `close`."""

    def __init__(self, tools: Tools, processes: Processes, folder: pathlib.Path) -> None:
        self.tools = tools
        self.processes = processes
        self.folder = folder
        self.gateway: Gateway | None = None

    def listening(self, fixture: Fixture | TasksFixture, transport: str) -> str:
        """Starts the fixture on a port of its own and returns its URL."""
        port = free_port()
        argv = [*fixture.command(self.tools, transport), str(port)]
        log = open(self.folder / "fixture.log", "a")
        env = {**os.environ, **self._env(fixture)}
        self.processes.start(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        wait_until(lambda: listens(port), START_SECONDS, f"a fixture on port {port}")
        return f"http://127.0.0.1:{port}{PATHS[transport]}"

    def entry(self, fixture: Fixture | TasksFixture, transport: str) -> dict:
        if transport == "stdio":
            command, *args = fixture.command(self.tools, transport)
            entry = {"command": command, "args": args, "env": self._env(fixture)}
            if fixture == LEGACY_PLUS:
                # The suite wants the first answer to a client with these capabilities within 600 ms, and this fixture takes
                # longer than that to start: its connection is one that stands ready.
                entry["connections"] = {"keep": [{"elicitation": {}}]}
            return entry
        return {"type": transport, "url": self.listening(fixture, transport)}

    def through_mainstay(self, entry: dict, ready: Callable[[Gateway], bool] | None = None) -> str:
        """Starts Mainstay with this one server, waits for it, and returns the server's own URL."""
        self.gateway = gateway = Gateway(
            self.processes, self.tools.mainstay, {"mcpServers": {NAME: entry}}, self.folder
        )
        gateway.start(None if ready is None else lambda: ready(gateway))
        return self.gateway.server_url(NAME)

    def _env(self, fixture: Fixture | TasksFixture) -> dict[str, str]:
        return {**fixture.env(self.tools), MARK: self.tools.run}

    def close(self) -> None:
        """Ends Mainstay as a user would, so that it ends its servers; what is left is killed by the caller."""
        if not self.gateway:
            return
        try:
            if self.gateway.process and self.gateway.process.poll() is None:
                self.gateway.terminate(STOP_SECONDS)
        except Broken:
            pass  # The caller kills it; that it would not end is the interop run's check.
        self.gateway.clean()
