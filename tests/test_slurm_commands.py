"""Slurm's commands, asked of a real Slurm; and what is made of answers that no Slurm should give."""

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent.errors import InfraError
from agent.runners.slurm.commands import Refused, Row, Slurm
from agent.runners.slurm.shell import LocalShell, Said
from tests.processes import until
from tests.slurm import Cluster, cluster

SLEEP = "#!/bin/sh\nsleep 60\n"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def slurm(own: Cluster) -> Iterator[Slurm]:
    yield Slurm(shell(own))
    own.clear()


def shell(own: Cluster) -> LocalShell:
    return LocalShell(own.env, own.inside)


@pytest.fixture
def name() -> str:
    """Slurm remembers the jobs of the tests before."""
    return f"caddie-test-{next(_numbers)}"


def words(name: str, *more: str) -> tuple[str, ...]:
    return (f"--job-name={name}", "--output=/dev/null", "--time=5", *more)


def state(slurm: Slurm, name: str) -> list[tuple[str, str]]:
    return [(row.stage, row.state) for row in slurm.queue().get(name, [])]


def test_a_job_from_the_queue_to_its_end(own: Cluster, slurm: Slurm, name: str) -> None:
    id = slurm.submit(SLEEP, words(name, "--gres=gpu:h100:8"))
    second = slurm.submit(SLEEP, words("caddie-next", "--gres=gpu:h100:8", f"--dependency=after:{id}+9"))
    own.run("sbatch", "--wrap=sleep 9", "--output=/dev/null", "--job-name=somebody's")
    until(lambda: state(slurm, name) == [("running", "RUNNING")])
    rows = slurm.queue()
    assert [(row.id, row.stage) for row in rows["caddie-next"]] == [(second, "waiting")]
    assert rows[name][0].id == id and rows[name][0].node in ("n1", "n2") and "somebody's" not in rows
    slurm.cancel([id, second, "999999"])
    until(lambda: state(slurm, name) == [("over", "CANCELLED")], what="an end that the queue still tells of")


def test_an_array_is_a_row_for_each(slurm: Slurm, name: str) -> None:
    id = slurm.submit(SLEEP, words(name, "--array=0-2"))
    until(lambda: [stage for stage, _ in state(slurm, name)] == ["running"] * 3)
    rows = slurm.queue()[name]
    assert sorted((row.id, row.place) for row in rows) == [(f"{id}_{n}", n) for n in range(3)]
    row = slurm.job(f"{id}_2", name)
    assert row is not None and (row.place, row.stage) == (2, "running") and slurm.job("999999", name) is None
    slurm.cancel([f"{id}_1"])
    until(lambda: sorted(stage for stage, _ in state(slurm, name)) == ["over", "running", "running"])


def test_the_batch_process_alone_is_asked_to_end(slurm: Slurm, name: str, tmp_path: Path) -> None:
    script = f"#!/bin/sh\n(trap 'echo below >>{tmp_path}/got' TERM; sleep 5 & wait) &\n"
    script += f"trap 'echo batch >>{tmp_path}/got; exit 0' TERM\ntouch {tmp_path}/up; while :; do sleep 0.1; done"
    id = slurm.submit(script, words(name))
    until((tmp_path / "up").exists)
    slurm.ask_to_end([id])
    until(lambda: state(slurm, name)[0][0] == "over")
    assert (tmp_path / "got").read_text() == "batch\n"


def test_slurm_refuses(slurm: Slurm, name: str) -> None:
    for odd in ("--partition=none", "--gres=gpu:h100:9", "--gres=tpu:1"):
        with pytest.raises(Refused, match=r"sbatch ended with 1: .*([Ii]nvalid|not available)"):
            slurm.submit(SLEEP, words(name, odd))
        assert "sbatch ended" in slurm.would_run(SLEEP, words(name, odd))
    assert slurm.would_run(SLEEP, words(name, "--gres=gpu:h100:8")) == ""
    assert slurm.queue().get(name, []) == [] or {stage for stage, _ in state(slurm, name)} == {"over"}


def test_a_held_job_is_seen_as_such(own: Cluster, slurm: Slurm, name: str) -> None:
    """Slurm takes a job that no partition has the time for, and lets it wait for ever."""
    slurm.submit(SLEEP, words(name, "--hold"))
    slurm.submit(SLEEP, words(name, "--time=9-0"))
    until(lambda: state(slurm, name) == [("held", "PENDING")] * 2)


