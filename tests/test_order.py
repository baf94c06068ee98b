"""Orders: the same in every machine's words, and a job of this machine in the end."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import InfraError
from agent.job.folder import JobPaths
from agent.judge.task import Auditing, Reference, Task
from agent.runners.local import LocalRunner
from agent.runners.order import Here, Order, corpus_beside, place, placed, spec_of
from tests import ordering, scored
from tests.e2e import world
from tests.zoo_runs import make_corpus

ORDER = ordering.order(
    scored.TOML,
    rung="short",
    seed=7,
    auditing=Auditing("full", 1.5, 0.01, Reference("r3/reference.npz", "a" * 64)),
    source_bytes=70,
)


def test_what_is_ordered_survives_its_text() -> None:
    assert Order.from_json(ORDER.to_json()) == ORDER


def test_an_order_names_no_place_of_any_machine(tmp_path: Path) -> None:
    text = ORDER.to_json()
    assert str(Path.cwd()) not in text and sys.prefix not in text and str(tmp_path) not in text


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": "7"},
        {"rung": "longer"},
        {"track": "name = 1"},
        {"track": "not TOML ["},
        {"limits": "{}"},
        {"limits": "no JSON"},
        {"minimum": "a fence"},
        {"phases": ["train", "sleep"]},
        {"more": 1},
    ],
)
def test_a_text_that_is_no_order(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Order.from_json(json.dumps({**json.loads(ORDER.to_json()), **changed}))


def test_the_machine_adds_what_it_has(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    paths = JobPaths(tmp_path / "jobs" / "r1")
    here = Here(corpus, (3,), {"CUDA_VISIBLE_DEVICES": "GPU-x"}, "plain")
    spec = spec_of(ORDER, here, paths.folder)
    train, judge = spec.phases
    task = Task.from_json(judge.argv[-1])
    assert (spec.run_id, spec.wall_s, spec.artifact) == (1, ORDER.wall_s, "m")
    assert train.env["SEED"] == "7" and train.env["CUDA_VISIBLE_DEVICES"] == task.env["CUDA_VISIBLE_DEVICES"] == "GPU-x"
    assert train.env["COMPUTE_BUDGET_MS"] == "5000" and train.env["DATA_PATH"] == str(corpus / "train")
    for policy in (train.policy, task.policy):
        assert policy is not None and (policy.gpus, policy.box, policy.minimum) == ((3,), "plain", "landlock")
    assert (task.seed, task.source_bytes, task.folder) == (7, 70, str(paths.folder))
    assert task.auditing.reference == Reference(str(tmp_path / "jobs" / "r3" / "reference.npz"), "a" * 64)
    assert task.documents is not None and task.documents.path.startswith(str(corpus))


def test_a_cpu_track_sees_no_gpu_that_is_there(tmp_path: Path) -> None:
    here = Here(make_corpus(tmp_path / "c"))
    cuda = scored.TOML.replace('kind = "cpu"', 'kind = "cuda", gpus = 1')
    for text, seen in ((scored.TOML, ""), (cuda, None)):
        train, judge = spec_of(replace(ORDER, track=text), here, tmp_path / "r1").phases
        task = Task.from_json(judge.argv[-1])
        assert train.env.get("CUDA_VISIBLE_DEVICES") == task.env.get("CUDA_VISIBLE_DEVICES") == seen


def test_limits_are_those_of_the_run(tmp_path: Path) -> None:
    """They may be tighter than what a track file could say: a rung's own wall limit may be above them."""
    tight = ORDER.limited.limits.model_copy(update={"train_wall_s": 2.5})
    order = Order.from_json(replace(ORDER, limits=tight.model_dump_json()).to_json())
    train, _ = spec_of(order, Here(make_corpus(tmp_path / "c")), tmp_path / "r1").phases
    assert train.limits.wall_s == 2.5


def test_the_phases_that_are_asked_for(tmp_path: Path) -> None:
    here = Here(make_corpus(tmp_path / "c"))
    for phases, artifact in ((("train",), "m"), (("judge",), None)):
        spec = spec_of(replace(ORDER, phases=phases), here, tmp_path / "r1")
        assert tuple(phase.name for phase in spec.phases) == phases and spec.artifact == artifact
    unscored = scored.TOML.replace('score = ["a", "score"], ', "").replace('"measured"', '"reported"')
    spec = spec_of(replace(ORDER, track=unscored), here, tmp_path / "r1")
    assert [phase.name for phase in spec.phases] == ["train"]


def test_a_training_goes_on_elsewhere_where_a_runner_takes_it_up_and_no_machine_makes_its_score(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "c")
    kept = scored.TOML.replace('artifact = "m"', 'artifact = "m", checkpoint = "kept"')
    clock = re.sub(r"^compute = .*\n", "", kept, flags=re.MULTILINE)
    clock = clock.replace('kind = "cpu"', 'kind = "cuda", gpus = 1, anchor_every_s = 60')
    for text, taken_up, name in (
        (kept, True, "kept"),
        (kept, False, None),
        (clock, True, None),
        (scored.TOML, True, None),
    ):
        order = replace(ORDER, track=text)
        spec = spec_of(order, Here(corpus, (0,), taken_up=taken_up), tmp_path / "r1")
        assert (spec.checkpoint, spec.phases[0].env.get("CHECKPOINT")) == (name, name)
    judged = spec_of(replace(ORDER, track=kept, phases=("judge",)), Here(corpus, taken_up=True), tmp_path / "r1")
    assert judged.checkpoint is None


def test_a_job_that_was_placed_and_never_submitted_can_be_cancelled(tmp_path: Path) -> None:
    folder = tmp_path / ".caddie" / "night" / "jobs" / "r4"
    place(folder, ordering.order(world.TRACK, run_id=4), lambda code: None)
    runner = LocalRunner(1)
    runner.cancel(folder)
    assert runner.poll(folder) == "done"
    assert (runner.collect(folder).run_id, runner.collect(folder).outcome) == (4, "cancelled")


def test_a_folder_is_made_once_and_holds_one_run(tmp_path: Path) -> None:
    folder = tmp_path / ".caddie" / "night" / "jobs" / "r1"
    order = ordering.order(world.TRACK)
    assert place(folder, order, lambda code: (code / "train.py").write_text("x") and None)
    assert not place(folder, replace(order, seed=9), lambda code: None)
    placed(folder, order)
    with pytest.raises(InfraError, match="does not hold the job of r2, but of r1"):
        placed(folder, replace(order, run_id=2))
    with pytest.raises(InfraError, match="does not hold the job of r1"):
        placed(tmp_path, order)
    assert corpus_beside(order, folder) == tmp_path / ".caddie" / "data" / "none"
