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
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "interop"))

from client import Client, Refused, filled  # noqa: E402
from gateway import Gateway  # noqa: E402
from person import Person, auth_of  # noqa: E402
from processes import Processes  # noqa: E402
from upstream import MARK, Stand, Tools  # noqa: E402


# How long a server may take to be connected once somebody has signed in.
SETTLE_SECONDS = 8
PAUSE_SECONDS = 0.1


def connected_or_closed(gateway: Gateway) -> bool:
    """Whether the server is connected, or waits for somebody to sign in."""
    return gateway.answers("/healthz") and (
        Person(gateway.base_url).is_wanted() or gateway.all_connected()
    )


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


def signed_in(gateway: Gateway, person: Person) -> bool:
    """Whether the server is connected, once somebody has signed in as often as it wants."""
    while not gateway.all_connected():
        if not person.is_wanted() or not person.sign_in():
            return False
        until = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < until and not (gateway.all_connected() or person.is_wanted()):
            time.sleep(PAUSE_SECONDS)
    return True


def use(client: Client, context: dict, person: Person | None) -> None:
    for name, arguments in tried("tools/list", lambda: calls(client, context)) or []:
        answer = tried(name, lambda: client.call(name, arguments))
        while answer is None and person and person.sign_in():
            answer = tried(name, lambda: client.call(name, arguments))
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
        entry = {"type": "http", "url": url}
        person = None
        if scenario.startswith("auth/"):
            entry["auth"] = auth_of(scenario, context)
            own_url = stand.through_mainstay(entry, connected_or_closed)
            person = Person(stand.gateway.base_url)
            if not signed_in(stand.gateway, person):
                print("nobody could sign in", file=sys.stderr)
                return
        else:
            own_url = stand.through_mainstay(entry)
        client = Client(own_url, revision)
        use(client, context, person)
        client.close()
    finally:
        stand.close()
        processes.end_all()


if __name__ == "__main__":
    main()
