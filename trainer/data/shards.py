"""Token shards in the contest's format: a header of 256 little-endian int32, then uint16 tokens.

Takes a path and tokens, or a path; gives a file, its number of tokens or its tokens. Reading is strict: a
file that is not exactly what its header says is a `ShardError`.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import UserError

if TYPE_CHECKING:
    import numpy

MAGIC = 20240520
VERSION = 1
HEADER_BYTES = 256 * 4
TOKEN_BYTES = 2
_START = struct.Struct("<3i")


class ShardError(UserError):
    """A file is no token shard, or a damaged one."""


def write_shard(path: Path, tokens: "Sequence[int] | numpy.ndarray") -> None:
    import numpy

    row = numpy.asarray(tokens)
    if row.ndim != 1 or (row.size and (row.min() < 0 or row.max() > 0xFFFF)):
        raise ValueError("a shard holds one row of tokens from 0 to 65,535")
    header = _START.pack(MAGIC, VERSION, row.size).ljust(HEADER_BYTES, b"\0")
    path.write_bytes(header + row.astype("<u2").tobytes())


def count_tokens(path: Path) -> int:
    """The number of tokens, after checking header and size. Reads the header only."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
        size = path.stat().st_size
    except OSError as error:
        raise ShardError(f"can't read shard {path}: {error}") from error
    if len(header) < HEADER_BYTES:
        raise ShardError(f"{path} is no token shard: {size} bytes are less than a header")
    magic, version, tokens = _START.unpack_from(header)
    if magic != MAGIC:
        raise ShardError(f"{path} is no token shard: it starts with {magic}, not {MAGIC}")
    if version != VERSION:
        raise ShardError(f"{path} is a shard of version {version}; this reads version {VERSION}")
    expected = HEADER_BYTES + TOKEN_BYTES * tokens
    if tokens < 0 or size != expected:
        raise ShardError(f"{path} has {size:,} bytes; its header says {tokens:,} tokens, {expected:,} bytes")
    return int(tokens)


def read_shard(path: Path) -> "numpy.ndarray":
    """The tokens, mapped from the file, read-only."""
    import numpy

    tokens = count_tokens(path)
    if tokens == 0:
        return numpy.empty(0, "<u2")
    return numpy.memmap(path, dtype="<u2", mode="r", offset=HEADER_BYTES, shape=(tokens,))
