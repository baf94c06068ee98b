"""A track of token shards from `agent start` to its scores: the real script, trained a little, judged on documents."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from agent import hardware, reach
from agent.job.folder import JobPaths
from agent.judge.task import Measured
from agent.loop import Loop
from agent.runners.local import LocalRunner
from agent.setting import Setting
from benchmarks.endless import decision
from sandbox import Confined, Limits, stack
from tests.e2e import world
from tests.fineweb import BOS, VARIANT, make_corpus, processor, stories, tokens_of
from tests.processes import linux
from trainer import train_gpt as t
from trainer.data import decoded, manifest

SCRIPT = Path(t.__file__).read_text("utf-8")
# A document fits into one window, so that it is easy to score in another way.
SHAPE = {
    "VOCAB_SIZE": processor().get_piece_size(),
    "NUM_LAYERS": 2,
    "MODEL_DIM": 32,
    "NUM_HEADS": 2,
    "NUM_KV_HEADS": 1,
}
LENGTHS = {"TRAIN_SEQ_LEN": 256, "EVAL_STRIDE": 256, "TRAIN_BATCH_TOKENS": 512, "ITERATIONS": 4, "HOLDOUT": 600}
SCORED = {"SEPARATORS": 1}  # and documents apart from one another
ENV = ", ".join(f'{name} = "{value}"' for name, value in {"PRESET": "tiny", **SHAPE, **LENGTHS, **SCORED}.items())
TRACK = f"""
name = "shards"
summary = "The contest's data at the size of a test."
budget_hours = 0.5
trust = "measured"

[script]
path = "train.py"
editable = ["train.py"]
train = ["{{python}}", "{{script}}", "train"]
score = ["{{python}}", "{{script}}", "score"]
artifact = "final_model.bin"
env = {{ {ENV} }}

[limits]
artifact_bytes = 400000
train_wall_s = 120
score_wall_s = 120
memory_mb = 3000

[hardware]
kind = "cpu"

[data]
corpus = "fineweb"
variant = "{VARIANT}"
train_shards = 2

[sandbox]
packages = ["torch", "numpy", "sentencepiece", "brotli", "zstandard"]
"""
TRACK += decision(max_seeds=2, report_seeds=2)
VALIDATION = [*stories(40, 7, 60), "", "ﬁ\u0301"]  # an empty one; one whose normal form does not stay

IDEA = world.idea("ends at once", ('"matrix_lr": 0.02,', '"matrix_lr": 1 / 0,'), script=SCRIPT)


@pytest.fixture
def corpus(root: Path) -> Path:
    """A person's repository with the track, and shards as the download leaves them."""
    (root / "train.py").write_text(SCRIPT)
    (root / "agent.toml").write_text(TRACK)
    world.git(root, "add", "train.py", "agent.toml")
    world.git(root, "commit", "-q", "-m", "A track of shards")
    folder = root / ".caddie/data/fineweb"
    train = [tokens_of(stories(60, seed)) for seed in (8, 9)]
    make_corpus(folder, tokens_of(VALIDATION), train=train, val_shards=2, kept_back=tokens_of(stories(30, 10, 60)))
    return folder


