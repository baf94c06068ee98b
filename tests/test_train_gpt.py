"""The trainer's entry points, run as a person and the judge run them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agent.judge import logs
from benchmarks import trainer_reference as reference
from tests.shards import write_shard
from tests.training import SMALL, make_docs, write_corpus
from trainer import train_gpt as t
from trainer.pack import pack


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def environment(corpus: Path, **changes: object) -> dict[str, str]:
    env = {
        **SMALL,
        "preset": "tiny",
        "data_path": corpus,
        "holdout": 2000,
        "train_batch_tokens": 128,
        "train_seq_len": 32,
        "eval_stride": 32,
        "iterations": 30,
        "omp_num_threads": 1,
        **changes,
    }
    return {**reference.plain_env(), **{key.upper(): str(value) for key, value in env.items()}}


def launch(folder: Path, env: dict[str, str], *arguments: str, script: Path = reference.SCRIPT) -> tuple[str, bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *arguments[:-1], str(script), *(a for a in arguments[-1:] if a)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, (folder / "final_model.bin").read_bytes()


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A packed script, trained: its folder and its log. Validation data is out of its reach."""
    folder = tmp_path_factory.mktemp("trained")
    script = folder / "train_gpt.py"
    script.write_bytes(pack(reference.SCRIPT.read_text("utf-8")))
    cost = {"COMPUTE_BUDGET_MS": "60", "COST_MODEL": '{"step": 2.0}'}
    log, _ = launch(folder, environment(corpus / "train") | cost, "train", script=script)
    return folder, log


@pytest.mark.slow
def test_train_writes_one_artifact_and_the_official_lines(trained: tuple[Path, str], corpus: Path) -> None:
    folder, log = trained
    assert sorted(path.name for path in folder.iterdir()) == ["final_model.bin", "train_gpt.py"]
    artifact, code = ((folder / name).stat().st_size for name in ("final_model.bin", "train_gpt.py"))
    for line in (
        r"seed:1337",
        rf"Serialized model int8\+zlib: {artifact} bytes",
        rf"Code size: {code} bytes",
        rf"Total submission size int8\+zlib: {artifact + code} bytes",
        r"step:30/30 train_loss:\d\.\d{4} train_time:\d+ms step_avg:\d+\.\d\dms",
        r"holdout val_loss:\d\.\d{8} val_bpb:\d\.\d{8} .*",
    ):
        assert re.search(f"^{line}$", log, re.M), line
    shape, steps, cost = re.findall(r"^compute shape:(\{.*\}) steps:(\d+) cost_ms:(\S+)$", log, re.M)[0]
    assert json.loads(shape)["model_dim"] == 32 and (steps, cost) == ("30", "60.0")
    assert len(re.findall(r"^step:\d+/30 train_loss", log, re.M)) == 30
    assert "final_" not in log


@pytest.mark.slow
def test_the_seed_decides_and_packing_changes_nothing(trained: tuple[Path, str], corpus: Path, tmp_path: Path) -> None:
    packed = (trained[0] / "final_model.bin").read_bytes()
    same = launch(tmp_path / "same", environment(corpus / "train"), "train")[1]
    other = launch(tmp_path / "other", environment(corpus / "train", seed=2), "train")[1]
    assert packed == same != other


