"""Our own code in a process of its own: which code, and with which settings."""

import os
import subprocess
import sys
from pathlib import Path

from agent import own_process


def test_it_is_the_code_of_this_folder_whatever_the_person_has_set(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "__init__.py").write_text("raise SystemExit('another agent')")
    (tmp_path / "spelled.py").write_text("raise SystemExit('of the folder that it was started in')")
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "spelled.py").write_text(
        "import sys, agent\ndef main(*words):\n  print(*words, agent.__file__, sys.flags.isolated)\n  return 3\n"
    )
    command = list(own_process.command(own_process.code("spelled"), "a b", "--c"))
    assert command[0] == sys.executable and command[4] == str(Path(__file__).parents[1])
    # The module lies elsewhere here; a path is only added by what is executed.
    command[3] = f"import sys; sys.path.insert(0, {str(ours)!r}); {command[3]}"
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": "x"}
    done = subprocess.run(
        command, env={**env, **own_process.ENV}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout == f"a b --c {own_process.ROOT / 'agent' / '__init__.py'} 1\n"


def test_it_needs_no_more_than_its_little_environment() -> None:
    code = "import sys; sys.path.pop(); print(sys.argv[2:])"
    done = subprocess.run(
        own_process.command(code, "x"), env=own_process.ENV, cwd="/", capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("['x']\n", "")
