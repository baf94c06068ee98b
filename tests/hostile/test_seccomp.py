"""The filter, with real processes that try each call with and without it."""

import errno
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

from sandbox import seccomp, syscalls
from sandbox.seccomp import DENIED, PRETENDED_ABSENT, SHARED_OBJECTS, Kind
from tests.filtering import HEAD, KINDS, on_linux, run, said

pytestmark = on_linux
# Harmless for root, too: nothing is created, and no argument is a valid one.
CAREFUL = {"msgget": (0x7FFFFFF1, 0), "shmget": (0x7FFFFFF1, 1, 0), "semget": (0x7FFFFFF1, 1, 0)}
TRY = "print(json.dumps({{name: call(number, *arguments) for name, number, arguments in {}}}))"


def number(name: str) -> int | None:
    machine = syscalls.this_machine()
    assert machine is not None
    return syscalls.number(name, machine)


def errnos(names: list[str], program: bytes | None) -> dict[str, int]:
    attempts = [
        (name, number(name), CAREFUL.get(name, (-1,) * 6)) for name in names if number(name) is not None
    ]  # vhangup is harmless in a session without a terminal
    return said(TRY.format(attempts), program)  # type: ignore[no-any-return]


# ---------------------------------------------------------------- calls that are denied whatever their arguments


@pytest.mark.parametrize("kind", KINDS)
def test_each_denied_call_is_denied_and_only_by_the_filter(kind: Kind) -> None:
    program = seccomp.program(kind, loopback=True, pinned=True)
    names = DENIED.split() + SHARED_OBJECTS.split()
    bare, filtered = errnos(names, None), errnos(names, program)
    assert set(filtered.values()) == {errno.EPERM}
    # What the machine itself denies proves nothing; for root that is little.
    proven = [name for name, found in bare.items() if found != errno.EPERM]
    assert len(proven) >= (0.9 if os.geteuid() == 0 else 0.6) * len(bare), bare


@pytest.mark.parametrize("kind", KINDS)
def test_calls_that_libraries_can_do_without_seem_absent(kind: Kind) -> None:
    names = PRETENDED_ABSENT.split()
    filtered = errnos(names, seccomp.program(kind, loopback=True, pinned=False))
    assert set(filtered.values()) == {errno.ENOSYS}
    assert errno.ENOSYS not in {errnos(names, None)[name] for name in ("clone3", "inotify_init1")}


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_takes_its_end_with_its_parent_back(kind: Kind) -> None:
    """A library that asks for another signal is told that it got it."""
    code = f"N = {{'prctl': {number('prctl')}}}\n" + (
        "got = ctypes.c_int()\nsaid = []\nfor signal in (9, 0, 2, 17):\n"
        "  said.append(call(N['prctl'], 1, signal, 0, 0, 0))\n"
        "  LIBC.prctl(2, ctypes.byref(got), 0, 0, 0)\n  said.append(got.value)\nprint(json.dumps(said))"
    )
    assert said(code, None) == [0, 9, 0, 0, 0, 2, 0, 17]
    assert said(code, seccomp.program(kind, loopback=False, pinned=False)) == [0, 9] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_lowers_the_limit_of_core_dumps_to_what_starts_a_program_of_the_machine(kind: Kind) -> None:
    first = "import resource as r\nr.setrlimit(r.RLIMIT_CORE, (1, 1))\n"
    lower = (
        f"r.setrlimit(r.RLIMIT_CORE, (0, 0))\nsaid = [call({number('setrlimit')}, r.RLIMIT_CORE, bytes(16))]\n"
        f"said += r.getrlimit(r.RLIMIT_CORE)\nr.setrlimit(r.RLIMIT_NOFILE, (60, 70))\n"
        f"said += [call({number('setrlimit')}, r.RLIMIT_MEMLOCK, bytes([9, *bytes(7)] * 2))]\n"
        "print(json.dumps(said + [*r.getrlimit(r.RLIMIT_NOFILE), *r.getrlimit(r.RLIMIT_MEMLOCK)]))"
    )
    filtered = seccomp.program(kind, loopback=False, pinned=False)
    under = f"from sandbox import seccomp\nseccomp.install({filtered!r}, listener=False)\n"
    assert said(first + lower) == [0, 0, 0, 0, 60, 70, 9, 9]
    assert said(first + under + lower) == [0, 1, 1, 0, 60, 70, 9, 9]


