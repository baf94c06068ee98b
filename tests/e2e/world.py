"""A small world for campaigns without training: a git repository, a script with knobs, a track, scripted ideas."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from agent import campaign
from agent.options import Options
from agent.planner.edits import make_edits
from agent.runners import Runner
from agent.runners.fake import FakeRunner, Imagine, imagine
from agent.setting import Setting
from benchmarks.endless import decision
from trainer.data.place import Say

SCRIPT = '''"""A script whose score is a function of its knobs."""

KNOBS = {
    "width": 4,
    "rate": 0.10,
    "bits": 8,
    "crash": 0,
}


def main() -> None:
    print(KNOBS)


main()
'''

TRACK = """
name = "toy"
summary = "A script whose score is a function of its knobs."
budget_hours = 2.0
trust = "measured"

[script]
path = "train.py"
editable = ["train.py"]
train = ["{python}", "{script}", "train"]
score = ["{python}", "{script}", "score"]
artifact = "final_model.bin"
pack = false

[limits]
artifact_bytes = 1250
train_wall_s = 20
score_wall_s = 5
memory_mb = 500

[hardware]
kind = "cpu"

[data]
corpus = "none"
"""
KNOBS = """
[[knob]]
name = "width"
at = "KNOBS.width"
group = "shape"
choices = [2, 4, 6, 8, 10, 12]

[[knob]]
name = "rate"
at = "KNOBS.rate"
group = "optimiser"
choices = [0.02, 0.05, 0.10, 0.20, 0.40]

[[knob]]
name = "bits"
at = "KNOBS.bits"
group = "bytes"
choices = [4, 6, 8]
"""
TRACK += decision() + KNOBS

# With a rung that costs a quarter in training, and one that does not say what it costs.
TRIALS = TRACK.replace(
    "[decision]\n",
    """[[rung]]
name = "short"
train_wall_s = 5
env = { FIDELITY = "short" }

[[rung]]
name = "long"
env = { FIDELITY = "long" }

[decision]
""",
)


def git(root: Path, *args: str) -> str:
    command = ["git", "-c", "user.name=Person", "-c", "user.email=person@example.org", *args]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def make_workspace(root: Path, script: str = SCRIPT, track: str = TRACK) -> Path:
    """A person's repository with one commit, an own file, a dirty file and a stash."""
    root.mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    (root / "train.py").write_text(script)
    (root / "agent.toml").write_text(track)
    (root / "notes.txt").write_text("mine\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "Start")
    (root / "notes.txt").write_text("stashed\n")
    git(root, "stash", "-q")
    (root / "notes.txt").write_text("edited, not committed\n")
    return root


def idea(title: str, *changes: tuple[str, str], script: str = SCRIPT, **more: object) -> dict[str, object]:
    """A scripted proposal that replaces text of the script."""
    after = script
    for old, new in changes:
        assert old in after
        after = after.replace(old, new)
    return {
        "title": title,
        "hypothesis": f"{title} helps",
        "kind": "knob",
        "edits": make_edits("train.py", script, after),
        **more,
    }


def write_ideas(root: Path, ideas: list[dict[str, object]]) -> Path:
    path = root / ".ideas.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in ideas))
    return path


def open_campaign(
    root: Path,
    *,
    slots: int = 1,
    seconds: float = 0.0,
    world_of: Imagine = imagine,
    say: Say = lambda text: None,
    make_runner: Callable[[int], Runner] | None = None,
    **options: object,
) -> Setting:
    chosen = {
        "track": "agent.toml",
        "planner": "scripted:.ideas.jsonl",
        "review": "none",
        "seed": 7,
        **options,
    }
    return campaign.start(
        Options(slots=slots, **chosen),  # type: ignore[arg-type]
        root,
        say,
        lambda track, count: make_runner(count) if make_runner else FakeRunner(count, seconds, world_of),
    )


def resume_campaign(root: Path, say: Say = lambda text: None) -> Setting:
    return campaign.resume(None, root, say, lambda track, count: FakeRunner(count, 0.0, imagine))
