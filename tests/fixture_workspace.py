"""The fixture's campaign in a person's git repository, with the script that its ideas change.

Takes a folder where the campaign was built; gives the commit.
"""

from pathlib import Path

from tests.e2e.world import git

SCRIPT = 'TINY = {\n    "num_layers": 3,\n    "matrix_lr": 0.02,\n    "seed": 1,\n}\nprint(TINY)\n'


def commit(root: Path) -> str:
    (root / "trainer").mkdir()
    (root / "trainer" / "train_gpt.py").write_text(SCRIPT)
    (root / ".gitignore").write_text("runs.db*\n.caddie/\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "Start")
    return git(root, "rev-parse", "HEAD").strip()
