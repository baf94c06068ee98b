"""The pinned host keys: whatever happens while one is written, it is whole or not there."""

import os
import signal
from pathlib import Path

import pytest

from agent.runners.ssh.pins import Pins
from tests.disks import fill, small_disk
from tests.e2e.terminal import needs_mounts
from tests.renting import killed

KEY, OTHER = "ssh-ed25519 AAAA", "ssh-ed25519 BBBB"


def test_the_first_key_is_the_machines(tmp_path: Path) -> None:
    pins = Pins(tmp_path / "hosts")
    assert pins.holds("lab/box", KEY) and pins.holds("lab/box", KEY) and not pins.holds("lab/box", OTHER)
    assert pins.file("lab/box").read_text() == f"{KEY}\n"
    assert [path.name for path in (tmp_path / "hosts").iterdir()] == ["lab.box.pub"]
    pins.file("lab/box").unlink()
    pins.file("lab/box").symlink_to(tmp_path / "elsewhere")
    assert not pins.holds("lab/box", KEY) and not (tmp_path / "elsewhere").exists()


@needs_mounts
def test_a_full_disk_makes_no_stranger_of_a_machine(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        pins = Pins(disk / "hosts")
        filler = fill(disk)
        with pytest.raises(OSError, match="No space left"):
            pins.holds("lab/box", KEY)
        filler.unlink()
        assert pins.holds("lab/box", KEY) and not pins.holds("lab/box", OTHER)
        assert [path.name for path in (disk / "hosts").iterdir()] == ["lab.box.pub"]


def test_nor_does_a_kill_before_the_key_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = Pins(tmp_path)

    def cut_off() -> None:
        monkeypatch.setattr(os, "fsync", lambda fd: os.kill(os.getpid(), signal.SIGKILL))
        pins.holds("lab/box", KEY)

    assert killed(cut_off)
    assert pins.holds("lab/box", KEY)
    pins.file("lab/old").touch()  # as an earlier version left it
    assert pins.holds("lab/old", KEY) and not pins.holds("lab/old", OTHER)
