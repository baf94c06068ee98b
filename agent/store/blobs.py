"""Files by what is in them: put once, however many jobs need them, and read back only if they are what was put.

Takes bytes; gives their sha256. Others may have written the rows, so what comes out is bounded and checked.
"""

import hashlib
import zlib

from sqlalchemy import Connection, insert, select

from agent.errors import InfraError
from agent.store.rows import now
from agent.store.schema import blobs

MOST = 64_000_000  # bytes of one file
_QUICK = 1


def put(connection: Connection, data: bytes) -> str:
    """Raises InfraError for more than a database should hold."""
    if len(data) > MOST:
        raise InfraError(f"a file of {len(data):,} bytes is too big for the store, which takes {MOST:,}")
    sha = hashlib.sha256(data).hexdigest()
    if not has(connection, sha):
        values = {"sha": sha, "size": len(data), "body": zlib.compress(data, _QUICK), "created": now()}
        connection.execute(_insert_new(connection).values(values))
    return sha


def has(connection: Connection, sha: str) -> bool:
    return connection.execute(select(blobs.c.sha).where(blobs.c.sha == sha)).first() is not None


def get(connection: Connection, sha: str, most: int = MOST) -> bytes:
    """Raises InfraError when it is not there, too big, or not what its name says."""
    body = connection.execute(select(blobs.c.body).where(blobs.c.sha == sha, blobs.c.size <= most)).scalar()
    if body is None:
        raise InfraError(f"the store has no file {sha[:12]} of at most {most:,} bytes")
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise InfraError(f"file {sha[:12]} in the store is damaged: {error}") from error
    if len(data) > most or hashlib.sha256(data).hexdigest() != sha:
        raise InfraError(f"file {sha[:12]} in the store is damaged: it is not what its name says")
    return data


def _insert_new(connection: Connection):  # type: ignore[no-untyped-def]
    """Another machine may put the same file at the same moment."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(blobs).on_conflict_do_nothing()
    return insert(blobs)
