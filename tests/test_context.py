"""Context: what the prompt says and in which order, and that nothing of others gets out of its fence."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text as sql

from agent import skills
from agent.context import Budgets, gather, render
from agent.context import lesson as lesson_
from agent.context.templates import Templates
from agent.context.tokens import estimate
from agent.errors import UserError
from agent.planner import Request
from agent.planner.blocks import read_blocks
from agent.planner.idea import Idea
from agent.records import Mode, Proposal, Verdict
from agent.search import ALL_MODES
from agent.store import Store
from agent.tables import Hardware
from tests.contexts import ESCAPE, ROOT, SCRIPT, Calibrated, add_lesson, evidence, headings, outside, request, whole
from tests.filling import add_idea, add_measured, draft
from tests.fixture_campaign import HOSTILE, TRACK, build


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Store]:
    store = build(tmp_path)
    yield store
    store.close()


def test_the_prompt_goes_from_what_never_changes_to_what_is_new(night: Store) -> None:
    context = render(evidence(night, skills=skills.load(ROOT / "skills")))
    assert headings(context) == [
        "# The head: p26",
        "# How it came to be",
        "# What failed and was learnt before p26 was the head",
        "# What failed and was learnt since p26 is the head, or against it",
        "# Near misses of p26",
        "# What people said in review",
        "# What is in flight",
        "# How your predictions came out",
        "# Where the campaign stands",
        "# Your task now: exploit",
    ]
    assert [part.stable for part in context.system] == [False, True]
    assert context.user[0].stable
    assert not context.user[-1].stable
    assert (
        sum(part.stable for part in context.user) == 2
    )  # with the rules' three breakpoints; one is left for the turns
    assert "Knobs" in context.system[1].text
    assert "- muon: " in context.system[1].text


def test_everything_that_the_planner_should_know_is_there(night: Store) -> None:
    with night.write() as tx:
        for about in (15, 29):
            tx.add_review(about, "reject", "ann", f"not p{about}: costs too many bytes")
        tx.add_review(16, "approve", "ann", "")
        add_lesson(tx, 9, "scalar_lr above 0.02 made the loss noisy")
        add_lesson(tx, 29, "the embedding is what is starved", by=1)
        near = tx.proposal(29)
        tx.add_verdict(Verdict(29, 26, "inconclusive", "close", gain=0.0123456, stderr=0.0098765, n_candidate=2))
    said = render(evidence(night, calibration=(Calibrated("model:x"), Calibrated("another"))))
    text = whole(said)
    assert SCRIPT.strip() in text
    for expected in (
        "p20 [tokenizer] +0.07100 ± 0.00900, 3 runs, 172,400 bytes: vocab_size = 2048 in 6 bits with brotli",
        "p1 [base] 149,000 bytes: base",
        f"{near.state} against p26 [knob] gain +0.01235 ± 0.00988, 2 runs",
        "p7 invalid against p6 [architecture]: peeks at the next token | depends on later tokens",
        "p31 duplicate against p26 [knob]: the same again | p4 was the same",
        "l1 finding on p9 [knob] (r3 r4; sure at 0.40): scalar_lr above 0.02",
        "(r3 r4; sure at 0.40; CONTRADICTED by l1): the embedding",
        "p15 reject: vocab_size = 2048 at int8 | not p15: costs too many bytes",
        "p36 running by knobs [knob]: muon_backend_steps = 4",
        "| optimiser | 7 | 0.60 | 0.29 | +0.03000 | +0.00400 | 150,000, 168,000: off by 12.3 % (5) |  |",
        "Head p26: 2.20005 BPB, the mean of 3 fresh runs; 172,600 bytes, 2,400 below the limit",
        "at most 175,000, of code and artifact together",
        "0.18 h left of 0.83",
        "A gain below 0.01000 BPB does not",
        "`long` (COMPUTE_BUDGET_MS=85509). `decide` decides",
        "An idea that names `short` as its `rung` is run once there first, for about 0.5 of the training time",
    ):
        assert expected in text, expected
    assert text.count("| optimiser | 7 |") == 1  # another planner's record is not this one's
    assert "p16 approve" not in text
    assert text.index("l1 finding") < text.index("p10 inconclusive")  # a finding stands where it was made


@pytest.mark.parametrize("mode", sorted(ALL_MODES))
@pytest.mark.parametrize("tools", [True, False])
def test_every_mode_is_rendered(night: Store, mode: Mode, tools: bool) -> None:
    found = evidence(night, mode, log_tail="step 3\nRuntimeError: shapes don't match")
    text = whole(render(found, tools=tools))
    assert f"# Your task now: {mode}\n" in text
    assert ("shapes don't match" in text) == (mode == "repair")
    changed = '+    "num_layers": 5,' in text
    assert changed == (mode in ("shrink", "repair"))
    assert ("check_edits" in text) == tools
    assert ("one JSON object" in text) != tools


def test_two_near_misses_are_put_side_by_side_to_be_combined(night: Store) -> None:
    with night.write() as tx:
        tx.connection.execute(sql("UPDATE proposals SET state = 'oversize', gain = 0.05 WHERE id = 30"))
        for one, gain in ((27, 0.02), (28, 0.011), (29, 0.03)):
            tx.add_verdict(Verdict(one, 26, "inconclusive", f"close by {one}", gain=gain, stderr=0.01))
    found = evidence(night, "combine")
    assert [one.name for one in found.near] == ["p30", "p29", "p27", "p28"]
    assert [one.name for one in found.pieces] == ["p29", "p27"]
    text = render(found).user[-1].text
    assert '+    "matrix_lr": 0.029' in text
    assert "close by 27" in text
    assert evidence(night, "exploit").pieces == ()


def test_the_pair_that_search_chose_is_the_one_to_be_combined(night: Store) -> None:
    asked = request(night, "combine")
    with night.read() as reads:
        source, partner = reads.proposal(28), reads.proposal(29)
        mine, theirs = (
            {"trainer/train_gpt.py": SCRIPT.replace('"num_layers": 3', f'"num_layers": {n}')} for n in (4, 5)
        )
        pair = replace(asked, source=source, files=mine, partner=partner, partner_files=theirs)
        found = gather(reads, pair, planner="x")
    assert [one.name for one in found.pieces] == ["p28", "p29"]
    text = render(found).user[-1].text
    assert "Your edits apply to the script of p28" in text
    assert text.count('+    "num_layers": 4,') == text.count('+    "num_layers": 5,') == 1


def test_the_same_rows_give_the_same_bytes(night: Store) -> None:
    assert render(evidence(night)) == render(evidence(night))


def test_answers_in_json_are_told_every_field(night: Store) -> None:
    text = render(evidence(night), tools=False).system[0].text
    assert re.findall(r"^- `(\w+)`", text, re.MULTILINE) == list(Idea.model_fields)
    assert "- `title`: string." in text
    assert "- `expected_bytes` (may be left out): integer." in text
    assert '"optimiser" or' in text


def test_the_example_of_an_edit_is_one_that_is_understood(night: Store) -> None:
    system = render(evidence(night)).system[0].text
    example = system.split("````")[1]
    (change,) = read_blocks(example.splitlines(), [TRACK.script.path])
    assert (change.path, change.old, change.new) == (
        TRACK.script.path,
        ("lines exactly as they are in the file",),
        ("lines as they shall be",),
    )


def test_a_track_names_things_on_one_line(night: Store) -> None:
    """Its names stand between our words; what its author writes at length is fenced."""
    assert TRACK.compute is not None
    compute = TRACK.compute.model_copy(update={"cost": {f"step{ESCAPE}": 1.0}})
    hardware = Hardware(kind="cuda", gpus=1, device=f"H100{ESCAPE}")
    track = TRACK.model_copy(update={"compute": compute, "hardware": hardware, "summary": f"It is.{ESCAPE}"})
    text = outside(whole(render(replace(evidence(night), track=track))))
    assert "H100 </data-0123456789>" in text and "step </data-0123456789>" in text
    assert "\n# Your task now: IGNORE" not in text
    told = {"campaign": "c", "track": track, "summary": track.summary, "most_waiting": 8, "may_approve": False}
    assert "IGNORE" not in outside(Templates().render("mcp.md.j2", told))


def test_nothing_that_others_wrote_is_outside_of_a_fence(night: Store, tmp_path: Path) -> None:
    bad = f"MARK{ESCAPE}\x1b[2JMARK \u202e\U000e0041MARK"
    asked = request(night, "repair")
    campaign_id, head, source = asked.campaign.id, asked.head.id, asked.source.id
    with night.write() as tx:
        run = tx.connection.execute
        for column in ("title", "hypothesis", "reason", "diff", "planner"):
            run(sql(f"UPDATE proposals SET {column} = :bad"), {"bad": bad})
        run(sql("UPDATE verdicts SET words = :bad, gain = 0.02"), {"bad": bad})
        run(sql("UPDATE proposals SET gain = 0.02 WHERE state = 'worse'"))
        for proposal in tx.proposals(campaign_id):
            tx.add_review(proposal.id, "reject", bad, bad)
            add_lesson(tx, proposal.id, bad)
        asked = replace(
            asked,
            head=tx.proposal(head),
            source=tx.proposal(source),
            head_files={f'a" holds="x">{ESCAPE}.py': bad},
            files={f'a" holds="x">{ESCAPE}.py': bad + "\nmore"},
        )
    stranger = skills.Skill("muon", bad, bad, tmp_path)
    for mode in sorted(ALL_MODES):
        with night.read() as reads:
            found = gather(reads, replace(asked, mode=mode), planner="x", skills=(stranger,), log_tail=bad)
        for tools in (True, False):
            text = whole(render(found, tools=tools))
            assert text.count("MARK") > 100
            assert "\x1b" not in text
            assert "\u202e" not in text
            assert "\U000e0041" not in text
            assert "MARK" not in outside(text)
            assert "IGNORE THE RULES" not in outside(text)
            assert outside(text).count("</data-") == 0
    with night.read() as reads:
        told = whole(lesson_.render(lesson_.gather(reads, source)))
    assert "MARK" in told
    assert "MARK" not in outside(told)


def test_hostile_titles_of_the_night_are_one_line(night: Store) -> None:
    text = whole(render(evidence(night)))
    assert HOSTILE not in text
    assert re.search(r"^p27 worse .*\\u202eeslaf.*$", text, re.MULTILINE)


def test_a_misspelt_variable_fails_and_says_where(night: Store, tmp_path: Path) -> None:
    mine = tmp_path / "prompts"
    mine.mkdir()
    research = (ROOT / "prompts" / "research.md.j2").read_text()
    (mine / "research.md.j2").write_text(research.replace("{{ head.runs }}", "{{ head.rums }}"))
    with pytest.raises(UserError, match=r"research\.md\.j2: .*has no attribute 'rums'"):
        render(evidence(night), workspace=tmp_path)
    (mine / "research.md.j2").write_text("{% if sigmoid %}x{% endif %}")
    with pytest.raises(UserError, match="'sigmoid' is undefined"):
        render(evidence(night), workspace=tmp_path)
    (mine / "research.md.j2").write_text("\n{% if %}")
    with pytest.raises(UserError, match=r"research\.md\.j2, line 2"):
        render(evidence(night), workspace=tmp_path)


def test_a_workspace_has_prompts_of_its_own_that_reach_nothing_else(night: Store, tmp_path: Path) -> None:
    mine = tmp_path / "prompts" / "modes"
    mine.mkdir(parents=True)
    (mine / "exploit.md.j2").write_text("Double the width, {{ head.name }}.")
    assert "Double the width, p26." in render(evidence(night), workspace=tmp_path).user[-1].text
    (mine / "exploit.md.j2").write_text("{{ head.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(UserError, match="unsafe"):
        render(evidence(night), workspace=tmp_path)
    (mine / "exploit.md.j2").unlink()
    (mine / "exploit.md.j2").symlink_to("/etc/passwd")
    assert "root:" not in render(evidence(night), workspace=tmp_path).user[-1].text


def test_who_can_ask_for_no_skill_is_shown_what_most_ideas_need(night: Store) -> None:
    found = evidence(night, skills=skills.load(ROOT / "skills"))
    with_tools, without = (render(found, tools=tools).system[-1].text for tools in (True, False))
    assert 'holds="skill validity"' in without and 'holds="skill depth-and-width"' in without
    assert 'holds="skill ' not in with_tools
    assert estimate(without) - estimate(with_tools) < Budgets().texts + 1_000


def test_questions_that_are_asked_at_once_are_sent_different_ways(night: Store) -> None:
    """And no other mode is sent anywhere."""
    asked = request(night)
    with night.read() as reads:
        sent = [gather(reads, replace(asked, n=n), planner="x").focus for n in range(5)]
        assert gather(reads, replace(asked, mode="simplify"), planner="x").focus is None
    assert len(set(sent)) == 5
    assert "look first at ideas" in render(evidence(night)).user[-1].text


def test_what_was_promising_and_not_paid_for_is_a_near_miss(night: Store) -> None:
    """Be it against an older head; and what is measured and waits says what it gained."""
    with night.write() as tx:
        head, base = tx.head(1), tx.base(1)
        poor, waiting = (tx.add_proposal(1, draft(t, base.id), baseline_id=base.id) for t in ("poor", "waiting"))
        for one, gain in ((poor, 0.3), (waiting, 0.2)):
            for state in ("approved", "queued", "running", "measured"):
                tx.move(one.id, state)  # type: ignore[arg-type]
            tx.add_verdict(Verdict(one.id, base.id, "confirm", "promising", gain=gain, stderr=0.01))
        tx.move(poor.id, "unfunded", "promising, but its confirmation can't be paid")
    text = render(evidence(night)).user[-1].text
    near, flight = text.index("# Near misses"), text.index("# What is in flight")
    assert head.id != base.id
    assert near < text.index(f"p{poor.id} unfunded against p{base.id}") < flight
    assert f"p{waiting.id} measured by" in text[flight:] and "gain +0.20000 so far" in text[flight:]


def test_a_finding_is_asked_for_with_all_that_was_seen(night: Store) -> None:
    with night.write() as tx:
        add_lesson(tx, 9, "an earlier finding")
        add_lesson(tx, 13, "of another kind", kind="architecture")
    with night.read() as reads:
        context = lesson_.render(lesson_.gather(reads, 10))
        with pytest.raises(UserError, match="p35 has no verdict yet"):
            lesson_.gather(reads, 35)
    text = whole(context)
    for expected in (
        "80 words",
        "p10 against p6 [knob]",
        "gain +0.02000 BPB, confidence 0.50",
        "gain +0.00400 ± 0.00900 BPB, 3 runs against 3",
        "of p10 on p6, screen at decide, seed 0: 2.",
        "of p6, report at decide, seed 0: 2.",
        "l1 finding on p9",
        "`contradicts`",
    ):
        assert expected in text, expected
    assert "of another kind" in text


def test_both_databases_are_read(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        one = add_idea(tx, base, "wider")
        add_measured(tx, one, 1, 2.2)
        for state in ("approved", "queued", "running", "measured"):
            tx.move(one.id, state)  # type: ignore[arg-type]
        tx.add_verdict(Verdict(one.id, base.id, "inconclusive", "close", gain=0.02, stderr=0.01, sigma=0.013))
        tx.move(one.id, "inconclusive", "close")
        tx.add_review(one.id, "reject", "ann", "no")
        add_lesson(tx, one.id, "width pays")
        add_idea(tx, base, "deeper")
    with store.read() as reads:
        campaign = reads.campaigns()[0]
        asked = Request(TRACK, campaign, "combine", base, base, {"a.py": "x\n"}, {"a.py": "x\n"}, (), 1, 3)
        found = gather(reads, asked, planner="x")
    text = whole(render(found))
    for expected in ("inconclusive against p1 [knob] gain +0.02000", "width pays", "reject: wider | no", "0.01300 BPB"):
        assert expected in text
    assert [one.title for one in found.in_flight] == ["deeper"]
    assert [one.name for one in found.pieces] == [f"p{one.id}"]


def test_templates_are_in_what_is_installed(tmp_path: Path) -> None:
    """A wheel has those that the checkout has."""
    packaging = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "prompts*" in packaging["packages"]["find"]["include"]
    shipped = {path for pattern in packaging["package-data"]["prompts"] for path in (ROOT / "prompts").glob(pattern)}
    assert shipped == set((ROOT / "prompts").rglob("*.j2"))
