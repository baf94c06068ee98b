"""All the text that a script runs, of its own file and of those that lie beside it.

Takes a folder that a stranger made, the script's name and the names of what lies there; gives `Source`s, the script
first. Nothing is executed. What is run and can't be looked at is a `Source` that says why.
"""

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from agent.judge import folder
from agent.judge.rules import static
from agent.judge.rules.payload import Source, unpack

MODULES = (".py", ".pyc", ".so", ".pyd")
MOST_FILES = 64
# Where a script finds out only when it runs what it imports, that may be any of them.
_ANY = ("import_module", "__import__", "importlib", "runpy")


def sources(where: Path, name: str, files: Collection[str]) -> tuple[Source, ...]:
    """Layers of the script, of files that it executes, and of modules beside it that these import."""
    data = folder.read(where, name)
    if data is None:
        return ()
    found = unpack(name, data, static.LONGEST_OWN)
    for source in found[:]:
        for beside in source.runs_files[:4]:
            path = str(PurePosixPath(name).parent / beside)
            inner = folder.read(where, path)
            found += unpack(beside, inner, _left(found)) if inner is not None and path != name else ()
    seen = {name}
    while more := [path for path in _imported(found, files) if path not in seen]:
        for path in more:
            if len(seen) > MOST_FILES:
                return (*found, _unread(path, "there are too many"))
            found += _module(where, path, found)
            seen.add(path)
    return found


def _left(found: Sequence[Source]) -> int:
    return max(0, static.LONGEST_OWN - sum(len(one.text) for one in found))


def _imported(found: Sequence[Source], files: Collection[str]) -> list[str]:
    """By any part of the name that is imported: from where it looks for modules, nobody knows."""
    parts = {
        part
        for source in found
        if source.parsed is not None
        for module, _ in source.parsed.names.imported
        for part in module.split(".")
    }
    any_of_them = any(word in source.text for source in found for word in _ANY)
    modules = [path for path in sorted(files) if path.endswith(MODULES)]
    return [path for path in modules if any_of_them or _module_name(path) in parts]


def _module_name(path: str) -> str:
    name = PurePosixPath(path).name.partition(".")[0]
    return PurePosixPath(path).parent.name if name == "__init__" else name


def _module(where: Path, path: str, found: Sequence[Source]) -> tuple[Source, ...]:
    data = folder.read(where, path) if path.endswith(".py") else None
    return (_unread(path, "it is no text"),) if data is None else unpack(path, data, _left(found))


def _unread(path: str, why: str) -> Source:
    return Source(path, "", None, f"{path[:200]}, which it may import, was not looked at: {why}")
