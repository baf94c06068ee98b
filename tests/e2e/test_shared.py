"""A campaign that machines share: two clones whose controllers take over from one another, workers that come and go,
all of them killed at random moments. In the end nothing was done twice, and every second is accounted for.
"""

import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from agent import budget
from agent.job.folder import JobResult
from agent.records import Amount
from agent.states import FINAL
from agent.store import Reads, open_store, queue
from agent.store.schema import ledger, measurements
from tests import postgres
from tests.e2e import world
from tests.e2e.terminal import AGENT, ENV
from tests.processes import mentioning

SCRIPT = '''"""A script whose score is a function of its knobs."""

import os
import random
import time

KNOBS = {
    "width": 4,
    "rate": 0.10,
    "bits": 8,
    "crash": 0,
}

time.sleep(1.5)
if KNOBS["crash"]:
    raise SystemExit(1)
noise = random.Random(str(KNOBS) + os.environ["SEED"]).gauss(0.0, 0.001)
with open("final_model.bin", "wb") as file:
    file.write(b"x" * 100 * KNOBS["width"])
print(f"val_bpb: {2.0 - 0.05 * KNOBS['width'] + noise:.6f}")
'''
TRACK = (
    world.TRACK.replace('trust = "measured"', 'trust = "reported"')
    .replace('train = ["{python}", "{script}", "train"]', 'train = ["{python}", "-I", "-S", "{script}"]')
    .replace('score = ["{python}", "{script}", "score"]\n', "")
    .replace("artifact_bytes = 1250\n", "")
)
IDEAS = [
    world.idea("wider", ('"width": 4', '"width": 8'), script=SCRIPT),
    world.idea("wider still", ('"width": 4', '"width": 12'), script=SCRIPT),
    world.idea("crashes", ('"crash": 0', '"crash": 1'), script=SCRIPT),
    world.idea("narrower", ('"width": 4', '"width": 2'), script=SCRIPT),
]
CHAOS_S = 60.0


class Machines:
    """Processes of one test, by what they are; each may be killed and is then started again."""

    def __init__(self, root: Path, store: str) -> None:
        self._root = root
        self._env = {**ENV, "CADDIE_STORE": store}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, where: Path, *words: str) -> None:
        where.mkdir(parents=True, exist_ok=True)
        with (self._root / f"{name}.log").open("ab") as out:
            child = subprocess.Popen([*AGENT, *words], cwd=where, env=self._env, stdout=out, stderr=out)
        self.running[name] = child

    def tick(self, name: str, where: Path, *words: str) -> None:
        if name not in self.running or self.running[name].poll() is not None:
            self.start(name, where, *words)

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running[name].wait()

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self._root.glob("*.log")))

    def end(self) -> None:
        for child in self.running.values():
            child.send_signal(signal.SIGTERM)
        for child in self.running.values():
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@pytest.mark.long
@pytest.mark.parametrize("seed", [1])
def test_controllers_and_workers_are_killed_and_nothing_is_done_twice(tmp_path: Path, seed: int) -> None:
    url = postgres.fresh_url()
    first = world.make_workspace(tmp_path / "a", script=SCRIPT, track=TRACK)
    world.git(tmp_path, "clone", "-q", str(first), str(tmp_path / "b"))
    for clone in (first, tmp_path / "b"):
        world.write_ideas(clone, IDEAS)
    work = ("work", "--track", str(first / "agent.toml"), "--slots", "1")
    machines, draw = Machines(tmp_path, url), random.Random(seed)
    commands = {
        "box-1": (tmp_path / "far-1", *work, "--name", "box-1"),
        "box-2": (tmp_path / "far-2", *work, "--name", "box-2"),
        "lead-a": (first, "resume", "--wait"),
        "lead-b": (tmp_path / "b", "resume", "--wait"),
    }
    try:
        for name in ("box-1", "box-2"):
            machines.start(name, *commands[name])
        deadline = time.monotonic() + 420
        await_word(tmp_path / "box-1.log", "Ctrl-C ends it", deadline)
        words = ("--track", "agent.toml", "--planner", "scripted:.ideas.jsonl", "--review", "none", "--seed", "7")
        machines.start("lead-a", first, "start", *words, "--runner", "workers")
        await_word(tmp_path / "lead-a.log", "Campaign toy-1", deadline)
        chaos_until = time.monotonic() + CHAOS_S
        with closing(open_store(url, create=False)) as store:
            while True:
                with store.read() as reads:
                    check_always(reads)
                    if reads.campaigns()[-1].state == "finished":
                        break
                assert time.monotonic() < deadline, machines.logs()
                for name, (where, *rest) in commands.items():
                    machines.tick(name, where, *rest)
                time.sleep(draw.uniform(3.0, 12.0) if time.monotonic() < chaos_until else 0.5)
                if time.monotonic() < chaos_until:
                    machines.kill(draw.choice(sorted(machines.running)))
                if time.monotonic() < chaos_until and draw.random() < 0.4:
                    cut_off(url)
            with store.read() as reads:
                check_in_the_end(reads)
    except AssertionError:
        print(machines.logs())
        raise
    finally:
        machines.end()
    assert mentioning(f"CADDIE_JOB={tmp_path}") == []
    assert "caddie/toy-1" in world.git(first, "branch", "--list", "caddie/*")


def cut_off(url: str) -> None:
    """As a database that is restarted: all that is under way on it is taken back, and every connection is gone."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def await_word(path: Path, word: str, deadline: float) -> None:
    while not path.is_file() or word not in path.read_text():
        assert time.monotonic() < deadline, path.read_text() if path.is_file() else path
        time.sleep(0.05)


def check_always(reads: Reads) -> None:
    """At each instant the ledger adds up, and no cap is passed."""
    for campaign in reads.campaigns():
        assert budget.audit(reads, campaign.id) == []
        balance = reads.balance(campaign.id)
        assert balance.settled.gpu_s + balance.reserved.gpu_s <= (balance.caps.gpu_s or 0)


def check_in_the_end(reads: Reads) -> None:
    (campaign,) = reads.campaigns()
    assert reads.balance(campaign.id).reserved == Amount()
    proposals = reads.proposals(campaign.id)
    assert {proposal.state for proposal in proposals} <= FINAL | {"promoted"}
    assert "promoted" in {proposal.state for proposal in proposals if proposal.kind != "base"}
    runs = reads.runs(campaign.id)
    jobs = queue.look(reads.connection, [run.id for run in runs])
    assert {run.state for run in runs} <= {"done", "lost", "cancelled"}
    for run in runs:
        job = jobs.get(run.id)
        (entry,) = reads.connection.execute(ledger.select().where(ledger.c.run_id == run.id)).mappings().all()
        assert entry["state"] == "settled"
        if run.state == "done":
            assert job is not None and job.state == "done"
            assert entry["settled_gpu_s"] == pytest.approx(JobResult.from_json(job.result).slot_s, abs=1e-5)
        elif run.state == "lost" and job is not None:
            assert entry["settled_gpu_s"] == pytest.approx(job.seconds, abs=1e-5)
    scored = Counter(
        (run.proposal_id, run.baseline_id, run.purpose, run.rung, run.seed) for run in runs if run.outcome == "ok"
    )
    assert max(scored.values()) == 1
    counted = reads.connection.execute(measurements.select()).mappings().all()
    assert sorted(row["run_id"] for row in counted) == sorted(run.id for run in runs if run.state == "done")
