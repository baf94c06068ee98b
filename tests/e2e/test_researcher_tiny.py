"""A language model on the tiny track: its script and its dry runs are real, what runs would score was recorded."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.llm import Call
from agent.loop import Loop
from agent.planner.edits import make_edits
from agent.records import Proposal
from agent.runners.fake import FakeRunner, Imagined
from agent.steps import plan
from benchmarks.campaigns import setup
from tests.e2e import world
from tests.e2e.night import KEY, MODELS, USED
from tests.standin import results, standin, told
from tests.standin_wires import Reply
from trainer.pack import pack

pytestmark = pytest.mark.long

SCRIPT = Path("trainer/train_gpt.py").read_text("utf-8")
SHIPPED = Path("trainer/tracks/tiny.toml").read_text("utf-8").replace("trainer/train_gpt.py", "train.py")
# The shipped track, but for a script that is not packed: what a run would score is read from its knobs; and no dry run
# meets its wall clock, however busy the machine is.
TRACK = re.sub(r"(\[check\]\nwall_s = )\d+", r"\g<1>900", SHIPPED).replace("[script]", "[script]\npack = false", 1)
MEMORY = re.compile(r"memory: below [\d,]+ MB")
FENCE = re.compile(r"data-[0-9a-f]{10}")  # drawn from what is within, memory and all


def proposes(title: str, *changes: tuple[str, str], script: str = SCRIPT, tool: str = "propose", **fields: Any) -> Call:
    after = script
    for old, new in changes:
        assert after.count(old) >= 1, old
        after = after.replace(old, new, 1)
    edits = make_edits("train.py", script, after)
    told_of = {"title": title, "hypothesis": f"{title}: measured neighbours say so", "kind": "architecture"}
    return Call("call_1", tool, {"edits": edits} if tool == "check_edits" else {**told_of, "edits": edits, **fields})


def night() -> list[Reply]:
    """What a model said: it studies, tries its edits out, makes mistakes, and mends them."""
    lr = ('"matrix_lr": 0.02', '"matrix_lr": 0.03')
    vocab = ('"vocab_size": 1024', '"vocab_size": 1536')
    small = ('"weight_bits": 8', '"weight_bits": 6')
    norm = "    return F.rms_norm(x, (x.shape[-1],))"
    said: list[tuple[Call, ...]] = [
        (Call("a", "read_skill", {"name": "muon"}), Call("b", "query", {"sql": "SELECT state, title FROM proposals"})),
        (proposes("", lr, tool="check_edits"),),
        (proposes("matrix_lr 0.02 -> 0.03", lr, expected_gain=0.02, confidence=0.6, kind="optimiser"),),
        # It crashes in its dry run, and says where; then it does not compile; then it is right.
        (proposes("norms in one place", (norm, norm.replace("rms_norm", "rms_nrom"))),),
        (proposes("norms in one place", (norm, norm + " if (")),),
        (proposes("an epsilon in the norm", (norm, norm.replace("[-1],)", "[-1],), eps=1e-6")), expected_gain=0.001),),
        # Too big, so it buys the bytes back in the same idea.
        (proposes("more words", ('"vocab_size": 1024', '"vocab_size": 4096'), ('"model_dim": 64', '"model_dim": 96')),),
        (proposes("more words, fewer bits", vocab, small, expected_gain=0.03, kind="tokenizer"),),
    ]
    return [Reply(text="", calls=calls, usage=USED) for calls in said]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = world.make_workspace(tmp_path / "work", SCRIPT, TRACK)
    shutil.copytree("skills", root / "skills")
    (root / ".caddie").mkdir()
    (root / ".caddie" / "models.toml").write_text(MODELS.format(provider="anthropic"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    return root


def played(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Proposal], list[str], list[str]]:
    """One campaign: its proposals, the prompts of its calls, and what the tools answered last."""
    unpacked = len(pack(SCRIPT)) - len(SCRIPT)
    recorded = setup().world.runner("7", code_bytes=unpacked)

    def run(knobs: Mapping[str, Any], seed: int) -> Imagined:
        return recorded(knobs, seed)

    with standin(night(), key=KEY) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        setting = world.open_campaign(
            root,
            planner="anthropic:stand-in",
            llm_calls=len(night()),
            make_runner=lambda slots: FakeRunner(slots, 0.0, run, "TINY"),
        )
        ended = Loop(setting).run()
        assert "does not cover another call" in ended.reason
        with setting.store.read() as reads:
            proposals = reads.proposals(setting.campaign.id)
        setting.store.close()
        asked = [FENCE.sub("data-x", MEMORY.sub("memory: some", told(seen.body))) for seen in server.asked]
        answered = [result for seen in server.asked for result in results(seen.body)[-1:]]
    return proposals, asked, answered


def test_a_night_on_the_tiny_track_is_the_same_twice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a model looks up while runs end beside it depends on who is quicker: so the loop waits for each answer.
    monkeypatch.setattr(plan, "QUICK_S", 900.0)
    first, prompts, answers = played(root, monkeypatch)
    (root / "runs.db").unlink()
    shutil.rmtree(root / ".caddie" / "tiny-1")
    for ref in world.git(root, "for-each-ref", "--format=%(refname)", "refs/caddie", "refs/heads/caddie").split():
        world.git(root, "update-ref", "-d", ref)
    second, again, _ = played(root, monkeypatch)
    plain = [[replace(one, created="", updated="", commit="", diff="") for one in night] for night in (first, second)]
    assert plain[0] == plain[1]
    assert prompts == again
    print(answers)
    found = {one.title: one for one in first}
    assert list(found)[1:] == ["matrix_lr 0.02 -> 0.03", "an epsilon in the norm", "more words, fewer bits"]
    assert all(one.state not in ("edit_failed", "blocked", "crashed") for one in first)
    assert any("rms_nrom" in answer and "dry run" in answer for answer in answers)
    assert any("syntax" in answer or "not Python" in answer or "was never closed" in answer for answer in answers)
    assert any("too big" in answer for answer in answers)
    assert "muon" in prompts[1] and "# Muon" in prompts[1]
