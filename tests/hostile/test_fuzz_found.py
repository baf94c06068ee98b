"""What noise has found in parsers of what a candidate wrote; what takes longest; and whole job folders of it."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from agent import step_lines, words
from agent.context.fence import fence
from agent.errors import InfraError
from agent.job.folder import FOREVER_S, MOST_BEAT, Heartbeat, JobResult, PhaseResult, strict_heartbeat
from agent.job.reading import MOST, read_ends
from agent.judge import curve as kept_curve
from agent.judge import lines, logs, protocol, sizes
from agent.judge.measure import measure
from agent.judge.task import Measured, no_score
from agent.report import recorder
from agent.report.live import Job, _how_far
from agent.runners import leftovers
from agent.runners.local import LocalRunner
from agent.runners.progress import last_step, progress
from agent.steps.inert import losses as early_losses
from agent.strict import from_json, strict
from agent.tools import curve
from sandbox import Exit, tree
from tests.good_records import GOOD, beat
from tests.judging import toy
from tests.measuring import RUN
from tests.shepherding import begun

# ---------------------------------------------------------------- what takes longest
GIANTS = {
    "nothing but lines": "\n",
    "lines with a colon": ":\n",
    "spaces": " ",
    "blank lines of spaces": " \n",
    "one line": "x",
    "steps": "1/1 ",
    "steps and spaces": "step:1/1 " + 90 * " " + "\n",
    "losses": "step:1/2 train_loss:",
    "costs": "steps:1 cost_ms:1 ",
    "scores": "final_roundtrip val_loss:1 val_bpb:",
    "scores on lines": "final_roundtrip val_loss:1 val_bpb:2\n",
    "sizes": "a: 1MB model + 1MB code = 1/1MB \n",
    "digits": "9",
    "escapes": "\x1b[0",
    "titles": "\x1b]0;",
    "brackets": "[",
    "tildes": "`~|",
    "turned": "\u202e\u2066",
    "wide": "\U0001f600",
    "returns": "\r",
    "ranks": "0: abc\n",
    "separators": "=" * 20 + "\n",
    "beginnings": "@a\n",
}
GIANTS["separators and beginnings"] = GIANTS["separators"] * 30_000 + GIANTS["beginnings"] * 210_000


@pytest.mark.parametrize("giant", GIANTS)
def test_the_largest_logs_are_read_in_bounded_time_and_memory(tmp_path: Path, giant: str) -> None:
    """As much as each caller takes of a log, all of one kind."""
    log = tmp_path / "train.log"
    log.write_text(GIANTS[giant] * max(1, (6 << 20) // len(GIANTS[giant].encode())))
    text = log.read_text()[: 5 << 20]
    read: dict[str, Callable[[], object]] = {
        "report": lambda: logs.reported(text[: 5 << 18]),
        "printed": lambda: lines.printed_source(read_ends(log, 1 << 18, 1 << 21)),
        "curve": lambda: curve.losses(text),
        "kept": lambda: kept_curve.of(log),
        "progress": lambda: (last_step(text[:8192]), step_lines.part(text[:8192])),
        "inert": lambda: early_losses(log),
        "shown": lambda: words.plain(text[:200_000], limit=200_000),
        "told": lambda: fence("log", text[:400_000]),
        "recorded": lambda: list(recorder._points(text[:1_000_000])),
    }
    for name, one in read.items():
        began = time.process_time()
        one()
        assert time.process_time() - began < (0.2 if name == "progress" else 5), name


def test_reading_a_log_takes_little_more_memory_than_the_log() -> None:
    text = ":\n" * (5 << 14)
    tracemalloc.start()
    logs.reported(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6 / 6


@pytest.mark.parametrize("piece", ["[", '{"a":', "[],", '{"a":[', '"', "9", "1e9,", "\\u0000", "-", " "])
def test_the_largest_results_are_read_in_bounded_time_and_memory(piece: str) -> None:
    """The reader has 4 MB of them at most; in a process of its own, whose memory can be seen."""
    code = (
        "import resource, sys, time\n"
        "from agent.judge.task import Measured\nfrom agent.strict import strict\n"
        "from agent.job.reading import MOST\n"
        f"text = {piece!r} * (MOST // {len(piece)})\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for text in (text, '[' + text[:-1] + ']'):\n"
        "    try:\n        strict(Measured, text)\n    except ValueError as error:\n"
        "        assert len(str(error)) < 600\n"
        "print(time.process_time(), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    seconds, megabytes = map(float, ended.stdout.split())
    assert seconds < 10 and megabytes < 400


# ---------------------------------------------------------------- what was found, one by one


@pytest.mark.parametrize("number", ["\u0131nf", "\u0130nf", "na\u0274", "1e999", "\u0661\u0662"])
def test_no_letter_that_looks_like_another_is_a_number(number: str) -> None:
    said = logs.reported(f"final_roundtrip val_loss:1.0 val_bpb:{number}\nval_bpb: {number}\n")
    assert said.bpb is None
    assert all(math.isinf(loss) for loss in curve.losses(f"1/2 train_loss:{number}").values())


@pytest.mark.parametrize("part", [".", "1.2.3", "", "1" * 10])
def test_megabytes_must_be_numbers(part: str) -> None:
    good = "log: 1.5MB model + .MB code = 2/16MB left".replace(".MB", "0.5MB")
    assert sizes.read_sizes([good]).total == 2_000_000
    assert sizes.read_sizes([good.replace("1.5", part)]) == sizes.Sizes(None, None, None, ())


def test_a_score_that_nobody_can_square_is_no_score() -> None:
    said = logs.reported("final_roundtrip val_loss:1.0 val_bpb:1e200\n")
    assert said.bpb is None and "1e+200" in said.reason


def test_progress_needs_no_time_for_blank_lines() -> None:
    began = time.process_time()
    assert last_step("\n" * 8192) is None
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 400, '{"at": 1e999}', "", "\ud800", "null"])
def test_whatever_is_no_record_is_a_value_error(text: str) -> None:
    assert strict_heartbeat(text) is None
    for kind in map(type, GOOD):
        with pytest.raises(ValueError):
            strict(kind, text)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e400", "9" * 400, str(1 << 63), "NaN", "Infinity"])
def test_records_hold_finite_numbers_that_a_database_can_hold(number: str) -> None:
    for record in GOOD:
        for field in dataclasses.fields(record):
            if isinstance(getattr(record, field.name), int | float) and not isinstance(
                getattr(record, field.name), bool
            ):
                text = json.dumps({**asdict(record), field.name: "HERE"}).replace('"HERE"', number)
                with pytest.raises(ValueError):
                    strict(type(record), text)
    assert strict(Heartbeat, json.dumps({**asdict(beat()), "root": (1 << 63) - 1})).root == (1 << 63) - 1
    with pytest.raises(ValueError):
        from_json("[" * 100_000)


def test_errors_of_records_are_short_and_can_be_stored() -> None:
    for text in (
        json.dumps({"\ud800": 1}),
        json.dumps({"k" * 100_000: 1}),
        json.dumps({**asdict(beat()), "phase": "p" * 10**6}),
    ):
        with pytest.raises(ValueError) as caught:
            strict(Heartbeat, text)
        assert len(str(caught.value)) <= 600
        str(caught.value).encode("utf-8")


# ---------------------------------------------------------------- a job folder with such files


NOISE = {
    "deep": "[" * 200_000,
    "deep objects": '{"reason":' * 200_000,
    "infinite": json.dumps({**asdict(beat()), "seconds": 0}).replace('"seconds": 0', '"seconds": 1e999'),
    "for ever": json.dumps(asdict(beat(seconds=1e308))),
    "before time": json.dumps(asdict(beat(seconds=-5.0))),
    "no time": json.dumps(asdict(beat(at="yesterday"))),
    "many": json.dumps(asdict(beat(processes={str(n): n for n in range(200_000)}))),
    "list": "[]",
    "number": "1",
    "text": '"status"',
    "reason is a tower": json.dumps({"reason": [[[1]]], "status": {}}),
    "long reason": json.dumps({"reason": "\x1b[31m" * 200_000, "status": "broken"}),
    "too big": " " * (MOST + 1),
    "no UTF-8": "\udcff\udcfe",
    "empty": "",
}


@pytest.mark.parametrize("noise", NOISE)
def test_no_file_of_a_job_folder_ends_the_controller(tmp_path: Path, noise: str) -> None:
    """In the place of each file in turn, and of all of them."""
    runner = LocalRunner(1)
    paths = begun(tmp_path)
    files = [paths.heartbeat, paths.result, paths.lost, paths.measure, paths.spec, paths.pid, paths.train_log]
    kept = {path: path.read_bytes() if path.exists() else None for path in files}
    for some in [[path] for path in files] + [files]:
        for path in some:
            path.write_bytes(NOISE[noise].encode("utf-8", "surrogateescape"))
        began = time.process_time()
        at = progress(paths.folder)
        _how_far(Job(RUN, "title", at))
        assert leftovers._roots(paths.folder.parent).isdisjoint({os.getpid(), os.getppid(), os.getsid(0)})
        loss = runner.loss(paths.folder)
        assert loss.ran and 0 <= loss.slot_s <= FOREVER_S and len(loss.reason) <= 2000
        assert runner.poll(paths.folder) in ("lost", "done")
        with pytest.raises(InfraError):
            runner.collect(paths.folder)
        assert time.process_time() - began < 5
        for path, data in kept.items():
            path.unlink(missing_ok=True)
            if data is not None:
                path.write_bytes(data)


@pytest.mark.parametrize("noise", NOISE)
def test_no_answer_of_a_session_ends_the_controller(tmp_path: Path, noise: str) -> None:
    paths = begun(tmp_path)
    paths.measure.write_bytes(NOISE[noise].encode("utf-8", "surrogateescape"))
    phases = tuple(PhaseResult(name, Exit(0, None, "exited", 1.0, 1.0, 5.0)) for name in ("train", "judge"))
    good = JobResult(1, "ok", "", phases, 2.0, (), True)
    with pytest.raises(InfraError, match=r"can't be read"):
        measure(toy(), RUN, paths, good, "d")
    found = measure(toy(), RUN, paths, dataclasses.replace(good, outcome="score_failed", reason="why"), "d")
    assert found.bpb is None and "why" in found.findings[-1].text


@pytest.mark.parametrize("nats", [1e300, -1.0, 1e20])
def test_a_score_that_no_model_has_is_none(tmp_path: Path, nats: float) -> None:
    paths = begun(tmp_path)
    answer = dataclasses.replace(no_score("ok", ""), nats=nats, bytes=10, tokens=3)
    paths.measure.write_text(Measured.to_json(answer))
    phases = tuple(PhaseResult(name, Exit(0, None, "exited", 1.0, 1.0, 5.0)) for name in ("train", "judge"))
    found = measure(toy(), RUN, paths, JobResult(1, "ok", "", phases, 2.0, (), True), "d")
    assert found.bpb is None and "are no score" in found.findings[-1].text


@pytest.mark.filterwarnings("error")
def test_a_signalling_nan_is_a_nan() -> None:
    with pytest.raises(protocol.BadAnswer, match="are NaN"):
        protocol.read_nats(bytes.fromhex("010080ff"), 1)
    assert np.isnan(protocol.read_logprobs(bytes.fromhex("010080ff"), 1, 1)).all()


def test_a_heartbeat_of_year_one_ends_no_sweep(tmp_path: Path) -> None:
    paths = begun(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as process:
        row = tree.look(process.pid)
        assert row is not None
        paths.heartbeat.write_text(
            json.dumps(asdict(beat(at="0001-01-01", root=row.pid, processes={str(row.pid): row.start})))
        )
        assert process.pid not in leftovers._roots(paths.folder.parent)
        process.communicate(b"\n")


def test_a_heartbeat_that_is_too_long_is_none() -> None:
    text = json.dumps(asdict(beat(processes={str(n): n for n in range(1000)})))
    assert len(text) < MOST_BEAT and strict_heartbeat(text) is not None
    assert strict_heartbeat(text + " " * MOST_BEAT) is None


def test_names_of_processes_are_not_read_as_numbers(tmp_path: Path) -> None:
    """A process may call itself anything: the kernel prints that name between its numbers."""
    code = (
        "import ctypes, os, sys\nctypes.CDLL(None).prctl(15, b') R 1 1 (\\n) Z', 0, 0, 0)\n"
        "print(os.getpid(), flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        row = tree.look(process.pid)
        assert row is not None and (row.ppid, row.sid, row.zombie) == (os.getpid(), os.getsid(0), False)
        process.communicate()
