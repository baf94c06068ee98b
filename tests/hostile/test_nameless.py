"""What has no name any more takes room all the same, and is found: on the disk, and in the tables of the kernel."""

import os
import subprocess

import pytest

from sandbox import Confined, Policy, groups, nameless, tree
from sandbox.seen import seen
from tests.confining import PYTHON, Lab
from tests.processes import linux

pytestmark = linux
MB = 1_000_000

# Each file is a little below the limit; their names and their open files are gone before the next one comes.
MAPPED = """
import mmap, os, time
kept = []
for number in range(4):
    file = os.open(f"part-{number}", os.O_RDWR | os.O_CREAT)
    os.write(file, bytes(9_000_000))
    kept.append(mmap.mmap(file, 9_000_000 if WHOLE else 4096))
    os.unlink(f"part-{number}")
    os.closerange(3, 64)  # Python's mapping keeps the file open, too
print("there", flush=True)
time.sleep(5)
"""
# A byte in every two megabytes of very much: nothing but zeros, and the tables that lead to them.
TABLES = """
import ctypes, mmap, time
size = 100 << 30
flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
memory = mmap.mmap(-1, size, flags=flags, prot=mmap.PROT_READ)
memory.madvise(15)  # MADV_NOHUGEPAGE
for at in range(0, size, 1 << 21): memory[at]
print("there", flush=True)
time.sleep(5)
"""


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("boxed", [True, False])
def test_mapped_files_that_nobody_has_open_are_disk(lab: Lab, whole: bool, boxed: bool) -> None:
    if not whole and os.getuid() != 0:
        pytest.skip("only root sees how large a file is of which little is mapped")
    out = lab.folder / "out"
    common = seen(())
    policy = Policy(str(out), (), common.programs, common.hidden, minimum="base") if boxed else None
    ended = Confined(
        ("/usr/bin/python3", "-I", "-S", "-c", f"WHOLE = {whole}{MAPPED}"),
        cwd=out,
        env={},
        limits=lab.limits(disk_mb=20),
        log=lab.folder / "log",
        folder=out,
        policy=policy,
    ).wait()
    assert ended.cause == "disk", (lab.folder / "log").read_text()


