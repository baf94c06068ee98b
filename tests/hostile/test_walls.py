"""Which walls stand: the strongest that a machine has, never weaker than asked; and the table of what they hold off."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import reach
from agent.report import doctor
from agent.runners.local import LocalRunner
from sandbox import Confined, NoWalls, bubblewrap, groups, in_force, landlock, level, readers, stack, table, walls
from sandbox.names import both
from sandbox.policy import LEVELS, reaches
from sandbox.walls import Stack
from tests.confining import Lab, boxed, policy, run
from tests.judging import toy
from tests.processes import linux

ROOT = Path(__file__).parents[2]
pytestmark = linux


@pytest.fixture(autouse=True)
def _asked_again() -> Iterator[None]:
    """What a machine has is remembered; here it changes."""
    memories = (walls._box, walls.why_not, walls._doorman_works)
    for memory in memories:
        memory.cache_clear()
    yield
    for memory in memories:
        memory.cache_clear()


def test_levels_are_in_order_and_names_say_which() -> None:
    assert [asked for asked in LEVELS if not reaches("landlock", asked)] == ["namespaces"]
    assert level(("env", "seccomp", "namespaces", "uid")) == "namespaces"
    assert level(("env", "unsafe")) == "unsafe" and level(("env", "seccomp")) == "base"


def test_what_did_not_stand_around_both_parts_of_a_run_did_not_stand() -> None:
    trained, judged = ("env", "namespaces", "seccomp"), ("env", "seccomp", "landlock", "twin")
    assert both(trained, judged) == both(judged, trained) == ("env", "seccomp")
    for lack in ("may-outlive", "unsafe"):  # of one part is of the whole
        assert both((*trained, lack), trained) == (*trained, lack) == both(trained, (*trained, lack))
        assert both((*trained, lack), (*trained, lack)) == (*trained, lack)
    assert both(trained, (*trained, "traceless")) == (*trained, "traceless")  # training sees no validation text


@boxed
def test_without_a_trace_is_what_a_group_forgets_behind_the_strongest_walls(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = policy(lab.folder / "out", traceless=True)
    for forgets in (True, False):
        monkeypatch.setattr(groups.Group, "forgets", property(lambda _, forgets=forgets: forgets))
        grouped = forgets and "memory-group" in in_force()
        assert ("traceless" in in_force(rules)) is grouped
        assert "traceless" not in in_force(replace(rules, traceless=False)) and "traceless" not in in_force()
        (told,) = doctor._walls(lab.folder, probe=False)
        assert (told.state, "Not traceless" in told.words) == ("good" if grouped else "note", not grouped)
    monkeypatch.setattr(groups.Group, "forgets", True)
    monkeypatch.setattr(bubblewrap, "boxes", list)
    walls._box.cache_clear()
    assert "traceless" not in in_force(replace(rules, minimum="base"))


@pytest.mark.parametrize(("abi", "guaranteed"), [(0, False), (3, False), (5, False), (6, True)])
def test_the_row_says_where_nothing_ends_a_run_whose_supervisor_was_killed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, abi: int, guaranteed: bool
) -> None:
    monkeypatch.setattr(bubblewrap, "boxes", list)
    monkeypatch.setattr(landlock, "abi", lambda: abi)
    monkeypatch.setattr(readers, "reaches", lambda policy: False)
    for minimum in ("base", "pod"):
        found = walls.strongest(policy(lab.folder, minimum=minimum))
        assert (found.level in ("base", "pod")) is (abi == 0)
        assert ("twin" in found.names) is guaranteed and ("may-outlive" in found.names) is not guaranteed
    (told,) = doctor._walls(lab.folder, probe=False)
    assert ("may-outlive: should a run's shepherd be killed" in told.words) is not guaranteed
    monkeypatch.setattr(walls, "_filters", lambda loopback, pinned: False)  # and no twin at all
    assert "may-outlive" in walls.strongest(policy(lab.folder, minimum="base")).names


@boxed
def test_the_strongest_that_is_here_stands(lab: Lab) -> None:
    found = stack(policy(lab.folder))
    assert found.level == "namespaces" and {"namespaces", "seccomp"} <= set(found.names)
    assert ("uid" in found.names) == (os.getuid() == 0)


def test_without_namespaces_landlock_stands(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "boxes", list)
    if landlock.abi() < walls.OLDEST_LANDLOCK:
        pytest.skip("this kernel has no Landlock that would do")
    assert stack(policy(lab.folder)).level == "landlock"
    with pytest.raises(NoWalls, match=r"bubblewrap is not installed.*--unsafe-no-sandbox"):
        stack(policy(lab.folder, minimum="namespaces"))


def test_with_neither_it_depends_on_who_wrote_the_code(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "boxes", list)
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(NoWalls, match="the kernel has no Landlock"):
        stack(policy(lab.folder))
    assert stack(policy(lab.folder, minimum="pod")).level == "pod"
    known = stack(policy(lab.folder, minimum="base"))
    assert known.level == "base" and "unsafe" not in known.names
    risked = stack(policy(lab.folder, minimum="unsafe"))
    assert risked.level == "unsafe" and "unsafe" in risked.names


def test_what_is_said_of_a_machine_is_what_its_runs_get(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are none, what changes nothing but knobs runs all the same; level `pod` is for who asks for it."""
    monkeypatch.setattr(bubblewrap, "boxes", list)
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    track = toy("")
    assert LocalRunner(1).level(reach.asked(track, lab.folder)) == "base"
    assert reach.lacking(track, "base", unsafe=False).startswith("this machine has no walls for code")
    accepts = track.model_copy(update={"sandbox": track.sandbox.model_copy(update={"minimum": "pod"})})
    level = LocalRunner(1).level(reach.asked(accepts, lab.folder))
    assert level == "pod" and reach.lacking(accepts, level, unsafe=False) == ""
    monkeypatch.undo()
    assert LocalRunner(1).level(reach.asked(accepts, lab.folder)) == stack(policy(lab.folder)).level


