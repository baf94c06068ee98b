"""The command line: `agent COMMAND`. Each command is a few lines; what it does lives in the module it names.

`main` is the console script: errors that a person can mend are one red line and an exit code, our own faults
a short line and a crash log.
"""

import io
import signal
import sys
import traceback
from pathlib import Path

INTERRUPTED, FAULT = 130, 70


def main() -> None:
    try:
        code = _run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:  # who presses Ctrl-C once more finds it ending already
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def _run() -> int:
    from typer import Abort

    from agent.cli.app import Unread, app
    from agent.errors import CaddieError

    _printable()
    try:
        code = app(prog_name="agent", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except CaddieError as error:
        return _fail(str(error), error.exit_code)
    except Abort:
        return INTERRUPTED
    except Unread:
        _hush()
        return 0
    except Exception as error:  # the top: whatever comes here is our own fault
        return _wrong_use(error) or _refused_by_the_disk(error) or _fault(error)


def _fault(error: Exception) -> int:
    kept = f"Nothing that was recorded is lost. The details are in {_crash_log(traceback.format_exc())}"
    return _fail(f"A fault of Caddie's: {type(error).__name__}: {error}\n{kept}", FAULT)


def _wrong_use(error: Exception) -> int:
    """Says what is wrong if that is how typer says that a command was typed wrongly; else 0."""
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if callable(show) and isinstance(code, int):
        _meant(error)
        show()
        _as_json(str(getattr(error, "message", error)), code)
        return code
    return 0


def _meant(error: Exception) -> None:
    """Options that are close to one that there is not, in the words that commands and names have."""
    close = getattr(error, "possibilities", None)
    if close:
        shown = ", ".join(repr(one) for one in close)
        vars(error).update(message=f"{getattr(error, 'message', error)}. Did you mean {shown}?", possibilities=None)


def _refused_by_the_disk(error: Exception) -> int:
    """Says what is wrong if that is what a person can mend: no room, no right to write; else 0."""
    import errno

    from agent.errors import UserError

    words = {
        errno.ENOSPC: "the disk is full; make room (`agent prune --keep-gb 0` frees some), then `agent resume`",
        errno.EDQUOT: "your quota of disk space is used up; make room, then `agent resume`",
        errno.EROFS: "the file system is read-only; work in a folder that can be written",
        errno.EACCES: "this user may not do that there; mend the folder's rights or work in another one",
        errno.EIO: "the disk failed to read or write; see `dmesg`",
    }
    if isinstance(error, OSError) and error.errno in words:
        text = f"{error.filename or Path.cwd()}: {words[error.errno]}. What was recorded before is safe."
        return _fail(text, UserError.exit_code)
    return 0


def _printable() -> None:
    """A terminal that lacks a character shows a question mark instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _fail(text: str, code: int) -> int:
    """Says what is wrong; the program ends with this code."""
    _red(text)
    _as_json(text, code)
    return code


def _as_json(error: str, code: int) -> None:
    """A program that asked for JSON gets JSON, whatever happens."""
    import json

    if "--json" in sys.argv:
        print(json.dumps({"error": error, "exit_code": code}, indent=2))


def _red(text: str) -> None:
    from agent.words import colourful, plain

    shown = plain(text)
    print(f"\x1b[31m{shown}\x1b[0m" if colourful(sys.stderr) else shown, file=sys.stderr)


def _crash_log(trace: str) -> str:
    """In the workspace's .caddie if it has one, else where temporary files are."""
    import tempfile
    import time

    from agent.workspace import own_folder

    here = [own_folder(folder) for folder in (Path.cwd(), *Path.cwd().parents)]
    for folder in (*(one for one in here if one.is_dir()), Path(tempfile.gettempdir())):
        path = folder / f"crash-{time.strftime('%Y%m%d-%H%M%S')}.log"
        try:
            path.write_text(f"{' '.join(sys.argv)}\n\n{trace}", "utf-8", errors="replace")
        except OSError:
            continue
        return str(path)
    return "nowhere: no folder could be written"


def _hush() -> None:
    """The reader went away (`agent log | head`): what is left to print goes nowhere, without a complaint."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
