"""What is asked of RunPod, in which order, and the timer that ends a pod by itself."""

import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.errors import UserError
from agent.machines.records import Candidate, NoCapacity
from agent.runners.rented import deadman
from agent.runners.runpod.client import Client
from agent.runners.runpod.pods import beside, body, candidates
from agent.runners.runpod.settings import Settings
from tests.runpod import H100, KEY, PLACES, StandIn

PCIE, H200 = "NVIDIA H100 PCIe", "NVIDIA H200"
NAME = "caddie-00000000-c1-m1"
UNTIL = datetime(2026, 11, 1, 20, 0, tzinfo=UTC)


def asked(stand: StandIn, settings: Settings, gpus: int = 1, **more: object) -> list[tuple[str, str]]:
    client = Client(KEY, stand.url, sleep=stand.sleep)
    found = candidates(settings, gpus, client.gpus(gpus, settings.cloud), client.volumes(), **more)  # type: ignore[arg-type]
    client.close()
    return [(one.kind, one.place) for one in found]


def test_the_cheapest_that_is_in_stock_is_asked_first(stand: StandIn) -> None:
    both = Settings(gpu=(H200, H100, PCIE))
    assert asked(stand, both) == [(PCIE, ""), (H100, ""), (H200, "")]
    stand.none_left = {(PCIE, "")}
    assert asked(stand, both) == [(H100, ""), (H200, ""), (PCIE, "")]  # stock may change: it is still asked
    here = Settings(gpu=(H100, PCIE), data_centers=PLACES[:2])
    stand.none_left = {(PCIE, PLACES[0])}
    assert asked(stand, here) == [(PCIE, PLACES[1]), (H100, PLACES[0]), (H100, PLACES[1]), (PCIE, PLACES[0])]
    assert asked(stand, here, avoid={(PCIE, PLACES[1])})[-1] == (PCIE, PLACES[1])


def test_a_volume_says_where(stand: StandIn) -> None:
    assert asked(stand, Settings(volume="vol1")) == [(H100, "EU-RO-1")]
    with pytest.raises(UserError, match=r"no network volume 'vol2'; there are: vol1 \(data\)"):
        asked(stand, Settings(volume="vol2"))
    with pytest.raises(UserError, match="lies in EU-RO-1"):
        asked(stand, Settings(volume="vol1", data_centers=("US-TX-3",)))


def test_what_can_not_be_had_is_said(stand: StandIn) -> None:
    with pytest.raises(UserError, match=r"no GPU 'NVIDIA H100 80GB'\. Did you mean 'NVIDIA H100 80GB HBM3'"):
        asked(stand, Settings(gpu=("NVIDIA H100 80GB",)))
    with pytest.raises(NoCapacity, match="with 16 GPUs"):
        asked(stand, Settings(), gpus=16)


@pytest.mark.parametrize(
    "wrong",
    [{"gpus": (H100,)}, {"gpu": ()}, {"cloud": "COMMUNITY", "volume": "vol1"}, {"usd_per_day": 0.0}, {"start": "a;b'"}],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(wrong)


def test_a_request_is_as_described(stand: StandIn) -> None:
    for settings in (Settings(), Settings(volume="vol1", disk_gb=20)):
        place = "EU-RO-1" if settings.volume else ""
        made = body(settings, "ssh-ed25519 AAAA", Candidate(H100, 8, place, 28.0), NAME, UNTIL, 3600.0)
        if stand.schemas is not None:
            assert stand.schemas.errors("CreatePodRequest", made) == []
        client = Client(KEY, stand.url, sleep=stand.sleep)
        pod = client.create(made)
        client.close()
        assert pod.gpu is not None and (pod.gpu.count, pod.cost) == (8, pytest.approx(27.92))
    assert KEY not in str(made)


def timer(folder: Path, until: int, lease_s: int) -> subprocess.Popen[bytes]:
    script = deadman.timer(NAME, until, lease_s, end='touch "$HOME/over"; exit 0', every_s=0.05)
    return subprocess.Popen(["sh", "-c", script], env={"HOME": str(folder), "PATH": "/usr/bin:/bin"})


def test_a_pod_ends_by_itself_at_its_time(tmp_path: Path) -> None:
    for until, lease_s in ((int(time.time()) - 5, 3600), (2**31, 0)):  # the renter's clock, or the lease
        running = timer(tmp_path, until, lease_s)
        assert running.wait(20) == 0 and (tmp_path / "over").exists()
        (tmp_path / "over").unlink()
        (tmp_path / ".caddie" / f"until-{NAME}").unlink()


def test_the_timer_is_moved_by_the_pods_own_clock(tmp_path: Path) -> None:
    running = timer(tmp_path, int(time.time()) + 3600, 3600)
    file = tmp_path / ".caddie" / f"until-{NAME}"
    while not file.exists():
        time.sleep(0.01)
    before = int(file.read_text())
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    subprocess.run(["sh", "-c", deadman.rearm(NAME, 7200)], env=env, check=True)
    assert int(file.read_text()) - before > 3500 and running.poll() is None
    file.write_text("not a time")  # then the time that it began with counts
    subprocess.run(["sh", "-c", deadman.rearm(NAME, -1)], env=env, check=True)
    assert running.wait(20) == 0 and (tmp_path / "over").exists()


def test_what_the_image_starts_goes_on_beside_the_timer(tmp_path: Path) -> None:
    command = beside("touch /proc/self/cwd/started")
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "CADDIE_TIMER": 'touch "$HOME/timer"'}
    subprocess.run(["sh", "-c", command], env=env, check=True, cwd=tmp_path)
    deadline = time.monotonic() + 20
    while not (tmp_path / "timer").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (tmp_path / "timer").exists() and (tmp_path / "started").exists()


def test_only_names_of_machines_are_put_into_a_shell() -> None:
    for name in ("", "a b", "$(reboot)", '"', "a/b"):
        with pytest.raises(ValueError, match="no name of a machine"):
            deadman.rearm(name, 1.0)
