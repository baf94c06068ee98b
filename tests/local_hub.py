"""A small Hugging Face hub on loopback: the requests that huggingface_hub makes for a public dataset.

Takes files by path; answers /api and /resolve as the hub does, large files by a redirect to another host name
with Range requests. It can be told to misbehave: cut a connection, stall, damage a file, claim another size.
"""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".bin", ".model")


class Seen(NamedTuple):
    method: str
    path: str
    range: str | None


@dataclass
class LocalHub:
    repository: str
    files: dict[str, bytes]
    cut: dict[str, int] = field(default_factory=dict)
    """Close the connection after so many bytes of a file, once."""
    stall: dict[str, int] = field(default_factory=dict)
    """Send nothing more after so many bytes of a file, until `released`."""
    damaged: set[str] = field(default_factory=set)
    claimed: dict[str, int] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "LocalHub":
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ranges(self, path: str) -> list[str | None]:
        """The Range headers of the downloads of a file, in order."""
        return [seen.range for seen in self.seen if seen.method == "GET" and seen.path == path]

    def info(self, path: str) -> dict[str, object]:
        content = self.files[path]
        size = self.claimed.get(path, len(content))
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        found: dict[str, object] = {"type": "file", "path": path, "size": size, "oid": git}
        if path.endswith(LARGE):
            sha = hashlib.sha256(content).hexdigest()
            found["lfs"] = {"oid": sha, "size": size, "pointerSize": 134}
        return found


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        self._serve(body=True)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        asked = parse_qs(self.rfile.read(length).decode())["paths"]
        if self._path() != f"/api/datasets/{self.hub.repository}/paths-info/{COMMIT}":
            return self._missing()
        return self._json([self.hub.info(path) for path in asked if path in self.hub.files])

    def _path(self) -> str:
        return unquote(urlsplit(self.path).path)

    def _serve(self, *, body: bool) -> None:
        path, repository = self._path(), self.hub.repository
        resolve = f"/datasets/{repository}/resolve/{COMMIT}/"
        if path in (f"/api/datasets/{repository}", f"/api/datasets/{repository}/revision/main"):
            return self._json({"id": repository, "sha": COMMIT, "siblings": []})
        if path.startswith("/cdn/"):
            return self._file(path.removeprefix("/cdn/"), body=body)
        name = path.removeprefix(resolve)
        if not path.startswith(resolve) or name not in self.hub.files:
            return self._missing()
        if name.endswith(LARGE):
            return self._redirect(name)
        return self._file(name, body=body)

    def _redirect(self, name: str) -> None:
        info = self.hub.info(name)
        self.send_response(302)
        self.send_header("Location", f"http://localhost:{self.hub.port}/cdn/{name}?signature=x")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Size", str(info["size"]))
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(self.hub.files[name]).hexdigest()}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, name: str, *, body: bool) -> None:
        content = self.hub.files[name]
        if name in self.hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.hub.seen.append(Seen(self.command, name, self.headers["Range"]))
        start = _start(self.headers)
        self.send_response(206 if start is not None else 200)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        content = content[start or 0 :]
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{self.hub.info(name)["oid"]}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self._send(name, content)

    def _send(self, name: str, content: bytes) -> None:
        if name in self.hub.cut:
            self.wfile.write(content[: self.hub.cut.pop(name)])
            self.close_connection = True
            return
        try:
            if name in self.hub.stall:
                first = self.hub.stall.pop(name)
                self.wfile.write(content[:first])
                self.wfile.flush()
                self.hub.released.wait(60)
                content = content[first:]
            self.wfile.write(content)
        except OSError:  # the other side was killed, as it should be
            self.close_connection = True

    def _json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _missing(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()


def _start(headers: Message) -> int | None:
    asked = headers["Range"]
    if asked is None:
        return None
    first, _, last = asked.removeprefix("bytes=").partition("-")
    assert not last, asked
    return int(first)
