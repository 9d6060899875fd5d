"""A FastMCP server whose tools leave a mark that can be counted.

    fastmcp_server.py [http|sse PORT]

Speaks stdio, or streamable HTTP or HTTP+SSE on the given port. Every execution of `append_line` and
`slow_append` adds one line to the file that MAINSTAY_INTEROP_LEDGER names, so that the file
tells how often a call really ran, whatever the client was told. `start_helper` is what many
real servers do: a process of their own, which somebody has to end after them.
"""

import asyncio
import os
import subprocess
import sys

from fastmcp import FastMCP

server = FastMCP("ledger")


def append(marker: str) -> None:
    with open(os.environ["MAINSTAY_INTEROP_LEDGER"], "a", encoding="utf-8") as ledger:
        ledger.write(marker + "\n")


@server.tool
def append_line(marker: str) -> str:
    """Appends the marker to the ledger."""
    append(marker)
    return f"appended {marker}"


@server.tool
async def slow_append(marker: str, seconds: float) -> str:
    """Appends the marker to the ledger at once and answers only after the given time."""
    append(marker)
    await asyncio.sleep(seconds)
    return f"appended {marker} and waited {seconds} s"


@server.tool
def start_helper() -> str:
    """Starts a process that never ends by itself and keeps this server's stdout open."""
    return str(subprocess.Popen(["sleep", "86400"], stdin=subprocess.DEVNULL).pid)


if __name__ == "__main__":
    if sys.argv[1:2] in (["http"], ["sse"]):
        server.run(transport=sys.argv[1], host="127.0.0.1", port=int(sys.argv[2]), show_banner=False)
    else:
        server.run(show_banner=False)
