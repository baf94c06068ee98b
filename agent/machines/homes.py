"""Where a database lies, by which its machines get their names: one that was moved keeps them, a copy gets others.

Takes a store, or what was written of a place; gives words. Beside the path stands the number of the file: it goes along
where the file is moved, and no copy has it.
"""

from pathlib import Path

from agent.store import Store


def home(store: Store) -> str:
    return store.where if store.path is None else f"{store.path.resolve()} {store.path.stat().st_ino}"


def lies_there(place: str) -> bool:
    """Whether the file that had this home has it still, as far as this machine can see."""
    path, _, number = place.rpartition(" ")
    try:
        return number.isdecimal() and Path(path).stat().st_ino == int(number)
    except OSError:
        return False


def moved(before: str, now: str) -> bool:
    """Whether what lay at the one place lies at the other: the same file, and there no more."""
    number = before.rpartition(" ")[2]
    return number.isdecimal() and number == now.rpartition(" ")[2] and not lies_there(before)
