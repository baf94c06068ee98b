"""One far machine: what it must be, what it is believed, and what comes back of a job that was hostile there."""

import asyncio
import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import InfraError
from agent.job.folder import JobPaths
from agent.runners.order import place
from agent.runners.ssh import attendant, mirror
from agent.runners.ssh.answers import Facts, Jobs, Looked, Nothing
from agent.runners.ssh.errand import Errand
from agent.runners.ssh.link import Refused, Thread, Unreachable
from agent.runners.ssh.machine import Machine, _told
from tests import ordering, sshd
from tests.scored import TOML

MOST = 1000


@pytest.fixture
def machine(tmp_path: Path, lasting_server: sshd.Sshd) -> Machine:
    return sshd.machine(lasting_server, tmp_path / "far", TOML, tmp_path / "pins")


def planted(tmp_path: Path, plant: Callable[[Path, Path], object]) -> Path:
    """A job folder on the far machine with something in the place of its artifact, and a secret elsewhere."""
    out = tmp_path / "far" / "jobs" / "test" / "r1" / "out"
    out.mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    plant(out / "m", secret)
    return out / "m"


HOSTILE: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "link": (lambda at, secret: at.symlink_to(secret), "OSError"),
    "second name": (lambda at, secret: at.hardlink_to(secret), "no plain file"),
    "pipe": (lambda at, secret: os.mkfifo(at), "no plain file"),
    "folder": (lambda at, secret: at.mkdir(), "no plain file"),
    "giant": (lambda at, secret: at.touch() or os.truncate(at, 1 << 40), "more than 1,000"),
    "nothing": (lambda at, secret: None, "FileNotFoundError"),
    "folder behind a link": (lambda at, secret: (at.parent.rmdir(), at.parent.symlink_to(secret.parent)), "Error"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_but_a_plain_file_of_its_own_comes_back(
    tmp_path: Path, machine: Machine, thread: Thread, name: str
) -> None:
    plant, words = HOSTILE[name]
    planted(tmp_path, plant)
    with pytest.raises(InfraError, match=words):
        thread.wait(machine.fetch("r1/out/m", tmp_path / "m", MOST), 60)
    assert not (tmp_path / "m").exists() and not (tmp_path / ".far-m").exists()


def test_a_file_comes_back_once_and_goes_on_where_it_broke(tmp_path: Path, machine: Machine, thread: Thread) -> None:
    planted(tmp_path, lambda at, secret: at.write_bytes(b"0123456789"))
    (tmp_path / ".far-m").write_bytes(b"abcd")  # what an earlier try brought
    thread.wait(machine.fetch("r1/out/m", tmp_path / "m", MOST), 60)
    assert (tmp_path / "m").read_bytes() == b"abcd456789" and not (tmp_path / ".far-m").exists()
    (tmp_path / ".far-n").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):  # a fault here, not the machine's
        thread.wait(machine.fetch("r1/out/m", tmp_path / "n", MOST), 60)
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_a_machine_says_what_it_is_and_does_nothing_else(
    tmp_path: Path, lasting_server: sshd.Sshd, machine: Machine, thread: Thread
) -> None:
    facts = thread.wait(machine.ready(), 120)
    assert facts.hardware_class.startswith("cpu/") and facts.slots == 1 and facts.level in ("landlock", "namespaces")
    assert thread.wait(machine.ask(Jobs, "there"), 60) == Jobs(())
    for words in ({"do": "remove"}, {"do": "__init__"}, {"do": "look"}, {"do": "end", "job": "../../x"}):
        with pytest.raises(InfraError):
            thread.wait(machine.ask(Nothing, **words), 60)  # type: ignore[arg-type]
    assert thread.wait(machine.ask(Jobs, "there"), 60) == Jobs(()), "it goes on"
    sent = machine.sent
    other = sshd.machine(lasting_server, tmp_path / "far", TOML, tmp_path / "pins")
    thread.wait(other.ready(), 120)
    assert (other.sent, sent > 100_000) == (0, True)


