"""The shared folder of a cluster, seen from here: code, data and jobs go there, logs and results come back.

Takes a `Shell` on a machine that sees the folder; gives `Depot`. What is sent is named by its content, so nothing is
sent twice; what comes back is hostile, and bounded.

    FOLDER/code/SHA/           Caddie's own code
    FOLDER/data/SHA/           a corpus
    FOLDER/reference/SHA/      scores of an earlier run, for an audit
    FOLDER/jobs/KEY/rN-TOKEN/  one job
"""

import base64
import functools
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.errors import InfraError
from agent.runners.far import code
from agent.runners.slurm import porter
from agent.runners.slurm.shell import Shell
from agent.strict import from_json

PORTER = Path(porter.__file__).read_text("utf-8")
SEND_S = 3600.0
MOST_WORDS = 200  # a command line has its bounds


class Wanted(NamedTuple):
    """A job to look at: where it is, and how many bytes of each log are here."""

    folder: str
    logs: Mapping[str, int]


class Look(NamedTuple):
    """What there was to see of a job."""

    there: bool
    marks: frozenset[str]
    beat: bytes
    logs: Mapping[str, bytes]


class Depot:
    def __init__(self, shell: Shell, folder: str, python: str) -> None:
        self._shell = shell
        self.folder = folder
        self._python = python
        self._sent: set[str] = set()

    def send(self, kind: str, sha: str, tar: "Tar") -> str:
        """Where content of this name lies; it is sent, if it is not there."""
        path = f"{self.folder}/{kind}/{sha}"
        if path not in self._sent:
            if self._ask("lacks", path).strip():
                self.put(f"{self.folder}/{kind}", {sha: tar})
            self._sent.add(path)
        return path

    def put(self, root: str, folders: Mapping[str, "Tar"]) -> None:
        """Folders, each whole or not at all; one that is there stays as it is."""
        files = {f"{at}/{name}": content for at, tar in folders.items() for name, content in tar.files.items()}
        empty = [f"{at}/{name}" for at, tar in folders.items() for name in tar.folders]
        self._ask("put", root, stdin=Tar(files, empty)(), within_s=SEND_S)

    def look(self, jobs: Mapping[str, Wanted]) -> dict[str, Look]:
        """At many jobs with one question. Those that it says nothing of that can be read are left out."""
        if not jobs:
            return {}
        asked = json.dumps({job: {"folder": one.folder, "logs": dict(one.logs)} for job, one in jobs.items()})
        looks: dict[str, Look] = {}
        for line in self._ask("look", stdin=asked.encode()).decode("utf-8", "replace").splitlines():
            try:
                ((job, found),) = from_json(line).items()  # type: ignore[attr-defined]
                looks[job] = _look(found, jobs[job])
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
        return looks

    def fetch(self, folder: str, most: Mapping[str, int], known: Mapping[str, int]) -> dict[str, bytes]:
        """Plain files of a folder, by name; those are left out that are not there, or have more bytes than `most`.
        Of some the first bytes are known.

        Raises:
            InfraError: it can't be told what is there.
        """
        sizes = {name: known.get(name, 0) for name in most}
        parts: dict[str, list[bytes]] = {}
        wanted = set(most)
        while wanted:
            said = self._ask("give", folder, stdin=json.dumps({n: [sizes[n], most[n]] for n in wanted}).encode())
            pieces = _pieces(said, wanted, folder)
            for name, (size, piece) in pieces.items():
                if size is None:
                    parts.pop(name, None)
                    wanted.discard(name)
                    continue
                parts.setdefault(name, []).append(piece)
                sizes[name] += len(piece)
                if sizes[name] >= size:
                    wanted.discard(name)
            if wanted and not any(piece for _, piece in pieces.values()):
                raise InfraError(f"{folder}: {', '.join(sorted(wanted))} can't be read to the end")
        return {name: b"".join(pieces) for name, pieces in parts.items()}

    def mark(self, paths: Iterable[str]) -> None:
        """Makes empty files."""
        self._ask("mark", *paths)

    def names(self, folder: str) -> list[str]:
        return self._ask("list", folder).decode("utf-8", "replace").split()

    def drop(self, paths: Sequence[str]) -> None:
        for at in range(0, len(paths), MOST_WORDS):
            self._ask("drop", *paths[at : at + MOST_WORDS])

    def _ask(self, verb: str, *words: str, stdin: bytes = b"", within_s: float = 120.0) -> bytes:
        said = self._shell.run((self._python, "-I", "-c", PORTER, verb, *words), stdin, within_s=within_s)
        if said.rc != 0:
            raise InfraError(f"{self.folder}: {verb}: {said.err.strip()[-300:] or f'ended with {said.rc}'}")
        return said.out


class Tar:
    """Files as one stream of bytes, the same for the same files."""

    def __init__(self, files: Mapping[str, Path] | Mapping[str, Path | bytes], folders: Iterable[str] = ()) -> None:
        self.files: dict[str, Path | bytes] = {**files}
        self.folders = tuple(folders)

    def __call__(self) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for name in self.folders:
                info = tarfile.TarInfo(name)
                info.type, info.mode = tarfile.DIRTYPE, 0o700
                tar.addfile(info)
            for name, content in sorted(self.files.items()):
                data = content if isinstance(content, bytes) else content.read_bytes()
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(data), 0o600
                tar.addfile(info, io.BytesIO(data))
        return out.getvalue()

    def sha(self) -> str:
        """Of names and contents."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            data = content if isinstance(content, bytes) else content.read_bytes()
            digest.update(f"{name}\0{len(data)}\0".encode())
            digest.update(data)
        return digest.hexdigest()


@functools.cache
def own_code() -> Tar:
    """Caddie itself, as it runs here."""
    return Tar(code.own(judging=True))


def folder_tar(folder: Path) -> Tar:
    return Tar({str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()})


def _look(found: object, wanted: Wanted) -> Look:
    """Raises one of several errors for what the porter does not say."""
    marks = frozenset(str(mark) for mark in found["marks"]) & frozenset(porter.MARKS)  # type: ignore[index]
    beat = base64.b64decode(found["beat"], validate=True)[: porter.SMALL]  # type: ignore[index]
    logs = {name: base64.b64decode(found["logs"][name], validate=True)[: porter.PIECE] for name in wanted.logs}  # type: ignore[index]
    return Look(bool(found["there"]), marks, beat, logs)  # type: ignore[index]


def _pieces(said: bytes, wanted: Iterable[str], folder: str) -> dict[str, tuple[int | None, bytes]]:
    """Size and next piece of each file. Raises InfraError for an answer that is none."""
    head, _, rest = said.partition(b"\n")
    pieces: dict[str, tuple[int | None, bytes]] = {}
    try:
        found = from_json(head.decode("utf-8", "replace"))
        for name, (size, length) in found.items():  # type: ignore[attr-defined]
            if not isinstance(length, int) or not 0 <= length <= len(rest) or not isinstance(size, int | None):
                raise ValueError(name)
            pieces[name], rest = (size, rest[:length]), rest[length:]
        return {name: pieces[name] for name in wanted}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InfraError(f"{folder}: what is said of its files can't be read") from error
