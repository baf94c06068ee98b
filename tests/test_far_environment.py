"""The packages of runs on far machines: what a lock says, which wheels fit, and that each is sent once."""

import hashlib
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from agent.errors import InfraError, UserError
from agent.runners.far.environment import Environment, Pin, There, kit, named, pins
from agent.runners.ssh import depot
from agent.runners.ssh.hosts import Settings
from agent.runners.ssh.link import Link, Pins, Refused, Thread
from tests import sshd, wheels
from tests.scored import TOML

LINUX = There((3, 11), "x86_64")
LOCK = """
# made by hand
tiny-thing==1.0 \\
    --hash=sha256:{sha} \\
    --hash=sha256:0000
Only.Elsewhere==2.0 ; sys_platform == "win32"  # never here
"""


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    wheel = wheels.small(tmp_path / "wheels")
    lock = tmp_path / "lock.txt"
    lock.write_text(LOCK.format(sha=hashlib.sha256(wheel.read_bytes()).hexdigest()))
    return Environment(lock, tmp_path / "wheels")


def test_a_lock_is_read_as_the_tools_write_it(environment: Environment) -> None:
    one, other = pins(environment.lock)
    assert (str(one), len(one.hashes), one.marker) == ("tiny-thing==1.0", 2, "")
    assert (str(other), other.marker) == ("only-elsewhere==2.0", 'sys_platform == "win32"')
    assert named((one, other), LINUX) == ["tiny-thing==1.0"]
    environment.lock.write_text("a[extra,more]==1\nb==2.0.0+cu128\n")
    assert pins(environment.lock) == (Pin("a", "1"), Pin("b", "2.0.0+cu128"))


@pytest.mark.parametrize(
    "line", ["tiny-thing", "tiny-thing>=1", "-r other.txt", "--index-url x", "a==1 ; os ==", "a==one", "git+x@y"]
)
def test_a_line_that_pins_nothing_is_refused(environment: Environment, line: str) -> None:
    environment.lock.write_text(f"{line}\n")
    with pytest.raises(UserError, match=r"pins no package.*pip freeze"):
        pins(environment.lock)


def test_a_kit_is_named_by_what_is_in_it(environment: Environment, tmp_path: Path) -> None:
    found = kit(environment, LINUX)
    assert list(found.wheels) == ["tiny_thing-1.0-py3-none-any.whl"] and set(found.blobs()) == set(found.shas.values())
    assert kit(environment, LINUX).name == found.name != kit(environment, There((3, 12), "x86_64")).name
    wheels.small(tmp_path / "wheels", says="something else")
    with pytest.raises(UserError, match="its sha256 is another"):
        kit(environment, LINUX)
    environment.lock.write_text("tiny-thing==1.0\n")
    assert kit(environment, LINUX).name != found.name, "other content is another environment"


def test_what_is_not_here_is_named_with_the_command_that_gets_it(environment: Environment) -> None:
    environment.lock.write_text("tiny-thing==1.0\nnumpy==2.0.0\n")
    with pytest.raises(UserError, match=r"no wheel of numpy==2.0.0 for Python 3.11 on x86_64.*pip download --only-bi"):
        kit(environment, LINUX)
    with pytest.raises(UserError, match="no folder of wheels"):
        kit(Environment(environment.lock, environment.wheels / "none"), LINUX)


@pytest.mark.parametrize(
    ("tags", "fits"),
    [
        ("py3-none-any", True),
        ("py2.py3-none-any", True),
        ("cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        ("cp39-abi3-manylinux_2_28_x86_64", True),
        ("cp312-abi3-manylinux_2_28_x86_64", False),
        ("cp312-cp312-manylinux_2_28_x86_64", False),
        ("cp311-cp311-manylinux_2_28_aarch64", False),
        ("cp311-cp311-macosx_11_0_arm64", False),
        ("cp311-cp311-win_amd64", False),
        ("py2-none-any", False),
    ],
)
def test_which_wheels_fit_a_machine(tmp_path: Path, tags: str, fits: bool) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / f"thing-1.0-{tags}.whl").write_bytes(b"")
    (folder / "nonsense.whl").write_bytes(b"")
    (tmp_path / "lock").write_text("thing==1.0\n")
    if fits:
        assert len(kit(Environment(tmp_path / "lock", folder), LINUX).wheels) == 1
    else:
        with pytest.raises(UserError, match="no wheel of thing"):
            kit(Environment(tmp_path / "lock", folder), LINUX)


