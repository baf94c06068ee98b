"""worktree -> runner: turns a commit and a run into a job folder.

Takes a proposal's commit, a seed and the track's commands; gives a `JobSpec` and fills the folder with the code.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from agent import track
from agent.errors import EditError
from agent.judge.task import judge_phase
from agent.records import Proposal, Run
from agent.runners import JobPaths, JobSpec, Phase, create
from agent.setting import Setting, known
from sandbox import Limits

PACK_S = 60
PACK_ENV = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}


def make_job(setting: Setting, run: Run, proposal: Proposal, limits: track.Limits, paid_s: float) -> JobSpec:
    """The job folder of a run, made once; a second call finds it. `paid_s`: what was reserved, never passed."""
    paths = JobPaths(setting.job(run.id))
    spec = job_spec(setting, run, paths, limits, paid_s)

    def fill(code: Path) -> None:
        if setting.track.script.pack:
            packed = pack(setting, script_text(setting, proposal))
            (code / Path(setting.track.script.path).name).write_bytes(packed.read_bytes())
        else:
            setting.repo.export(known(proposal.commit), code)

    create(paths.folder, spec, fill)
    return spec


def job_spec(setting: Setting, run: Run, paths: JobPaths, limits: track.Limits, paid_s: float) -> JobSpec:
    limited = on_slot(setting, run, limits)
    script = script_file(setting, paths.code)
    train = Phase(
        name="train",
        argv=tuple(part.format(python=sys.executable, script=script) for part in limited.script.train),
        env=train_env(setting, run),
        cwd=str(paths.out),
        limits=Limits(
            wall_s=limits.train_wall_s,
            cpu_s=limits.train_cpu_s,
            memory_mb=limits.memory_mb,
            disk_mb=limits.disk_mb,
            log_mb=limits.log_mb,
            processes=limits.processes,
        ),
        trusted=False,
        log=paths.train_log.name,
    )
    phases = [train]
    if limited.script.score:
        phases.append(judge_phase(limited, paths, script=script, seed=run.seed, corpus=setting.corpus))
    return JobSpec(
        run_id=run.id,
        phases=tuple(phases),
        artifact=limited.script.artifact or None,
        core=None,
        wall_s=min(limits.worst_s(), paid_s),
    )


def on_slot(setting: Setting, run: Run, limits: track.Limits) -> track.Track:
    """The track as this run sees it: its limits, and its slot's share of the machine when it is scored."""
    script = setting.track.script
    env = {**setting.runner.env(known(run.slot)), **script.env}
    return setting.track.model_copy(update={"limits": limits, "script": script.model_copy(update={"env": env})})


def script_file(setting: Setting, code: Path) -> Path:
    path = Path(setting.track.script.path)
    return code / (path.name if setting.track.script.pack else path)


def script_text(setting: Setting, proposal: Proposal) -> str:
    path = setting.track.script.path
    return setting.repo.files(known(proposal.commit), (path,))[path]


def script_sha(setting: Setting, proposal: Proposal) -> str:
    """sha256 of the file that runs."""
    text = script_text(setting, proposal)
    data = pack(setting, text).read_bytes() if setting.track.script.pack else text.encode()
    return hashlib.sha256(data).hexdigest()


def pack(setting: Setting, source: str) -> Path:
    """The packed script: what runs and what is counted. Made once for each source.

    The packer parses what a model wrote, so it works in a process of its own.
    """
    done = setting.packed(hashlib.sha256(source.encode()).hexdigest())
    if done.is_file():
        return done
    done.parent.mkdir(parents=True, exist_ok=True)
    readable, aside = done.with_suffix(".source"), done.with_suffix(".aside")
    readable.write_text(source, "utf-8")
    command = [sys.executable, "-I", "-m", "trainer.pack", str(readable), str(aside)]
    try:
        # A session of its own: a Ctrl-C in the terminal is for the loop, and must not look like a bad script.
        ended = subprocess.run(
            command, capture_output=True, env=PACK_ENV, timeout=PACK_S, check=False, start_new_session=True
        )
    except subprocess.TimeoutExpired as error:
        raise EditError(f"the script can't be packed within {PACK_S} s") from error
    if ended.returncode != 0 or not aside.is_file():
        last = ended.stderr.decode("utf-8", errors="replace").strip().splitlines()[-1:]
        raise EditError(f"the script can't be packed: {' '.join(last)}")
    aside.replace(done)
    return done


def train_env(setting: Setting, run: Run) -> dict[str, str]:
    """All that a training process gets to see of the outside."""
    of = setting.track
    threads = "1" if of.hardware.kind == "cpu" else "8"
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": ".",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",
        "RUN_ID": f"r{run.id}",
        "SEED": str(run.seed),
        **data_env(setting),
        **setting.runner.env(known(run.slot)),
        **of.script.env,
        **of.deciding().env,
    }
    if of.compute is not None:
        env.setdefault("COMPUTE_BUDGET_MS", str(of.compute.budget_ms))
        env["COST_MODEL"] = json.dumps(dict(of.compute.cost), sort_keys=True)
    return env


def data_env(setting: Setting) -> Mapping[str, str]:
    """Where the training data is. Never where the validation data is."""
    data = setting.track.data
    if data.corpus == "fineweb":
        name = f"fineweb10B_{data.variant}"
        tokenizer = f"fineweb_{data.variant.removeprefix('sp')}_bpe.model"
        return {
            "DATA_PATH": str(setting.corpus / "datasets" / name),
            "TOKENIZER_PATH": str(setting.corpus / "tokenizers" / tokenizer),
        }
    if data.corpus == "none":
        return {}
    return {"DATA_PATH": str(setting.corpus / "train")}
