"""Applies a planner's edits to files: every block matches exactly once, and all are applied or none.

Takes search/replace blocks (see `blocks`) or a unified diff (see `unified`) and the files; gives all files
with the edits made. What can't be applied raises EditError with a text for a model to act on. `make_edits`
goes the other way.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from agent.errors import EditError, did_you_mean
from agent.planner.blocks import Change, is_blocks, read_blocks, write_block
from agent.planner.place import Line, Place, join, locate, split
from agent.planner.unified import is_diff, read_diff
from agent.tables import MAX_FILE

MAX_EDITS = 1_000_000
MAX_CHANGES = 200


def apply(edits: str, files: Mapping[str, str], editable: Collection[str]) -> dict[str, str]:
    """All files, the edited ones replaced. Raises EditError; then nothing was applied."""
    changes = _read(edits, editable)
    by_path: dict[str, list[Change]] = {}
    faults: list[str] = []
    for change in changes:
        try:
            by_path.setdefault(_path(change, files, editable), []).append(change)
        except EditError as error:
            faults.append(str(error))
    result = dict(files)
    for path, of_file in by_path.items():
        try:
            result[path] = _edited(path, files[path], of_file)
        except EditError as error:
            faults.append(str(error))
    if faults:
        count = "The edit was not applied" if len(changes) == 1 else f"None of the {len(changes)} edits was applied"
        raise EditError(f"{count}; send all of them again, mended.\n" + "\n".join(faults))
    return result


def make_edits(path: str, before: str, after: str) -> str:
    """Edits that turn `before` into `after`: blocks with just enough context to be unique.

    Raises ValueError when the two differ in what edits can't say, such as line endings alone.
    """
    if before == after:
        return ""
    for write in (_as_blocks, _as_diff):
        text = write(path, before, after)
        try:
            if apply(text, {path: before}, [path])[path] == after:
                return text
        except EditError:
            continue
    raise ValueError(f"{path}: this change can't be written as edits")


def _read(edits: str, editable: Collection[str]) -> list[Change]:
    if len(edits) > MAX_EDITS:
        raise EditError(f"the edits have {len(edits):,} characters; at most {MAX_EDITS:,} are taken")
    if "\0" in edits or not _encodable(edits):
        raise EditError("the edits hold characters that no text file can hold (NUL or half a surrogate pair)")
    lines = [line.removesuffix("\r") for line in edits.split("\n")]
    if is_blocks(lines):
        changes = read_blocks(lines, editable)
    elif is_diff(lines):
        changes = read_diff(lines)
    else:
        raise EditError(
            "no edits found. Write blocks: a line with the file's path, `<<<<<<< SEARCH`, the lines as they "
            "are, `=======`, the lines as they shall be, `>>>>>>> REPLACE`. Or a unified diff."
        )
    if not changes:
        raise EditError("the diff has no hunks")
    if len(changes) > MAX_CHANGES:
        raise EditError(f"{len(changes)} edits at once; at most {MAX_CHANGES} are taken. One idea at a time.")
    return changes


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _path(change: Change, files: Mapping[str, str], editable: Collection[str]) -> str:
    """The file a change is for. Only the exact spelling of an editable path will do: no `..`, no link."""
    listed = ", ".join(sorted(editable))
    path = change.path
    if path is None:
        if len(editable) != 1:
            raise EditError(f"{change.name}: names no file; write its path on the line above. Editable are {listed}.")
        path = next(iter(editable))
    path = path.removeprefix("./")
    if path not in editable:
        hint = did_you_mean(path, editable)
        raise EditError(
            f"{change.name}: touches a file that is not editable: {path[:200]};{hint} editable are {listed}."
        )
    if path not in files:
        raise EditError(f"{change.name}: {path} does not exist, and new files can't be made")
    return path


def _edited(path: str, text: str, changes: list[Change]) -> str:
    lines = split(text)
    places: list[Place] = []
    faults: list[str] = []
    for change in changes:
        try:
            places.append(locate(path, lines, change, changes))
        except EditError as error:
            faults.append(str(error))
    places.sort(key=lambda place: (place.start, place.end))
    for one, two in pairwise(places):
        if two.start < one.end:
            faults.append(
                f"{one.name} and {two.name} of {path} change the same lines "
                f"({two.start + 1} to {min(one.end, two.end)}); make one of them"
            )
    if faults:
        raise EditError("\n".join(faults))
    result = join(_replaced(lines, places))
    if len(result) > MAX_FILE:
        raise EditError(f"{path} would have {len(result):,} characters; at most {MAX_FILE:,} are allowed")
    return result


def _replaced(lines: list[Line], places: list[Place]) -> list[Line]:
    """The file's lines with all places replaced; line endings stay as they were, also at the very end."""
    ends = [line.end for line in lines if line.end]
    usual = "\r\n" if ends.count("\r\n") * 2 > len(ends) else "\n"
    open_end = bool(lines) and lines[-1].end == ""
    result: list[Line] = []
    at = 0
    for place in places:
        result += lines[at : place.start]
        old = lines[place.start : place.end]
        head, tail = _alike([line.text for line in old], place.new)
        middle = old[head : len(old) - tail]
        end = (middle[0].end if middle else "") or usual
        result += old[:head]  # byte for byte, line endings too
        result += [Line(text, end) for text in place.new[head : len(place.new) - tail]]
        result += old[len(old) - tail :]
        at = place.end
        open_end = place.open_end if place.open_end is not None else open_end
    result += lines[at:]
    if not result:
        return []
    *most, last = result
    closed = [line if line.end else Line(line.text, usual) for line in most]
    return [*closed, Line(last.text, "" if open_end else last.end or usual)]


