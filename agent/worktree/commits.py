"""What a commit is made of: its message, and what git is told to write it.

Takes texts that a model wrote; gives a message that forges nothing, and bytes for `git fast-import`.
"""

import re
import textwrap
import time
from collections.abc import Mapping

from agent.errors import EditError
from agent.words import line, plain
from agent.worktree.process import EMAIL, NAME


def message(subject: str, body: str, trailers: Mapping[str, str]) -> str:
    """A commit message. Line breaks and control characters of what a model wrote can't forge a trailer.

    Nor can a line of `---`, after which git looks for no trailers, but for a patch.
    """
    parts = [line(subject, 100) or "An idea"]
    parts += [textwrap.fill(line(part, 10_000), 72, break_long_words=False) for part in plain(body).split("\n\n")]
    parts = [re.sub(r"^---", "- --", part, flags=re.MULTILINE) for part in parts]
    parts.append("\n".join(f"{key}: {line(value, 500)}" for key, value in trailers.items() if value.strip()))
    return "\n\n".join(part for part in parts if part) + "\n"


def written(ref: str, parent: str, contents: Mapping[str, tuple[str, bytes]], message: str) -> bytes:
    """What fast-import is told: the commit goes on the worktree's HEAD, and its own ref keeps it."""
    parts = [
        f"commit HEAD\nmark :1\ncommitter {NAME} <{EMAIL}> {int(time.time())} +0000\n".encode(),
        *_data(message.encode("utf-8", "replace")),
        f"from {parent}\n".encode(),
    ]
    for path, (mode, content) in contents.items():
        quoted = path.replace("\\", "\\\\").replace('"', '\\"')
        parts.append(f'M {mode} inline "{quoted}"\n'.encode())
        parts += _data(content)
    parts.append(f"reset {ref}\nfrom :1\n\nget-mark :1\ndone\n".encode())
    return b"".join(parts)


def _data(content: bytes) -> tuple[bytes, bytes, bytes]:
    return f"data {len(content)}\n".encode(), content, b"\n"


def utf8(path: str, text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise EditError(f"{path} would not be UTF-8 text: {error}") from error
