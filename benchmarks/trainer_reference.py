"""The trainer's reference figures: BPB over seeds on a tiny track, by the real scoring protocol.

Takes a prepared corpus folder (`python -m trainer.data docs --out DIR`); prints BPB, CPU seconds and sizes of
each seed, then their mean and standard deviation. Settings can be tried out: `--set num_layers=4`.
Run alone: `python -m benchmarks.trainer_reference DIR --seeds 6`.
"""

import argparse
import json
import math
import os
import re
import resource
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from agent import track
from trainer.pack import pack

FRAME = struct.Struct("<IB")
RESET, SCORE, PEEK, ENCODE, DECODE, ERROR = 1, 2, 3, 4, 5, 255
CHUNK = 8192
SCRIPT = Path(__file__).parent.parent / "trainer" / "train_gpt.py"


class Candidate:
    """One process of a candidate that answers over a socket pair, asked as the judge asks."""

    def __init__(self, role: str, script: Path, artifact: Path):
        ours, theirs = socket.socketpair()
        env = {
            "ARTIFACT": str(artifact),
            "SCORE_FD": str(theirs.fileno()),
            "SEED": "0",
            "OMP_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(script), role], env={**plain_env(), **env}, pass_fds=(theirs.fileno(),)
        )
        theirs.close()
        self.channel, self.stream = ours, ours.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stream.close()
        self.channel.close()
        self.process.wait(timeout=60)

    def ask(self, kind: int, payload: bytes) -> bytes:
        self.channel.sendall(FRAME.pack(len(payload), kind) + payload)
        head = self.stream.read(FRAME.size)
        if len(head) != FRAME.size:
            raise RuntimeError("the candidate ended")
        size, answer = FRAME.unpack(head)
        body = self.stream.read(size)
        if answer != kind + 128:
            raise RuntimeError(body.decode(errors="replace"))
        return body

    def reset(self) -> dict[str, int | str]:
        manifest: dict[str, int | str] = json.loads(self.ask(RESET, struct.pack("<Q", 0)))
        return manifest

    def encode(self, text: bytes) -> np.ndarray:
        return np.frombuffer(self.ask(ENCODE, text), dtype="<u4")

    def decode(self, tokens: np.ndarray) -> bytes:
        return self.ask(DECODE, tokens.astype("<u4").tobytes())

    def score(self, tokens: np.ndarray, starts: list[int]) -> np.ndarray:
        numbers = np.concatenate([tokens, np.array(starts, dtype=np.int64)]).astype("<u4").tobytes()
        return np.frombuffer(self.ask(SCORE, struct.pack("<II", len(tokens), len(starts)) + numbers), dtype="<f4")

    def peek(self, items: list[tuple[int, int, np.ndarray]]) -> np.ndarray:
        parts = [struct.pack("<I", len(items))]
        for position, start, context in items:
            parts += [struct.pack("<QQI", position, start, len(context)), context.astype("<u4").tobytes()]
        return np.frombuffer(self.ask(PEEK, b"".join(parts)), dtype="<f4").reshape(len(items), -1)


def plain_env() -> dict[str, str]:
    return {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}


