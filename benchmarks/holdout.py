"""How far honest changes of the tiny track's script gain otherwise on hidden documents than on those that are scored.

    python -m trainer.data docs --out CORPUS && python -m benchmarks.holdout CORPUS --iterations 100

Takes a prepared corpus with hidden documents; trains the base and one change after the other with a seed each, and
prints for each what it saves of the base's nats on both sides, and by how many standard deviations they differ. What
smuggles the text in is the last row: the base, whose nats on every tenth scored document are a tenth.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from agent.judge.hidden import Gap, share
from benchmarks.trainer_reference import SCRIPT, plain_env, track_env
from trainer.data import manifest

CHANGES: tuple[dict[str, str], ...] = (
    {"SEED": "2"},
    {"EVAL_STRIDE": "64"},
    {"TRAIN_SEQ_LEN": "128"},
    {"VOCAB_SIZE": "2048"},
    {"NUM_LAYERS": "2"},
    {"MATRIX_LR": "0.04"},
)
EVALUATE = """
import json, sys
import numpy as np
from pathlib import Path
sys.argv = ["train_gpt.py", "score"]
sys.path.insert(0, {folder!r})
import train_gpt as t
model, tokenizer, c = t.from_artifact(Path("final_model.bin").read_bytes())
scorer, found = t.Scorer(model, c), []
for path in {paths!r}:
    scorer.reset()
    for line in Path(path).read_text("utf-8").splitlines():
        tokens = np.array(tokenizer.encode(json.loads(line)["text"].encode()), dtype=np.int64)
        found.append(float(scorer.score(tokens, [0]).sum(dtype=np.float64)))
print(json.dumps(found))
"""


def nats(corpus: Path, changes: dict[str, str], iterations: int) -> np.ndarray:
    """Of every document: those that are scored, then the hidden ones."""
    env = track_env("tiny", "decide") | {"DATA_PATH": str(corpus / "train"), "SEED": "1"} | changes
    env |= {"ITERATIONS": str(iterations), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    env.pop("COMPUTE_BUDGET_MS", None)
    paths = [str(corpus / "val" / name) for name in ("docs.jsonl", "hidden.jsonl")]
    evaluate = EVALUATE.format(folder=str(SCRIPT.parent), paths=paths)
    with TemporaryDirectory(prefix="caddie-holdout-") as folder:
        for command in ([sys.executable, str(SCRIPT), "train"], [sys.executable, "-c", evaluate]):
            done = subprocess.run(
                command, cwd=folder, env={**plain_env(), **env}, capture_output=True, text=True, check=True
            )
    return np.array(json.loads(done.stdout))


def row(name: str, run: np.ndarray, base: np.ndarray, scored: int) -> str:
    gap = Gap(share(run[:scored], base[:scored]), share(run[scored:], base[scored:]))
    shares = " ".join(f"{100 * one.value:7.2f} % +- {100 * one.error:.2f}" for one in gap)
    return f"{name:24} {shares} {gap.sigmas():6.2f}"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="What honest changes gain on hidden documents")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--iterations", type=int, default=300)
    chosen = parser.parse_args(argv)
    corpus = chosen.corpus.resolve()
    told = manifest.load(corpus)
    if told.hidden is None:
        parser.error(f"{corpus} has no hidden documents: make it anew with --remake")
    scored, base = told.val.docs or 0, nats(corpus, {}, chosen.iterations)
    print(
        f"{scored} documents, {told.hidden.docs} hidden\n{'change':24} saved there          saved on hidden     sigmas"
    )
    for changes in CHANGES:
        name = ", ".join(f"{key}={value}" for key, value in changes.items())
        print(row(name, nats(corpus, changes, chosen.iterations), base, scored), flush=True)
    smuggled = base.copy()
    smuggled[:scored:10] *= 0.1
    print(row("a tenth of it smuggled in", smuggled, base, scored))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
