"""Columns that are kept up to date equal their definitions, after any sequence of events.

Hypothesis draws campaigns; the definitions are written down again here, over all rows, the slow way.
"""

import shutil
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.records import Finding, Verdict
from agent.store import Store, Tx, open_store
from tests import filling
from tests.filling import add_base, add_campaign, add_idea, add_measured

CHEAT = (Finding("sums", "invalid", "no"),)
BPB = st.sampled_from([1.0 + n / 8 for n in range(12)])


class Do(NamedTuple):
    what: str
    which: int
    other: int
    bpb: float
    flag: bool


EVENTS = st.builds(
    Do,
    st.sampled_from(["idea", "run", "run", "rejudge", "rejudge", "verdict", "rebase", "walls", "lose"]),
    st.integers(0, 8),
    st.integers(0, 11),
    BPB,
    st.booleans(),
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared") / "runs.db"
    store = open_store(path)
    with store.write() as tx:
        base = add_base(tx, add_campaign(tx))
        child = add_idea(tx, base)
        for proposal, bpb in ((base, 2.375), (child, 2.25), (add_idea(tx, child), 2.125)):
            add_measured(tx, proposal, 0, bpb)
    store.close()
    return path


@example(events=[Do("rejudge", 1, 0, 2.25, True), Do("rejudge", 1, 0, 2.25, False)])
@given(events=st.lists(EVENTS, min_size=4, max_size=24))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_kept_columns_equal_their_definitions(
    prepared: Path, tmp_path_factory: pytest.TempPathFactory, events: list[Do]
) -> None:
    store = open_store(shutil.copy(prepared, tmp_path_factory.mktemp("kept")))
    for event in events:
        with store.write() as tx:
            _do(tx, event)
    check(store)
    store.close()


def _do(tx: Tx, event: Do) -> None:
    ideas, runs = tx.proposals(1), tx.runs(1)
    idea, other = ideas[event.which % len(ideas)], ideas[event.other % len(ideas)]
    run = runs[event.which % len(runs)]
    findings = CHEAT if event.flag else ()
    if event.what == "idea":
        add_idea(tx, idea, source=other)
    elif event.what == "run":
        size = 149_000 + 3_000 * event.other
        add_measured(
            tx,
            idea,
            event.other,
            event.bpb,
            findings=CHEAT if event.flag and event.other == 0 else (),
            total_bytes=size,
        )
    elif event.what == "rejudge":
        measured = tx.measurement(run.id)
        assert measured is not None
        version = measured.judge_version + 1
        tx.add_measurement(filling.measurement(run.id, event.bpb, judge_version=version, findings=findings))
    elif event.what == "verdict" and event.flag and idea.id > 3:
        tx.add_verdict(Verdict(idea.id, 1, "invalid", "no"))
    elif event.what == "rebase" and other.id < idea.id:  # parents stay older: no circles
        tx.update_proposal(idea.id, baseline_id=other.id)
    elif event.what == "walls":
        tx.update_run(run.id, walls=("unsafe",) if event.flag else ("env",))
    elif event.what == "lose":
        tx.update_run(run.id, state="lost" if event.flag else "done")


def check(store: Store) -> None:
    with store.read() as reads:
        ask = reads.connection.exec_driver_sql
        proposals = {row["id"]: dict(row) for row in ask("SELECT * FROM proposals").mappings()}
        measured = [
            dict(row)
            for row in ask(
                "SELECT m.*, r.state, r.outcome, r.walls, "
                "(SELECT COUNT(*) FROM findings f WHERE f.measurement_id = m.id) AS bad "
                "FROM measurements m JOIN runs r ON r.id = m.run_id ORDER BY m.id"
            ).mappings()
        ]
        newest = {row["run_id"]: row["id"] for row in measured}
        condemned = set(ask("SELECT proposal_id FROM verdicts WHERE decision = 'invalid'").scalars())
        condemned |= {row["proposal_id"] for row in measured if row["bad"] and newest[row["run_id"]] == row["id"]}
        tainted: set[int] = set()
        for key, row in sorted(proposals.items()):
            if key in condemned or {row["baseline_id"], row["source_id"]} & tainted:
                tainted.add(key)
        assert {key for key, row in proposals.items() if row["tainted"]} == tainted
        assert {key for key, row in proposals.items() if row["invalid"]} == condemned
        scored = [
            row for row in measured
            if newest[row["run_id"]] == row["id"] and row["state"] == "done" and row["outcome"] == "ok"
        ]  # fmt: skip
        groups: dict[tuple[int, int], list[dict[str, object]]] = defaultdict(list)
        steps: list[int] = []
        lowest: dict[int, float] = defaultdict(lambda: float("inf"))
        for row in scored:
            groups[row["proposal_id"], row["board_id"]].append(row)
            stands = row["total_bytes"] <= 175_000 and "unsafe" not in row["walls"]
            if stands and row["proposal_id"] not in tainted and row["bpb"] < lowest[row["board_id"]]:
                lowest[row["board_id"]] = row["bpb"]
                steps.append(row["id"])
        assert list(ask("SELECT measurement_id FROM frontier_runs ORDER BY 1").scalars()) == steps
        kept = {(row["proposal_id"], row["board_id"]): row for row in ask("SELECT * FROM scores").mappings()}
        assert set(kept) == set(groups)
        for key, group in groups.items():
            found = kept[key]
            assert found["mean_bpb"] == pytest.approx(sum(row["bpb"] for row in group) / len(group))  # type: ignore[misc]
            assert (found["all_runs"], found["best_bpb"]) == (len(group), min(row["bpb"] for row in group))  # type: ignore[type-var]
            assert found["barred"] == _barred(key[0], group, condemned, tainted)


def _barred(proposal: int, group: list[dict[str, object]], condemned: set[int], tainted: set[int]) -> str:
    if proposal in condemned:
        return "invalid"
    if proposal in tainted:
        return "ancestor"
    if any("unsafe" in str(row["walls"]) for row in group):
        return "unsafe"
    return "oversize" if max(row["total_bytes"] for row in group) > 175_000 else ""  # type: ignore[type-var, operator]
