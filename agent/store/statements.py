"""Statements that are built once: building one anew takes SQLAlchemy longer than SQLite takes to run it.

Takes a table; gives its row by id, its INSERT and its UPDATE by id, to be run with a dict of values.
"""

from collections.abc import Mapping
from functools import cache

from sqlalchemy import (
    Connection,
    Insert,
    RowMapping,
    Select,
    Table,
    Update,
    bindparam,
    insert,
    select,
    update,
)


@cache
def _by_id(table: Table) -> Select[tuple[object, ...]]:
    return select(table).where(table.c.id == bindparam("row_id"))


@cache
def _insert(table: Table) -> Insert:
    return insert(table)


@cache
def _update(table: Table) -> Update:
    return update(table).where(table.c.id == bindparam("row_id"))


def row(connection: Connection, table: Table, row_id: int) -> RowMapping | None:
    return connection.execute(_by_id(table), {"row_id": row_id}).mappings().first()


def add(connection: Connection, table: Table, values: Mapping[str, object]) -> int:
    """The id of the new row."""
    key = connection.execute(_insert(table), dict(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def change(connection: Connection, table: Table, row_id: int, values: Mapping[str, object]) -> bool:
    """Whether there was such a row."""
    return connection.execute(_update(table), {**values, "row_id": row_id}).rowcount == 1
