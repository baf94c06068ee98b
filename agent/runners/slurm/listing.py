"""The hash of a folder's files, by which a corpus is named.

Takes a folder; gives a sha256 of names and contents, where files are small, and of names and sizes beside a manifest,
where they are not. Standard library only, because nodes compute it too.
"""

import hashlib
from pathlib import Path

WHOLE = 2_000_000_000  # bytes of a folder that is read whole


def sha(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    whole = sum(path.stat().st_size for path in files) <= WHOLE
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        if whole or path.name == "manifest.json":
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
