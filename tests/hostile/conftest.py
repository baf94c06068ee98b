"""What hostile code can't do: everything in this folder has the marker `walls` and is run by `make walls`."""

from pathlib import Path

import pytest

from tests.confining import Lab

HERE = Path(__file__).parent


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "out").mkdir()
    return Lab(tmp_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("walls")
