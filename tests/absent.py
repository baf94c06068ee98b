"""What a test needs and this machine lacks: the test is skipped, and says why; where CI is set, it must be there."""

import importlib
import os
from types import ModuleType
from typing import NoReturn

import pytest


def absent(why: str) -> NoReturn:
    """Also for a whole module, while it is imported."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have it: {why}")
    pytest.skip(why, allow_module_level=True)


def package(name: str, install: str = "pip install -e '.[test]'") -> ModuleType:
    """Imported."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # RuntimeError: it is there, and its C library is not
        absent(f"no {name} ({install}): {error}")