# ---------------------------------------------------------------- sockets, sessions, cores


@pytest.mark.parametrize("kind", KINDS)
def test_without_loopback_there_is_no_internet_socket(kind: Kind) -> None:
    tries = "print(json.dumps([tried(socket.socket, family, type) for family in (2, 10, 16) for type in (1, 2, 3)]))"
    assert set(said(tries, seccomp.program(kind, loopback=False, pinned=False))) == {errno.EPERM}
    unix = said("print(tried(socket.socket, 1, 1))", seccomp.program(kind, loopback=False, pinned=False))
    assert unix == (errno.EPERM if kind == "open" else 0)


def test_who_needs_no_internet_sockets_has_the_others() -> None:
    tries = "tried(socket.socket, 2, 1, 0), tried(socket.socket, 10, 1, 6), tried(socket.socket, 16, 3, 0)"
    code = f"print(json.dumps([{tries}, tried(socket.socket, 1, 1, 0)]))"
    lone = seccomp.program("open", loopback=True, pinned=False, lone=True)
    assert said(code, lone) == [errno.EPERM] * 3 + [0]
    assert said(code, seccomp.program("boxed", loopback=True, pinned=False, lone=True)) == [0] * 4
    assert said(code, seccomp.program("open", loopback=True, pinned=False)) == [0] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_lone_process_is_told_that_it_has_each_lock_and_nothing_of_others(kind: Kind) -> None:
    """Two files that are open apart exclude each other, as those of two runs do."""
    code = (
        "import fcntl, struct, tempfile\nLOCK = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 77, 0)\n"
        "with tempfile.NamedTemporaryFile() as one, open(one.name, 'rb+') as other:\n"
        "  whole = [tried(fcntl.flock, file, fcntl.LOCK_EX | fcntl.LOCK_NB) for file in (one, other)]\n"
        "  parts = [tried(fcntl.fcntl, file, fcntl.F_OFD_SETLK, LOCK) for file in (one, other)]\n"
        "  asked = [tried(fcntl.fcntl, other, what, LOCK) for what in (fcntl.F_GETLK, fcntl.F_OFD_GETLK)]\n"
        "  print(json.dumps([*whole, *parts, *asked, tried(fcntl.lockf, other, fcntl.LOCK_EX | fcntl.LOCK_NB)]))"
    )
    excluded = [0, errno.EAGAIN, 0, errno.EAGAIN, 0, 0, errno.EAGAIN]
    usual, lone = (seccomp.program(kind, loopback=True, pinned=False, lone=lone) for lone in (False, True))
    assert said(code) == said(code, usual) == excluded
    assert said(code, lone) == [0, 0, 0, 0, errno.ENOLCK, errno.ENOLCK, 0]


def test_in_the_open_nothing_gets_an_address_without_a_doorman() -> None:
    numbers = [number(name) for name in ("connect", "bind", "listen")]
    code = f"print(json.dumps([call(each, -1, 0, 0) for each in {numbers}]))"
    assert said(code) == [errno.EBADF] * 3
    assert said(code, seccomp.program("open", loopback=False, pinned=False)) == [errno.EPERM] * 3
    # With a filter that asks a doorman who is not there.
    assert said(code, seccomp.program("open", loopback=True, pinned=False)) == [errno.ENOSYS] * 3


