"""What a folder holds is found, whatever is done to its names meanwhile."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox import walk
from sandbox.walk import Walk
from tests.confining import PYTHON, Lab

MB = 1_000_000
# Never twice the same name, as fast as it can, and behind it something large.
MOVING = """
import os
fds = [os.open(".", os.O_RDONLY)]
for k in range(DEEP):
    os.mkdir("d0", dir_fd=fds[-1]); fds.append(os.open("d0", os.O_RDONLY, dir_fd=fds[-1]))
for i in range(8):
    with open(os.open(f"big{i}", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=fds[-1]), "wb") as file:
        file.write(bytes(3_000_000))
print("there", flush=True)
now = [0] * DEEP
while True:
    for k in range(DEEP):
        os.rename(f"d{now[k]}", f"d{now[k] + 1}", src_dir_fd=fds[k], dst_dir_fd=fds[k]); now[k] += 1
"""


@pytest.mark.parametrize("deep", [1, 40])
def test_folders_that_get_other_names_all_the_time_are_walked(tmp_path: Path, deep: int) -> None:
    one = Walk(tmp_path)
    with subprocess.Popen(
        [*PYTHON, f"DEEP = {deep}{MOVING}"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        found = [one.used(100 * MB, 1000) for _ in range(50)]
        process.kill()
    # A look that comes too late for it each time finds less; so many in a row say that something hides.
    assert all(max(found[at : at + walk.HIDDEN_AFTER]) >= 24 * MB for at in range(len(found) - walk.HIDDEN_AFTER + 1))


def test_disk_of_folders_that_get_other_names_all_the_time(tmp_path: Path) -> None:
    assert Lab(tmp_path).run(f"DEEP = 40{MOVING}", disk_mb=20).exit.cause == "disk"


def used(folder: Path, enough: int = 100 * MB, entries: int = 1000) -> float:
    return Walk(folder).used(enough, entries)


def test_it_is_what_lies_there_once(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(bytes(3 * MB))
    (tmp_path / "other").hardlink_to(tmp_path / "a" / "b" / "file")
    (tmp_path / "a" / "up").symlink_to("/usr")
    assert 3 * MB <= used(tmp_path) < 3.1 * MB
    assert used(tmp_path, enough=MB) > MB
    assert used(tmp_path, entries=3) == float("inf")
    assert used(tmp_path / "none") == 0
    deep = tmp_path
    for _ in range(walk.DEEPEST + 1):
        deep = deep / "d"
        deep.mkdir()
    assert used(tmp_path) == float("inf")


@contextmanager
def going_on(step: Callable[[], None]) -> Iterator[None]:
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            step()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_files_that_come_and_go_hide_nothing_and_are_no_hiding(tmp_path: Path) -> None:
    """As of a program that writes everything aside first."""
    (tmp_path / "big").write_bytes(bytes(3 * MB))
    for number in range(500):
        (tmp_path / f"{number}").touch()

    def write_aside() -> None:
        (tmp_path / "aside").write_bytes(b"x")
        (tmp_path / "aside").replace(tmp_path / "last")

    one = Walk(tmp_path)
    with going_on(write_aside):
        found = [one.used(100 * MB, 1000) for _ in range(30)]
    assert all(3 * MB <= size < 3.2 * MB for size in found)


def test_what_is_never_where_it_was_listed_hides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at it finds it gone: nobody but who renames it that fast has such a thing."""
    (tmp_path / "a").mkdir()
    real = os.open

    def late(name: str, flags: int, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None:
            raise FileNotFoundError(name)
        return real(name, flags)

    one = Walk(tmp_path)
    monkeypatch.setattr(os, "open", late)
    found = [one.used(MB, 1000) for _ in range(walk.HIDDEN_AFTER)]
    assert found[-1] == float("inf") and max(found[:-1]) < MB
    monkeypatch.undo()
    assert one.used(MB, 1000) < MB


def test_folders_in_one_another_may_take_turns_at_hiding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path
    for name in "abcd":
        deep = deep / name
        deep.mkdir()
    real = os.open
    away = ["a"]

    def late(name: str, flags: int, *, dir_fd: int | None = None) -> int:
        if name in away:
            raise FileNotFoundError(name)
        return real(name, flags, dir_fd=dir_fd)

    one = Walk(tmp_path)
    monkeypatch.setattr(os, "open", late)
    found = []
    for away[0] in "abcd":
        found.append(one.used(MB, 1000))
    assert found[-1] == float("inf") and max(found[:-1]) < MB
