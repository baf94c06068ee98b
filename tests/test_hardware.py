"""What nvidia-smi says of a machine, and what is said of one that says nothing."""

from pathlib import Path

import pytest

from agent import hardware
from agent.report import doctor

SILENT = {
    "it fails": "#!/bin/sh\nexit 18\n",
    "it hangs": "#!/bin/sh\nexec sleep 60\n",
    "it is no program": "\x7fELF",
}


def tool(folder: Path, text: str) -> None:
    folder.joinpath("nvidia-smi").write_text(text)
    folder.joinpath("nvidia-smi").chmod(0o755)


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.parametrize("text", SILENT.values(), ids=SILENT)
def test_a_tool_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(hardware, "ANSWERS_S", 0.5)
    tool(tmp_path, text)
    assert hardware.listed() is None and hardware.gpus() == ()
    check = doctor._machine()
    assert check.state == "note" and "nvidia-smi does not answer" in check.words


def test_what_it_lists(tmp_path: Path) -> None:
    tool(tmp_path, "#!/bin/sh\necho '0, GPU-a, 00000000:01:00.0, NVIDIA H100, 81559'\n")
    assert hardware.gpus() == (hardware.Gpu(0, "GPU-a", "NVIDIA H100", 81559),)
    tool(tmp_path, "#!/bin/sh\necho No devices were found\nexit 6\n")
    assert hardware.listed() == () and "no NVIDIA GPU" in doctor._machine().words
