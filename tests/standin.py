"""A stand-in for the providers of language models: a real HTTP server on this machine that plays a script.

Takes replies (`standin([Reply("hello")])`, or a function from the request's JSON to one) and serves them as
/v1/messages, /v1/responses or /v1/chat/completions, as JSON or as a stream, faults included; gives its address
and the requests that it saw. By hand: `python -m tests.standin --script replies.jsonl --port 0` prints the address.
"""

import argparse
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.standin_wires import Json, Reply, Wire, error_json, events, reply_of, whole

Script = Sequence[Reply] | Callable[[Json], Reply]
Count = Callable[[Json], int | Reply]
ENDS: dict[str, Wire] = {"/messages": "messages", "/responses": "responses", "/chat/completions": "chat"}
COUNTS: dict[str, Wire] = {"/messages/count_tokens": "messages", "/responses/input_tokens": "responses"}


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in small letters."""
    body: Json
    """Empty where it was no JSON object."""
    wire: Wire | None
    """Which wire asked for an answer; None: it asked for something else (a count, the models)."""
    at: float
    """`time.monotonic()`."""


def quarter(body: Json) -> int:
    """A count of tokens that needs no tokenizer: a quarter of the bytes."""
    return len(json.dumps(body).encode()) // 4


@dataclass
class Standin:
    """The server while it runs. Threads may look at it."""

    script: Script
    count: Count = quarter
    key: str | None = None
    """The only key that is let in, by x-api-key or as a bearer; None: all are."""
    models: tuple[str, ...] = ("stand-in",)
    url: str = ""
    requests: list[Seen] = field(default_factory=list)
    """All of them, in order."""
    played: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    closed: threading.Event = field(default_factory=threading.Event)

    @property
    def asked(self) -> list[Seen]:
        """Those that asked for an answer."""
        return [seen for seen in self.requests if seen.wire]

    def next(self, body: Json) -> tuple[Reply, int]:
        """The reply to a request, and which it is, from 1. One request after the other is answered."""
        self.played += 1
        number = self.played
        if not callable(self.script):
            if number > len(self.script):
                return Reply(status=400, kind="invalid_request_error", error="the script has no more replies"), number
            return self.script[number - 1], number
        try:
            return self.script(body), number
        except Exception as error:  # a script's own fault must be seen by whoever asked
            return Reply(status=400, kind="invalid_request_error", error=f"the script failed: {error!r}"), number


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    standin: Standin

    def do_GET(self) -> None:
        path = self._see(None).path
        rows = [{"id": name, "object": "model", "type": "model", "display_name": name} for name in self.standin.models]
        if path.endswith("/models"):
            self._json(200, {"object": "list", "data": rows, "models": [], "has_more": False})
        elif "/models/" in path:
            found = [row for row in rows if row["id"] == path.split("/models/")[1]]
            self._json(200, found[0]) if found else self._refuse("chat", 404, "not_found_error", "no such model")
        else:
            self._json(200, {})

    def do_HEAD(self) -> None:
        self._see(None)
        self._head(200, {"content-length": "0"})

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        counting = next((wire for end, wire in COUNTS.items() if path.endswith(end)), None)
        wire = None if counting else next((wire for end, wire in ENDS.items() if path.endswith(end)), None)
        with self.standin.lock:
            seen = self._see(wire)
            given = seen.headers.get("x-api-key") or seen.headers.get("authorization", "").removeprefix("Bearer ")
            if self.standin.key is not None and given != self.standin.key:
                reply, number = Reply(status=401, kind="authentication_error", error=f"invalid key {given}"), 0
            elif counting:
                counted = self.standin.count(seen.body)
                reply, number = (counted, 0) if isinstance(counted, Reply) else (Reply(), counted)
            elif wire:
                reply, number = self.standin.next(seen.body)
            else:
                reply, number = Reply(status=404, kind="not_found_error", error=f"no such path {path}"), 0
        if self.standin.closed.wait(reply.wait_s) if reply.wait_s else False:
            return
        with suppress(ConnectionError):
            if reply.status != 200:
                self._refuse(wire or counting or "chat", reply.status, reply.kind, reply.error, dict(reply.headers))
            elif counting:
                self._json(200, {"input_tokens": number, "object": "response.input_tokens"})
            elif wire and seen.body.get("stream"):
                self._stream(reply, events(wire, reply, seen.body, number))
            elif wire:
                self._one(reply, json.dumps(whole(wire, reply, seen.body, number)).encode())

    def _see(self, wire: Wire | None) -> Seen:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        body: Any = None
        with suppress(ValueError):
            body = json.loads(raw)
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = self.path.partition("?")[0]
        body = body if isinstance(body, dict) else {}
        seen = Seen(self.command, path, headers, body, wire, time.monotonic())
        self.standin.requests.append(seen)
        return seen

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _json(self, status: int, body: Json, headers: dict[str, str] | None = None) -> None:
        raw = json.dumps(body).encode()
        self._head(status, {"content-type": "application/json", "content-length": str(len(raw)), **(headers or {})})
        self.wfile.write(raw)

    def _refuse(self, wire: Wire, status: int, kind: str, words: str, headers: dict[str, str] | None = None) -> None:
        self._json(status, error_json(wire, kind, words), headers)

    def _one(self, reply: Reply, raw: bytes) -> None:
        if reply.broken:
            raw = raw[: len(raw) // 2] + b"}}}" + raw[len(raw) // 2 :]
        headers = {"content-type": "application/json", "content-length": str(len(raw)), **reply.headers}
        self._head(200, headers)
        self._send(reply, [raw], lambda piece: piece)

    def _stream(self, reply: Reply, parts: list[bytes]) -> None:
        if reply.broken:
            middle = len(parts) // 2
            parts[middle] = parts[middle].replace(b"{", b'{"', 1)
        self._head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked", **reply.headers})
        if self._send(reply, parts, lambda piece: b"%x\r\n%s\r\n" % (len(piece), piece)):
            self.wfile.write(b"0\r\n\r\n")

    def _send(self, reply: Reply, parts: list[bytes], framed: Callable[[bytes], bytes]) -> bool:
        """Whether all was sent, as far as the reply's faults allow."""
        sent = 0
        for part in parts:
            for piece in _small(part, 16) if reply.drip_s else [part]:
                limits = [limit for limit in (reply.cut_after, reply.silent_after) if limit is not None]
                left = min(limits, default=sent + len(piece)) - sent
                if reply.drip_s and self.standin.closed.wait(reply.drip_s):
                    return False
                if piece[:left]:
                    self.wfile.write(framed(piece[:left]))
                    self.wfile.flush()
                sent += len(piece[:left])
                if left < len(piece) or (limits and sent == min(limits)):
                    self._break(reply)
                    return False
        return True

    def _break(self, reply: Reply) -> None:
        if reply.silent_after is not None:
            self.standin.closed.wait(600)
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests read what was seen."""


def _small(part: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(part), size):
        yield part[start : start + size]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what some tests want."""


