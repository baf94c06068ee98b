"""What a run sees of its machine: its own files, the packages that are listed, and as little as can be of the rest."""

import os
import site
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path, PurePath

import pytest

from agent import opening, reach
from agent import track as tracks
from agent.errors import UserError
from agent.runners.local import LocalRunner
from sandbox import bubblewrap, stack
from sandbox.layout import doors
from sandbox.policy import reaches
from sandbox.seen import SYSTEM_PACKAGES, Seen, _places, seen
from sandbox.walls import Stack
from tests.confining import Lab, boxed, policy, run
from tests.judging import toy
from tests.processes import linux
from trainer.data.sources import VALIDATED

ROOT = Path(__file__).parents[2]
pytestmark = linux


@pytest.mark.parametrize("where", ["namespaces", "landlock"])
def test_only_listed_packages_can_be_imported(lab: Lab, where: str) -> None:
    put_up = None if where == "namespaces" else Stack("landlock", ("landlock", "seccomp"))
    tries = (
        "import numpy\nfor name in NAMES:\n  try: __import__(name); print('GOT', name)\n  except ImportError: pass\n"
    )
    names = [*VALIDATED, "agent", "trainer", "sandbox"]
    said = run(lab, f"NAMES = {names}\n{tries}print('end')", policy(lab.folder / "out", "numpy"), put_up)
    assert said == "end\n"


@pytest.mark.parametrize("where", ["namespaces", "landlock"])
def test_no_file_of_a_validated_package_is_to_be_had_on_the_shipped_track(lab: Lab, where: str) -> None:
    track, _ = tracks.load("tiny", ROOT)
    put_up = None if where == "namespaces" else Stack("landlock", ("landlock", "seccomp"))
    rules = replace(reach.scoring(track, reach.Reach("base")), writable=str(lab.folder / "out"))
    import importlib.util

    files = [spec.origin for name in VALIDATED if (spec := importlib.util.find_spec(name)) and spec.origin]
    assert len(files) == len(VALIDATED)
    code = f"for path in {files}:\n  try: open(path).read(); print('GOT', path)\n  except OSError: pass\nprint('end')"
    assert run(lab, code, rules, put_up) == "end\n"
    assert run(lab, "import torch, numpy, sentencepiece, brotli, zstandard; print(1)", rules, put_up).endswith("1\n")


@boxed
def test_sockets_and_pipes_among_its_files_are_covered(lab: Lab) -> None:
    given = lab.folder / "given"
    (given / "deep").mkdir(parents=True)
    (given / "deep" / "text").write_text("fine")
    os.mkfifo(given / "deep" / "pipe")
    assert list(doors(str(given))) == [str(given / "deep" / "pipe")]
    code = (
        f"print(open({str(given / 'deep' / 'text')!r}).read())\n"
        f"try: open({str(given / 'deep' / 'pipe')!r}, 'rb+', 0); print('GOT')\nexcept OSError: pass"
    )
    assert run(lab, code, policy(lab.folder / "out", read=(str(given),))) == "fine\n"


@boxed
def test_what_is_read_cannot_be_written_and_what_is_its_own_can(lab: Lab) -> None:
    given = lab.folder / "given"
    given.mkdir()
    code = (
        "from pathlib import Path\nPath('mine').write_text('x')\n"
        f"try: Path({str(given / 'x')!r}).write_text('x'); print('GOT')\nexcept OSError: print('end')"
    )
    assert run(lab, code, policy(lab.folder / "out", read=(str(given),))) == "end\n"
    assert (lab.folder / "out" / "mine").read_text() == "x" and list(given.iterdir()) == []


@boxed
def test_what_the_kernel_tells_of_everybody_is_covered(lab: Lab) -> None:
    """Whoever is root by number may read what is root's, without a single capability."""
    told = [path for path, is_folder in bubblewrap.roots_alone() if not is_folder]
    assert {"/proc/kmsg", "/proc/slabinfo", "/proc/kpageflags"} <= set(told)
    rules = policy(lab.folder / "out")
    standing = replace(stack(rules), box=bubblewrap.boxes()[-1], uid=None)
    code = (
        "import os\n"
        f"for path in {told}:\n"
        "  try: print(path, open(path, 'rb').read(8))\n"
        "  except OSError: pass\n"
        "print(os.listdir('/proc/fs') if os.path.exists('/proc/fs') else [])\n"
        "try: print(os.mkdir('/proc/fs/x'))\n"
        "except OSError: pass\n"
    )
    assert run(lab, code, rules, standing) == "[]\n"


