"""What is proven, in order. Every function makes checks and leaves the run able to go on."""

import os
import pathlib
import signal
from collections.abc import Callable

from checks import Broken, Checks, note
from gateway import STATUS_PAUSE_SECONDS, Gateway
from processes import Processes, gone, in_groups, marked, wait_until
from servers import MARK, Fleet, Probe, Server
from sessions import Client, Inspector, Session, Tools, clients

# Generous: they bound a hang, they measure nothing.
NOTICE_SECONDS = 30
RECOVER_SECONDS = 60
STOP_SECONDS = 40
SWEEP_SECONDS = 20

# A call that is still at its server when the server is killed.
IN_FLIGHT_SECONDS = 90


class Bench:
    """What every phase needs: the checks, the fleet, the gateway and the clients."""

    def __init__(self, tools: Tools, folder: pathlib.Path, fleet: Fleet, processes: Processes) -> None:
        self.checks = Checks()
        self.fleet = fleet
        self.processes = processes
        self.log = open(folder / "clients.log", "w")
        self.clients = clients(tools)
        home = folder / "inspector-home"
        home.mkdir()
        self.inspector = Inspector(processes, tools, home, self.log)

    def open_all(self, url: str, path: str, revision: Callable[[Client], str]) -> list[Session]:
        """One session of every client, opened side by side; those that did not open are failed checks."""
        waiting = [Session(self.processes, client, url, path, self.log) for client in self.clients]
        opened = []
        for session in waiting:
            expected = revision(session.client)
            with self.checks.check(f"{session.label} opens with {expected}"):
                protocol = session.good_answer()["protocol"]
                if protocol != expected:
                    raise Broken(f"opened with {protocol}")
                opened.append(session)
        return opened

    def list_tools(self, session: Session, agrees: Callable[[list[str]], None]) -> None:
        with self.checks.check(f"{session.label} tools/list"):
            agrees(session.list_tools())

    def call_tool(self, session: Session, server: Server, when: str = "") -> None:
        """One call, checked by what it left behind."""
        self.call_all([session], server, when)

    def call_all(self, sessions: list[Session], server: Server, when: str, between: Callable[[], None] = bool) -> None:
        """The same kind of call in every session, at once if the server can take it.

        `between` runs after the calls are sent and before any answer is awaited.
        """
        for group in [sessions] if server.parallel else [[session] for session in sessions]:
            asked = [self._ask(session, server, when) for session in group]
            between()
            for session, probe, name in asked:
                with self.checks.check(f"{session.label} {name}{when}"):
                    probe.verify(session.good_answer()["text"])

    def _ask(self, session: Session, server: Server, when: str) -> tuple[Session, Probe, str]:
        probe = server.probe(self.fleet.marker(f"{session.label}{when}"))
        name = exposed(session, server, probe.tool)
        session.tell(op="call", name=name, arguments=probe.arguments)
        return session, probe, name


def exposed(session: Session, server: Server, tool: str) -> str:
    """A tool's name on the endpoint of this session."""
    return server.exposed(tool) if session.path in ("/mcp", "stdio") else tool


def newest(client: Client) -> str:
    """What Mainstay speaks with a client: the newest revision that the client has."""
    return client.revision


def has(*names: str) -> Callable[[list[str]], None]:
    def agrees(listed: list[str]) -> None:
        if missing := set(names) - set(listed):
            raise Broken(f"{sorted(missing)} missing in {sorted(listed)}")
        if len(set(listed)) != len(listed):
            raise Broken(f"names listed twice in {sorted(listed)}")

    return agrees


def tool_of(server: Server) -> str:
    return server.probe("unused").tool


def aggregate(bench: Bench, gateway: Gateway) -> list[Session]:
    """Every client lists all servers and calls each of them through `/mcp` and through `mainstay stdio`. Sessions stay open."""
    fleet, checks = bench.fleet, bench.checks
    everywhere = has(*(server.exposed(tool_of(server)) for server in fleet.servers))
    sessions = bench.open_all(gateway.aggregate_url, "/mcp", newest)
    sessions += bench.open_all(gateway.stdio_target, "stdio", newest)
    for session in sessions:
        bench.list_tools(session, everywhere)
        for server in fleet.servers:
            bench.call_tool(session, server)
    inspector_label = f"{bench.inspector.name} /mcp"
    with checks.check(f"{inspector_label} tools/list"):
        everywhere(bench.inspector.list_tools(gateway.aggregate_url))
    for server in fleet.servers:
        inspect_call(bench, gateway.aggregate_url, inspector_label, server, server.exposed)
    return sessions


def inspect_call(bench: Bench, url: str, label: str, server: Server, name: Callable[[str], str]) -> None:
    probe = server.probe(bench.fleet.marker(label))
    with bench.checks.check(f"{label} {name(probe.tool)}"):
        probe.verify(bench.inspector.call_tool(url, name(probe.tool), probe.arguments))


