"""The servers behind Mainstay: how they are configured, called, and known to have run."""

import itertools
import json
import os
import pathlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from checks import Broken
from processes import Processes, free_port, kill_group, listens, wait_until
from sessions import Tools

# The environment entry by which a server's processes are found. It is set in the config of
# the stdio servers only: what Mainstay started is exactly what carries it.
MARK = "MAINSTAY_INTEROP_RUN"

START_SECONDS = 60


@dataclass(frozen=True)
class Probe:
    """A tool call, and what proves that it really ran: raises `Broken` otherwise."""

    tool: str
    arguments: dict
    verify: Callable[[str], None]


@dataclass(frozen=True)
class Server:
    """A configured server. `probe(marker)` makes a call that no other call resembles."""

    name: str
    entry: dict
    probe: Callable[[str], Probe]
    http: "HttpServer | None" = None
    # Whether calls may run side by side. The memory server reads, changes and writes its one
    # file without a lock, so parallel calls lose each other's effect, Mainstay or not.
    parallel: bool = True

    def exposed(self, tool: str) -> str:
        return f"{self.name}__{tool}"


class HttpServer:
    """A server that this run starts itself, always on the same port."""

    def __init__(self, processes: Processes, argv: Callable[[int], list[str]], log, env=None, path="/mcp") -> None:
        self.processes = processes
        self.path = path
        self.port = free_port()
        self.argv = argv(self.port)
        self.env = {**os.environ, "PORT": str(self.port), **(env or {})}
        self.log = log
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    def launch(self) -> None:
        """Starts the process and does not wait for it."""
        self.process = self.processes.start(
            self.argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=self.env
        )

    def start(self) -> None:
        self.launch()
        wait_until(lambda: listens(self.port), START_SECONDS, f"a server on port {self.port}")

    def kill(self) -> None:
        kill_group(self.process)