def test_what_somebody_mapped_of_anything_else_is_not_its_disk(lab: Lab) -> None:
    """A library that was replaced while it runs, and memory that is shown as a file."""
    other = lab.folder / "library.so"
    other.write_bytes(bytes(9 * MB))
    code = (
        "import mmap, os\nfile = open(PATH, 'r+b'); x = mmap.mmap(file.fileno(), 0); os.unlink(PATH); file.close()\n"
        "m = os.memfd_create('x'); os.truncate(m, 9_000_000); y = mmap.mmap(m, 0); os.close(m)\n"
        "z = mmap.mmap(-1, 9_000_000)\nprint('in', flush=True); input()"
    )
    with subprocess.Popen(
        [*PYTHON, f"PATH = {str(other)!r}\n{code}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "in\n"
        assert nameless.mapped([process.pid], lab.folder / "out") == {}
        assert sum(nameless.mapped([process.pid], lab.folder).values()) >= 9 * MB
        process.kill()


@pytest.mark.parametrize("grouped", [True, False])
def test_tables_of_the_kernel_are_memory(lab: Lab, monkeypatch: pytest.MonkeyPatch, grouped: bool) -> None:
    if not grouped:
        monkeypatch.setattr(groups, "_places", list)
    assert lab.run(TABLES, memory_mb=80).exit.cause == "memory"


# Shared memory of an allowed length is filled and shown by four processes; or more is filled, and let go part by part.
SHARED = """
import ctypes, mmap, os, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
size, part = (160 if LET_GO else 64) << 20, 8 << 20
file, kind = (-1, 0x21) if NAME is None else (os.memfd_create(NAME), 1)
if NAME is not None: os.truncate(file, size)
at = libc.mmap(None, size, 3, kind, file, 0)
os.closerange(3, 64)
if not LET_GO: os.fork(), os.fork()
for start in range(at, at + size, part):
    ctypes.memset(start, 1, part)
    if LET_GO: libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(part), 4)  # MADV_DONTNEED
time.sleep(2.5)
"""


@pytest.mark.parametrize("name", [None, "a name"])
@pytest.mark.parametrize("let_go", [True, False])
def test_shared_memory_that_no_process_shows_is_memory(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str | None, let_go: bool
) -> None:
    """Where no group counts it, and we may see it."""
    if os.getuid() != 0:
        pytest.skip("only root sees how much it is")
    monkeypatch.setattr(groups, "_places", list)
    ended = lab.run(f"NAME, LET_GO = {name!r}, {let_go}{SHARED}", memory_mb=125, disk_mb=200)
    assert ended.exit.cause == "memory" if let_go else ended.exit.ok, ended


HOLDS = """
import ctypes, mmap, os, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def held(mapped):
    for number in range(4):
        file = os.open(f"part-{number}", os.O_RDWR | os.O_CREAT)
        os.write(file, bytes(9_000_000))
        os.unlink(f"part-{number}")
        if mapped:
            kept.append(mmap.mmap(file, 9_000_000))
            os.closerange(3, 64)
kept = []
"""
# What only the first thread of a process shows is nothing, once it has ended.
FIRST_IS_GONE = """
def rest():
    time.sleep(0.3); held(MAPPED); time.sleep(5); os._exit(0)
threading.Thread(target=rest).start()
libc.pthread_exit(None)
"""
# close_range(..., CLOSE_RANGE_UNSHARE): a thread whose open files are its own.
OWN_FILES = """
def rest():
    assert libc.syscall(436, ctypes.c_uint(100_000), ctypes.c_uint(100_000), 2) == 0
    held(False); time.sleep(5)
for _ in range(THREADS): threading.Thread(target=rest).start()
"""


@pytest.mark.parametrize("mapped", [True, False])
def test_files_of_a_process_whose_first_thread_has_ended_are_disk(lab: Lab, mapped: bool) -> None:
    assert lab.run(f"MAPPED = {mapped}{HOLDS}{FIRST_IS_GONE}", disk_mb=20).exit.cause == "disk"


def test_tables_of_a_process_whose_first_thread_has_ended_are_memory(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_places", list)  # the kernel would count them
    code = f"import ctypes, os, threading\ndef rest():\n  exec({TABLES!r}, {{}})\n  os._exit(0)\n"
    code += "threading.Thread(target=rest).start()\nctypes.CDLL(None).pthread_exit(None)"
    assert lab.run(code, memory_mb=80).exit.cause == "memory"


@pytest.mark.parametrize("known", [True, False])
def test_open_files_of_a_thread_of_its_own_are_disk(lab: Lab, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    if not known:  # as in containers that deny this call
        monkeypatch.setattr(tree, "_share_files", lambda one, other: False)
    assert lab.run(f"THREADS = 1{HOLDS}{OWN_FILES}", disk_mb=20).exit.cause == "disk"


def test_threads_that_each_have_open_files_of_their_own_are_more_than_is_looked_at(lab: Lab) -> None:
    ended = lab.run(f"THREADS = 30{HOLDS}{OWN_FILES.replace('held(False)', 'None')}", disk_mb=20)
    assert ended.exit.cause == "disk"


def test_threads_share_their_open_files_unless_one_asked_for_others(lab: Lab) -> None:
    code = "import threading, time\nfor _ in range(30): threading.Thread(target=time.sleep, args=(30,)).start()"
    with subprocess.Popen([*PYTHON, f"{code}\nprint('there', flush=True)"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"there\n"
        assert tree._with_own_files(process.pid) == [str(process.pid)]
        process.kill()


def test_very_many_mappings_are_looked_at_a_few_at_a_time(lab: Lab) -> None:
    code = (
        f"import mmap, os\nos.chdir({str(lab.folder)!r})\n"
        "name = str(os.getpid()); f = os.open(name, os.O_RDWR | os.O_CREAT); os.write(f, bytes(1_000_000))\n"
        "m = mmap.mmap(f, 1_000_000); os.unlink(name)\nprint('there', flush=True); input()"
    )
    started = [
        subprocess.Popen([*PYTHON, code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    try:
        assert [one.stdout.readline() for one in started if one.stdout is not None] == ["there\n"] * 3
        pids = [one.pid for one in started]
        few = nameless.Mappings(lab.folder)
        assert [len(few.look(pids, 0.0)) for _ in range(5)] == [1, 2, 3, 3, 3]
        assert len(nameless.Mappings(lab.folder).look(pids, 9.0)) == 3
        started[0].kill()
        started[0].wait()
        assert len(few.look(pids[1:], 0.0)) == len(few.look([*pids[1:], pids[0]], 0.0)) == 2
    finally:
        for one in started:
            one.kill()
            one.communicate()