def _alike(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """How many lines at the start and at the end are the same."""
    most = min(len(old), len(new))
    head = 0
    while head < most and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < most - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return head, tail


def _as_blocks(path: str, before: str, after: str) -> str:
    old, new = [[line.text for line in split(text)] for text in (before, after)]
    spans: list[tuple[int, int, int, int]] = []
    for i1, i2, j1, j2 in _differing(old, new):
        i1, i2, j1, j2 = _grown(old, i1, i2, j1, j2)
        if spans and i1 <= spans[-1][1]:
            first = spans.pop()
            i1, j1 = first[0], first[2]
            i2, j2 = max(i2, first[1]), max(j2, first[3])
        spans.append((i1, i2, j1, j2))
    return "".join(write_block(path, old[i1:i2], new[j1:j2]) for i1, i2, j1, j2 in spans)


def _differing(old: list[str], new: list[str]) -> Iterator[tuple[int, int, int, int]]:
    """Where the two differ. Most edits are few lines of a long file, and only what lies between them is matched."""
    head, tail = _alike(old, new)
    matcher = difflib.SequenceMatcher(None, old[head : len(old) - tail], new[head : len(new) - tail], autojunk=False)
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        if kind != "equal":
            yield head + i1, head + i2, head + j1, head + j2


def _grown(old: list[str], i1: int, i2: int, j1: int, j2: int) -> tuple[int, int, int, int]:
    """Takes lines around in, in turn, until the old lines occur once in the file."""
    before = True
    while not (i1 < i2 and any(old[i1:i2]) and _occurs_once(old, i1, i2)):
        if i1 == 0 and i2 == len(old):
            break
        if (before and i1 > 0) or i2 == len(old):
            i1, j1 = i1 - 1, j1 - 1
        else:
            i2, j2 = i2 + 1, j2 + 1
        before = not before
    return i1, i2, j1, j2


def _occurs_once(lines: list[str], i1: int, i2: int) -> bool:
    wanted = lines[i1:i2]
    size = i2 - i1
    return sum(lines[at] == wanted[0] and lines[at : at + size] == wanted for at in range(len(lines) - size + 1)) == 1


def _as_diff(path: str, before: str, after: str) -> str:
    parts = [f"--- a/{path}", f"+++ b/{path}"]
    old, new = [[f"{line.text}\n" if line.end else line.text for line in split(text)] for text in (before, after)]
    for line in list(difflib.unified_diff(old, new, n=3))[2:]:
        parts += [line[:-1]] if line.endswith("\n") else [line, "\\ No newline at end of file"]
    return "\n".join([*parts, ""])
