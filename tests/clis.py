"""Where the real claude and codex are, and whether they can be run here: only where no network can be reached."""

import shutil
from pathlib import Path

import pytest

BIN = Path(__file__).resolve().parents[1] / ".venv" / "agent-clis" / "node_modules" / ".bin"
KEY = "sk-standin-0123456789abcdef"


def offline() -> bool:
    names = Path("/proc/net/dev")
    return names.is_file() and [text.split(":")[0].strip() for text in names.read_text().splitlines()[2:]] == ["lo"]


def missing() -> str:
    if not shutil.which("node"):
        return "node is missing"
    if not all((BIN / name).exists() for name in ("claude", "codex")):
        return "the agent CLIs are not installed (make clis, which needs npm)"
    return "" if offline() else "a network can be reached, so the agent CLIs could call out (make clis)"


needs_clis = [pytest.mark.clis, pytest.mark.skipif(bool(missing()), reason=missing())]
