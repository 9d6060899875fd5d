"""A small MCP client over streamable HTTP, of either era. It reads and writes raw JSON, so that it hides nothing.

It does what a careful client has to: it repeats in headers what has to be there, it answers questions of the server (by
accepting, with the defaults of the form), it echoes a request state, and it takes JSON and event streams alike.
"""

import base64
import http.client
import itertools
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator

LEGACY = "2025-11-25"
MODERN = "2026-07-28"

ANSWER_SECONDS = 25
ROUNDS = 10

NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
PLAIN = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
ENCODED = re.compile(r"=\?base64\?.*\?=")

CAPABILITIES = {"elicitation": {"form": {}}, "sampling": {}, "roots": {}}
INFO = {"name": "conformance-driver", "version": "0"}


class Refused(Exception):
    """The server answered with an error, or with none at all."""


def header_value(value: object) -> str:
    """The text of an argument as a header carries it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if not text or PLAIN.fullmatch(text) and not ENCODED.fullmatch(text):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def annotated(schema: dict, arguments: dict) -> Iterator[tuple[str, str]]:
    """The `Mcp-Param-*` headers that a tool's schema asks for."""
    for name, entry in (schema.get("properties") or {}).items():
        value = arguments.get(name)
        if not isinstance(entry, dict) or value is None:
            continue
        if "x-mcp-header" in entry:
            yield f"Mcp-Param-{entry['x-mcp-header']}", header_value(value)
        elif isinstance(value, dict):
            yield from annotated(entry, value)


def answer_to(method: str, params: dict) -> dict:
    """What this client says to a question of the server."""
    if method == "elicitation/create":
        properties = params.get("requestedSchema", {}).get("properties", {})
        return {"action": "accept", "content": {name: filled(entry) for name, entry in properties.items()}}
    if method == "sampling/createMessage":
        content = {"type": "text", "text": "an answer"}
        return {"role": "assistant", "content": content, "model": "none", "stopReason": "endTurn"}
    if method == "roots/list":
        return {"roots": []}
    raise Refused(f"the server asks for {method}")


def filled(schema: dict) -> object:
    """Something that a property may hold: its default if it has one."""
    if "default" in schema:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    kinds = {"string": "text", "integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}
    return kinds.get(schema.get("type"), "text")


class Client:
    """One client of one server. `close` ends the session, where there is one."""

    def __init__(self, url: str, revision: str, declared: dict | None = None) -> None:
        parts = urllib.parse.urlsplit(url)
        self.address = (parts.hostname, parts.port)
        self.path = parts.path
        self.modern = revision == MODERN
        self.declared = CAPABILITIES if declared is None else declared
        self.ids = itertools.count(1)
        self.session: str | None = None
        self.schemas: dict[str, dict] = {}
        self.capabilities = self._open()

    def _open(self) -> dict:
        if self.modern:
            return self.ask("server/discover", {})["capabilities"]
        opening = {"protocolVersion": LEGACY, "capabilities": self.declared, "clientInfo": INFO}
        opened = self.ask("initialize", opening)
        self._post({"jsonrpc": "2.0", "method": "notifications/initialized"}, {}).close()
        return opened["capabilities"]

    def tools(self) -> list[dict]:
        tools = self.ask("tools/list", {})["tools"]
        self.schemas = {tool["name"]: tool.get("inputSchema") or {} for tool in tools}
        return tools

    def call(self, name: str, arguments: dict) -> dict:
        return self.ask("tools/call", {"name": name, "arguments": arguments})

    def ask(self, method: str, params: dict) -> dict:
        """The complete result, after as many rounds of questions as it takes."""
        given = params
        for _ in range(ROUNDS):
            result = self._request(method, given)
            if result.get("resultType") != "input_required":
                return result
            wanted = result.get("inputRequests") or {}
            answers = {key: answer_to(each["method"], each.get("params") or {}) for key, each in wanted.items()}
            given = {**params, "inputResponses": answers}
            if "requestState" in result:
                given["requestState"] = result["requestState"]
        raise Refused(f"{method}: still not complete after {ROUNDS} rounds")

    def _request(self, method: str, params: dict) -> dict:
        number = next(self.ids)
        headers = self._headers(method, params)
        if self.modern:
            stamp = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": INFO,
                "io.modelcontextprotocol/clientCapabilities": self.declared,
            }
            params = {**params, "_meta": stamp}
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        answer = self._post(request, headers)
        if method == "initialize":
            self.session = answer.getheader("mcp-session-id")
        for message in messages(answer):
            if message.get("id") == number and "method" not in message:
                if "result" not in message:
                    raise Refused(f"{method}: {message.get('error')}")
                return message["result"]
            if "method" in message and "id" in message:
                # Answered beside the stream, which goes on meanwhile.
                threading.Thread(target=self._reply, args=(message,), daemon=True).start()
        raise Refused(f"{method}: status {answer.status} and no answer")

    def _headers(self, method: str, params: dict) -> dict[str, str]:
        if not self.modern:
            return {}
        headers = {"Mcp-Method": method}
        if method in NAMED_BY:
            headers["Mcp-Name"] = header_value(params[NAMED_BY[method]])
        if method == "tools/call":
            headers.update(annotated(self.schemas.get(params["name"], {}), params.get("arguments") or {}))
        return headers

    def _reply(self, asked: dict) -> None:
        try:
            reply = {"result": answer_to(asked["method"], asked.get("params") or {})}
        except Refused as refused:
            reply = {"error": {"code": -32601, "message": str(refused)}}
        self._post({"jsonrpc": "2.0", "id": asked["id"], **reply}, {}).close()

    def _post(self, message: dict, headers: dict[str, str]) -> http.client.HTTPResponse:
        return self._send("POST", json.dumps(message, ensure_ascii=False).encode(), headers)

    def _send(self, method: str, body: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(*self.address, timeout=ANSWER_SECONDS)
        common = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if self.modern or self.session:
            common["MCP-Protocol-Version"] = MODERN if self.modern else LEGACY
        if self.session:
            common["Mcp-Session-Id"] = self.session
        connection.request(method, self.path, body, {**common, **headers})
        return connection.getresponse()

    def close(self) -> None:
        if self.session:
            self._send("DELETE", None, {}).close()


def messages(answer: http.client.HTTPResponse) -> Iterator[dict]:
    """The messages of an answer, as they come."""
    if not (answer.getheader("content-type") or "").startswith("text/event-stream"):
        body = answer.read()
        if body:
            yield json.loads(body)
        return
    data = []
    for line in answer:
        text = line.decode().rstrip("\r\n")
        if text.startswith("data:"):
            data.append(text[5:].lstrip())
        elif not text and data:
            event, data = "\n".join(data), []
            if event:
                yield json.loads(event)
