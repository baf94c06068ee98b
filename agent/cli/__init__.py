"""The command line: `agent COMMAND`. Each command is a few lines; what it does lives in the module it names."""

import sys


def main() -> None:
    """Console script: one red line and an exit code for what a person can mend, a crash log for what we must."""
    from agent.cli.app import app
    from agent.errors import CaddieError

    try:
        app()
    except CaddieError as error:
        _red(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        _red(f"{type(error).__name__}: {error}")
        _red(f"This is a fault of Caddie's. Nothing is lost; the details are in {_crash_log()}")
        sys.exit(70)


def _red(text: str) -> None:
    from agent.report.words import plain

    plain_text = plain(text)
    if sys.stderr.isatty():
        plain_text = f"\x1b[31m{plain_text}\x1b[0m"
    print(plain_text, file=sys.stderr)


def _crash_log() -> str:
    import tempfile
    import time
    import traceback
    from pathlib import Path

    folder = Path(".caddie") if Path(".caddie").is_dir() else Path(tempfile.gettempdir())
    path = folder / f"crash-{time.strftime('%Y%m%d-%H%M%S')}.log"
    path.write_text(traceback.format_exc(), "utf-8")
    return str(path)