def one_server(bench: Bench, gateway: Gateway, server: Server, standing: list[Session]) -> None:
    """The server's own endpoint with every client, then its failures under all open sessions."""
    path = f"/servers/{server.name}/mcp"
    url = gateway.server_url(server.name)
    own = bench.open_all(url, path, newest)
    names: list[str] = []
    for session in own:
        bench.list_tools(session, has(tool_of(server)))
        bench.call_tool(session, server)
    label = f"{bench.inspector.name} {path}"
    with bench.checks.check(f"{label} tools/list"):
        names = bench.inspector.list_tools(url)
        has(tool_of(server))(names)
    inspect_call(bench, url, label, server, lambda tool: tool)
    same_tools(bench, server, standing, own)
    sessions = standing + own
    if server.http:
        restarted(bench, server, sessions)
        away(bench, server, sessions)
    else:
        killed(bench, gateway, server, sessions)
    if tool_of(server) == "append_line":
        in_flight(bench, gateway, server, sessions)
    for session in own:
        session.close()


def same_tools(bench: Bench, server: Server, standing: list[Session], own: list[Session]) -> None:
    """The aggregate has exactly the tools of the server's own endpoint, under their longer names."""
    if not standing or not own:
        return
    with bench.checks.check(f"{server.name}: /mcp and /servers/{server.name}/mcp list the same tools"):
        seen: list[set[str]] = []

        def agree() -> bool:
            here = {server.exposed(name) for name in own[0].list_tools()}
            there = {name for name in standing[0].list_tools() if name.startswith(server.exposed(""))}
            seen[:] = [here, there]
            return here == there

        # A server may announce a changed list at any time, so the two may differ for a moment.
        try:
            wait_until(agree, NOTICE_SECONDS, "equal")
        except Broken:
            raise Broken(f"only in one of them: {sorted(seen[0] ^ seen[1])}") from None


def killed(bench: Bench, gateway: Gateway, server: Server, sessions: list[Session]) -> None:
    """SIGKILL to the server's process; the next call of every session is answered."""
    helper = start_helper(bench, sessions) if server.name == "ledger" else None
    before = gateway.status()[server.name]
    sigkill(before["pid"])
    bench.call_all(sessions, server, " after SIGKILL")
    with bench.checks.check(f"{server.name} runs again as a newer generation"):
        now = connected_again(gateway, server)
        if now["pid"] == before["pid"] or now["generation"] <= before["generation"]:
            raise Broken(f"was {brief(before)}, is {brief(now)}")
    if helper:
        with bench.checks.check("the helper process of the killed ledger is gone"):
            wait_until(lambda: gone(helper), NOTICE_SECONDS, f"process {helper} gone")


def start_helper(bench: Bench, sessions: list[Session]) -> int | None:
    """Has the ledger start a process that outlives it and holds its stdout, and returns the pid.

    Whoever waits for the end of stdout to notice a death waits for ever, and whoever kills
    only the process that they started leaves this one behind.
    """
    ledger = bench.fleet.named("ledger")
    for session in sessions[:1]:
        name = exposed(session, ledger, "start_helper")
        with bench.checks.check(f"{session.label} {name}"):
            return int(session.call_tool(name, {}))
    return None


def sigkill(pid: int) -> None:
    """Kills a process that is not ours and waits until it is gone, pipes and all."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gone(pid), NOTICE_SECONDS, f"process {pid} gone")


def connected_again(gateway: Gateway, server: Server) -> dict:
    def connected() -> bool:
        return gateway.status()[server.name]["state"] == "connected"

    wait_until(connected, RECOVER_SECONDS, f"{server.name} connected", STATUS_PAUSE_SECONDS)
    return gateway.status()[server.name]


def brief(status: dict) -> str:
    return f"{status['state']}, pid {status.get('pid')}, generation {status['generation']}"


def restarted(bench: Bench, server: Server, sessions: list[Session]) -> None:
    """The HTTP server comes back with its sessions forgotten; the next calls are answered."""
    server.http.kill()
    server.http.start()
    bench.call_all(sessions, server, " after a restart")


def away(bench: Bench, server: Server, sessions: list[Session]) -> None:
    """Calls that are made while nothing listens on the server's port are answered, late."""
    server.http.kill()
    bench.call_all(sessions, server, " while it is away", between=server.http.start)


