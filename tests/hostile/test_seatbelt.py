"""The profile for macOS as text, and who gets it: a program that stands in for sandbox-exec, as there is none here."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sandbox import Confined, Limits, NoWalls, Policy, StartError, level, seatbelt, seen, walls
from sandbox.walls import Stack

# Writes down what it is given, then does what sandbox-exec does after it has put up the wall.
STAND_IN = """#!{python} -IS
import json, os, sys
with open({said!r}, "w") as file:
    json.dump({{"argv": sys.argv[1:], "env": dict(os.environ)}}, file)
os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    for name in ("code", "lib/packages/numpy", "real", "out"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    names = ("lib/packages/numpy", "lib", "link")
    programs = tuple(str(tmp_path / name) for name in names)
    hidden = (str(tmp_path / "lib" / "packages"),)
    return Policy(str(tmp_path / "out"), (str(tmp_path / "code"),), programs, hidden, minimum="seatbelt")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it says what it was given."""
    said = tmp_path / "said"
    mac(tmp_path, monkeypatch, STAND_IN.format(python=Path(sys.executable).resolve(), said=str(said)))
    return said


def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None) -> None:
    """This machine as if it were one, with this program or with none."""
    program = tmp_path / "sandbox-exec"
    if script is not None:
        program.write_text(script)
        program.chmod(0o755)
    monkeypatch.setattr(seatbelt, "PROGRAM", program)
    monkeypatch.setattr(seatbelt, "sys", SimpleNamespace(platform="darwin", executable=sys.executable))
    monkeypatch.setattr(walls, "sys", SimpleNamespace(platform="darwin"))
    seatbelt._trial.cache_clear()
    walls.why_not.cache_clear()
    monkeypatch.setattr(walls, "_box", lambda open_to_all: None)
    monkeypatch.setattr(walls, "_filters", lambda loopback, pinned: False)


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    seatbelt._trial.cache_clear()
    walls.why_not.cache_clear()


def confined(tmp_path: Path, policy: Policy, *argv: str) -> Confined:
    return Confined(
        argv,
        cwd=tmp_path / "out",
        env={"SEED": "3"},
        limits=Limits(10, None, 400, 20, 2, 20),
        log=tmp_path / "log",
        folder=tmp_path / "out",
        policy=policy,
    )


def test_the_profile_of_a_policy(tmp_path: Path, policy: Policy) -> None:
    lines = seatbelt.profile(policy).splitlines()
    assert lines[:2] == ["(version 1)", "(deny default)"]
    files = [line for line in lines if "subpath" in line]
    top = tmp_path.resolve()
    assert files == [
        f'(allow file-read* (subpath "{top}/code"))',
        f'(allow file-read* (subpath "{top}/lib"))',
        f'(deny file-read* (subpath "{top}/lib/packages"))',
        f'(allow file-read* (subpath "{top}/lib/packages/numpy"))',
        f'(allow file-read* (subpath "{top}/real"))',
        f'(allow file-read* file-write* (subpath "{top}/out"))',
    ]
    # Nothing is allowed everywhere but what has no path: of files there is always a filter.
    bare = [line for line in lines if line.count("(") == 1]
    assert bare == [
        "(version 1)",
        "(deny default)",
        "(allow process-exec)",
        "(allow process-fork)",
        "(allow sysctl-read)",
    ]
    named = {line.split('"')[1] for line in lines if "file-read-metadata" in line}
    assert {"/", str(top), f"{top}/lib", f"{top}/lib/packages", f"{top}/link"} <= named
    assert not {f"{top}/lib/packages/other", f"{top}/log"} & named
    assert '(allow file-read* file-write-data (literal "/dev/null"))' in lines


def test_loopback_only_where_processes_talk_to_each_other(policy: Policy) -> None:
    assert "network" not in seatbelt.profile(policy)
    rules = [line for line in seatbelt.profile(replace(policy, loopback=True)).splitlines() if "network" in line]
    assert len(rules) == 3 and all('ip "localhost:*"' in rule for rule in rules)


def test_a_path_can_say_no_rule_of_its_own() -> None:
    nasty = '/data/a"))(allow default)(x "\\'
    policy = Policy("/out", (nasty,))
    (line,) = [line for line in seatbelt.profile(policy).splitlines() if "subpath" in line and "data" in line]
    assert line == r'(allow file-read* (subpath "/data/a\"))(allow default)(x \"\\"))'
    with pytest.raises(OSError, match="control character"):
        seatbelt.profile(Policy("/out\n(allow default)", ()))


def test_it_is_chosen_on_macos_and_gets_the_whole_command(tmp_path: Path, policy: Policy, stand_in: Path) -> None:
    assert walls.stack(policy) == Stack("seatbelt", ("seatbelt", "may-outlive"))
    run = confined(tmp_path, policy, sys.executable, "-I", "-S", "-c", "print('inside')")
    assert run.wait().ok, (tmp_path / "log").read_text()
    assert "seatbelt" in run.walls and level(run.walls) == "seatbelt"
    said = json.loads(stand_in.read_text())
    profile = seatbelt.profile(policy)
    assert said["argv"] == ["-p", profile, sys.executable, "-I", "-S", "-c", "print('inside')"]
    assert said["env"].pop("LC_CTYPE", None) in (None, "C.UTF-8") and said["env"] == {"SEED": "3"}
    assert (tmp_path / "log").read_text() == "inside\n"


def test_a_path_that_it_can_t_be_told_starts_nothing(tmp_path: Path, policy: Policy, stand_in: Path) -> None:
    with pytest.raises(StartError, match="control character"):
        confined(tmp_path, replace(policy, read=(str(tmp_path / "a\tb"),)), sys.executable, "-c", "never")
    assert "never" not in json.loads(stand_in.read_text())["argv"]


def test_a_track_must_accept_it(policy: Policy, stand_in: Path) -> None:
    with pytest.raises(NoWalls, match=r'never tried, .* minimum = "seatbelt" under \[sandbox\]'):
        walls.stack(replace(policy, minimum="landlock"))
    assert walls.stack(replace(policy, minimum="pod")).level == "seatbelt"


@pytest.mark.parametrize(
    ("script", "why"),
    [("#!/bin/sh\necho no such rule: sysctl-read >&2\nexit 65\n", "no such rule"), (None, "No such file")],
)
def test_where_it_does_not_work_it_stops_nobody_s_first_run(
    tmp_path: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch, script: str | None, why: str
) -> None:
    mac(tmp_path, monkeypatch, script)
    assert walls.stack(replace(policy, minimum="base")).level == "base"
    with pytest.raises(NoWalls, match=f"sandbox-exec: .*{why}"):
        walls.stack(policy)


def test_elsewhere_it_is_not_there(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seatbelt.fault() == ""
    monkeypatch.setattr(seatbelt, "sys", SimpleNamespace(platform="linux"))
    assert seatbelt.fault() == "it is for macOS"


def test_what_macos_keeps_elsewhere_is_seen_there_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def matching(folder: str, pattern: str) -> list[str]:
        asked.append(pattern)
        return []

    monkeypatch.setattr(seen, "_matching", matching)
    seen.seen.__wrapped__(None)
    assert "/usr/lib" in asked and "/System/Library" not in asked
    monkeypatch.setattr(sys, "platform", "darwin")
    seen.seen.__wrapped__(None)
    assert {"/usr/lib", "/System/Library", "/Library/Frameworks", "/opt/homebrew/Cellar"} <= set(asked)