@pytest.mark.long
def test_the_judges_score_is_the_scripts_own(
    trained: tuple[Path, str], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through real processes; the tokenizer's have no torch to import."""
    log, artifact = launch(tmp_path, environment(corpus), "")
    assert artifact == (trained[0] / "final_model.bin").read_bytes()
    reported = float(re.findall(r"^final_int8_zlib_roundtrip_exact .*val_bpb:(\S+)$", log, re.M)[0])
    (tmp_path / "poison").mkdir()
    (tmp_path / "poison" / "torch.py").write_text("raise ImportError('torch was imported')\n")
    script, model = trained[0] / "train_gpt.py", trained[0] / "final_model.bin"
    texts = reference.read_docs(corpus, "val")
    assert reference.measure(script, model, texts).bpb == pytest.approx(reported, abs=1e-6)
    with monkeypatch.context() as poisoned:
        poisoned.setattr(reference, "plain_env", lambda: {**os.environ, "PYTHONPATH": str(tmp_path / "poison")})
        with (
            reference.Candidate("encode", script, model) as encoder,
            reference.Candidate("decode", script, model) as decoder,
        ):
            docs = [encoder.encode(text.encode()) for text in texts]
            assert [decoder.decode(doc).decode() for doc in docs] == texts
    check_session(script, model, docs)


def check_session(script: Path, model: Path, docs: list[np.ndarray]) -> None:
    """The conformance test: two chunk sizes, dense peeks on 2,000 tokens, and answers to bad requests."""
    tokens, starts = np.concatenate(docs), np.cumsum([0] + [len(doc) for doc in docs[:-1]])
    with reference.Candidate("score", script, model) as scorer:
        manifest = scorer.reset()
        assert manifest == {"vocab": 300, "context": 32, "state": "none", "numerics": "fp32", "separator": None}
        one = np.concatenate([scorer.score(*chunk) for chunk in reference.chunks(docs)])
        scorer.reset()
        two = np.concatenate([scorer.score(*chunk) for chunk in reference.chunks(docs, 150)])
        assert len(one) == len(tokens) and np.abs(one - two).max() < 1e-5
        assert len(scorer.score(np.zeros(0, dtype=np.int64), [])) == 0
        items = []
        for position in range(2000):
            start = int(starts[np.searchsorted(starts, position, side="right") - 1])
            items.append((position, start, tokens[max(0, position - 32) : position]))
        peeks = np.concatenate([scorer.peek(items[at : at + 300]) for at in range(0, 2000, 300)])
        assert np.abs(-peeks[np.arange(2000), tokens[:2000]] - one[:2000]).max() < 1e-5
        with pytest.raises(RuntimeError, match="out of range"):
            scorer.score(np.array([300]), [])


@pytest.mark.long
@pytest.mark.parametrize(
    ("processes", "clip"),  # both optimisers ignore the size of gradients, clipping does not
    [(2, 0.0), (2, 0.3), (4, 0.3), (8, 0.3)],
)
def test_several_processes_learn_what_one_learns(corpus: Path, tmp_path: Path, processes: int, clip: float) -> None:
    sizes = {"train_batch_tokens": 512, "grad_accum_steps": 2, "iterations": 20}
    env = environment(corpus / "train", **sizes, grad_clip_norm=clip)
    alone, _ = launch(tmp_path / "alone", env, "train")
    port = "--rdzv-endpoint=localhost:0"
    together, _ = launch(
        tmp_path / "several",
        env,
        "-m",
        "torch.distributed.run",
        f"--nproc_per_node={processes}",
        "--rdzv-backend=c10d",
        port,
        "train",
    )
    losses = [[float(x) for x in re.findall(r"train_loss:(\S+)", log)] for log in (alone, together)]
    assert len(losses[0]) == 20 and losses[0][-1] < losses[0][0] - 1
    assert losses[1] == pytest.approx(losses[0], abs=2e-4)
    assert f"world_size:{processes} grad_accum_steps:2" in together
    found = [float(re.findall(r"holdout val_loss:(\S+)", log)[0]) for log in (alone, together)]
    assert found[0] == pytest.approx(found[1], abs=2e-3)


@pytest.mark.slow
def test_the_contests_way_on_shards_stops_at_the_clock(tmp_path: Path) -> None:
    tokenizer = t.Tokenizer.train(make_docs(30, 1), 300)
    (tmp_path / "t.model").write_bytes(tokenizer.to_proto())
    for name, n in (("train_000000", 60), ("train_000001", 60), ("val_000000", 10)):
        ids = [i for doc in make_docs(n, n) for i in (t.BOS, *tokenizer.encode(doc.encode()))]
        write_shard(tmp_path / f"fineweb_{name}.bin", np.array(ids))
    env = environment(
        tmp_path,
        tokenizer_path=tmp_path / "t.model",
        iterations=1000000,
        max_wallclock_seconds=2,
        warmup_steps=2,
        val_loss_every=100,
        weight_bits=6,
        embed_bits=6,
        compressor="brotli",
    )
    log, artifact = launch(tmp_path / "out", env, "")
    assert "warmup_step:2/2" in log
    stopped = re.findall(r"^stopping_early: wallclock_cap train_time:(\d+)ms step:(\d+)/1000000$", log, re.M)
    assert 2000 <= int(stopped[0][0]) < 2600 and int(stopped[0][1]) > 20
    assert re.search(r"^step:0/1000000 val_loss:5\.\d+ val_bpb:\S+ train_time:\d+ms", log, re.M)
    final = re.findall(r"^final_int6_brotli_roundtrip_exact val_loss:(\S+) val_bpb:(\S+)$", log, re.M)[0]
    last = re.findall(r"^step:\d+/1000000 val_loss:(\S+) val_bpb:(\S+) ", log, re.M)[-1]
    assert float(final[0]) == pytest.approx(float(last[0]), abs=0.05)  # quantising costs little
    model, found, c = t.from_artifact(artifact)
    assert (found.pieces, c.weight_bits) == (tokenizer.pieces, 6)
    val = t.read_shard(tmp_path / "fineweb_val_000000.bin")
    said = logs.reported(log)
    assert said.tokens == (len(val) - 1) // c.train_seq_len * c.train_seq_len, "as many as were scored"
    assert said.tokenizer == str(tmp_path / "t.model") and said.bpb == float(final[1])
    loss, bpb = t.evaluate_tokens(t.Scorer(model, c), found, val, t.Processes())
    assert (loss, bpb) == (pytest.approx(float(final[0]), abs=1e-5), pytest.approx(float(final[1]), abs=1e-5))
