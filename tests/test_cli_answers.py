"""What a person answers to ideas on the command line, and what is written and deleted there."""

import json
import re
import sys
from pathlib import Path

import pytest
import typer

from agent import budget
from agent.job.folder import JobPaths
from agent.records import Amount
from agent.store import open_store, talks
from agent.store.lease import hold
from tests.commanding import Agent, states
from tests.e2e.world import TRACK
from tests.filling import add_base, add_campaign, add_idea

# ---------------------------------------------------------------- review


def test_how_an_idea_came_to_be(agent: Agent, root: Path) -> None:
    said = agent("show", "p12", "--transcript")
    assert said.code == 2 and "p12 came of no conversation: its planner is knobs" in said.err
    store = open_store(root / "runs.db", create=False)
    with store.write() as tx:
        entry = budget.reserve(tx, 1, Amount(llm_calls=1), "planner")
        talk = talks.add_conversation(tx, 1, "propose", "anthropic:some", "exploit", 12)
        asked = {"messages": [{"prompt": ["What next?"]}], "system": ["You are."], "tools": ["propose"]}
        call = talks.add_call(tx, 1, talk, entry, "anthropic:some", {"question": asked})
        answer = {"text": "Hm.\x1b[2J", "calls": [{"id": "a", "name": "propose", "arguments": {"title": "wider"}}]}
        tokens = {"input_tokens": 900, "cache_read_tokens": 100, "output_tokens": 7}
        whole = {"question": asked, "answer": answer, "stop": "tools"}
        talks.end_call(tx, call, "done", tokens=tokens, usd=0.0123, transcript=whole)
        talks.end_conversation(tx, talk, "proposed: wider")
    store.close()
    words = agent("show", "p12", "--transcript").out
    for line in (
        "=== propose with anthropic:some, exploit",
        "    What next?",
        "    Hm.\n",
        "--- calls propose",
        "title: wider",
    ):
        assert line in words
    assert "1,000 tokens asked (100 from the cache), 7 answered, 0.0123 $" in words and "\x1b" not in words
    (found,) = json.loads(agent("show", "p12", "--transcript", "--json").out)
    assert found["outcome"] == "proposed: wider" and found["calls"][0]["usd"] == 0.0123


def test_what_did_not_apply_is_shown_as_it_was_written(agent: Agent, root: Path) -> None:
    assert agent("show", "p12").out.endswith("agent diff p12 shows what it changes\n")
    assert "agent diff" not in agent("show", "p1").out
    store = open_store(root / "runs.db", create=False)
    with store.write() as tx:
        edits = tx.proposal(12).edits
        tx.update_proposal(12, diff="")
    store.close()
    assert edits
    said = agent("diff", "p12")
    assert said.code == 0 and said.out.startswith("p12 is ") and said.out.rstrip("\n").endswith(edits.rstrip("\n"))
    assert json.loads(agent("diff", "p12", "--json").out)["edits"] == edits


def test_reviewing_one_after_the_other(agent: Agent, root: Path) -> None:
    said = agent("review", typed="x\nr\ntoo risky for me\na\n")
    assert said.code == 0 and "'x': type the first letter" in said.out
    for words in (
        "hypothesis  tie the heads",
        "-0.0200 BPB, confidence 50%",
        "touches scoring code",
        "+    ",
    ):
        assert words in said.out
    assert re.search(r"cost +2 min 3\d s of slot time expected", said.out)
    assert states(root, 33, 34) == ["declined", "approved"]
    store = open_store(root / "runs.db", create=False)
    with store.read() as reads:
        assert [(note.action, note.comment) for note in reads.reviews(33)] == [("reject", "too risky for me")]
        assert reads.proposal(34).reviewed_by
    assert "nothing waits for review" in agent("review").out


