"""Marks in the page cache: pages of a shared file that are in memory, or are not.

Takes the files, one for each bit; gives `CACHE`, the ways to set such marks and to see them.
"""

import contextlib
import ctypes
import mmap
import os
import resource
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from .calls import LIBC, call, checked
from .spec import Spec

MADV_RANDOM, MADV_PAGEOUT = 1, 21
FEW, MANY = 4, 256  # pages of a file: so many that what a core has not told the kernel yet does not matter
NODE = 64  # pages that the kernel keeps in one table


def marked(spec: Spec, channel: str) -> list[str]:
    """The files whose bit is set."""
    return [path for at, path in enumerate(spec.marked[channel]) if spec.byte >> at & 1]


def _drop(spec: Spec, channel: str) -> None:
    for path in marked(spec, channel):
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def load(spec: Spec, channel: str) -> None:
    for path in marked(spec, channel):
        Path(path).read_bytes()


def _page_out(spec: Spec, channel: str) -> None:
    for path in marked(spec, channel):
        with _mapped(path) as (start, size):
            ctypes.string_at(start, size)  # only pages that we have can be sent out
            checked(LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), MADV_PAGEOUT), "madvise")


@contextlib.contextmanager
def _mapped(path: str) -> Iterator[tuple[int, int]]:
    """Where all of it is in memory now, and its size."""
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start: int = LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    try:
        yield start, size
    finally:
        LIBC.munmap(ctypes.c_void_p(start), ctypes.c_size_t(size))


def by_mincore(path: str) -> bool:
    with _mapped(path) as (start, size):
        pages = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
        call("mincore", ctypes.c_void_p(start), size, pages)
    return any(page & 1 for page in pages)


def _by_cachestat(path: str) -> bool:
    found = (ctypes.c_uint64 * 5)()
    call("cachestat", os.open(path, os.O_RDONLY), struct.pack("=QQ", 0, 0), found, 0)
    return found[0] > 0


def _by_nowait(path: str) -> bool:
    try:
        return os.preadv(os.open(path, os.O_RDONLY), [bytearray(1)], 0, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False


def _by_fault(path: str) -> bool:
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as page:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        page[0]
        return resource.getrusage(resource.RUSAGE_SELF).ru_majflt == before


def hold(path: str) -> None:
    """Reads one page of each table, as is in memory of any library in use: a table that nothing is left in goes, with
    what it knew of pages that were thrown out."""
    with Path(path).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for page in range(0, MANY, NODE):
            os.pread(file.fileno(), 1, page * mmap.PAGESIZE)


def _touch(path: str) -> None:
    """Each page on its own, with none ahead."""
    with _mapped(path) as (start, size):
        checked(LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), MADV_RANDOM), "madvise")
        for at in range(0, size, mmap.PAGESIZE):
            ctypes.string_at(start + at, 1)


def _touch_marked(spec: Spec, channel: str) -> None:
    for path in marked(spec, channel):
        _touch(path)


def _came_back() -> int:
    """Pages of files that had been thrown out when they were read again, by all of the machine; 0 if nobody says so."""
    with contextlib.suppress(OSError), Path("/proc/vmstat").open() as counts:
        return next((int(line.split()[1]) for line in counts if line.startswith("workingset_refault_file ")), 0)
    return 0


def _by_return(path: str) -> bool:
    """Whether its pages are in memory, or have been."""
    faults, before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt, _came_back()
    _touch(path)
    came, read = _came_back() - before, resource.getrusage(resource.RUSAGE_SELF).ru_majflt - faults
    return 2 * read < MANY or 2 * came > MANY


DROP, LOAD = "Drop pages of a shared file from the page cache", "Read pages of a shared file into the page cache"


FAULT, RETURN = BY_FAULT = "cache_load_fault", "cache_load_refault"


class Cache(NamedTuple):
    tries: str
    mark: Callable[[Spec, str], None]
    is_cached: Callable[[str], bool]
    starts_cached: bool


CACHE = {
    "cache_drop_mincore": Cache(f"{DROP}; see it with mincore.", _drop, by_mincore, True),
    "cache_drop_cachestat": Cache(f"{DROP}; see it with cachestat.", _drop, _by_cachestat, True),
    "cache_drop_nowait": Cache(f"{DROP}; see it with preadv2 and RWF_NOWAIT.", _drop, _by_nowait, True),
    "cache_page_out": Cache(f"{DROP} with madvise; see it with preadv2 and RWF_NOWAIT.", _page_out, _by_nowait, True),
    "cache_load_nowait": Cache(f"{LOAD}; see it with preadv2 and RWF_NOWAIT.", load, _by_nowait, False),
    FAULT: Cache(f"{LOAD}; see it by counting major faults.", load, _by_fault, False),
    RETURN: Cache(f"{LOAD}; see it by the kernel's count of pages that come back.", _touch_marked, _by_return, False),
}
