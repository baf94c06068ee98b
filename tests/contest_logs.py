"""Logs for tests: the contest's own where they are kept beside this repository, and small ones of each family."""

import json
from pathlib import Path

VECTORS = Path(__file__).resolve().parents[2] / "shared" / "judge_logs"

HEAD = """\
val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path=./data/tokenizers/fineweb_1024_bpe.model
train_loader:dataset:fineweb10B_sp1024 train_shards:80
val_loader:shards pattern=./data/datasets/fineweb10B_sp1024/fineweb_val_*.bin tokens:62021632
model_params:17059912
seed:{seed}
warmup_step:1/20
warmup_step:20/20
step:0/20000 val_loss:6.9357 val_bpb:4.1077 train_time:0ms step_avg:0.01ms
step:1000/20000 val_loss:2.3339 val_bpb:1.3823 train_time:43898ms step_avg:43.90ms
step:13450/20000 val_loss:2.0592 val_bpb:1.2196 train_time:600028ms step_avg:44.61ms
stopping_early: wallclock_cap train_time:600028ms step:13450/20000
peak memory allocated: 10119 MiB reserved: 10294 MiB
Serialized model int8+zlib: 15816489 bytes (payload:17178912 raw_torch:17224025 payload_ratio:3.91x)
Code size: 58340 bytes
Total submission size int8+zlib: 15874829 bytes
"""
LOSS = "final_int8_zlib_roundtrip val_loss:2.0727 val_bpb:1.2276 eval_time:1401ms\n"
EXACT = "final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:1.22756946\n"
SLIDING = "final_int6_sliding_window_exact val_loss:2.01348383 val_bpb:1.19250007 stride:64 eval_time:69881ms\n"
TTT = "quantized_ttt_phased val_loss:2.00348383 val_bpb:1.18657740 eval_time:416500ms\ntotal_eval_time:416.5s\n"
TRAILER = (
    "---\nval_bpb:          1.12278022\ntraining_seconds: 300.1\npeak_vram_mb:     45060.2\nnum_steps:        953\n"
)


def log(seed: int = 1337, finals: str = LOSS + EXACT) -> str:
    """One run of the baseline's script."""
    return HEAD.format(seed=seed) + finals


def all_logs() -> list[str]:
    """Every family: the contest's where they are, else ours alone."""
    ours = [log(), log(7, LOSS + SLIDING), log(42, SLIDING + LOSS + EXACT + TTT), TRAILER, log() + log(42)]
    if not VECTORS.is_dir():
        return ours
    names = [one["log"] for one in json.loads((VECTORS / "expected.json").read_text())]
    return [*ours, *((VECTORS / name).read_text("utf-8", errors="replace") for name in names)]