@boxed
def test_what_was_tried_once_is_not_tried_by_every_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert walls.tried() == ""
    assert stack(policy(lab.folder)).level == "namespaces"
    known = walls.tried()
    assert known == ("own" if os.getuid() == 0 else "plain")
    walls._box.cache_clear()
    monkeypatch.setattr(walls, "_attempt", lambda box: pytest.fail("it was tried again"))
    assert stack(policy(lab.folder, box=known)).box is not None
    monkeypatch.setattr(bubblewrap, "boxes", list)
    assert stack(policy(lab.folder, box=known)).level != "namespaces"


def test_a_box_that_does_not_work_is_none(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = lab.folder / "bwrap"
    fake.write_text("#!/bin/sh\necho no permissions to create a new namespace >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "boxes", lambda: [bubblewrap.Box(str(fake), None)])
    assert stack(policy(lab.folder)).level != "namespaces"
    assert "no permissions to create a new namespace" in walls.why_not()


@boxed
@pytest.mark.parametrize(("code", "rc", "number"), [("raise SystemExit(3)", 3, None), ("os.kill(0, 11)", None, 11)])
def test_a_box_ends_as_what_is_in_it_ends(lab: Lab, code: str, rc: int | None, number: int | None) -> None:
    ended = Confined(
        (sys.executable, "-c", f"import os; {code.replace('kill(0', 'kill(os.getpid()')}"),
        cwd=lab.folder / "out",
        env={},
        limits=lab.limits(processes=1),  # bubblewrap's own do not count
        log=lab.folder / "log",
        folder=lab.folder / "out",
        policy=policy(lab.folder / "out"),
    ).wait()
    assert (ended.cause, ended.rc, ended.signal) == ("exited", rc, number)


DOORKEPT = Stack("landlock", ("landlock", "seccomp", "doorman"))
SLOW_TO_GO = "import os\nblob = bytearray(230_000_000)\nfor at in range(0, len(blob), 4096): blob[at] = 1\nos._exit(0)"


def test_a_doorman_that_goes_first_ends_nobody(lab: Lab) -> None:
    """The kernel tells it of the end before it takes the memory back, which takes a while."""
    for _ in range(12):
        assert run(lab, SLOW_TO_GO, policy(lab.folder / "out"), DOORKEPT) == ""


@boxed
@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="the columns of the table were measured as root")
def test_the_table_of_attempts_is_as_documented() -> None:
    """Each wall alone flips its own column; the full stack denies all but what the page says."""
    text = (ROOT / "docs" / "SECURITY.md").read_text("utf-8")
    rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line.count("|") > 9
    ]
    header, *rest = (row for row in rows if not set("".join(row)) <= set("-|"))
    documented = {row[0]: dict(zip(header[2:], row[2:], strict=True)) for row in rest}
    found = table.measured()
    assert set(found) == set(documented) == set(table.attempts()) and len(found) > 40
    signs = {name: {column: table.SIGNS[one.got] for column, one in row.items()} for name, row in found.items()}
    tried = next(iter(signs.values()))  # the system's Python may be too old for an ordinary user to try it
    documented = {name: {column: row[column] for column in row if column in tried} for name, row in documented.items()}
    here = [name for name in found if "?" not in (*signs[name].values(), *documented[name].values())]
    assert len(here) > 100 and all(signs[name]["bare"] == "out" for name in here)
    assert {name: signs[name] for name in here} == {name: documented[name] for name in here}
    out = {name for name, row in signs.items() if row["full"] == "out"}
    assert out == table.known("namespaces")
    trained = {of: {name for name, row in signs.items() if row[of] == "out"} for of in tried if "training" in of}
    assert trained.pop("full-training") == table.known("namespaces", trains=True)
    assert all(out <= table.known("landlock", trains=True) for out in trained.values())
    of_users = {name for name, row in signs.items() if row.get("ordinary") == "out"}
    assert of_users == (table.BY_USERS if "ordinary" in tried else set())


RANKS = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
x = torch.ones(4) * (dist.get_rank() + 1)
dist.all_reduce(x)
os.write(1, f"sum {x.sum().item()}".encode() + bytes([10]))  # at once: two processes share the pipe
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["namespaces", "landlock"])
def test_processes_of_one_run_talk_by_loopback(lab: Lab, where: str) -> None:
    """torchrun looks up its own host's name, listens, connects, and starts its workers in sessions of their own."""
    put_up = None if where == "namespaces" else Stack("landlock", ("landlock", "seccomp", "doorman"))
    (lab.folder / "out" / "ranks.py").write_text(RANKS)
    code = (
        "import sys\nfrom torch.distributed.run import main\n"
        "main(['--nproc-per-node', '2', '--master-addr', '127.0.0.1', '--master-port', '29511', 'ranks.py'])"
    )
    env = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "TMPDIR": str(lab.folder / "out"), "USER": "candidate"}
    ended = Confined(
        (sys.executable, "-c", code),
        cwd=lab.folder / "out",
        env=env,
        limits=lab.limits(wall_s=150, memory_mb=3000, processes=16),
        log=lab.folder / "log",
        folder=lab.folder / "out",
        policy=policy(lab.folder / "out", "torch", "numpy", loopback=True),
        walls=put_up,
    ).wait()
    said = (lab.folder / "log").read_text()
    assert ended.ok and said.count("sum 12.0") == 2, f"{ended}\n{said[:6000]}"