class Ledger:
    """The file to which every execution of a tool with a side effect adds its marker."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        path.touch()

    def count(self, marker: str) -> int:
        return self.path.read_text().splitlines().count(marker)

    def expect_once(self, marker: str) -> None:
        if (count := self.count(marker)) != 1:
            raise Broken(f"executed {count} times instead of once")


def contains(*words: str) -> Callable[[str], None]:
    def verify(text: str) -> None:
        for word in words:
            if word not in text:
                raise Broken(f"{word!r} is not in the answer {text[:200]!r}")

    return verify


class Fleet:
    """All servers of one run, with what they leave behind in the run's folder."""

    def __init__(self, tools: Tools, processes: Processes, folder: pathlib.Path, run: str) -> None:
        self.tools = tools
        self.folder = folder
        self.env = {MARK: run}
        self.files = folder / "files"
        self.files.mkdir()
        self.memory = folder / "memory.jsonl"
        self.repo = folder / "repo"
        make_repository(self.repo)
        self.ledger = Ledger(folder / "ledger.txt")
        self.serial = itertools.count(1)
        self.servers = [
            *self._stdio_servers(),
            self._everything_http(processes),
            self._ledger_http(processes),
            self._everything_sse(processes),
            self._ledger_sse(processes),
        ]

    def marker(self, hint: str) -> str:
        """A word that no other call of this run carries."""
        plain = "".join(letter if letter.isalnum() else "-" for letter in hint)
        return f"m{next(self.serial)}-{plain}"

    def start(self) -> None:
        for server in self.servers:
            if server.http:
                server.http.start()

    def named(self, name: str) -> Server:
        return next(server for server in self.servers if server.name == name)

    def config(self) -> dict:
        """A plain `mcpServers` file, as any client has it."""
        return {"mcpServers": {server.name: server.entry for server in self.servers}}

    def _stdio_servers(self) -> list[Server]:
        node, files = self.tools.node, str(self.files)
        everything = self.tools.npm("server-everything/dist/index.js")
        filesystem = self.tools.npm("server-filesystem/dist/index.js")
        memory = self.tools.npm("server-memory/dist/index.js")
        python = self.tools.python("servers")
        ledger = [str(self.tools.interop / "fastmcp_server.py")]
        memory_env = {"MEMORY_FILE_PATH": str(self.memory)}
        return [
            Server("everything", self._entry(node, [everything, "stdio"]), probe_echo),
            Server("filesystem", self._entry(node, [filesystem, files]), self._probe_write),
            Server("memory", self._entry(node, [memory], memory_env), self._probe_memory, parallel=False),
            Server("time", self._entry(python, ["-m", "mcp_server_time"]), probe_time),
            Server("git", self._entry(python, ["-m", "mcp_server_git"]), self._probe_git),
            Server("ledger", self._entry(python, ledger, self._ledger_env()), self._probe_append),
        ]

    def _entry(self, command: str, args: list[str], env: dict | None = None) -> dict:
        return {"command": command, "args": args, "env": {**self.env, **(env or {})}}

    def _ledger_env(self) -> dict:
        return {"MAINSTAY_INTEROP_LEDGER": str(self.ledger.path)}

    def _everything_http(self, processes: Processes) -> Server:
        script = self.tools.npm("server-everything/dist/index.js")
        argv = [self.tools.node, script, "streamableHttp"]
        log = open(self.folder / "everything-http.log", "w")
        http = HttpServer(processes, lambda _port: argv, log)
        entry = {"type": "http", "url": http.url}
        return Server("everything-http", entry, probe_echo, http)

    def _ledger_http(self, processes: Processes) -> Server:
        script = str(self.tools.interop / "fastmcp_server.py")
        python = self.tools.python("servers")
        log = open(self.folder / "ledger-http.log", "w")
        argv = lambda port: [python, script, "http", str(port)]  # noqa: E731
        http = HttpServer(processes, argv, log, self._ledger_env())
        entry = {"type": "http", "url": http.url}
        return Server("ledger-http", entry, self._probe_append, http)

    def _everything_sse(self, processes: Processes) -> Server:
        """HTTP+SSE of 2024-11-05, which Mainstay has to find out by itself."""
        script = self.tools.npm("server-everything/dist/index.js")
        argv = [self.tools.node, script, "sse"]
        log = open(self.folder / "everything-sse.log", "w")
        http = HttpServer(processes, lambda _port: argv, log, path="/sse")
        return Server("everything-sse", {"url": http.url}, probe_echo, http)

    def _ledger_sse(self, processes: Processes) -> Server:
        """HTTP+SSE of 2024-11-05, as the config says."""
        script = str(self.tools.interop / "fastmcp_server.py")
        python = self.tools.python("servers")
        log = open(self.folder / "ledger-sse.log", "w")
        argv = lambda port: [python, script, "sse", str(port)]  # noqa: E731
        http = HttpServer(processes, argv, log, self._ledger_env(), path="/sse")
        return Server("ledger-sse", {"type": "sse", "url": http.url}, self._probe_append, http)

    def _probe_write(self, marker: str) -> Probe:
        path = self.files / f"{marker}.txt"

        def verify(_text: str) -> None:
            if path.read_text() != marker:
                raise Broken(f"{path} holds {path.read_text()!r}")

        return Probe("write_file", {"path": str(path), "content": marker}, verify)

    def _probe_memory(self, marker: str) -> Probe:
        entity = {"name": marker, "entityType": "check", "observations": ["was here"]}

        def verify(_text: str) -> None:
            lines = [json.loads(line) for line in self.memory.read_text().splitlines()]
            if sum(line["name"] == marker for line in lines) != 1:
                raise Broken(f"{self.memory} does not hold {marker} once")

        return Probe("create_entities", {"entities": [entity]}, verify)

    def _probe_git(self, _marker: str) -> Probe:
        return Probe("git_log", {"repo_path": str(self.repo)}, contains("the only commit"))

    def _probe_append(self, marker: str) -> Probe:
        def verify(text: str) -> None:
            contains(marker)(text)
            self.ledger.expect_once(marker)

        return Probe("append_line", {"marker": marker}, verify)


def probe_echo(marker: str) -> Probe:
    return Probe("echo", {"message": marker}, contains(f"Echo: {marker}"))


def probe_time(_marker: str) -> Probe:
    return Probe("get_current_time", {"timezone": "UTC"}, contains("UTC", "datetime"))


def make_repository(path: pathlib.Path) -> None:
    """A git repository with one commit, whatever the user's own git settings are."""
    identity = ["-c", "user.name=interop", "-c", "user.email=interop@example.invalid"]
    commit = ["commit", "--quiet", "--allow-empty", "--message", "the only commit"]
    plain = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        plain.pop(name, None)  # Set when a git hook runs us; they would point elsewhere.
    subprocess.run(["git", "init", "--quiet", str(path)], check=True, env=plain)
    subprocess.run(["git", "-C", str(path), *identity, *commit], check=True, env=plain)
