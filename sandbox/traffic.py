"""What a tree of processes sent and received elsewhere than on loopback, as the kernel's own list of sockets says.

Takes the user that the tree runs as, or its process ids; gives bytes. It stops nothing: where a filter and a doorman
let nothing out, it is what tells that they did not hold. The machine talks too, if only to whoever commands it, so its
own counters accuse nobody: they are kept beside, as evidence.
"""

import contextlib
import functools
import os
import socket
import struct
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from sandbox.limits import Network

SOCK_DIAG, BY_FAMILY = 4, 20
DUMP = 0x0301  # NLM_F_REQUEST | NLM_F_DUMP
ERROR, DONE = 2, 3
ENDED_GROUPS = (1, 3)  # the kernel tells of every TCP socket of either family that ends
WANT_INFO, INFO = 1 << 1, 2
CONNECTED, WAITING, CLOSED, LISTENING = 1, 6, 7, 10
# One that only waits for stray packets has ended already, and one that is closed has no other end.
GOING = 0xFFFF & ~(1 << WAITING | 1 << CLOSED)
MAPPED = bytes(10) + b"\xff\xff"  # an old address, written as a new one
HEADERS = 40  # bytes of an empty packet: what the kernel counts is what is in them
ANSWER_S = 1.0
SHARE = 100  # an answer may take 1/100 of the time between two
AT_LEAST_EVERY_S = 5.0
DEVICES = Path("/proc/net/dev")

_HEAD = struct.Struct("=IHHII")
_ASKED = struct.Struct("=BBBxI48x")
_ENDS = struct.Struct("!HH16s16s")
_ROW = struct.Struct("=BBxx48sIIIII")
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=Q")
_SEGMENTS = struct.Struct("=II")  # out, in
# In the kernel's tcp_info.
_SEGMENTS_AT, _RECEIVED_AT, _SENT_AT, _INFO_BYTES = 136, 128, 200, 208


class _Socket(NamedTuple):
    cookie: bytes
    """Names it for as long as the machine runs."""
    state: int
    port: int
    outside: bool
    """Whether its other end is on another machine."""
    uid: int
    inode: int
    """0: no process holds it any more, or not yet."""
    bytes: int


class Traffic:
    """Looks at one tree. What it found once counts, however the socket ends."""

    def __init__(self, uid: int | None) -> None:
        """`uid`: a user that nobody else is; None: the tree's sockets are known by its open files.

        Raises:
            OSError: this kernel does not tell about sockets.
        """
        self._uid = uid
        self._own: dict[bytes, int] = {}
        self._others: set[bytes] = set()
        self._doubted: set[bytes] = set()
        self._unclaimed = 0
        self._before = self._now = machine_bytes()  # at the last answer
        self._due = self._ask_all_the_same = 0.0
        self._asking = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, SOCK_DIAG)
        self._hearing = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, SOCK_DIAG)
        try:
            self._asking.settimeout(ANSWER_S)
            self._hearing.bind((0, sum(1 << (group - 1) for group in ENDED_GROUPS)))
            self._hearing.setblocking(False)
            self._dump()
        except OSError:
            self.end()
            raise

    def look(self, rows: Collection[int]) -> int:
        """Bytes of the tree's own sockets until now; `rows`: its processes.

        The kernel walks through a large table for an answer: it is asked when the machine has sent or received
        something, and now and then where a device tells that late.
        """
        began = time.monotonic()
        with contextlib.suppress(OSError):  # no memory for an answer: the next look asks again
            now = machine_bytes()
            if began >= self._due and (now != self._now or began >= self._ask_all_the_same):
                there = self._dump()
                self._claim([one for one in there if one.outside], rows)
                self._hear({one.port for one in there if one.state == LISTENING})
                ended = time.monotonic()
                self._now, self._ask_all_the_same = now, ended + AT_LEAST_EVERY_S
                self._due = ended + SHARE * (ended - began)
        return sum(self._own.values())

    def hurry(self) -> None:
        """The next look is one of the last, and asks whatever it costs."""
        self._due = self._ask_all_the_same = 0.0

    def counted(self) -> Network:
        with contextlib.suppress(OSError):
            self._now = machine_bytes()
        return Network(sum(self._own.values()), self._unclaimed, self._before, self._now)

    def end(self) -> None:
        self._asking.close()
        self._hearing.close()

    def _claim(self, sockets: list[_Socket], rows: Collection[int]) -> None:
        new = [one for one in sockets if one.cookie not in self._own and one.cookie not in self._others]
        ours = _inodes(rows) if new and self._uid is None else frozenset()
        doubted: set[bytes] = set()
        for one in new:
            if one.uid == self._uid or one.inode in ours:
                self._own[one.cookie] = 0
            elif one.cookie in self._doubted:
                self._others.add(one.cookie)
            elif one.inode:  # it may have been closed between the kernel's answer and our look at the tree
                doubted.add(one.cookie)
        self._doubted = doubted
        for one in sockets:
            if one.cookie in self._own:
                self._own[one.cookie] = max(self._own[one.cookie], one.bytes)

    def _hear(self, ports: set[int]) -> None:
        """Of sockets that ended. Of one that was never seen nobody knows whose it was, but for those that somebody
        listens for: they came in from outside, as the commands for this machine do."""
        with contextlib.suppress(BlockingIOError):
            while True:
                for one in _rows(self._hearing.recv(1 << 16)):
                    if one.cookie in self._own:
                        self._own[one.cookie] = max(self._own[one.cookie], one.bytes)
                    elif one.outside and one.cookie not in self._others and one.port not in ports:
                        self._unclaimed += one.bytes
                    self._others.discard(one.cookie)

    def _dump(self) -> list[_Socket]:
        """Every TCP socket that has an address, and the datagram sockets that are connected."""
        found = []
        for protocol, states in ((socket.IPPROTO_TCP, GOING), (socket.IPPROTO_UDP, 1 << CONNECTED)):
            for family in (socket.AF_INET, socket.AF_INET6):
                body = _ASKED.pack(family, protocol, WANT_INFO, states)
                self._asking.send(_HEAD.pack(_HEAD.size + len(body), BY_FAMILY, DUMP, 0, 0) + body)
                found += list(self._answer())
        return found

    def _answer(self) -> Iterator[_Socket]:
        while True:
            data = self._asking.recv(1 << 18)
            yield from _rows(data)
            kinds = {kind for kind, _ in _messages(data)}
            if ERROR in kinds:
                raise OSError("the kernel does not tell about its sockets")
            if DONE in kinds:
                return


