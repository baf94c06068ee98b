"""worktree -> runner: turns a commit and a run into a job folder.

Takes a proposal's commit, a seed and the track's commands; gives a `JobSpec` and fills the folder with the code.
"""

import hashlib
from pathlib import Path

from agent import reach, track, training
from agent.judge.phase import CodeSizes, judge_phase
from agent.judge.task import Auditing
from agent.records import Proposal, Run
from agent.runners import JobPaths, JobSpec, create
from agent.setting import Setting, known
from sandbox import Level


def make_job(
    setting: Setting, run: Run, proposal: Proposal, limits: track.Limits, paid_s: float, auditing: Auditing
) -> JobSpec:
    """The job folder of a run, made once; a second call finds it. `paid_s`: what was reserved, never passed."""
    paths = JobPaths(setting.job(run.id))
    spec = job_spec(setting, run, proposal, paths, limits, paid_s, auditing)

    def fill(code: Path) -> None:
        if setting.track.script.pack:
            packed = training.pack(setting.packed, script_text(setting, proposal))
            (code / Path(setting.track.script.path).name).write_bytes(packed.read_bytes())
        else:
            setting.repo.export(known(proposal.commit), code)

    create(paths.folder, spec, fill)
    return spec


def job_spec(
    setting: Setting,
    run: Run,
    proposal: Proposal,
    paths: JobPaths,
    limits: track.Limits,
    paid_s: float,
    auditing: Auditing,
) -> JobSpec:
    runner = setting.runner
    allowed = reach.Reach(minimum(setting, proposal), runner.gpus(known(run.slot)), runner.box())
    limited = on_slot(setting, run, limits)
    script = training.script_file(setting.track, paths.code)
    machine = setting.runner.env(known(run.slot))
    rung = setting.track.rung_named(run.rung)
    env = training.environment(setting.track, rung, setting.corpus, machine, run_id=f"r{run.id}", seed=run.seed)
    phases = [training.train_phase(limited, paths, env, reach.training(limited, paths, setting.corpus, allowed))]
    if limited.script.score:
        policy = reach.scoring(limited, allowed)
        phases.append(
            judge_phase(
                limited,
                paths,
                script=script,
                seed=run.seed,
                corpus=setting.corpus,
                policy=policy,
                auditing=auditing,
                sizes=code_sizes(setting, proposal),
                share=rung.score_share,
            )
        )
    return JobSpec(
        run_id=run.id,
        phases=tuple(phases),
        artifact=limited.script.artifact or None,
        core=None,
        wall_s=min(limits.worst_s(), paid_s),
    )


def minimum(setting: Setting, proposal: Proposal) -> Level:
    """The weakest walls behind which the proposal's commit may run."""
    files = setting.repo.files(known(proposal.commit), setting.track.script.editable)
    return reach.minimum(setting.track, setting.repo, setting.campaign, files)


def on_slot(setting: Setting, run: Run, limits: track.Limits) -> track.Track:
    """The track as this run sees it: its limits, and its slot's share of the machine when it is scored."""
    script = setting.track.script
    env = {**setting.runner.env(known(run.slot)), **script.env}
    return setting.track.model_copy(update={"limits": limits, "script": script.model_copy(update={"env": env})})


def script_text(setting: Setting, proposal: Proposal) -> str:
    path = setting.track.script.path
    return setting.repo.files(known(proposal.commit), (path,))[path]


def code_sizes(setting: Setting, proposal: Proposal) -> CodeSizes:
    """Of the script as it is written, and packed where that is what runs: packing takes a process of its own."""
    text = script_text(setting, proposal)
    packed = training.pack(setting.packed, text).stat().st_size if setting.track.script.pack else None
    return CodeSizes(len(text.encode()), packed)


def script_sha(setting: Setting, proposal: Proposal) -> str:
    """sha256 of the file that runs."""
    text = script_text(setting, proposal)
    data = training.pack(setting.packed, text).read_bytes() if setting.track.script.pack else text.encode()
    return hashlib.sha256(data).hexdigest()
