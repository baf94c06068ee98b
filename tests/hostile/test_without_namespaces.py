"""Where nobody may make a user namespace the next level stands and holds: on such a machine, not put up by hand."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from agent.report import doctor
from sandbox import bubblewrap, landlock, readers
from sandbox.seen import seen
from sandbox.walls import OLDEST_LANDLOCK
from tests.absent import absent
from tests.processes import linux

pytestmark = linux
ROOT = Path(__file__).parents[2]
SWITCH = Path("/proc/sys/user/max_user_namespaces")  # each user namespace has its own
# An ordinary user, in a namespace below which there are none. What it takes to switch them off goes before the command.
OFF = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--keep-caps", "sh", "-c")
THEN = f'echo 0 > {SWITCH} && exec setpriv --inh-caps=-all --ambient-caps=-all "$@"'


def off(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    return subprocess.run(
        [*OFF, THEN, "sh", *command], cwd=folder, env=env, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.slow
@pytest.mark.skipif(landlock.abi() < OLDEST_LANDLOCK, reason="this kernel has no Landlock to fall back on")
def test_the_next_level_stands_and_holds_where_namespaces_are_switched_off(tmp_path: Path) -> None:
    if not all(map(shutil.which, ("unshare", "setpriv"))) or off("true", folder=tmp_path).returncode:
        absent("no user namespace can be made here, so there is none to switch them off in")
    before = SWITCH.read_text()
    assert off("unshare", "--user", "true", folder=tmp_path).returncode != 0, "they are off"
    ended = off(sys.executable, "-m", "agent.cli", "doctor", "--json", folder=tmp_path)
    found = {one["what"]: one for one in json.loads(ended.stdout)}
    words = found["walls"]["words"]
    assert words.startswith("level landlock: ") and {"seccomp", "doorman", "twin"} <= set(
        words[16:].split(". ")[0].split(", ")
    )
    assert "bubblewrap can't make namespaces" in words or "bubblewrap is not installed" in words
    assert found["probe"]["state"] == "good" and "these should not" not in found["probe"]["words"]
    assert SWITCH.read_text() == before


@pytest.mark.skipif(os.getuid() != 0, reason="only root's runs have a user of their own")
def test_the_doctor_asks_for_walls_where_runs_would_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user must get through all folders above, which need not be those above the home of a person."""
    monkeypatch.setattr(bubblewrap, "boxes", list)
    monkeypatch.setattr(readers, "anybody", lambda policy: True)
    monkeypatch.setattr(doctor, "seen", lambda packages: seen(packages)._replace(programs=()))
    with tempfile.TemporaryDirectory() as folder:
        for mode in (0o755, 0o700):
            Path(folder).chmod(mode)
            (told,) = doctor._walls(Path(folder), probe=False)
            assert ("uid" in told.words.split(". ")[0].split(", ")) is (mode == 0o755)
