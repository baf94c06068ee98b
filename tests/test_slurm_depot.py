"""The shared folder of a cluster: what is sent to it whole or not at all, and what hostile jobs have left in it."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.errors import InfraError
from agent.runners.slurm import porter
from agent.runners.slurm.depot import Depot, Tar, Wanted, folder_tar, own_code
from agent.runners.slurm.shell import LocalShell, Said


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    return Depot(LocalShell(), str(tmp_path / "shared"), sys.executable)


def test_folders_are_sent_once_and_whole(depot: Depot, tmp_path: Path) -> None:
    tar = Tar({"code/a.py": b"1", "b": b"\0\xff"}, ("out",))
    depot.put(f"{depot.folder}/jobs", {"r1": tar, "r2": tar})
    depot.put(f"{depot.folder}/jobs", {"r1": Tar({"b": b"other"})})
    root = tmp_path / "shared" / "jobs"
    assert (
        sorted(path.name for path in root.iterdir()) == ["r1", "r2"] and (root / "r1" / "b").read_bytes() == b"\0\xff"
    )
    assert (root / "r2" / "out").is_dir() and (root / "r2" / "code" / "a.py").read_text() == "1"
    everything = [root.parent, *root.parent.rglob("*")]
    assert {path.stat().st_mode & 0o077 for path in everything} == {0}, "others on the cluster may read it"
    with pytest.raises(InfraError, match="would lie elsewhere"):
        depot.put(f"{depot.folder}/jobs", {"r3": Tar({"../../x": b""})})
    assert sorted(path.name for path in root.iterdir()) == ["r1", "r2"] and not (tmp_path / "x").exists()


def test_content_has_its_hash_for_a_name(depot: Depot, tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    (source / "train").mkdir(parents=True)
    (source / "train" / "a").write_text("text")
    tar = folder_tar(source)
    path = Path(depot.send("data", tar.sha(), tar))
    assert (path / "train" / "a").read_text() == "text" and path.name == folder_tar(path).sha()
    (source / "train" / "a").write_text("other")
    assert folder_tar(source).sha() != path.name


def test_our_own_code_runs_where_it_was_sent(depot: Depot) -> None:
    path = depot.send("code", own_code().sha(), own_code())
    program = f"import sys; sys.path.insert(0, {path!r}); import agent.runners.slurm.batch as b; print(b.__file__)"
    said = LocalShell({}).run((sys.executable, "-I", "-c", program))
    assert said.out.decode().strip() == f"{path}/agent/runners/slurm/batch.py", said.err


def test_many_jobs_by_one_look(depot: Depot, tmp_path: Path) -> None:
    for number in range(3):
        job = tmp_path / f"r{number}"
        job.mkdir()
        (job / "train.log").write_bytes(b"step 1\nstep 2\n\xff")
        (job / "started").touch()
        (job / "heartbeat.json").write_text("{}")
    jobs = {str(n): Wanted(str(tmp_path / f"r{n}"), {"train.log": 7 * n, "judge.log": 0}) for n in range(4)}
    looks = depot.look(jobs)
    assert [looks[str(n)].logs["train.log"] for n in range(3)] == [b"step 1\nstep 2\n\xff", b"step 2\n\xff", b"\xff"]
    assert looks["0"].marks == {"started"} and looks["0"].beat == b"{}" and looks["0"].logs["judge.log"] == b""
    assert not looks["3"].there and looks["0"].there


def test_traps_are_not_stepped_into(depot: Depot, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    job = tmp_path / "job"
    job.mkdir()
    (job / "train.log").symlink_to(secret)
    (job / "heartbeat.json").symlink_to(secret)
    os.mkfifo(job / "judge.log")
    os.link(secret, job / "measure.json")
    (job / "score.log").mkdir()
    (job / "result.json").write_bytes(b"x" * 2000)
    (job / "good").write_text("good")
    seen = depot.look({"j": Wanted(str(job), dict.fromkeys(("train.log", "judge.log", "score.log"), 0))})["j"]
    assert set(seen.logs.values()) == {b""} and seen.beat == b""
    names = ("train.log", "judge.log", "measure.json", "score.log", "result.json", "good", "none")
    assert depot.fetch(str(job), dict.fromkeys(names, 1000), {}) == {"good": b"good"}


def test_a_big_file_comes_in_pieces(depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.runners.slurm import depot as module

    monkeypatch.setattr(module, "PORTER", module.PORTER.replace("ALL = 8_000_000", "ALL = 1000"))
    (tmp_path / "a").write_bytes(bytes(range(250)) * 17)
    (tmp_path / "b").write_bytes(b"b" * 900)
    got = depot.fetch(str(tmp_path), {"a": 10_000, "b": 10_000}, {"b": 100})
    assert got == {"a": bytes(range(250)) * 17, "b": b"b" * 800}


def test_what_was_used_is_dropped(depot: Depot, tmp_path: Path) -> None:
    job = tmp_path / "jobs" / "r1"
    (job / "out" / "deep").mkdir(parents=True)
    (job / "out" / "deep").chmod(0)
    (job / "out").chmod(0)
    (tmp_path / "kept").mkdir()
    (tmp_path / "jobs" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "jobs" / "a.log").touch()
    deepest = job.parent / "r0"
    deepest.mkdir()
    at = os.open(deepest, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("a", dir_fd=at)
        at, above = os.open("a", os.O_RDONLY, dir_fd=at), at
        os.close(above)
    os.close(at)
    depot.drop([f"{deepest}", f"{job}", f"{job.parent}/link", f"{job.parent}/a.log", f"{job.parent}/none"])
    assert depot.names(str(job.parent)) == [] and (tmp_path / "kept").is_dir()
    depot.mark([str(tmp_path / "kept" / "cancel")])
    assert depot.names(str(tmp_path / "kept")) == ["cancel"]


class Says(LocalShell):
    """Answers with what a test wants."""

    def __init__(self, out: bytes) -> None:
        self.out = out

    def run(self, words: Sequence[str], stdin: bytes = b"", *, within_s: float = 1, most: int = 1) -> Said:
        return Said(0, self.out, "")


@pytest.mark.parametrize(
    "out",
    [
        b"",
        b"\xff\n",
        b"[1]\nx",
        b'{"a": [1, 9]}\nx',
        b'{"a": [1, -1]}\nx',
        b'{"a": ["1", 1]}\nx',
        b'{"b": [1, 1]}\nx',
        b'{"a": [5, 0]}\n',
        b'{"a": 3}\n',
    ],
)
def test_an_answer_that_is_none(out: bytes) -> None:
    with pytest.raises(InfraError, match="/jobs"):
        Depot(Says(out), "/jobs", "python3").fetch("/jobs/r1", {"a": 10}, {})


def test_looks_that_are_none() -> None:
    good = {"there": True, "marks": ["started", "x"], "beat": "", "logs": {"train.log": "eA=="}}
    lines = [json.dumps({"a": good}), "rubbish", '{"b": {}}', '{"c": 1}', '{"d": {"there": 1, "marks": 3}}', "[]", "{}"]
    lines += [json.dumps({"e": {**good, "beat": "%%"}}), json.dumps({"zz": good})]
    depot = Depot(Says("\n".join(lines).encode()), "/jobs", "python3")
    looks = depot.look({name: Wanted("/jobs/r1", {"train.log": 0}) for name in "abcde"})
    assert set(looks) == {"a"} and looks["a"].marks == {"started"} and looks["a"].logs == {"train.log": b"x"}
    assert porter.MARKS[0] == "began"
