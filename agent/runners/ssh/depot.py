"""What a far machine is sent: blobs named by their sha256, each once, and the trees that are laid of them.

Takes files of this machine; gives `Tree`, and sends over a `Wire` what is lacking there. A transfer that breaks goes
on at the byte where it broke.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.errors import InfraError, UserError
from agent.reach import fineweb_folder
from agent.runners.far import code
from agent.runners.far.environment import Kit
from agent.runners.ssh import far
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.link import Refused, Unreachable, Wire, broken, read_most
from agent.strict import from_json
from agent.track import Track
from trainer.data.manifest import load

SOURCE = Path(far.__file__).read_text("utf-8")
SMALL = 1 << 20  # bytes; what is smaller is sent together with others
BLOCK = 1 << 18
PUT_S = 120.0  # without a byte taken or a word said
How = Literal["link", "copy", "anew"]


@dataclass(frozen=True)
class Tree:
    """Files by their path in a tree, each with its sha256, and where they lie here."""

    files: Mapping[str, str]
    sources: Mapping[str, Path]

    @property
    def name(self) -> str:
        lines = "".join(f"{path} {sha}\n" for path, sha in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def blobs(self) -> dict[str, Path]:
        return {sha: self.sources[path] for path, sha in self.files.items()}


def tree_of(files: Mapping[str, Path]) -> Tree:
    """Reads every file once."""
    return Tree({path: _sha(file) for path, file in files.items()}, dict(files))


@functools.cache
def own_code(*, judging: bool) -> Tree:
    """Caddie itself, as it runs here; for training without what judges."""
    return tree_of(code.own(judging=judging))


def training_data(track: Track, corpus: Path) -> Tree:
    """What training reads, by the sums of the corpus' own manifest; never the validation side."""
    if track.data.corpus == "none":
        return Tree({}, {})
    manifest = load(corpus, verify=False)
    files = (*manifest.train.files, *manifest.extra)
    if track.data.corpus == "fineweb":
        place = f"datasets/{fineweb_folder(track)}/fineweb_train_"
        files = tuple(file for file in files if file.path.startswith((place, "tokenizers/")))
    return Tree({file.path: file.sha256 for file in files}, {file.path: corpus / file.path for file in files})


def validation_text(track: Track, corpus: Path) -> frozenset[str]:
    """The sums of what is in no file of a far machine: documents that are scored, and the hidden ones."""
    if track.data.corpus == "none":
        return frozenset()
    manifest = load(corpus, verify=False)
    hidden = () if manifest.hidden is None else manifest.hidden.files
    return frozenset(file.sha256 for file in (*manifest.val.files, *hidden))


async def call(
    link: Wire, verb: str, *words: str, stdin: bytes = b"", within_s: float = 120.0, python: str = "", folder: str = ""
) -> dict[str, object]:
    """One verb of far.py, to its end. `python`: by another one than the machine's own; `folder`: in another one."""
    words = command(link.host, verb, *words, python=python, folder=folder)
    done = await link.run(*words, stdin=stdin, within_s=within_s)
    if done.rc == 127 or (done.rc and not done.out):
        raise Refused(f"{link.host.name}: no {python or link.host.python} there that works: {done.err.strip()[-300:]}")
    return answer(done.out, link.host)


def command(host: SshHost, verb: str, *words: str, python: str = "", folder: str = "") -> tuple[str, ...]:
    return (python or host.python, "-I", "-c", SOURCE, folder or host.folder, verb, *words)


def answer(line: bytes, host: SshHost) -> dict[str, object]:
    """A line of far.py. Raises InfraError where it says what went wrong, or is none."""
    try:
        found = from_json(line.decode("utf-8", "replace"))
    except ValueError as error:
        raise InfraError(f"{host.name} does not answer in our words: {error}") from error
    if not isinstance(found, dict) or "error" in found:
        words = str(found.get("error", "") if isinstance(found, dict) else found)[:500]
        raise InfraError(f"{host.name}: {words}")
    return found


async def send(link: Wire, blobs: Mapping[str, Path], folder: str = "") -> int:
    """Sends what is lacking there; gives the bytes that went over. `folder`: another one than the machine's own."""
    sizes = {sha: path.stat().st_size for sha, path in blobs.items()}
    asked = json.dumps(list(sizes.items())).encode()
    lacking = (await call(link, "want", stdin=asked, folder=folder)).get("lacking")
    wanted = [sha for sha in lacking if sha in blobs] if isinstance(lacking, list) else []
    small = [sha for sha in wanted if sizes[sha] < SMALL]
    sent = await _puts(link, {sha: blobs[sha] for sha in small}, folder) if small else 0
    for sha in wanted:
        if sizes[sha] >= SMALL:
            sent += await _put(link, sha, blobs[sha], sizes[sha], folder)
    return sent


async def lay(link: Wire, tree: Tree, how: How, name: str = "", folder: str = "") -> str:
    """Its folder there. `link`: its files are the blobs themselves; `anew`: whatever is there under the name goes."""
    files = json.dumps(dict(tree.files)).encode()
    told = await call(link, "lay", name or tree.name, how, stdin=files, within_s=600, folder=folder)
    return str(told.get("tree"))


async def equip(link: Wire, kit: Kit) -> str:
    """The Python there of an environment with the packages of a kit, whose wheels were sent."""
    asked = json.dumps({"lock": kit.lock, "wheels": dict(kit.shas)}).encode()
    return str((await call(link, "equip", kit.name, stdin=asked, within_s=1800)).get("python"))


async def _puts(link: Wire, blobs: Mapping[str, Path], folder: str) -> int:
    data = {sha: path.read_bytes() for sha, path in blobs.items()}
    head = json.dumps([[sha, len(one)] for sha, one in data.items()]).encode() + b"\n"
    await call(link, "puts", stdin=head + b"".join(data.values()), within_s=600, folder=folder)
    return sum(map(len, data.values()))


async def _put(link: Wire, sha: str, path: Path, size: int, folder: str) -> int:
    import asyncio

    process = await link.open(*command(link.host, "put", sha, str(size), folder=folder))
    try:
        async with asyncio.timeout(PUT_S):
            at = _offset(answer(await process.stdout.readline(), link.host), size)
        began = at
        with path.open("rb") as file:
            file.seek(at)
            while data := file.read(BLOCK):
                process.stdin.write(data)
                async with asyncio.timeout(PUT_S):
                    await process.stdin.drain()
                at += len(data)
        process.stdin.write_eof()
        if began < size:
            async with asyncio.timeout(PUT_S + size / 1e8):
                answer(await read_most(process.stdout, 65536), link.host)
        return at - began
    except (OSError, TimeoutError, broken()) as error:
        link.drop()
        raise Unreachable(f"{link.host.name}: a transfer broke: {error or type(error).__name__}") from error
    finally:
        process.close()


def _offset(told: Mapping[str, object], size: int) -> int:
    at = told.get("at")
    if not isinstance(at, int) or not 0 <= at <= size:
        raise InfraError("a machine says that it has more of a file than there is")
    return at


def _sha(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"can't read {path}, which a far machine needs: {error}") from error
