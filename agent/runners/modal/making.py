"""Makes what rents sandboxes, from a table's settings and the environment.

Takes settings, the store and the workspace; gives a `Renter`. Tokens are read when they are needed, and stay in memory.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from agent.machines.renting import Renter, home
from agent.runners.modal.account import account
from agent.runners.modal.sandboxes import Sandboxes
from agent.runners.modal.settings import Settings
from agent.store import Store


def renter(
    name: str, settings: Settings, store: Store, workspace: Path, environ: Mapping[str, str] = os.environ
) -> Renter:
    """Raises MissingError without tokens or without the SDK."""
    return Renter(store, Sandboxes(account(environ), settings), name, home(store), settings.limits)
