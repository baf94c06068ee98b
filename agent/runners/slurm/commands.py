"""Slurm's commands: sbatch, squeue, scancel and scontrol, and what they answer.

Takes a `Shell`; gives rows of the queue and ids of jobs. Needs no accounting database: what Slurm has forgotten, the
job folders know.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from agent.errors import InfraError
from agent.runners.slurm.shell import Said, Shell

QUEUE = ("--noheader", "--me", "--array", "--states=all", "--format=%i|%T|%r|%N|%j")
MOST_SAID = 16_000_000  # bytes: a queue of 100,000 jobs
PREFIX = "caddie-"
_ID = re.compile(r"[0-9]{1,18}(_[0-9]{1,9})?")
_PARSABLE = re.compile(r"([0-9]{1,18})(;[A-Za-z0-9_.-]+)?")
_ANSI = re.compile(r"[^\x20-\x7e]+")

Stage = Literal["waiting", "held", "running", "ending", "over"]
_WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_RUNNING = {"RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"}
_ENDING = {"COMPLETING", "STAGE_OUT"}
_OVER = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"),
    *("OUT_OF_MEMORY", "REVOKED"),
}
_KNOWN = _WAITING | _RUNNING | _ENDING | _OVER
# Reasons for which a job that waits will wait for ever, until somebody with more rights acts.
_HELD = {
    *("JobHeldAdmin", "JobHeldUser", "JobHoldMaxRequeue", "launch_failed_requeued_held", "BadConstraints"),
    *("DependencyNeverSatisfied", "PartitionTimeLimit", "AccountNotAllowed", "QOSNotAllowed", "InvalidAccount"),
    *("InvalidQOS", "PartitionNodeLimit", "ReservationDeleted", "QOSUsageThreshold"),
}
# Limits of one job, and of a group's time in all. Those of what runs at once ("...Run..." of them too) come free again.
_LIMITED = re.compile(
    r"(Assoc|QOS)Max\w+Per(Job|Node)(Limit)?|QOSMin\w+|(Assoc|QOS)Grp(Wall(Limit)?|(?!\w+RunMin)\w+Minutes(Limit)?)"
)
# The cluster ended it: whatever became of the run, it says nothing about the idea.
TAKEN = {"CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "REVOKED"}
AWAY = TAKEN - {"TIMEOUT"}  # and no run can have brought that about: one may hang its node until its time is over


class Row(NamedTuple):
    """One job, as squeue sees it."""

    id: str
    state: str
    reason: str
    node: str
    name: str

    @property
    def stage(self) -> Stage:
        if self.state in _WAITING:
            held = self.reason.replace(" ", "_") in _HELD or self.state.endswith("HOLD")
            return "held" if held or self.limited else "waiting"
        if self.state in _RUNNING:
            return "running"
        return "ending" if self.state in _ENDING else "over"

    @property
    def limited(self) -> bool:
        """Whether it is more than its account or its QOS may have."""
        return _LIMITED.fullmatch(self.reason) is not None

    @property
    def nowhere(self) -> bool:
        """It waits for nodes that are down, drained or gone."""
        return self.stage == "waiting" and "UnavailableNodes:" in self.reason

    @property
    def place(self) -> int | None:
        """In its array."""
        return int(self.id.split("_")[1]) if "_" in self.id else None


class Refused(InfraError):
    """Slurm understood the question, and said no."""


class Slurm:
    def __init__(self, shell: Shell, folder: str = "") -> None:
        """`folder`: of its commands, where they are not found by their names."""
        self._shell = shell
        self._before = f"{folder}/" if folder else ""

    def submit(self, script: str, words: Sequence[str]) -> str:
        """The id of the new job, or of the array.

        Raises:
            Refused: there is no such job.
            InfraError: whether there is one is not known.
        """
        said = self._run("sbatch", "--parsable", *words, stdin=script)
        found = _PARSABLE.fullmatch(_last_line(said.out))
        if said.rc != 0 and found is None and not _unsure(said):
            raise Refused(_words("sbatch", said))
        if said.rc != 0 or found is None:
            raise InfraError(_words("sbatch", said))
        return found[1]

    def would_run(self, script: str, words: Sequence[str]) -> str:
        """What is wrong with a job like this one; empty: nothing. It is not submitted.

        Raises:
            InfraError: Slurm did not answer.
        """
        said = self._run("sbatch", "--test-only", *words, stdin=script)
        if said.rc != 0 and _unsure(said):
            raise InfraError(_words("sbatch", said))
        return "" if said.rc == 0 else _words("sbatch", said)

    def queue(self) -> dict[str, list[Row]]:
        """Every job of Caddie's that Slurm still knows of, over or not, by name. One question for all of them.

        Raises:
            InfraError: it did not answer, or nothing that can be read.
        """
        said = self._run("squeue", *QUEUE)
        if said.rc != 0:
            raise InfraError(_words("squeue", said))
        lines = [line for line in said.out.decode("utf-8", "replace").splitlines() if line.strip()]
        found = [row for line in lines if (row := _row(line)) is not None]
        if lines and not found:
            raise InfraError(f"squeue says what is no queue: {_ANSI.sub(' ', lines[0])[:200]}")
        rows: dict[str, list[Row]] = {}
        for row in found:
            if row.name.startswith(PREFIX):
                rows.setdefault(row.name, []).append(row)
        return rows

    def job(self, id: str, name: str) -> Row | None:
        """One job, asked for by itself. None: Slurm knows of none, or of another's.

        Raises:
            InfraError: it did not answer, or nothing that can be read.
        """
        said = self._run("scontrol", "--oneliner", "show", "job", id)
        if said.rc != 0:
            if "invalid job id" in f"{said.err} {said.out[-500:]!r}".lower():
                return None
            raise InfraError(_words("scontrol", said))
        pairs = _pairs(said.out)
        if pairs.get("JobState") not in _KNOWN:
            raise InfraError(f"scontrol says nothing of job {id} that can be read")
        row = Row(id, pairs["JobState"], pairs.get("Reason", ""), pairs.get("NodeList", ""), pairs.get("JobName", ""))
        return row if row.name == name else None

    def cancel(self, ids: Iterable[str]) -> None:
        """Ends jobs, or takes them from the queue. One that is over is none."""
        self._act("--quiet", *ids)

    def ask_to_end(self, ids: Iterable[str]) -> None:
        """As it is asked when its time is over: the shepherd has its time to end its run and say so."""
        self._act("--quiet", "--batch", "--signal=TERM", *ids)

    def partition(self, name: str) -> dict[str, str]:
        """What Slurm says of a partition; nothing where it has none of that name."""
        said = self._run("scontrol", "--oneliner", "show", "partition", name)
        if said.rc != 0:
            if _unsure(said):
                raise InfraError(_words("scontrol", said))
            return {}
        return _pairs(said.out)

    def _act(self, *words: str) -> None:
        said = self._run("scancel", *words)
        if said.rc != 0 and _unsure(said):
            raise InfraError(_words("scancel", said))

    def _run(self, command: str, *words: str, stdin: str = "") -> Said:
        return self._shell.run((f"{self._before}{command}", *words), stdin.encode(), most=MOST_SAID)


def _row(line: str) -> Row | None:
    """None for what is no job, whatever else a command printed."""
    parts = line.strip().split("|", 4)
    if len(parts) != 5 or not _ID.fullmatch(parts[0]) or parts[1] not in _KNOWN:
        return None
    return Row(*parts)


def _pairs(out: bytes) -> dict[str, str]:
    """The KEY=VALUE words of an answer of scontrol's."""
    words = out.decode("utf-8", "replace").split()
    return {key: value for key, mark, value in (word.partition("=") for word in words) if mark}


def _last_line(out: bytes) -> str:
    """Sites print notices before it."""
    lines = out.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def _unsure(said: Said) -> bool:
    """Whether the question may not have reached the controller, or its answer got lost on the way."""
    text = f"{said.err} {said.out[-500:].decode('utf-8', 'replace')}".strip().lower()
    signs = (
        *("unable to contact", "timed out", "zero bytes", "connection refused", "connect failure", "send/recv"),
        *(
            "temporarily",
            "communication",
            "protocol authentication",
            "munge",
            "unexpected message",
            "backup controller",
        ),
    )
    return said.rc in (124, 255) or said.rc < 0 or any(sign in text for sign in signs) or not text


def _words(command: str, said: Said) -> str:
    """For a person: what it said, of one line, or that it said nothing."""
    text = said.err.strip() or said.out[-500:].decode("utf-8", "replace").strip()
    last = _ANSI.sub(" ", " ".join(text.splitlines()[-3:])).strip()[:500]
    return f"{command} ended with {said.rc}: {last or 'and said nothing'}"
