"""The clients under test. Each takes a URL, or a command to speak to over pipes, and nothing else that is Mainstay's."""

import json
import pathlib
import queue
import subprocess
import threading
from dataclasses import dataclass

from checks import Broken
from processes import Processes, kill_group

LEGACY = "2025-11-25"
MODERN = "2026-07-28"

# A client under test gives up on a call after 60 s; we wait a little longer for its word.
ANSWER_SECONDS = 75


@dataclass(frozen=True)
class Tools:
    """Where the installed software is, and how to start what belongs to it."""

    root: pathlib.Path
    interop: pathlib.Path
    node: str

    def python(self, env: str) -> str:
        return str(self.root / env / "bin" / "python")

    def npm(self, path: str) -> str:
        return str(self.root / "npm" / "node_modules" / "@modelcontextprotocol" / path)


@dataclass(frozen=True)
class Client:
    """A kind of client that keeps one session, and the newest revision that it speaks."""

    name: str
    argv: tuple[str, ...]
    revision: str


def clients(tools: Tools) -> list[Client]:
    python = tools.interop / "clients"
    node = tools.root / "npm" / "clients"
    return [
        Client("python-1.x", (tools.python("client-1x"), str(python / "python_1x.py")), LEGACY),
        Client("python-2.x", (tools.python("client-2x"), str(python / "python_2x.py")), MODERN),
        Client("typescript-1.x", (tools.node, str(node / "typescript_1x.mjs")), LEGACY),
        Client("typescript-2.x", (tools.node, str(node / "typescript_2x.mjs")), MODERN),
    ]


class Session:
    """One connected session in a process of its own, steered by lines of JSON."""

    def __init__(self, processes: Processes, client: Client, url: str, path: str, log) -> None:
        self.client = client
        self.label = f"{client.name} {path}"
        self.path = path
        self.lines: queue.Queue[str] = queue.Queue(maxsize=16)
        self.process = processes.start(
            [*client.argv, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def tell(self, **command) -> None:
        """Sends a command without waiting for its answer."""
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # `answer` finds the end of the output and says so.

    def answer(self) -> dict:
        """The next answer as it came, whether it is good or bad."""
        try:
            line = self.lines.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            raise Broken(f"no answer from the client within {ANSWER_SECONDS} s") from None
        if not line:
            self.lines.put("")  # The end stays the end for the next one who asks.
            raise Broken("the client's process ended")
        return json.loads(line)

    def good_answer(self) -> dict:
        answer = self.answer()
        if not answer["ok"]:
            raise Broken(answer["error"])
        if answer.get("isError"):
            raise Broken(f"the tool reports an error: {answer['text']}")
        return answer

    def list_tools(self) -> list[str]:
        self.tell(op="list")
        return self.good_answer()["tools"]

    def call_tool(self, name: str, arguments: dict) -> str:
        self.tell(op="call", name=name, arguments=arguments)
        return self.good_answer()["text"]

    def close(self) -> None:
        """Lets the client take its leave; what does not go is killed."""
        self.tell(op="close")
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            pass
        kill_group(self.process)


class Inspector:
    """The MCP Inspector's command line: every use is a whole session."""

    name = "inspector"

    def __init__(self, processes: Processes, tools: Tools, home: pathlib.Path, log) -> None:
        self.processes = processes
        self.home = home
        self.log = log
        launcher = tools.npm("inspector/clients/launcher/build/index.js")
        self.argv = [tools.node, launcher, "--cli"]

    def _run(self, url: str, *words: str) -> dict:
        process = self.processes.start(
            [*self.argv, url, "--transport", "http", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.home)},
        )
        try:
            out, _ = process.communicate(timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            kill_group(process)
            raise Broken(f"did not end within {ANSWER_SECONDS} s") from None
        if process.returncode != 0:
            raise Broken(f"exit status {process.returncode}; see {self.log.name}")
        return json.loads(out)

    def list_tools(self, url: str) -> list[str]:
        return [tool["name"] for tool in self._run(url, "--method", "tools/list")["tools"]]

    def call_tool(self, url: str, name: str, arguments: dict) -> str:
        words = ["--method", "tools/call", "--tool-name", name]
        for key, value in arguments.items():
            text = value if isinstance(value, str) else json.dumps(value)
            words += ["--tool-arg", f"{key}={text}"]
        result = self._run(url, *words)
        text = "".join(block.get("text", "") for block in result["content"])
        if result.get("isError"):
            raise Broken(f"the tool reports an error: {text}")
        return text
