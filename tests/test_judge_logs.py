"""What a script reports: every format of the contest's logs, and what must never be taken for a score."""

import json
import random
import string
import time
from pathlib import Path

import pytest

from agent.judge.lines import LINE_CHARS
from agent.judge.logs import reported

VECTORS = Path(__file__).resolve().parents[2] / "shared" / "judge_logs"
FAMILIES = {
    "phased-TTT": "phased ttt",
    "lora-TTT": "lora ttt",
    "TTT(SP8192)": "quantized ttt",
    "early lora-TTT": "early lora ttt",
    "sliding named": "sliding",
    "int8 roundtrip": "int8 roundtrip",
    "json trailer": "json trailer",
}
STEPS = "step:13000/20000 val_loss:1.9000 val_bpb:1.1000 train_time:599000ms step_avg:46.08ms\n"


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the contest's logs are not kept in this repository")
def test_every_log_of_the_contest() -> None:
    expected = json.loads((VECTORS / "expected.json").read_text())
    assert len(expected) == 35
    for vector in expected:
        found = reported((VECTORS / vector["log"]).read_text("utf-8", errors="replace"))
        said = {
            "val_bpb": found.bpb,
            "val_loss": found.loss,
            "label": found.label,
            "family": found.family,
            "total_bytes": found.total_bytes,
            "steps": found.steps,
            "train_ms": found.train_ms,
            "seed": found.seed,
        }
        wanted = {key: vector[key] for key in said}
        wanted["family"] = FAMILIES[vector["family"]]
        wanted["seed"] = None if vector["seed"] is None else int(vector["seed"])
        assert said == wanted, vector["log"]
        assert found.reason == ""
        assert [len(found.notes), len(found.runs)] == ([1, 3] if vector["log"].endswith("summary.log") else [0, 0])
        if found.total_bytes is not None:
            assert (found.artifact_bytes or 0) + (found.code_bytes or 0) == found.total_bytes


