"""Puts and fetches files where Slurm is: the text of this file is run there, by any Python from 3.9 on.

Takes a verb and its words; reads and answers on standard input and output. What jobs wrote is read without following
links or waiting for pipes, and never more of it than was asked for. Standard library only.
"""

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
SMALL = 200_000  # bytes of a state file
PIECE = 262_144  # bytes of a log in one look
ALL = 8_000_000  # and of all together
MARKS = ("began", "started", "paused.json", "taken", "result.json", "lost.json")


def put(root: Path) -> None:
    """Makes the folders of the tar file that it is given, each whole or not at all. One that is there stays."""
    aside = root / f".tmp-{os.getpid()}-{os.urandom(4).hex()}"
    aside.mkdir(mode=0o700, parents=True)
    try:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|*") as tar:
            for member in tar:
                _unpack(tar, member, aside)
        for folder in aside.iterdir():
            try:
                folder.rename(root / folder.name)
            except OSError:
                if not (root / folder.name).is_dir():
                    raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    parts = Path(member.name).parts
    if Path(member.name).is_absolute() or ".." in parts:
        raise ValueError(f"{member.name} would lie elsewhere")
    target = into.joinpath(*parts)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
    elif member.isfile():
        target.parent.mkdir(parents=True, exist_ok=True)
        source = tar.extractfile(member)
        assert source is not None  # it is a file
        with target.open("xb") as file:
            shutil.copyfileobj(source, file)
    else:
        raise ValueError(f"{member.name} is neither a file nor a folder")


def lacks(folders: list[str]) -> None:
    """Names those that are not there, one a line."""
    print("\n".join(folder for folder in folders if not Path(folder).is_dir()))


def look() -> None:
    """At many jobs in one go. Asked: {job: {"folder": path, "logs": {name: bytes that are known}}}."""
    left = ALL
    for job, asked in json.load(sys.stdin).items():
        folder = Path(asked["folder"])
        logs, beat = {}, _read(folder / "heartbeat.json", 0, min(SMALL, left))
        left -= len(beat)
        for name, known in asked["logs"].items():
            piece = _read(folder / name, known, min(PIECE, left))
            left -= len(piece)
            logs[name] = _base64(piece)
        found = {
            "there": folder.is_dir(),
            "marks": [name for name in MARKS if _is_there(folder / name)],
            "beat": _base64(beat),
            "logs": logs,
        }
        print(json.dumps({job: found}))


def give(folder: Path) -> None:
    """Pieces of plain files that have one name. Asked: {name: [bytes that are known, the most that it may have]}.

    Answers with a line, {name: [its size, how much of it follows]}, and what follows. A size of null: there is no such
    file, or it has more bytes.
    """
    left, found, pieces = ALL, {}, []
    for name, (known, most) in json.load(sys.stdin).items():
        size, piece = _piece(folder / name, known, most, left)
        left -= len(piece)
        found[name] = [size, len(piece)]
        pieces.append(piece)
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    sys.stdout.buffer.write(b"".join(pieces))


def _piece(path: Path, known: int, most: int, left: int) -> "tuple[int | None, bytes]":
    try:
        fd = os.open(path, PLAIN)
    except OSError:
        return None, b""
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1 or info.st_size > most:
            return None, b""
        return info.st_size, os.pread(fd, min(left, max(0, info.st_size - known)), known)
    except OSError:
        return None, b""
    finally:
        os.close(fd)


def drop(paths: list[str]) -> None:
    """As agent/job/removal.py, which is not there: `rm` minds no depth, where Python would end at the first deep tree
    and leave all others; a candidate may have taken our rights. What can't be removed stays."""
    for path in paths:
        if _run("rm", "-rf", "--", path):
            _run("chmod", "-R", "u+rwX", "--", path)
            _run("rm", "-rf", "--", path)


def _run(*command: str) -> int:
    quiet = subprocess.DEVNULL
    return subprocess.run(command, check=False, stdin=quiet, stdout=quiet, stderr=quiet).returncode


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _read(path: Path, at: int, most: int) -> bytes:
    try:
        fd = os.open(path, PLAIN)
    except OSError:
        return b""
    try:
        return os.pread(fd, most, at) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def main(verb: str, *words: str) -> int:
    os.umask(0o077)  # validation text is among what lies there, and the folder is shared
    if verb == "put":
        put(Path(words[0]))
    elif verb == "lacks":
        lacks(list(words))
    elif verb == "look":
        look()
    elif verb == "give":
        give(Path(words[0]))
    elif verb == "mark":
        for path in words:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    elif verb == "list":
        print("\n".join(sorted(entry.name for entry in os.scandir(words[0]))) if Path(words[0]).is_dir() else "")
    elif verb == "drop":
        drop(list(words))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
