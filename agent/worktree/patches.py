"""What a diff changes, wherever in a file it stands.

Takes a unified diff as git writes it; gives a digest of its hunks, to tell an approval's diff from another one.
"""

import hashlib

_PLACE = "@@ "
_BLOBS = "index "


def patch_id(diff: str) -> str:
    """The same for the same hunks, wherever they stand; empty for an empty diff. To the letter, unlike git's own
    patch-id: how far a line is indented is what it means."""
    if not diff:
        return ""
    lines = (_PLACE if line.startswith(_PLACE) else line for line in diff.split("\n") if not line.startswith(_BLOBS))
    return hashlib.sha1("\n".join(lines).encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
