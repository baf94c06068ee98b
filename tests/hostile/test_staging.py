"""The files of a box, put together beforehand: the same as bubblewrap makes of the same steps, and nobody else's."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox import Confined, Policy, StartError, bubblewrap, layout, stack, staging
from sandbox.layout import Step
from sandbox.libc import LIBC
from sandbox.seen import seen
from tests.confining import Lab
from tests.processes import linux

pytestmark = [
    linux,
    pytest.mark.skipif(os.getuid() != 0 or not bubblewrap.boxes(), reason="only root puts them together beforehand"),
]
# Every mount with what it allows, and every name in the folders that the steps made.
LISTED = """
import os
for line in open("/proc/self/mountinfo"):
    words = line.split()
    allowed = set(words[5].split(",")) - {"relatime"}
    print("mount", words[4], words[3] * (words[4] != "/"), *sorted(allowed))
for folder in ("/", "/dev", "/etc", "/tmp", "/usr", "/sys", "/sys/devices"):
    for name in sorted(os.listdir(folder)):
        info = os.lstat(os.path.join(folder, name))
        print("name", folder, name, oct(info.st_mode), info.st_uid)
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Where another user gets to."""
    folder = Path(tempfile.mkdtemp(prefix="caddie-staging-"))
    folder.chmod(0o755)
    (folder / "out").mkdir()
    yield Lab(folder)
    shutil.rmtree(folder)


def policy(lab: Lab, *read: str) -> Policy:
    common = seen(("numpy",))
    return Policy(str(lab.folder / "out"), read, common.programs, common.hidden, common.packages)


def run(lab: Lab, code: str, rules: Policy) -> str:
    log = lab.folder / "log"
    log.unlink(missing_ok=True)
    out = lab.folder / "out"
    command = ("/usr/bin/python3", "-I", "-S", "-c", code)
    ended = Confined(
        command, cwd=out, env={}, limits=lab.limits(), log=log, folder=out, policy=rules, walls=stack(rules)
    ).wait()
    assert ended.ok, (ended, log.read_text())
    return log.read_text()


@pytest.mark.parametrize("staged", [True, False])
def test_the_devices_of_the_machine_keep_no_mark_whoever_puts_them_there(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, staged: bool
) -> None:
    """All may write to them, and so say that they were used now: a later run would see when."""
    monkeypatch.setattr(staging, "works", lambda: staged)
    nodes = [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")]
    before = times(nodes)
    code = f"""
import os
for node in {nodes}:
    for times in (None, (1, 1)):
        try: os.utime(node, times)
        except OSError: pass
