"""What this machine has, and what a track would need.

Takes a track; gives the sentences that say what is missing and how to get it. Starts no framework.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from agent.errors import MissingError
from agent.reach import read_elsewhere
from agent.track import Track
from agent.workspace import corpus_folder

DRIVER = Path("/proc/driver/nvidia/gpus")
ANSWERS_S = 30.0
NO_DEVICES = 6  # how nvidia-smi ends where the driver has none


@dataclass(frozen=True)
class Gpu:
    minor: int
    """Number of its device node: /dev/nvidia0 is 0."""
    uuid: str
    name: str
    memory_mb: int


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that the driver lists; none where there is no driver, or none that answers."""
    return listed() or ()


def listed() -> tuple[Gpu, ...] | None:
    """As `gpus`, but None where nvidia-smi is there and does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    what = "index,uuid,pci.bus_id,name,memory.total"
    command = [tool, f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWERS_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return () if done.returncode == NO_DEVICES else None
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    good = [row for row in rows if len(row) == 5 and row[0].isdecimal() and row[4].isdecimal()]
    return tuple(Gpu(_minor(bus, int(index)), uuid, name, int(memory)) for index, uuid, bus, name, memory in good)


def _minor(bus: str, index: int) -> int:
    """As the driver says; where it doesn't, the number that the tool counts by is nearly always the same."""
    # The tool writes a domain of eight digits, the driver's folder has four.
    facts = DRIVER / bus.lower()[-12:] / "information"
    try:
        lines = facts.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return index
    words = [line.split(":", 1)[1].strip() for line in lines if line.startswith("Device Minor:")]
    return int(words[0]) if words and words[0].isdecimal() else index


def matching(track: Track) -> tuple[Gpu, ...]:
    """Those of this machine's GPUs that the track asks for."""
    return tuple(gpu for gpu in gpus() if track.hardware.device in gpu.name)


def missing(track: Track, workspace: Path, *, gpus: bool = True) -> list[str]:
    """What keeps this track from running here, one sentence each; empty: nothing. Without `gpus`: from being run from
    here on other machines."""
    lacking = [*_missing_gpus(track), *_missing_elsewhere(track)] if gpus else []
    return [*lacking, *missing_data(track, workspace), *_missing_script(track, workspace)]


def require(track: Track, workspace: Path, *, gpus: bool = True) -> None:
    lines = missing(track, workspace, gpus=gpus)
    if lines:
        raise MissingError(f"track {track.name} can't run here:\n" + "\n".join(f"  - {line}" for line in lines))


def _missing_gpus(track: Track) -> list[str]:
    need = track.hardware
    if need.kind != "cuda":
        return []
    found = matching(track)
    if len(found) >= need.gpus:
        return []
    what = f"{need.gpus} x {need.device or 'NVIDIA GPU'}"
    return [
        f"needs {what}; this machine has {len(found)}. Rent a machine that has them, clone there and start again; "
        "or try the loop without a GPU: agent start --track tiny"
    ]


def missing_data(track: Track, workspace: Path) -> list[str]:
    """The same of its text alone."""
    if track.data.corpus != "fineweb":
        return []  # made on this machine by `agent start`
    folder, data = corpus_folder(workspace, track.data.corpus), track.data
    dataset = folder / "datasets" / f"fineweb10B_{data.variant}"
    shards = len(list(dataset.glob("fineweb_train_*.bin")))
    if shards >= data.train_shards and any(dataset.glob("fineweb_val_*.bin")):
        return []
    decoded = " --documents" if track.script.score else ""  # `agent start` would do it too
    return [
        f"needs {data.train_shards} training shards of FineWeb ({data.variant}) and its validation shard; "
        f"{folder} has {shards}. Get them with: {sys.executable} -m trainer.data fineweb --variant {data.variant} "
        f"--train-shards {data.train_shards}{decoded} --out {folder}"
    ]


def _missing_elsewhere(track: Track) -> list[str]:
    return [
        f"needs the folder {path}, which its script reads: what prepares it has to run first; "
        "a script that keeps its data elsewhere says so by `read` under [data] in agent.toml"
        for path in read_elsewhere(track)
        if not Path(path).is_dir()
    ]


def _missing_script(track: Track, workspace: Path) -> list[str]:
    if (workspace / track.script.path).is_file():
        return []
    return [f"needs the script {track.script.path}, from the root of the repository {workspace}"]
