"""A controller in a process of its own, that goes on when the terminal is closed.

Takes an opened campaign; comes back when the process leads the campaign, with all there to begin with, or says why
it does not.
"""

import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import CaddieError
from agent.leading import LEADING
from agent.runners import cores
from agent.setting import Setting
from agent.store.lease import held_by

START_S = 60.0  # in which a controller takes its campaign, on a machine that is busy
OPEN_S = 300.0  # and then asks those of whom machines are rented
LOOK_S = 0.1
TAIL = 2_000  # characters of the log that are shown


@dataclass(frozen=True)
class Begun:
    """A campaign that was handed to a process of its own."""

    campaign: str
    pid: int
    log: str
    running: bool
    """Else it has ended already, and all is well."""

    def words(self) -> str:
        if not self.running:
            return f"{self.campaign} ran in the background and has ended already (log {self.log})."
        return (
            f"{self.campaign} runs in the background (pid {self.pid}, log {self.log}).\n"
            "  agent watch    to look at it     agent stop    to end it"
        )


def detach(setting: Setting) -> Begun:
    """Starts it and sees it at work. Raises CaddieError when it ended before it was."""
    name, log = setting.campaign.name, setting.folder / "agent.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    cores.release()  # they are to be the child's
    with log.open("ab") as out:
        before = out.tell()
        with setting.store.read() as reads:
            seen = reads.newest_event(setting.campaign.id)
        child = subprocess.Popen(
            [sys.executable, "-I", "-m", "agent.cli", "resume", name],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd=setting.repo.root,
        )
    code = _until_at_work(child, setting, seen)
    setting.store.close()
    if code:
        raise CaddieError(f"{name} did not start (exit code {code}):\n{_tail(log, before)}")
    return Begun(name, child.pid, str(log), running=code is None)


def _until_at_work(child: "subprocess.Popen[bytes]", setting: Setting, seen: int) -> int | None:
    """Waits until it holds the campaign, and has all that it needs: None then, or what it ended with before."""
    name, until, held = setting.campaign.name, time.monotonic() + START_S, False
    while time.monotonic() < until:
        with setting.store.read() as reads:
            holds = held_by(reads.connection, f"campaign {name}") == child.pid
            if holds and any(one.what == LEADING for one in reads.events(setting.campaign.id, after=seen)):
                return None
        if holds and not held:
            held, until = True, time.monotonic() + OPEN_S
        with suppress(subprocess.TimeoutExpired):
            return child.wait(LOOK_S)
    raise CaddieError(
        f"process {child.pid} has not begun with {name} after {OPEN_S if held else START_S:.0f} s; it may yet: "
        "`agent status` tells"
    )


def _tail(log: Path, start: int) -> str:
    """The end of what was written to the log from there on."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - TAIL))
        return file.read().decode("utf-8", "replace").strip() or f"it said nothing; see {log}"
