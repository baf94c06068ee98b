"""Control groups: the real ones of this machine where it lets us, and version 2 laid out as its kernel does."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import canaries, groups, in_force, scope
from sandbox.groups import Group, Place, left_behind
from sandbox.probe.page_cache import by_mincore
from tests.grouping import UNIFIED, joined
from tests.processes import alive, linux, until

MB = 1_000_000
LIMITS = {1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"), 2: ("memory.max", "memory.swap.max")}


def _bounds() -> tuple[str, ...]:
    """What a group of ours would bind on this machine."""
    made = Group.make(1, 1 << 20)
    if made is None:
        return ()
    made.remove()
    return made.bounds


real = pytest.mark.skipif(_bounds() != ("pids", "memory"), reason="no control groups of both kinds that we may make")


@pytest.fixture
def group() -> Iterator[Group]:
    made = Group.make(100, 60 * MB)
    assert made is not None
    yield made
    for pid in made.pids():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not made.pids())
    made.remove()


@real
def test_who_joins_is_bound_in_every_hierarchy(group: Group) -> None:
    assert group.bounds == ("pids", "memory")
    with joined(group, "sys.stdin.read()") as process:
        assert group.pids() == {process.pid}
        lines = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
        assert len([line for line in lines if f"/{groups.PREFIX}" in line]) == len(group._parts)
        process.kill()
    folders = [part.folder for part in group._parts]
    assert group._memory is not None
    version = group._memory.version
    limit, swap = (int((group._memory.folder / name).read_text()) for name in LIMITS[version])
    assert 59 * MB < limit <= 60 * MB and swap == (limit if version == 1 else 0)
    group.remove()
    assert not any(folder.exists() for folder in folders)


@real
@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(30_000_000)",
        "import mmap; x = mmap.mmap(-1, 30_000_000); x[::4096] = bytes(len(x[::4096]))",
        "x = os.memfd_create('x'); os.write(x, bytes(30_000_000))",
        "open('/dev/shm/' + sys.argv[0] * 0 + 'caddie-test', 'wb').write(bytes(30_000_000))",
    ],
    ids=["of a process", "shared mapping", "memfd", "tmpfs"],
)
def test_it_counts_what_can_not_be_given_back(group: Group, code: str) -> None:
    try:
        with joined(group, f"{code}\nprint('done', flush=True)\nsys.stdin.read()") as process:
            assert process.stdout is not None and process.stdout.readline() == "done\n"
            assert 30 * MB <= (group.memory() or 0) < 55 * MB
            assert group.out_of_memory() is False
            process.kill()
    finally:
        Path("/dev/shm/caddie-test").unlink(missing_ok=True)


@real
def test_files_that_are_only_read_do_not_count(group: Group, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(150 * MB))
    code = f"f = open({str(big)!r}, 'rb')\nwhile f.read(1 << 20): pass\nprint('done', flush=True)\nsys.stdin.read()"
    with joined(group, code) as process:
        assert process.stdout is not None and process.stdout.readline() == "done\n"
        assert (group.memory() or 0) < 30 * MB and group.out_of_memory() is False
        process.kill()


@real
def test_it_forgets_what_it_was_the_first_to_read_and_nothing_else(group: Group, tmp_path: Path) -> None:
    here = Path(tempfile.mkdtemp(dir=Path(__file__).parent))  # on a disk: what is in memory only is never forgotten
    files = [here / name for name in ("first", "second", "before")]
    try:
        for file in files:
            file.write_bytes(os.urandom(30_000))
            canaries._drop(str(file))
        files[2].read_bytes()
        if by_mincore(str(files[0])):
            pytest.skip("these files are in memory for good")
        reads = f"[open(path, 'rb').read() for path in {list(map(str, files))}]"
        with joined(group, f"{reads}\nprint('done', flush=True)\nsys.stdin.read()") as process:
            assert process.stdout is not None and process.stdout.readline() == "done\n"
            assert [by_mincore(str(file)) for file in files] == [True, True, True]
            process.kill()
        until(lambda: not group.pids())
        assert group.forgets and groups.forgets()
        group.forget()
        assert [by_mincore(str(file)) for file in files] == [False, False, True]
    finally:
        shutil.rmtree(here)


@real
def test_it_knows_that_the_kernel_killed_one_of_it_and_only_of_it(group: Group) -> None:
    other = Group.make(100, 60 * MB)
    assert other is not None
    with joined(group, "os.fork() or bytearray(90_000_000)\nsys.stdin.read()") as process:
        until(group.out_of_memory)
        assert other.out_of_memory() is False
        process.kill()
    other.remove()


@real
def test_groups_of_a_dead_supervisor_are_found_in_every_hierarchy() -> None:
    code = (
        "import os, subprocess, sys, time\n"
        "from sandbox.groups import Group\n"
        "group = Group.make(100, 10**9); fds = group.open()\n"
        "def join(): [os.write(fd, b'0') for fd in fds]\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], preexec_fn=join,"
        " stdout=subprocess.DEVNULL)\n"
        "print(child.pid, *[part.folder for part in group._parts], flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        word, *folders = supervisor.stdout.readline().split()
        pid = int(word)
        assert pid not in left_behind() and len(folders) >= 1
        supervisor.kill()
    until(lambda: pid in left_behind())
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not left_behind() and not any(Path(folder).exists() for folder in folders))


@real
def test_groups_of_other_pid_namespaces_and_strangers_are_left_alone() -> None:
    ours = groups._places()[0].folder
    theirs = [ours / f"{groups.PREFIX}1-999999-1-0", ours / f"{groups.PREFIX}{groups._namespace()}-x-1-0"]
    for folder in theirs:
        folder.mkdir()
    try:
        left_behind()
        assert all(folder.exists() for folder in theirs)
    finally:
        for folder in theirs:
            folder.rmdir()


@pytest.mark.skipif(not os.access(UNIFIED, os.W_OK), reason="no control group of version 2 that we may make")
def test_kill_ends_all_at_once() -> None:
    folder = UNIFIED / f"{groups.PREFIX}test-{os.getpid()}"
    folder.mkdir()
    group = Group([Place(folder, 2, ())])
    with joined(group, "[os.fork() for _ in range(3)]\nos.setsid() if os.getpid() % 2 else 0\nsys.stdin.read()"):
        until(lambda: len(group.pids()) == 8)
        group.kill()
        until(lambda: not group.pids())
    group.remove()
    assert not folder.exists()


# ---------------------------------------------------------------- version 2, laid out


FILES = {
    "pids": {"pids.max": "", "pids.events": "max 0\n"},
    "memory": {
        "memory.max": "",
        "memory.swap.max": "",
        "memory.oom.group": "0",
        "memory.events": "low 0\nhigh 0\nmax 7\noom 0\noom_kill 0\noom_group_kill 0\n",
        "memory.stat": "anon 4096\nfile 900000\nkernel 5\nshmem 8192\nanon_thp 0\n",
    },
}


class Kernel:
    """A folder that a kernel of version 2 fills: what it hands out, each new group gets."""

    def __init__(self, mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mount = mount
        self._mkdir, self._rmdir = Path.mkdir, Path.rmdir
        self.own = mount / "user" / "app" / "ours"
        for folder in (mount, self.own.parent.parent, self.own.parent, self.own):
            self.make(folder)
        monkeypatch.setattr(Path, "mkdir", lambda path: self.make(path))
        monkeypatch.setattr(Path, "rmdir", lambda path: self.remove(path))
        monkeypatch.setattr(groups, "_mounts", lambda: ((mount, 2, ()),))
        monkeypatch.setattr(groups, "_own", lambda lines, controller: "/user/app/ours")

    def make(self, folder: Path) -> None:
        self._mkdir(folder)
        handed = folder.parent / "cgroup.subtree_control"
        words = handed.read_text().split() if handed.exists() else []
        files = {"cgroup.procs": "", "cgroup.subtree_control": "", "cgroup.kill": ""}
        for word in words:
            files |= FILES[word]
        for name, text in files.items():
            (folder / name).write_text(text)

    def remove(self, folder: Path) -> None:
        if (folder / "cgroup.procs").read_text():
            raise OSError("busy")
        for path in folder.iterdir():
            path.unlink()
        self._rmdir(folder)

    def hands_out(self, folder: Path, words: str) -> None:
        (folder / "cgroup.subtree_control").write_text(words)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(scope, "manager", lambda: None)
    return Kernel(tmp_path / "unified", monkeypatch)


@linux
def test_version_2_beside_our_own_group(kernel: Kernel) -> None:
    kernel.hands_out(kernel.own.parent, "memory pids")
    assert in_force()[-2:] == ("task-group", "memory-group")
    group = Group.make(70, 60 * MB)
    assert group is not None and group.bounds == ("pids", "memory")
    (folder,) = [path for path in kernel.own.parent.iterdir() if path.name.startswith(groups.PREFIX)]
    read = {path.name: path.read_text() for path in folder.iterdir()}
    assert (read["pids.max"], read["memory.max"]) == ("70", str(60 * MB))
    assert (read["memory.swap.max"], read["memory.oom.group"]) == ("0", "1")
    assert (group.memory(), group.out_of_memory(), group.refused()) == (12288, False, False)
    (folder / "memory.events").write_text("max 9\noom 2\noom_kill 2\n")
    (folder / "pids.events").write_text("max 3\n")
    assert group.out_of_memory() is True and group.refused()
    (folder / "cgroup.procs").write_text("41\n42\n")
    assert group.pids() == {41, 42}
    group.kill()
    assert (folder / "cgroup.kill").read_text() == "1"
    group.remove()
    assert folder.exists()  # it was not empty
    (folder / "cgroup.procs").write_text("")
    assert not group.forgets  # Linux before 5.19
    group.forget()
    (folder / "memory.reclaim").touch()
    assert group.forgets
    group.forget()
    assert int((folder / "memory.reclaim").read_text()) > 10**15
    group.remove()
    assert not folder.exists()


@linux
def test_version_2_bounds_what_it_is_handed_and_no_more(kernel: Kernel) -> None:
    assert Group.make(70, 60 * MB) is None and "task-group" not in in_force()
    kernel.hands_out(
        kernel.own, "memory"
    )  # the root of a hierarchy may have both processes and children that are bound
    group = Group.make(70, 60 * MB)
    assert group is not None and group.bounds == ("memory",)
    assert len(list(kernel.own.glob(f"{groups.PREFIX}*"))) == 1
    assert not group.refused()
    group.remove()
    kernel.hands_out(kernel.own, "")
    kernel.hands_out(kernel.own.parent, "pids")
    group = Group.make(70, 60 * MB)
    assert group is not None and (group.bounds, group.memory(), group.out_of_memory()) == (("pids",), None, None)
    group.remove()


@linux
def test_version_2_has_nothing_above_its_root(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_own", lambda lines, controller: "/")
    kernel.hands_out(kernel.own.parent, "pids memory")
    (kernel.mount.parent / "cgroup.subtree_control").write_text("pids memory")
    (kernel.mount.parent / "cgroup.procs").write_text("")
    assert Group.make(70, 60 * MB) is None


@linux
def test_each_bound_once_where_both_versions_are_mounted(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.hands_out(kernel.own.parent, "memory pids")
    old = tmp_path / "pids"
    kernel.make(old)
    kernel.hands_out(old, "pids")
    monkeypatch.setattr(groups, "_mounts", lambda: ((old, 1, ("pids",)), (kernel.mount, 2, ())))
    group = Group.make(70, 60 * MB)
    assert group is not None
    assert [(part.folder.parent, part.bounds) for part in group._parts] == [
        (old, ("pids",)),
        (kernel.own.parent, ("memory",)),
    ]
    fds = group.open()
    assert len(fds) == 2
    for fd in fds:
        os.close(fd)
    group.remove()
    assert not list(tmp_path.rglob(f"{groups.PREFIX}*"))


@linux
def test_what_dead_supervisors_left_in_version_2_is_found_and_removed(kernel: Kernel) -> None:
    kernel.hands_out(kernel.own.parent, "memory pids")
    me = f"{groups.PREFIX}{groups._namespace()}-{os.getpid()}"
    dead = [kernel.own.parent / f"{me}-1-0", kernel.own.parent.parent / f"{me}-1-1"]
    for folder in dead:
        folder.mkdir()
    (dead[0] / "cgroup.procs").write_text("4123456\n")
    living = Group.make(70, 60 * MB)
    assert left_behind() == [4123456]
    assert dead[0].exists() and not dead[1].exists()
    (dead[0] / "cgroup.procs").write_text("")
    assert left_behind() == [] and not dead[0].exists()
    assert living is not None and living._parts[0].folder.exists()
