"""Our own code in a process of its own: of the same folder as this process has it from, installed or not, and isolated
from the person's Python settings.

Takes a module that has a `main` of words; gives the command, and the little environment that it needs.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


def code(module: str) -> str:
    """What `python -c` is given. The first word after it is the folder of our code."""
    return f"import sys; sys.path.insert(0, sys.argv.pop(1)); from {module} import main; sys.exit(main(*sys.argv[1:]))"


def command(code: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-c", code, str(ROOT), *words)
