"""Records real trainings of the tiny track as a table, from which whole campaigns can be rehearsed in seconds.

    python -m benchmarks.training_table .caddie/data/docs             # records what is missing; can be stopped

The knobs that matter most are crossed in full (`GRID`), with the bits and the compressor tried on each of those
models; every other value of every knob is trained once for each seed with all else as in the base; two configurations
are trained with many seeds, for how much seeds differ and how much of that two configurations share. Takes a prepared
corpus; appends one JSON line per training to `benchmarks/training_table.jsonl`: what differed from the base, seed,
BPB on the validation documents, artifact bytes, CPU-seconds. Lines of another corpus or script are refused.
"""

import argparse
import hashlib
import itertools
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agent.script import literals
from agent.script.literals import KnobValue
from agent.track import load
from benchmarks.trainer_reference import SCRIPT, plain_env, read_docs, track_env
from trainer.data import manifest

PATH = Path(__file__).with_suffix(".jsonl")
GRID: dict[str, tuple[KnobValue, ...]] = {
    "vocab_size": (1024, 1536, 2048),
    "num_layers": (3, 2),
    "train_batch_tokens": (2048, 1024),
}
BYTES = ("weight_bits", "embed_bits", "compressor")
COMPRESSORS = ("zlib", "zstd", "lzma", "brotli")
BITS = ((8, 8), (6, 8), (5, 8), (4, 8), (8, 6), (8, 5), (8, 4))
"""Of the weights and of the embedding: what each does alone."""
SEEDS = (1, 2)
REPEATED: tuple[dict[str, KnobValue], ...] = ({}, {"vocab_size": 2048, "num_layers": 2, "train_batch_tokens": 1024})
MANY_SEEDS = range(1, 11)

Changes = dict[str, KnobValue]


def wanted() -> Iterator[tuple[Changes, int]]:
    """All trainings: the grid, then one change at a time; each with the first seed, then with the next; repeats."""
    track, _ = load("tiny", Path.cwd())
    base = literals.read(track, {track.script.path: SCRIPT.read_text("utf-8")})
    cells = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    configs = [{name: value for name, value in cell.items() if value != base[name]} for cell in cells]
    for knob in track.knob:
        if knob.name not in BYTES:
            configs += [{knob.name: value} for value in knob.choices if value not in GRID.get(knob.name, ())]
    plan = [changes for changes in configs if not changes or any(base[k] != v for k, v in changes.items())]
    yield from ((changes, seed) for seed in SEEDS for changes in plan)
    yield from ((changes, seed) for seed in MANY_SEEDS if seed not in SEEDS for changes in REPEATED)


def key(changes: Changes, seed: int) -> str:
    return json.dumps([sorted(changes.items()), seed])


def train(corpus: Path, changes: Changes, seed: int) -> dict[str, Any]:
    """In a process of its own, as the script imported must not meet another's."""
    env = track_env("tiny", "decide") | {"DATA_PATH": str((corpus / "train").resolve()), "SEED": str(seed)}
    env |= {name.upper(): str(value) for name, value in changes.items()}
    fixed = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(Path.cwd())}
    crossed = set(changes) <= set(GRID) and seed == SEEDS[0]
    command = [sys.executable, "-m", "benchmarks.training_table", str(corpus.resolve()), "--inside"]
    with TemporaryDirectory(prefix="caddie-table-") as folder:
        done = subprocess.run(
            [*command, "--crossed"] if crossed else command,
            cwd=folder,
            env={**plain_env(), **fixed, **env},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise RuntimeError(f"{changes}: {done.stderr[-2000:]}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"changes": changes, "seed": seed, **row}


def inside(corpus: Path, *, crossed: bool) -> dict[str, Any]:
    """Trains as the environment says; scores the artifact, and with `crossed` also the same weights in fewer bits."""
    sys.argv = ["train_gpt.py", "train"]  # the script reads its role when it is imported
    from trainer import train_gpt as script

    kept: list[Any] = []
    pack = script.to_artifact

    def keep(weights: Any, tokenizer: Any, c: Any) -> bytes:
        kept[:] = weights, tokenizer, c
        artifact: bytes = pack(weights, tokenizer, c)
        return artifact

    script.to_artifact = keep
    script.main(dict(os.environ))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = used.ru_utime + used.ru_stime
    weights, tokenizer, c = kept
    texts, bpb, sizes = read_docs(corpus, "val"), {}, {}
    for bits in BITS if crossed else BITS[:1]:
        c.weight_bits, c.embed_bits = bits
        for compressor in COMPRESSORS if crossed else ("zlib",):
            c.compressor = compressor
            artifact = pack(weights, tokenizer, c)
            sizes[f"{bits[0]}.{bits[1]}.{compressor}"] = len(artifact)
        model, words, shape = script.from_artifact(artifact)
        bpb[f"{bits[0]}.{bits[1]}"] = script.evaluate_docs(script.Scorer(model, shape), words, texts)[1]
    return {"bpb": bpb, "bytes": sizes, "train_cpu_s": round(seconds, 2)}


def sources(corpus: Path) -> dict[str, str]:
    """What every line of one table must have in common."""
    data_sha = manifest.load(corpus, verify=False).data_sha
    return {"data": data_sha[:16], "script": hashlib.sha256(SCRIPT.read_bytes()).hexdigest()[:16]}


def rows(path: Path = PATH) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def record(corpus: Path, path: Path, workers: int) -> None:
    made_of, have = sources(corpus), rows(path)
    other = next((row for row in have if any(row[name] != sha for name, sha in made_of.items())), None)
    if other is not None:
        raise SystemExit(f"{path} was recorded with data {other['data']} and script {other['script']}, here are "
                         f"{made_of['data']} and {made_of['script']}; move it away to record another")  # fmt: skip
    known = {key(row["changes"], row["seed"]) for row in have}
    missing = [(changes, seed) for changes, seed in wanted() if key(changes, seed) not in known]
    print(f"{len(known)} trainings are recorded, {len(missing)} are missing", flush=True)
    with ThreadPoolExecutor(workers) as pool, path.open("a", encoding="utf-8") as out:
        for row in pool.map(lambda one: train(corpus, *one), missing):
            out.write(json.dumps({**row, **made_of}) + "\n")
            out.flush()
            print(f"{row['changes']} seed {row['seed']}: {row['bpb']['8.8']:.5f}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, default=PATH)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--crossed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.inside:
        print("\n" + json.dumps(inside(options.corpus, crossed=options.crossed)))
    else:
        record(options.corpus, options.out, options.workers)


if __name__ == "__main__":
    main()
