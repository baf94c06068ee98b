"""What a script runs of other files: modules beside it are looked at as it is, and what can't be is said."""

from pathlib import Path

import pytest

from agent.job.folder import JobPaths
from agent.judge import exhibits
from agent.judge.shipped import MOST_FILES, sources

HELPER = "import pickle\nimport requests\n\n\ndef load(f):\n    return pickle.load(f)\n"


def folder(root: Path, **files: str) -> Path:
    for name, text in {"submission.json": "{}", **files}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def signs(root: Path) -> set[tuple[int, str]]:
    return {(one.rule, one.name) for one in exhibits.of_path(root).case.signs}


@pytest.mark.parametrize(
    ("script", "helper"),
    [
        ("import helper\n", "helper.py"),
        ("from helper import load\n", "helper.py"),
        ("from lib.helper import load\n", "lib__helper.py"),
        ("import lib\n", "lib__init.py"),
        ("import importlib\nimportlib.import_module('hel' + chr(112) + 'er')\n", "helper.py"),
        ("import first\n", "helper.py"),  # which first.py imports
    ],
)
def test_what_a_script_imports_from_beside_it_is_looked_at_too(tmp_path: Path, script: str, helper: str) -> None:
    files = {"train_gpt.py": script, helper: HELPER, "first.py": "import helper\n"}
    root = folder(tmp_path / "sub", **files)
    (root / "lib" / "init.py").is_file() and (root / "lib" / "init.py").rename(root / "lib" / "__init__.py")
    assert {(22, "network_import"), (25, "unpickles")} <= signs(root)


def test_what_nobody_imports_is_not_held_against_it(tmp_path: Path) -> None:
    root = folder(tmp_path / "sub", **{"train_gpt.py": "import numpy\n", "helper.py": HELPER})
    assert signs(root) == set() and exhibits.of_path(root).case.read


def test_what_is_imported_and_can_not_be_read_is_said(tmp_path: Path) -> None:
    root = folder(tmp_path / "sub", **{"train_gpt.py": "import fast\n"})
    (root / "fast.cpython-312-x86_64-linux-gnu.so").write_bytes(b"\x7fELF")
    found = exhibits.of_path(root).case
    assert not found.read and "fast.cpython-312" in found.signs[0].words and "it is no text" in found.signs[0].words
    many = [f"m{number}.py" for number in range(2 * MOST_FILES)]
    root = folder(tmp_path / "many", **{"train_gpt.py": "import importlib\n", **dict.fromkeys(many, "x = 1\n")})
    read = sources(root, "train_gpt.py", ["train_gpt.py", *many])
    assert len(read) == MOST_FILES + 2 and "there are too many" in read[-1].why
    assert not exhibits.of_path(root).case.read


def test_the_script_of_a_run_is_the_one_that_its_track_names(tmp_path: Path) -> None:
    """Not the only one at the top of a repository."""
    paths = JobPaths(tmp_path / "r1")
    folder(paths.code, **{"setup.py": "import requests\n", "src__train.py": "import pickle\n"})
    (paths.code / "submission.json").unlink()
    assert exhibits.of_job(paths.folder).case.script == "setup.py"
    found = exhibits.of_job(paths.folder, script="src/train.py").case
    assert found.script == "src/train.py" and [one.name for one in found.signs] == ["pickle"]
