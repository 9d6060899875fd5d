"""The `mainstay serve` under test: starting it, asking it, ending it. All that knows its CLI."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable

from checks import Broken
from processes import Processes, free_port, wait_until

# The environment entry of Mainstay's own processes, helpers included. Servers get an
# allow-listed environment and so do not inherit it.
MARK = "MAINSTAY_INTEROP_GATEWAY"

READY_SECONDS = 60

# Between two questions for the status, each of which starts a process.
STATUS_PAUSE_SECONDS = 0.2
STATUS_SECONDS = 20


class Gateway:
    """One run of `mainstay serve`, kept away from the user's own files and sockets."""

    def __init__(self, processes: Processes, binary: str, config: dict, folder: pathlib.Path) -> None:
        self.processes = processes
        self.binary = binary
        self.folder = folder
        self.run = uuid.uuid4().hex
        # Not in the run's folder: a socket's path may have about a hundred characters only.
        self.runtime = tempfile.mkdtemp(prefix="mainstay-")
        self.config = folder / "mcp.json"
        self.config.write_text(json.dumps(config, indent=2) + "\n")
        self.port = free_port()
        self.log = open(folder / "mainstay.log", "a")
        self.process: subprocess.Popen | None = None

    @property
    def env(self) -> dict:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        folders = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CONFIG", "STATE", "DATA", "CACHE")}
        own = {"HOME": str(home), "XDG_RUNTIME_DIR": self.runtime, MARK: self.run}
        return {**os.environ, **folders, **own}

    @property
    def mark(self) -> str:
        return f"{MARK}={self.run}"

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def aggregate_url(self) -> str:
        return f"{self.base_url}/mcp"

    @property
    def stdio_target(self) -> str:
        """All servers over the pipes of a relay that attaches to this very Mainstay."""
        socket = f"{self.runtime}/mainstay/mainstay.sock"
        return "stdio:" + json.dumps([self.binary, "stdio", "--no-start", "--socket", socket])

    def server_url(self, name: str) -> str:
        return f"{self.base_url}/servers/{name}/mcp"

    def start(self, ready: Callable[[], bool] | None = None) -> None:
        """Starts it and waits until every server is there, or whatever else shall count as ready."""
        listen = f"127.0.0.1:{self.port}"
        argv = [self.binary, "serve", "--config", str(self.config), "--listen", listen]
        self.process = self.processes.start(
            argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=self.env
        )
        try:
            wait_until(ready or self.all_connected, READY_SECONDS, "every server connected", STATUS_PAUSE_SECONDS)
        except Broken as error:
            raise Broken(f"{error}; {self._states()}; the log ends with: {self._log_tail()}") from None

    def all_connected(self) -> bool:
        if self.process.poll() is not None:
            raise Broken(f"mainstay ended with exit status {self.process.returncode}")
        if not self.answers("/healthz"):
            return False
        try:
            servers = self.status()
        except Broken:
            return False  # Not listening on its socket yet; `_states` tells if it never does.
        return bool(servers) and all(server["state"] == "connected" for server in servers.values())

    def _states(self) -> str:
        try:
            return ", ".join(f"{name} is {server['state']}" for name, server in self.status().items())
        except Broken as error:
            return str(error)

    def _log_tail(self) -> str:
        lines = pathlib.Path(self.log.name).read_text(errors="replace").splitlines()
        return " / ".join(lines[-5:]) or "(nothing)"

    def answers(self, path: str) -> bool:
        """Whether a GET of this path has status 200."""
        try:
            with urllib.request.urlopen(self.base_url + path, timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def status(self) -> dict[str, dict]:
        """What `mainstay status --json` says, by server."""
        result = subprocess.run(
            [self.binary, "status", "--json"], env=self.env, capture_output=True, text=True, timeout=STATUS_SECONDS
        )
        try:
            document = json.loads(result.stdout)
        except json.JSONDecodeError:
            raise Broken(f"mainstay status --json: exit {result.returncode}: {result.stderr.strip()[:300]}") from None
        servers = document["servers"] if isinstance(document, dict) else document
        return {server["name"]: server for server in servers}

    def terminate(self, seconds: float) -> int:
        """SIGTERM, and the exit status once it is gone."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Broken(f"mainstay still runs {seconds:g} s after SIGTERM") from None

    def kill(self) -> None:
        """SIGKILL to Mainstay's process alone: what becomes of its children is its own affair."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def clean(self) -> None:
        shutil.rmtree(self.runtime, ignore_errors=True)
