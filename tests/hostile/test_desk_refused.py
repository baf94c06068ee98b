"""What the doorman refuses, and what it stands: real processes behind a real filter that try to get past it."""

import errno
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from sandbox import desk, doorman, seccomp, tree
from tests.processes import until
from tests.visiting import MEET, said, visitor

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not doorman.works(), reason="no doorman can work here"
)


def own_address() -> str:
    """An address of this machine that is not loopback; where it has none, nothing can leave it."""
    import psutil

    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family == socket.AF_INET and not one.address.startswith("127."):
                return one.address
    return "192.0.2.1"


CONNECT, BIND = errno.ENETUNREACH, errno.EADDRNOTAVAIL
REFUSED = {
    "tried(new().connect, (OWN, PORT))": CONNECT,
    "tried(new(10).connect, ('::ffff:' + OWN, PORT))": CONNECT,
    "tried(new(10).connect, ('fe80::1', PORT))": CONNECT,
    "tried(new(10).connect, ('::127.0.0.1', PORT))": CONNECT,
    "tried(new().bind, (OWN, 0))": BIND,
    "tried(new(10).bind, ('::ffff:' + OWN, 0))": BIND,
    "tried(new().bind, ('224.0.0.1', 0))": BIND,
    "tried(new().bind, ('127.0.0.1', 80))": errno.EACCES,
    # A service of the host on loopback, and a port where nobody is, look the same.
    "tried(new().connect, ('127.0.0.1', PORT))": errno.ECONNREFUSED,
    "tried(new(10).connect, ('::ffff:127.0.0.1', PORT))": errno.ECONNREFUSED,
    "tried(new().connect, ('0.0.0.0', PORT))": errno.ECONNREFUSED,
    "tried(new().connect, ('127.0.0.1', 1))": errno.ECONNREFUSED,
    # Addresses that are none.
    "call(N['connect'], new().fileno(), UNSPEC, 16)": errno.EAFNOSUPPORT,
    "call(N['bind'], new().fileno(), UNSPEC, 16)": errno.EAFNOSUPPORT,
    "call(N['connect'], new().fileno(), b'\\1\\0/run/x', 9)": errno.EAFNOSUPPORT,
    "call(N['connect'], new(10).fileno(), LOOP, 16)": errno.EAFNOSUPPORT,
    "call(N['connect'], new().fileno(), LOOP, 8)": errno.EINVAL,
    "call(N['connect'], new().fileno(), LOOP, 0)": errno.EINVAL,
    "call(N['connect'], new().fileno(), LOOP, 1)": errno.EINVAL,
    "call(N['connect'], new().fileno(), LOOP, 129)": errno.EINVAL,
    "call(N['connect'], new().fileno(), LOOP, 1 << 31)": errno.EINVAL,
    "call(N['connect'], new().fileno(), LOOP, -1)": errno.EINVAL,
    "call(N['connect'], new().fileno(), LOOP, 16 | 1 << 32)": errno.ECONNREFUSED,  # the kernel drops the upper half
    "call(N['connect'], new().fileno(), 0, 16)": errno.EFAULT,
    "call(N['connect'], new().fileno(), -1, 16)": errno.EFAULT,
    "call(N['connect'], new().fileno(), 1 << 62, 128)": errno.EFAULT,
    "call(N['bind'], new().fileno(), EDGE, 16)": errno.EFAULT,
    # Files that are no such sockets.
    "call(N['connect'], -1, LOOP, 16)": errno.EBADF,
    "call(N['listen'], 9999, 1)": errno.EBADF,
    "call(N['bind'], 1, LOOP, 16)": errno.ENOTSOCK,
    "call(N['listen'], 1, 1)": errno.ENOTSOCK,
    "call(N['bind'], PACKETS.fileno(), b'\\1\\0x', 3)": errno.EPERM,
    "call(N['connect'], PACKETS.fileno(), b'\\1\\0\\0x', 4)": errno.EPERM,
    "call(N['listen'], PACKETS.fileno(), 1)": errno.EPERM,
    "call(N['listen'], PAIR.fileno(), 1)": errno.EINVAL,
    # Unix sockets of the host, with a path and without.
    "tried(new(1).connect, PATH)": errno.ECONNREFUSED,
    "tried(new(1).connect, NAME)": errno.ECONNREFUSED,
    "tried(new(1).connect, '/dev/log')": errno.ECONNREFUSED,
    "call(N['connect'], new(1).fileno(), b'\\1\\0', 2)": errno.EINVAL,
    "call(N['connect'], new(1).fileno(), LOOP, 16)": errno.EINVAL,
    "tried(socket.socket, socket.AF_UNIX, socket.SOCK_DGRAM)": errno.EPERM,
    "tried(new(1).sendto, b'x', PATH)": errno.EPERM,
    "tried(new().sendto, b'x', 0x20000000, ('127.0.0.1', PORT))": errno.EPERM,
    "tried(new().sendto, b'x', ('127.0.0.1', PORT))": errno.EPERM,
    "tried(new().sendmsg, [b'x'], [], 0x20000000, ('127.0.0.1', PORT))": errno.EPERM,
}