@boxed
def test_the_first_process_of_a_box_shows_nothing_of_ours(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "sk-secret")
    code = (
        "from pathlib import Path\n"
        "for name in ('cmdline', 'environ'):\n"
        "  try: print(Path('/proc/1', name).read_bytes())\n  except OSError: pass\n"
    )
    said = run(lab, code, policy(lab.folder / "out", read=(str(lab.folder / "log"),)))
    assert "--args" in said and "sk-secret" not in said and "--bind" not in said


@pytest.mark.parametrize("where", ["namespaces", "landlock"])
def test_what_is_hidden_as_a_part_is_seen_where_it_is_listed(lab: Lab, where: str) -> None:
    """As the packages of a Python without an environment of its own are, when a track allows whatever is installed."""
    put_up = None if where == "namespaces" else Stack("landlock", ("landlock", "seccomp"))
    base = lab.folder / "base"
    for name in ("lib", "packages", "other"):
        (base / name).mkdir(parents=True)
        (base / name / "file").write_text(name)
    usual = policy(lab.folder / "out")
    hidden = (*usual.hidden, str(base / "packages"), str(base / "other"))
    rules = replace(usual, programs=(*usual.programs, str(base), str(base / "packages")), hidden=hidden)
    code = (
        "from pathlib import Path\n"
        "for name in ('lib', 'packages', 'other'):\n"
        f"  try: print(Path({str(base)!r}, name, 'file').read_text())\n  except OSError: pass\n"
    )
    assert run(lab, code, rules, put_up).split() == ["lib", "packages"]


@pytest.mark.parametrize(
    "place", ["/usr/lib64/python3.12/site-packages", "/usr/lib/python3/dist-packages", "/usr/lib/pypy3/dist-packages"]
)
def test_packages_of_the_system_are_hidden_wherever_it_keeps_them(place: str) -> None:
    assert any(PurePath(place).match(pattern) for pattern in SYSTEM_PACKAGES)
    assert set(_places()) <= set(seen(()).hidden)


def test_an_environment_that_looks_into_its_base_has_its_packages_too(monkeypatch: pytest.MonkeyPatch) -> None:
    own = sysconfig.get_path("purelib")
    assert own in _places()
    monkeypatch.setattr(site, "getsitepackages", lambda: [own, "/base/packages", "/not/on/the/path"])
    monkeypatch.setattr(sys, "path", [*sys.path, "/base/packages"])
    assert "/base/packages" in _places() and "/not/on/the/path" not in _places()


def test_of_the_folder_of_a_python_no_more_is_seen_than_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a person's home, or hold settings with tokens."""
    for name in ("bin/python3", "lib/python3.11/os.py", "lib/python3.11/site-packages/x.py", "x86-linux-gnu/ld"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in (".condarc", "pip.conf", ".ssh/id", "share/keyrings/k", "etc/x", "envs/other/lib/y", "work/runs.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    found = seen.__wrapped__(())
    assert {path for path in found.programs if Path(path).is_relative_to(tmp_path)} == {
        str(tmp_path / name) for name in ("bin", "lib", "x86-linux-gnu")
    }
    assert str(tmp_path / "lib/python3.11/site-packages") in found.hidden


@pytest.mark.parametrize(
    "root, folder",
    [
        ("/usr/local/lib/mine", "/usr/local/lib"),
        ("/usr/lib", "/usr/lib"),
        ("/home/me/usr/lib", ""),
        ("/usr/local/src/mine", ""),
    ],
)
def test_no_campaign_starts_where_every_run_would_see_it(root: str, folder: str) -> None:
    track = toy("")
    assert reach.exposed(track, Path(root)) == folder
    runner = LocalRunner(1)
    if not reaches(runner.level(reach.asked(track, Path(root))), "landlock"):
        pytest.skip("no walls here")
    if folder:
        with pytest.raises(UserError, match="move the repository"):
            opening.walled(track, runner, Path(root), "scripted", unsafe=False)
    else:
        assert opening.walled(track, runner, Path(root), "scripted", unsafe=False) == ()


def test_a_workspace_among_hidden_packages_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "lib"
    monkeypatch.setattr(reach, "seen", lambda packages: Seen((str(tmp_path),), (str(inside),), ()))
    assert reach.exposed(toy(""), inside / "mine") == "" and reach.exposed(toy(""), tmp_path / "x") == str(tmp_path)
