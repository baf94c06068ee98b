"""The tables of runners.toml that name machines over ssh, and what is said where they can't be meant."""

from pathlib import Path

import pytest

from agent.errors import UserError
from agent.runners import Runner, configured
from agent.runners.fake import FakeRunner
from agent.runners.fleet import Fleet
from agent.runners.ssh.hosts import HostTable, Settings, SshHost, hosts_of
from agent.runners.ssh.runner import SshRunner
from agent.track import Track, parse
from tests.e2e import world

FILE = """
[lab]
kind = "ssh"
lost_after_s = 60.0

[lab.hosts.box1]
address = "10.0.0.5"
gpus = [0, 3]
price = 2.5

[lab.hosts.box2]
address = "box2.lan"
port = 2200
user = "ann"
key = "~/.ssh/lab"
slots = 4
"""


def local(track: Track, slots: int) -> Runner:
    return FakeRunner(slots)


def made(root: Path, text: str) -> Runner:
    (root / "runners.toml").write_text(text)
    place = configured.Place(parse(world.TRACK, "toy"), 1, root, local)
    return configured.make("lab", place, {"HOME": str(root)})


def test_a_table_is_a_runner_that_connects_to_nothing_yet(tmp_path: Path) -> None:
    found = made(tmp_path, FILE)
    assert isinstance(found, Fleet) and isinstance(found.runners["lab"], SshRunner)
    found.close()


@pytest.mark.parametrize(
    ("page", "begins", "ends"), [("ssh.md", "```toml\n", "```"), ("runners.md", ":\n\n  ", "\n\n")]
)
def test_the_tables_that_the_documentation_shows_are_taken(tmp_path: Path, page: str, begins: str, ends: str) -> None:
    text = Path("docs", page).read_text("utf-8").partition(begins)[2].partition(ends)[0]
    assert "[lab]" in text and "address" in text
    found = made(tmp_path, text)
    assert isinstance(found, Fleet) and isinstance(found.runners["lab"], SshRunner)
    found.close()


def test_what_a_table_leaves_out(tmp_path: Path) -> None:
    rows = {"box": HostTable(address="a"), "other": HostTable(address="b", key="/k", gpus=(1,), slots=2)}
    assert hosts_of("lab", Settings(hosts=rows, connect_s=3.0)) == (
        SshHost("lab/box", "a", connect_s=3.0),
        SshHost("lab/other", "b", key=Path("/k"), gpus=(1,), slots=2, connect_s=3.0),
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('address = "10.0.0.5"', 'adress = "10.0.0.5"', "box1.adress: no such key"),
        ('address = "10.0.0.5"', 'address = "-oProxyCommand=x"', "does not begin with a dash"),
        ('address = "10.0.0.5"', 'address = "a b"', "one plain word"),
        ('address = "box2.lan"', "", "address"),
        ("port = 2200", "port = 0", "port"),
        ("gpus = [0, 3]", 'gpus = "some"', "gpus"),
        ("slots = 4", "slots = 0", "slots"),
        ("price = 2.5", "price = -1.0", "price"),
        ("lab.hosts.box1", 'lab.hosts."box/1"', "small letters, digits and dashes"),
        ("lost_after_s = 60.0", "lost_after_s = 0.0", "lost_after_s"),
    ],
)
def test_what_can_not_be_meant(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in FILE
    with pytest.raises(UserError, match=words):
        made(tmp_path, FILE.replace(old, new))


def test_a_table_without_machines(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hosts"):
        made(tmp_path, '[lab]\nkind = "ssh"\n[lab.hosts]\n')
