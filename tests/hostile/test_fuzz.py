"""Every parser of what a candidate wrote, fed with noise made of its own words.

Each gives a value or an error that its caller knows. What was found, and what takes longest, is in test_fuzz_found.py,
frames are in test_fuzz_frames.py, what lies in the place of a file in test_hostile_files.py.
"""

import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from agent import words
from agent.context.fence import fence, visible
from agent.judge import lines, logs, protocol, sizes
from agent.judge.task import Manifest
from agent.report import recorder
from agent.runners.progress import last_step
from agent.step_lines import part, same_start
from agent.strict import strict
from agent.tools import curve, dry_run
from agent.tools.window import bounded, window
from tests.good_records import GOOD

FAST, LONG, LONGEST = 60, 400, 15_000
WORDS = (
    *("step:", "step ", "/", "train_loss:", "val_loss:", "val_bpb:", "val_bpb=", "train_time:", "ms", "num_steps:  "),
    *(
        "final_int8_zlib_roundtrip ",
        "final_roundtrip_exact ",
        "quantized ",
        "legal_ttt ",
        "sliding ",
        "stride:64 ",
        "seed:",
    ),
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
    far = part(text)
    assert far is None or (0 <= far[0] <= 1 and (far[1] is None or math.isfinite(far[1])))


def reads_curve(text: str) -> None:
    one = curve.losses(text)
    assert same_start(one, one) <= len(one)
    for pattern in (dry_run._COST, dry_run._PARAMETERS):
        for row in lines.rows(text):
            if found := pattern.match(row.text):
                assert all(math.isfinite(float(part)) for part in found.groups())
    assert all(one.loss is None or math.isfinite(one.loss) for one in recorder._points(text))


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
