"""Landlock, with real processes that try to reach what is not listed, with and without the rules."""

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sandbox import landlock
from tests.filtering import HEAD

pytestmark = pytest.mark.skipif(landlock.abi() < 1, reason="this kernel has no Landlock")
ENV = {"PATH": "/usr/bin:/bin", "CANARY": "in the environment"}
SYSTEM = [Path(sys.base_prefix), Path(sys.prefix), *map(Path, ("/usr", "/lib", "/lib64", "/bin", "/etc", "/proc"))]


class Place(NamedTuple):
    """A folder with a secret, something to read and a folder to write to."""

    top: Path
    read: Path
    out: Path
    secret: Path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    read, out, secret = tmp_path / "read", tmp_path / "out", tmp_path / "secret"
    for folder in (read, out, secret):
        folder.mkdir()
    (read / "shard").write_text("data")
    (read / "two").write_text("data")
    (secret / "key").write_text("secret")
    (tmp_path / "file").write_text("one file")
    return Place(tmp_path, read, out, secret)


def said(place: Place, code: str, rules: int | None) -> Any:
    def in_child() -> None:
        if rules is not None:
            landlock.enforce(rules)

    ended = subprocess.run(
        [sys.executable, "-c", f"{HEAD}\nfrom pathlib import Path\ntop = Path({str(place.top)!r})\n{code}"],
        preexec_fn=in_child,
        capture_output=True,
        timeout=60,
        cwd=place.out,
        close_fds=False,
        env=ENV,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return json.loads(ended.stdout)


@pytest.fixture
def rules(place: Place) -> Iterator[int]:
    read = [path for path in SYSTEM if path.exists()]
    fd = landlock.ruleset([*read, place.read, place.top / "file"], [place.out, Path("/dev/null")])
    yield fd
    os.close(fd)


# What is tried -> errno behind the rules; each succeeds without them.
TRIED = {
    "(top / 'read/shard').read_text": 0,
    "(top / 'file').read_text": 0,
    "lambda: list((top / 'read').iterdir())": 0,
    "lambda: (top / 'out/new').write_text('x')": 0,
    "lambda: (top / 'out/new').rename(top / 'out/newer')": 0,
    "lambda: (top / 'out/deep/er').mkdir(parents=True)": 0,
    "lambda: (top / 'out/newer').rename(top / 'out/deep/er/new')": 0,
    "lambda: (top / 'out/link').symlink_to(top / 'secret/key')": 0,
    "lambda: Path('/dev/null').write_text('x')": 0,
    "(top / 'secret/key').read_text": errno.EACCES,
    "(top / 'out/link').read_text": errno.EACCES,
    "lambda: list((top / 'secret').iterdir())": errno.EACCES,
    "lambda: list(top.iterdir())": errno.EACCES,
    "lambda: (top / 'out/hard').hardlink_to(top / 'secret/key')": errno.EXDEV,
    "lambda: (top / 'read/new').write_text('x')": errno.EACCES,
    "lambda: open(top / 'read/shard', 'a')": errno.EACCES,
    "lambda: os.truncate(top / 'read/shard', 1)": errno.EACCES,
    "lambda: open(top / 'file', 'r+')": errno.EACCES,
    "lambda: (top / 'read/folder').mkdir()": errno.EACCES,
    "lambda: (top / 'read/shard').rename(top / 'read/other')": errno.EACCES,
    "lambda: (top / 'read/two').unlink()": errno.EACCES,
    "lambda: (top / 'secret/key').rename(top / 'out/key')": errno.EACCES,
    "lambda: (top / 'out/key').rename(top / 'secret/key')": errno.ENOENT,
    "lambda: open('/dev/zero')": errno.EACCES,
    "lambda: os.mkfifo(top / 'secret/pipe')": errno.EACCES,
}


def test_only_what_is_listed_can_be_opened(place: Place, rules: int) -> None:
    code = f"print(json.dumps([{', '.join(f'tried({tried})' for tried in TRIED)}]))"
    behind = dict(zip(TRIED, said(place, code, rules), strict=True))
    assert {tried: got for tried, got in behind.items() if got != TRIED[tried]} == {}
    for path in sorted(place.out.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    bare = dict(zip(TRIED, said(place, code, None), strict=True))
    assert {tried: got for tried, got in bare.items() if got != 0} == {}


def test_programs_run_only_from_where_they_are_listed(place: Place, rules: int) -> None:
    for folder in (place.secret, place.read):
        (folder / "program").write_text("#!/bin/sh\nexit 0\n")
        (folder / "program").chmod(0o755)
    code = "import subprocess\nprint(tried(subprocess.run, [top / 'DIR/program']))"
    for folder, expected in (("secret", errno.EACCES), ("read", 0)):
        assert said(place, code.replace("DIR", folder), rules) == expected
        assert said(place, code.replace("DIR", folder), None) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_no_device_node_can_be_made_in_the_folder(place: Place, rules: int) -> None:
    code = "print(tried(os.mknod, top / 'out/DISK', KIND | 0o600, os.makedev(1, 5)))"
    for kind in ("0o020000", "0o060000"):
        assert said(place, code.replace("KIND", kind), rules) == errno.EACCES
    assert said(place, code.replace("KIND", "0o020000"), None) == 0


# Root's capabilities go, also after an exec: with CAP_PERFMON newer kernels let a process read what it likes in /proc.
ORDINARY = """
LIBC.prctl(28, 3, 0, 0, 0)
LIBC.capset((ctypes.c_uint * 2)(0x20080522, 0), (ctypes.c_uint * 6)())
"""


def test_what_proc_says_of_others_is_closed_even_where_proc_is_listed(place: Place, rules: int) -> None:
    code = f"""{ORDINARY}
def environ(inside, of):
    pid = os.fork()
    if pid == 0:
        if inside:
            sys.path.insert(0, {str(Path(__file__).parents[2])!r})
            from sandbox import landlock
            landlock.enforce({rules})
        os._exit(tried(Path(f'/proc/{{of or os.getpid()}}/environ').read_bytes))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps([environ(False, os.getpid()), environ(True, os.getpid()), environ(True, None)]))"""
    os.set_inheritable(rules, True)
    assert said(place, code, None) == [0, errno.EACCES, 0]


@pytest.mark.skipif(landlock.abi() < 6, reason="this kernel's Landlock has no scopes")
def test_signals_and_abstract_sockets_stay_inside(place: Place, rules: int) -> None:
    assert said(place, "print(tried(os.kill, os.getppid(), 0))", rules) == errno.EPERM
    assert said(place, "print(tried(os.kill, os.getppid(), 0))", None) == 0
    pidfd = "import signal\nfd = os.pidfd_open(os.getppid())\nprint(tried(signal.pidfd_send_signal, fd, 0))"
    assert said(place, pidfd, rules) == errno.EPERM
    assert said(place, pidfd, None) == 0
    inside = "pid = os.fork()\nif pid == 0:\n  import time; time.sleep(60)\nprint(tried(os.kill, pid, 9))"
    assert said(place, inside, rules) == 0
    with socket.socket(socket.AF_UNIX) as listening:
        name = f"\0caddie-test-{os.getpid()}"
        listening.bind(name)
        listening.listen()
        code = f"print(tried(socket.socket(socket.AF_UNIX).connect, {name!r}))"
        assert said(place, code, rules) == errno.EPERM
        assert said(place, code, None) == 0


def test_an_open_file_names_a_place_whatever_its_path_becomes(place: Place) -> None:
    opened = os.open(place.read, os.O_PATH)
    place.read.rename(place.top / "moved")
    (place.top / "read").symlink_to(place.secret)
    fd = landlock.ruleset([*(path for path in SYSTEM if path.exists()), opened], [place.out])
    code = "print(json.dumps([tried((top / name).read_text) for name in ('moved/shard', 'read/key')]))"
    assert said(place, code, fd) == [0, errno.EACCES]
    os.fstat(opened)  # still the caller's
    os.close(opened)
    os.close(fd)


def test_nothing_is_left_open_when_a_place_is_missing(place: Place) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(FileNotFoundError):
        landlock.ruleset([place.top / "nowhere"], [])
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_older_kernels_are_asked_for_what_they_have() -> None:
    first = landlock.handled(1)
    assert first == 2**13 - 1
    assert landlock.handled(2) == first | landlock.REFER
    assert landlock.handled(4) == landlock.handled(3) == first | landlock.REFER | landlock.TRUNCATE
    assert landlock.handled(9) == landlock.handled(5) == landlock.handled(4) | landlock.IOCTL_DEV


@pytest.mark.parametrize("version", range(1, landlock.abi() + 1))
def test_the_rules_of_older_versions_hold_here_too(place: Place, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: version)
    fd = landlock.ruleset([path for path in SYSTEM if path.exists()], [place.out])
    code = "print(json.dumps([tried((top / 'secret/key').read_text), tried((top / 'out/x').write_text, 'x')]))"
    assert said(place, code, fd) == [errno.EACCES, 0]
    os.close(fd)


def test_a_kernel_without_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(OSError, match="no Landlock"):
        landlock.ruleset([], [])