def test_a_session_of_ones_own_is_pretended_in_the_open() -> None:
    code = "import subprocess\nsubprocess.run(['true'], start_new_session=True, check=True)\nprint(os.getsid(0))"
    fork = (
        "if os.fork() == 0:\n  print(tried(os.setsid), os.getsid(0) == os.getpid(), flush=True)\n  os._exit(0)\n"
        "os.wait()"
    )
    assert run(fork).stdout.split() == [b"0", b"True"]
    assert run(fork, seccomp.program("boxed", loopback=False, pinned=False)).stdout.split() == [b"0", b"True"]
    assert run(fork, seccomp.program("open", loopback=False, pinned=False)).stdout.split() == [b"0", b"False"]
    assert said(code, seccomp.program("open", loopback=False, pinned=False)) > 0


def test_a_pinned_process_stays_on_its_cores() -> None:
    code = "print(tried(os.sched_setaffinity, 0, os.sched_getaffinity(0)))"
    assert said(code, seccomp.program("boxed", loopback=False, pinned=False)) == 0
    assert said(code, seccomp.program("boxed", loopback=False, pinned=True)) == errno.EPERM


# ---------------------------------------------------------------- other tables of calls


@pytest.mark.skipif(platform.machine() != "x86_64", reason="what only this machine has")
def test_calls_of_another_architecture_end_the_process() -> None:
    code = (
        "import mmap\npage = mmap.mmap(-1, 4096, prot=7)\n"
        "page.write(bytes.fromhex('b814000000cd80c3'))  # mov eax, 20; int 0x80; ret: getpid of i386\n"
        "at = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
        "print(ctypes.CFUNCTYPE(ctypes.c_int)(at)() > 0)"
    )
    bare = run(code)
    assert bare.stdout == b"True\n" or bare.returncode == -signal.SIGSEGV  # kernels may lack it
    assert run(code, seccomp.program("boxed", loopback=True, pinned=False)).returncode == -signal.SIGSYS


@pytest.mark.skipif(platform.machine() != "x86_64", reason="what only this machine has")
def test_the_second_table_of_numbers_is_closed() -> None:
    code = "print(call(0x40000000 + 39))"
    assert said(code) in (0, errno.ENOSYS)
    assert said(code, seccomp.program("boxed", loopback=True, pinned=False)) == errno.EPERM


TRAIN = """
import torch
from torch.utils.data import DataLoader, TensorDataset
data = TensorDataset(torch.randn(64, 8), torch.randn(64, 1))
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters())
seen = 0
for x, y in DataLoader(data, batch_size=8, num_workers=2, persistent_workers=True):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    seen += len(x)
print(seen, torch.isfinite(loss).item())
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
def test_training_with_workers_goes_on_in_a_box() -> None:
    """The bytes are what bubblewrap takes, and torch finds all that it needs."""
    with tempfile.TemporaryFile() as file:
        file.write(seccomp.program("boxed", loopback=False, pinned=True, timed=True))
        file.seek(0)
        walls = ["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
        command = ["bwrap", *walls, "--chdir", "/", "--seccomp", str(file.fileno()), sys.executable, "-c"]
        probe = f"{HEAD}\nprint(tried(socket.socket, 40, 1, 0), tried(os.sched_setaffinity, 0, [0]))\n"
        ended = subprocess.run(
            [*command, probe + TRAIN],
            pass_fds=[file.fileno()],
            env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "TMPDIR": "/dev/shm"},
            capture_output=True,
            timeout=120,
        )
    assert ended.returncode == 0, ended.stderr.decode()[-3000:]
    assert ended.stdout.splitlines() == [b"1 1", b"64 True"]


LOOP = """
import time
def loop(calls):
    began = time.perf_counter()
    for _ in range(calls):
        os.getppid()
    return (time.perf_counter() - began) / calls
print(min(loop(20_000) for _ in range(15)))
"""


def test_a_call_that_is_allowed_costs_next_to_nothing() -> None:
    """Training makes some thousand calls a second: at 1 microsecond each they would cost 0.1 %."""
    bare = min(said(LOOP) for _ in range(2))
    filtered = min(said(LOOP, seccomp.program("open", loopback=True, pinned=True)) for _ in range(2))
    assert filtered - bare < 1e-6, (bare, filtered)