# Every line that states a final score, and the score and the label that it states.
@pytest.mark.parametrize(
    ("line", "label", "bpb"),
    [
        ("final_int8_zlib_roundtrip val_loss:2.0727 val_bpb:1.2244 eval_time:1401ms", "", 1.2244),
        ("final_int8_zlib_roundtrip val_loss:2.07 val_bpb:1.2 eval_time:1ms eval_mode:online_ttt", "", 1.2),
        ("final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:1.22436570", "", 1.2243657),
        (
            "final_int8_zlib_roundtrip_exact sliding val_loss:2.02 sliding val_bpb:1.19 eval_time:5ms",
            "final_int8_zlib_roundtrip_exact sliding",
            1.19,
        ),
        ("final_int6_roundtrip_exact val_loss:2.0 val_bpb:1.18908459 eval_time:5ms", "", 1.18908459),
        ("final_int6_sliding_window_exact val_loss:1.9 val_bpb:1.12 stride:64 eval_time:5ms", "", 1.12),
        ("final_sliding_window val_loss:1.9 val_bpb:1.12 eval_time:5ms stride:256 seq_len:2048", "", 1.12),
        (
            "final_sliding_window_eval_exact stride:64 val_loss:1.95110428 val_bpb:1.15555486 eval_time:5ms",
            "final_sliding_window_eval_exact",
            1.15555486,
        ),
        ("final_sliding val_loss:2.9877 val_bpb:1.1568 (stride=16, T=0.90) time:428712ms", "", 1.1568),
        ("final_ttt_lora val_loss:2.0153 val_bpb:1.1935 eval_time:72361ms", "", 1.1935),
        ("final_int8_ttt_lora val_loss:2.0128 val_bpb:1.1921 eval_time:59874ms", "", 1.1921),
        ("legal_ttt_exact val_loss:1.9 val_bpb:1.10 eval_time:9ms", "", 1.10),
        ("ttt_sliding:done val_loss=1.9 val_bpb=1.11 elapsed=300s", "ttt_sliding:done", 1.11),
        ("quantized val_loss:2.8 val_bpb:1.0995 eval_time:8134ms", "", 1.0995),
        ("quantized_sliding_window val_loss:2.797 val_bpb:1.0830 eval_time:82837ms", "", 1.083),
        ("quantized_ttt_phased val_loss:2.32641216 val_bpb:1.06307957 eval_time:416500ms", "", 1.06307957),
        ("final_ternary_roundtrip val_loss:3.0577 val_bpb:1.1839", "", 1.1839),
        ("final_INT7_zlib_roundtrip val_loss: 3.0577 val_bpb: 1.1839", "", 1.1839),
        ("final_int6_ttt val_loss:3.07421378 val_bpb:1.33603200 eval_time:405410ms", "", 1.336032),
        ("1742412345.123456 final_roundtrip val_loss:3.0 val_bpb:1.5", "final_roundtrip", 1.5),
        ("\x1b[1;32mfinal_roundtrip val_loss:3.0 val_bpb:1.5\x1b[0m", "final_roundtrip", 1.5),
        ("val_bpb: 1.1227", "val_bpb", 1.1227),
        ("val_bpb:          1.12278022  ", "val_bpb", 1.12278022),
        ('  "post_ttt_val_bpb": 1.06400238,', "json post_ttt_val_bpb", 1.06400238),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_format_of_a_final_score(line: str, label: str, bpb: float, end: str) -> None:
    found = reported(f"{STEPS}{line}{end}")
    assert found.bpb == bpb
    assert found.label == (label or line.split()[0])
    assert found.reason == "" and found.steps == 13000


@pytest.mark.parametrize(
    "line",
    [
        "step:1000/20000 val_loss:2.5 val_bpb:1.1 train_time:9ms step_avg:9ms",
        "4000/20000 val_loss: 2.5 val_bpb: 1.1",
        "1742412345.123456 4000/20000 val_loss: 2.5 val_bpb: 1.1",
        "diagnostic quantized val_loss:2.5 val_bpb:1.1 eval_time:8ms",
        "DIAGNOSTIC post_ema val_loss:2.5 val_bpb:1.1",
        "pre-quantization post-ema val_loss:2.5 val_bpb:1.1 eval_time:1ms",
        "diagnostic pre-quantization post-ema val_loss:2.5 val_bpb:1.1 eval_time:1ms",
        "final_temped val_loss:2.5 val_bpb:1.1 (T=0.9)",
        "quantized post_ema val_loss:2.5 val_bpb:1.1",
        "holdout val_loss:2.5 val_bpb:1.1 (training documents that were kept out)",
        "ttt_chunk [3/80] bpb=1.1 time=3s",
        "sliding_eval [ 10.0%] running_bpb=1.1",
        "ttp: b3/80 bl:2.1 bb:1.1 rl:2.1 rb:1.1 dl:1",
        "ttt_progress: batch 3/80 batch_bpb:1.1 running_bpb:1.1",
        "probe_bpb: 1.1",
        "val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path=x.model",
        '    log(f"{label} val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}")',
        '    print("final_roundtrip val_loss:2.5 val_bpb:1.1")',
        "  final_roundtrip val_loss:2.5 val_bpb:1.1",
        "final_roundtrip val_bpb:1.1 val_loss:2.5",
        "final_roundtrip val_loss:2.5 val_bpb:1.1.1",
        "final_roundtrip val_loss:2.5 val_bpb:0x1p0",
        "# val_bpb: 1.1",
        "best val_bpb: 1.1 so far",
        "",
    ],
)
def test_what_is_no_final_score(line: str) -> None:
    found = reported(f"{STEPS}{line}\n")
    assert (found.bpb, found.family, found.label) == (None, None, "")
    strange = f": line 2 has a figure of {line.split(' val_loss')[0]}, which is no known label of one"
    assert found.reason == "the log holds no final score" + strange * line.startswith(("final_temped", "quantized"))
    assert reported(f"{line}\nfinal_int8_zlib_roundtrip val_loss:2.1 val_bpb:1.3 eval_time:1ms\n{line}").bpb == 1.3


@pytest.mark.parametrize(
    "label",
    [
        "quantized_diagnostic", "quantized_diagnostic_on_train", "final_pre-quantization", "final_prequant_ema",
        "final_train", "final_holdout", "final_train_holdout", "final_partial_eval", "final_sliding_window_10docs",
        "final_int8_zlib_roundtrip_exact_diagnostic", "final_10docs_sliding_window", "final_train_roundtrip_exact",
        "final_int8_zlib_roundtrip_on_train", "legal_ttt_train", "ttt_sliding:done_early", "quantized_ttt_lora_docs:10",
        "quantized split:train", "final_int8_zlib_roundtrip_exact docs:10", "FINAL_TRAIN", "final_ſliding",
    ],
)  # fmt: skip
def test_a_label_that_goes_on_otherwise_is_no_final_score(label: str) -> None:
    line = f"{label} val_loss:1.00000000 val_bpb:0.50000000\n"
    alone = reported(f"{STEPS}{line}")
    assert (alone.bpb, alone.family) == (None, None)
    assert (
        alone.reason == f"the log holds no final score: line 2 has a figure of {label}, which is no known label of one"
    )
    real = "final_int8_zlib_roundtrip_exact val_loss:2.1 val_bpb:1.3\n"
    beside = reported(f"{real}{line}")
    assert (beside.bpb, beside.reason) == (1.3, "") and f"a figure of {label}" in beside.why


@pytest.mark.parametrize("more", ["(diagnostic)", "holdout", "(pre-quantization)", "on a subset", "split:train"])
def test_what_is_said_behind_a_score_may_take_it_back(more: str) -> None:
    line = f"final_int8_zlib_roundtrip_exact val_loss:1.0 val_bpb:0.5 {more}\n"
    assert reported(f"{STEPS}{line}").bpb is None
    assert reported(f"{STEPS}{line.replace(more, 'train_time:599000ms')}").bpb == 0.5


@pytest.mark.parametrize(
    "label",
    [
        "final_int6_zstd-22_roundtrip_exact", "final_mxfp4_brotli_sliding_window_exact", "final_w4a16_gptq_roundtrip",
        "final_nf4_lzma_roundtrip", "quantized_int6_roundtrip", "final_mixed_int5_int6_brotli_ttt_phased",
        "final_binary_roundtrip", "final_xnor_roundtrip", "final_4bit_ttt_sliding_window_eval_exact",
    ],
)  # fmt: skip
def test_any_way_to_quantise_and_compress_may_be_named(label: str) -> None:
    assert reported(f"{STEPS}{label} val_loss:2.1 val_bpb:1.3\n").label == label


def test_the_order_of_families_not_of_lines() -> None:
    finals = [
        "quantized_ttt_phased val_loss:2 val_bpb:1.01 eval_time:1ms",
        "quantized_ttt_lora val_loss:2 val_bpb:1.02 eval_time:1ms",
        "quantized_ttt val_loss:2 val_bpb:1.03 eval_time:1ms",
        "legal_ttt val_loss:2 val_bpb:1.04",
        "final_int8_ttt_lora val_loss:2 val_bpb:1.05 eval_time:1ms",
        "final_int6_sliding_window val_loss:2 val_bpb:1.06 eval_time:1ms",
        "final_int8_zlib_roundtrip val_loss:2 val_bpb:1.07 eval_time:1ms",
        "final_int6_roundtrip val_loss:2 val_bpb:1.08 eval_time:1ms",
        "quantized val_loss:2 val_bpb:1.09 eval_time:1ms",
        "final_int6_ttt val_loss:2 val_bpb:1.10 eval_time:1ms",
        '"post_ttt_val_bpb": 1.11,',
        "val_bpb: 1.12",
    ]
    shuffle = random.Random(4)
    for first in range(len(finals)):
        left = finals[first:]
        for _ in range(4):
            shuffle.shuffle(left)
            assert reported("\n".join([*left, ""])).bpb == pytest.approx(1.01 + first / 100)


def test_of_one_family_the_most_digits_then_the_last() -> None:
    text = (
        "final_int8_zlib_roundtrip_exact val_loss:2.1 val_bpb:1.30000001\n"
        "final_int8_zlib_roundtrip_exact val_loss:2.1 val_bpb:1.20000001\n"
        "final_int8_zlib_roundtrip val_loss:2.1 val_bpb:1.1999 eval_time:1ms\n"
    )
    assert reported(text).bpb == 1.20000001
    assert reported("val_bpb: 1.4\nval_bpb: 1.3\n").bpb == 1.3


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-inf", "+Infinity", "0.0", "-1.2", "1e999"])
def test_a_score_that_is_no_number(value: str) -> None:
    earlier = "final_int6_roundtrip val_loss:2.1 val_bpb:1.3\nval_bpb: 1.2\n"
    found = reported(f"{earlier}final_int8_zlib_roundtrip_exact val_loss:{value} val_bpb:{value}\n")
    assert found.bpb is None and found.loss is None
    assert "final_int8_zlib_roundtrip_exact" in found.reason
    exact = "final_int8_zlib_roundtrip_exact val_loss:2.1 val_bpb:1.25\n"
    assert reported(f"final_int8_zlib_roundtrip_exact val_loss:{value} val_bpb:{value}\n{exact}").bpb == 1.25


def test_an_autoresearch_trailer() -> None:
    text = "---\nval_bpb:          1.1227\ntraining_seconds: 300.1\nnum_steps:        953\ndepth: 8\n"
    found = reported(text)
    assert (found.bpb, found.loss, found.steps, found.label) == (1.1227, None, 953, "val_bpb")
    sized = reported(f"{text}artifact_bytes:   15555017\nvalid: true\n")
    assert (sized.bpb, sized.artifact_bytes, sized.total_bytes) == (1.1227, 15555017, 15555017)
    refused = reported(f"{text}valid: false\n")
    assert refused.bpb is None and "invalid" in refused.reason


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        (
            "Serialized model int8+zlib: 147600 bytes (payload:1 raw_torch:2 payload_ratio:3x)\n",
            (147600, None, None),
        ),
        (
            "Serialized model: 6722498 bytes\nCode size: 47642 bytes\nTotal submission size: 6770140 bytes\n"
            "Serialized model int8+zlib: 15815847 bytes\nTotal submission size int8+zlib: 15863489 bytes\n",
            (15815847, 47642, 15863489),
        ),
        ("Serialized model int6+lzma-9: 900 bytes\nCode size: 100 bytes\n", (900, 100, 1000)),
        (
            "Code size (uncompressed): 151766 bytes\nCode size (compressed): 31250 bytes\n"
            "Serialized model rdquant+zstd: 900 bytes\nTotal submission size rdquant+zstd: 32150 bytes\n",
            (900, 31250, 32150),
        ),
        (
            "Code size: 10 bytes\nSerialized model int6: 500 bytes\nTotal submission size int6: 510 bytes\n"
            "Serialized model int8+zlib: 700 bytes\nTotal submission size int8+zlib: 710 bytes\n",
            (700, 10, 710),
        ),
        (
            "artifact:15.92MB ternary:64880640(14245920B) fp:2(2B) code:70853\n"
            "budget:15995705/16000000 (16.00/16.00MB) FITS\n",
            (15924852, 70853, 15995705),
        ),
        ("INT7+zlib model: 900 bytes | Total submission: 1000 bytes\n", (900, 100, 1000)),
        ("step:1/2 train_loss:3\n", (None, None, None)),
    ],
)
def test_every_format_of_sizes(text: str, sizes: tuple[int | None, ...]) -> None:
    found = reported(text)
    assert (found.artifact_bytes, found.code_bytes, found.total_bytes) == sizes
    assert found.notes == ()


