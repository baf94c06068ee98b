"""Kept artifacts scored again, by the real judge in real processes, on a tiny corpus."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent import pruning, reach
from agent import rejudge as judging
from agent import track as tracks
from agent.cli.rejudge import words
from agent.errors import BusyError, MissingError, UserError
from agent.job.folder import JobPaths, JobResult, JobSpec, Phase
from agent.judge import JUDGE_VERSION
from agent.judge.measure import measure
from agent.judge.phase import judge_phase
from agent.records import Campaign, Finding, Run
from agent.rejudge import Again
from agent.runners.local import LocalRunner
from agent.store import Store, open_store
from agent.store.lease import hold
from agent.track import Track
from sandbox.limits import Limits
from tests.candidates import honest
from tests.filling import add_base, add_idea
from tests.judging import NOBODY_READ, make_corpus, of_the_run
from trainer.data.manifest import load

CANDIDATES = Path(honest.__file__).parent
REPO = Path(__file__).resolve().parents[1]
VAL = "The judge reads é and 日本 again, and again it must come to the same score. " * 12
TOML = """
name = "tiny"
summary = "Toy."
trust = "measured"
script = { path = "hostile.py", editable = ["hostile.py"], train = ["{python}"], score = ["{python}", "{script}", "score"], artifact = "model.bin", pack = false }
limits = { train_wall_s = 60, score_wall_s = 20, memory_mb = 500, disk_mb = 8, log_mb = 1 }
hardware = { kind = "cpu" }
data = { corpus = "docs" }
rung = [{ name = "full" }]

[decision]
rung = "full"
alpha = 0.01
min_gain = 0.01
max_seeds = 4
report_seeds = 3
prior_sigma = 0.01
"""  # noqa: E501


class World:
    """A workspace with three measured runs: r1 and r2 are the base's, r3 an idea's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.track = tracks.parse(TOML, "toy")
        corpus = root / ".caddie" / "data" / "docs"
        make_corpus(corpus, val=VAL)
        self.corpus, sha = corpus, load(corpus).data_sha
        self.store = open_store(root / "runs.db")
        with self.store.write() as tx:
            self.campaign = _campaign(tx, sha)
            base = add_base(tx, self.campaign)
            idea = add_idea(tx, base)
            self.runs = [_run(tx, proposal, seed) for seed, proposal in enumerate((base, base, idea))]

    @property
    def jobs(self) -> Path:
        return self.root / ".caddie" / "night" / "jobs"

    def paths(self, run_id: int) -> JobPaths:
        return JobPaths(self.jobs / f"r{run_id}")

    def measure(self, run: Run, version: int, **artifact: object) -> None:
        """A job as the loop runs it, its training a copy: judged by the real session under the real shepherd."""
        paths = self.paths(run.id)
        script = paths.code / "hostile.py"
        kept = self.root / f"artifact-{run.id}"
        kept.write_text(json.dumps({"counts": honest.count([f"{VAL}{run.id}".encode()]), **artifact}))
        limits = Limits(wall_s=30, cpu_s=None, memory_mb=500, disk_mb=8, log_mb=1, processes=8)
        copy = ("/bin/cp", str(kept), str(paths.out / "model.bin"))
        train = Phase("train", copy, {"PATH": "/bin"}, str(paths.out), limits, None, paths.train_log.name)
        policy = reach.scoring(self.track, NOBODY_READ)
        judge = judge_phase(self.track, paths, script=script, seed=run.seed, corpus=self.corpus, policy=policy)
        spec = JobSpec(run.id, (train, judge), "model.bin", None, 60.0)
        runner = LocalRunner(1)

        def fill(code: Path) -> None:
            for path in CANDIDATES.glob("*.py"):
                shutil.copy(path, code)

        from agent.job.folder import create

        create(paths.folder, spec, fill)
        runner.hold(spec.run_id, paths.folder, "local/0")
        end = time.monotonic() + 30
        while runner.poll(paths.folder) != "done" and time.monotonic() < end:
            time.sleep(0.05)
        result = runner.collect(paths.folder)
        found = measure(self.track, run, paths, result, self.campaign.data_sha)
        with self.store.write() as tx:
            tx.update_run(run.id, state="done", outcome=result.outcome, reason=result.reason, walls=result.walls)
            tx.add_measurement(replace(found, judge_version=version))

    def again(self, *ids: int, check: bool = False) -> list[Again]:
        runs = judging.chosen(self.store, self.campaign, ids)
        found = judging.rejudge(self.store, self.campaign, self.root, runs, lambda track: LocalRunner(1), check=check)
        return list(found)


