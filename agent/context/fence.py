"""Text of others inside a prompt: fenced as data, so that it is seen where it ends and nothing of it is invisible.

Takes text of candidates, models, reviewers, logs or file names; gives a block between two tags that the text does not
contain. The same text has the same tags. prompts/system.md.j2 says what the block means.
"""

import hashlib
import re
import unicodedata
from itertools import count

from agent.words import line, without_escapes

MOST = 400_000  # characters
_SPECIAL = re.compile(r"[^\n\t\x20-\x7e]")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Letters and marks that are drawn as nothing: fillers, joiners, selectors of variants.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_LABEL = re.compile(r"[^\w .,:/()+-]")


def fence(label: str, text: str, *, most: int = MOST) -> str:
    """The text as a block of data. `label` says what it is; it may name a stranger's file."""
    shown = visible(text[:most]).strip("\n")
    if len(text) > most:
        shown += f"\n[{len(text) - most:,} more characters are left out]"
    tag = _tag(shown)
    holds = _LABEL.sub("?", line(visible(label), 80))
    return f'<{tag} holds="{holds}">\n{shown}\n</{tag}>'


def visible(text: str) -> str:
    """Without terminal escapes; characters that are not seen, or turn the direction of reading, are spelt out."""
    return _SPECIAL.sub(_spelt, without_escapes(text))


def _spelt(found: re.Match[str]) -> str:
    char = found[0]
    if char == "\r":
        return "\n"  # a progress bar that was drawn over itself
    if unicodedata.category(char) in _UNSEEN or _BLANK.match(char):
        return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
    return char


def _tag(text: str, digits: int = 10) -> str:
    """A name that the text does not contain, even if its author knows how names are made."""
    names = ("data-" + hashlib.sha256(f"{n}\n{text}".encode()).hexdigest()[:digits] for n in count())
    return next(name for name in names if name not in text)