def test_what_a_new_head_has_changed_meanwhile_is_shown_again(
    agent: Agent, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the card and the answer: what was not seen is not approved."""
    prompt, moved = typer.prompt, []

    def slow(*args: object, **more: object) -> object:
        if not moved:
            moved.append(1)
            store = open_store(root / "runs.db", create=False)
            with store.write() as tx:
                tx.update_proposal(33, diff="+another = 1\n", patch_id="f" * 40)
            store.close()
        return prompt(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(typer, "prompt", slow)
    said = agent("review", "p33", typed="a\nl\n")
    assert "its diff is another: look again" in said.out and said.out.count("(1 of 1)") == 2, said
    assert "another = 1" in said.out.split("look again")[1] and states(root, 33) == ["awaiting_review"]
    assert agent("review", "p33", typed="a\n").code == 0 and states(root, 33) == ["approved"]


def test_reviewing_in_bulk_and_leaving_for_later(agent: Agent, root: Path) -> None:
    assert agent("review", typed="l\nq\n").code == 0
    assert agent("review", typed="").code == 0  # the input ended
    assert states(root, 33, 34) == ["awaiting_review"] * 2
    assert agent("review", "p34", "--reject-all", "--comment", "no").out == "p34 declined\n"
    said = agent("review", "--approve-all", "--json")
    assert json.loads(said.out) == [{"proposal": "p33", "state": "approved"}]
    assert states(root, 33, 34) == ["approved", "declined"]


def test_stopping_from_the_review_asks_the_loop_to_end(agent: Agent, root: Path) -> None:
    store = open_store(root / "runs.db", create=False)
    assert "p33 waits on; nobody runs tiny-1, so there is nothing to stop\n" in agent("review", typed="s\n").out
    with store.read() as reads:
        assert reads.request(1) == "" and not reads.reviews(33)
    with hold(store, "campaign tiny-1"):
        assert "p33 waits on; tiny-1 finishes what runs and ends\n" in agent("review", typed="s\n").out
    with store.read() as reads:
        assert reads.request(1) == "drain" and reads.proposal(33).state == "awaiting_review"


def test_ideas_are_of_the_campaign_that_runs_or_of_the_one_that_they_are_named_of(agent: Agent, root: Path) -> None:
    store = open_store(root / "runs.db", create=False)
    with store.write() as tx:
        later = add_idea(tx, add_base(tx, add_campaign(tx, "later", toml=TRACK)))
        tx.move(later.id, "awaiting_review")
    assert "nothing waits" not in (latest := agent("review", "--list").out) and "p33" not in latest
    with hold(store, "campaign tiny-1"):
        assert "p33" in agent("review", "--list").out
    assert "p33" in agent("review", "p33", "--list").out
    said = agent("review", "p33", f"p{later.id}", "--approve-all")
    assert said.code == 2 and f"p{later.id} is of another campaign than tiny-1" in said.err
    assert agent("review", "p33", "--campaign", "later", "--list").code == 2
    assert agent("review", "p33", "--reject-all").out == "p33 declined\n"


def test_a_diff_that_is_too_long_for_its_card_says_so(agent: Agent, root: Path) -> None:
    store = open_store(root / "runs.db", create=False)
    with store.write() as tx:
        tx.update_proposal(33, diff="+\x1b[2Jpass\n" * 30_000)
    said = agent("review", "p33", typed="l\n")
    assert "80,000 characters more: agent diff p33\n" in said.out
    assert len(agent("diff", "p33").out) == 180_000 + 1


def test_editing_an_idea(agent: Agent, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tmp_path / "my editor.py"
    editor.write_text(
        "import sys\np = sys.argv[1]\nt = open(p).read()\nopen(p, 'w').write(t.replace('0.033', '0.05'))\n"
    )
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "false")
    said = agent("review", "p33", typed="e\nq\n")
    assert "the editor failed" in said.out and states(root, 33) == ["awaiting_review"]
    monkeypatch.setenv("EDITOR", "code '--wait")
    said = agent("review", "p33", typed="e\nq\n")
    assert "EDITOR (or VISUAL) is no command" in said.out and said.out.count("later / quit") == 2, said
    monkeypatch.setenv("EDITOR", "true")  # what was left as it is can be answered otherwise
    said = agent("review", "p33", typed="e\nq\n")
    assert "says the same; approve it instead" in said.out and said.out.count("later / quit") == 2, said
    broken = tmp_path / "broken.py"
    broken.write_text("import sys\nopen(sys.argv[1], 'a').write('@@ -9000 +9000 @@\\n-never there\\n+mine\\n')\n")
    monkeypatch.setenv("EDITOR", f"{sys.executable} '{broken}'")
    said = agent("review", "p33", typed="e\nq\n")
    kept = root / ".caddie/tiny-1/edited-p33.diff"
    assert f"What you wrote is in {kept}" in said.out and "+mine" in kept.read_text(), said
    monkeypatch.setenv("EDITOR", "true")
    said = agent("review", "p33", typed="e\nq\n")  # another day, with what was written then
    assert f"What you wrote is in {kept}" in said.out and "+mine" in kept.read_text(), said
    kept.unlink()
    monkeypatch.setenv("EDITOR", f"{sys.executable} '{editor}'")
    said = agent("review", "p33", typed="e\n")
    assert not kept.exists()
    assert "p38 takes the place of p33" in said.out, said
    assert states(root, 33, 38) == ["declined", "drafted"]
    store = open_store(root / "runs.db", create=False)
    with store.read() as reads:
        assert '"matrix_lr": 0.05' in reads.proposal(38).edits


# ---------------------------------------------------------------- files


def test_plots_and_exports_land_where_they_are_said_to(agent: Agent, root: Path, tmp_path: Path) -> None:
    said = agent("plot")
    for name in ("frontier", "size", "spend", "lineage"):
        assert (root / ".caddie/tiny-1/plots" / f"{name}.png").stat().st_size > 10_000
        assert str(root / ".caddie/tiny-1/plots" / f"{name}.png") in said.out
    assert agent("export", "--format", "csv", "--out", str(tmp_path)).out == f"{tmp_path / 'runs.csv'}\n"
    assert (tmp_path / "runs.csv").read_text() == agent("export", "--format", "csv").out
    assert agent("export").out.startswith("# Experiments of tiny-1\n")
    lines = agent("export", "--format", "jsonl").out.splitlines()
    assert json.loads(agent("export", "--json").out) == [json.loads(line) for line in lines]
    assert agent("export", "--json", "--format", "csv").code == 2


def test_pruning_by_no_number_deletes_nothing(agent: Agent, root: Path) -> None:
    said = agent("prune", "--keep-gb", "nan")
    assert said.code == 2 and "Invalid value for '--keep-gb'" in said.err


def test_pruning_takes_the_oldest_that_nobody_needs(agent: Agent, root: Path, tmp_path: Path) -> None:
    store = open_store(root / "runs.db", create=False)
    with store.read() as reads:
        runs = {run.id: reads.proposal(run.proposal_id).state for run in reads.runs(1)}
        frontier = {int(row["run_id"]) for row in reads.view("frontier", 1)}
        frontier_of = {reads.run(one).proposal_id for one in frontier}
        spare = [one for one in runs if reads.run(one).proposal_id not in frontier_of]
    (tmp_path / "precious").write_text("not ours")
    for run_id in runs:
        paths = JobPaths(root / ".caddie/tiny-1/jobs" / f"r{run_id}")
        for folder in (paths.out, paths.code):
            folder.mkdir(parents=True)
        (paths.out / "final_model.bin").write_bytes(b"x" * 100_000)
        (paths.out / "way out").symlink_to(tmp_path)
        paths.train_log.write_text("step 1\n")
    with store.read() as reads:
        gains = {row.proposal_id: row.gain or 0.0 for row in reads.trials(1)}
        looked = ("worse", "inconclusive", "unfunded", "oversize")
        missed = {one for one in runs if runs[one] in looked and gains[reads.run(one).proposal_id] > 0}
        over = {one for one in runs if reads.run(one).state in ("lost", "cancelled")}
    lost = [
        one
        for one in runs
        if one in over or (one in spare and runs[one] in (*looked, "crashed", "invalid") and one not in missed)
    ]
    assert {runs[one] for one in missed} >= {"worse", "inconclusive"} and {runs[one] for one in lost} >= {
        "inconclusive"
    }
    dry = json.loads(agent("prune", "--dry-run", "--keep-gb", "0", "--json").out)
    assert [folder["run"] for folder in dry["delete"]] == [f"r{one}" for one in lost]
    assert all((root / ".caddie/tiny-1/jobs" / f"r{one}" / "out").is_dir() for one in runs)
    some = agent("prune", "--keep-gb", "0.0005")
    assert "freed" in some.out
    left = [one for one in lost if (root / ".caddie/tiny-1/jobs" / f"r{one}" / "out").is_dir()]
    assert 0 < len(left) < len(lost) and left == lost[-len(left) :]
    agent("prune", "--keep-gb", "0")
    kept = [one for one in runs if (root / ".caddie/tiny-1/jobs" / f"r{one}" / "out").is_dir()]
    assert kept == [one for one in runs if one not in lost]
    assert all((root / ".caddie/tiny-1/jobs" / f"r{one}" / "train.log").is_file() for one in runs)
    assert (tmp_path / "precious").read_text() == "not ours"