@functools.cache
def works() -> bool:
    """Whether this kernel tells whose sockets talk to whom."""
    try:
        Traffic(None).end()
    except (OSError, AttributeError):  # no such kind of socket on other systems
        return False
    return True


def machine_bytes() -> int:
    """Sent and received by all devices but loopback, since they are there."""
    rows = [line.split(":", 1) for line in DEVICES.read_text().splitlines() if ":" in line]
    return sum(int(row[1].split()[0]) + int(row[1].split()[8]) for row in rows if row[0].strip() != "lo")


def _inodes(rows: Collection[int]) -> frozenset[int]:
    """Of all sockets that these processes have open. Each thread may have open files of its own."""
    found = set()
    for pid in rows:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
                folder = f"/proc/{pid}/task/{thread}/fd"
                with contextlib.suppress(OSError):
                    found |= {os.stat(f"{folder}/{name}").st_ino for name in os.listdir(folder)}  # noqa: PTH208, PTH116
    return frozenset(found)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEAD.size <= len(data):
        size, kind, *_ = _HEAD.unpack_from(data, at)
        yield kind, data[at + _HEAD.size : at + size]
        at += max(_aligned(size), _HEAD.size)


def _rows(data: bytes) -> Iterator[_Socket]:
    for kind, body in _messages(data):
        if kind == BY_FAMILY and len(body) >= _ROW.size:
            yield _row(body)


def _row(body: bytes) -> _Socket:
    family, state, ends, _, _, _, uid, inode = _ROW.unpack_from(body)
    port, _, here, there = _ENDS.unpack_from(ends)
    return _Socket(
        cookie=ends[-8:],
        state=state,
        port=port,
        outside=_outside(family, here, there),
        uid=uid,
        inode=inode,
        bytes=_bytes(body[_ROW.size :]),
    )


def _outside(family: int, here: bytes, there: bytes) -> bool:
    """What this machine sends to an address of its own goes over loopback, whichever address that is."""
    if family == socket.AF_INET:
        here, there = here[:4], there[:4]
    elif there.startswith(MAPPED):
        here, there = here[len(MAPPED) :], there[len(MAPPED) :]
    loopback = there[0] == 127 if len(there) == 4 else there == bytes(15) + b"\1"
    return any(there) and not loopback and there != here


def _bytes(attributes: bytes) -> int:
    """What the kernel counted for a socket. That there is one that points elsewhere is never nothing."""
    at = 0
    while at + _ATTRIBUTE.size <= len(attributes):
        size, kind = _ATTRIBUTE.unpack_from(attributes, at)
        info = attributes[at + _ATTRIBUTE.size : at + size]
        if kind == INFO and len(info) >= _INFO_BYTES:
            (sent,), (received,) = _NUMBER.unpack_from(info, _SENT_AT), _NUMBER.unpack_from(info, _RECEIVED_AT)
            packets: int = sum(_SEGMENTS.unpack_from(info, _SEGMENTS_AT))
            return max(HEADERS, int(sent + received) + HEADERS * packets)
        at += max(_aligned(size), _ATTRIBUTE.size)
    return HEADERS


def _aligned(size: int) -> int:
    return (size + 3) & ~3
