"""The trainer's settings, its compute budget and its knobs."""

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from agent import track as tracks
from benchmarks import trainer_reference as reference
from tests.training import config
from trainer import train_gpt as t


def test_both_presets_have_the_same_settings_and_the_contests_defaults() -> None:
    assert list(t.TINY) == list(t.GOLF)
    assert all(type(t.TINY[key]) is type(t.GOLF[key]) for key in t.TINY)
    official = {
        "iterations": 20000,
        "warmdown_iters": 1200,
        "warmup_steps": 20,
        "train_batch_tokens": 524288,
        "train_seq_len": 1024,
        "max_wallclock_seconds": 600.0,
        "qk_gain_init": 1.5,
        "num_layers": 9,
        "num_kv_heads": 4,
        "model_dim": 512,
        "num_heads": 8,
        "mlp_mult": 2,
        "tied_embed_lr": 0.05,
        "tied_embed_init_std": 0.005,
        "matrix_lr": 0.04,
        "scalar_lr": 0.04,
        "muon_momentum": 0.95,
        "muon_momentum_warmup_start": 0.85,
        "muon_momentum_warmup_steps": 500,
        "val_batch_size": 524288,
        "val_loss_every": 1000,
        "seed": 1337,
    }
    assert {key: t.GOLF[key] for key in official} == official
    with torch.device("meta"):
        params = sum(p.numel() for p in t.GPT(t.settings({})).parameters())
    assert params == 17059912  # what the official script prints


def test_the_environment_overrides_the_preset() -> None:
    c = t.settings({"PRESET": "tiny", "MODEL_DIM": "96", "MATRIX_LR": "0.5"})
    assert (c.model_dim, c.matrix_lr, c.num_layers) == (96, 0.5, t.TINY["num_layers"])


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"PRESET": "huge"}, "tiny, golf"),
        ({"PRESET": "tiny", "MODEL_DIM": "wide"}, "MODEL_DIM='wide' is no int"),
        ({"PRESET": "tiny", "MODEL_DIM": "66"}, "multiple of num_heads"),
        ({"PRESET": "tiny", "NUM_KV_HEADS": "3"}, "multiple of num_kv_heads"),
        ({"PRESET": "tiny", "ACTIVATION": "tanh"}, "relu2"),
        ({"PRESET": "tiny", "WEIGHT_BITS": "9"}, "weight_bits"),
        ({"PRESET": "tiny", "COMPRESSOR": "zstandard"}, "compressor='zstandard': must be in ('zlib', 'zstd'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_in_words(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(words)):
        t.settings(environ)


def test_what_travels_in_an_artifact_is_a_number_of_its_kind() -> None:
    c = config()
    for key, bad in (("tie_embeddings", True), ("num_layers", 2.0), ("rope_base", "9"), ("logit_softcap", math.nan)):
        with pytest.raises(SystemExit, match=key):
            t.check(SimpleNamespace(**{**vars(c), key: bad}))
    t.check(SimpleNamespace(**{**vars(c), "rope_base": 10000}))


def test_the_budget_pays_for_whole_steps() -> None:
    c = t.settings({"PRESET": "tiny"})
    cost = {"step": 2.0, "softmax": 1.0}
    each = 2.0 + 1e-6 * c.train_batch_tokens * c.vocab_size
    assert t.step_cost_ms(c, cost) == pytest.approx(each)
    environ = {"COST_MODEL": json.dumps(cost)}
    assert t.budgeted_steps(c, {}) == c.iterations
    assert t.budgeted_steps(c, environ | {"COMPUTE_BUDGET_MS": str(300 * each)}) == 300
    assert t.budgeted_steps(c, environ | {"COMPUTE_BUDGET_MS": str(300 * each - 0.01)}) == 299
    with pytest.raises(SystemExit, match="does not pay for one step"):
        t.budgeted_steps(c, environ | {"COMPUTE_BUDGET_MS": "1"})
    with pytest.raises(SystemExit, match="nonsense"):
        t.step_cost_ms(c, {"nonsense": 1.0})


@pytest.mark.parametrize("name", ["tiny", "synth", "golf-1xh100", "golf-8xh100"])
def test_every_knob_of_a_track_names_a_literal_of_its_preset(name: str) -> None:
    track, _ = tracks.load(name, Path.cwd())
    preset = {"TINY": t.TINY, "GOLF": t.GOLF}
    for knob in track.knob:
        where, key = knob.at.split(".")
        assert preset[where][key] in knob.choices, knob.name
        assert {type(choice) for choice in knob.choices} == {type(preset[where][key])}, knob.name
        for choice in knob.choices:
            t.check(SimpleNamespace(**{**preset[where], key: choice}))


def test_the_tiny_tracks_budget_is_300_steps_of_the_baseline() -> None:
    for name in ("tiny", "synth"):
        decide, long = (reference.track_env(name, rung) for rung in ("decide", "long"))
        c = t.settings(decide)
        assert t.budgeted_steps(c, decide) == 300
        assert t.budgeted_steps(c, long) == 1200
        assert set(json.loads(decide["COST_MODEL"])) == set(t.step_features(c))


def test_learning_rates_fall_to_zero_at_whichever_limit_comes_first() -> None:
    c = config(warmdown_frac=0.5)
    assert [t.warmdown(c, step, 100, 0) for step in (0, 49, 50, 75, 100)] == [1, 1, 1, 0.5, 0]
    clock = config(warmdown_iters=100, max_wallclock_seconds=10.0)
    assert t.warmdown(clock, 50, 10000, 5.0) == pytest.approx(0.5)  # 50 steps are left, by the clock
    assert t.warmdown(clock, 50, 60, 1.0) == pytest.approx(0.1)  # 10 steps are left, by count
