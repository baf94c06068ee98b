"""The views: best valid, lineage, leaderboard and frontier say what is true, in any order of events."""

import itertools

import pytest

from agent.records import Finding, Proposal, Verdict
from agent.store import Store
from tests import filling
from tests.filling import add_base, add_campaign, add_idea, add_measured, promote, view

CHEAT = Finding("sums", "invalid", "probabilities add up to 1.3")


def best(store: Store) -> list[object]:
    return [row["title"] for row in view(store, "best_valid")]


def test_lineage_with_deltas_and_the_best_valid(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        for seed, bpb in enumerate((2.30, 2.32)):
            add_measured(tx, base, seed, bpb, purpose="report")
        first = promote(tx, add_idea(tx, base, "first"))
        add_measured(tx, first, 10, 2.10)  # the run that decided was lucky and is not the figure
        add_measured(tx, first, 11, 2.20, purpose="report", total_bytes=151_000)
        second = promote(tx, add_idea(tx, first, "second"))
        add_measured(tx, second, 12, 2.15, purpose="report")
        add_idea(tx, second, "no head")
        assert tx.lineage(second.id) == [tx.proposal(p.id) for p in (base, first, second)]
    steps = view(store, "lineage")
    assert [step["title"] for step in steps] == ["base", "first", "second"]
    assert [step["bpb"] for step in steps] == pytest.approx([2.31, 2.20, 2.15])
    assert steps[0]["delta_bpb"] is None and [s["delta_bytes"] for s in steps[1:]] == [2_000, -2_000]
    assert [step["delta_bpb"] for step in steps[1:]] == pytest.approx([-0.11, -0.05])
    assert best(store) == ["second"]
    with store.write() as tx:
        tx.move(second.id, "reverted", "fresh seeds contradict")
        tx.set_head(base.campaign_id, first.id)
    assert best(store) == ["first"]
    assert [step["title"] for step in view(store, "lineage")] == ["base", "first"]


@pytest.mark.parametrize("through", ["baseline", "source"])
def test_a_rule_violation_spreads_to_all_that_is_built_on_it(store: Store, base: Proposal, through: str) -> None:
    with store.write() as tx:
        add_measured(tx, base, 1, 2.30, purpose="report")
        bad = promote(tx, add_idea(tx, base, "bad"))
        run = add_measured(tx, bad, 2, 2.2, purpose="report")
        parents = (bad, None) if through == "baseline" else (base, bad)
        child = promote(tx, add_idea(tx, parents[0], "child", source=parents[1]))
        add_measured(tx, child, 3, 2.1, purpose="report")
        grandchild = promote(tx, add_idea(tx, child, "grandchild"))
        add_measured(tx, grandchild, 4, 2.0, purpose="report")
    assert best(store) == ["grandchild"]
    with store.write() as tx:  # a newer judge sees what the older did not
        tx.add_measurement(filling.measurement(run.id, 2.2, judge_version=2, findings=(CHEAT,)))
    assert best(store) == ["base"]
    assert [row["title"] for row in view(store, "leaderboard")] == ["base"]
    assert [row["title"] for row in view(store, "frontier")] == ["base"]
    assert [p["title"] for p in view(store, "proposals") if p["tainted"]] == ["bad", "child", "grandchild"]
    with store.write() as tx:  # born of it later
        late = add_idea(tx, grandchild, "late")
        add_measured(tx, late, 5, 1.9)
        tx.update_proposal(late.id, baseline_id=base.id, source_id=base.id)  # replayed on honest ground
    assert [row["title"] for row in view(store, "leaderboard")] == ["late", "base"]
    with store.write() as tx:  # the judge was wrong, a third version says
        tx.add_measurement(filling.measurement(run.id, 2.2, judge_version=3))
    assert [p["title"] for p in view(store, "proposals") if p["tainted"]] == []
    assert "grandchild" in best(store)
    assert [row["title"] for row in view(store, "frontier")] == ["base", "child", "grandchild", "late", "bad"]


@pytest.mark.parametrize(
    ("how", "barred"),
    [
        ({"findings": (CHEAT,)}, "invalid"),
        ({"findings": (Finding("oversize", "invalid", "too big"),), "total_bytes": 175_001}, "oversize"),
        ({"total_bytes": 175_001}, "oversize"),
        ({"walls": ("env", "unsafe")}, "unsafe"),
        ({"trust": "reported"}, "trust"),
        ({"trust": "blind", "total_bytes": 175_000}, ""),
    ],
)
def test_what_bars_a_proposal_from_leading(store: Store, base: Proposal, how: dict[str, object], barred: str) -> None:
    with store.write() as tx:
        add_measured(tx, base, 1, 2.30, purpose="report", trust="blind")
        idea = promote(tx, add_idea(tx, base, "idea"))
        add_measured(tx, idea, 2, 2.0, purpose="report", **how)  # type: ignore[arg-type]
        child = promote(tx, add_idea(tx, idea, "child"))
        add_measured(tx, child, 3, 1.9, purpose="report", trust="blind")
    scores = {row["proposal_id"]: row["barred"] for row in view(store, "scores")}
    assert scores[idea.id] == barred
    assert scores[child.id] == ("ancestor" if barred == "invalid" else "")  # only a violation spreads
    assert best(store) == (["base"] if barred == "invalid" else ["child"])
    on_frontier = [row["title"] for row in view(store, "frontier")]
    assert ("idea" in on_frontier) == (barred == "")


@pytest.mark.parametrize(
    "rule",
    ["below_floor", "holdout_gap", "not_normalised", "mean_mismatch", "replay_differs", "network", "code_changed"],
)
def test_what_breaks_a_rule_of_the_contest_spreads_and_a_crash_does_not(
    store: Store, base: Proposal, rule: str
) -> None:
    with store.write() as tx:
        add_measured(tx, base, 1, 2.30, purpose="report")
        ideas = [promote(tx, add_idea(tx, base, name)) for name in ("cheat", "crash", "flagged")]
        add_measured(tx, ideas[0], 2, 2.0, purpose="report", findings=(Finding(rule, "invalid", "seen"),))
        add_measured(tx, ideas[1], 3, None, purpose="report", findings=(Finding("no_score", "note", "it crashed"),))
        add_measured(tx, ideas[2], 4, 2.2, purpose="report", findings=(Finding("many_seeds", "flag", "in a loop"),))
        children = [promote(tx, add_idea(tx, idea, f"of {idea.title}")) for idea in ideas]
        for number, child in enumerate(children):
            add_measured(tx, child, 10 + number, 1.9 + number / 100, purpose="report")
    barred = {row["proposal_id"]: row["barred"] for row in view(store, "scores")}
    assert [barred.get(one.id) for one in ideas] == ["invalid", None, ""]
    assert [barred[one.id] for one in children] == ["ancestor", "", ""]
    assert best(store) == ["of crash"]


def test_verdicts_and_states_can_say_invalid_too(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        ideas = [add_idea(tx, base, f"idea {n}") for n in range(2)]
        for idea in ideas:
            add_measured(tx, idea, idea.id, 2.0)
        tx.add_verdict(Verdict(ideas[0].id, base.id, "invalid", "over the compute budget twice"))
        for state in ("approved", "queued", "running", "measured", "invalid"):
            tx.move(ideas[1].id, state)  # type: ignore[arg-type]
    assert view(store, "leaderboard") == [] and view(store, "frontier") == []


def test_the_leaderboard_never_mixes_classes_of_scores(store: Store, base: Proposal) -> None:
    hows: list[dict[str, object]] = [
        {},
        {"rung": "smoke"},
        {"hardware_class": "h100"},
        {"judge_version": 2},
        {"trust": "blind"},
    ]
    with store.write() as tx:
        for number, how in enumerate(hows):
            for better in (0.0, 0.1):
                idea = add_idea(tx, base, f"idea {number}")
                add_measured(tx, idea, number, 2.5 - number / 10 - better, **how)  # type: ignore[arg-type]
        other = add_base(tx, add_campaign(tx, "changed track", sha="t2"))
        add_measured(tx, other, 1, 1.0)
    board = view(store, "leaderboard")
    columns = ("rung", "hardware_class", "judge_version", "trust")
    groups = [
        (key, [row["bpb"] for row in rows]) for key, rows in itertools.groupby(board, lambda row: row["board_id"])
    ]
    assert len(groups) == 6 == len(view(store, "boards"))
    assert all(scores == sorted(scores) for _, scores in groups)  # type: ignore[type-var]
    assert len({tuple(row[column] for column in columns) for row in board}) == 5
    assert [len(scores) for _, scores in groups] == [2, 2, 2, 2, 2, 1]


def test_runs_of_an_earlier_script_do_not_count_after_a_replay(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        idea = add_idea(tx, base)
        add_measured(tx, idea, 1, 2.0, script_sha="on the old head")
        add_measured(tx, idea, 2, 2.2, script_sha="on the new head", purpose="replay")
        add_measured(tx, idea, 3, 2.3, script_sha="on the new head", purpose="replay")
    score = view(store, "scores")[0]
    assert (score["bpb"], score["all_runs"], score["best_bpb"]) == (pytest.approx(2.25), 2, 2.2)


def test_a_run_that_is_measured_before_it_is_done_counts_when_it_is(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        run = tx.add_run(
            base.campaign_id, base.id, None, rung="full", purpose="report", seed=1, attempt=1,
            hardware_class="cpu-x", script_sha="s",
        )  # fmt: skip
        tx.add_measurement(filling.measurement(run.id, 2.3))
        assert tx.scored(base.campaign_id) == []
    assert best(store) == []
    with store.write() as tx:
        tx.update_run(run.id, state="done", outcome="ok")
    assert best(store) == ["base"]
    with store.write() as tx, pytest.raises(ValueError, match="outcome"):
        tx.update_run(run.id, outcome="great")
