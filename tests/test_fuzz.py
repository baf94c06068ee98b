"""Every parser of what a candidate wrote, fed with noise made of its own words, and with what takes longest.

Each gives a value or an error that its caller knows, in bounded time and memory. Frames are in test_fuzz_frames.py,
what lies in the place of a file in test_hostile_files.py.
"""

import dataclasses
import json
import math
import os
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from agent.context.fence import fence, visible
from agent.errors import InfraError
from agent.judge import logs, protocol, sizes
from agent.judge.measure import measure
from agent.judge.task import Manifest, Measured, Task, no_score
from agent.report import recorder, words
from agent.report.live import Job, _how_far
from agent.runners import leftovers
from agent.runners.job import (
    FOREVER_S,
    MOST_BEAT,
    Heartbeat,
    JobPaths,
    JobResult,
    JobSpec,
    PhaseResult,
    from_json,
    strict,
    strict_heartbeat,
)
from agent.runners.local import LocalRunner
from agent.runners.progress import last_step, progress
from agent.runners.reading import MOST
from agent.runners.shepherd import boot
from agent.steps.inert import losses as early_losses
from agent.tools import curve, dry_run
from agent.tools.window import bounded, window
from sandbox import Exit, Policy, tree
from tests.judging import toy
from tests.test_judge_measure import RUN

FAST, LONG, LONGEST = 60, 400, 15_000
WORDS = (
    *("step:", "step ", "/", "train_loss:", "val_loss:", "val_bpb:", "val_bpb=", "train_time:", "ms", "num_steps:  "),
    *("final_int8_zlib_roundtrip ", "final_x_exact ", "quantized ", "legal_ttt ", "sliding ", "stride:64 ", "seed:"),
    *("Serialized model int8: ", "Total submission size x: ", "Code size: ", "Code size (compressed): ", " bytes"),
    *(
        "budget:",
        "artifact:",
        "MB ",
        "code:",
        "a: ",
        "MB model + ",
        "MB code = ",
        "artifact_bytes:   ",
        "valid:  false",
    ),
    *("x model: ", " bytes | Total submission: ", '"val_bpb": ', "model_params:", "steps:", " cost_ms:", "loss"),
    *("nan", "inf", "\u0131nf", "\u0130NF", "INFINITY", "1e999", "1e-999", ".", "-", "+", "1", "0", "9" * 12, "9" * 20),
    *(
        "\u0663",
        "\u00b2",
        "\u2460",
        "\U0001d7d8",
        "\x1b[",
        "\x1b]0;",
        "\x07",
        "\x9b",
        "\r",
        "\n",
        "\n",
        " ",
        "\t",
        "\0",
    ),
    *("1750000000.5 ", "\u202e", "\u2028", "\ufffd", "\ud800", "[/]", "[red]", "|", "`", "</data-"),
)
TEXTS = st.lists(st.one_of(st.sampled_from(WORDS), st.integers(0, 10**6).map(str), st.text(max_size=8)), max_size=24)
LINES = TEXTS.map("".join)
BYTES = st.one_of(st.binary(max_size=400), LINES.map(lambda text: text.encode("utf-8", "replace")))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.sampled_from(WORDS)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
    max_leaves=12,
)


# ---------------------------------------------------------------- text


def reads_log(text: str) -> None:
    said = logs.reported(text)
    assert said.bpb is None or 0 < said.bpb < logs.MOST_BPB
    assert (said.bpb is None) == bool(said.reason)
    whole = (said.artifact_bytes, said.code_bytes, said.total_bytes, said.steps, said.train_ms)
    assert all(one is None or abs(one) < 1 << 62 for one in whole)
    found = sizes.read_sizes(text.split("\n"))  # as it is, too: not only lines with a colon
    assert len(found.notes) <= 2


def reads_step(text: str) -> None:
    found = last_step(text)
    assert found is None or (0 <= found[0] <= found[1] and (found[2] is None or math.isfinite(found[2])))


def reads_curve(text: str) -> None:
    one = curve.losses(text)
    assert curve.same_start(one, one) <= len(one)
    for pattern in (dry_run._COST, dry_run._PARAMETERS):
        for row in logs.lines(text):
            if found := pattern.match(row):
                assert all(math.isfinite(float(part)) for part in found.groups())
    assert all(len(part) <= 12 for one in recorder._STEP.finditer(text) for part in one.groups())


def shows(text: str) -> None:
    """No control character but line breaks and tabs, no direction, no half of a character."""
    shown = [words.plain(text), words.line(text), words.markup(text), words.markdown(text), bounded(text)]
    shown += [visible(text), fence(text, text), window("it", text or "x", 1, 0)]
    for one in shown[:-1]:
        assert not set(map(ord, one)) & ({*range(32), *range(127, 160), 0x202E, *range(0xD800, 0xE000)} - {9, 10})
        one.encode("utf-8")
    assert "\n" not in shown[1] + shown[2] + shown[3]


