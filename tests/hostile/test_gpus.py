"""The GPU memory of a tree, with a stand-in for the driver's tool and real processes."""

import os
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from sandbox import Confined, StartError, gpus
from sandbox.gpus import Meter, Unanswered
from sandbox.limits import MIB
from tests.confining import PYTHON, Lab
from tests.processes import mentioning, until


class Driver(NamedTuple):
    """A stand-in for nvidia-smi: it prints what it finds in two files, and notes each call."""

    folder: Path

    def says(self, apps: str, gpus: str) -> None:
        for name, text in (("apps", apps), ("gpus", gpus)):
            aside = self.folder / f"{name}.new"
            aside.write_text(text)
            aside.replace(self.folder / name)

    def hangs(self) -> None:
        (self.folder / "hangs").touch()

    @property
    def calls(self) -> int:
        return len((self.folder / "calls").read_text())


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    folder = tmp_path / "driver"
    folder.mkdir()
    tool = folder / "nvidia-smi"
    tool.write_text(
        f"#!/bin/sh\ncd {folder}\nprintf x >> calls\ntest -e hangs && exec sleep 60\n"
        'case "$*" in\n'
        '"--query-compute-apps=pid,used_memory --format=csv,noheader,nounits") exec cat apps;;\n'
        '"--query-gpu=index,uuid,memory.used --format=csv,noheader,nounits") exec cat gpus;;\n'
        "esac\nexit 1\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(gpus, "EVERY_S", 0.05)
    made = Driver(folder)
    made.says("", "0, GPU-a, 100\n1, GPU-b, 1000\n")
    return made


def seen(meter: Meter, tree: set[int], size_mib: int) -> None:
    until(lambda: meter.look(tree) == size_mib * MIB)


def test_what_the_driver_says_of_the_processes_of_the_tree(driver: Driver) -> None:
    meter = Meter(None)
    assert meter.look({7}) == 0
    driver.says("7, 300\n8, 50\n9, 4000\n7, 30\n", "0, GPU-a, 5000\n1, GPU-b, 1000\n")
    seen(meter, {7, 8}, 380)
    driver.says("9, 4000\n8, [N/A]\n", "0, GPU-a, 90\n1, GPU-b, [N/A]\n")
    seen(meter, {7}, 0)
    meter.end()


@pytest.mark.parametrize("apps", ["", "0, 900\n", "[N/A], [N/A]\n", "4123456, 900\n"])
@pytest.mark.parametrize(
    ("visible", "more"), [("1", 500), ("GPU-b", 500), ("0", 20), ("0,1", 520), (None, 520), ("", 0), ("GPU-", 520)]
)
def test_where_processes_have_other_ids_it_is_what_the_gpus_gained(
    driver: Driver, apps: str, visible: str | None, more: int
) -> None:
    meter = Meter(visible)
    driver.says(apps, "0, GPU-a, 120\n1, GPU-b, 1500\n")
    seen(meter, {7}, more)
    meter.end()


def test_a_driver_that_hangs_is_not_waited_for_and_not_asked_twice(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter(None)
    driver.says("7, 300\n", "0, GPU-a, 400\n1, GPU-b, 1000\n")
    seen(meter, {7}, 300)
    driver.hangs()
    time.sleep(0.1)
    until(lambda: meter.look({7}) and meter._asked is not None and not meter._asked.over())
    calls, began = driver.calls, time.monotonic()
    for _ in range(200):
        assert meter.look({7}) == 300 * MIB  # the last that it said
    assert time.monotonic() - began < 1 and driver.calls <= calls + 2
    meter._asked._until = 0.0  # too long: it is killed, and another is asked
    (driver.folder / "hangs").unlink()
    driver.says("7, 333\n", "0, GPU-a, 400\n1, GPU-b, 1000\n")
    seen(meter, {7}, 333)
    meter.end()


def test_a_limit_that_can_not_be_kept_is_said_before_anything_starts(
    tmp_path: Path, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "FIRST_S", 0.2)
    driver.hangs()
    with pytest.raises(StartError, match="does not answer"):
        Lab(tmp_path).start("open('ran', 'w')", gpu_memory_mb=100)
    until(lambda: not mentioning(str(driver.folder)))
    (driver.folder / "hangs").unlink()
    driver.says("", "No devices were found\n")
    with pytest.raises(Unanswered, match="does not answer"):
        Meter(None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StartError, match="nvidia-smi, which is not in the PATH"):
        Lab(tmp_path).start("open('ran', 'w')", gpu_memory_mb=100)
    assert not (tmp_path / "out" / "ran").exists()


def test_too_much_ends_the_tree(tmp_path: Path, driver: Driver) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write = "open(f'{d}/n', 'w').write(f'{pid}, 300\\n'); os.rename(f'{d}/n', f'{d}/apps')"
    confined = Confined(
        (*PYTHON, f"import os, time\nd, pid = {str(driver.folder)!r}, os.getpid()\n{write}\ntime.sleep(20)"),
        cwd=out,
        env={"CUDA_VISIBLE_DEVICES": "0"},
        limits=Lab(tmp_path).limits(gpu_memory_mb=314),  # 300 MiB are more
        log=tmp_path / "log",
        folder=out,
        policy=None,
    )
    ended = confined.wait()
    assert ended.cause == "gpu-memory" and ended.wall_s < 8


def test_just_below_the_limit_goes_on(tmp_path: Path, driver: Driver) -> None:
    confined = Lab(tmp_path).start("import time; time.sleep(0.6)", gpu_memory_mb=315)
    driver.says(f"{confined.pid}, 300\n", "0, GPU-a, 400\n1, GPU-b, 1000\n")
    assert confined.wait().ok
    assert driver.calls >= 6
    until(lambda: mentioning(str(driver.folder / "nvidia-smi")) == [], what="the last of them is asking still")
