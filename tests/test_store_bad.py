"""What a store refuses, in words a person can act on, and what no kill or full disk may do to it."""

import contextlib
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath

import pytest

from agent.errors import StoreError
from agent.store import faults, open_store
from agent.store.mounts import network_file_system
from tests import postgres
from tests.filling import add_campaign, add_idea, fill

pytestmark = pytest.mark.usefixtures("real_stores")

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/ann/fast ext4 rw 0 0
//nas/share /mnt/with\\040space cifs rw 0 0
ann@box:/x /mnt/ssh fuse.sshfs rw 0 0
/dev/sdc1 /mnt/ntfs fuseblk rw 0 0
overlay /var/lib/docker/x overlay rw 0 0
C:\\134 /mnt/c 9p rw,aname=drvfs 0 0
malformed
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good database with something in it, closed."""
    store = open_store(tmp_path / "runs.db")
    fill(store)
    store.close()
    return tmp_path / "runs.db"


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("/runs.db", None),
        ("/home/ann/runs.db", "nfs4"),
        ("/home/ann/fast/runs.db", None),
        ("/home2/runs.db", None),
        ("/mnt/with space/runs.db", "cifs"),
        ("/mnt/ssh/a/b/runs.db", "fuse.sshfs"),
        ("/mnt/ntfs/runs.db", None),
        ("/var/lib/docker/x/runs.db", None),
        ("/mnt/c/runs.db", "9p"),
    ],
)
def test_network_file_systems_are_known(where: str, kind: str | None) -> None:
    assert network_file_system(MOUNTS, PurePosixPath(where)) == kind


def test_a_sandbox_with_a_9p_root_is_fine_and_a_later_mount_hides_an_earlier() -> None:
    assert network_file_system("none / 9p rw 0 0", PurePosixPath("/runs.db")) is None
    assert network_file_system("a /x nfs rw 0 0\nb /x ext4 rw 0 0", PurePosixPath("/x/runs.db")) is None
    assert network_file_system("a /x ext4 rw 0 0\nb /x lustre rw 0 0", PurePosixPath("/x/runs.db")) == "lustre"


def test_an_error_of_the_disk_where_there_is_no_room_is_called_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> str:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR | 19 << 8
        with pytest.raises(StoreError) as told, faults.explained(str(tmp_path / "runs.db")):
            raise error
        return str(told.value)

    assert "the disk failed to read or write" in said()
    monkeypatch.setattr(faults, "NO_ROOM", 1 << 60)
    assert "the disk is full" in said()


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.store.open.network_file_system_of", lambda path: "nfs4")
    with pytest.raises(StoreError, match=r"network file system \(nfs4\).*PostgreSQL"):
        open_store(tmp_path / "runs.db")
    assert list(tmp_path.iterdir()) == []


def test_no_file_no_folder_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no runs here yet"):
        open_store(tmp_path / "runs.db", create=False)
    with pytest.raises(StoreError, match="no such folder"):
        open_store(tmp_path / "none" / "runs.db")
    with pytest.raises(StoreError, match="is a folder, not a database"):
        open_store(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "x")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StoreError, match="is a link to nothing"):
        open_store(tmp_path / "link")
    with pytest.raises(StoreError, match="is no plain file"):
        open_store(tmp_path / "fifo")
    (tmp_path / "link").unlink()
    (tmp_path / "fifo").unlink()
    for wrong in ("mysql://x/y", "sqlite://", "postgresql:///x?://", "what://"):
        with pytest.raises(StoreError):
            open_store(wrong)
    assert list(tmp_path.iterdir()) == []
    open_store(f"sqlite:///{tmp_path}/by_url.db").close()
    assert (tmp_path / "by_url.db").exists()


def test_a_newer_version_is_refused_untouched(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"newer Caddie.*9999"):
        open_store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a database, just some text " * 100, b"SQLite format 3\0" + b"x" * 9000])
def test_what_is_no_database_is_refused_untouched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged or no SQLite database|is empty"):
        open_store(path)
    assert path.read_bytes() == content


def test_the_database_of_another_program_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (score REAL)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"not one of Caddie's \(tables: runs\)"):
        open_store(path)
    assert path.read_bytes() == before


def test_a_corrupt_page_is_found_at_opening(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        for offset in range(4096, size - 4096, 8192):
            file.seek(offset)
            file.write(os.urandom(1024))
    with pytest.raises(StoreError, match="damaged"):
        open_store(path)


def test_a_truncated_file_is_found_at_opening(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 // 4096 * 4096)
    with pytest.raises(StoreError, match="damaged"):
        open_store(path)


def test_check_finds_a_broken_reference(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE runs SET proposal_id = 999")
        connection.commit()
    with (
        contextlib.closing(open_store(path)) as store,
        pytest.raises(StoreError, match=r"table .* refers to"),
    ):
        store.check()


def test_references_are_enforced(path: Path) -> None:
    with contextlib.closing(open_store(path)) as store, pytest.raises(Exception, match="FOREIGN KEY"):  # noqa: SIM117
        with store.write() as tx:
            tx.add_event(1, "x", "y", proposal_id=999)


def as_nobody(work) -> str:  # type: ignore[no-untyped-def]
    """Runs `work` without the rights of root, gives the error's text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        words = "no error"
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            work()
        except StoreError as error:
            words = str(error)
        finally:
            os.write(write, words.encode())
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