READERS: dict[str, Callable[[str], None]] = {
    "log": reads_log,
    "step": reads_step,
    "curve": reads_curve,
    "shown": shows,
}

# ---------------------------------------------------------------- records


def beat(**changed: object) -> Heartbeat:
    usual = {"at": "2026-01-01T00:00:00.000Z", "boot": boot(), "phase": "train", "seconds": 3.0, "root": 9}
    return Heartbeat(**{**usual, "processes": {"9": 4}, **changed})  # type: ignore[arg-type]


GOOD = [
    beat(),
    JobResult(1, "ok", "", (PhaseResult("train", Exit(0, None, "exited", 1.0, 1.0, 5.0)),), 2.0, ("limits",), True),
    no_score("failed", "because"),
    Manifest(256, 1, "none", "fp32"),
    JobSpec(1, (), "a.bin", None, 9.0),
    Task(("a",), "s", ("s",), True, "a", {"A": "b"}, Policy("", ("/r",)), 1, None, 9, 9, 9, 9, 9, "/f"),
]


def reads_record(kind: type, text: str) -> None:
    try:
        found = strict(kind, text)
    except ValueError as error:
        assert len(str(error)) <= 600
        str(error).encode("utf-8")
        return
    again = json.dumps(asdict(found), allow_nan=False)
    assert strict(kind, again) == found


def numbers_of(value: object) -> list[int | float]:
    if isinstance(value, dict):
        return [number for inner in value.values() for number in numbers_of(inner)]
    if isinstance(value, list | tuple):
        return [number for inner in value for number in numbers_of(inner)]
    return [value] if isinstance(value, int | float) else []


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[type, str]:
    """A record of ours with one thing changed, or with its text cut or changed."""
    record = draw(st.sampled_from(GOOD))
    row = asdict(record)
    for _ in range(draw(st.integers(0, 2))):
        row[draw(st.sampled_from([*row, "odd", "\ud800"]))] = draw(JSON)
    text = json.dumps(row)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        piece = draw(
            st.sampled_from(["", "[", "{", '"', "1e999", "-1e999", "9" * 400, "9" * 5000, "NaN", "\0", "\ud800"])
        )
        text = text[:at] + piece + text[at + draw(st.integers(0, 9)) :]
    return type(record), text


def reads_spoilt(given: tuple[type, str]) -> None:
    reads_record(*given)


def reads_json(text: str) -> None:
    for kind in map(type, GOOD):
        reads_record(kind, text)


# ---------------------------------------------------------------- answers


