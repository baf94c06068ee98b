"""Read-only SQL: whatever is asked, nothing changes, nothing leaves, and it ends in time."""

import hashlib
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.store import Store, open_store
from agent.store.query import query
from agent.store.schema import metadata
from agent.store.views import VIEWS
from tests import postgres
from tests.filling import add_base, add_campaign, add_idea, add_measured


def fill(store: Store) -> Store:
    with store.write() as tx:
        base = add_base(tx, add_campaign(tx))
        for number in range(5):
            add_measured(tx, add_idea(tx, base, f"idea {number} 100%"), number, 2.0 + number / 10)
    return store


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("store")
    opened = fill(open_store(folder / "runs.db" if request.param == "sqlite" else postgres.fresh_url()))
    yield opened
    opened.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Store]:
    opened = fill(open_store(tmp_path / "runs.db"))
    yield opened
    opened.close()


def test_reading_works(store: Store) -> None:
    table = query(store, "SELECT title, bpb FROM leaderboard WHERE title LIKE 'idea%' ORDER BY bpb LIMIT 2;")
    assert table.columns == ("title", "bpb")
    assert table.rows == (("idea 0 100%", 2.0), ("idea 1 100%", 2.1)) and not table.truncated
    assert query(store, "-- how many\nWITH x AS (SELECT 1 AS one) SELECT SUM(one) FROM x").rows == ((1,),)
    assert query(store, "EXPLAIN SELECT * FROM runs").rows
    for name in ("best_valid", "lineage", "leaderboard", "spend", "spend_by_use", "frontier"):
        query(store, f"SELECT * FROM {name}")


def test_the_page_about_the_database_names_its_tables_and_its_examples_run(store: Store) -> None:
    page = Path("docs/store.md").read_text("utf-8")
    named = [*metadata.tables, *VIEWS]
    assert [name for name in named if f"`{name}`" not in page] == []
    examples = page.partition("```sql\n")[2].partition("```")[0].splitlines()
    assert len(examples) > 5
    for statement in examples:
        if store.path or not statement.endswith("(SQLite)"):
            query(store, statement)


def test_rows_and_cells_are_capped(store: Store) -> None:
    table = query(store, "SELECT id FROM runs ORDER BY id", max_rows=3)
    assert len(table.rows) == 3 and table.truncated
    assert not query(store, "SELECT id FROM runs ORDER BY id", max_rows=5).truncated
    cell = query(store, "SELECT track_toml FROM campaigns", max_cell=10).rows[0][0]
    assert isinstance(cell, str) and len(cell) == 10 and cell.endswith("…")


ATTEMPTS = [
    "DELETE FROM runs",
    "UPDATE runs SET seed = 1",
    "INSERT INTO boards (judge_version) VALUES (1)",
    "DROP TABLE runs",
    "CREATE TABLE x (y INTEGER)",
    "SELECT 1; DELETE FROM runs",
    "SELECT 1; COMMIT; DROP TABLE events",
    "BEGIN",
    "COMMIT",
    "VACUUM",
    "ANALYZE",
    "",
    "   ;  ",
    "no such statement",
    "SELECT * FROM nothing",
]


