"""One clock for all who share a store: the database server's where there is one, this machine's else.

Takes a connection; gives seconds since 1970, or an SQL expression for them that is told at the moment it is run.
"""

import time
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Double, func, literal, select


def at(connection: Connection) -> ColumnElement[float]:
    """Of the moment in which the statement is run, not of the one in which its transaction began."""
    if connection.dialect.name == "postgresql":
        seconds: ColumnElement[float] = func.extract("epoch", func.clock_timestamp()).cast(Double)
        return seconds
    return literal(time.time(), Double)


def moment(connection: Connection) -> datetime:
    return datetime.fromtimestamp(float(connection.execute(select(at(connection))).scalar_one()), UTC)
