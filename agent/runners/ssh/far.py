"""What a far machine does before our code is there: it takes blobs, lays trees of them, makes an environment of wheels
among them, and gives files back.

Runs there as `python -I -c SOURCE ROOT VERB ...`: one file, standard library only. A blob is named by its sha256 and
checked on arrival. Several may send the same one at a time: they write the same bytes to the same places.
Answers are one line of JSON, then bytes where a verb gives some.
"""

import errno
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

BLOCK = 1 << 20
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
NEEDED = ("pydantic", "packaging", "numpy")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def main(folder: str, verb: str, *words: str) -> int:
    try:
        root = Path(folder).expanduser().resolve()
        for name in ("blobs", "parts", "trees"):
            (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        VERBS[verb](root, *words)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        say({"error": f"{type(error).__name__}: {error}"[:500]})
        return 1
    return 0


def say(answer: dict[str, object]) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


def hello(root: Path, *pins: str) -> None:
    """What this machine is, as far as plain Python can tell; `pins`: of which packages, NAME==VERSION, it is asked."""
    import importlib.util
    from importlib import metadata

    def installed(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return ""

    say(
        {
            "root": str(root),
            "boot": BOOT_ID.read_text().strip() if BOOT_ID.exists() else "",
            "python": list(sys.version_info[:2]),
            "machine": os.uname().machine,
            "lacks": [name for name in NEEDED if importlib.util.find_spec(name) is None],
            "others": [pin for pin in pins if installed(pin.partition("==")[0]) != pin.partition("==")[2]],
            "free_mb": shutil.disk_usage(root).free // 1_000_000,
        }
    )


def want(root: Path) -> None:
    """Which of the blobs that are named on stdin, [sha, size] each, are not here."""
    asked = json.loads(sys.stdin.buffer.read())
    say({"lacking": [sha for sha, size in asked if size_of(blob(root, sha)) != size]})


def put(root: Path, sha: str, size: str) -> None:
    """Says how many bytes of the blob it has, takes the rest from stdin, and keeps it if it is what its name says."""
    done, whole = blob(root, sha), int(size)
    part = root / "parts" / sha
    if size_of(done) == whole:
        say({"at": whole})
        return
    at = size_of(part) or 0
    if at > whole:
        part.unlink()
        at = 0
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        say({"at": at})
        while at < whole:
            data = os.read(0, min(BLOCK, whole - at))
            if not data:
                raise ValueError(f"the sender stopped at byte {at:,} of {whole:,}")
            at += os.pwrite(fd, data, at)
        os.fsync(fd)
        if sha_of(fd) != sha:
            part.unlink()
            raise ValueError("what came is not what its name says")
        os.fchmod(fd, 0o400)
    finally:
        os.close(fd)
    part.replace(done)
    say({"kept": sha})


def puts(root: Path) -> None:
    """Takes many small blobs in one stream: a line of [sha, size] each, then their bytes. Each is kept as it comes."""
    for sha, size in json.loads(sys.stdin.buffer.readline()):
        done = blob(root, sha)
        data = sys.stdin.buffer.read(size)
        if hashlib.sha256(data).hexdigest() != sha:
            raise ValueError(f"the sender stopped, or what came as {sha[:12]} is not what its name says")
        part = root / "parts" / f"{sha}-{os.getpid()}"
        part.write_bytes(data)
        part.chmod(0o400)
        part.replace(done)
    say({"kept": True})


def lay(root: Path, name: str, how: str) -> None:
    """Makes trees/NAME of blobs, once: {path: sha} on stdin. `copy` reads every byte again; `link` spares the disk,
    where it knows links; `anew` is a copy that takes the place of what was there."""
    files = json.loads(sys.stdin.buffer.read())
    done = root / "trees" / plain(name)
    if how == "anew":
        shutil.rmtree(done, ignore_errors=True)
    if done.is_dir():
        say({"tree": str(done)})
        return
    aside = done.with_name(f".tmp-{done.name}-{os.getpid()}")
    try:
        aside.mkdir()
        for path, sha in files.items():
            target = inside(aside, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if how != "link" or not linked(blob(root, sha), target):
                copy(blob(root, sha), target, sha)
        aside.rename(done)
    except OSError:
        if not done.is_dir():  # else somebody was faster
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    say({"tree": str(done)})


def equip(root: Path, name: str) -> None:
    """Makes envs/NAME, once: a virtual environment of wheels that are here as blobs. On stdin {"lock": its text,
    "wheels": {file: sha}}; pip checks every sha, and asks nobody else for anything."""
    import fcntl

    asked = json.loads(sys.stdin.buffer.read())
    envs = root / "envs"
    envs.mkdir(exist_ok=True)
    done = envs / plain(name)
    with (envs / f"{done.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until this process ends
        if not (done / "whole").is_file():
            _equip(root, done, asked["lock"], asked["wheels"])
            (done / "whole").touch()
    say({"python": str(done / "bin" / "python")})


def _equip(root: Path, done: Path, lock: str, wheels: "dict[str, str]") -> None:
    shutil.rmtree(done, ignore_errors=True)  # of one that was killed
    with tempfile.TemporaryDirectory(dir=root / "parts") as at:
        for file, sha in wheels.items():
            os.link(blob(root, sha), inside(Path(at), file))
        (Path(at) / "lock").write_text(lock)
        _must([sys.executable, "-I", "-m", "venv", str(done)])
        pip = [str(done / "bin" / "python"), "-I", "-m", "pip", "--isolated", "--disable-pip-version-check", "install"]
        said = ["--no-index", "--no-cache-dir", "--no-deps", "--require-hashes", "--only-binary=:all:", "--quiet"]
        _must([*pip, *said, "--find-links", at, "--requirement", str(Path(at) / "lock")])


def _must(words: "list[str]") -> None:
    ended = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ended.returncode != 0:
        said = (ended.stderr.strip() or ended.stdout.strip())[-300:].decode("utf-8", "replace")
        raise RuntimeError(f"no environment could be made ({' '.join(words[2:5])}): {said}")


def get(root: Path, path: str, offset: str, most: str) -> None:
    """A plain file under the root with one name, from a byte on; a link on the way, a pipe or a giant is refused."""
    fd = open_below(root, path)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
            raise ValueError(f"{path} is no plain file of its own")
        if info.st_size > int(most):
            raise ValueError(f"{path} has {info.st_size:,} bytes, more than {int(most):,}")
        say({"size": info.st_size})
        at = int(offset)
        while at < info.st_size and (data := os.pread(fd, min(BLOCK, info.st_size - at), at)):
            sys.stdout.buffer.write(data)
            at += len(data)
        sys.stdout.buffer.flush()
    finally:
        os.close(fd)


def tidy(root: Path, days: str) -> None:
    """Removes blobs that no tree shares and half blobs, where nobody has touched them for so long."""
    old, freed = time.time() - float(days) * 86400, 0
    for path in (*(root / "blobs").iterdir(), *(root / "parts").iterdir()):
        info = path.lstat()
        if info.st_nlink == 1 and max(info.st_mtime, info.st_ctime) < old:
            path.unlink(missing_ok=True)
            freed += info.st_size
    say({"freed": freed})


VERBS: dict[str, Callable[..., None]] = {
    "hello": hello,
    "want": want,
    "put": put,
    "puts": puts,
    "lay": lay,
    "equip": equip,
    "get": get,
    "tidy": tidy,
}


def plain(name: str) -> str:
    if not name or set(name) - set("0123456789abcdefghijklmnopqrstuvwxyz-"):
        raise ValueError(f"{name!r} is no name of ours")
    return name


def blob(root: Path, sha: str) -> Path:
    if len(sha) != 64:
        raise ValueError(f"{sha!r} is no sha256")
    return root / "blobs" / plain(sha)


def inside(folder: Path, path: str) -> Path:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} is no path inside a folder")
    return folder / path


def size_of(path: Path) -> int | None:
    try:
        info = path.lstat()
    except OSError:
        return None
    return info.st_size if stat.S_ISREG(info.st_mode) else None


def sha_of(fd: int) -> str:
    found, at = hashlib.sha256(), 0
    while data := os.pread(fd, BLOCK, at):
        found.update(data)
        at += len(data)
    return found.hexdigest()


def linked(source: Path, target: Path) -> bool:
    """Whether it is one file with two names now. Some network disks know no such thing."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        return False
    target.chmod(0o444)
    return True


def copy(source: Path, target: Path, sha: str) -> None:
    """Every byte is checked once more: nothing that was changed here is ever run."""
    shutil.copyfile(source, target)
    fd = os.open(target, os.O_RDONLY)
    try:
        if sha_of(fd) != sha:
            source.unlink()
            raise ValueError(f"blob {sha[:12]} was changed here; it has to be sent again")
    finally:
        os.close(fd)


def open_below(root: Path, path: str) -> int:
    """Step by step, so that no folder on the way can be a link."""
    *parents, last = path.split("/")
    if ".." in parents or last in ("", "..", "."):
        raise ValueError(f"{path!r} is no path of a file")
    at = os.open(root, FOLDER)
    try:
        for part in parents:
            at, above = os.open(part, FOLDER, dir_fd=at), at
            os.close(above)
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
