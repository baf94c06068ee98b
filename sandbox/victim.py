"""A process outside the box, for the probe to signal, read and change; and who knocks where the probe listens.

Takes a word (so that it can be seen in /proc), the path of a secret, a folder and numbers of signals; prints where
its secrets are, and after a line on its standard input what was done to it.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path

LOOK_EVERY_S = 0.02


def main(word: str, secret: str, folder: Path, numbers: list[int]) -> None:
    seen: list[int] = []
    for number in numbers:
        signal.signal(number, lambda number, _: seen.append(number))
    content = os.urandom(32)
    memory, writable = ctypes.create_string_buffer(content), ctypes.create_string_buffer(64)
    where = {
        "pid": os.getpid(),
        "fd": os.open(secret, os.O_RDONLY),
        "address": ctypes.addressof(memory),
        "writable": ctypes.addressof(writable),
        "digest": hashlib.sha256(content).hexdigest(),
    }
    print(json.dumps(where), flush=True)
    knocked: set[str] = set()
    while not select.select([sys.stdin], [], [], LOOK_EVERY_S)[0]:
        for door in folder.glob("knock-*"):
            if door.name not in knocked:
                knocked.add(door.name)
                with contextlib.suppress(OSError, ValueError):  # nobody there, or no number
                    knock(door, word.encode())
    print(json.dumps({"signals": seen, "written": writable.value.decode("utf-8", "replace")}), flush=True)


def knock(door: Path, word: bytes) -> None:
    port = int(door.read_text()[:6])
    kind = socket.SOCK_DGRAM if door.name.endswith("_udp") else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as one:
        one.settimeout(0.2)
        one.connect(("127.0.0.1", port))
        one.send(word)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), [int(word) for word in sys.argv[4:]])
