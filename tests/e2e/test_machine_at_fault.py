"""What the machine did to a check is not held against the idea that was checked."""

import subprocess
from pathlib import Path

import pytest

from agent import training
from agent.errors import EditError, InfraError
from agent.loop import Loop
from agent.steps import agenda
from tests.e2e import world
from tests.e2e.planning import by_title, worse

PACKED = world.TRACK.replace("pack = false", "pack = true")
Command = list[str]


def packer(monkeypatch: pytest.MonkeyPatch, code: int, said: str, times: int) -> None:
    """Ends as it is told, so many times for each of the texts of `worse 1`."""
    run, left = subprocess.run, [times]

    def ended(command: Command, **more: object) -> "subprocess.CompletedProcess[bytes]":
        if left[0] and '"rate": 0.0001' in Path(command[-2]).read_text("utf-8"):
            left[0] -= 1
            return subprocess.CompletedProcess(command, code, b"", f"{command[-2]}: {said}\n".encode())
        return run(command, **more)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(training.subprocess, "run", ended)


@pytest.mark.parametrize("times", [2, 99])
def test_a_packer_that_was_killed_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    root = world.make_workspace(tmp_path / "work", track=PACKED)
    world.write_ideas(root, [worse(1), worse(2)])
    setting = world.open_campaign(root)
    monkeypatch.setattr(agenda, "EVERY_S", 0.0)
    packer(monkeypatch, -9, "", times)
    assert Loop(setting).run().reason == "the planner has no more ideas"
    found = by_title(setting)
    with setting.store.read() as reads:
        ran = [title for title in found if reads.runs(setting.campaign.id, proposal_id=found[title].id)]
    assert ran == (["base", "worse 1", "worse 2"] if times < 3 else ["base", "worse 2"])
    if times > 2:
        assert found["worse 1"].state == "cancelled"
        assert found["worse 1"].reason == "could not be checked 3 times: the packer was ended by signal 9"


def test_a_full_disk_is_no_fault_of_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = '"rate": 0.0001'
    with monkeypatch.context() as patched:
        packer(patched, 2, "[Errno 28] No space left on device", 1)
        with pytest.raises(InfraError, match="No space left on device"):
            training.pack(tmp_path / "packed", source)
    with monkeypatch.context() as patched:
        packer(patched, 2, "no Python", 1)
        with pytest.raises(EditError, match="the script can't be packed: no Python"):
            training.pack(tmp_path / "packed", source)