def test_a_read_only_folder_or_file(path: Path) -> None:
    for parent in (path.parent, *path.parent.parents):
        if parent != Path("/tmp") and str(parent).startswith("/tmp"):
            parent.chmod(0o755)
    path.parent.chmod(0o555)
    assert "can't be written" in as_nobody(lambda: open_store(path.parent / "new.db"))
    assert "can't be written" in as_nobody(lambda: open_store(path))
    path.parent.chmod(0o777)
    path.chmod(0o444)

    def write() -> None:
        with open_store(path).write() as tx:
            tx.ask(1, "drain")

    assert "read-only" in as_nobody(write)


def test_a_full_disk_loses_nothing(path: Path) -> None:
    store = open_store(path)
    with store.write() as tx:  # SQLite itself then says SQLITE_FULL
        pages = tx.connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 3}")
    with store.read() as reads:
        before = reads.proposals(1)
    written = len(before)
    with pytest.raises(StoreError, match=r"disk is full.*safe and complete.*taken back whole"):
        for _ in range(10_000):
            with store.write() as tx:
                add_idea(tx, before[0], "x" * 300)
            written += 1
    store.check()
    with store.read() as reads:
        assert len(reads.proposals(1)) == written
    with store.write() as tx:
        tx.connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        add_idea(tx, before[0])
    store.close()


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True).returncode:
        pytest.skip("tmpfs can't be mounted here")
    try:
        store = open_store(disk / "runs.db")
        fill(store)
        written = 0
        with pytest.raises(StoreError, match="disk is full"):
            while written < 10_000:
                with store.write() as tx:
                    tx.add_event(1, "note", "x" * 3000)
                written += 1
        with store.read() as reads:
            notes = reads.connection.exec_driver_sql("SELECT COUNT(*) FROM events WHERE what = 'note'").scalar_one()
        assert notes == written > 10
        store.check()
        store.close()
        with pytest.raises(StoreError, match="disk is full"):
            open_store(disk / "second.db")
        assert not (disk / "second.db").exists() and not list(disk.glob("*.new-*"))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


KILLED_WHILE_MAKING = """
import os, signal, sys, threading
from agent.store import open_store
threading.Timer(float(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
import agent.store.open
print("go", flush=True)
open_store(sys.argv[1])
print("made", flush=True)
"""


@pytest.mark.long
def test_a_kill_while_making_leaves_all_or_nothing(tmp_path: Path) -> None:
    seen: set[bool] = set()
    for number in range(12):
        path = tmp_path / f"{number}" / "runs.db"
        path.parent.mkdir()
        delay = 0.02 * number
        argv = [sys.executable, "-c", KILLED_WHILE_MAKING, str(path), str(delay)]
        subprocess.run(argv, capture_output=True, timeout=60)
        seen.add(path.exists())
        with contextlib.closing(open_store(path)) as store:
            store.check()
            fill(store, 1)
        assert [left.name for left in path.parent.iterdir()] == ["runs.db"]
    assert False in seen  # at least one was killed before it was there


def _make(path: str, barrier, results) -> None:  # type: ignore[no-untyped-def]
    barrier.wait()
    store = open_store(path)
    with store.write() as tx:
        campaign = tx.campaign("shared") or add_campaign(tx, "shared")
        tx.add_event(campaign.id, "hello", str(os.getpid()))
    store.close()
    results.put(campaign.id)


def test_eight_processes_that_make_it_at_once_share_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(8), context.Queue()
    workers = [context.Process(target=_make, args=(str(tmp_path / "runs.db"), barrier, results)) for _ in range(8)]
    for worker in workers:
        worker.start()
    assert {results.get(timeout=60) for _ in workers} == {1}
    for worker in workers:
        worker.join(30)
    with contextlib.closing(open_store(tmp_path / "runs.db")) as store, store.read() as reads:
        assert len({event.text for event in reads.events(1) if event.what == "hello"}) == 8
    assert [left.name for left in tmp_path.iterdir()] == ["runs.db"]


def test_postgresql_that_is_not_there() -> None:
    with pytest.raises(StoreError, match="database server"):
        open_store("postgresql://127.0.0.1:1/x?connect_timeout=2")


def test_a_write_that_stands_still_is_ended_by_the_server_and_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its process was stopped in the middle of it: its locks are free again."""
    url = postgres.fresh_url()
    monkeypatch.setattr("agent.store.engines._IDLE_MS", 200)
    with contextlib.closing(open_store(url)) as store:
        with pytest.raises(StoreError, match=r"the database server failed.*taken back whole"), store.write() as tx:
            add_campaign(tx)
            time.sleep(1)
            add_campaign(tx, "another")
        with store.write() as tx:
            assert tx.campaigns() == []


def test_postgresql_without_tables_or_with_newer_ones() -> None:
    url = postgres.empty_url()
    with pytest.raises(StoreError, match="no runs here yet"):
        open_store(url, create=False)
    store = open_store(url)
    with store.write() as tx:
        tx.connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    with pytest.raises(StoreError, match="newer"):
        open_store(url)
