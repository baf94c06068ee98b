"""Migrations: all or nothing, with a backup first, and they give exactly the tables of schema.py."""

import contextlib
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from agent.errors import StoreError
from agent.store import Store, migrate, open_store, views
from agent.store.open import migrate_file
from agent.store.schema import metadata
from tests import postgres
from tests.filling import add_base, add_campaign, add_idea, draft, fill

pytestmark = pytest.mark.usefixtures("real_stores")

NEXT = """
import os, signal
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("proposals", recreate="always") as batch:
        batch.add_column(sa.Column("mood", sa.Text(), server_default="fine", nullable=False))
    {then}
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "runs.db" if request.param == "sqlite" else postgres.empty_url())
    yield opened
    opened.close()


def scripts_with(folder: Path, then: str) -> Path:
    """Our migrations and one more, as a newer Caddie would have."""
    scripts = Path(shutil.copytree(migrate.SCRIPTS, folder / "scripts"))
    text = NEXT.format(revision="9000", before=migrate.HEAD, then=then)
    (scripts / "versions" / "9000_mood.py").write_text(text)
    return scripts


def test_migrations_give_the_tables_of_the_schema(store: Store) -> None:
    with store.write() as tx:
        context = MigrationContext.configure(tx.connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    assert ScriptDirectory(str(migrate.SCRIPTS)).get_heads() == [migrate.HEAD]
    revisions = [script.revision for script in ScriptDirectory(str(migrate.SCRIPTS)).walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)  # is_newer compares them as words


def test_down_and_up_again(store: Store) -> None:
    with store._writer.begin() as connection:
        for statement in views.drop():
            connection.exec_driver_sql(statement)
        command.downgrade(migrate._config(connection, migrate.SCRIPTS), "base")
        assert migrate._tables(connection) == {"alembic_version"}
        migrate.upgrade(connection)
    fill(store)
    with store.read() as reads:
        assert len(reads.view("leaderboard", 1)) == 3


def test_an_older_file_is_backed_up_and_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with contextlib.closing(open_store(path)) as store:
        fill(store)
        with store.read() as reads:
            before = reads.scored(1), reads.proposals(1), [dict(row) for row in reads.view("leaderboard", 1)]
        migrate_file(store, path, migrate.HEAD, scripts_with(tmp_path, "pass"))
        with store.read() as reads:
            assert reads.connection.exec_driver_sql("SELECT DISTINCT mood FROM proposals").scalars().all() == ["fine"]
            after = reads.scored(1), reads.proposals(1), [dict(row) for row in reads.view("leaderboard", 1)]
        assert after == before
        store.check()
        with pytest.raises(Exception, match="FOREIGN KEY"), store.write() as tx:  # still enforced
            tx.add_event(1, "x", "y", proposal_id=999)
    with (
        contextlib.closing(open_store(tmp_path / f"runs.db.bak-{migrate.HEAD}")) as backup,
        backup.read() as reads,
    ):
        assert reads.proposals(1) == before[1]


def test_a_file_of_an_earlier_version_is_brought_up_at_opening(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with contextlib.closing(open_store(path)) as store, store._writer.begin() as connection:
        for statement in views.drop():
            connection.exec_driver_sql(statement)
        command.downgrade(migrate._config(connection, migrate.SCRIPTS), "0001")
    with contextlib.closing(open_store(path)) as store:
        fill(store)
    assert (tmp_path / "runs.db.bak-0001").exists()


def test_older_sizes_stay_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with contextlib.closing(open_store(path)) as store:
        with store.write() as tx:
            base = add_base(tx, add_campaign(tx))
            said = tx.add_proposal(base.campaign_id, draft("said", base.id, expected_bytes=123), baseline_id=base.id)
            silent = add_idea(tx, base)
        with store._writer.begin() as connection:
            for statement in views.drop():
                connection.exec_driver_sql(statement)
            command.downgrade(migrate._config(connection, migrate.SCRIPTS), "0006")
            assert "sized_bytes" not in {row[1] for row in connection.exec_driver_sql("PRAGMA table_info(proposals)")}
    with contextlib.closing(open_store(path)) as store, store.write() as tx:
        found = [tx.proposal(one.id) for one in (said, silent)]
        assert [(one.expected_bytes, one.sized_bytes) for one in found] == [(123, None), (None, None)]
        sized = tx.update_proposal(silent.id, sized_bytes=1 << 40)
        assert (sized.expected_bytes, sized.sized_bytes) == (None, 1 << 40)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with contextlib.closing(open_store(path)) as store:
        fill(store)
        for then, error in (
            ("raise ZeroDivisionError", ZeroDivisionError),
            ('op.execute("UPDATE runs SET proposal_id = 999")', StoreError),
        ):
            scripts = scripts_with(tmp_path, then)
            with pytest.raises(error):
                migrate_file(store, path, migrate.HEAD, scripts)
            shutil.rmtree(scripts)
    with contextlib.closing(open_store(path)) as store, store.read() as reads:
        store.check()
        assert len(reads.view("leaderboard", 1)) == 3
    assert len(list(tmp_path.glob("runs.db.bak-*"))) == 2  # the second did not replace the first


def test_a_kill_in_the_middle_of_a_migration_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with contextlib.closing(open_store(path)) as store:
        fill(store)
    scripts = scripts_with(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    child = os.fork()
    if child == 0:
        migrate_file(open_store(path), path, migrate.HEAD, scripts)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with contextlib.closing(open_store(path)) as store, store.read() as reads:
        store.check()
        assert len(reads.view("leaderboard", 1)) == 3
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert "mood" not in {row[1] for row in connection.execute("PRAGMA table_info(proposals)")}
