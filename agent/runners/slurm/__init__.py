"""Runs on a Slurm cluster, spoken to with plain sbatch, squeue, scancel and scontrol, here or through a login node.

`settings` is what a person writes, `shell` and `login` reach the commands, `commands` speaks them, `depot` and `porter`
move files, `sending`, `placing` and `script` make jobs of orders, `held`, `next_step` and `watch` see them to their
end, `mirror` is a job's folder here, `runner` speaks the Runner protocol. `batch` and `listing` run on the nodes.
"""

from typing import TYPE_CHECKING

from agent.runners.slurm.settings import Settings

if TYPE_CHECKING:
    from agent.runners import Runner
    from agent.runners.configured import Place

__all__ = ["Settings", "make"]


def make(name: str, settings: Settings, place: "Place") -> "Runner":
    """Its slots are NAME/0 and so on. Connects to nothing yet."""
    from agent.runners.slurm.login import shell_of
    from agent.runners.slurm.runner import SlurmRunner

    return SlurmRunner(name, settings, place.track, shell_of(name, settings.login, place.workspace))
