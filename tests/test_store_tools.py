"""runs.db opens in datasette and sqlite-utils as it is."""

import asyncio
import contextlib
import json
from pathlib import Path

import pytest
from datasette.app import Datasette
from sqlite_utils import Database

from agent.store import open_store, views
from agent.store.schema import metadata
from tests.filling import add_base, add_campaign, add_idea, add_measured, promote


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with contextlib.closing(open_store(tmp_path / "runs.db")) as store, store.write() as tx:
        base = add_base(tx, add_campaign(tx))
        add_measured(tx, base, 1, 2.3, purpose="report")
        idea = promote(tx, add_idea(tx, base, "wider"))
        add_measured(tx, idea, 2, 2.1, purpose="report")
    return tmp_path / "runs.db"


def test_datasette_shows_every_table_and_view_with_labels(path: Path) -> None:
    async def visit() -> None:
        datasette = Datasette([str(path)])
        await datasette.invoke_startup()
        for name in (*metadata.tables, *views.VIEWS):
            page = await datasette.client.get(f"/runs/{name}")
            assert page.status_code == 200, name
            rows = (await datasette.client.get(f"/runs/{name}.json?_shape=array")).json()
            assert rows or name in (
                "admissions",
                "rescores",
                "blobs",
                "commits",
                "findings",
                "installs",
                "job_logs",
                "jobs",
                "machines",
                "points",
                "tips",
                "workers",
                "audits",
                "doc_nats",
                "verdicts",
                "reviews",
                "ledger",
                "controllers",
                "spend_by_use",
                "conversations",
                "calls",
                "texts",
                "lessons",
                "calibration",
            )
        page = await datasette.client.get("/runs/runs")
        assert ">wider</a>" in page.text and ">night</a>" in page.text  # references show what they refer to
        rows = (await datasette.client.get("/runs/frontier.json?_shape=array")).json()
        assert [(row["title"], row["bpb"]) for row in rows] == [("base", 2.3), ("wider", 2.1)]

    asyncio.run(visit())


def test_sqlite_utils_reads_it(path: Path) -> None:
    database = Database(path)
    assert set(metadata.tables) <= set(database.table_names())
    assert set(database.view_names()) == set(views.VIEWS)
    assert {key.other_table for key in database["runs"].foreign_keys} == {"campaigns", "proposals"}  # type: ignore[union-attr]
    proposal = next(database.query("SELECT * FROM proposals WHERE title = 'wider'"))
    assert json.loads(proposal["knobs"]) == {} and proposal["created"].endswith("Z")
    database.close()