def test_sizes_that_can_not_be_relied_on_are_noted() -> None:
    wrong = reported("Code size: 10 bytes\nSerialized model int8: 500 bytes\nTotal submission size int8: 400 bytes\n")
    assert wrong.total_bytes == 400 and "are not the total" in wrong.notes[0]
    raw = reported("Serialized model: 990 bytes\nCode size: 10 bytes\nTotal submission size: 1000 bytes\n")
    assert (raw.artifact_bytes, raw.total_bytes) == (None, 1000) and "untagged" in raw.notes[0]
    rounded = reported("INT4+fp8+brotli: 15.42MB model + 0.077MB code = 15.50/16.00MB FITS\n")
    assert (rounded.artifact_bytes, rounded.code_bytes, rounded.total_bytes) == (15420000, 77000, 15500000)
    assert "rounded" in rounded.notes[0]


def test_hostile_text_costs_little_and_says_nothing() -> None:
    traps = [
        "val_loss:" * 400_000,
        "final_" + "a" * 3_000_000 + " val_loss:1 val_bpb:1",
        "a:b " * 800_000 + "val_loss:1 val_bpb:1",
        "\x1b[" * 1_000_000,
        "\x1b[" + "1;" * 1_000_000,
        " " * 4_000_000 + "val_bpb: 1",
        "val_bpb:" + " " * 4_000_000 + "1",
        "Total submission size " + "x" * 4_000_000,
        "seed: " + "9" * 4_000_000,
        "step:" + "9" * 4_000_000 + "/1",
        "\n" * 4_000_000,
        ":\n" * 2_000_000,
        "".join(random.Random(1).choices(string.printable, k=1_000_000)),
        "\x00\ud800\ufffd\u2028val_bpb: 1",
    ]
    for trap in traps:
        began = time.process_time()
        found = reported(trap)
        assert time.process_time() - began < 4, trap[:40]
        assert found.bpb is None and found.total_bytes is None and found.seed is None and found.steps is None


def test_of_a_huge_log_the_head_and_the_tail_are_read() -> None:
    noise = "step:1/2 train_loss:3.0\n" * 200_000
    found = reported(f"seed:7\n{noise}final_int8_zlib_roundtrip_exact val_loss:2.1 val_bpb:1.25\n")
    assert (found.seed, found.bpb, found.steps) == (7, 1.25, 1)


def test_a_label_can_not_carry_anything_to_a_terminal() -> None:
    line = "final_\x1b]0;x\x07roundtrip val_loss:2 val_bpb:1.5"
    assert reported(line).bpb is None
    long = reported("final_" + "x" * LINE_CHARS + " val_loss:2 val_bpb:1.5")
    assert long.label == ""
