"""The clock of a process's answers runs from when it is first asked."""

import time
from pathlib import Path

import pytest

from agent.judge.candidate import Candidate, Files
from agent.judge.scoring import score
from agent.judge.session import read_documents
from tests.judging import make_job

SLOW_S = 0.2


def test_who_takes_a_request_slowly_is_on_the_clock_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could read a part, and compute on it."""
    send = Candidate._send

    def slowly(self: Candidate, data: bytes) -> None:
        time.sleep(SLOW_S)
        send(self, data)

    monkeypatch.setattr(Candidate, "_send", slowly)
    task = make_job(tmp_path / "job", script="leaking.py", how="plain")
    files = Files(Path(task.artifact).read_bytes(), Path(task.script).read_bytes())
    texts = read_documents(task.documents)
    scores = score(task, files, texts, time.monotonic() + 60)
    assert scores.encode_answers_s >= len(texts) * SLOW_S
    assert scores.score_answers_s >= 2 * SLOW_S  # the reset and a chunk
