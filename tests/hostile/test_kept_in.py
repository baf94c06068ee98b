"""What is out of a candidate's reach behind walls, with the real shepherd and the policies that real runs get."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent import reach
from agent.job.folder import JobPaths
from agent.judge import scoring as judge_scoring
from agent.judge.phase import SESSION, SESSION_ENV, session_command
from agent.judge.task import Measured
from agent.reach import Reach
from agent.runners import local as runners
from sandbox import Level
from sandbox.staging import FOLDER
from sandbox.walls import why_not
from tests.judging import HEARD, make_corpus, make_job, toy
from tests.processes import linux
from tests.shepherding import Job, started_at

pytestmark = [linux, pytest.mark.skipif(bool(why_not()), reason="not every level of walls can be put up here")]
BOXED: tuple[Level, ...] = ("namespaces", "landlock")

# Each deed against each target; what got through is written down. Those that destroy come last.
DEEDS = """
import fcntl, json, os, sys, time
number = iter(range(10_000))
def replace(path):
    mine = f'mine-{next(number)}'
    open(mine, 'w').write('forged')
    os.rename(mine, path)
def grow(path):
    with open(path, 'ab') as file: file.write(b'forged')
def hold(path):
    with open(path, 'rb') as file: fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
def make(path):
    with open(path + '.made', 'x'): pass
deeds = {
    'read': lambda path: open(path, 'rb').read(1),
    'hold': hold,
    'link': lambda path: os.link(path, f'linked-{next(number)}'),
    'make': make,
    'make a folder': lambda path: os.mkdir(path + '.folder'),
    'grow': grow,
    'cut': lambda path: os.truncate(path, 0),
    'replace': replace,
    'remove': os.remove,
}
there, forged = json.loads(sys.argv[1])
through = []
for deed, do in deeds.items():
    for path in there:
        try: do(path)
        except OSError: continue
        through.append([deed, path])
for path in forged:
    try: replace(path)
    except OSError: continue
    through.append(['replace', path])
# What does not say whether it had an effect.
for path in there:
    for do in (lambda: os.chmod(path, 0o777), lambda: os.utime(path, (1, 1))):
        try: do()
        except OSError: pass
open('through', 'w').write(json.dumps(through))
"""


class World(NamedTuple):
    """A workspace with a job in it that runs, and one that has run."""

    job: Job
    corpus: Path
    there: tuple[Path, ...]
    """Files that are not the candidate's."""
    forged: tuple[Path, ...]
    """Files that the shepherd or the judge would write, or that would stop them."""

    @classmethod
    def make(cls, root: Path) -> "World":
        root.mkdir()
        job = Job.make(root / ".caddie" / "jobs" / "r1", DEEDS)
        other, paths = root / ".caddie" / "jobs" / "r2", job.paths
        plain = (
            other / "result.json",
            other / "measure.json",
            other / "out" / "model.bin",
            root / ".caddie" / "runs.db",
            root / ".git" / "config",
            root / ".git" / "hooks" / "post-commit",
            root / "train.py",
        )
        for path in plain:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("the person's")
        paths.lock.touch()
        paths.pid.write_text("{}")
        make_corpus(root / "data")
        there = (*plain, root / "data" / "val" / "docs.jsonl", paths.spec, paths.lock, paths.pid)
        forged = (paths.result, paths.measure, paths.heartbeat, paths.started, paths.lost, paths.cancel)
        return cls(job, root / "data", there, forged)

    @property
    def argv(self) -> tuple[str, ...]:
        given = [[*map(str, self.there)], [*map(str, self.forged)]]
        return (sys.executable, "-I", "-S", str(self.job.paths.code / "train.py"), json.dumps(given))

    def through(self) -> set[tuple[str, str]]:
        return {(deed, path) for deed, path in json.loads((self.job.paths.out / "through").read_text())}

    def prints(self) -> dict[str, object]:
        """Of what lies in the workspace, but for what shepherd and candidate rightly write."""
        own = {self.job.paths.lock, self.job.paths.pid, *self.forged}
        folder, out = self.job.paths.folder, self.job.paths.out
        every = [Path(at, name) for at, folders, names in os.walk(folder.parents[2]) for name in (*folders, *names)]
        return {
            str(path): fingerprint(path)
            for path in every
            if path not in own
            and out not in (path, *path.parents)
            and path.suffix != ".log"
            and path.name not in ("spawned", FOLDER)  # made by the shepherd
        }


def fingerprint(path: Path) -> object:
    info = path.lstat()
    if path.is_dir():
        return info.st_mode, info.st_uid
    return info.st_mode, info.st_uid, info.st_nlink, info.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()


def test_without_walls_every_deed_gets_through(tmp_path: Path) -> None:
    """Or the next test would prove nothing."""
    world = World.make(tmp_path / "w")
    before = world.prints()
    subprocess.run(world.argv, cwd=world.job.paths.out, check=True)
    deeds = {"read", "hold", "link", "make", "make a folder", "grow", "cut", "replace", "remove"}
    through = world.through()
    assert {(deed, str(path)) for deed in deeds for path in world.there} <= through
    assert {("replace", str(path)) for path in world.forged} <= through
    assert before != world.prints()


