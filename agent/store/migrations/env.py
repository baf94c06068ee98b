"""Alembic's environment: runs migrations on the connection that agent/store/migrate.py hands over."""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import TypeDecorator

from agent.store.schema import metadata


def _plain_type(kind: str, item: object, autogen: AutogenContext) -> str | Literal[False]:
    """A migration names database types only, so that it stays what it was when our types change."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,  # with our own BEGIN, SQLite rolls back a half-done migration
    render_item=_plain_type,
)
with context.begin_transaction():
    context.run_migrations()