def test_a_partition_is_described(slurm: Slurm) -> None:
    assert slurm.partition("gpu")["MaxTime"] == "1-00:00:00"
    assert slurm.partition("none") == {}


@pytest.mark.slow
def test_nobody_answers(own: Cluster, slurm: Slurm, name: str) -> None:
    own.kill("slurmctld")
    for ask in (slurm.queue, lambda: slurm.submit(SLEEP, words(name))):
        with pytest.raises(InfraError, match=r"ended with|did not answer") as caught:
            ask()
        assert not isinstance(caught.value, Refused)  # who knows whether it is there


class Says(LocalShell):
    """Answers with what a test wants."""

    def __init__(self, rc: int = 0, out: bytes = b"", err: str = "") -> None:
        self._said = Said(rc, out, err)

    def run(self, words: Sequence[str], stdin: bytes = b"", *, within_s: float = 1, most: int = 1) -> Said:
        return self._said


@pytest.mark.parametrize(
    ("rc", "out", "err", "unsure"),
    [
        (0, b"", "", True),
        (0, b"Submitted batch job 12\n", "", True),
        (0, b"12; rm -rf /\n", "", True),
        (0, b"\xff\xfe\n", "", True),
        (0, b"9" * 5000, "", True),
        (1, b"", "sbatch: error: Socket timed out on send/recv operation", True),
        (1, b"", "sbatch: error: Batch job submission failed: Unable to contact slurm controller", True),
        (255, b"", "Connection closed by remote host", True),
        (-9, b"", "killed", True),
        (1, b"", "sbatch: error: invalid partition specified: \x1b[31mnone", False),
    ],
)
def test_an_id_that_is_none(rc: int, out: bytes, err: str, unsure: bool) -> None:
    with pytest.raises(InfraError) as caught:
        Slurm(Says(rc, out, err)).submit(SLEEP, ())
    assert isinstance(caught.value, Refused) is not unsure
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 700


def test_an_id_after_a_greeting_and_with_a_cluster() -> None:
    assert Slurm(Says(0, b"** Maintenance on Monday **\n4711;east\n")).submit(SLEEP, ()) == "4711"


def test_a_queue_of_rubbish() -> None:
    good = b"7_1|RUNNING|None|n1|caddie-a\n"
    other = b"8|RUNNING|None|n1|other\n"
    rubbish = b"\x00\xff\n|||||\n9|GONE|None||caddie-b\nx|RUNNING|||caddie-c\n5|caddie-d\n"
    assert Slurm(Says(0, rubbish + good + other)).queue() == {
        "caddie-a": [Row("7_1", "RUNNING", "None", "n1", "caddie-a")]
    }
    assert Slurm(Says(0, other)).queue() == {} == Slurm(Says(0, b" \n")).queue()
    with pytest.raises(InfraError, match="what is no queue"):  # or every job would seem to be over
        Slurm(Says(0, rubbish)).queue()
    with pytest.raises(InfraError):
        Slurm(Says(1, good, "slurm_load_jobs error: Unable to contact slurm controller")).queue()


def test_one_job_of_rubbish() -> None:
    assert Slurm(Says(1, b"", "slurm_load_jobs error: Invalid job id specified")).job("7", "caddie-a") is None
    assert Slurm(Says(0, b"JobId=7 JobName=other JobState=RUNNING")).job("7", "caddie-a") is None
    for rc, out in ((0, b""), (0, b"JobState=GONE JobName=caddie-a"), (1, b"")):
        with pytest.raises(InfraError):
            Slurm(Says(rc, out)).job("7", "caddie-a")


def test_a_command_that_hangs_or_shouts() -> None:
    began = time.monotonic()
    with pytest.raises(InfraError, match=r"did not answer within 0\.3 s"):
        LocalShell().run(("sh", "-c", "sleep 50 & sleep 50"), within_s=0.3)
    assert time.monotonic() - began < 5
    with pytest.raises(InfraError, match="said more than 1,000 bytes"):
        LocalShell().run(("head", "-c", "5000", "/dev/zero"), most=1000)
    with pytest.raises(InfraError, match="can't run no-such-command"):
        LocalShell().run(("no-such-command",))
    assert LocalShell({"A": "b"}).run(("/bin/sh", "-c", "cat; echo $A; exit 3"), b"in ") == Said(3, b"in b\n", "")