def in_flight(bench: Bench, gateway: Gateway, server: Server, sessions: list[Session]) -> None:
    """The server dies in the middle of calls that have had their effect: they fail, once each."""
    ledger = bench.fleet.ledger
    asked = []
    for session in sessions:
        marker = bench.fleet.marker(f"{session.label} in flight")
        arguments = {"marker": marker, "seconds": IN_FLIGHT_SECONDS}
        session.tell(op="call", name=exposed(session, server, "slow_append"), arguments=arguments)
        asked.append((session, marker))
    with bench.checks.check(f"{server.name} runs {len(asked)} slow calls at once"):
        wait_until(lambda: all(ledger.count(marker) for _, marker in asked), NOTICE_SECONDS, "all at the server")
    if server.http:
        server.http.kill()
        server.http.start()
    else:
        sigkill(gateway.status()[server.name]["pid"])
    for session, marker in asked:
        with bench.checks.check(f"{session.label} slow_append in flight is told that its end is unknown"):
            lost_call(session.answer())
    bench.call_all(sessions, server, " after a death in flight")
    for session, marker in asked:
        with bench.checks.check(f"{session.label} slow_append in flight ran once"):
            ledger.expect_once(marker)


def lost_call(answer: dict) -> None:
    """An answer to a call whose server died: a failure, with words."""
    if answer["ok"] and not answer["isError"]:
        raise Broken(f"answered as if it had succeeded: {answer['text']!r}")
    if len(answer.get("error") or answer.get("text") or "") < 10:
        raise Broken(f"no reason is given: {answer}")


def stopped(bench: Bench, gateway: Gateway, sessions: list[Session]) -> None:
    """SIGTERM with clients connected: it ends by itself, and so does everything it started."""
    start_helper(bench, sessions)
    marks, groups = ours(bench, gateway)
    with bench.checks.check("mainstay ends after SIGTERM with clients connected"):
        if status := gateway.terminate(STOP_SECONDS):
            raise Broken(f"exit status {status}")
    # What ended properly ended before Mainstay did, so this does not wait.
    nothing_left(bench, "after mainstay stopped", marks, groups, 0)
    for session in sessions:
        session.close()


def murdered(bench: Bench, gateway: Gateway) -> None:
    """SIGKILL to Mainstay itself: what it started goes too."""
    with bench.checks.check("mainstay starts again"):
        gateway.start()
    sessions = bench.open_all(gateway.aggregate_url, "/mcp", newest)
    start_helper(bench, sessions)
    marks, groups = ours(bench, gateway)
    gateway.kill()
    for session in sessions:
        session.close()
    nothing_left(bench, "after mainstay was killed with SIGKILL", marks, groups, SWEEP_SECONDS)


def ours(bench: Bench, gateway: Gateway) -> tuple[list[str], set[int]]:
    """How Mainstay's processes are recognised later; checks that they are recognised now."""
    server_mark = f"{MARK}={bench.fleet.env[MARK]}"
    found = marked(server_mark)
    wanted = sum(1 for server in bench.fleet.servers if not server.http)
    bench.checks.that(
        "every stdio server's process is found by its mark", len(found) >= wanted, f"{len(found)} of {wanted}: {found}"
    )
    groups = {seen.group for seen in marked(server_mark, gateway.mark)}
    return [server_mark, gateway.mark], groups


def nothing_left(bench: Bench, when: str, marks: list[str], groups: set[int], seconds: float) -> None:
    def left() -> list:
        return sorted(set(marked(*marks)) | set(in_groups(groups)), key=lambda seen: seen.pid)

    with bench.checks.check(f"no process is left {when}"):
        try:
            wait_until(lambda: not left(), seconds, "gone")
        except Broken:
            raise Broken(", ".join(str(seen) for seen in left())) from None


def direct(bench: Bench) -> None:
    """The clients with the HTTP servers alone, no Mainstay between: is it us, or is it them?"""
    spoken = {"everything-http": lambda _client: "2025-11-25", "ledger-http": newest}
    for server in (server for server in bench.fleet.servers if server.name in spoken):
        path = f"(direct) {server.name}"
        for session in bench.open_all(server.http.url, path, spoken[server.name]):
            bench.list_tools(session, has(tool_of(server)))
            bench.call_tool(session, server)
            session.close()
        label = f"{bench.inspector.name} {path}"
        with bench.checks.check(f"{label} tools/list"):
            has(tool_of(server))(bench.inspector.list_tools(server.http.url))
        inspect_call(bench, server.http.url, label, server, lambda tool: tool)


def through_mainstay(bench: Bench, gateway: Gateway) -> None:
    """All of it, through one running Mainstay; and at the end through one that is killed."""
    with bench.checks.check("mainstay connects all servers"):
        gateway.start()
    if bench.checks.failed:
        note("mainstay did not start, so nothing else can be checked")
        return
    bench.checks.that("/readyz is ready", gateway.answers("/readyz"), "no status 200")
    standing = aggregate(bench, gateway)
    for server in bench.fleet.servers:
        one_server(bench, gateway, server, standing)
    stopped(bench, gateway, standing)
    murdered(bench, gateway)

