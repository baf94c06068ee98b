"""One door to every corpus.

Takes the name of a corpus and its folder; gives the `Manifest` of a folder that is ready.
"""

from collections.abc import Callable
from pathlib import Path

from agent.errors import UserError
from trainer.data.corpus import make_docs, place
from trainer.data.manifest import Manifest


def prepare(
    corpus: str, folder: Path, *, say: Callable[[str], None] = print, remake: bool = False
) -> Manifest:
    """The corpus in `folder`, made or downloaded if it is not there yet or is damaged."""
    folder = folder.absolute()
    if corpus == "docs":
        return place(folder, make_docs, say, remake=remake)
    raise UserError(f"no corpus {corpus!r}; there are docs, synth, fineweb")
