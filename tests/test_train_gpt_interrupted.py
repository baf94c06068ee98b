"""A training whose machine is taken away: the next one goes on from what it left, to the same end."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import trainer_reference as reference
from tests.training import SMALL, config, weights_of, write_corpus
from trainer import train_gpt as t

STEPS = 24
# Told once, and one of several processes alone.
TOLD = """
import os, pathlib, runpy, signal, sys
from trainer import train_gpt as t
done, told = t.Run.step, pathlib.Path("told")
def step(self, at, micro, scale):
    if at == 13 and self.procs.rank == self.procs.world - 1 and not told.exists():
        told.touch()
        os.kill(os.getpid(), signal.SIGUSR1)
    return done(self, at, micro, scale)
t.Run.step = step
t.main(dict(os.environ))
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def run_of(c: SimpleNamespace) -> t.Run:
    return t.Run(c, t.Processes(), t.Corpus(c), STEPS)


def test_it_goes_on_where_it_was_to_the_same_weights(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGUSR1)
    c = config(
        data_path=str(corpus / "train"), holdout=2000, train_batch_tokens=128, train_log_every=1, shuffle_rows=64
    )
    whole = run_of(c)
    whole.train()
    assert signal.getsignal(signal.SIGUSR1) == handler  # nobody takes it up again, so nobody listens
    monkeypatch.setenv("CHECKPOINT", "kept.bin")
    try:
        for told_at in (5, 13):
            run = run_of(c)
            step = run.step

            def told(at: int, *rest: object, told_at: int = told_at, step=step):  # type: ignore[no-untyped-def]
                if at == told_at:
                    os.kill(os.getpid(), signal.SIGUSR1)
                return step(at, *rest)

            run.step = told  # type: ignore[method-assign]
            with pytest.raises(SystemExit) as ended:
                run.train()
            assert ended.value.code == 75 and [one.name for one in tmp_path.iterdir()] == ["kept.bin"]
        capsys.readouterr()
        step, seconds, _ = torch.load("kept.bin", weights_only=True)
        last = run_of(c)
        last.train()
    finally:
        signal.signal(signal.SIGUSR1, handler)
    said = capsys.readouterr().out
    assert step == 20  # it looks every ten steps
    assert re.findall(r"^step:(\d+)/24 train_loss", said, re.M) == ["21", "22", "23", "24"]
    times = [int(one) for one in re.findall(r"train_time:(\d+)ms", said)]
    assert times == sorted(times) and times[0] >= int(1000 * seconds) > 0  # its clock goes on
    for name, weights in weights_of(whole.model).items():
        assert np.array_equal(weights, weights_of(last.model)[name]), name


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_processes_leave_together_though_one_alone_was_told(corpus: Path, tmp_path: Path, processes: int) -> None:
    script = tmp_path / "told.py"
    script.write_text(TOLD)
    settings = {
        **SMALL, "preset": "tiny", "data_path": corpus / "train", "holdout": 2000, "train_batch_tokens": 256,
        "grad_accum_steps": 1, "iterations": 24, "train_log_every": 1, "omp_num_threads": 1, "checkpoint": "kept.bin",
    }  # fmt: skip
    env = {key.upper(): str(value) for key, value in settings.items()}
    env |= {**reference.plain_env(), "PYTHONPATH": str(reference.SCRIPT.parents[1])}
    launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"] if processes > 1 else []
    command = [sys.executable, *launcher, str(script), "train"]
    first = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert first.returncode != 0 and "train_loss" in first.stdout, first.stderr
    left = {1: {"kept.bin"}, 2: {"kept.bin", "kept.bin.1"}}[processes]
    assert {one.name for one in tmp_path.iterdir()} == {*left, "told", "told.py"}
    again = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.findall(r"^step:(\d+)/24 train_loss", again.stdout, re.M) == ["21", "22", "23", "24"]
    assert (tmp_path / "final_model.bin").stat().st_size > 0