def test_a_machine_that_lacks_something(tmp_path: Path, lasting_server: sshd.Sshd, thread: Thread) -> None:
    for changed, words in (
        ({"python": "no-such-python"}, "no no-such-python there that works"),
        ({"python": "/bin/false"}, "no /bin/false there that works"),
        ({"root": "/proc/nowhere"}, "nowhere"),
    ):
        root = Path(changed.pop("root", str(tmp_path / "far")))
        machine = sshd.machine(lasting_server, root, TOML, tmp_path / "pins", **changed)
        with pytest.raises((Refused, InfraError), match=words):
            thread.wait(machine.ready(), 60)
    cuda = TOML.replace('kind = "cpu"', 'kind = "cuda", gpus = 2, device = "H100"')
    with pytest.raises(InfraError, match="a run needs 2 GPUs, there are 0"):
        thread.wait(sshd.machine(lasting_server, tmp_path / "far", cuda, tmp_path / "pins").ready(), 120)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 100_000, '{"jobs": 1}', '{"jobs": {"a": {"state": "gone", "logs": {}, "beat": null}}}'],
)
def test_an_answer_that_is_none(tmp_path: Path, lasting_server: sshd.Sshd, text: str) -> None:
    with pytest.raises(OSError, match="no answer in our words"):
        _told(Looked, text, lasting_server.host(tmp_path))


def test_an_answer_says_what_went_wrong(tmp_path: Path, lasting_server: sshd.Sshd) -> None:
    with pytest.raises(InfraError, match="lab/box: the disk is full"):
        _told(Facts, json.dumps({"error": "the disk is full"}), lasting_server.host(tmp_path))


@pytest.mark.parametrize(
    ("text", "kept"), [("a" * 1_000_000, True), ("\x01" * 3_900_000, False), ("a" * 5_000_000, False)]
)
def test_what_a_candidate_wrote_can_not_fill_an_answer(tmp_path: Path, text: str, kept: bool) -> None:
    (tmp_path / "measure.json").write_text(text)
    assert (attendant._small(tmp_path / "measure.json") == text) is kept


def test_where_a_job_is_survives_its_text(tmp_path: Path) -> None:
    assert mirror.read(tmp_path) is None
    placed = mirror.Placed("lab/box/0", "lab/box", 12.5)
    mirror.write(tmp_path, placed)
    assert mirror.read(tmp_path) == placed
    (tmp_path / mirror.NAME).write_text("{}")
    with pytest.raises(ValueError):
        mirror.read(tmp_path)


def test_a_frame_of_a_gigabyte_is_refused(lasting_server: sshd.Sshd, tmp_path: Path, thread: Thread) -> None:
    """The attendant is ours, but the machine may lie for it."""
    from agent.runners.ssh.machine import _read

    class Lying:
        class stdout:
            @staticmethod
            async def readexactly(n: int) -> bytes:
                return struct.pack(">I", 1 << 30)[:n]

    with pytest.raises(OSError, match="longer than it may be"):
        thread.wait(_read(Lying()), 10)  # type: ignore[arg-type]


GREETING = """
import struct, sys
said = {said!r}.encode()
sys.stdout.buffer.write(struct.pack(">I", len(said)) + said)
sys.stdout.flush()
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [('{"hardware_class": 1}', Unreachable, "nothing came of our code"), ('{"error": "no"}', InfraError, "box: no")],
)
def test_a_machine_that_greets_with_something_else_is_none(
    machine: Machine, thread: Thread, monkeypatch: pytest.MonkeyPatch, said: str, kind: type[InfraError], words: str
) -> None:
    monkeypatch.setattr("agent.runners.ssh.machine.ATTENDANT", GREETING.format(said=said))
    for _ in range(2):
        with pytest.raises(kind, match=words):
            thread.wait(machine.ready(), 60)
    assert machine.facts is None


def test_an_errand_is_given_up_though_its_machine_can_not_be_asked_to_end_it(tmp_path: Path) -> None:
    class Broken:
        async def end(self, job: str) -> bool:
            raise OSError("no answer in our words")

    paths = JobPaths(tmp_path / "jobs" / "r1")
    order = ordering.order(TOML)
    place(paths.folder, order, lambda code: None)
    mirror.write(paths.folder, mirror.Placed("lab/box/0", "lab/box", 12.5))
    errand = Errand(Broken(), paths.folder, order, tmp_path)  # type: ignore[arg-type]
    asyncio.run(errand._hindered(OSError("an answer that is none")))
    assert paths.lost.exists() and "an answer that is none" in paths.lost.read_text()


def test_what_lay_on_the_way_for_long_is_not_begun(tmp_path: Path) -> None:
    folder = tmp_path / "r1"
    attendant.refuse(folder, time.monotonic() + 10)
    with pytest.raises(InfraError, match="too late"):
        attendant.refuse(folder, time.monotonic() - 1)
    folder.mkdir()
    attendant.refuse(folder, time.monotonic() - 1)  # it has begun: the answer is the same as before
    attendant.begun(folder).touch()
    folder.rmdir()
    with pytest.raises(InfraError, match="taken away"):
        attendant.refuse(folder, time.monotonic() + 10)
