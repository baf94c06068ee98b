"""What a training process gets: its packed script, its command, its environment and its limits.

Takes a track, a corpus and a job folder; gives a `Phase`. Runs and dry runs are made from the same.
"""

import hashlib
import json
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from agent.errors import EditError, InfraError
from agent.job.folder import JobPaths, Phase
from agent.reach import fineweb_folder
from agent.tables import BUDGET, Rung
from agent.track import Track
from sandbox import Limits, Policy

PACK_S = 60
PACK_ENV = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}


def train_phase(track: Track, paths: JobPaths, env: Mapping[str, str], policy: Policy) -> Phase:
    limits, script = track.limits, script_file(track, paths.code)
    return Phase(
        name="train",
        argv=tuple(
            part.format(python=sys.executable, script=script, gpus=track.hardware.gpus) for part in track.script.train
        ),
        env={**env, "TMPDIR": str(paths.out)},
        cwd=str(paths.out),
        limits=Limits(
            wall_s=limits.train_wall_s,
            cpu_s=limits.train_cpu_s,
            memory_mb=limits.memory_mb,
            disk_mb=limits.disk_mb,
            log_mb=limits.log_mb,
            processes=limits.processes,
            gpu_memory_mb=limits.gpu_memory_mb,
        ),
        policy=policy,
        log=paths.train_log.name,
    )


def script_file(track: Track, code: Path) -> Path:
    path = Path(track.script.path)
    return code / (path.name if track.script.pack else path)


def pack(folder: Path, source: str) -> Path:
    """The packed script: what runs and what is counted. Made once for each source, and kept in `folder`.

    The packer parses what a model wrote, so it works in a process of its own. Raises EditError for what it can't pack,
    InfraError where the machine has no room for it, or has killed it.
    """
    done = folder / f"{hashlib.sha256(source.encode()).hexdigest()}.py"
    if done.is_file():
        return done
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".tmp-{secrets.token_hex(8)}"  # the loop and planners may pack at once
    readable, packed = aside.with_suffix(".source"), aside.with_suffix(".packed")
    try:
        readable.write_text(source, "utf-8")
        _pack(readable, packed)
        packed.replace(done)
    except OSError as error:
        raise InfraError(f"no script can be packed in {folder}: {error}") from error
    finally:
        readable.unlink(missing_ok=True)
        packed.unlink(missing_ok=True)
    return done


def _pack(readable: Path, packed: Path) -> None:
    command = [sys.executable, "-I", "-m", "trainer.pack", str(readable), str(packed)]
    try:
        # A session of its own: a Ctrl-C in the terminal is for the loop, and must not look like a bad script.
        ended = subprocess.run(
            command, capture_output=True, env=PACK_ENV, timeout=PACK_S, check=False, start_new_session=True
        )
    except subprocess.TimeoutExpired as error:
        raise EditError(f"the script can't be packed within {PACK_S} s") from error
    if ended.returncode < 0:
        raise InfraError(f"the packer was ended by signal {-ended.returncode}")
    if ended.returncode != 0 or not packed.is_file():
        last = ended.stderr.decode("utf-8", errors="replace").strip().splitlines()[-1:]
        said = " ".join(last).removeprefix(f"{readable}: ")
        if said.startswith("[Errno "):  # an error of the disk
            raise InfraError(f"the packer failed: {said}")
        raise EditError(f"the script can't be packed: {said}")


def candidate_env(track: Track) -> dict[str, str]:
    """What every process of a candidate gets to see of the outside, training or scoring."""
    # A GPU that happens to be there would make another machine of what a CPU track calls a core.
    unseen = {"CUDA_VISIBLE_DEVICES": ""} if track.hardware.kind == "cpu" else {}
    return {
        **unseen,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": ".",
        "USER": "candidate",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1" if track.hardware.kind == "cpu" else "8",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def environment(
    track: Track, rung: Rung, corpus: Path, machine: Mapping[str, str], *, run_id: str, seed: int
) -> dict[str, str]:
    """All that a training process gets to see of the outside. `machine`: how it finds its share of it."""
    env = {
        **candidate_env(track),
        **_home(track),
        "RUN_ID": run_id,
        "SEED": str(seed),
        **_data(track, corpus),
        **machine,
        **track.script.env,
        **rung.env,
    }
    if track.compute is not None:
        env.setdefault(BUDGET, str(track.compute.budget_ms))
        env["COST_MODEL"] = json.dumps(dict(track.compute.cost), sort_keys=True)
    return env


def _home(track: Track) -> Mapping[str, str]:
    """Where "~" leads to what the track lets it read. A compiler keeps its files in the run's own folder."""
    if not any(path.startswith("~") for path in track.data.read):
        return {}
    return {"HOME": str(Path.home()), "TRITON_CACHE_DIR": ".triton"}


def _data(track: Track, corpus: Path) -> Mapping[str, str]:
    """Where the training data is; for shards the folder in which the others lie too, out of reach unless the track says
    otherwise."""
    data = track.data
    if data.corpus == "fineweb":
        tokenizer = f"fineweb_{data.variant.removeprefix('sp')}_bpe.model"
        return {
            "DATA_PATH": str(corpus / "datasets" / fineweb_folder(track)),
            "TOKENIZER_PATH": str(corpus / "tokenizers" / tokenizer),
        }
    if data.corpus == "none":
        return {}
    return {"DATA_PATH": str(corpus / "train")}