def by_hand(artifact: bytes, texts: list[str]) -> list[float]:
    """Nats of each document and the separator after it: official tokens, one pass of the model from one separator to
    the next."""
    model, _, _ = t.from_artifact(artifact)
    model.eval()
    nats = []
    for text in texts:
        tokens = torch.tensor([[BOS, *processor().encode(text), BOS]])
        with torch.no_grad():
            logits = model.logits(model.hidden(tokens[:, :-1]))[0]
        nats.append(float(torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum")))
    return nats


@pytest.mark.long
def test_shards_are_prepared_trained_on_and_scored(root: Path, corpus: Path) -> None:
    world.write_ideas(root, [IDEA])
    said: list[str] = []
    setting = world.open_campaign(root, make_runner=LocalRunner, say=said.append)
    assert any("% of the validation text is decoded" in line for line in said)
    found = decoded.load(corpus, manifest.load(corpus), verify=True)
    assert (found.docs, found.empty, found.changed) == (41, 1, 1)
    ending = Loop(setting).run()
    assert ending.state == "finished", ending
    with setting.store.read() as reads:
        runs = [scored for scored in reads.scored(setting.campaign.id) if scored.measurement.bpb is not None]
    assert len(runs) == 2
    for scored in runs:
        check(setting, scored.run.id, found, scored.measurement)


def check(setting: Setting, run: int, found: decoded.Decoded, measurement) -> None:  # type: ignore[no-untyped-def]
    job = JobPaths(setting.job(run))
    texts = [processor().normalize(text).replace("\u2581", " ") for text in VALIDATION if text]
    assert texts[-1] == "fi\u0301"
    nats = by_hand((job.out / "final_model.bin").read_bytes(), texts[:-1])
    assert measurement.doc_nats[:-1] == pytest.approx(nats, rel=1e-4)
    # The script has no normal form, so the last document has the tokens that the shard has; but the empty one is gone.
    assert found.tokens == len(tokens_of(VALIDATION)) - len(VALIDATION)
    assert measurement.tokens_scored == found.tokens + 40
    assert measurement.bytes_scored == found.bytes == len("".join(texts).encode())
    assert found.hidden is not None and len(measurement.hidden_nats) == found.hidden.docs == 16
    total = math.fsum(nats) + measurement.doc_nats[-1]
    assert measurement.bpb == pytest.approx(total / math.log(2) / found.bytes, rel=1e-4)
    assert 0.5 < measurement.bpb < 3 and measurement.trust == "measured"
    answer = Measured.from_json(job.measure.read_text())
    official = found.official
    counted = answer.contest
    assert counted is not None and (counted.published, counted.separators) == (False, 40)
    assert (official.window, official.tokens) == (1024, (found.tokens + 42) // 1024 * 1024)
    # No document begins with a space, so the contest counts what we count.
    assert official.bytes + official.rest_bytes == found.bytes and official.bytes > found.bytes / 2
    (note,) = [finding for finding in measurement.findings if finding.rule == "contest_count"]
    assert note.severity == "note"
    assert (
        f"{measurement.bpb:.5f} BPB for all {found.tokens + 40:,} tokens over the {found.bytes:,} raw bytes"
        in note.text
    )
    assert not [finding for finding in measurement.findings if finding.severity == "invalid"]
    assert "holdout val_loss" in job.train_log.read_text()


@linux
def test_training_sees_its_shards_and_the_model_and_nothing_of_the_validation_text(
    root: Path, corpus: Path, tmp_path: Path
) -> None:
    from agent import track as tracks

    track = tracks.parse(TRACK, "shards.toml")
    decoded.prepare_documents(corpus, lambda line: None)
    assert hardware.missing(track, root) == []
    paths = JobPaths(tmp_path / "job")
    paths.code.mkdir(parents=True)
    paths.out.mkdir()
    policy = reach.training(track, paths, corpus, reach.Reach("base"))
    dataset = corpus / "datasets" / f"fineweb10B_{VARIANT}"
    train = [str(dataset / f"fineweb_train_00000{number}.bin") for number in (0, 1)]
    assert policy.read == (str(paths.code), *train, str(corpus / "tokenizers"))
    never = ("val", "kept_back")
    hidden = [path for path in corpus.rglob("*") if path.is_file() and any(name in str(path) for name in never)]
    assert {path.name for path in hidden} >= {"docs.jsonl", "hidden.jsonl", "decoded.json", "fineweb_val_000000.bin"}
    seen = [path for path in hidden if any(Path(given) in (path, *path.parents) for given in policy.read)]
    assert not seen and not [path for path in hidden if str(path) in str(reach.scoring(track, reach.Reach("base")))]
    if stack(policy).level == "base":
        pytest.skip("no walls here to try it on")
    model = str(corpus / "tokenizers/fineweb_400_bpe.model")
    code = f"""
import json
from pathlib import Path
got = []
for path in {[*train, *map(str, hidden), str(corpus / "manifest.json"), model]}:
    try:
        open(path, "rb").read(10)
        got.append(path)
    except OSError:
        pass
Path("got.json").write_text(json.dumps(got))
"""
    (paths.code / "spy.py").write_text(code)
    limits = Limits(wall_s=60, cpu_s=None, memory_mb=2000, disk_mb=20, log_mb=2, processes=20)
    command = (sys.executable, str(paths.code / "spy.py"))
    ended = Confined(
        command, cwd=paths.out, env={}, limits=limits, log=tmp_path / "log", folder=paths.out, policy=policy
    ).wait()
    assert ended.ok, (tmp_path / "log").read_text()
    got = json.loads((paths.out / "got.json").read_text())
    assert got == [*train, model]


def test_without_its_shards_the_track_is_refused_with_the_command(root: Path, corpus: Path) -> None:
    (corpus / "datasets" / f"fineweb10B_{VARIANT}" / "fineweb_train_000001.bin").unlink()
    world.write_ideas(root, [IDEA])
    with pytest.raises(Exception, match=r"trainer\.data fineweb --variant sp400 --train-shards 2 --documents"):
        world.open_campaign(root, make_runner=LocalRunner)
    assert not (corpus / "val").exists()