def reads_answers(payload: bytes) -> None:
    count = len(payload) // 4
    for read in (
        protocol.read_manifest,
        protocol.read_tokens,
        lambda data: protocol.read_nats(data, count),
        lambda data: protocol.read_logprobs(data, max(1, count // 8), 8),
    ):
        try:
            found = read(payload)
        except protocol.BadAnswer as error:
            assert len(str(error)) < 1000
            str(error).encode("utf-8")
        else:
            assert isinstance(found, Manifest | np.ndarray)
    assert protocol.read_error(payload).isascii() and len(protocol.read_error(payload)) < 4000


FED: dict[str, tuple[st.SearchStrategy, Callable[..., None]]] = {
    **{name: (LINES, reader) for name, reader in READERS.items()},
    "spoilt records": (spoilt(), reads_spoilt),
    "any JSON": (JSON.map(json.dumps), reads_json),
    "no JSON": (LINES, reads_json),
    "answers": (BYTES, reads_answers),
}


def feed(name: str, examples: int, number: int | None = None) -> None:
    strategy, reader = FED[name]
    same = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

    @settings(max_examples=examples, derandomize=number is None, **same)  # type: ignore[arg-type]
    @given(strategy)
    def one(noise: object) -> None:
        reader(noise)

    (one if number is None else seed(number)(one))()


@pytest.mark.parametrize("name", FED)
def test_noise_gives_a_value_or_an_error_that_is_known(name: str) -> None:
    feed(name, FAST)


@pytest.mark.slow
@pytest.mark.parametrize("name", FED)
def test_much_more_noise(name: str) -> None:
    feed(name, LONG, number=20)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_very_much_more_noise(name: str) -> None:
    """Faster than with somebody who looks for the smallest example."""
    dice = random.Random(20)
    for _ in range(LONGEST // 5 if name == "shown" else LONGEST):
        READERS[name]("".join(dice.choice(WORDS) for _ in range(dice.randrange(40))))


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
    "scores": "final_a val_loss:1 val_bpb:",
    "scores on lines": "final_a val_loss:1 val_bpb:2\n",
    "sizes": "a: 1MB model + 1MB code = 1/1MB \n",
    "digits": "9",
    "escapes": "\x1b[0",
    "titles": "\x1b]0;",
    "brackets": "[",
    "tildes": "`~|",
    "turned": "\u202e\u2066",
    "wide": "\U0001f600",
    "returns": "\r",
}


@pytest.mark.parametrize("giant", GIANTS)
def test_the_largest_logs_are_read_in_bounded_time_and_memory(tmp_path: Path, giant: str) -> None:
    """As much as each caller takes of a log, all of one kind."""
    log = tmp_path / "train.log"
    log.write_text(GIANTS[giant] * ((6 << 20) // len(GIANTS[giant].encode())))
    text = log.read_text()[: 5 << 20]
    read: dict[str, Callable[[], object]] = {
        "report": lambda: logs.reported(text[: 5 << 18]),
        "curve": lambda: curve.losses(text),
        "progress": lambda: last_step(text[:8192]),
        "inert": lambda: early_losses(log),
        "shown": lambda: words.plain(text[:200_000], limit=200_000),
        "told": lambda: fence("log", text[:400_000]),
        "recorded": lambda: recorder._STEP.findall(text[:1_000_000]),
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
    assert peak < 60e6 / 8


@pytest.mark.parametrize("piece", ["[", '{"a":', "[],", '{"a":[', '"', "9", "1e9,", "\\u0000", "-", " "])
def test_the_largest_results_are_read_in_bounded_time_and_memory(piece: str) -> None:
    """The reader has 4 MB of them at most; in a process of its own, whose memory can be seen."""
    code = (
        "import resource, sys, time\n"
        "from agent.judge.task import Measured\nfrom agent.runners.job import strict\n"
        "from agent.runners.reading import MOST\n"
        f"text = {piece!r} * (MOST // {len(piece)})\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for text in (text, '[' + text[:-1] + ']'):\n"
        "    try:\n        strict(Measured, text)\n    except ValueError as error:\n"
        "        assert len(str(error)) < 600\n"
        "print(time.process_time(), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    seconds, megabytes = map(float, ended.stdout.split())
    assert seconds < 10 and megabytes < 400


# ---------------------------------------------------------------- what was found, one by one


@pytest.mark.parametrize("number", ["\u0131nf", "\u0130nf", "na\u0274", "1e999", "\u0661\u0662"])
def test_no_letter_that_looks_like_another_is_a_number(number: str) -> None:
    said = logs.reported(f"final_x val_loss:1.0 val_bpb:{number}\nval_bpb: {number}\n")
    assert said.bpb is None
    assert all(math.isinf(loss) for loss in curve.losses(f"1/2 train_loss:{number}").values())


@pytest.mark.parametrize("part", [".", "1.2.3", "", "1" * 10])
def test_megabytes_must_be_numbers(part: str) -> None:
    good = "log: 1.5MB model + .MB code = 2/16MB left".replace(".MB", "0.5MB")
    assert sizes.read_sizes([good]).total == 2_000_000
    assert sizes.read_sizes([good.replace("1.5", part)]) == sizes.Sizes(None, None, None, ())


def test_a_score_that_nobody_can_square_is_no_score() -> None:
    said = logs.reported("final_x val_loss:1.0 val_bpb:1e200\n")
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


def folder(tmp_path: Path) -> JobPaths:
    paths = JobPaths(tmp_path / "jobs" / "r1")
    paths.code.mkdir(parents=True)
    paths.out.mkdir()
    paths.spec.write_text(JobSpec(1, (), None, None, 9.0).to_json())
    for path in (paths.lock, paths.started, paths.pid):
        path.touch()
    return paths


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
    paths = folder(tmp_path)
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
    paths = folder(tmp_path)
    paths.measure.write_bytes(NOISE[noise].encode("utf-8", "surrogateescape"))
    phases = tuple(PhaseResult(name, Exit(0, None, "exited", 1.0, 1.0, 5.0)) for name in ("train", "judge"))
    good = JobResult(1, "ok", "", phases, 2.0, (), True)
    with pytest.raises(InfraError, match=r"can't be read"):
        measure(toy(), RUN, paths, good, "d")
    found = measure(toy(), RUN, paths, dataclasses.replace(good, outcome="score_failed", reason="why"), "d")
    assert found.bpb is None and "why" in found.findings[-1].text


@pytest.mark.parametrize("nats", [1e300, -1.0, 1e20])
def test_a_score_that_no_model_has_is_none(tmp_path: Path, nats: float) -> None:
    paths = folder(tmp_path)
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
    paths = folder(tmp_path)
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