def _campaign(tx, sha: str) -> Campaign:  # type: ignore[no-untyped-def]
    from agent.records import Caps

    return tx.add_campaign(
        name="night",
        track="tiny",
        track_file="toy.toml",
        track_toml=TOML,
        track_sha=tracks.sha(TOML),
        data_sha=sha,
        base_commit="0" * 40,
        branch="caddie/night",
        seed=1,
        caps=Caps(gpu_s=3600.0),
        planner="knobs",
        review="none",
        slots=1,
        target_bpb=None,
        hardware_class="cpu-x",
    )


def _run(tx, proposal, seed: int) -> Run:  # type: ignore[no-untyped-def]
    return tx.add_run(
        proposal.campaign_id,
        proposal.id,
        proposal.baseline_id,
        rung="full",
        purpose="report" if proposal.baseline_id is None else "screen",
        seed=seed,
        attempt=1,
        hardware_class="cpu-x",
        script_sha=hashlib.sha256((CANDIDATES / "hostile.py").read_bytes()).hexdigest(),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """r1 and r3 were measured by an older judge, r2 by the present one."""
    root = tmp_path_factory.mktemp("made") / "w"
    root.mkdir()
    world = World(root)
    for run, version in zip(world.runs, (JUDGE_VERSION - 1, JUDGE_VERSION, JUDGE_VERSION - 1), strict=True):
        world.measure(run, version, how="plain")
    world.store.close()
    return root


@pytest.fixture
def world(made: Path, tmp_path: Path) -> World:
    root = tmp_path / "w"
    shutil.copytree(made, root, symlinks=True)
    found = World.__new__(World)
    found.root, found.track, found.corpus = root, tracks.parse(TOML, "toy"), root / ".caddie" / "data" / "docs"
    found.store = open_store(root / "runs.db")
    with found.store.read() as reads:
        found.campaign, found.runs = reads.campaign_by_id(1), reads.runs(1)
    return found


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def versions(store: Store) -> list[tuple[int, int]]:
    with store.read() as reads:
        return [(s.run.id, s.measurement.judge_version) for s in reads.scored(1)]


# ---------------------------------------------------------------- scores


def test_a_newer_judge_adds_its_score_and_an_equal_one_compares(world: World) -> None:
    jobs = everything(world.jobs)
    with world.store.read() as reads:
        old = reads.measurement(1)
    found = world.again()
    assert [(one.run, one.state) for one in found] == [("r1", "written"), ("r2", "same"), ("r3", "written")]
    assert all(one.difference == 0 and one.seconds > 0 for one in found)
    assert versions(world.store) == [(1, JUDGE_VERSION), (2, JUDGE_VERSION), (3, JUDGE_VERSION)]
    with world.store.read() as reads:
        new = reads.measurement(1)
        told = [e.text for e in reads.events(1) if e.what == "rejudged"]
    assert old is not None and new is not None
    assert new.audit is not None and old.audit is not None and new.audit.strength == old.audit.strength
    # All but what was measured by a clock, or drawn by a new secret, is as before: the training's figures too.
    clocks = {"score_wall_s": 0.0, "score_cpu_s": 0.0, "peak_mb": 0.0, "judge_version": 0, "audit": None}
    assert replace(new, **clocks) == replace(old, **clocks)
    assert new.train_wall_s is not None and new.slot_s == old.slot_s
    assert len(told) == 2 and f"judge {JUDGE_VERSION - 1} -> {JUDGE_VERSION}" in told[0]
    assert everything(world.jobs) == jobs
    assert not (world.root / ".caddie" / "night" / "rejudge").exists()
    assert "never mixed" in words(found) and "compared, nothing written" in words(found)


def test_a_check_writes_nothing(world: World) -> None:
    before = versions(world.store)
    found = world.again(1, check=True)
    assert [(one.state, one.old_version, one.new_version) for one in found] == [
        ("same", JUDGE_VERSION - 1, JUDGE_VERSION)
    ]
    assert versions(world.store) == before


def test_what_a_machine_leaves_open_is_no_difference_between_scores(world: World) -> None:
    with world.store.read() as reads:
        found = reads.measurement(1)
    assert found is not None
    more = replace(found, findings=(*found.findings, Finding("marks_possible", "note", "as an ordinary user")))
    about = Again("r1", "p1", "no score", "")
    assert judging._compared(about, found, more).state == judging._compared(about, more, found).state == "same"


def test_a_difference_is_reported_and_not_written(world: World) -> None:
    from sqlalchemy import text

    with world.store.write() as tx:
        tx.connection.execute(text("UPDATE measurements SET bpb = bpb + 0.001 WHERE run_id IN (2, 3)"))
    two, three = world.again(2, 3, check=True)
    assert two.state == "differs" and three.state == "would change"
    assert two.difference == pytest.approx(-0.001) and "BPB ->" in two.words
    assert versions(world.store)[1] == (2, JUDGE_VERSION)


def test_a_score_that_would_not_be_blind_any_more_is_reported(world: World) -> None:
    from sqlalchemy import text

    with world.store.write() as tx:
        tx.connection.execute(text("UPDATE measurements SET trust = 'blind' WHERE run_id = 2"))
    (two,) = world.again(2)
    assert (two.state, two.words, two.difference) == ("differs", "no longer blind: measured", 0.0)
    with world.store.read() as reads:
        assert reads.measurement(2).trust == "blind"


def test_a_rule_that_only_the_present_judge_knows(world: World) -> None:
    """r4 adapts before it is scored. An older judge did not see it; now it is found, and it is invalid."""
    from sqlalchemy import text

    with world.store.write() as tx:
        run = _run(tx, tx.proposal(2), 7)
    world.measure(run, JUDGE_VERSION - 1, how="adapts_first", manifest={"state": "chunk"})
    with world.store.write() as tx:
        tx.connection.execute(text("DELETE FROM findings WHERE run_id = 4"))
    assert world.again(4, check=True)[0].words == "now found: invalid scores_not_repeated"
    assert world.again(4)[0].state == "written"
    with world.store.read() as reads:
        found = reads.measurement(4)
    assert found is not None and [one.rule for one in of_the_run(found)] == ["scores_not_repeated"]


# ---------------------------------------------------------------- what is not there any more


def test_what_was_pruned_is_said(world: World) -> None:
    shutil.rmtree(world.paths(1).out)
    (world.paths(3).out / "model.bin").unlink()
    one, two, three = world.again()
    assert (one.state, two.state, three.state) == ("pruned", "same", "pruned")
    assert "model.bin is gone" in three.words and versions(world.store)[0] == (1, JUDGE_VERSION - 1)
    said = words([one, two, three])
    assert "2 pruned" in said and "Left with their older scores, not comparable with the new ones: r1 r3" in said


def test_pruning_and_rejudging_agree_on_what_pruned_means(world: World) -> None:
    with world.store.write() as tx:
        for state in ("approved", "queued", "running", "measured", "worse"):
            tx.move(2, state)  # type: ignore[arg-type]
    with world.store.read() as reads:
        planned = pruning.plan(reads, {1: world.jobs}, 0)
    assert [one.run for one in planned.delete] == ["r3"]
    pruning.delete(planned)
    assert world.again(3)[0].state == "pruned"


@pytest.mark.parametrize("name", ["out/model.bin", "code/hostile.py"])
def test_what_was_altered_is_not_scored(world: World, name: str) -> None:
    path = world.paths(1).folder / name
    path.write_bytes(path.read_bytes() + b"\n")
    found = world.again(1)[0]
    assert found.state == "altered" and "is not the one that" in found.words and found.new_bpb is None
    assert versions(world.store)[0] == (1, JUDGE_VERSION - 1)


def test_a_link_in_place_of_the_artifact(world: World) -> None:
    path = world.paths(1).out / "model.bin"
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    assert world.again(1)[0].state == "altered"


def test_a_run_without_a_score_stays_without(world: World) -> None:
    with world.store.write() as tx:
        tx.update_run(1, outcome="capped")
    assert world.again(1)[0].words == "it ended as capped: there was no score"


def test_a_run_that_is_capped_now_keeps_its_score(world: World) -> None:
    """The limits are those under which it was scored first."""
    paths = world.paths(1)
    spec = JobSpec.from_json(paths.spec.read_text())
    judge = replace(spec.phases[1], limits=replace(spec.phases[1].limits, wall_s=1.2))
    paths.spec.write_text(replace(spec, phases=(spec.phases[0], judge)).to_json())
    began = time.monotonic()
    found = world.again(1)[0]
    assert found.state == "no score" and "not scored: " in found.words and time.monotonic() - began < 12
    assert versions(world.store)[0] == (1, JUDGE_VERSION - 1)


# ---------------------------------------------------------------- refused


def test_another_text_or_none(world: World) -> None:
    manifest = world.corpus / "manifest.json"
    kept = manifest.read_bytes()
    shutil.rmtree(world.corpus)
    make_corpus(world.corpus, val=VAL + "more")
    with pytest.raises(UserError, match="is not the one of night"):
        world.again()
    shutil.rmtree(world.corpus)
    with pytest.raises(MissingError, match="the validation text of night is not here"):
        world.again()
    make_corpus(world.corpus, val="changed")
    manifest.write_bytes(kept)
    with pytest.raises(UserError, match="instead of"):
        world.again()


def test_not_while_the_campaign_runs(world: World) -> None:
    with hold(world.store, "campaign night"), pytest.raises(BusyError, match="is being run by process"):
        world.again()


def test_scores_of_a_newer_judge_are_left_alone(world: World) -> None:
    from sqlalchemy import text

    with world.store.write() as tx:
        tx.connection.execute(text("UPDATE measurements SET judge_version = 99 WHERE run_id = 1"))
    with pytest.raises(UserError, match=f"by judge 99; this Caddie has judge {JUDGE_VERSION}"):
        world.again(1)


def test_a_run_that_is_not_done(world: World) -> None:
    with world.store.write() as tx:
        run = _run(tx, tx.proposal(2), 8)
    with pytest.raises(UserError, match=f"r{run.id} is queued"):
        world.again(run.id)


# ---------------------------------------------------------------- the command


def agent(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "agent.cli", "rejudge", *words]
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.long
def test_the_command(world: World) -> None:
    world.store.close()
    ended = agent(world.root, "--run", "r1", "--run", "2")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "[1/2]    r1   p1  written" in ended.stdout and "[2/2]    r2   p1  same" in ended.stdout
    ended = agent(world.root, "--json", "--check")
    rows = json.loads(ended.stdout)
    assert [row["state"] for row in rows] == ["same"] * 3 and "[3/3]" in ended.stderr and ended.returncode == 0
    shutil.rmtree(world.paths(1).out)
    assert "1 pruned" in agent(world.root, "--run", "r1").stdout
    with world.paths(2).code.joinpath("hostile.py").open("a") as file:
        file.write("\n")
    assert agent(world.root, "--run", "r2").returncode == 1
    assert "r99" in agent(world.root, "--run", "r99").stderr


def test_results_are_read_strictly(world: World) -> None:
    world.paths(1).result.write_text("{}")
    assert world.again(1)[0].state == "altered"
    assert isinstance(JobResult.from_json(world.paths(2).result.read_text()), JobResult)
    assert isinstance(world.track, Track)
