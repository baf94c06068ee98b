"""What a person writes of a Slurm cluster: one table of runners.toml with kind = "slurm".

Takes the table; gives `Settings`. docs/slurm.md has an example.
"""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from agent.errors import did_you_mean
from agent.fields import Table
from agent.track import Track
from sandbox.policy import Level

# Words for sbatch that change where and at what rank a job runs. What Caddie itself says of a job (name, output, time,
# signal, requeue, GPUs, arrays), or what would run something else, is not among them.
ALLOWED = (
    "--comment",
    "--constraint",
    "--core-spec",
    "--exclude",
    "--exclusive",
    "--licenses",
    "--network",
    "--nice",
    "--nodelist",
    "--prefer",
    "--priority",
    "--propagate",
    "--qos",
    "--reservation",
    "--switches",
    "--thread-spec",
    "--threads-per-core",
    "--tmp",
    "--wckey",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:,+/-]{0,200}")


def _absolute(path: str) -> str:
    if not path.startswith("/") or ".." in PurePosixPath(path).parts or not path.isprintable():
        raise ValueError("must be a path from the root, such as /shared/caddie, without ..")
    return path.rstrip("/") or "/"


def _name(text: str) -> str:
    if text and not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no name that Slurm gives to such a thing")
    return text


def _allowed(word: str) -> str:
    name = word.split("=", 1)[0]
    if name not in ALLOWED:
        hint = did_you_mean(name, ALLOWED)
        raise ValueError(f"{word!r} is not a word that may be added for sbatch.{hint} There are {', '.join(ALLOWED)}")
    if "=" not in word and name != "--exclusive":
        raise ValueError(f"{word!r}: write it with its value as one word, such as {name}=VALUE")
    if not word.isprintable():
        raise ValueError(f"{word!r}: must be visible characters")
    return word


Absolute = Annotated[str, AfterValidator(_absolute)]
Name = Annotated[str, AfterValidator(_name)]


class Login(Table):
    """The machine on which people of the cluster give their commands."""

    address: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*$")]
    key: str = ""
    """Private key. Empty: those of the ssh agent, and the usual ones in ~/.ssh."""


class Settings(Table):
    folder: Absolute
    """A folder that the login node and all nodes see under this name. Caddie keeps code, data and jobs there."""
    login: Login | None = None
    """Where sbatch is. None: on this machine."""
    commands: Absolute | None = None
    """The folder of Slurm's commands there. None: they are found by their names."""
    partition: Name = ""
    account: Name = ""
    gres: Name = "gpu"
    """What the cluster calls its GPUs, such as gpu:h100."""
    gpus_per_node: Annotated[int, Field(gt=0, le=64)] = 8
    """A run has all its GPUs on one node."""
    most: Annotated[int, Field(gt=0, le=10_000)] = 8
    """Jobs that are in the queue or run at once: the slots."""
    cpus_per_gpu: Annotated[int, Field(gt=0, le=256)] = 8
    cpus: Annotated[int, Field(gt=0, le=1024)] = 1
    """Of a run without a GPU."""
    memory_mb: Annotated[int, Field(ge=0)] = 0
    """Of a node, for one run. 0: what the cluster gives by itself."""
    margin_s: Annotated[int, Field(ge=120, le=86_400)] = 300
    """Slurm's time limit, beyond what a run may take: staging of data, and the signal a minute before the end."""
    python: Absolute = "/usr/bin/python3"
    """On the nodes, or in the image: a Python that has Caddie's requirements."""
    login_python: str = "python3"
    """On the login node: any Python from 3.9 on."""
    modules: tuple[Name, ...] | None = None
    """Loaded on the node before a run, by `module load`. None: those that the track names."""
    image: str | None = None
    """A container that Apptainer runs each job in; "" for none. None: the one that the track names."""
    data: Literal["shared", "node"] = "shared"
    """Where a run reads its data: from the shared folder, or from a copy that each node makes once."""
    scratch: Absolute = "/tmp"
    """On each node: where the copies go."""
    corpus: Absolute | None = None
    """On the cluster: a corpus that somebody has prepared there. None: the campaign's own is sent once."""
    words: tuple[Annotated[str, AfterValidator(_allowed)], ...] = ()
    """More words for sbatch."""
    walls: Level = "namespaces"
    """What the nodes can put up around a run (sandbox/README.md). One that can't is refused, run by run."""
    device: str = ""
    """Name of the GPUs as nvidia-smi has it, or a part of it: a node with others is refused. Empty: the track's."""
    price: Annotated[float, Field(ge=0)] = 0.0
    """Dollars for an hour of one GPU, or of one run without a GPU."""
    settle_s: Annotated[float, Field(ge=0, le=600)] = 30.0
    """How long a file that was written on a node may take until it is seen on the login node."""
    every_s: Annotated[float, Field(ge=0.2, le=300)] = 5.0
    """How often the queue is looked at: one squeue for all jobs."""

    def completed(self, track: Track) -> "Settings":
        """With what the track names where they name nothing."""
        need = track.hardware
        return self.model_copy(
            update={
                "modules": need.modules if self.modules is None else self.modules,
                "image": need.image if self.image is None else self.image,
            }
        )
