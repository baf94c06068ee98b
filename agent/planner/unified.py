"""Unified diffs, read strictly: how git and many models write an edit.

Takes the planner's text; gives one `Change` per hunk, not yet looked up in a file. Line numbers may be
missing (`@@ @@`), but where counts are given they must be right, or half of a diff that was cut off would be
applied.
"""

import re
from collections.abc import Collection

from agent.errors import EditError
from agent.planner.blocks import Change

HUNK = re.compile(r"@@(?: -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))?)?(?: \.\.\.)? ?@@")
REFUSED = {
    "new file mode": "makes a new file",
    "deleted file mode": "removes a file",
    "rename from": "renames a file",
    "copy from": "copies a file",
    "old mode": "changes a file's mode",
    "GIT binary patch": "is binary",
    "Binary files": "is binary",
}


def is_diff(lines: Collection[str]) -> bool:
    return any(line.startswith("@@") for line in lines) or any(line.startswith("diff --git ") for line in lines)


def read_diff(lines: list[str]) -> list[Change]:
    """All hunks of a text. Raises EditError."""
    changes: list[Change] = []
    path: str | None = None
    at = 0
    while at < len(lines):
        line = lines[at]
        for start, what in REFUSED.items():
            if line.startswith(start):
                raise EditError(f"the diff {what} ({line.strip()[:80]!r}); only lines of editable files may change")
        at += 1
        if line.startswith("--- ") and at < len(lines) and lines[at].startswith("+++ "):
            path = _path(line, lines[at])
            at += 1
        elif line.startswith("@@"):
            body = _body(lines, at)
            changes.append(_hunk(f"hunk {len(changes) + 1}", path, line, lines[at : at + body]))
            at += body
    return changes


def recounted(text: str) -> str:
    """A diff that a person has edited by hand, its headers made to say what each hunk holds now."""
    lines, told, at = text.split("\n"), list[str](), 0
    while at < len(lines):
        match, at = HUNK.match(lines[at]), at + 1
        if match is None or match[1] is None:
            told.append(lines[at - 1])
            continue
        many = _body(["@@ @@", *lines[at:]], 1)
        while many and lines[at + many - 1] == "" and _next_file(lines[at + many :]):
            many -= 1  # a blank line between two files
        body = lines[at : at + many]
        plain = [line[:1] for line in body if not line.startswith("\\")]
        old, new = (sum(sign != other for sign in plain) for other in "+-")
        told += [f"@@ -{match[1]},{old} +{match[3]},{new} @@{lines[at - 1][match.end() :]}", *body]
        at += many
    return "\n".join(told)


def _next_file(lines: list[str]) -> bool:
    """Whether another file's part of a diff begins here, after blank lines or none."""
    first = next((line for line in lines if line), "")
    return first.startswith(("diff --git ", "--- "))


def _path(minus: str, plus: str) -> str:
    old, new = (line[4:].split("\t")[0].strip() for line in (minus, plus))
    if "/dev/null" in (old, new):
        raise EditError("the diff makes or removes a file (/dev/null); only lines of editable files may change")
    old, new = old.removeprefix("a/"), new.removeprefix("b/")
    if old != new:
        raise EditError(f"the diff renames {old} to {new}; only lines of editable files may change")
    return new


def _body(lines: list[str], start: int) -> int:
    """How many lines belong to the hunk that starts here. Counts decide: a line may look like a header."""
    counts = _counts(lines[start - 1])
    old, new = counts if counts else (-1, -1)
    at = start
    while at < len(lines):
        line = lines[at]
        if line.startswith("\\"):
            at += 1
            continue
        if counts and old <= 0 and new <= 0:
            break
        if line.startswith(("@@", "diff --git ")):
            break
        if not counts and line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            break
        if line[:1] not in ("", " ", "+", "-") or line.startswith("```"):
            break
        if line == "" and not counts and not any(rest.strip() for rest in lines[at:]):
            break  # the text's last newline
        old -= line[:1] != "+"
        new -= line[:1] != "-"
        at += 1
    return at - start


def _counts(header: str) -> tuple[int, int] | None:
    match = HUNK.match(header)
    if match is None or match[1] is None:
        return None
    return int(match[2] or 1), int(match[4] or 1)


def _hunk(name: str, path: str | None, header: str, body: list[str]) -> Change:
    match = HUNK.match(header)
    if match is None:
        raise EditError(f"{name}: can't read its header {header.strip()[:80]!r}; write `@@ -10,6 +10,7 @@`, or `@@ @@`")
    plain = [line for line in body if not line.startswith("\\")]
    old = tuple(line[1:] for line in plain if line[:1] != "+")
    new = tuple(line[1:] for line in plain if line[:1] != "-")
    counts = _counts(header)
    if counts and counts != (len(old), len(new)):
        raise EditError(
            f"{name}: its header says {counts[0]} old and {counts[1]} new lines, it holds {len(old)} and "
            f"{len(new)}: it is cut off or miscounted. Send it whole, or with a bare `@@ @@`."
        )
    before = [body[i - 1][:1] for i, line in enumerate(body) if line.startswith("\\") and i]
    said = bool(before)
    return Change(
        name,
        path,
        old,
        new,
        int(match[1]) if match[1] else None,
        any(sign != "+" for sign in before) if said else None,
        any(sign != "-" for sign in before) if said else None,
    )
