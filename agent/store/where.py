"""Where the store of a workspace is: runs.db in it, or the server that `--store` or CADDIE_STORE names.

Takes a workspace; gives a path or a URL for `open_store`. A URL stays in the environment of this process, whose
passwords are kept from language models and never written down.
"""

import os
from pathlib import Path

from agent.errors import UserError
from agent.store.open import Store, open_store

VARIABLE = "CADDIE_STORE"
HOW = f"--store or {VARIABLE} takes a URL such as postgresql://USER@HOST/DATABASE"


def server() -> str | None:
    """The URL that machines share a store by, if one was named."""
    url = os.environ.get(VARIABLE, "").strip()
    if url and "://" not in url:
        raise UserError(f"{url!r} is no database URL: {HOW}; a workspace's own runs.db needs neither")
    return url or None


def name(url: str) -> None:
    """As typed; all that is opened from now on is there."""
    os.environ[VARIABLE] = url


def place(root: Path) -> Path | str:
    return server() or root / "runs.db"


def opened(root: Path) -> Store:
    """The store that is there; StoreError if none is."""
    return open_store(place(root), create=False)


def is_there(root: Path) -> bool:
    """Whether anything was made there; a server is asked when it is opened."""
    return server() is not None or os.path.lexists(root / "runs.db")
