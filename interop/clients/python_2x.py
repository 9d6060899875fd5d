"""One session of the official Python client, 2.x line, steered by lines of JSON on stdin.

    python_2x.py URL|stdio:[COMMAND, ...] [auto|legacy|2026-07-28]

The commands and answers are those of `python_1x.py`. The second argument chooses how the
client opens: `auto` (its default) discovers first and falls back to `initialize`.
"""

import asyncio
import sys

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from session_lines import CALL_SECONDS, command_of, serve, tool_result


class Session:
    """The commands of `session_lines.serve` on one `Client`."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.protocol = client.protocol_version

    async def list_tools(self) -> list[str]:
        names: list[str] = []
        cursor = None
        while True:
            page = await self.client.list_tools(cursor=cursor)
            names += [tool.name for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                return names

    async def call_tool(self, name: str, arguments: dict) -> dict:
        result = await self.client.call_tool(
            name, arguments, read_timeout_seconds=CALL_SECONDS
        )
        return tool_result(result.is_error, result.content)


async def main(target: str, mode: str) -> None:
    command = command_of(target)
    server = stdio_client(StdioServerParameters(command=command[0], args=command[1:])) if command else target
    async with Client(server, mode=mode) as client:
        await serve(Session(client))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "auto"))
