"""The GPUs that a run would see: counted behind real walls, with no driver and with one that only counts."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from agent import campaign, devices, opening
from agent import track as tracks
from agent.devices import Asked, Seen
from agent.errors import InfraError, MissingError, UserError
from agent.hardware import Gpu
from agent.options import Options
from agent.runners import configured, here
from agent.runners.fleet import Fleet
from agent.runners.local import LocalRunner
from agent.track import Track
from tests.absent import absent
from tests.e2e.world import TRACK, TRIALS, make_workspace, write_ideas

# As the driver's: it knows the GPUs by the environment, and finds none where /sys is not to be seen.
DRIVER = """
#include <stdlib.h>
#include <unistd.h>
int cuInit(unsigned int flags) { return access("/sys/class", R_OK) == 0 ? 0 : 304; }
int cuDeviceGetCount(int *count) {
    const char *names = getenv("CUDA_VISIBLE_DEVICES");
    if (names == NULL) return 100;
    for (*count = 1; *names; names++) *count += *names == ',';
    return 0;
}
"""
GPUS = tuple(Gpu(number, f"GPU-{number}", "H100", 80_000) for number in range(4))
TWO = TRACK.replace('kind = "cpu"', 'kind = "cuda"\ngpus = 2')


def track(text: str = TWO) -> Track:
    return tracks.parse(text, "toy.toml")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        absent("no C compiler (apt-get install gcc)")
    folder = tmp_path_factory.mktemp("driver")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-x", "c", "-o", str(folder / "libcuda.so.1"), "-"],
        input=DRIVER.encode(),
        check=True,
    )
    return folder


def seen(runner: LocalRunner, driver: Path, slot: str = "local/0") -> Seen:
    view = devices.view(track(), runner.gpus(slot), runner.env(slot))
    policy = replace(view.policy, read=(str(driver),))
    (found,) = devices.count(
        Asked((replace(view, policy=policy, env={**view.env, "LD_LIBRARY_PATH": str(driver)}),))
    ).seen
    return found


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a driver")
def test_without_a_driver_nothing_is_started() -> None:
    with pytest.raises(MissingError) as caught:
        devices.require(track(), LocalRunner(2, GPUS, 2))
    words = str(caught.value)
    assert words.startswith("local/0: a run would see 0 CUDA devices where it needs 2 (/dev/nvidia0, /dev/nvidia1): ")
    assert "libcuda.so.1: cannot open" in words and "torch would train on the CPU" in words and "watchdog" in words


def test_the_gpus_of_a_slot_are_counted_inside(driver: Path) -> None:
    runner = LocalRunner(2, GPUS, 2)
    found = seen(runner, driver, "local/1")
    assert (found.count, found.words) == (2, "") and "watchdog" in found.walls
    assert seen(LocalRunner(1, GPUS, 3), driver).count == 3
    view = devices.view(track(), (), {})
    blind = replace(view, policy=replace(view.policy, read=(str(driver),)), env={"LD_LIBRARY_PATH": str(driver)})
    (found,) = devices.count(Asked((blind,))).seen
    # Without its name in the environment; behind strong walls /sys is not there either, as no GPU was asked for.
    assert found.count == 0 and found.words in ("CUDA's error 304", "CUDA's error 100")


def test_every_slot_must_have_its_number(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = devices.view

    def with_driver(*asked: object) -> devices.View:
        view = inside(*asked)  # type: ignore[arg-type]
        policy = replace(view.policy, read=(str(driver),))
        return replace(view, policy=policy, env={**view.env, "LD_LIBRARY_PATH": str(driver)})

    monkeypatch.setattr(devices, "view", with_driver)
    devices.require(track(), LocalRunner(2, GPUS, 2))
    monkeypatch.setattr(
        LocalRunner, "env", lambda self, slot: {"CUDA_VISIBLE_DEVICES": "a,b,c" if slot[-1] == "1" else "a,b"}
    )
    with pytest.raises(MissingError, match=r"^local/1: a run would see 3 CUDA devices where it needs 2"):
        devices.require(track(), LocalRunner(2, GPUS, 2))


def test_a_count_that_can_t_be_made_says_why() -> None:
    view = devices.view(track(), (0, 1), {})
    broken = replace(view, memory_mb=-1)
    with pytest.raises(InfraError, match=r"can't be counted: ValueError: every limit must be above 0"):
        devices.count(Asked((broken,)))


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a driver")
def test_a_campaign_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tool lists GPUs that no run would see."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    rows = "".join(f"{n}, GPU-{n}, 00000000:0{n}:00.0, NVIDIA H100, 81559\\n" for n in (1, 2))
    tool.write_text(f"#!/bin/sh\nprintf '{rows}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    root = make_workspace(tmp_path / "w", track=TWO)
    write_ideas(root, [])
    with pytest.raises(MissingError, match="a run would see 0 CUDA devices where it needs 2"):
        campaign.start(Options(track="agent.toml", planner="scripted:.ideas.jsonl", slots=1), root, print)
    assert not (root / "runs.db").exists()


def test_a_track_without_gpus_has_nothing_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "require", lambda track, runner: pytest.fail("it was counted"))
    assert here.sure_runner(track(TRACK), 1).slots == ("local/0",)


SIZES = TRIALS.replace('kind = "cpu"', 'kind = "cuda"\ngpus = 2').replace('name = "short"', 'name = "short"\ngpus = 1')


def test_a_rung_that_no_slot_is_as_large_as_is_refused_at_the_start(tmp_path: Path) -> None:
    """Else its ideas would wait for ever."""
    root = make_workspace(tmp_path / "work", track=SIZES)
    (root / "runners.toml").write_text(
        '[cluster]\nkind = "slurm"\nfolder = "/shared"\ngpus_per_node = 8\ngres = "h100"\n'
    )
    write_ideas(root, [{"title": "none", "edits": ""}])
    options = Options(track="agent.toml", planner="scripted:.ideas.jsonl", slots=1, runner="cluster", budget_hours=9.0)
    with pytest.raises(UserError, match=r"a run at rung short has 1 GPUs, .* \(2 GPUs\) alone: leave `gpus` out"):
        campaign.start(options, root, lambda text: None)
    assert not (root / "runs.db").exists()
    sizes, alike = track(SIZES), track()
    cluster = configured.make("cluster", configured.Place(sizes, 1, root, here.local_runner), {})
    local = LocalRunner(2, GPUS, *sizes.sizes()[:1], sizes.sizes()[1:])
    opening.sized(sizes, Fleet({"cluster": cluster, "local": local}))
    opening.sized(alike, cluster)
    with pytest.raises(UserError, match="no slot here will"):
        opening.sized(sizes, cluster)