def test_what_is_refused_and_how(tmp_path: Path) -> None:
    machine = seccomp.syscalls.this_machine()
    assert machine is not None
    numbers = {name: seccomp.syscalls.number(name, machine) for name in ("connect", "bind", "listen")}
    path, name = str(tmp_path / "socket"), f"\0caddie-test-{os.getpid()}"
    named = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for one, where in zip(named, (path, name), strict=True):
        one.bind(where)
        one.listen()
    with socket.create_server(("127.0.0.1", 0)) as host, named[0], named[1]:
        port = host.getsockname()[1]
        code = f"""
import mmap, struct
N, PORT, OWN, PATH, NAME = {numbers}, {port}, {own_address()!r}, {path!r}, {name!r}
KEPT = []
def new(family=2):
    KEPT.append(socket.socket(family))
    return KEPT[-1]
PAIR, PACKETS = socket.socketpair()[0], socket.socketpair(1, 5)[0]
UNSPEC, LOOP = b'\\0' * 16, struct.pack('=H', 2) + struct.pack('>H', PORT) + b'\\x7f\\0\\0\\1' + b'\\0' * 200
page = mmap.mmap(-1, 8192)
start = ctypes.addressof(ctypes.c_char.from_buffer(page))
LIBC.munmap(ctypes.c_long(start + 4096), ctypes.c_long(4096))
EDGE = start + 4096 - 8
answers = [{", ".join(REFUSED)}]
one = new(); one.listen()
new().connect(one.getsockname())  # and the doorman still answers
print(json.dumps(answers))"""
        found = dict(zip(REFUSED, said(code), strict=True))
        assert {asked: errno.errorcode.get(got, got) for asked, got in found.items() if got != REFUSED[asked]} == {}
        for one in (host, *named):
            one.settimeout(0.1)
            with pytest.raises(TimeoutError):  # nobody came
                one.accept()


def test_an_address_that_changes_between_look_and_use_gains_nothing() -> None:
    """A thread flips the address all the time between a socket of its own and one of the host."""
    with socket.create_server(("127.0.0.1", 0)) as host:
        code = f"""
import struct, threading, time
machine_number = {seccomp.syscalls.number("connect", seccomp.syscalls.this_machine())}
own = socket.socket(); own.listen(4096)
def packed(port): return struct.pack('=H', 2) + struct.pack('>H', port) + b'\\x7f\\0\\0\\1' + b'\\0' * 8
good, bad = packed(own.getsockname()[1]), packed({host.getsockname()[1]})
place = ctypes.create_string_buffer(16)
ending = False
def flip():
    while not ending:
        ctypes.memmove(place, good, 16); ctypes.memmove(place, bad, 16)
flipper = threading.Thread(target=flip); flipper.start()
sys.setswitchinterval(1e-5)
counts = {{}}
until = time.monotonic() + 3
while time.monotonic() < until and sum(counts.values()) < 1500:
    with socket.socket() as one:
        got = call(machine_number, one.fileno(), place, 16)
        counts[got] = counts.get(got, 0) + 1
ending = True
print(json.dumps(counts))"""
        counts = said(code)
        assert set(counts) == {"0", str(errno.ECONNREFUSED)}, counts  # both were seen
        host.settimeout(0.2)
        with pytest.raises(TimeoutError):
            host.accept()


