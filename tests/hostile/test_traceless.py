"""What one session has had read in tells the next one nothing, also among the real processes of the judge."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import reach
from agent.job.folder import JobPaths
from agent.reach import Reach
from sandbox import Confined, Policy, canaries, groups
from sandbox.probe.page_cache import by_mincore
from sandbox.seen import seen
from tests.confining import Lab
from tests.judging import make_job, run_session, toy
from tests.processes import linux

pytestmark = [linux, pytest.mark.skipif(not groups.forgets(), reason="no control group that forgets what was read")]


@pytest.fixture
def shared() -> Iterator[Path]:
    """A file of a few pages that a run may read, on a disk, and not in memory."""
    folder = Path(tempfile.mkdtemp(prefix="caddie-traceless-", dir=Path(__file__).parents[2]))
    folder.chmod(0o755)
    file = folder / "library.so"
    file.write_bytes(os.urandom(20_000))
    file.chmod(0o644)
    canaries._drop(str(file))
    yield file
    shutil.rmtree(folder)


@pytest.mark.parametrize("traceless", [True, False])
def test_what_a_run_was_the_first_to_read_leaves_memory_with_it(tmp_path: Path, shared: Path, traceless: bool) -> None:
    if by_mincore(str(shared)):
        pytest.skip("this file is in memory for good")
    common, out = seen(()), tmp_path / "out"
    out.mkdir()
    rules = Policy(str(out), (str(shared),), common.programs, common.hidden, minimum="base", traceless=traceless)
    confined = Confined(
        ("/usr/bin/python3", "-I", "-S", "-c", f"print(len(open({str(shared)!r}, 'rb').read()))"),
        cwd=out,
        env={},
        limits=Lab(tmp_path).limits(),
        log=tmp_path / "log",
        folder=out,
        policy=rules,
    )
    assert confined.wait().ok and (tmp_path / "log").read_text() == "20000\n"
    assert by_mincore(str(shared)) is not traceless


def test_processes_that_see_validation_text_are_traceless_and_others_need_not_be(tmp_path: Path) -> None:
    usual = Reach("landlock")
    assert reach.scoring(toy(""), usual).traceless and reach.asked(toy(""), tmp_path).traceless
    assert not reach.training(toy(""), JobPaths(tmp_path), tmp_path, usual).traceless


# It looks whether a process before it has read the file, and reads it, before it answers as an honest one does.
LOOKS = """
import mmap, resource, sys
from pathlib import Path
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_majflt
with open({path!r}, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
    before = faults()
    pages[0]
    print(sys.argv[1], "found it" if faults() == before else "found nothing", flush=True)
    file.read()
sys.path.insert(0, str(Path(__file__).parent))
exec(compile(Path(__file__).with_name("hostile.py").read_text(), "hostile.py", "exec"))
"""


@pytest.mark.parametrize("traceless", [True, False])
def test_no_process_of_a_judge_session_finds_what_another_has_read(
    tmp_path: Path, shared: Path, traceless: bool
) -> None:
    if by_mincore(str(shared)):
        pytest.skip("this file is in memory for good")
    task = make_job(tmp_path / "job", how="plain")
    script = Path(task.script).with_name("looks.py")
    script.write_text(LOOKS.format(path=str(shared)))
    policy = replace(task.policy, read=(*task.policy.read, str(shared)), traceless=traceless)
    found = run_session(task, script=str(script), code=(str(script),), policy=policy, heard=True)
    assert found.status == "ok", found.reason
    said = (JobPaths(Path(task.folder)).score_log).read_text().splitlines()
    assert [line.split()[0] for line in said] == ["encode", "decode", "score", "score"]
    later = "found nothing" if traceless else "found it"
    assert [line.partition(" ")[2] for line in said] == ["found nothing", *[later] * 3]
