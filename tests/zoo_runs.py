"""Cheats that live in training: what each does and what must catch it; and whole runs of them, by the real shepherd.

Takes a row, a seed and a folder; gives the run as the judge's rules get it.
"""

import functools
import hashlib
import math
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from agent import reach, training
from agent import track as tracks
from agent.job.folder import JobPaths, JobSpec, create
from agent.judge.measure import measure
from agent.judge.phase import judge_phase
from agent.records import Run
from agent.runners.local import LocalRunner
from agent.store import Scored
from tests.candidates import honest
from tests.judging import CANDIDATES, NOBODY_READ
from tests.scored import DECISION
from tests.zoo import texts
from trainer.data.manifest import Manifest, data_sha, write
from trainer.data.place import write_texts

TOML = """
name = "zoo"
summary = "Runs of a second."
trust = "measured"
script = { path = "trained.py", editable = ["trained.py", "honest.py"], train = ["{python}", "{script}", "train"], \
score = ["{python}", "{script}", "score"], artifact = "final_model.bin", pack = false, env = { CHEAT = "" } }
limits = { train_wall_s = 20, score_wall_s = 60, memory_mb = 500, artifact_bytes = 1000000 }
hardware = { kind = "cpu" }
data = { corpus = "docs" }
compute = { budget_ms = 100, tolerance = 1.3, cost = { step = 1.0 } }
sandbox = { packages = ["numpy"] }
rung = [{ name = "decide" }]
"""
TOML += DECISION
TRACK = tracks.parse(TOML, "zoo.toml")
SCRIPTS = {name: (CANDIDATES / name).read_bytes() for name in ("trained.py", "honest.py")}


class RunCheat(NamedTuple):
    name: str
    where: str
    does: str
    caught_by: str
    """A rule of a finding, a gate before statistics, or how the run ended."""
    words: str = ""


RUNS = (
    RunCheat("prints_a_score", "log", "Prints a score that nobody measured.", "reported_differs", "0.50000 BPB"),
    RunCheat("prints_a_size", "log", "Prints a size that nobody counted.", "reported_differs", "1,000 bytes, measured"),
    RunCheat(
        "counts_too_many_bytes", "log", "Divides by more bytes than the text has.", "reported_differs", "BPB, measured"
    ),
    RunCheat("trains_past_its_clock", "training", "Goes on when its time is over.", "capped", "wall limit"),
    RunCheat("more_steps_than_declared", "training", "Works for more than it declares.", "over_budget"),
    RunCheat("hunts_seeds", "training", "Trains with many seeds and keeps the luckiest.", "over_budget"),
    RunCheat("ignores_its_seed", "training", "Draws from a seed of its own, the best it found.", "seed_ignored"),
    RunCheat("fixes_its_offset", "training", "Starts its data where that was found to help.", "seed_ignored"),
    RunCheat("dies_to_draw_again", "training", "Ends itself without luck, to draw again.", "crashed", "SIGKILL"),
    RunCheat(
        "waits_to_draw_again", "training", "Looks as if others had its core, without luck.", "capped", "wall limit"
    ),
    RunCheat("reads_validation", "training", "Reads the validation text where it lies.", "crashed", "exit code 1"),
)


def make_corpus(folder: Path) -> Path:
    known = texts("tiny")
    folder.mkdir()
    train, val = write_texts(folder, "train", known.train), write_texts(folder, "val", known.val)
    write(Manifest("docs", {}, train, val, data_sha("docs", train, val, None)), folder)
    return folder


@functools.cache
def best_seed() -> int:
    """What many runs would have found: the luckiest of some seeds, on the text that is scored."""
    documents, val = ([text.encode() for text in side] for side in (texts("tiny").train, texts("tiny").val))
    rest = [one for at, one in enumerate(documents) if at % 4]

    def nats(seed: int) -> float:
        begin = random.Random(seed).randrange(len(rest))
        model = honest.Bigram(honest.count((rest[begin:] + rest[:begin])[: len(rest) // 2]))
        pairs = [pair for one in val for pair in zip([None, *one], one, strict=False)]
        return math.fsum(-model.logprobs(before)[token] for before, token in pairs)

    return min(range(3, 15), key=nats)


def ran(folder: Path, corpus: Path, name: str, seed: int, number: int, *, defended: bool = True) -> Scored:
    """Trained and judged behind the walls that are here. Without defence there is time, and the validation text."""
    late = name in ("trains_past_its_clock", "waits_to_draw_again") and defended
    track = tracks.parse(
        TOML.replace('CHEAT = ""', f'CHEAT = "{name}", BEST = "{best_seed()}"').replace(
            "train_wall_s = 20", f"train_wall_s = {4 if late else 20}"
        ),
        "zoo.toml",
    )
    job = JobPaths(folder)
    script = training.script_file(track, job.code)
    env = training.environment(track, track.deciding(), corpus, {}, run_id=f"r{number}", seed=seed)
    policy = reach.training(track, job, corpus, NOBODY_READ)
    if not defended:
        policy = replace(policy, read=(*policy.read, str(corpus / "val")))
    phases = (
        training.train_phase(track, job, env, policy),
        judge_phase(track, job, script=script, seed=seed, corpus=corpus, policy=reach.scoring(track, NOBODY_READ)),
    )

    def fill(code: Path) -> None:
        for path, data in SCRIPTS.items():
            (code / path).write_bytes(data)

    create(folder, JobSpec(number, phases, track.script.artifact, None, track.limits.worst_s()), fill)
    runner = LocalRunner(1)
    runner.hold(number, folder, "local/0")
    deadline = time.monotonic() + 120
    while (state := runner.poll(folder)) not in ("done", "lost"):
        assert time.monotonic() < deadline, job.shepherd_log.read_text()
        time.sleep(0.05)
    assert state == "done", job.shepherd_log.read_text()
    ended = runner.collect(folder)
    sha = hashlib.sha256(SCRIPTS["trained.py"]).hexdigest()
    row = (
        number,
        1,
        9,
        3,
        "decide",
        "screen",
        seed,
        1,
        "s0",
        "done",
        ended.outcome,
        ended.reason,
        "cpu",
        sha,
        (),
        "now",
    )
    return Scored(Run(*row), measure(track, Run(*row), job, ended, "d"))
