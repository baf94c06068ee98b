"""The stand-in for SkyPilot, put on the path: its file in a folder of the test, its clock moved from here."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent / "sky_standin"


class Sky:
    def __init__(self, file: Path) -> None:
        self.file = file

    @contextmanager
    def state(self) -> Iterator[dict[str, Any]]:
        from sky import standin

        with standin.opened() as state:
            yield state

    def clock(self) -> datetime:
        with self.state() as state:
            return datetime.fromtimestamp(time.time() + state["ahead"], UTC)

    def advance(self, seconds: float) -> None:
        with self.state() as state:
            state["ahead"] += seconds

    sleep = advance

    def fault(self, call: str, fault: str) -> None:
        """Of the next call; of every one where the call is *."""
        with self.state() as state:
            state["faults"].append([call, fault])

    def mended(self) -> None:
        with self.state() as state:
            state["faults"] = []

    def living(self) -> dict[str, dict[str, Any]]:
        """Clusters that cost money now, by name."""
        from sky import standin

        with self.state() as state:
            standin._ends(state)
            return {name: one for name, one in state["clusters"].items() if one["ended"] is None}

    def reckoned(self, disk_per_hour: float = 0.0) -> float:
        """Dollars of all clusters there ever were, as SkyPilot reckons them, and their disks."""
        from sky import standin

        with self.state() as state:
            rows = standin.cost_report(state)
        return sum(one["total_cost"] + disk_per_hour * one["duration"] / 3600 for one in rows)

    def calls(self) -> list[str]:
        with self.state() as state:
            return list(state["calls"])


@contextmanager
def stands_in(file: Path) -> Iterator[Sky]:
    """In place of a SkyPilot that may be installed here."""
    with pytest.MonkeyPatch.context() as patch:
        _forget()
        patch.syspath_prepend(str(HERE))
        patch.setenv("SKY_STANDIN", str(file))
        patch.setenv("SKYPILOT_DISABLE_USAGE_COLLECTION", "1")
        yield Sky(file)
        _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name == "sky" or name.startswith("sky.")]:
        del sys.modules[name]
