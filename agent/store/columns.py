"""What the tables are made of: one `metadata`, and kinds of columns; text and JSON that any database takes.

Takes what candidates and models wrote, and stores it so that SQLite, PostgreSQL and people can all read it.
"""

import json

from sqlalchemy import BigInteger, Column, Dialect, Double, ForeignKey, Integer, MetaData, Text, TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Words(TypeDecorator[str]):
    """Text that any database takes: models write NUL and lone surrogates, which some refuse."""

    impl = Text
    cache_ok = True

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit
        """Characters kept; what a candidate or a model wrote must not fill the disk."""

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if self.limit is not None and len(value) > self.limit:
            value = value[: self.limit - 1] + "…"
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


class Json(TypeDecorator[object]):
    """A list or an object as readable JSON text; NaN is refused."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        if value is None:
            return None
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")

    def process_result_value(self, value: str | None, dialect: Dialect) -> object:
        return None if value is None else json.loads(value)


def key() -> Column[int]:
    return Column("id", Integer, primary_key=True)


def to(name: str, target: str, nullable: bool = False) -> Column[int]:
    return Column(name, Integer, ForeignKey(f"{target}.id"), nullable=nullable)


def words(name: str, limit: int | None = None) -> Column[str]:
    return Column(name, Words(limit), nullable=False, server_default="")


def count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


def total(name: str) -> Column[float]:
    return Column(name, Double, nullable=False, server_default="0")


def amount(prefix: str) -> tuple[Column[float], Column[float], Column[float], Column[int], Column[int]]:
    return (
        total(f"{prefix}_gpu_s"),
        total(f"{prefix}_usd"),
        total(f"{prefix}_llm_usd"),
        Column(f"{prefix}_llm_tokens", BigInteger, nullable=False, server_default="0"),
        Column(f"{prefix}_llm_calls", BigInteger, nullable=False, server_default="0"),
    )
