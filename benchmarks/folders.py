"""Where a benchmark works: a folder of its own, which goes when it is done."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def working_folder(name: str, inside: Path | None = None) -> Iterator[Path]:
    """In the system's temporary folder unless `inside` says where; that one is made if it is not there, and stays."""
    if inside is not None:
        inside.mkdir(parents=True, exist_ok=True)
    prefix = f"caddie-{name}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=inside, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
