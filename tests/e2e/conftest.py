"""A person's repository with a script, a track and work of his own in it."""

from pathlib import Path

import pytest

from tests.e2e import world


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return world.make_workspace(tmp_path / "a person's folder é")
