"""The line protocol that the two Python client sessions share. It knows no MCP package."""

import asyncio
import json
import sys
from typing import Any, Protocol

# How long one call may take before the client itself gives up. Longer than any recovery
# that the run expects, so that a client's own limit never decides a check.
CALL_SECONDS = 60


# A target that begins like this is no URL but a command to speak to over its stdin and stdout, as a JSON array.
STDIO = "stdio:"


def command_of(target: str) -> list[str] | None:
    """The command in a target; `None` if it is a URL."""
    return json.loads(target.removeprefix(STDIO)) if target.startswith(STDIO) else None


class Session(Protocol):
    """What `serve` needs of a connected session."""

    protocol: str

    async def list_tools(self) -> list[str]: ...

    async def call_tool(self, name: str, arguments: dict) -> dict: ...


def tool_result(is_error: bool, content: list[Any]) -> dict:
    """The answer to a call: whether the tool reports an error, and the text it returned."""
    text = "".join(getattr(block, "text", "") for block in content)
    return {"isError": bool(is_error), "text": text}


def answer(**members: Any) -> None:
    print(json.dumps(members), flush=True)


async def serve(session: Session) -> None:
    """Reads commands until `close` or the end of stdin; an error answers its command only."""
    answer(ok=True, protocol=session.protocol)
    loop = asyncio.get_running_loop()
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        command = json.loads(line) if line.strip() else {"op": "close"}
        try:
            if command["op"] == "list":
                answer(ok=True, tools=await session.list_tools())
            elif command["op"] == "call":
                answer(ok=True, **await session.call_tool(command["name"], command["arguments"]))
            elif command["op"] == "close":
                return
            else:
                answer(ok=False, error=f"unknown op {command['op']!r}")
        except Exception as error:  # noqa: BLE001: every failure is an answer
            answer(ok=False, error=f"{type(error).__name__}: {error}")
