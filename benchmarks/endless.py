"""A small campaign without end for the benchmarks of the loop: a workspace, a script and a planner.

Takes a folder; gives `make_workspace`, the rule by which toy campaigns decide (`decision`), and `Endless`, a planner
whose n-th idea is like no other: most change nothing that matters, every `good`-th is a real gain, so that the head
moves and the lineage grows.
"""

import re
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from agent.planner import Request
from agent.planner.edits import make_edits
from agent.records import Draft, Mode

SCRIPT = '''"""A script whose score is a function of its knobs."""

import os
import sys
import time

KNOBS = {
    "level": 0,
    "first": 0,
    # What changes one of them leaves the lines around the others alone, so that ideas can be put on a new head.
    "between": 0,
    "and": 0,
    "second": 0,
}


def work(seconds: float, share: float) -> None:
    """Takes this long, with its core busy for a share of it."""
    until = time.monotonic() + seconds
    while (now := time.monotonic()) < until:
        while time.monotonic() < now + 0.1 * share:
            sum(range(10_000))
        time.sleep(0.1 * (1 - share))


def main() -> None:
    work(float(os.environ.get("WORK_S", "0")), float(os.environ.get("WORK_SHARE", "1")))
    noise = (int(os.environ["SEED"]) * 2_654_435_761 + KNOBS["first"] * 40_503) % 1000 / 1e6
    bpb = 2.0 - 0.01 * KNOBS["level"] + noise
    print("step:10/10 train_loss:1.0 train_time:1ms step_avg:0.1ms")
    print(f"final_int8_zlib_roundtrip_exact val_loss:{bpb:.8f} val_bpb:{bpb:.8f}")
    print("Serialized model int8+zlib: 1000 bytes")
    print("Total submission size int8+zlib: 2000 bytes")


if __name__ == "__main__":
    sys.exit(main())
'''


TRACK = """
name = "toy"
summary = "A script whose score is a function of its knobs."
trust = "{trust}"

[script]
path = "train.py"
editable = ["train.py"]
train = ["{{python}}", "{{script}}", "train"]
{script}

[limits]
train_wall_s = 90
score_wall_s = 40
memory_mb = 500

[hardware]
kind = "cpu"

[data]
corpus = "none"
"""
JUDGED = 'score = ["{python}", "{script}", "score"]\nartifact = "final_model.bin"\npack = false'


def decision(*, min_gain: float = 0.01, max_seeds: int = 4, report_seeds: int = 3, prior_sigma: float = 0.01) -> str:
    """The end of a toy's track file: its rung, and how it decides."""
    return f"""
[[rung]]
name = "decide"

[decision]
rung = "decide"
alpha = 0.004
min_gain = {min_gain}
max_seeds = {max_seeds}
report_seeds = {report_seeds}
prior_sigma = {prior_sigma}
"""


def judged_track() -> str:
    """For runs that are imagined, judge and all."""
    return _track("measured", JUDGED)


def working_track(seconds: float, busy: float) -> str:
    """For runs that take so long and say their score; `busy`: the share of the time that their core works."""
    return _track("reported", f'env = {{ WORK_S = "{seconds}", WORK_SHARE = "{busy}" }}')


def _track(trust: str, script: str) -> str:
    return TRACK.format(trust=trust, script=script) + decision(min_gain=0.005, prior_sigma=0.0005)


def git(root: Path, *args: str) -> None:
    command = ["git", "-c", "user.name=Person", "-c", "user.email=person@example.org", *args]
    subprocess.run(command, cwd=root, check=True, capture_output=True)


def make_workspace(root: Path, track: str, *, long: bool = False) -> Path:
    """`long`: the script is as long as the tiny track's, whose text stands before it and is not run."""
    root.mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    (root / "train.py").write_text(_long() + "\n\n" + SCRIPT if long else SCRIPT)
    (root / "agent.toml").write_text(track)
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "Start")
    return root


def _long() -> str:
    text = (Path(__file__).parent.parent / "trainer" / "train_gpt.py").read_text("utf-8")
    return text.partition("\nif __name__ ==")[0]


@dataclass
class Endless:
    """Ideas by number. `think_s`: how long each call takes."""

    most: int | None = None
    think_s: float = 0.0
    parallel: int = 1
    good: int = 50
    """One idea in so many is a gain."""
    name: str = "endless"
    modes: frozenset[Mode] = frozenset({"exploit"})
    made: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def propose(self, request: Request) -> Draft | None:
        with self.lock:
            self.made += 1
            number = self.made
        if self.most is not None and number > self.most:
            return None
        time.sleep(self.think_s)
        before = request.head_files["train.py"]
        gain = number % self.good == 0
        after = _raised(before, "level", 1) if gain else _set(before, "second", number)
        after = _set(after, "first", number) if gain else after
        return Draft(
            title=f"Idea {number}",
            hypothesis="A level more" if gain else "Another number",
            edits=make_edits("train.py", before, after),
            planner=self.name,
            mode=request.mode,
            kind="knob",
            source_id=request.head.id,
        )


def _set(text: str, knob: str, value: int) -> str:
    return re.sub(rf'"{knob}": \d+', f'"{knob}": {value}', text)


def _raised(text: str, knob: str, by: int) -> str:
    found = re.search(rf'"{knob}": (\d+)', text)
    assert found is not None
    return _set(text, knob, int(found[1]) + by)
