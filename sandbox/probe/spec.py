"""What the probe is told: where the targets are, and how it can tell that it reached one.

Takes nothing; gives the frozen record `Spec`, which the harness writes as JSON. Of a secret it holds the path and
the digest, never the content: who reports the digest has read it.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Victim:
    """A process of the harness, outside the box."""

    pid: int
    fd: int  # the secret, open
    address: int  # of a secret in its memory
    writable: int  # address of a place in its memory that it shows afterwards
    signals: dict[str, int]  # attempt -> the signal that the victim notes for it


NOBODY = Victim(0, -1, 0, 0, {})


@dataclass(frozen=True)
class Spec:
    word: str  # in whatever is sent or written, so that the host knows where it comes from
    own: str  # its writable folder
    code: str  # its own files, read-only
    shared: str  # a folder that it may read: files, sockets
    outside: str  # a folder of the host that it may not write
    home: str
    secrets: dict[str, str]  # kind -> path
    digests: dict[str, str]  # kind -> SHA-256
    handle: tuple[int, str]  # of the secret, as name_to_handle_at gives it: type, hex
    ports: dict[str, int]  # tcp4, tcp6, udp4, udp6 on the host's loopback
    launcher: int  # process id
    launcher_signal: int
    variable: str  # of the launcher's environment
    core: int | None  # the one it may use
    key: int  # of System V objects
    limits: dict[str, float]
    victim: Victim = NOBODY
    marked: dict[str, list[str]] = field(default_factory=dict)  # channel -> eight shared files, one for each bit
    byte: int = -1  # what `leave` leaves for `find`, which is not told


def to_json(spec: Spec) -> str:
    return json.dumps(asdict(spec))


def read_spec(path: Path) -> Spec:
    fields = json.loads(path.read_text())
    victim = Victim(**fields.pop("victim"))
    kind, handle = fields.pop("handle")
    return Spec(victim=victim, handle=(kind, handle), **fields)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