@pytest.mark.parametrize(
    ("sql", "meant"),
    [
        ("SELECT * FROM leaderbord", "Did you mean 'leaderboard'?"),
        ("SELECT * FROM proposal", "Did you mean 'proposals'?"),
        ("SELECT titel FROM proposals", "Did you mean 'title'?"),
        ("SELECT p.bpbb FROM leaderboard p", "Did you mean 'bpb'?"),
        ("SELECT slot_s FROM runs", "That is a column of measurements."),
        ("SELECT * FROM xyzzy", "docs/store.md lists"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_one_that_is_there(store: Store, sql: str, meant: str) -> None:
    with pytest.raises(UserError) as found:
        query(store, sql)
    assert meant in str(found.value)


@pytest.mark.parametrize("sql", ATTEMPTS)
def test_nothing_else_is_taken(store: Store, sql: str) -> None:
    with pytest.raises(UserError):
        query(store, sql)
    assert query(store, "SELECT COUNT(*) FROM runs").rows == ((5,),)


@pytest.mark.parametrize(
    "sql",
    [
        "WITH x AS (SELECT 1) DELETE FROM runs",
        "EXPLAIN DELETE FROM runs",
        "REPLACE INTO runs (id) VALUES (1)",
        "PRAGMA query_only = 0",
        "PRAGMA writable_schema = 1",
        "PRAGMA journal_mode = DELETE",
        "SELECT * FROM pragma_database_list",
        "ATTACH '{folder}/stolen.db' AS x",
        "VACUUM INTO '{folder}/stolen.db'",
        "DETACH main",
        "REINDEX",
        "SAVEPOINT a",
        "CREATE TEMP TABLE t AS SELECT 1",
        "SELECT load_extension('x')",
        "SELECT writefile('{folder}/stolen.db', 'x')",
    ],
)
def test_sqlite_has_no_side_doors(sqlite: Store, tmp_path: Path, sql: str) -> None:
    assert sqlite.path is not None
    sqlite.close()  # the last connection puts all into the one file
    before = hashlib.sha256(sqlite.path.read_bytes()).digest()
    with pytest.raises(UserError):
        query(sqlite, sql.replace("{folder}", str(tmp_path)))
    assert not (tmp_path / "stolen.db").exists()
    assert hashlib.sha256(sqlite.path.read_bytes()).digest() == before


def test_postgresql_has_no_side_doors(tmp_path: Path) -> None:
    store = fill(open_store(postgres.fresh_url()))
    for sql in (
        "WITH gone AS (DELETE FROM runs RETURNING 1) SELECT * FROM gone",
        "EXPLAIN ANALYZE DELETE FROM runs",
        "COPY runs TO PROGRAM 'cat > /tmp/stolen'",
        "SELECT 1; COPY runs TO PROGRAM 'cat > /tmp/stolen'",
        "EXPLAIN SELECT 1; COPY runs TO PROGRAM 'cat > /tmp/stolen'",
        "SELECT nextval('runs_id_seq')",
        "SELECT set_config('transaction_read_only', 'off', true), pg_sleep(0) FROM runs FOR UPDATE",
        "SET TRANSACTION READ WRITE",
    ):
        with pytest.raises(UserError):
            query(store, sql)
    assert not Path("/tmp/stolen").exists()
    assert query(store, "SELECT COUNT(*) FROM runs").rows == ((5,),)
    with store.write() as tx:  # and the connection is none the worse for it
        add_idea(tx, tx.proposal(1))
    store.close()


def test_what_takes_too_long_is_ended(store: Store) -> None:
    forever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    start = time.monotonic()
    with pytest.raises(UserError, match=r"longer than 0\.3 s"):
        query(store, forever, timeout_s=0.3)
    assert time.monotonic() - start < 10
    assert query(store, "SELECT COUNT(*) FROM runs").rows == ((5,),)


def test_a_value_that_would_fill_the_memory_is_refused(sqlite: Store) -> None:
    for sql in (
        "SELECT zeroblob(2000000000)",
        "SELECT randomblob(999999999)",
        "SELECT hex(zeroblob(30000000))",
    ):
        with pytest.raises(UserError, match="too big"):
            query(sqlite, sql)


def test_blobs_and_broken_text_can_be_shown(sqlite: Store) -> None:
    table = query(sqlite, "SELECT x'00ff', CAST(x'ff41' AS TEXT), 1.5, NULL")
    assert table.rows == (("<2 bytes>", "\ufffdA", 1.5, None),)


def test_a_store_that_nobody_has_open_can_be_asked(sqlite: Store) -> None:
    sqlite.close()
    assert query(sqlite, "SELECT COUNT(*) FROM runs").rows == ((5,),)
    with pytest.raises(UserError, match="above zero"):
        query(sqlite, "SELECT 1", max_rows=0)


ENDLESS = "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a)"


def test_a_row_that_is_all_large_values_is_never_held(sqlite: Store) -> None:
    large = "printf('%.*c', 4000000, 'x')"
    with pytest.raises(UserError, match="too many columns"):
        query(sqlite, f"SELECT {', '.join([large] * 101)}")
    with pytest.raises(UserError, match="too big"):
        query(sqlite, "SELECT hex(zeroblob(9000000))")
    tracemalloc.start()
    try:
        rows = query(
            sqlite, f"WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a) SELECT {large} FROM a"
        ).rows
        assert len(rows) == 200 and tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


def test_time_is_looked_at_between_large_values_too(sqlite: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a row's values can be megabytes that take a tenth of a second: a row is far too long a time."""
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return 0.0

    monkeypatch.setattr("agent.store.query.time.monotonic", clock)
    row = ", ".join(["length(replace(printf('%.*c', 40, 'x'), 'x', 'yy'))"] * 90)
    assert query(sqlite, f"SELECT {row}").rows == ((80,) * 90,)
    assert looks > 90 / 25


def test_a_query_whose_time_is_over_is_ended(sqlite: Store) -> None:
    with pytest.raises(UserError, match=r"longer than 0\.2 s"):
        query(sqlite, f"{ENDLESS} SELECT SUM(n) FROM a", timeout_s=0.2)