def test_one_of_the_two_settings_says_nothing() -> None:
    with pytest.raises(ValueError, match="give both or neither"):
        Settings.model_validate({"hosts": {"box": {"address": "a"}}, "environment": "lock.txt"})


# ---------------------------------------------------------------- on a machine


@pytest.mark.long
def test_a_wheel_is_sent_once_and_is_there_for_runs_and_nothing_else_is(
    tmp_path: Path, lasting_server: sshd.Sshd, thread: Thread, environment: Environment
) -> None:
    found = kit(environment, There(sys.version_info[:2], "x86_64"))
    link = Link(lasting_server.host(tmp_path / "far"), Pins(tmp_path / "pins"))
    sent = [thread.wait(depot.send(link, found.blobs()), 60) for _ in range(2)]
    assert sent == [next(iter(found.wheels.values())).stat().st_size, 0]
    python = thread.wait(depot.equip(link, found), 300)
    assert f"/envs/{found.name}/" in python
    program = "import tiny_thing, json; from importlib import metadata as m; print(json.dumps([tiny_thing.SAYS, "
    program += "sorted(one.name for one in m.distributions())]))"
    says, names = json.loads(thread.wait(link.run(python, "-I", "-c", program), 60).out)
    assert says == "hello" and "tiny-thing" in [name.replace("_", "-") for name in names] and "numpy" not in names
    made = Path(python).parents[1].stat().st_ino
    assert thread.wait(depot.equip(link, found), 60) == python and Path(python).parents[1].stat().st_ino == made
    (Path(python).parents[1] / "whole").unlink()  # it was killed before it was whole
    thread.wait(depot.equip(link, found), 300)
    assert thread.wait(link.run(python, "-I", "-c", "import tiny_thing"), 60).rc == 0
    wrong = {**found.shas, "tiny_thing-1.0-py3-none-any.whl": "0" * 64}
    changed = type(found)(f"{found.lock}# other\n", found.wheels, wrong)
    with pytest.raises(InfraError, match="FileNotFoundError"):
        thread.wait(depot.equip(link, changed), 60)
    changed = type(found)(found.lock.replace("sha256:", "sha256:0"), found.wheels, found.shas)
    with pytest.raises(InfraError, match="no environment could be made"):
        thread.wait(depot.equip(link, changed), 300)


TYPES = ("annotated-types", "typing-extensions", "typing-inspection")
NEEDED = ("pydantic", "pydantic-core", *TYPES, "packaging", "numpy")


@pytest.mark.long
def test_a_machine_without_packages_gets_those_that_the_lock_names(
    tmp_path: Path, lasting_server: sshd.Sshd, thread: Thread
) -> None:
    """Its own Python has none at all; the attendant of its runs has those of the lock, and says so."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare-python")], check=True)
    bare = str(tmp_path / "bare-python" / "bin" / "python")
    lock = tmp_path / "lock.txt"
    lock.write_text("".join(f"{name}=={metadata.version(name)}\n" for name in NEEDED))
    for name in NEEDED:
        wheels.installed(tmp_path / "wheels", name)
    lacking = sshd.machine(lasting_server, tmp_path / "bare", TOML, tmp_path / "pins", python=bare)
    with pytest.raises(Refused, match=r"lacks .*or an `environment` with them"):
        thread.wait(lacking.ready(), 120)
    whole = Environment(lock, tmp_path / "wheels")
    machine = sshd.machine(lasting_server, tmp_path / "far", TOML, tmp_path / "pins", python=bare, environment=whole)
    facts = thread.wait(machine.ready(), 600)
    size = sum(path.stat().st_size for path in (tmp_path / "wheels").iterdir())
    assert len(facts.environment) == 64 and machine.sent > size
    again = sshd.machine(lasting_server, tmp_path / "far", TOML, tmp_path / "pins", python=bare, environment=whole)
    assert thread.wait(again.ready(), 600).environment == facts.environment and again.sent == 0
    for one in (machine, again):
        thread.wait(one.close(), 20)
