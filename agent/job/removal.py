"""Takes a folder away, whatever hostile code has put into it.

Takes a path; gives nothing. What can't be removed stays. Standard library only, because the shepherd loads it.
"""

import subprocess
from pathlib import Path


def remove(folder: Path) -> None:
    """`rm` minds neither depth nor names, and follows no link; a candidate may have taken our rights."""
    if _run("rm", "-rf", "--", str(folder)):
        _run("chmod", "-R", "u+rwX", "--", str(folder))
        _run("rm", "-rf", "--", str(folder))


def _run(*command: str) -> int:
    quiet = subprocess.DEVNULL
    return subprocess.run(command, check=False, stdin=quiet, stdout=quiet, stderr=quiet).returncode
