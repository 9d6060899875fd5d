"""One session of the official Python client, 1.x line, steered by lines of JSON on stdin.

    python_1x.py URL|stdio:[COMMAND, ...]

Commands are `{"op": "list"}`, `{"op": "call", "name": ..., "arguments": {...}}` and
`{"op": "close"}`. Every line of stdout is one answer: `{"ok": true, ...}` or
`{"ok": false, "error": ...}`; the first is the answer to connecting. The same session
serves every command, which is the point: nothing here ever reconnects on its own.
"""

import asyncio
import sys
from datetime import timedelta

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client

from session_lines import CALL_SECONDS, command_of, serve, tool_result


class Session:
    """The commands of `session_lines.serve` on one `ClientSession`."""

    def __init__(self, session: ClientSession, protocol: str) -> None:
        self.session = session
        self.protocol = protocol

    async def list_tools(self) -> list[str]:
        names: list[str] = []
        cursor = None
        while True:
            page = await self.session.list_tools(cursor=cursor)
            names += [tool.name for tool in page.tools]
            cursor = page.nextCursor
            if cursor is None:
                return names

    async def call_tool(self, name: str, arguments: dict) -> dict:
        result = await self.session.call_tool(
            name, arguments, read_timeout_seconds=timedelta(seconds=CALL_SECONDS)
        )
        return tool_result(result.isError, result.content)


async def main(target: str) -> None:
    if command := command_of(target):
        transport = stdio_client(StdioServerParameters(command=command[0], args=command[1:]))
    else:
        transport = streamablehttp_client(target)
    async with transport as (read, write, *_session_id):
        async with ClientSession(read, write) as session:
            hello = await session.initialize()
            await serve(Session(session, str(hello.protocolVersion)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
