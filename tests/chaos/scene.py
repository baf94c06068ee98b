"""The workspace of the campaign, what runs in it, and what it is told of its machines.

Takes a folder and the machines; gives a `Scene` whose processes are started again when they are gone.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.boxes import Box
from tests.chaos.pods import Account
from tests.e2e import world
from tests.e2e.terminal import AGENT, ENV
from tests.runpod import KEY
from tests.slurm import PATH, Cluster

SCRIPT = '''"""A script whose score is a function of its knobs."""

import os
import random
import time

KNOBS = {
    "width": 4,
    "rate": 0.10,
    "bits": 8,
    "crash": 0,
}

print("begins", flush=True)
time.sleep(3.0)
if KNOBS["crash"]:
    raise SystemExit(1)
noise = random.Random(str(KNOBS) + os.environ["SEED"]).gauss(0.0, 0.001)
with open("final_model.bin", "wb") as file:
    file.write(b"x" * 100 * KNOBS["width"])
print(f"val_bpb: {2.0 - 0.05 * KNOBS['width'] + noise:.6f}")
'''
TRACK = (
    world.TRACK.replace('trust = "measured"', 'trust = "reported"')
    .replace('train = ["{python}", "{script}", "train"]', 'train = ["{python}", "-I", "-S", "{script}"]')
    .replace('score = ["{python}", "{script}", "score"]\n', "")
    .replace("artifact_bytes = 1250\n", "")
    .replace("memory_mb = 500", "memory_mb = 300\ndisk_mb = 10\nlog_mb = 1")
)
SLOTS = min(2, len(os.sched_getaffinity(0)))  # of a machine: each has a core
WORDS = ("--track", "agent.toml", "--planner", "scripted:.ideas.jsonl", "--review", "none", "--seed", "7")


def ideas(many: int) -> list[dict[str, object]]:
    """One that is better, one that crashes, and as many that change too little to be seen."""
    found = [
        world.idea("wider", ('"width": 4', '"width": 8'), script=SCRIPT),
        world.idea("crashes", ('"crash": 0', '"crash": 1'), script=SCRIPT),
    ]
    return found + [
        world.idea(f"rate {n}", ('"rate": 0.10', f'"rate": {0.11 + n / 100:.2f}'), script=SCRIPT) for n in range(many)
    ]


def machines(boxes: Mapping[str, Box], key: Path, home: Path, *, slow: float = 1.0) -> str:
    """The boxes as [lab]. `slow`: how many times longer than on a quiet machine everything takes."""
    rows = "".join(
        f'{name} = {{ address = "127.0.0.1", port = {box.port}, key = "{key}", python = "{sys.executable}", '
        f'folder = "{home}/caddie", slots = {SLOTS} }}\n'
        for name, box in boxes.items()
    )
    said = f"connect_s = {5 * slow}\nkeepalive_s = {2 * slow}\nlost_after_s = {15 * slow}\n"
    return f'[lab]\nkind = "ssh"\n{said}[lab.hosts]\n{rows}'


def rented(account: Account, key: Path, home: Path, *, slow: float = 1.0) -> str:
    """The account as [pods]."""
    return (
        f'[pods]\nkind = "runpod"\nurl = "{account.url}"\nssh_key = "{key}"\npython = "{sys.executable}"\n'
        f'folder = "{home}/caddie"\nmost_pods = 4\nlease_hours = 0.25\n'
        f"provision_s = {20 * slow}\nport_s = {20 * slow}\nidle_s = {20 * slow}\n"
    )


def queued(cluster: Cluster, folder: Path) -> str:
    """The cluster as [cluster], whose commands reach it from here."""
    commands = folder / "commands"
    commands.mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol", "sinfo"):
        words = (*cluster.inside, "env", f"SLURM_CONF={cluster.env['SLURM_CONF']}", shutil.which(name, path=PATH))
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, words))} "$@"\n')
        script.chmod(0o755)
    (folder / "shared").mkdir()
    return (
        f'[cluster]\nkind = "slurm"\nfolder = "{folder}/shared"\ncommands = "{commands}"\n'
        f'python = "{sys.executable}"\nlogin_python = "{sys.executable}"\nmost = 6\nmargin_s = 120\n'
        "every_s = 1.0\nsettle_s = 2.0\n"
    )


class Scene:
    """Processes by what they are. `again`: the words that go on with it where it ended."""

    def __init__(self, folder: Path, root: Path, env: Mapping[str, str]) -> None:
        """`folder`: for what they say; `root`: the workspace."""
        self.folder, self.root = folder, root
        self.env = {**ENV, "RUNPOD_API_KEY": KEY, **env}
        self._again: dict[str, tuple[Path, tuple[str, ...]]] = {}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.kills = 0

    def start(self, name: str, where: Path, words: tuple[str, ...], again: tuple[str, ...]) -> None:
        self._again[name] = where, again
        self._spawn(name, where, words)

    def tick(self) -> None:
        """Whoever is gone comes back."""
        for name, (where, again) in self._again.items():
            if self.running[name].poll() is not None:
                self._spawn(name, where, again)

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running[name].wait()
        self.kills += 1

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def words(self) -> str:
        """The last that each said, for whoever reads why the test failed."""
        return "\n".join(f"--- {name}\n{self.log(name)[-3000:]}" for name in sorted(self._again))

    def end(self) -> None:
        for child in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
        for child in self.running.values():
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _spawn(self, name: str, where: Path, words: tuple[str, ...]) -> None:
        where.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as out:
            self.running[name] = subprocess.Popen([*AGENT, *words], cwd=where, env=self.env, stdout=out, stderr=out)


def await_word(scene: Scene, name: str, word: str, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while word not in scene.log(name):
        assert time.monotonic() < deadline and scene.running[name].poll() is None, scene.log(name)
        time.sleep(0.05)