@contextmanager
def standin(
    script: Script = (),
    *,
    count: Count = quarter,
    key: str | None = None,
    models: tuple[str, ...] = ("stand-in",),
    port: int = 0,
) -> Iterator[Standin]:
    """Serves the script on 127.0.0.1 until the block ends."""
    made = Standin(script, count, key, models)
    server = _Server(("127.0.0.1", port), type("OneHandler", (Handler,), {"standin": made}))
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()


# ---- What a script may want to know of a request, whatever the wire


def told(body: Json) -> str:
    """All that the model is told, in order, one piece a line."""
    said = [body.get("system"), body.get("instructions"), body.get("messages"), body.get("input")]
    return "\n".join(_texts(said))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name in ("text", "content", "output", "arguments", "tool_calls", "function"):
            yield from _texts(value.get(name))


def tools(body: Json) -> list[str]:
    """The names of the tools that the model may call; `space/name` where a client groups them."""
    found = []
    for one in body.get("tools") or []:
        name = one.get("name") or one.get("function", {}).get("name", "")
        inner = one.get("tools") if one.get("type") == "namespace" else None
        found += [name] if inner is None else [f"{name}/{tool['name']}" for tool in inner]
    return found


def results(body: Json) -> list[str]:
    """What tools have answered so far, in order."""
    found: list[str] = []
    for one in [*(body.get("messages") or []), *(body["input"] if isinstance(body.get("input"), list) else [])]:
        if one.get("role") == "tool" or one.get("type") == "function_call_output":
            found.append("\n".join(_texts(one)))
        elif isinstance(one.get("content"), list):
            found += ["\n".join(_texts(part)) for part in one["content"] if part.get("type") == "tool_result"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve scripted replies of a language model.")
    parser.add_argument("--script", type=Path, required=True, help="JSON lines, each the fields of a Reply.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", help="The only key that is let in.")
    given = parser.parse_args()
    script = [reply_of(json.loads(line)) for line in given.script.read_text("utf-8").splitlines() if line.strip()]
    with standin(script, key=given.key, port=given.port) as server, suppress(KeyboardInterrupt):
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
