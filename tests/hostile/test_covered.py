"""What of the kernel's own files, which tell of everybody, a box shows."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox import Confined, Policy, bubblewrap, fence, stack
from sandbox.bubblewrap import Box
from sandbox.layout import DEVICES
from sandbox.seen import seen
from tests.confining import Lab, boxed
from tests.processes import linux

pytestmark = [linux, boxed]
LOOK = """
import json, os, sys
def content(path):
    try:
        return os.listdir(path) if os.path.isdir(path) else open(path).read()
    except OSError:
        return None
print(json.dumps([content(path) for path in json.loads(sys.argv[1])]))
"""


def policy(folder: Path, gpus: tuple[int, ...] = ()) -> Policy:
    common = seen(())
    return Policy(str(folder), (), common.programs, common.hidden, common.packages, gpus=gpus)


def shown(tmp_path: Path, box: Box, paths: list[str], *gpus: int) -> dict[str, Any]:
    """What is there for who is in a box: names, text, or nothing."""
    out, log = tmp_path / "out", tmp_path / "log"
    out.mkdir()
    command = ("/usr/bin/python3", "-I", "-S", "-c", LOOK, json.dumps(paths))
    rules, limits = policy(out, gpus), Lab(tmp_path).limits()
    found = stack(rules)
    walls = replace(found, box=box, uid=found.uid if box.setpriv else None)
    ended = Confined(command, cwd=out, env={}, limits=limits, log=log, folder=out, policy=rules, walls=walls).wait()
    assert ended.ok, log.read_text()
    return dict(zip(paths, json.loads(log.read_text()), strict=True))


@pytest.mark.parametrize("box", bubblewrap.boxes())
def test_no_box_is_told_which_pages_come_back(tmp_path: Path, box: Box) -> None:
    there = [path for path in ("/proc/vmstat", "/proc/zoneinfo", "/proc/pressure") if os.path.exists(path)]  # noqa: PTH110
    assert "/proc/vmstat" in there
    found = shown(tmp_path, box, [*there, "/proc/meminfo"])
    assert "MemAvailable" in str(found.pop("/proc/meminfo"))
    assert [path for path, content in found.items() if content] == []


@pytest.mark.parametrize("box", bubblewrap.boxes())
def test_a_run_with_gpus_sees_devices_and_nothing_else_of_the_kernels(tmp_path: Path, box: Box) -> None:
    counts = [str(path) for path in Path("/sys/devices/system/node").glob("node*/vmstat")]
    found = shown(tmp_path, box, ["/sys", "/sys/class", "/sys/devices/system/cpu/online", *counts], 0)
    assert set(found["/sys"]) == {Path(path).name for path in DEVICES if Path(path).exists()}
    assert found["/sys/class"] and found["/sys/devices/system/cpu/online"]
    assert all(not found[path] for path in counts)


def test_at_level_landlock_a_run_with_gpus_reads_devices_alone(tmp_path: Path) -> None:
    for rules in (policy(tmp_path), policy(tmp_path, (0,))):
        of_sys = {path for path in fence.readable(rules) if path.is_relative_to("/sys") and path.parts[2] != "devices"}
        assert of_sys == ({Path("/sys", name) for name in ("bus", "class", "dev", "module")} if rules.gpus else set())