def test_a_name_is_the_candidates_own_only() -> None:
    """Two candidates on one machine don't reach each other, each with a doorman of its own."""
    server = "one = socket.socket(); one.listen()\nprint(one.getsockname()[1], flush=True)\nimport time; time.sleep(60)"
    with visitor(server) as first:
        assert first.process.stdout is not None
        port = int(first.process.stdout.readline())
        code = f"print(tried(socket.socket().connect, ('127.0.0.1', {port})))"
        assert said(code) == errno.ECONNREFUSED
        socket.create_connection(("127.0.0.1", port)).close()  # it was there


@pytest.mark.parametrize(("own", "others"), [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("::1", "::1")])
def test_a_name_that_the_candidate_gave_up_may_be_anothers(own: str, others: str) -> None:
    """It could have listened once on every port, and waited for services to come."""
    code = (
        f"one = socket.create_server(({own!r}, 0), family=socket.AF_INET6 if ':' in {own!r} else socket.AF_INET)\n"
        "name = one.getsockname()\nprint(tried(socket.socket(one.family).connect, name))\none.close()\n"
        "print(name[1], flush=True)\nimport time\nwhile not os.path.exists(f'there-{name[1]}'): time.sleep(0.01)\n"
        "print(json.dumps(tried(socket.socket(one.family).connect, name)))"
    )
    with visitor(code) as one:
        assert one.process.stdout is not None
        assert int(one.process.stdout.readline()) == 0  # its own
        port = int(one.process.stdout.readline())
        there = Path(tempfile.gettempdir(), f"there-{port}")
        with socket.create_server((others, port), family=socket.AF_INET6 if ":" in own else socket.AF_INET):
            there.touch()
            try:
                assert one.said() == errno.ECONNREFUSED
            finally:
                there.unlink()


HANG = """
import threading
full = socket.socket(); full.listen(0)
def hang():
    one = socket.socket()
    tried(one.connect, full.getsockname())
for _ in range(COUNT): threading.Thread(target=hang, daemon=True).start()
import time; time.sleep(0.5)
"""


def test_connects_that_hang_hold_up_nobody_but_themselves() -> None:
    meet = MEET.replace("FAMILY", "2").replace("HOST", "'127.0.0.1'").replace("TO", "None")
    with visitor(HANG.replace("COUNT", "20") + meet + "sys.stdout.flush()\nos._exit(0)") as one:
        assert one.said(timeout=10)[1] == "hello"


def test_a_flood_of_hanging_connects_leaves_the_doorman_awake() -> None:
    """More than it answers at once: it still sees its supervisor, and still goes when the candidate does."""
    with visitor(HANG.replace("COUNT", "150") + "print('there', flush=True)\ntime.sleep(60)") as one:
        assert one.process.stdout is not None
        assert one.process.stdout.readline() == b"there\n"
        before = tree.look(one.doorman.pid)
        time.sleep(0.5)
        after = tree.look(one.doorman.pid)
        assert before is not None and after is not None and one.doorman.alive()
        assert after.cpu_s - before.cpu_s < 0.25
        assert after.threads < 100
        os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()
        until(lambda: not one.doorman.alive(), within_s=2)


def test_names_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "NAMES_KEPT", 4)
    code = """
servers = []
for at in range(3):
    servers.append(socket.socket(1)); servers[-1].bind(f'name{at}'); servers[-1].listen()
print(json.dumps([tried(socket.socket(1).connect, f'name{at}') for at in range(3)]))"""
    assert said(code) == [errno.ECONNREFUSED, 0, 0]  # each has two


def test_without_threads_to_answer_a_call_fails_and_the_doorman_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with visitor("print(json.dumps([tried(socket.socket().listen) for _ in range(100)]))") as one:
        monkeypatch.undo()
        assert set(one.said()) == {errno.EAGAIN}


def test_a_thread_is_found_on_older_kernels_too(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pidfd_open

    def older(pid: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EINVAL, "what is this flag?")
        return real(pid)

    monkeypatch.setattr(os, "pidfd_open", older)
    code = """
import threading
found = []
thread = threading.Thread(target=lambda: found.append(tried(socket.socket().listen)))
thread.start(); thread.join()
print(json.dumps(found))"""
    assert said(code) == [0]
