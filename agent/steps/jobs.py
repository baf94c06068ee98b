"""worktree -> runner: turns a commit and a run into a job folder.

Takes a proposal's commit, a seed and limits; gives an `Order` and fills the folder with the code.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

from agent import reach, training
from agent.errors import InfraError
from agent.job.folder import JobPaths
from agent.job.reading import read_plain
from agent.judge.phase import CodeSizes
from agent.judge.task import Auditing
from agent.records import Proposal, Run
from agent.runners.order import Order, place
from agent.setting import Setting, known
from agent.tables import Limits
from sandbox import Level
from sandbox.limits import MB


def make_job(
    setting: Setting,
    run: Run,
    proposal: Proposal,
    limits: Limits,
    paid_s: float,
    auditing: Auditing,
    trained: Path | None = None,
) -> Order:
    """The job folder of a run, made once; a second call finds it. `paid_s`: what was reserved, never passed.

    `trained`: the job whose artifact is only scored; None: this one trains its own.
    """
    order = order_of(setting, run, proposal, limits, paid_s, auditing)
    if trained is not None:
        order = replace(order, phases=("judge",))

    def fill(code: Path) -> None:
        if setting.track.script.pack:
            packed = training.pack(setting.packed, script_text(setting, proposal))
            (code / Path(setting.track.script.path).name).write_bytes(packed.read_bytes())
        else:
            setting.repo.export(known(proposal.commit), code)
        if trained is not None:
            _copy_artifact(setting, JobPaths(trained), JobPaths(code.parent))

    place(setting.job(run.id), order, fill)
    return order


def _copy_artifact(setting: Setting, trained: JobPaths, job: JobPaths) -> None:
    """A candidate may have written anything in its place."""
    name = setting.track.script.artifact
    try:
        data = read_plain(trained.out, name, setting.track.limits.disk_mb * MB)
    except ValueError as error:
        raise InfraError(f"the artifact in {trained.folder} can't be read: {error}") from error
    (job.out / name).parent.mkdir(parents=True, exist_ok=True)
    (job.out / name).write_bytes(data)


def order_of(
    setting: Setting, run: Run, proposal: Proposal, limits: Limits, paid_s: float, auditing: Auditing
) -> Order:
    sizes = code_sizes(setting, proposal)
    return Order(
        run_id=run.id,
        track=setting.campaign.track_toml,
        limits=limits.model_dump_json(),
        rung=run.rung,
        seed=run.seed,
        minimum=minimum(setting, proposal),
        auditing=auditing,
        wall_s=min(limits.worst_s(), paid_s),
        source_bytes=sizes.source,
        packed_bytes=sizes.packed,
    )


def minimum(setting: Setting, proposal: Proposal) -> Level:
    """The weakest walls behind which the proposal's commit may run."""
    files = setting.repo.files(known(proposal.commit), setting.track.script.editable)
    return reach.minimum(setting.track, setting.repo, setting.campaign, files)


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