open("/dev/null", "w").write("x")
print(len(open("/dev/zero", "rb").read(3)))
"""
    assert run(lab, code, policy(lab)) == "3\n"
    assert times(nodes) == before


def times(nodes: list[str]) -> list[tuple[int, int]]:
    return [(one.st_atime_ns, one.st_mtime_ns) for one in (Path(node).stat() for node in nodes)]


def test_they_are_what_bubblewrap_makes_of_the_same_steps(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    given = lab.folder / "given"
    given.mkdir()
    (given / "text").touch()
    os.mkfifo(given / "pipe")
    rules = policy(lab, str(given))
    assert staging.works()
    ours = set(run(lab, LISTED, rules).splitlines())
    monkeypatch.setattr(staging, "works", lambda: False)
    theirs = set(run(lab, LISTED, rules).splitlines())
    # Bubblewrap has a file system of its own for /dev, ours is in that of the root; nodes can be written to on either.
    nodes = {f"/dev/{name}" for name in staging.NODES if Path("/dev", name).exists()}
    differing = {tuple(line.split()[:2]) for line in theirs ^ ours}
    assert differing == {("mount", place) for place in ("/dev", *nodes)}
    assert len([line for line in ours if line.startswith("mount")]) > 25


def test_what_is_mounted_below_is_as_closed_as_what_it_is_below(lab: Lab) -> None:
    given = lab.folder / "given"
    (given / "below").mkdir(parents=True)
    staging._mount("none", str(given / "below"), "tmpfs", 0)
    try:
        said = run(lab, LISTED, policy(lab, str(given)))
    finally:
        LIBC.umount2(os.fsencode(given / "below"), 0)
    rows = {words[1]: set(words[2:]) for words in map(str.split, said.splitlines()) if words[0] == "mount"}
    assert {"ro", "nosuid", "nodev"} <= rows[str(given)] & rows[str(given / "below")]
    written = {place for place, allowed in rows.items() if "rw" in allowed}
    assert written == {"/dev/pts", "/dev/shm", "/tmp", "/proc", str(lab.folder / "out")}


def test_devices_can_be_opened_and_covered_doors_can_not(lab: Lab) -> None:
    given = lab.folder / "given"
    given.mkdir()
    os.mkfifo(given / "pipe")
    code = (
        "import os\n"
        "open('/dev/null', 'w').write('x')\n"
        "assert len(open('/dev/urandom', 'rb').read(9)) == 9 and open('/dev/zero', 'rb').read(2) == bytes(2)\n"
        "above, below = os.openpty(); os.write(below, b'x'); assert os.read(above, 1) == b'x'\n"
        "open('/dev/shm/x', 'w').write('x'); open('/tmp/x', 'w').write('x')\n"
        f"try: os.open({str(given / 'pipe')!r}, os.O_RDWR)\nexcept PermissionError: print('end')"
    )
    assert run(lab, code, policy(lab, str(given))) == "end\n"


def test_a_folder_of_devices_is_there_with_all_that_is_in_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the driver of NVIDIA has one beside its nodes."""
    given = Path(tempfile.mkdtemp(prefix="caddie-caps-", dir="/dev"))
    monkeypatch.setattr(layout, "gpu_nodes", lambda gpus: [str(given)])
    code = f"import os; print(os.listdir({str(given)!r}), open({str(given / 'cap1')!r}, 'rb').read(2))"
    try:
        given.chmod(0o755)
        os.mknod(given / "cap1", stat.S_IFCHR, Path("/dev/zero").stat().st_rdev)
        (given / "cap1").chmod(0o444)
        for staged in (True, False):
            monkeypatch.setattr(staging, "works", lambda staged=staged: staged)
            assert run(lab, code, policy(lab)) == "['cap1'] b'\\x00\\x00'\n"
    finally:
        shutil.rmtree(given)


def test_memory_has_its_size(lab: Lab) -> None:
    code = "import os\nfor path in ('/tmp', '/dev/shm'): i = os.statvfs(path); print(i.f_blocks * i.f_frsize)"
    sizes = [int(word) for word in run(lab, code, policy(lab)).split()]
    assert [size // 1_000_000 for size in sizes] == [lab.limits().memory_mb] * 2


def test_nobody_else_sees_any_of_it(lab: Lab) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    run(lab, "", policy(lab))
    assert Path("/proc/self/mountinfo").read_text() == before
    assert list((lab.folder / staging.FOLDER).iterdir()) == []


def test_what_is_not_there_any_more_is_said_in_the_log(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "steps", lambda policy: [Step("show", "/x", "/is/not")])
    with pytest.raises(StartError, match="preexec"):
        run(lab, "", policy(lab))
    said = (lab.folder / "log").read_text()
    assert "the files of its box can't be put together" in said and "/is/not" in said


def test_a_file_that_is_to_be_read_is_never_made_in_its_place(lab: Lab) -> None:
    """Of a part of what is shown already that has gone meanwhile: the folder outside stays as it is."""
    given = lab.folder / "given"
    given.mkdir()
    steps = [*layout.steps(policy(lab, str(given))), Step("file", str(given / "gone"), "/dev/null")]
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            staging.make(steps, staging.place(str(lab.folder / "out")), 1_000_000)
        except OSError as error:
            os.write(writing, str(error.errno).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading) as said:
        assert said.read() == "30"  # EROFS
    assert list(given.iterdir()) == []


def test_an_older_kernel_leaves_it_to_bubblewrap(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_number", lambda: None)
    staging.works.cache_clear()
    assert not staging.works()
    try:
        assert run(lab, "print('end')", policy(lab)) == "end\n"
        assert not (lab.folder / staging.FOLDER).exists()
    finally:
        staging.works.cache_clear()


def test_a_box_without_a_user_of_its_own_is_left_to_bubblewrap(lab: Lab) -> None:
    assert stack(replace(policy(lab), box="plain")).uid is None
    assert run(lab, "print('end')", replace(policy(lab), box="plain")) == "end\n"
    assert not (lab.folder / staging.FOLDER).exists()
