"""Token shards in the contest's format: a header of 256 little-endian int32, then uint16 tokens.

Takes a path; gives the number of tokens, and the tokens. Strict: a file that is not exactly what its header says is a
`ShardError`.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.errors import UserError

MAGIC = 20240520
VERSION = 1
HEADER_BYTES = 256 * 4
TOKEN_BYTES = 2
_START = struct.Struct("<3i")


class ShardError(UserError):
    """A file is no token shard, or a damaged one."""


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


def blocks(paths: Sequence[Path], size: int) -> Iterator[NDArray[np.uint16]]:
    """The tokens of several shards as one stream, at most `size` at a time."""
    for path in paths:
        count_tokens(path)
        with path.open("rb") as file:
            file.seek(HEADER_BYTES)
            while raw := file.read(TOKEN_BYTES * size):
                yield np.frombuffer(raw, dtype="<u2").astype(np.uint16)