def chunks(docs: list[np.ndarray], size: int = CHUNK) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Tokens and document starts: a chunk ends at the first document end after `size`, or at twice that."""
    parts: list[np.ndarray] = []
    starts: list[int] = []
    have = 0
    for doc in docs:
        begins = True
        while len(doc):
            part, doc = doc[: 2 * size - have], doc[2 * size - have :]
            starts += [have] if begins else []
            parts.append(part)
            have, begins = have + len(part), False
            if have >= 2 * size or (have > size and not len(doc)):
                yield np.concatenate(parts), starts
                parts, starts, have = [], [], 0
    if have:
        yield np.concatenate(parts), starts


class Score(NamedTuple):
    bpb: float
    tokens: int
    wall_s: float
    """Of the scoring process, its start included."""
    cpu_s: float
    encode_s: float


def measure(script: Path, artifact: Path, texts: list[str]) -> Score:
    """Score validation text as the judge does: encode, check that decoding gives the bytes back, score."""
    began = time.perf_counter()
    raw = [text.encode() for text in texts]
    with Candidate("encode", script, artifact) as encoder, Candidate("decode", script, artifact) as decoder:
        docs = [encoder.encode(text) for text in raw]
        if any(decoder.decode(doc) != text for doc, text in zip(docs, raw, strict=True)):
            raise RuntimeError("decoding does not give the text back")
    encoded, nats, before = time.perf_counter(), 0.0, children_cpu()
    with Candidate("score", script, artifact) as scorer:
        scorer.reset()
        for tokens, starts in chunks(docs):
            nats += float(scorer.score(tokens, starts).sum(dtype=np.float64))
    bpb = nats / math.log(2) / sum(map(len, raw))
    wall = time.perf_counter() - encoded
    return Score(bpb, sum(map(len, docs)), wall, children_cpu() - before, encoded - began)


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Trained(NamedTuple):
    artifact: Path
    log: str
    wall_s: float
    cpu_s: float

    def reported(self, pattern: str) -> str:
        found = re.findall(pattern, self.log)
        return str(found[-1]) if found else "?"


def train(script: Path, folder: Path, env: Mapping[str, str]) -> Trained:
    """Run `train` in a folder of its own, on one thread."""
    folder.mkdir(parents=True, exist_ok=True)
    began, before = time.perf_counter(), children_cpu()
    fixed = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, str(script), "train"],
        cwd=folder,
        env={**plain_env(), **fixed, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    (folder / "train.log").write_text(done.stdout)
    if done.returncode:
        raise RuntimeError(f"training failed:\n{done.stdout[-3000:]}")
    return Trained(folder / "final_model.bin", done.stdout, time.perf_counter() - began, children_cpu() - before)


def track_env(name: str, rung: str) -> dict[str, str]:
    """The environment that a run of this rung gets."""
    found, _ = track.load(name, Path.cwd())
    env = dict(found.script.env)
    if found.compute:
        env["COMPUTE_BUDGET_MS"] = str(found.compute.budget_ms)
        env["COST_MODEL"] = json.dumps(found.compute.cost)
    return env | next(dict(r.env) for r in found.rung if r.name == rung)


def read_docs(corpus: Path, part: str) -> list[str]:
    lines = (corpus / part / "docs.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--track", default="tiny")
    parser.add_argument("--rung", default="decide")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the script")
    parser.add_argument("--out", type=Path, default=Path(".caddie/reference"), help="where artifacts and logs go")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    packed = options.out / "train_gpt.py"
    packed.write_bytes(pack(SCRIPT.read_text("utf-8")))
    env = track_env(options.track, options.rung) | {"DATA_PATH": str((options.corpus / "train").resolve())}
    env |= {key.upper(): value for key, value in (item.split("=", 1) for item in options.set)}
    texts = read_docs(options.corpus, "val")
    figures = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        run = train(packed.resolve(), options.out / f"seed{seed}", env | {"SEED": str(seed)})
        score = measure(packed.resolve(), run.artifact, texts)
        figures.append(score.bpb)
        size = run.artifact.stat().st_size
        print(
            f"seed {seed}: bpb {score.bpb:.5f} holdout {run.reported('holdout .*val_bpb:([0-9.]+)')} "
            f"steps {run.reported('step:([0-9]+)/')} train {run.cpu_s:.1f} CPU-s {run.wall_s:.1f} s, "
            f"score {score.cpu_s:.1f} CPU-s {score.wall_s:.1f} s, codec {score.encode_s:.1f} s, "
            f"artifact {size} + code {packed.stat().st_size} = {size + packed.stat().st_size} bytes",
            flush=True,
        )
    spread = statistics.stdev(figures) if len(figures) > 1 else float("nan")
    print(f"mean {statistics.mean(figures):.5f} sd {spread:.5f} n {len(figures)}")


if __name__ == "__main__":
    main()
