"""What one process of a judge session leaves on the machine tells the next one nothing, at every level of walls that a
score may be blind at: also where processes of a run may talk to each other, as those of several GPUs must."""

import secrets
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from agent import reach
from agent.job.folder import JobPaths
from agent.judge.measure import marks, trust_of
from agent.judge.phase import SESSION, SESSION_ENV, session_command
from agent.judge.task import Measured
from agent.reach import Reach
from sandbox import Level, groups
from sandbox.walls import why_not
from tests.judging import HEARD, make_job, toy
from tests.processes import linux
from tests.shepherding import started_at

pytestmark = [linux, pytest.mark.skipif(bool(why_not()), reason="not every level of walls can be put up here")]

# Each process looks for what those before it left, leaves the same, and then answers as an honest one does.
LOOKS = """
import fcntl, glob, os, socket, struct, sys
from pathlib import Path
WORD, FIRST = {word!r}, {port}
def in_files(folder):
    note = Path(folder, WORD)
    try: found = note.exists()
    except OSError: found = False
    try: note.write_text("x")
    except OSError: pass
    return found
def bound(port):
    one = socket.socket()
    one.bind(("127.0.0.1", port))
    one.listen()
    return one
def in_ports():
    # Whoever closes a connection first keeps its port taken for a minute, also when it has ended.
    found = False
    for port in range(FIRST, FIRST + 4):
        try:
            here = bound(port)
        except PermissionError: continue
        except OSError:
            found = True
            continue
        there = socket.create_connection(("127.0.0.1", port))
        guest, _ = here.accept()
        guest.close()
        there.close()
        here.close()
    return found
def in_extents():
    # ext4 says of which files somebody has asked where they lie; each process reads this one below.
    asked = bytearray(struct.pack("=QQIIII", 0, 1 << 60, 0, 0, 0, 0))
    with Path(__file__).with_name("hostile.py").open() as file:
        try: fcntl.ioctl(file, 0xC020662A, asked)
        except OSError: return False
    return struct.unpack_from("=QQIIII", asked)[3] > 0
ways = dict(shm=in_files("/dev/shm"), tmp=in_files("/tmp"), var_tmp=in_files("/var/tmp"), ports=in_ports())
ways |= dict(extents=in_extents())
print(sys.argv[1], "found", sorted(name for name, found in ways.items() if found), flush=True)
sys.path.insert(0, str(Path(__file__).parent))
exec(compile(Path(__file__).with_name("hostile.py").read_text(), "hostile.py", "exec"))
"""


def session(folder: Path, level: Level) -> tuple[list[str], Measured]:
    """What its processes found, in their order, and what came of the session."""
    task = make_job(folder, how="plain", script="looks.py")
    paths, word = JobPaths(folder), f"caddie-{secrets.token_hex(8)}"
    Path(task.script).write_text(LOOKS.format(word=word, port=20_000 + secrets.randbelow(10_000)))
    policy = replace(reach.scoring(toy(), Reach("pod" if level == "pod" else "landlock")), loopback=True)
    argv = [
        started_at(level, HEARD) if one == SESSION else one for one in session_command(replace(task, policy=policy))
    ]
    try:
        done = subprocess.run(
            argv, cwd=folder, env=SESSION_ENV, capture_output=True, text=True, timeout=60, check=False
        )
        found = Measured.from_json(paths.measure.read_text())
        assert (found.status, done.returncode) == ("ok", 0), (found.reason, paths.score_log.read_text())
        assert level in found.walls
    finally:
        for place in ("/dev/shm", "/tmp", "/var/tmp"):
            Path(place, word).unlink(missing_ok=True)
    said = [line for line in paths.score_log.read_text().splitlines() if " found " in line]
    assert [line.split()[0] for line in said] == ["encode", "decode", "score", "score"]
    return [line.partition(" found ")[2] for line in said], found


@pytest.mark.parametrize("level", ["namespaces", "landlock"])
def test_nothing_that_is_left_is_found(tmp_path: Path, level: Level) -> None:
    said, found = session(tmp_path / "job", level)
    assert said == ["[]"] * 4
    # Times of access, and where no group forgets what was read also its pages in memory, are not among the ways above.
    assert ("traceless" in found.walls) is (level == "namespaces" and groups.forgets()) is not bool(marks(found))


def test_where_files_are_open_to_all_of_them_no_score_is_blind(tmp_path: Path) -> None:
    """Two processes that can tell each other the text agree about it, whatever they are asked."""
    said, found = session(tmp_path / "job", "pod")
    assert said[0] == "[]" and all("tmp" in one for one in said[1:])
    assert found.audit is not None
    full = replace(found, audit=replace(found.audit, strength="full", even=0.0, rare=0.0), findings=())
    assert trust_of(full) == "measured"
    assert trust_of(replace(full, walls=("landlock", "seccomp"))) == "blind"
