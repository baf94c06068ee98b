"""Writes token shards in the contest's format, byte for byte, for the tests of what reads them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def write_shard(path: Path, tokens: Sequence[int] | np.ndarray) -> None:
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, 1, len(tokens)
    path.write_bytes(header.tobytes() + np.asarray(tokens).astype("<u2").tobytes())
