"""File systems in memory that only a box sees, with real boxes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Confined, groups, memory_files, tree, watch
from sandbox.memory_files import Held, held
from sandbox.mounts import mounts
from tests.confining import PYTHON, Lab
from tests.processes import linux, until

pytestmark = [linux, pytest.mark.skipif(shutil.which("bwrap") is None, reason="no bubblewrap here")]
BOX = (
    *("bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"),
    *("--tmpfs", "/tmp", "--tmpfs", "/dev/shm"),
    *("--ro-bind", sys.prefix, sys.prefix),  # which may lie in /tmp
)


@pytest.fixture
def box(tmp_path: Path) -> Iterator["Box"]:
    opened = Box(tmp_path)
    yield opened
    opened.process.kill()
    opened.process.wait()


class Box:
    """A shell in a box, that does what it is told."""

    def __init__(self, folder: Path) -> None:
        self.done = folder / "done"
        command = [*BOX, "--bind", str(folder), str(folder), "--die-with-parent", "sh"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, bufsize=1)
        self.does("true")

    def does(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}; : > {self.done}\n")
        until(self.done.exists)
        self.done.unlink()

    def held(self) -> Held:
        return held(tree.descendants([self.process.pid]))


def test_they_are_measured_whole_and_once(box: Box) -> None:
    box.does("sleep 60 & sleep 60 & true")
    before = box.held()
    assert before.bytes < 100_000
    box.does("head -c 5000000 /dev/zero > /tmp/a; head -c 3000000 /dev/zero > /dev/shm/b; truncate -s 9G /tmp/sparse")
    size = box.held().bytes - before.bytes
    assert 8_000_000 <= size < 8_100_000
    box.does(
        "mkdir /tmp/d; for i in 1 2 3 4 5 6 7 8 9; do : > /tmp/d/$i; done; exec 3> /tmp/nameless; rm /tmp/nameless"
    )
    assert box.held().entries - before.entries == 3 + 1 + 9 + 1


def test_what_is_ours_does_not_count_where_it_is_shown(box: Box) -> None:
    before = box.held()
    ours = Path("/dev/shm") / f"caddie-test-{os.getpid()}"
    assert held([os.getpid()]) == Held(0, 0)
    try:
        ours.write_bytes(bytes(5_000_000))
        shows = subprocess.Popen(["bwrap", "--bind", "/", "/", "--dev-bind", "/dev", "/dev", "sleep", "60"])
        until(lambda: tree.children(shows.pid))
        until(lambda: memory_files._namespace(str(tree.children(shows.pid)[0])) != memory_files._namespace("self"))
        assert held(tree.descendants([shows.pid])).bytes < 1_000_000
        assert box.held() == before
    finally:
        ours.unlink()
        shows.kill()
        shows.wait()


def test_no_link_is_followed_and_no_other_file_system_measured(tmp_path: Path) -> None:
    (tmp_path / "real" / "shm").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    root = os.open(tmp_path, os.O_PATH)
    fd = memory_files._open_below(root, "/real/shm")
    assert os.path.samestat(os.fstat(fd), (tmp_path / "real" / "shm").stat())
    assert memory_files._measured(fd) is None or Path("/tmp").is_mount()
    os.close(fd)
    opened = len(list(Path("/proc/self/fd").iterdir()))
    for place in ("/link/shm", "/link", "/pipe", "/none"):
        with pytest.raises(OSError):
            memory_files._open_below(root, place)
    assert len(list(Path("/proc/self/fd").iterdir())) == opened
    os.close(root)


def test_a_file_system_that_lies_over_another_is_not_taken_for_it(box: Box) -> None:
    box.does("head -c 5000000 /dev/zero > /tmp/a")
    pid = max(tree.descendants([box.process.pid]))
    rows = {mount.place: mount for mount in mounts(str(pid), "tmpfs")}
    root = os.open(f"/proc/{pid}/root", os.O_PATH)
    size = memory_files._size(root, rows["/tmp"])
    assert size is not None and size.bytes > 5_000_000
    assert memory_files._size(root, rows["/dev/shm"]._replace(place="/tmp")) is None
    os.close(root)


def test_strange_names_of_mounts_are_read_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ("0:9 / /a\\040b\\134\\012é rw - tmpfs none", "0:8 / /x rw - ext4 none", "8:1 / / rw - tmpfs t")
    text = "".join(f"1 0 {row} rw\n" for row in rows)
    monkeypatch.setattr(Path, "read_text", lambda *_: text)
    found = [(mount.place, mount.device) for mount in mounts("7", "tmpfs")]
    assert found == [("/a b\\\né", os.makedev(0, 9)), ("/", os.makedev(8, 1))]
    assert mounts("7", "ext4") == [("/x", os.makedev(0, 8), "ext4", ("rw",))]


def boxed(tmp_path: Path, code: str, **changed: float) -> Confined:
    out = tmp_path / "out"
    out.mkdir()
    return Confined(
        [*BOX, *PYTHON, code],
        cwd=out,
        env={"PATH": "/usr/bin:/bin"},
        limits=Lab(tmp_path).limits(**changed),
        log=tmp_path / "log",
        folder=out,
        policy=None,
    )


FILL = (
    "import time\nfor i in range(40): open(f'{}/{{i}}', 'wb').write(bytes(5_000_000)); time.sleep(0.01)\ntime.sleep(9)"
)


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])
@pytest.mark.parametrize("grouped", [True, False])
def test_files_in_memory_are_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, grouped: bool) -> None:
    if not grouped:
        monkeypatch.setattr(groups, "_places", list)
    ended = boxed(tmp_path, FILL.format(place), memory_mb=100, disk_mb=500).wait()
    assert ended.cause == "memory"
    assert 100 < ended.peak_mb < 200


def test_too_many_files_in_memory_are_too_much_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_ENTRIES", 2000)
    code = "import time\nfor i in range(3000): open(f'/tmp/{i}', 'w').close()\ntime.sleep(9)"
    assert boxed(tmp_path, code).wait().cause == "disk"