@pytest.mark.parametrize("level", BOXED)
def test_behind_walls_none_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: Level) -> None:
    monkeypatch.setattr(runners, "SHEPHERD", started_at(level, runners.SHEPHERD))
    world = World.make(tmp_path / "w")
    paths = world.job.paths
    policy = reach.training(toy(), paths, world.corpus, Reach("landlock"))
    phase = replace(world.job.spec.phases[0], argv=world.argv, policy=policy)
    spec = replace(world.job.spec, phases=(phase,), wall_s=30)
    paths.spec.write_text(spec.to_json())
    before = world.prints()
    result = Job(paths, spec).result()
    assert (result.outcome, result.reason, result.ran) == ("ok", "", True)
    assert level in result.walls
    assert world.through() == set()
    assert world.prints() == before
    assert {path.name for path in paths.folder.iterdir()} - {FOLDER} == {
        *("code", "out", "spec.json", "lock", "pid.json", "started", "heartbeat.json", "result.json", "spawned"),
        *("train.py.log", "shepherd.log"),
    }
    assert json.loads(paths.pid.read_text())["pid"] > 0 and "forged" not in paths.heartbeat.read_text()


# ---------------------------------------------------------------- scoring

LOOK = """
import json, os, sys
import honest
def works(do, path):
    try: return bool(do(path))
    except OSError: return False
def opened(number):
    try: os.fstat(number)
    except OSError: return False
    return True
def below(folder):
    found = []
    for at, folders, names in os.walk(folder):
        found += [os.path.relpath(os.path.join(at, name), folder) for name in (*folders, *names)]
    return found
out_of_reach = json.loads(os.environ.pop('ASKED'))
print('SEEN ' + json.dumps({
    'role': sys.argv[1],
    'fds': [number for number in range(1024) if opened(number)],
    'env': dict(os.environ),
    'read': [path for path in out_of_reach if works(lambda path: open(path, 'rb').read(1), path)],
    'below': below(os.environ['JOB']),
    'own': os.listdir(os.environ['TMPDIR']),
    'written': [path for path in (os.path.dirname(os.environ['ARTIFACT']), os.environ['JOB'], *sys.path[:1])
                if works(lambda path: open(os.path.join(path, 'written'), 'w').write('x'), path)],
    'grown': works(lambda path: open(path, 'ab').write(b'x'), os.environ['ARTIFACT']),
}), flush=True)
honest.serve(honest.Answerer(json.load(open(os.environ['ARTIFACT']))))
"""


@pytest.mark.parametrize("level", BOXED)
def test_a_scoring_process_sees_its_artifact_its_code_its_folder_and_its_socket(tmp_path: Path, level: Level) -> None:
    other = tmp_path / "jobs" / "r2" / "result.json"
    other.parent.mkdir(parents=True)
    other.write_text("another's")
    task = make_job(tmp_path / "jobs" / "r1", script="look.py")
    paths = JobPaths(Path(task.folder))
    (paths.code / "look.py").write_text(LOOK)
    (paths.folder / "spec.json").write_text("ours")
    asked = [str(other), str(paths.spec), task.artifact, judge_scoring.__file__, str(Path.home() / ".profile")]
    asked += [task.documents.path] if task.documents else []
    mentioned = {"ASKED": json.dumps(asked), "JOB": task.folder}
    task = replace(task, env={**task.env, **mentioned}, policy=reach.scoring(toy(), Reach("landlock")))
    argv = [started_at(level, HEARD) if word == SESSION else word for word in session_command(task)]
    env = {**SESSION_ENV, "OPENAI_API_KEY": "the person's"}  # which should not be there to begin with
    done = subprocess.run(argv, cwd=task.folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    found = Measured.from_json(paths.measure.read_text())
    assert (found.status, done.returncode) == ("ok", 0), (found.reason, paths.score_log.read_text())
    lines = [line.removeprefix("SEEN ") for line in paths.score_log.read_text().splitlines() if "SEEN" in line]
    seen: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert {one["role"] for one in seen} == {"encode", "decode", "score"}
    for one in seen:
        env = one["env"]
        assert one["fds"] == [0, 1, 2, int(env["SCORE_FD"])]
        # What Python adds where no language is set, and bubblewrap where it goes to a folder.
        assert env.pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8" and env.pop("PWD", env["TMPDIR"]) == env["TMPDIR"]
        assert env.keys() == {*task.env, "ARTIFACT", "SCORE_FD", "SEED", "TMPDIR"} - {"ASKED"}
        assert one["read"] == one["own"] == one["written"] == [] and not one["grown"]
        folder = Path(env["ARTIFACT"]).parent.name
        files = {"code", *(f"code/{path.name}" for path in paths.code.iterdir())}
        box = {folder, f"{folder}/artifact", f"{folder}/work"}
        assert {path for path in one["below"] if "__pycache__" not in path} == (
            files | box if level == "namespaces" else set()
        )
