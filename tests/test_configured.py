"""What `--runner` names: tables of runners.toml, kinds that need none, and errors that say how it is written."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from agent.errors import UserError
from agent.fields import Table
from agent.runners import Runner, configured
from agent.runners.configured import Place
from agent.runners.fake import FakeRunner
from agent.runners.fleet import Fleet
from agent.track import Track, parse
from tests.e2e import world


class Hosts(Table):
    hosts: tuple[str, ...]
    port: int = 22


@pytest.fixture(autouse=True)
def ssh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A kind as a package of its own brings it."""
    package = ModuleType("agent.runners.ssh")
    package.Settings = Hosts  # type: ignore[attr-defined]

    def make(name: str, settings: Hosts, place: Place) -> Runner:
        return FakeRunner(len(settings.hosts) * place.slots, name=name)

    package.make = make  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "agent.runners.ssh", package)
    yield


def local(track: Track, slots: int) -> Runner:
    return FakeRunner(slots, name="local")


def made(root: Path, text: str, *, file: str | None = None, home: Path | None = None) -> Runner:
    if file is not None:
        (root / "runners.toml").write_text(file)
    environ = {"HOME": str(home or root / "home")}
    return configured.make(text, Place(parse(world.TRACK, "toy"), 2, root, local), environ)


def test_this_machine_needs_no_table_and_no_fleet(tmp_path: Path) -> None:
    assert not isinstance(made(tmp_path, "local"), Fleet)
    assert made(tmp_path, "local", file="[local]\nslots = 5\n").slots == tuple(f"local/{n}" for n in range(5))


def test_several_are_one_runner_whose_slots_say_where_they_are(tmp_path: Path) -> None:
    found = made(tmp_path, "local, lab", file='[lab]\nkind = "ssh"\nhosts = ["a", "b"]\n')
    assert isinstance(found, Fleet)
    assert found.slots == ("local/0", "local/1", "lab/0", "lab/1", "lab/2", "lab/3")
    assert configured.elsewhere("lab") and not configured.elsewhere("lab,local")
    assert made(tmp_path, "ssh", file='[ssh]\nhosts = ["a"]\n').slots == ("ssh/0", "ssh/1")  # its name says its kind


def test_the_workspaces_file_comes_before_the_persons(tmp_path: Path) -> None:
    home = tmp_path / "person"
    (home / ".config/caddie").mkdir(parents=True)
    (home / ".config/caddie/runners.toml").write_text('[lab]\nkind = "ssh"\nhosts = ["a"]\n')
    assert len(made(tmp_path, "lab", home=home).slots) == 2
    assert len(made(tmp_path, "lab", home=home, file='[lab]\nkind = "ssh"\nhosts = ["a", "b"]\n').slots) == 4


@pytest.mark.parametrize(
    ("text", "file", "words"),
    [
        ("lap", '[lab]\nkind = "ssh"\n', r"no table \[lap\] in .*runners.toml. Did you mean 'lab'\?"),
        ("lab", '[lab]\nkind = "shh"\n', r"lab.kind: no kind 'shh'. Did you mean 'ssh'\?"),
        ("lab", '[lab]\nhosts = ["a"]\n', r'\[lab\] needs kind = "..."'),
        ("lab", '[lab]\nkind = "ssh"\nhosst = ["a"]\nhosts = []\n', r"hosst: no such key. Did you mean 'hosts'\?"),
        ("lab", '[lab]\nkind = "ssh"\nhosts = ["a"]\nport = "22"\n', r"port: must be a whole number"),
        ("lab", 'lab = "ssh"\n', r"lab must be a table: write \[lab\]"),
        ("lab", "[lab\n", r"is not TOML"),
        ("lab", '[lab]\nkind = "local"\n', r"this machine's runner is called local"),
        ("lab,lab", "", r"lab is there twice"),
        ("Lab", "", r"'Lab' is no name of a runner"),
        ("", "", r"'' is no name of a runner"),
        ("local,../x", "", r"'../x' is no name of a runner"),
    ],
)
def test_what_can_not_be_meant_is_refused(tmp_path: Path, text: str, file: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        made(tmp_path, text, file=file)


def test_where_nobody_says_how_many_as_many_run_as_may_be_rented(tmp_path: Path) -> None:
    file = '[pods]\nkind = "runpod"\nmost_pods = 6\n[lab]\nkind = "ssh"\nhosts = ["a"]\n[here]\nkind = "local"\n'
    (tmp_path / "runners.toml").write_text(file)
    names = ("pods", "pods,modal", "modal,lab", "lab", "local", "local,pods", "here")
    assert [configured.most(name, tmp_path, {}) for name in names] == [6, 6, 4, None, None, None, None]


def test_a_kind_whose_package_is_not_there_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(configured.PACKAGES, "modal", "agent.runners.not_there")
    with pytest.raises(UserError, match="no runner of kind modal yet"):
        made(tmp_path, "modal")


def test_a_campaign_is_resumed_where_it_began(tmp_path: Path) -> None:
    from agent import campaign
    from agent.options import Options
    from agent.report.status import status, words

    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, [world.idea("wider", ('"width": 4', '"width": 6'))])
    (root / "runners.toml").write_text('[lab]\nkind = "ssh"\nhosts = ["a", "b"]\n')
    options = Options(track="agent.toml", planner="scripted:.ideas.jsonl", slots=1, runner="lab")
    setting = campaign.start(options, root, lambda text: None)
    assert setting.campaign.runner == "lab" and setting.runner.slots == ("lab/0", "lab/1")
    with setting.store.read() as reads:
        assert "runs on  lab" in words(status(reads, setting.campaign.id))
    setting.store.close()
    setting = campaign.resume(None, root, lambda text: None)
    assert setting.runner.slots == ("lab/0", "lab/1")
    setting.store.close()
