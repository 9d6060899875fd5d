"""The client command of leg G: the suite's mock server <- mainstay <- a client that uses everything it is offered.

    driver.py MAINSTAY FOLDER URL

The suite adds the URL of its mock server and tells the scenario and the revision in the environment. Ends with status 0
even if a call is refused: what matters is what the mock server saw, and that is for the suite to judge.
"""

import json
import os
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "interop"))

from client import Client, Refused, filled  # noqa: E402
from processes import Processes  # noqa: E402
from upstream import MARK, Stand, Tools  # noqa: E402


def arguments_of(tool: dict) -> dict:
    """What the schema lets a caller say, each property once."""
    properties = (tool.get("inputSchema") or {}).get("properties") or {}
    return {name: filled(entry) for name, entry in properties.items()}


def calls(client: Client, context: dict) -> list[tuple[str, dict]]:
    """The calls that the scenario names, or one of every tool; a tool that takes a schema gets one of another tool."""
    tools = client.tools()
    if named := context.get("toolCalls"):
        return [(call["name"], call["arguments"]) for call in named]
    planned = []
    for tool in tools:
        arguments = arguments_of(tool)
        if "schema" in arguments:
            arguments["schema"] = next(other["inputSchema"] for other in tools if other is not tool)
        planned.append((tool["name"], arguments))
    return planned


def tried(what: str, action) -> object | None:
    try:
        return action()
    except Refused as refused:
        print(f"{what}: {refused}", file=sys.stderr)
        return None


def use(client: Client, context: dict) -> None:
    for name, arguments in tried("tools/list", lambda: calls(client, context)) or []:
        tried(name, lambda: client.call(name, arguments))
    if "resources" in client.capabilities:
        listed = tried("resources/list", lambda: client.ask("resources/list", {})) or {"resources": []}
        for entry in listed["resources"]:
            tried(entry["uri"], lambda: client.ask("resources/read", {"uri": entry["uri"]}))
    if "prompts" in client.capabilities:
        listed = tried("prompts/list", lambda: client.ask("prompts/list", {})) or {"prompts": []}
        for entry in listed["prompts"]:
            tried(entry["name"], lambda: client.ask("prompts/get", {"name": entry["name"]}))


def main() -> None:
    mainstay, folder, url = sys.argv[1:]
    scenario = os.environ["MCP_CONFORMANCE_SCENARIO"]
    revision = os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    place = pathlib.Path(tempfile.mkdtemp(prefix=f"{scenario.replace('/', '-')}-", dir=folder))
    processes = Processes()
    stand = Stand(Tools(place, place, mainstay, os.environ.get(MARK, ""), place), processes, place)
    try:
        client = Client(stand.through_mainstay({"type": "http", "url": url}), revision)
        use(client, context)
        client.close()
    finally:
        stand.close()
        processes.end_all()


if __name__ == "__main__":
    main()
