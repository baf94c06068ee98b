"""A job folder for the judge without a runner: documents, code, an artifact; and the session in a process."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from agent import reach
from agent import track as tracks
from agent.job.folder import JobPaths
from agent.judge.measure import MARKS
from agent.judge.phase import SESSION, SESSION_ENV, session_command
from agent.judge.task import Measured, Task
from agent.judge.texts import Documents
from agent.reach import Reach
from agent.records import Finding, Measurement
from agent.track import Track
from tests.candidates import honest
from trainer.data.manifest import File, Part, data_sha
from trainer.data.manifest import Manifest as CorpusManifest
from trainer.data.manifest import write as write_manifest

CANDIDATES = Path(honest.__file__).parent
# Where there are walls, tests are behind them; where there are none, they test the rest all the same.
NOBODY_READ = Reach("base")
TEXTS = [
    "The judge reads every document once. ",
    "é and 日本 are more than one byte each; so is \u2028.",
    *(f"Story {n}: the cat saw the dog, and the dog saw {n} more cats than it liked to see. " * 5 for n in range(20)),
    "x",
]


def of_the_run(found: Measurement) -> list[Finding]:
    """But for what only the machine of a test is to blame for."""
    return [one for one in found.findings if one.rule != MARKS]


def make_job(folder: Path, *, texts: list[str] = TEXTS, script: str = "hostile.py", **artifact: object) -> Task:
    """Everything that a job has after training. What is given by name goes into the artifact."""
    paths = JobPaths(folder)
    paths.code.mkdir(parents=True)
    paths.out.mkdir()
    for path in CANDIDATES.glob("*.py"):
        (paths.code / path.name).write_bytes(path.read_bytes())
    documents = write_documents(folder / "docs.jsonl", texts)
    counts = honest.count([text.encode() for text in texts[::2]])
    (paths.out / "final_model.bin").write_text(json.dumps({"counts": counts, **artifact}))
    return Task(
        command=(sys.executable, "{script}", "{role}"),
        script=str(paths.code / script),
        code=(str(paths.code / script),),
        alone=False,
        artifact=str(paths.out / "final_model.bin"),
        env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        policy=reach.scoring(toy(""), NOBODY_READ),
        seed=3,
        documents=documents,
        wall_s=30,
        memory_mb=500,
        disk_mb=8,
        log_mb=1,
        processes=8,
        folder=str(folder),
        chunk_tokens=1000,
    )


def write_documents(path: Path, texts: list[str], floor_bits: float | None = None) -> Documents:
    raw = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    path.write_bytes(raw)
    size = sum(len(text.encode()) for text in texts)
    return Documents(str(path), hashlib.sha256(raw).hexdigest(), len(texts), size, floor_bits)


# A session that keeps what candidates print while they are scored, for tests of what these see.
HEARD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from agent.judge import candidate; "
    f"candidate.TOLD_OF_A_SCORE = 10_000; {SESSION}"
)


def run_session(task: Task, *, heard: bool = False, **changes: object) -> Measured:
    """The session as the shepherd starts it. It leaves an answer and nothing else."""
    task = replace(task, **changes)  # type: ignore[arg-type]
    ended = subprocess.run(
        [HEARD if heard and word == SESSION else word for word in session_command(task)],
        cwd=task.folder,
        env=SESSION_ENV,
        capture_output=True,
        text=True,
        timeout=task.wall_s + 30,
        check=False,
    )
    path = JobPaths(Path(task.folder)).measure
    assert path.exists(), ended.stdout + ended.stderr
    found = Measured.from_json(path.read_text())
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not [entry.name for entry in Path(task.folder).iterdir() if entry.name.startswith(".")]
    return found


def make_corpus(folder: Path, *, train: str = "one", val: str = "two é") -> None:
    parts = {}
    for name, text in (("train", train), ("val", val)):
        raw = (json.dumps({"text": text}) + "\n").encode()
        path = folder / name / "docs.jsonl"
        path.parent.mkdir(parents=True)
        path.write_bytes(raw)
        sha = hashlib.sha256(raw).hexdigest()
        file = File(f"{name}/docs.jsonl", len(raw), sha)
        parts[name] = Part((file,), 1, len(text.encode()), sha)
    named = data_sha("docs", parts["train"], parts["val"], 12.5)
    write_manifest(CorpusManifest("docs", {}, parts["train"], parts["val"], named, 12.5), folder)


TOML = """
name = "toy"
summary = "Toy."
trust = "measured"
script = {{ path = "a/train.py", editable = ["a/train.py", "a/more.py"], train = ["{{python}}"]{score} }}
limits = {{ train_wall_s = 60, score_wall_s = 20, memory_mb = 100 }}
hardware = {{ kind = "cpu" }}
data = {{ corpus = "docs" }}
rung = [{{ name = "decide" }}]

[decision]
rung = "decide"
alpha = 0.01
min_gain = 0.01
max_seeds = 4
report_seeds = 3
prior_sigma = 0.01
"""
SCORED = ', score = ["{python}", "{script}", "score"], artifact = "model.bin", env = { PRESET = "tiny" }'


def toy(score: str = SCORED) -> Track:
    text = TOML.format(score=score)
    return tracks.parse(text if score else text.replace('"measured"', '"reported"'), "toy.toml")
