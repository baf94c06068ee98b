"""What leading a campaign takes of this process: the lease, its signals, the machines that it rents, its memory.

Takes a setting; a `Leading` is under way while the loop works. It counts how often a person interrupted, and says what
could not be given back.
"""

import gc
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from agent.errors import CaddieError, StoreError
from agent.interrupts import interruptible
from agent.llm.meter import write_off
from agent.machines import reaping
from agent.runners.fleet import Closes, Joins
from agent.setting import Setting
from agent.store.lease import Lease, hold

LEADING = "leading"  # the event that says who does, once all is there to begin with


class Leading:
    """Of one controller of one campaign."""

    def __init__(self, setting: Setting) -> None:
        self.interrupts = 0
        """Ctrl-C once; a SIGTERM, or a terminal that is closed, twice."""
        self.left = ""
        """What could not be given back."""
        self._setting = setting
        self._opening = False

    @contextmanager
    def under_way(self) -> Iterator[Lease]:
        """From the lease to the last machine; what a killed controller left is put right before."""
        setting = self._setting
        with (
            hold(setting.store, f"campaign {setting.campaign.name}") as lease,
            self._interruptible(),
            self._given_back(),
            _unwalked(),
        ):
            self._open()
            setting.repo.sweep(setting.campaign.name)
            setting.runner.sweep(setting.jobs)
            with setting.store.write() as tx:
                write_off(tx, setting.campaign.id, "its controller was killed")
                tx.add_event(setting.campaign.id, LEADING, f"process {os.getpid()} on {socket.gethostname()}")
            yield lease

    def _open(self) -> None:
        """What is rented is looked after by whoever leads, and by nobody else: it would end what it has no run for."""
        setting, self._opening = self._setting, True
        try:
            reaping.before(setting.store, setting.repo.root, setting.campaign)
            if isinstance(setting.runner, Joins):
                setting.runner.opened(setting.store, setting.campaign)
        finally:
            self._opening = False

    @contextmanager
    def _given_back(self) -> Iterator[None]:
        """Whatever the end is, what is idle and costs money is given back; and what could not be is said beside it."""
        ended_by: BaseException | None = None
        try:
            yield
        except BaseException as error:
            ended_by = error
            raise
        finally:
            if isinstance(self._setting.runner, Closes):
                try:
                    self._setting.runner.close()
                except CaddieError as left:
                    self._leave(str(left), ended_by)

    def _leave(self, left: str, ended_by: BaseException | None) -> None:
        """What could not be given back takes nothing from how the campaign ended."""
        if isinstance(ended_by, CaddieError):
            ended_by.args = (f"{ended_by}\n{left}",)
        elif ended_by is not None:
            ended_by.add_note(left)
        else:
            self.left = left
            with suppress(StoreError), self._setting.store.write() as tx:
                tx.add_event(self._setting.campaign.id, "machine", left)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C once: finish what runs. Twice, a SIGTERM, or a terminal that is closed: cancel it, settle, exit; and
        while it is being opened, which may wait long for a provider, leave it as it is."""

        def interrupt(number: int, frame: FrameType | None) -> None:
            self.interrupts += 1 if number == signal.SIGINT else 2
            if self._opening and self.interrupts > 1:
                raise KeyboardInterrupt

        with interruptible(interrupt):
            yield


@contextmanager
def _unwalked() -> Iterator[None]:
    """What has been loaded stays as long as the loop does: the collector does not walk through it over and over."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
